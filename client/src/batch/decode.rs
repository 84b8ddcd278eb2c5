//! Reads record batches. See the layout in the parent module.
//!
//! Errors are reasons in words; the consumer adds topic, partition and offset.

use bytes::{Buf, Bytes};

use super::{CONTROL, CRC_START, HEADER_BYTES, LOG_APPEND_TIME, MAGIC, PREFIX_BYTES};
use crate::{Compression, Header, Record};

type Reason = String;

/// The shortest possible record: its length and six fields of one byte.
const RECORD_BYTES_MIN: usize = 7;

/// A batch whose CRC was right.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The offset of its first record when it was written; compaction may have taken that record.
    pub(crate) base_offset: i64,
    /// The offset after its last record.
    pub(crate) end_offset: i64,
    attributes: i16,
    first_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    /// All of it, as it is in the log.
    pub(crate) bytes: Bytes,
}

/// Takes the next batch off `from`, or `None` if what is left is no whole batch: brokers cut the
/// last one off at the byte limit.
pub(crate) fn next_batch(from: &mut Bytes) -> Result<Option<Batch>, Reason> {
    let Some(prefix) = from.get(..PREFIX_BYTES) else { return Ok(None) };
    let mut length_field = &prefix[8..];
    let claimed = length_field.get_i32();
    let bytes = usize::try_from(claimed)
        .ok()
        .and_then(|after_prefix| after_prefix.checked_add(PREFIX_BYTES))
        .filter(|bytes| *bytes >= HEADER_BYTES)
        .ok_or_else(|| format!("a batch claims a length of {claimed}"))?;
    if from.len() < bytes {
        return Ok(None);
    }
    Batch::parse(from.split_to(bytes)).map(Some)
}

impl Batch {
    /// Reads the header of `bytes`, which are one batch by its own length, and checks the CRC.
    fn parse(bytes: Bytes) -> Result<Self, Reason> {
        let magic = bytes[16];
        if magic != MAGIC {
            return Err(format!("message format {magic} is not supported, only {MAGIC} is"));
        }
        let mut header = &bytes[..HEADER_BYTES];
        let base_offset = header.get_i64();
        header.advance(4 + 4 + 1);
        let crc = header.get_u32();
        let actual = crc32c::crc32c(&bytes[CRC_START..]);
        if crc != actual {
            return Err(format!("the checksum is {actual:08x}, the batch says {crc:08x}"));
        }
        let attributes = header.get_i16();
        let last_delta = header.get_i32();
        let first_timestamp = header.get_i64();
        let max_timestamp = header.get_i64();
        header.advance(8 + 2 + 4);
        let count = header.get_i32();
        let end_offset = base_offset
            .checked_add(i64::from(last_delta))
            .and_then(|last| last.checked_add(1))
            .filter(|end| base_offset >= 0 && last_delta >= 0 && *end > base_offset)
            .ok_or_else(|| format!("the batch at {base_offset} ends {last_delta} later"))?;
        Ok(Self {
            base_offset,
            end_offset,
            attributes,
            first_timestamp,
            max_timestamp,
            count,
            bytes,
        })
    }

    /// Its records with their offsets; none if it holds transaction markers.
    pub(crate) fn records(&self) -> Result<Vec<(i64, Record)>, Reason> {
        if self.is_control() {
            return Ok(Vec::new());
        }
        let codec = Compression::from_attributes(self.attributes)
            .ok_or_else(|| format!("unknown codec in attributes {:#x}", self.attributes))?;
        let mut plain = codec.decompress(self.bytes.slice(HEADER_BYTES..))?;
        let count = usize::try_from(self.count)
            .ok()
            .filter(|count| *count <= plain.len() / RECORD_BYTES_MIN)
            .ok_or_else(|| format!("{} records in {} bytes", self.count, plain.len()))?;
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            records.push(self.record(&mut plain)?);
        }
        if !plain.is_empty() {
            return Err(format!("{} bytes are left after {count} records", plain.len()));
        }
        Ok(records)
    }

    /// Whether it holds transaction markers instead of records.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// How its records are compressed, if that is known.
    pub(crate) fn compression(&self) -> Option<Compression> {
        Compression::from_attributes(self.attributes)
    }

    /// How many records its header tells of.
    pub(crate) fn count(&self) -> i32 {
        self.count
    }

    fn record(&self, from: &mut Bytes) -> Result<(i64, Record), Reason> {
        let mut body = field(from)?.ok_or("a record of negative length")?;
        if body.is_empty() {
            return Err("an empty record".into());
        }
        body.advance(1);
        let timestamp_delta = varint(&mut body)?;
        let offset_delta = varint(&mut body)?;
        let offset = self.base_offset.checked_add(offset_delta);
        let offset = offset
            .filter(|offset| (self.base_offset..self.end_offset).contains(offset))
            .ok_or_else(|| {
            format!("a record {offset_delta} after offset {}", self.base_offset)
        })?;
        let key = field(&mut body)?;
        let value = field(&mut body)?;
        let headers = headers(&mut body)?;
        if !body.is_empty() {
            return Err(format!("{} bytes are left in the record at {offset}", body.len()));
        }
        let timestamp_ms = Some(self.timestamp(timestamp_delta));
        Ok((offset, Record { key, value, headers, timestamp_ms }))
    }

    fn timestamp(&self, delta: i64) -> i64 {
        if self.attributes & LOG_APPEND_TIME != 0 {
            self.max_timestamp
        } else {
            self.first_timestamp.wrapping_add(delta)
        }
    }
}

fn headers(from: &mut Bytes) -> Result<Vec<Header>, Reason> {
    let claimed = varint(from)?;
    // A header takes two bytes at least.
    let count = usize::try_from(claimed).ok().filter(|count| *count <= from.len() / 2);
    let count = count.ok_or_else(|| format!("{claimed} headers in {} bytes", from.len()))?;
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = field(from)?.ok_or("a header without a name")?;
        let name = String::from_utf8_lossy(&name).into_owned();
        headers.push(Header { name, value: field(from)? });
    }
    Ok(headers)
}

/// A length and that many bytes; a length of -1 means that there is no value.
fn field(from: &mut Bytes) -> Result<Option<Bytes>, Reason> {
    let claimed = varint(from)?;
    if claimed == -1 {
        return Ok(None);
    }
    let bytes = usize::try_from(claimed).ok().filter(|bytes| *bytes <= from.len());
    let bytes = bytes.ok_or_else(|| format!("a field of {claimed} in {} bytes", from.len()))?;
    Ok(Some(from.split_to(bytes)))
}

/// A zigzag varint of at most ten bytes.
fn varint(from: &mut Bytes) -> Result<i64, Reason> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = from.try_get_u8().map_err(|_| "a number is cut off")?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    Err("a number is longer than ten bytes".into())
}
