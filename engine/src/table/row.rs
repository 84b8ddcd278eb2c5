//! The rows of the key index: one for every record with a key.
//!
//! ```text
//! key    area (8) | 1 u8 | key, escaped | 0 1 | !offset u64          a key of up to 1024 bytes
//!        area (8) | 1 u8 | its first 1024 bytes, escaped | 0 2 | SHA-256 of all of it | !offset u64
//! value  version u8 | flags u8 | Raft index u64 | timestamp i64 | small records: value length u16, value, headers
//! mark   area (8) | 0 u8 | offset u64  →  version u8 | kind u8 | ms i64
//! ```
//! A zero byte of a key is written as `0 255`, so that rows are in the order of the keys, and none is the beginning of
//! another. The complement of the offset puts the newest first.
//!
//! Invariants:
//! - What a batch's rows are is a function of the batch and its index.
//! - Bytes from the disk or a client never panic here.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::KeyRecord;
use crate::batch::{HEADER_BYTES, Header};
use crate::keys::{AREA_BYTES, Area, behind};
use crate::records::{self, codec};
use crate::{Index, Offset};

/// Bytes of a key that its rows hold.
const KEY_BYTES_MAX: usize = 1024;
/// Value and headers of a record that are held in its row.
const INLINE_BYTES_MAX: usize = 256;

const VERSION: u8 = 1;
const MARK: u8 = 0;
const ROW: u8 = 1;

const ZERO: u8 = 0;
const ESCAPED: u8 = 0xff;
const SHORT_END: u8 = 1;
const LONG_END: u8 = 2;

const TOMBSTONE: u8 = 1;
const INLINE: u8 = 2;

/// Bytes of the offset at the end of a row's key.
const OFFSET_BYTES: usize = 8;

/// What the rows of `key` begin with.
pub(crate) fn rows_of(area: Area, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(AREA_BYTES + key.len().min(KEY_BYTES_MAX) + 16);
    begin(&mut out, area);
    push_key(&mut out, key);
    out
}

/// The key of the row of `key` at `offset`.
pub(crate) fn row_key(area: Area, key: &[u8], offset: Offset) -> Vec<u8> {
    let mut out = rows_of(area, key);
    out.extend_from_slice(&newest_first(offset));
    out
}

/// The keys between which the rows of all keys that begin with `prefix` lie.
pub(crate) fn rows_with(area: Area, prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut start = Vec::new();
    begin(&mut start, area);
    escape(&mut start, &prefix[..prefix.len().min(KEY_BYTES_MAX)]);
    let end = behind(start.clone());
    (start, end)
}

/// The keys between which all rows of the index lie.
pub(crate) fn all_rows(area: Area) -> (Vec<u8>, Vec<u8>) {
    rows_with(area, b"")
}

fn begin(out: &mut Vec<u8>, area: Area) {
    out.extend_from_slice(&area.prefix());
    out.push(ROW);
}

fn push_key(out: &mut Vec<u8>, key: &[u8]) {
    if key.len() <= KEY_BYTES_MAX {
        escape(out, key);
        out.extend_from_slice(&[ZERO, SHORT_END]);
    } else {
        escape(out, &key[..KEY_BYTES_MAX]);
        out.extend_from_slice(&[ZERO, LONG_END]);
        out.extend_from_slice(&Sha256::digest(key));
    }
}

fn escape(out: &mut Vec<u8>, key: &[u8]) {
    for part in key.split_inclusive(|byte| *byte == ZERO) {
        out.extend_from_slice(part);
        if part.last() == Some(&ZERO) {
            out.push(ESCAPED);
        }
    }
}

/// The end of the key of a row at `offset`.
pub(crate) fn newest_first(offset: Offset) -> [u8; OFFSET_BYTES] {
    (!offset.0.cast_unsigned()).to_be_bytes()
}

/// Whether a key of the family `keys` is a row's.
pub(crate) fn is_row(key: &[u8]) -> bool {
    key.get(AREA_BYTES) == Some(&ROW) && key.len() > AREA_BYTES + OFFSET_BYTES
}

/// What all rows of the key begin with that a row is of, for [`is_row`].
pub(crate) fn rows_in(key: &[u8]) -> &[u8] {
    key.split_last_chunk::<OFFSET_BYTES>().map_or(key, |(rows, _)| rows)
}

/// What a row's key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowKey<'a> {
    /// What all rows of its key begin with.
    pub(crate) rows: &'a [u8],
    /// The offset of the record.
    pub(crate) offset: Offset,
}

impl<'a> RowKey<'a> {
    /// Decodes the key of a row; `None` for anything else.
    pub(crate) fn decode(key: &'a [u8]) -> Option<Self> {
        let (rows, offset) = key.split_last_chunk::<OFFSET_BYTES>()?;
        let is_row = rows.get(AREA_BYTES) == Some(&ROW);
        let offset = Offset((!u64::from_be_bytes(*offset)).cast_signed());
        is_row.then_some(Self { rows, offset })
    }

    /// The record's key; `None` when it is too long to be held in rows.
    pub(crate) fn key(self) -> Option<Vec<u8>> {
        let escaped = self.rows.get(AREA_BYTES + 1..)?;
        let escaped = escaped.strip_suffix(&[ZERO, SHORT_END])?;
        let mut key = Vec::with_capacity(escaped.len());
        let mut rest = escaped.iter();
        while let Some(byte) = rest.next() {
            key.push(*byte);
            if *byte == ZERO && rest.next() != Some(&ESCAPED) {
                return None;
            }
        }
        Some(key)
    }
}

/// A row's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowValue<'a> {
    /// The Raft entry with its batch, as long as that is not settled.
    pub(crate) index: Index,
    pub(crate) timestamp: i64,
    is_tombstone: bool,
    /// Value and headers, if they are small.
    inline: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> RowValue<'a> {
    pub(crate) fn decode(value: &'a [u8]) -> Option<Self> {
        let ([version, flags], rest) = value.split_first_chunk::<2>()?;
        if *version != VERSION || *flags > TOMBSTONE | INLINE {
            return None;
        }
        let (index, rest) = rest.split_first_chunk::<8>()?;
        let (timestamp, rest) = rest.split_first_chunk::<8>()?;
        let inline = if flags & INLINE != 0 {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            Some(rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?)
        } else if rest.is_empty() {
            None
        } else {
            return None;
        };
        Some(Self {
            index: Index(u64::from_be_bytes(*index)),
            timestamp: i64::from_be_bytes(*timestamp),
            is_tombstone: flags & TOMBSTONE != 0,
            inline,
        })
    }

    /// The record, if the row holds it: `None` when its batch must be read, `Some(None)` when the row does not decode.
    pub(crate) fn record(self, key: &[u8], offset: Offset) -> Option<Option<KeyRecord>> {
        let (value, encoded) = self.inline?;
        let value = (!self.is_tombstone).then_some(value);
        Some(key_record(key, offset, self.timestamp, value, encoded))
    }
}

/// A record as it is given out; `None` when its headers are torn.
pub(crate) fn key_record(
    key: &[u8],
    offset: Offset,
    timestamp: i64,
    value: Option<&[u8]>,
    headers: &[u8],
) -> Option<KeyRecord> {
    let headers = records::headers(headers)?;
    let owned = |(name, value): (&[u8], Option<&[u8]>)| {
        (Bytes::copy_from_slice(name), value.map(Bytes::copy_from_slice))
    };
    Some(KeyRecord {
        key: Bytes::copy_from_slice(key),
        offset,
        timestamp,
        value: value.map(Bytes::copy_from_slice),
        headers: headers.into_iter().map(owned).collect(),
    })
}

/// Where one row begins, and where its key and its value end, in the bytes of its batch's.
#[derive(Debug, Clone, Copy)]
struct Ends {
    start: usize,
    key: usize,
    value: usize,
    delta: i64,
}

/// The rows of one batch, in their order, in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct KeyRows {
    bytes: Vec<u8>,
    ends: Vec<Ends>,
}

impl KeyRows {
    /// The rows of a whole batch, to be placed yet. Control batches, and batches whose records cannot be read, have none.
    pub(crate) fn of(payload: &[u8], index: Index) -> Self {
        let Ok(header) = Header::parse_stored(payload) else { return Self::default() };
        if header.is_control() {
            return Self::default();
        }
        let Ok(body) = codec::decompress(header.codec(), &payload[HEADER_BYTES..]) else {
            return Self::default();
        };
        let mut rows = Self::default();
        let expected = usize::try_from(header.record_count).unwrap_or(0).min(1 << 16);
        rows.ends.reserve_exact(expected);
        rows.bytes.reserve(expected.saturating_mul(48));
        for record in records::each(&body, header.record_count) {
            let Some(record) = record else { return Self::default() };
            let delta = record.head.offset_delta;
            if !(0..=i64::from(header.last_offset_delta)).contains(&delta) {
                return Self::default();
            }
            rows.push(&record, delta, timestamp(&header, &record), index);
        }
        rows.sort();
        rows
    }

    /// Puts them in the order in which they will lie: RocksDB's memtable takes a row at less cost near the one before it.
    fn sort(&mut self) {
        let bytes = self.bytes.as_slice();
        let key = |ends: &Ends| &bytes[ends.start + AREA_BYTES..ends.key - OFFSET_BYTES];
        let Some(first) = self.ends.first().map(key) else { return };
        let alike = |ends: &Ends| first.iter().zip(key(ends)).take_while(|(a, b)| a == b).count();
        let common = self.ends.iter().map(alike).min().unwrap_or(0);
        // Most of the order is in the first bytes by which the keys differ.
        let sample = |ends: &Ends| {
            let mut sample = [0; 8];
            sample.iter_mut().zip(&key(ends)[common..]).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(sample)
        };
        let mut order: Vec<_> = self.ends.iter().map(|ends| (sample(ends), *ends)).collect();
        order.sort_unstable_by(|(a, x), (b, y)| {
            a.cmp(b).then_with(|| key(x).cmp(key(y))).then_with(|| y.delta.cmp(&x.delta))
        });
        self.ends = order.into_iter().map(|(_, ends)| ends).collect();
    }

    fn push(&mut self, record: &records::Record<'_>, delta: i64, timestamp: i64, index: Index) {
        let Some(key) = record.key else { return };
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; AREA_BYTES]);
        self.bytes.push(ROW);
        push_key(&mut self.bytes, key);
        self.bytes.extend_from_slice(&[0; OFFSET_BYTES]);
        let key_end = self.bytes.len();
        let value = record.value.unwrap_or_default();
        let inline = value.len() + record.headers.len() <= INLINE_BYTES_MAX;
        let tombstone = if record.value.is_none() { TOMBSTONE } else { 0 };
        let flags = if inline { tombstone | INLINE } else { tombstone };
        self.bytes.extend_from_slice(&[VERSION, flags]);
        self.bytes.extend_from_slice(&index.0.to_be_bytes());
        self.bytes.extend_from_slice(&timestamp.to_be_bytes());
        if inline {
            let length = u16::try_from(value.len()).unwrap_or(0);
            self.bytes.extend_from_slice(&length.to_be_bytes());
            self.bytes.extend_from_slice(value);
            self.bytes.extend_from_slice(record.headers);
        }
        self.ends.push(Ends { start, key: key_end, value: self.bytes.len(), delta });
    }

    /// Says in which area they are, and where the batch begins.
    pub(crate) fn place(&mut self, area: Area, base: Offset) {
        let prefix = area.prefix();
        for ends in &self.ends {
            self.bytes[ends.start..ends.start + AREA_BYTES].copy_from_slice(&prefix);
            let offset = Offset(base.0.saturating_add(ends.delta));
            self.bytes[ends.key - OFFSET_BYTES..ends.key].copy_from_slice(&newest_first(offset));
        }
    }

    /// Keys and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.ends
            .iter()
            .map(|ends| (&self.bytes[ends.start..ends.key], &self.bytes[ends.key..ends.value]))
    }

    /// The bytes they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// The timestamp of a record as its readers see it.
pub(crate) fn timestamp(header: &Header, record: &records::Record<'_>) -> i64 {
    if header.is_log_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.saturating_add(record.head.timestamp_delta)
    }
}

/// What is known of a settled record that is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A later record has its key: it goes.
    Superseded,
    /// A tombstone, which may go from this time on, ms.
    Tombstone(i64),
    /// The last offset of a batch without records, kept for its producer.
    Empty,
}

impl Mark {
    /// A tombstone that is yet to be told when it may go.
    pub(crate) const UNDATED: Self = Self::Tombstone(-1);

    /// Its value.
    pub(crate) fn encode(self) -> Vec<u8> {
        let (kind, ms) = match self {
            Self::Superseded => (1, 0),
            Self::Tombstone(ms) => (2, ms),
            Self::Empty => (3, 0),
        };
        [&[VERSION, kind], i64::to_be_bytes(ms).as_slice()].concat()
    }

    /// Decodes [`Mark::encode`].
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let ([VERSION, kind], ms) = value.split_first_chunk::<2>()? else { return None };
        let ms = i64::from_be_bytes(ms.try_into().ok()?);
        match kind {
            1 => Some(Self::Superseded),
            2 => Some(Self::Tombstone(ms)),
            3 => Some(Self::Empty),
            _ => None,
        }
    }
}

/// The key of the mark on the record at `offset`.
pub(crate) fn mark_key(area: Area, offset: Offset) -> Vec<u8> {
    let mut key = area.prefix().to_vec();
    key.push(MARK);
    key.extend_from_slice(&offset.0.cast_unsigned().to_be_bytes());
    key
}

/// The keys between which all marks from `from` on lie.
pub(crate) fn marks_from(area: Area, from: Offset) -> (Vec<u8>, Vec<u8>) {
    let mut prefix = area.prefix().to_vec();
    prefix.push(MARK);
    (mark_key(area, from), behind(prefix))
}

/// The offset of the record that a key made by [`mark_key`] is of.
pub(crate) fn marked_offset(key: &[u8]) -> Option<Offset> {
    let (kind, offset) = key.get(AREA_BYTES..)?.split_first()?;
    let offset = u64::from_be_bytes(offset.try_into().ok()?);
    (*kind == MARK).then(|| Offset(offset.cast_signed()))
}

/// The offset that a row or mark is of.
pub(crate) fn offset_of(key: &[u8]) -> Option<Offset> {
    marked_offset(key).or_else(|| RowKey::decode(key).map(|row| row.offset))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::PartitionId;

    const AREA: Area = Area { id: PartitionId(5), number: 2 };

    proptest! {
        #[test]
        fn rows_are_in_the_order_of_keys_then_newest_first(
            a in proptest::collection::vec(0_u8..3, 0..5),
            b in proptest::collection::vec(0_u8..3, 0..5),
            x in 0_i64..1000,
            y in 0_i64..1000,
        ) {
            let rows = (row_key(AREA, &a, Offset(x)), row_key(AREA, &b, Offset(y)));
            prop_assert_eq!(rows.0.cmp(&rows.1), a.cmp(&b).then(y.cmp(&x)));
            let decoded = RowKey::decode(&rows.0).expect("a row");
            prop_assert_eq!((decoded.key(), decoded.offset), (Some(a.clone()), Offset(x)));
            let (start, end) = rows_with(AREA, &b);
            prop_assert_eq!(a.starts_with(&b), start <= rows.0 && rows.0 < end);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(row) = RowKey::decode(&bytes) {
                let _ = row.key();
            }
            if let Some(value) = RowValue::decode(&bytes) {
                let _ = value.record(b"key", Offset(1));
            }
            let _ = (Mark::decode(&bytes), marked_offset(&bytes), KeyRows::of(&bytes, Index(1)));
        }
    }

    #[test]
    fn rows_of_a_batch_are_in_the_order_in_which_they_lie() {
        let mut rows = KeyRows::default();
        let keys: [&[u8]; 8] = [b"ka", b"k", b"", b"k\0", b"kab", b"k", b"ka\0b", b"ka"];
        for (delta, key) in (0..).zip(keys) {
            let head = records::Head { timestamp_delta: 0, offset_delta: delta };
            let (key, value) = (Some(key), Some(b"v".as_slice()));
            let record = records::Record { head, key, value, headers: b"", bytes: b"" };
            rows.push(&record, delta, 7, Index(1));
        }
        rows.sort();
        rows.place(AREA, Offset(100));
        let found: Vec<_> = rows.iter().map(|(key, _)| key.to_vec()).collect();
        assert!(found.is_sorted());
        let mut expected: Vec<_> =
            (100..).zip(keys).map(|(offset, key)| row_key(AREA, key, Offset(offset))).collect();
        expected.sort();
        assert_eq!(found, expected);
        assert!(rows.iter().all(|(_, value)| RowValue::decode(value).is_some()));
    }

    #[test]
    fn long_keys_differ_beyond_what_rows_hold() {
        let (mut a, mut b) = (vec![7; KEY_BYTES_MAX + 1], vec![7; KEY_BYTES_MAX + 1]);
        (a[KEY_BYTES_MAX], b[KEY_BYTES_MAX]) = (1, 2);
        let rows = (row_key(AREA, &a, Offset(1)), row_key(AREA, &b, Offset(1)));
        assert_ne!(rows.0, rows.1);
        assert_eq!(RowKey::decode(&rows.0).and_then(RowKey::key), None);
        let (start, end) = rows_with(AREA, &a);
        assert!(start <= rows.0 && rows.0 < end);
    }

    #[test]
    fn marks_come_back() {
        for mark in [Mark::Superseded, Mark::Tombstone(77), Mark::Empty] {
            assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        }
        assert_eq!(marked_offset(&mark_key(AREA, Offset(9))), Some(Offset(9)));
        assert!(mark_key(AREA, Offset(i64::MAX)) < rows_of(AREA, b""));
    }
}
