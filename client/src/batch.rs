//! Record batches, format 2 (KIP-98): the bytes inside Produce and Fetch.
//!
//! ```text
//!  0 base offset (8)      16 magic = 2 (1)     27 first timestamp (8)   51 producer epoch (2)
//!  8 length after it (4)  17 crc32c of 21.. (4) 35 max timestamp (8)     53 base sequence (4)
//! 12 leader epoch (4)     21 attributes (2)    43 producer id (8)       57 record count (4)
//!                         23 last offset delta (4)                      61 records, perhaps compressed
//! ```
//!
//! Invariant: decoding any bytes gives records or a reason, never a panic, and sets aside memory in
//! proportion to the bytes that are there, not to a count they claim.

mod decode;
mod encode;

pub(crate) use decode::{Batch, next_batch};
pub(crate) use encode::{Builder, Identity, Sealed, Stamped, encoded_bytes_max};

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes of base offset and length, which the length does not count.
const PREFIX_BYTES: usize = 12;
/// Where the bytes covered by the CRC begin.
const CRC_START: usize = 21;
/// The only batch format this client writes and reads.
const MAGIC: u8 = 2;
/// The attribute bit of batches that hold transaction markers instead of records.
const CONTROL: i16 = 1 << 5;
/// The attribute bit of batches whose records all carry the broker's append time.
const LOG_APPEND_TIME: i16 = 1 << 3;

#[cfg(test)]
mod tests;
