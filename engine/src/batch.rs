//! The fixed header of a Kafka record batch (magic 2): read and stamped at fixed offsets.
//!
//! ```text
//! 0  base offset i64 | 8 batch length i32 | 12 leader epoch i32 | 16 magic i8 | 17 crc u32
//! 21 attributes i16 | 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64
//! 43 producer id i64 | 51 producer epoch i16 | 53 base sequence i32 | 57 record count i32 | 61 records
//! ```
//! The CRC (CRC-32C) covers everything from `attributes` to the end, so base offset and leader
//! epoch can be stamped without recomputing it. Source: Kafka's message format, KIP-98.
//!
//! Invariant: bytes from outside never panic here; what does not parse is an error.

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 61;

/// The fixed header of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "skeleton")]
pub struct Header {
    pub base_offset: i64,
    pub batch_length: i32,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}
