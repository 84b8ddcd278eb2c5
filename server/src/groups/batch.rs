//! Records of `__consumer_offsets` as record batches, and back.
//!
//! Batches are written uncompressed; those of an existing topic are read in every codec.

use bytes::{BufMut, Bytes, BytesMut};
use jangbu_engine::batch::{HEADER_BYTES, Header, LENGTH_OVERHEAD, MAGIC};
use jangbu_engine::records::{codec, zigzag_varint};

use super::wire::put_varint;

/// Where a batch's checksum stands, and from where on it covers the batch.
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

/// A key, and a value unless it is a tombstone.
pub(crate) type Pair = (Bytes, Option<Bytes>);

/// One batch of these records, none of which has more than 2^31 bytes.
pub(crate) fn encode(pairs: &[Pair], now_ms: i64) -> Bytes {
    let count = i32::try_from(pairs.len()).unwrap_or(i32::MAX);
    let mut to = BytesMut::with_capacity(HEADER_BYTES + 128 * pairs.len());
    to.put_i64(0);
    to.put_i32(0);
    to.put_i32(-1);
    to.put_i8(MAGIC);
    to.put_u32(0);
    to.put_i16(0);
    to.put_i32(count - 1);
    to.put_i64(now_ms);
    to.put_i64(now_ms);
    to.put_i64(-1);
    to.put_i16(-1);
    to.put_i32(-1);
    to.put_i32(count);
    for (index, (key, value)) in pairs.iter().enumerate() {
        let mut record =
            BytesMut::with_capacity(key.len() + value.as_ref().map_or(0, Bytes::len) + 16);
        record.put_u8(0);
        put_zigzag(&mut record, 0);
        put_zigzag(&mut record, index);
        put_zigzag(&mut record, key.len());
        record.put_slice(key);
        match value {
            Some(value) => {
                put_zigzag(&mut record, value.len());
                record.put_slice(value);
            }
            // -1
            None => record.put_u8(1),
        }
        record.put_u8(0);
        put_zigzag(&mut to, record.len());
        to.put_slice(&record);
    }
    let length = u32::try_from(to.len() - LENGTH_OVERHEAD).unwrap_or(u32::MAX);
    to[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&to[CRC_FROM..]);
    to[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    to.freeze()
}

fn put_zigzag(to: &mut BytesMut, value: usize) {
    put_varint(to, (value as u64) << 1);
}

/// Shows the key and the value of each record of a stored batch.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode(
    batch: &[u8],
    mut show: impl FnMut(&[u8], Option<&[u8]>),
) -> Result<(), String> {
    let header = Header::parse(batch).map_err(|error| error.to_string())?;
    if header.is_control() {
        return Ok(());
    }
    let body = codec::decompress(header.codec(), batch.get(HEADER_BYTES..).unwrap_or_default())?;
    let mut rest: &[u8] = &body;
    for index in 0..header.record_count {
        let torn = || format!("record {index} is torn");
        let (record, next) = record(rest).ok_or_else(torn)?;
        rest = next;
        let (key, value) = pair(record).ok_or_else(torn)?;
        // A record without a key is not one of ours.
        if let Some(key) = key {
            show(key, value);
        }
    }
    Ok(())
}

fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = zigzag_varint(bytes, 5)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// A key or a value, which may be missing.
type Field<'a> = Option<&'a [u8]>;

fn pair(record: &[u8]) -> Option<(Field<'_>, Field<'_>)> {
    let (_, rest) = zigzag_varint(record.get(1..)?, 10)?;
    let (_, rest) = zigzag_varint(rest, 10)?;
    let (key, rest) = field(rest)?;
    let (value, _) = field(rest)?;
    Some((key, value))
}

fn field(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (length, rest) = zigzag_varint(bytes, 5)?;
    if length < 0 {
        return Some((None, rest));
    }
    let (field, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Some(field), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_batch_is_sound_and_holds_its_records() {
        let pairs: Vec<Pair> = (0..300_u16)
            .map(|i| {
                let key = Bytes::from(format!("key {i}"));
                (key, (i % 3 > 0).then(|| Bytes::from(vec![7; usize::from(i)])))
            })
            .collect();
        let batch = encode(&pairs, 1_700_000_000_000);
        let header = jangbu_engine::batch::verify(&batch).unwrap();
        assert_eq!((header.record_count, header.last_offset_delta), (300, 299));
        let mut read = Vec::new();
        let show = |key: &[u8], value: Option<&[u8]>| {
            read.push((Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice)));
        };
        decode(&batch, show).unwrap();
        assert_eq!(read, pairs);
    }

    proptest! {
        #[test]
        fn what_is_torn_is_refused(cut in 0_usize..100, at in 0_usize..100, with in any::<u8>()) {
            let whole = encode(&[(Bytes::from_static(b"k"), Some(Bytes::from_static(b"v")))], 1);
            let mut bytes = whole[..cut.min(whole.len())].to_vec();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            let _ = decode(&bytes, |_, _| {});
        }
    }
}
