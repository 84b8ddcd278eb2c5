//! Writes record batches. See the layout in the parent module.

use bytes::{BufMut, Bytes, BytesMut};

use super::{CRC_START, HEADER_BYTES, MAGIC, PREFIX_BYTES};
use crate::{Compression, Record, Result};

/// Who a batch comes from, so that the broker can recognise one it already has (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The producer id the cluster gave out.
    pub(crate) producer_id: i64,
    /// Its epoch.
    pub(crate) epoch: i16,
}

impl Identity {
    /// The identity of a producer that is not idempotent.
    pub(crate) const NONE: Self = Self { producer_id: -1, epoch: -1 };
}

/// An upper bound for a record's size in a batch.
pub(crate) fn encoded_bytes_max(record: &Record) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| 10 + header.name.len() + header.value.as_ref().map_or(0, Bytes::len))
        .sum();
    let key = record.key.as_ref().map_or(0, Bytes::len);
    let value = record.value.as_ref().map_or(0, Bytes::len);
    // Five varints of up to 5 bytes, one timestamp of up to 10, one byte of attributes.
    36 + key + value + headers
}

/// A batch that still takes records.
#[derive(Debug)]
pub(crate) struct Builder {
    records: BytesMut,
    count: i32,
    first_timestamp: i64,
    max_timestamp: i64,
}

impl Builder {
    /// An empty batch.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::with_capacity(4096)
    }

    /// An empty batch that is expected to grow to so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let records = BytesMut::with_capacity(bytes);
        Self { records, count: 0, first_timestamp: 0, max_timestamp: i64::MIN }
    }

    /// The bytes so far, header included.
    pub(crate) fn len(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// How many records it holds.
    pub(crate) fn count(&self) -> i32 {
        self.count
    }

    /// Appends a record. `timestamp` is used where it has none of its own.
    pub(crate) fn push(&mut self, record: &Record, timestamp: i64) {
        let timestamp = record.timestamp_ms.unwrap_or(timestamp);
        if self.count == 0 {
            self.first_timestamp = timestamp;
        }
        let delta = timestamp.wrapping_sub(self.first_timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let mut head = Head::default();
        head.varint(length(record_bytes(record, delta, self.count)));
        head.byte(0);
        head.varint(delta);
        head.varint(self.count.into());
        self.records.extend_from_slice(head.bytes());
        put_field(&mut self.records, record.key.as_deref());
        put_field(&mut self.records, record.value.as_deref());
        put_varint(&mut self.records, length(record.headers.len()));
        for header in &record.headers {
            put_field(&mut self.records, Some(header.name.as_bytes()));
            put_field(&mut self.records, header.value.as_deref());
        }
        self.count += 1;
    }

    /// Closes the batch: compresses its records and fills in all but identity, sequence and CRC.
    pub(crate) fn seal(self, compression: Compression, level: Option<i32>) -> Result<Sealed> {
        let records = if compression == Compression::None {
            self.records
        } else {
            let mut packed = BytesMut::with_capacity(self.records.len() / 2);
            compression.compress(&self.records, level, &mut packed)?;
            packed
        };
        let after_prefix = HEADER_BYTES - PREFIX_BYTES + records.len();
        let mut bytes = [0; HEADER_BYTES];
        let mut header = &mut bytes[..];
        header.put_i64(0);
        header.put_i32(i32::try_from(after_prefix).expect("batches are small"));
        header.put_i32(-1);
        header.put_u8(MAGIC);
        header.put_u32(0);
        header.put_i16(compression.attribute());
        header.put_i32(self.count - 1);
        header.put_i64(self.first_timestamp);
        header.put_i64(self.max_timestamp);
        header.put_i64(-1);
        header.put_i16(-1);
        header.put_i32(-1);
        header.put_i32(self.count);
        Ok(Sealed { header: bytes, records: records.freeze(), count: self.count })
    }
}

/// A closed batch that waits for its identity and sequence.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    header: [u8; HEADER_BYTES],
    records: Bytes,
    /// How many records it holds.
    pub(crate) count: i32,
}

impl Sealed {
    /// Its size on the wire.
    pub(crate) fn len(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch of `identity`, whose first record has `sequence`. The records are not copied.
    pub(crate) fn stamp(&self, identity: Identity, sequence: i32) -> Stamped {
        let mut header = self.header;
        let mut fields = &mut header[43..57];
        fields.put_i64(identity.producer_id);
        fields.put_i16(identity.epoch);
        fields.put_i32(sequence);
        Stamped { header, records: self.records.clone() }
    }
}

/// A finished batch but for its CRC.
#[derive(Debug)]
pub(crate) struct Stamped {
    header: [u8; HEADER_BYTES],
    records: Bytes,
}

impl Stamped {
    /// Its size on the wire.
    pub(crate) fn len(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// Header and records as they go on the wire.
    pub(crate) fn finish(mut self) -> ([u8; HEADER_BYTES], Bytes) {
        let crc = crc32c::crc32c(&self.header[CRC_START..]);
        let crc = crc32c::crc32c_append(crc, &self.records);
        self.header[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
        (self.header, self.records)
    }

    /// The same in one piece.
    #[cfg(test)]
    pub(crate) fn into_bytes(self) -> Bytes {
        let (header, records) = self.finish();
        [&header[..], &records].concat().into()
    }
}

/// The numbers in front of a record, put together on the stack.
#[derive(Default)]
struct Head {
    bytes: [u8; 32],
    len: usize,
}

impl Head {
    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn varint(&mut self, value: i64) {
        let mut rest = zigzag(value);
        while rest >= 0x80 {
            self.byte(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.byte(rest.to_le_bytes()[0]);
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The bytes of a record after its length field.
fn record_bytes(record: &Record, timestamp_delta: i64, offset_delta: i32) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| {
            field_bytes(Some(header.name.as_bytes())) + field_bytes(header.value.as_deref())
        })
        .sum();
    1 + varint_bytes(timestamp_delta)
        + varint_bytes(offset_delta.into())
        + field_bytes(record.key.as_deref())
        + field_bytes(record.value.as_deref())
        + varint_bytes(length(record.headers.len()))
        + headers
}

fn field_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint_bytes(length(bytes.len())) + bytes.len())
}

fn put_field(to: &mut BytesMut, field: Option<&[u8]>) {
    match field {
        None => put_varint(to, -1),
        Some(bytes) => {
            put_varint(to, length(bytes.len()));
            to.put_slice(bytes);
        }
    }
}

fn length(len: usize) -> i64 {
    i64::try_from(len).expect("no buffer is larger than an i64")
}

fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

fn varint_bytes(value: i64) -> usize {
    let bits = 64 - zigzag(value).leading_zeros() as usize;
    bits.max(1).div_ceil(7)
}

fn put_varint(to: &mut BytesMut, value: i64) {
    let mut head = Head::default();
    head.varint(value);
    to.extend_from_slice(head.bytes());
}
