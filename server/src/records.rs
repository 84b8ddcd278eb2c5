//! Looks into a stored batch for the first record at or after a timestamp.
//!
//! Only ListOffsets by timestamp asks for this; producing and fetching never look at a record. The bytes
//! came from a client and only their frame was checked, so every length is doubted and what a batch may
//! decompress to is bounded.

use std::borrow::Cow;
use std::io::Read;

use jangbu_engine::Offset;
use jangbu_engine::batch::{HEADER_BYTES, Header};

/// A batch that decompresses to more than this is not looked into.
const DECOMPRESSED_BYTES_MAX: u64 = 64 << 20;
/// snappy-java's stream: a magic and two version numbers, then blocks with 4-byte lengths.
pub(crate) const XERIAL_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
pub(crate) const XERIAL_HEADER_BYTES: usize = 16;

/// Offset and timestamp of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordAt {
    pub(crate) offset: Offset,
    pub(crate) timestamp: i64,
}

/// The first record of `batch` whose timestamp is at least `timestamp`; `None` when there is none or the
/// records cannot be read.
pub(crate) fn first_at(batch: &[u8], timestamp: i64) -> Option<RecordAt> {
    let header = Header::parse(batch).ok()?;
    let body = decompress(header.codec(), batch.get(HEADER_BYTES..)?)?;
    let mut rest: &[u8] = &body;
    for _ in 0..header.record_count {
        let (length, after) = varint(rest)?;
        let (record, next) = after.split_at_checked(usize::try_from(length).ok()?)?;
        rest = next;
        let (timestamp_delta, deltas) = varint(record.get(1..)?)?;
        let (offset_delta, _) = varint(deltas)?;
        let at = header.base_timestamp.checked_add(timestamp_delta)?;
        if at >= timestamp {
            let offset = Offset(header.base_offset.0.checked_add(offset_delta)?);
            return Some(RecordAt { offset, timestamp: at });
        }
    }
    None
}

fn decompress(codec: u8, body: &[u8]) -> Option<Cow<'_, [u8]>> {
    let read = |reader: &mut dyn Read| {
        let mut bytes = Vec::new();
        let count = reader.take(DECOMPRESSED_BYTES_MAX).read_to_end(&mut bytes).ok()? as u64;
        (count < DECOMPRESSED_BYTES_MAX).then_some(Cow::Owned(bytes))
    };
    match codec {
        0 => Some(Cow::Borrowed(body)),
        1 => read(&mut flate2::read::MultiGzDecoder::new(body)),
        2 => snappy(body).map(Cow::Owned),
        3 => read(&mut lz4::Decoder::new(body).ok()?),
        4 => read(&mut zstd::stream::read::Decoder::with_buffer(body).ok()?),
        _ => None,
    }
}

fn snappy(body: &[u8]) -> Option<Vec<u8>> {
    if !body.starts_with(XERIAL_MAGIC) {
        return snappy_block(body);
    }
    let mut blocks = body.get(XERIAL_HEADER_BYTES..)?;
    let mut bytes = Vec::new();
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (block, rest) = rest.split_at_checked(length)?;
        bytes.extend(snappy_block(block)?);
        if bytes.len() as u64 >= DECOMPRESSED_BYTES_MAX {
            return None;
        }
        blocks = rest;
    }
    Some(bytes)
}

fn snappy_block(block: &[u8]) -> Option<Vec<u8>> {
    let stated = snap::raw::decompress_len(block).ok()? as u64;
    if stated >= DECOMPRESSED_BYTES_MAX {
        return None;
    }
    snap::raw::Decoder::new().decompress_vec(block).ok()
}

/// A varint of at most `bytes_max` bytes, 10 or less, and what follows it.
pub(crate) fn unsigned_varint(bytes: &[u8], bytes_max: usize) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().take(bytes_max).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(7 * i).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(i + 1..)?));
        }
    }
    None
}

/// The same, zigzag encoded: how records write lengths (5 bytes) and deltas (10).
pub(crate) fn zigzag_varint(bytes: &[u8], bytes_max: usize) -> Option<(i64, &[u8])> {
    let (value, rest) = unsigned_varint(bytes, bytes_max)?;
    let sign = (value & 1).wrapping_neg();
    Some(((value >> 1 ^ sign).cast_signed(), rest))
}

fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    zigzag_varint(bytes, 10)
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::records::{
        Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };
    use proptest::prelude::*;

    use super::*;

    fn batch(compression: Compression) -> BytesMut {
        let record = |i: i32| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(i),
            sequence: i - 1,
            timestamp: 1_000_000 + 10 * i64::from(i),
            key: None,
            value: Some(Bytes::from(vec![b'v'; 100])),
            headers: kafka_protocol::indexmap::IndexMap::new(),
        };
        let records: Vec<Record> = (0..500).map(record).collect();
        let options = RecordEncodeOptions { version: 2, compression };
        let mut bytes = BytesMut::new();
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        bytes
    }

    #[test]
    fn the_record_is_found_under_every_codec() {
        for compression in [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let batch = batch(compression);
            let found = first_at(&batch, 1_000_015).expect("a record");
            assert_eq!((found.offset.0, found.timestamp), (2, 1_000_020), "{compression:?}");
            assert_eq!(first_at(&batch, 0).map(|r| r.offset.0), Some(0));
            assert_eq!(first_at(&batch, 2_000_000), None);
        }
    }

    #[test]
    fn varints_are_read_whole() {
        assert_eq!(varint(&[0x01]), Some((-1, &[][..])));
        assert_eq!(
            varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).map(|v| v.0),
            Some(i64::MIN)
        );
        assert_eq!(varint(&[0x80; 11]), None);
    }

    proptest! {
        #[test]
        fn damaged_batches_never_panic(
            codec in 0_usize..5,
            damage in proptest::collection::vec((HEADER_BYTES..400, any::<u8>()), 1..8),
        ) {
            let codecs = [
                Compression::None,
                Compression::Gzip,
                Compression::Snappy,
                Compression::Lz4,
                Compression::Zstd,
            ];
            let mut bytes = batch(codecs[codec]);
            let length = bytes.len();
            for (at, byte) in damage {
                bytes[at % length] = byte;
            }
            let _ = first_at(&bytes, 1_000_100);
        }
    }
}
