//! The fixed header of a Kafka record batch (magic 2): read, checked and stamped at fixed offsets.
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

use crate::Offset;

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 61;

/// Bytes before those that `batch length` counts.
pub const LENGTH_OVERHEAD: usize = 12;

/// The only batch format that is stored.
pub const MAGIC: i8 = 2;

const MAGIC_AT: usize = 16;
const CRC_START: usize = 21;
const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Why bytes are no record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Fewer bytes than a header has.
    #[error("{0} bytes are too few for a batch header")]
    Short(usize),
    /// A message format that is not stored.
    #[error("magic {0} is not 2")]
    Magic(i8),
    /// The length in the header is not the length of the bytes.
    #[error("batch states {stated} bytes and has {actual}")]
    Length {
        /// What the header says, with the bytes before the length field.
        stated: i64,
        /// What is there.
        actual: usize,
    },
    /// The record count contradicts the last offset delta.
    #[error("batch states {count} records and last offset delta {last_offset_delta}")]
    RecordCount {
        /// What the header says.
        count: i32,
        /// What the header says.
        last_offset_delta: i32,
    },
    /// The checksum does not match the bytes.
    #[error("batch checksum is {stated:08x}, its bytes have {actual:08x}")]
    Crc {
        /// What the header says.
        stated: u32,
        /// What the bytes have.
        actual: u32,
    },
}

/// The fields of a batch header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes of the whole batch.
    pub batch_bytes: usize,
    /// Epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// CRC-32C from `attributes` to the end.
    pub crc: u32,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record relative to the first.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, ms.
    pub base_timestamp: i64,
    /// Largest timestamp, ms.
    pub max_timestamp: i64,
    /// Producer id, -1 without idempotence.
    pub producer_id: i64,
    /// Producer epoch, -1 without idempotence.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 without idempotence.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

impl Header {
    /// Parses `bytes`, which must be exactly one batch. Does not check the CRC.
    ///
    /// # Errors
    /// [`Invalid`], when lengths or counts contradict each other or the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        let header = Self::parse_first(bytes)?;
        if header.batch_bytes != bytes.len() {
            let stated = i64::try_from(header.batch_bytes).unwrap_or(i64::MAX);
            return Err(Invalid::Length { stated, actual: bytes.len() });
        }
        Ok(header)
    }

    /// Parses the batch at the start of `bytes`, which may hold more after it. Does not check the CRC.
    ///
    /// # Errors
    /// [`Invalid`], when lengths or counts contradict each other or the bytes.
    pub fn parse_first(bytes: &[u8]) -> Result<Self, Invalid> {
        Self::parse_fields(bytes, bytes.len())
    }

    /// Parses the header of a stored batch of which only the beginning is at hand.
    ///
    /// # Errors
    /// [`Invalid`], when lengths or counts contradict each other.
    pub fn parse_prefix(bytes: &[u8]) -> Result<Self, Invalid> {
        Self::parse_fields(bytes, usize::MAX)
    }

    /// Parses a stored batch, which cleaning may have left with fewer records than it takes offsets. `bytes` must be
    /// exactly one batch. Does not check the CRC.
    ///
    /// # Errors
    /// [`Invalid`], when lengths or counts contradict each other or the bytes.
    pub fn parse_stored(bytes: &[u8]) -> Result<Self, Invalid> {
        let header = Self::fields(bytes, bytes.len())?;
        if header.batch_bytes != bytes.len() {
            let stated = i64::try_from(header.batch_bytes).unwrap_or(i64::MAX);
            return Err(Invalid::Length { stated, actual: bytes.len() });
        }
        let offsets = i64::from(header.last_offset_delta) + 1;
        if offsets >= 1 && (0..=offsets).contains(&i64::from(header.record_count)) {
            return Ok(header);
        }
        Err(header.miscounted())
    }

    fn parse_fields(bytes: &[u8], available: usize) -> Result<Self, Invalid> {
        let header = Self::fields(bytes, available)?;
        header.check_count()?;
        Ok(header)
    }

    fn fields(bytes: &[u8], available: usize) -> Result<Self, Invalid> {
        let fields = bytes.first_chunk::<HEADER_BYTES>().ok_or(Invalid::Short(bytes.len()))?;
        let [magic] = field::<1>(fields, MAGIC_AT);
        let magic = i8::from_be_bytes([magic]);
        if magic != MAGIC {
            return Err(Invalid::Magic(magic));
        }
        Ok(Self {
            base_offset: Offset(i64::from_be_bytes(field(fields, 0))),
            batch_bytes: batch_bytes(i32::from_be_bytes(field(fields, 8)), available)?,
            leader_epoch: i32::from_be_bytes(field(fields, 12)),
            crc: u32::from_be_bytes(field(fields, 17)),
            attributes: i16::from_be_bytes(field(fields, CRC_START)),
            last_offset_delta: i32::from_be_bytes(field(fields, 23)),
            base_timestamp: i64::from_be_bytes(field(fields, 27)),
            max_timestamp: i64::from_be_bytes(field(fields, 35)),
            producer_id: i64::from_be_bytes(field(fields, 43)),
            producer_epoch: i16::from_be_bytes(field(fields, 51)),
            base_sequence: i32::from_be_bytes(field(fields, 53)),
            record_count: i32::from_be_bytes(field(fields, 57)),
        })
    }

    /// Checks the CRC of `batch`, the bytes this header was parsed from.
    ///
    /// # Errors
    /// [`Invalid::Crc`], [`Invalid::Short`].
    pub fn verify_crc(&self, batch: &[u8]) -> Result<(), Invalid> {
        let covered = batch.get(CRC_START..self.batch_bytes).ok_or(Invalid::Short(batch.len()))?;
        let actual = crc32c::crc32c(covered);
        if actual == self.crc { Ok(()) } else { Err(Invalid::Crc { stated: self.crc, actual }) }
    }

    /// Offsets the batch takes, at least 1.
    #[must_use]
    pub fn offset_count(&self) -> u32 {
        u32::try_from(self.last_offset_delta).unwrap_or(0).saturating_add(1)
    }

    /// The codec's number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd, others unknown.
    #[must_use]
    pub fn codec(&self) -> u8 {
        u8::try_from(self.attributes & CODEC_MASK).unwrap_or(u8::MAX)
    }

    /// Whether the timestamp is the broker's and not the producer's.
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch is a control batch (a transaction marker).
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    fn check_count(&self) -> Result<(), Invalid> {
        let agrees = self.record_count >= 1
            && i64::from(self.record_count) == i64::from(self.last_offset_delta) + 1;
        if agrees {
            return Ok(());
        }
        Err(self.miscounted())
    }

    fn miscounted(&self) -> Invalid {
        let (count, last_offset_delta) = (self.record_count, self.last_offset_delta);
        Invalid::RecordCount { count, last_offset_delta }
    }
}

/// Parses one whole batch and checks its CRC.
///
/// # Errors
/// [`Invalid`].
pub fn verify(bytes: &[u8]) -> Result<Header, Invalid> {
    let header = Header::parse(bytes)?;
    header.verify_crc(bytes)?;
    Ok(header)
}

/// Writes base offset and leader epoch into a batch. The CRC does not cover them.
///
/// # Panics
/// When `batch` is shorter than a header: the caller has parsed it.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: i32) {
    assert!(batch.len() >= HEADER_BYTES, "only a parsed batch is stamped");
    batch[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// The attributes with another codec's number.
#[must_use]
pub fn with_codec(attributes: i16, codec: u8) -> i16 {
    (attributes & !CODEC_MASK) | (i16::from(codec) & CODEC_MASK)
}

/// The attributes with the timestamp type set: the broker's (true) or the producer's.
#[must_use]
pub fn with_log_append_time(attributes: i16, set: bool) -> i16 {
    if set { attributes | LOG_APPEND_TIME } else { attributes & !LOG_APPEND_TIME }
}

/// Writes attributes and largest timestamp into a batch, and the length and CRC that it then has; the CRC
/// is returned too.
///
/// # Panics
/// When `batch` is shorter than a header, or longer than a length can say: the caller has parsed it.
pub fn rewrite(batch: &mut [u8], attributes: i16, max_timestamp: i64) -> u32 {
    assert!(batch.len() >= HEADER_BYTES, "only a parsed batch is rewritten");
    let length = i32::try_from(batch.len() - LENGTH_OVERHEAD).expect("a batch has a 32-bit length");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[CRC_START..CRC_START + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
    crc
}

/// The batch with `header` and only the records in `body`, of which there are `count`, packed already: same offsets, same
/// producer, the largest timestamp that is left.
///
/// # Panics
/// As [`rewrite`].
pub(crate) fn with_records(batch: &[u8], count: i32, max_timestamp: i64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(&batch[..HEADER_BYTES]);
    out.extend_from_slice(body);
    out[57..61].copy_from_slice(&count.to_be_bytes());
    let attributes = i16::from_be_bytes([batch[CRC_START], batch[CRC_START + 1]]);
    // As Kafka writes it: nothing is packed, and nobody must unpack it.
    let attributes = if count == 0 { with_codec(attributes, 0) } else { attributes };
    rewrite(&mut out, attributes, max_timestamp);
    out
}

/// A valid batch of one record, `bytes` long, for measurements; what the record holds is nobody's business.
///
/// # Panics
/// When `bytes` is smaller than a header, or larger than a batch can be.
#[must_use]
pub fn sample(bytes: usize) -> Vec<u8> {
    assert!(bytes >= HEADER_BYTES, "a batch has a header");
    let mut batch: Vec<u8> = (0..bytes).map(|at| at.to_le_bytes()[0]).collect();
    batch[..HEADER_BYTES].fill(0);
    batch[MAGIC_AT] = MAGIC.to_le_bytes()[0];
    batch[57..61].copy_from_slice(&1_i32.to_be_bytes());
    rewrite(&mut batch, 0, 0);
    batch
}

fn field<const N: usize>(fields: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&fields[at..at + N]);
    out
}

/// The whole length of a batch that states `length`, of which `available` bytes are there.
fn batch_bytes(length: i32, available: usize) -> Result<usize, Invalid> {
    let stated = i64::from(length) + 12;
    match usize::try_from(stated) {
        Ok(bytes) if bytes >= HEADER_BYTES && bytes <= available => Ok(bytes),
        _ => Err(Invalid::Length { stated, actual: available }),
    }
}

#[cfg(test)]
#[path = "batch/tests.rs"]
pub(crate) mod tests;
