//! The values of the rows in `meta`, each behind a version byte. `docs/storage-format.md` draws them.
//!
//! Invariant: bytes from the disk never panic here; what does not decode is `None`.

use crate::keys::BucketId;
use crate::{Epoch, Index, LogId, Offset, RetentionClass, Term};

const VERSION: u8 = 1;

/// What stage of its life a bucket is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BucketState {
    /// Takes appends.
    Active,
    /// Read only.
    Closed,
    /// Its column family is being dropped.
    Dropping,
}

/// A bucket's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BucketRow {
    pub(crate) state: BucketState,
    pub(crate) created_ms: u64,
    pub(crate) bytes: u64,
}

/// Which bucket holds a partition from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first: Index,
    pub(crate) bucket: BucketId,
    pub(crate) first_offset: Offset,
    /// Bytes of all batches before it.
    pub(crate) position: u64,
}

/// One row of a partition's sparse index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SparseRow {
    /// Base offset of the batch.
    pub(crate) offset: Offset,
    /// Its index.
    pub(crate) index: Index,
    /// At least the largest timestamp of all batches before it.
    pub(crate) max_timestamp_before: i64,
    /// Bytes of all batches before it.
    pub(crate) position: u64,
}

/// Where the purged part of a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PurgedRow {
    pub(crate) purged: LogId,
    pub(crate) next_offset: Offset,
    /// Bytes of all batches up to its end.
    pub(crate) position: u64,
}

/// What a log is as a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableRow {
    /// Whether new records are entered into the key index.
    pub(crate) keyed: bool,
    /// Whether batches of another replica are being staged, in the area behind this one.
    pub(crate) staging: bool,
    /// Which area is its own.
    pub(crate) area: u32,
    /// Records from here on were entered with their batches.
    pub(crate) index_from: Offset,
    /// Records below this one have been entered since.
    pub(crate) built_to: Offset,
    /// The last Raft entry that is settled; it means something only if `settled` is not 0.
    pub(crate) settled_upto: LogId,
    /// What is below is settled.
    pub(crate) settled: Offset,
    /// Bytes of all batches before that, also those that are gone.
    pub(crate) position: u64,
    /// Bytes of the settled batches.
    pub(crate) bytes: u64,
    /// At least the largest timestamp of them.
    pub(crate) max_timestamp: i64,
    /// Marks on settled records.
    pub(crate) marked: u64,
    /// When the first tombstone of them may go, ms.
    pub(crate) horizon: i64,
    /// Everything below this offset is staged; negative when it is not.
    pub(crate) staged: Offset,
    /// Bytes of the staged batches.
    pub(crate) staged_bytes: u64,
}

impl Default for TableRow {
    fn default() -> Self {
        Self {
            keyed: false,
            staging: false,
            area: 0,
            index_from: Offset(0),
            built_to: Offset(0),
            settled_upto: LogId { term: Term(0), index: Index(0) },
            settled: Offset(0),
            position: 0,
            bytes: 0,
            max_timestamp: -1,
            marked: 0,
            horizon: i64::MAX,
            staged: Offset(-1),
            staged_bytes: 0,
        }
    }
}

/// The row of a table.
pub(crate) fn table(row: &TableRow) -> Vec<u8> {
    join([
        u64::from(row.keyed) | u64::from(row.staging) << 1,
        u64::from(row.area),
        row.index_from.0.cast_unsigned(),
        row.built_to.0.cast_unsigned(),
        row.settled_upto.term.0,
        row.settled_upto.index.0,
        row.settled.0.cast_unsigned(),
        row.position,
        row.bytes,
        row.max_timestamp.cast_unsigned(),
        row.marked,
        row.horizon.cast_unsigned(),
        row.staged.0.cast_unsigned(),
        row.staged_bytes,
    ])
}

/// Decodes [`table`].
pub(crate) fn decode_table(value: &[u8]) -> Option<TableRow> {
    let words: [u64; 14] = words(value)?;
    let [flags, area, index_from, built_to, term, index, settled, position, rest @ ..] = words;
    let [bytes, max_timestamp, marked, horizon, staged, staged_bytes] = rest;
    let offset = |word: u64| Offset(word.cast_signed());
    Some(TableRow {
        keyed: flags & 1 != 0,
        staging: flags & 2 != 0,
        area: u32::try_from(area).ok()?,
        index_from: offset(index_from),
        built_to: offset(built_to),
        settled_upto: LogId { term: Term(term), index: Index(index) },
        settled: offset(settled),
        position,
        bytes,
        max_timestamp: max_timestamp.cast_signed(),
        marked,
        horizon: horizon.cast_signed(),
        staged: offset(staged),
        staged_bytes,
    })
}

/// A row that is bytes of the caller's.
pub(crate) fn opaque(bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + bytes.len());
    value.push(VERSION);
    value.extend_from_slice(bytes);
    value
}

/// The caller's bytes in a row made by [`opaque`].
pub(crate) fn decode_opaque(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(&[VERSION])
}

/// The row of a partition, and the number of the replica whose log it is.
pub(crate) fn partition(class: RetentionClass, replica: u32) -> Vec<u8> {
    let mut value = vec![VERSION, class.0];
    if replica != 0 {
        value.extend_from_slice(&replica.to_be_bytes());
    }
    value
}

/// Decodes [`partition`].
pub(crate) fn decode_partition(value: &[u8]) -> Option<(RetentionClass, u32)> {
    match value {
        [VERSION, class] => Some((RetentionClass(*class), 0)),
        [VERSION, class, replica @ ..] => {
            let replica = u32::from_be_bytes(replica.try_into().ok()?);
            Some((RetentionClass(*class), replica))
        }
        _ => None,
    }
}

/// The row of a log start offset.
pub(crate) fn offset(offset: Offset) -> Vec<u8> {
    opaque(&offset.0.to_be_bytes())
}

/// Decodes [`offset`].
pub(crate) fn decode_offset(value: &[u8]) -> Option<Offset> {
    let [offset] = words(value)?;
    Some(Offset(offset.cast_signed()))
}

/// The row of a purge.
pub(crate) fn purged(row: &PurgedRow) -> Vec<u8> {
    let next_offset = row.next_offset.0.cast_unsigned();
    join([row.purged.term.0, row.purged.index.0, next_offset, row.position])
}

/// Decodes [`purged`].
pub(crate) fn decode_purged(value: &[u8]) -> Option<PurgedRow> {
    let [term, index, offset, position] = words(value)?;
    let purged = LogId { term: Term(term), index: Index(index) };
    Some(PurgedRow { purged, next_offset: Offset(offset.cast_signed()), position })
}

/// The row of a term's beginning.
pub(crate) fn epoch(epoch: &Epoch) -> Vec<u8> {
    join([epoch.first_index.0, epoch.start_offset.0.cast_unsigned()])
}

/// Decodes [`epoch`] of `term`.
pub(crate) fn decode_epoch(term: Term, value: &[u8]) -> Option<Epoch> {
    let [first, start] = words(value)?;
    Some(Epoch { term, first_index: Index(first), start_offset: Offset(start.cast_signed()) })
}

/// The row of a directory segment.
pub(crate) fn segment(segment: &Segment) -> Vec<u8> {
    let class = u64::from(segment.bucket.class.0);
    let first_offset = segment.first_offset.0.cast_unsigned();
    join([class, segment.bucket.seq, first_offset, segment.position])
}

/// Decodes [`segment`] that begins at `first`.
pub(crate) fn decode_segment(first: Index, value: &[u8]) -> Option<Segment> {
    let [class, seq, offset, position] = words(value)?;
    let class = RetentionClass(u8::try_from(class).ok()?);
    let first_offset = Offset(offset.cast_signed());
    Some(Segment { first, bucket: BucketId { seq, class }, first_offset, position })
}

/// A row of the sparse index.
pub(crate) fn sparse(row: &SparseRow) -> Vec<u8> {
    join([row.index.0, row.max_timestamp_before.cast_unsigned(), row.position])
}

/// Decodes [`sparse`] of the batch at `offset`.
pub(crate) fn decode_sparse(offset: u64, value: &[u8]) -> Option<SparseRow> {
    let [index, timestamp, position] = words(value)?;
    Some(SparseRow {
        offset: Offset(offset.cast_signed()),
        index: Index(index),
        max_timestamp_before: timestamp.cast_signed(),
        position,
    })
}

/// A bucket's row.
pub(crate) fn bucket(row: &BucketRow) -> Vec<u8> {
    let state = match row.state {
        BucketState::Active => 1,
        BucketState::Closed => 2,
        BucketState::Dropping => 3,
    };
    join([state, row.created_ms, row.bytes])
}

/// Decodes [`bucket`].
pub(crate) fn decode_bucket(value: &[u8]) -> Option<BucketRow> {
    let [state, created_ms, bytes] = words(value)?;
    let state = match state {
        1 => BucketState::Active,
        2 => BucketState::Closed,
        3 => BucketState::Dropping,
        _ => return None,
    };
    Some(BucketRow { state, created_ms, bytes })
}

fn join<const N: usize>(words: [u64; N]) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + 8 * N);
    value.push(VERSION);
    for word in words {
        value.extend_from_slice(&word.to_be_bytes());
    }
    value
}

fn words<const N: usize>(value: &[u8]) -> Option<[u64; N]> {
    let bytes = value.strip_prefix(&[VERSION])?;
    if bytes.len() != 8 * N {
        return None;
    }
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_be_bytes(chunk.try_into().ok()?);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::keys;

    /// Every decoder of a row; how many took the bytes.
    fn decode_all(position: u64, value: &[u8]) -> usize {
        [
            decode_opaque(value).is_some(),
            decode_partition(value).is_some(),
            decode_offset(value).is_some(),
            decode_purged(value).is_some(),
            decode_epoch(Term(position), value).is_some(),
            decode_segment(Index(position), value).is_some(),
            decode_sparse(position, value).is_some(),
            decode_bucket(value).is_some(),
            decode_table(value).is_some(),
        ]
        .iter()
        .filter(|decoded| **decoded)
        .count()
    }

    proptest! {
        #[test]
        fn arbitrary_rows_never_panic(
            position: u64,
            value in proptest::collection::vec(any::<u8>(), 0..40),
            versioned: bool,
        ) {
            let mut value = value;
            if let (true, Some(first)) = (versioned, value.first_mut()) {
                *first = VERSION;
            }
            let taken = decode_all(position, &value);
            prop_assert!(taken == 0 || value.first() == Some(&VERSION), "another version was taken");
        }

        #[test]
        fn arbitrary_keys_never_panic(key in proptest::collection::vec(any::<u8>(), 0..30)) {
            let id = keys::partition(&key).unwrap_or_default();
            let _ = (keys::position(&key), keys::bucket_id(&key), keys::data_index(id, &key));
            let _ = keys::BucketId::from_family(&String::from_utf8_lossy(&key));
        }

        #[test]
        fn rows_come_back(first: u64, seq: u64, class: u8, offset: i64, time: i64, term: u64) {
            let bucket_id = BucketId { seq, class: RetentionClass(class) };
            let first_offset = Offset(offset);
            let row = Segment { first: Index(first), bucket: bucket_id, first_offset, position: term };
            prop_assert_eq!(decode_segment(Index(first), &segment(&row)), Some(row));
            let (index, position) = (Index(first), seq);
            let row = SparseRow { offset: first_offset, index, max_timestamp_before: time, position };
            prop_assert_eq!(decode_sparse(offset.cast_unsigned(), &sparse(&row)), Some(row));
            let id = LogId { term: Term(term), index: Index(first) };
            let row = PurgedRow { purged: id, next_offset: first_offset, position };
            prop_assert_eq!(decode_purged(&purged(&row)), Some(row));
            let row = Epoch { term: Term(term), first_index: Index(first), start_offset: Offset(offset) };
            prop_assert_eq!(decode_epoch(Term(term), &epoch(&row)), Some(row));
            let replica = (seq & 0xffff_ffff) as u32;
            let row = (RetentionClass(class), replica);
            prop_assert_eq!(decode_partition(&partition(row.0, row.1)), Some(row));
            let (offset, bytes) = (first_offset, first);
            let row = TableRow { keyed: true, area: 7, built_to: offset, bytes, ..TableRow::default() };
            prop_assert_eq!(decode_table(&table(&row)), Some(row));
            let row = BucketRow { state: BucketState::Closed, created_ms: seq, bytes: first };
            prop_assert_eq!(decode_bucket(&bucket(&row)), Some(row));
        }
    }
}
