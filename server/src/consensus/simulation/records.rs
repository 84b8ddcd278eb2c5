//! Batches whose records have keys, as simulated producers make them and simulated cleaning leaves them.
//!
//! ```text
//! 61 fill u8 | 62 which records are there, a bit each | 63.. ten times fill
//! ```
//! Record `i` has the key `(fill + i) % KEYS`, and is a tombstone for every fifth value of `fill + 3 i`.

use bytes::{Bytes, BytesMut};
use jangbu_engine::Offset;
use jangbu_engine::batch::{self, HEADER_BYTES, Header};

/// Different keys.
const KEYS: i64 = 12;
const FILL_AT: usize = HEADER_BYTES;
const MASK_AT: usize = HEADER_BYTES + 1;
/// Bytes behind the header.
const BODY_BYTES: usize = 12;

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: Offset,
    pub(super) key: i64,
    pub(super) is_tombstone: bool,
}

/// A batch as a producer makes it.
pub(super) fn batch(producer: i64, sequence: i32, count: i32, fill: u8) -> Bytes {
    let mut bytes = vec![fill; HEADER_BYTES + BODY_BYTES];
    bytes[..HEADER_BYTES].fill(0);
    bytes[16] = 2;
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[43..51].copy_from_slice(&producer.to_be_bytes());
    bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    bytes[MASK_AT] = u8::try_from((1 << count) - 1).expect("a batch has few records");
    batch::rewrite(&mut bytes, 0, 0);
    bytes.into()
}

/// The records that are there.
pub(super) fn records(batch: &[u8]) -> Vec<Record> {
    let header = Header::parse_stored(batch).expect("it was stored");
    let (fill, mask) = (i64::from(batch[FILL_AT]), batch[MASK_AT]);
    let there = (0..i64::from(header.offset_count())).filter(|i| mask & (1 << i) != 0);
    let record = |i| Record {
        offset: Offset(header.base_offset.0 + i),
        key: (fill + i) % KEYS,
        is_tombstone: (fill + 3 * i) % 5 == 0,
    };
    there.map(record).collect()
}

/// The batch with only the records that `stays` says.
pub(super) fn retain(batch: &Bytes, stays: impl Fn(&Record) -> bool) -> Bytes {
    let all = records(batch);
    let left: Vec<_> = all.iter().filter(|record| stays(record)).collect();
    if left.len() == all.len() {
        return batch.clone();
    }
    let base = Header::parse_stored(batch).expect("it was stored").base_offset.0;
    let bit = |record: &&Record| 1 << (record.offset.0 - base);
    let mut bytes = BytesMut::from(&batch[..]);
    bytes[MASK_AT] = left.iter().map(bit).fold(0, |mask: u8, bit: u8| mask | bit);
    let count = i32::try_from(left.len()).expect("a batch has few records");
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    batch::rewrite(&mut bytes, 0, 0);
    bytes.freeze()
}
