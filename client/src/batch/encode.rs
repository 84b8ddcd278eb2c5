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
    bytes: BytesMut,
    count: i32,
    first_timestamp: i64,
    max_timestamp: i64,
}

impl Builder {
    /// An empty batch.
    pub(crate) fn new() -> Self {
        let mut bytes = BytesMut::with_capacity(4096);
        bytes.resize(HEADER_BYTES, 0);
        Self { bytes, count: 0, first_timestamp: 0, max_timestamp: i64::MIN }
    }

    /// The bytes so far, header included.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
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
        let body = record_bytes(record, delta, self.count);
        put_varint(&mut self.bytes, length(body));
        self.bytes.put_u8(0);
        put_varint(&mut self.bytes, delta);
        put_varint(&mut self.bytes, self.count.into());
        put_field(&mut self.bytes, record.key.as_deref());
        put_field(&mut self.bytes, record.value.as_deref());
        put_varint(&mut self.bytes, length(record.headers.len()));
        for header in &record.headers {
            put_field(&mut self.bytes, Some(header.name.as_bytes()));
            put_field(&mut self.bytes, header.value.as_deref());
        }
        self.count += 1;
    }

    /// Closes the batch: compresses its records and fills in all but identity, sequence and CRC.
    pub(crate) fn seal(self, compression: Compression) -> Result<Sealed> {
        let mut bytes = self.bytes;
        if compression != Compression::None {
            let mut packed = BytesMut::with_capacity(bytes.len() / 2);
            packed.resize(HEADER_BYTES, 0);
            compression.compress(&bytes[HEADER_BYTES..], &mut packed)?;
            bytes = packed;
        }
        let after_prefix = i32::try_from(bytes.len() - PREFIX_BYTES).expect("batches are small");
        let mut header = &mut bytes[..HEADER_BYTES];
        header.put_i64(0);
        header.put_i32(after_prefix);
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
        Ok(Sealed { bytes, count: self.count })
    }
}

/// A closed batch that waits for its identity and sequence.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    bytes: BytesMut,
    /// How many records it holds.
    pub(crate) count: i32,
}

impl Sealed {
    /// Its size on the wire.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The finished batch of `identity`, whose first record has `sequence`.
    pub(crate) fn stamp(&mut self, identity: Identity, sequence: i32) -> Bytes {
        let mut fields = &mut self.bytes[43..57];
        fields.put_i64(identity.producer_id);
        fields.put_i16(identity.epoch);
        fields.put_i32(sequence);
        let crc = crc32c::crc32c(&self.bytes[CRC_START..]);
        self.bytes[17..CRC_START].copy_from_slice(&crc.to_be_bytes());
        Bytes::copy_from_slice(&self.bytes)
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
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        to.put_u8(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    to.put_u8(rest.to_le_bytes()[0]);
}
