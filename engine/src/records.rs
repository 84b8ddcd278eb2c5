//! Looks into the records of a batch: at each when it is checked or entered into an index, for the first at or after a
//! timestamp.
//!
//! The bytes come from a client and stored ones only had their frame checked, so every length is doubted and
//! what a batch may decompress to is bounded.

pub mod codec;

use crate::Offset;
use crate::batch::{HEADER_BYTES, Header};

/// Offset and timestamp of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordAt {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp, ms.
    pub timestamp: i64,
}

/// The first record of `batch` whose timestamp is at least `timestamp`; `None` when there is none or the
/// records cannot be read.
pub fn first_at(batch: &[u8], timestamp: i64) -> Option<RecordAt> {
    let header = Header::parse_stored(batch).ok()?;
    if header.is_log_append_time() {
        // Every record of the batch has the time at which it was appended.
        let at = header.max_timestamp;
        return (at >= timestamp).then_some(RecordAt { offset: header.base_offset, timestamp: at });
    }
    let body = codec::decompress(header.codec(), batch.get(HEADER_BYTES..)?).ok()?;
    let mut rest: &[u8] = &body;
    for _ in 0..header.record_count {
        let (length, after) = varint(rest)?;
        let (record, next) = after.split_at_checked(usize::try_from(length).ok()?)?;
        rest = next;
        let Head { timestamp_delta, offset_delta } = head(record)?;
        let at = header.base_timestamp.checked_add(timestamp_delta)?;
        if at >= timestamp {
            let offset = Offset(header.base_offset.0.checked_add(offset_delta)?);
            return Some(RecordAt { offset, timestamp: at });
        }
    }
    None
}

/// What a record begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Milliseconds after the batch's base timestamp.
    pub timestamp_delta: i64,
    /// The record's number in the batch.
    pub offset_delta: i64,
}

/// Walks the plain records of a batch by their lengths and shows the head of each with its number: `count`
/// of them, and no byte over.
///
/// # Errors
/// What does not fit, as a sentence for the client.
pub fn walk(mut body: &[u8], count: i32, mut show: impl FnMut(i32, Head)) -> Result<(), String> {
    for index in 0..count {
        // Record lengths are 32 bits wide.
        let (length, rest) = zigzag_varint(body, 5)
            .ok_or_else(|| format!("record {index} has no readable length"))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (record, rest) = rest.split_at_checked(length).ok_or_else(|| {
            format!("record {index} states {length} bytes, {} are left", rest.len())
        })?;
        let head = head(record).ok_or_else(|| format!("record {index} is torn"))?;
        show(index, head);
        body = rest;
    }
    if body.is_empty() {
        Ok(())
    } else {
        Err(format!("{} bytes follow the last record", body.len()))
    }
}

/// One record of a batch, as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it begins with.
    pub head: Head,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The number of its headers, and then they, encoded.
    pub headers: &'a [u8],
    /// The whole record with its length.
    pub bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The first record of `body`, and what follows it; `None` when it is torn.
    fn first(body: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (length, after) = zigzag_varint(body, 5)?;
        let (record, rest) = after.split_at_checked(usize::try_from(length).ok()?)?;
        let bytes = body.get(..body.len() - rest.len())?;
        let (timestamp_delta, at) = varint(record.get(1..)?)?;
        let (offset_delta, at) = varint(at)?;
        let (key, at) = nullable(at)?;
        let (value, headers) = nullable(at)?;
        let head = Head { timestamp_delta, offset_delta };
        Some((Self { head, key, value, headers, bytes }, rest))
    }
}

/// Bytes behind their length, which is -1 for none.
fn nullable(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = zigzag_varint(bytes, 5)?;
    if length == -1 {
        return Some((None, rest));
    }
    let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Some(value), rest))
}

/// The plain records of a batch, one after the other: `count` of them and no byte over; `None` where they are torn,
/// which ends them.
pub fn each(body: &[u8], count: i32) -> impl Iterator<Item = Option<Record<'_>>> {
    let (mut rest, mut left, mut torn) = (body, count, false);
    std::iter::from_fn(move || {
        if torn || (left <= 0 && rest.is_empty()) {
            return None;
        }
        let found = if left > 0 { Record::first(rest) } else { None };
        torn = found.is_none();
        let (record, behind) = match found {
            Some(found) => found,
            None => return Some(None),
        };
        rest = behind;
        left -= 1;
        Some(Some(record))
    })
}

/// The headers of [`Record::headers`], names and values; `None` when they are torn.
#[must_use]
pub fn headers(encoded: &[u8]) -> Option<Vec<(&[u8], Option<&[u8]>)>> {
    let (count, mut rest) = zigzag_varint(encoded, 5)?;
    let mut found = Vec::new();
    for _ in 0..count {
        let (name, at) = nullable(rest)?;
        let (value, at) = nullable(at)?;
        found.push((name?, value));
        rest = at;
    }
    rest.is_empty().then_some(found)
}

fn head(record: &[u8]) -> Option<Head> {
    let (timestamp_delta, rest) = varint(record.get(1..)?)?;
    let (offset_delta, _) = varint(rest)?;
    Some(Head { timestamp_delta, offset_delta })
}

/// A varint of at most `bytes_max` bytes, 10 or less, and what follows it.
pub fn unsigned_varint(bytes: &[u8], bytes_max: usize) -> Option<(u64, &[u8])> {
    // Most are one byte long.
    if let Some((first, rest)) = bytes.split_first()
        && *first < 0x80
    {
        return Some((u64::from(*first), rest));
    }
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
pub fn zigzag_varint(bytes: &[u8], bytes_max: usize) -> Option<(i64, &[u8])> {
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
    fn records_of_a_batch_stamped_by_the_broker_have_its_time() {
        let mut batch = batch(Compression::Gzip);
        let attributes = crate::batch::with_log_append_time(1, true);
        crate::batch::rewrite(&mut batch, attributes, 5_000_000);
        let found = first_at(&batch, 4_000_000).expect("a record");
        assert_eq!((found.offset.0, found.timestamp), (0, 5_000_000));
        assert_eq!(first_at(&batch, 5_000_001), None);
    }

    #[test]
    fn lengths_are_zigzag_varints() {
        assert_eq!(zigzag_varint(&[0x02, 9], 5), Some((1, &[9][..])));
        assert_eq!(zigzag_varint(&[0x01], 5), Some((-1, &[][..])));
        assert_eq!(zigzag_varint(&[0xac, 0x02], 5), Some((150, &[][..])));
        assert_eq!(zigzag_varint(&[0x80, 0x80], 5), None);
        assert_eq!(zigzag_varint(&[0xff; 6], 5), None);
    }

    #[test]
    fn records_must_fill_the_batch_exactly() {
        let two = [0x06, 0, 0x02, 0x00, 0x08, 0, 0x04, 0x02, 9];
        let mut heads = Vec::new();
        walk(&two, 2, |index, head| heads.push((index, head.timestamp_delta, head.offset_delta)))
            .unwrap();
        assert_eq!(heads, [(0, 1, 0), (1, 2, 1)]);
        assert!(walk(&two, 1, |_, _| ()).is_err(), "bytes over");
        assert!(walk(&two, 3, |_, _| ()).is_err(), "a record missing");
        assert!(walk(&[0x06, 7], 1, |_, _| ()).is_err(), "a length beyond the end");
        assert!(walk(&[0x01, 7], 1, |_, _| ()).is_err(), "a negative length");
        assert!(walk(&[0x02, 7], 1, |_, _| ()).is_err(), "no room for a head");
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
