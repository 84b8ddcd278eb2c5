//! Finding a partition's log on disk: rows of `meta`, and the entries behind the last row of its offset index.
//!
//! Invariants:
//! - The work is the same for a log of a terabyte and an empty one.
//! - The offset index says where to begin to look for the last entry, not which one it is: a row that is
//!   missing or names an entry that is not there costs time only.

use bytes::Bytes;
use rocksdb::{Direction, IteratorMode, ReadOptions};

use crate::batch;
use crate::db::{Db, Family, failed, unreadable};
use crate::keys::{self, Tag};
use crate::record::{self, Head, RECORD_HEADER_BYTES};
use crate::rows::{self, PurgedRow, Segment, TableRow};
use crate::sparse::SparseIndex;
use crate::{EntryKind, Epoch, Error, Index, Offset, PartitionId, Result, RetentionClass, Term};

/// What is on disk of a log.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) purged: Option<PurgedRow>,
    pub(crate) log_start: Offset,
    pub(crate) epochs: Vec<Epoch>,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    /// The first entry that can be there, by the directory.
    pub(crate) first: Option<Index>,
    /// The last entry that is not purged.
    pub(crate) last: Option<Head>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) table: Option<TableRow>,
}

/// The partitions that exist, with their classes and the numbers of their replicas.
pub(crate) fn partitions(db: &Db) -> Result<Vec<(PartitionId, RetentionClass, u32)>> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound([Tag::Partition as u8 + 1]);
    let start = [Tag::Partition as u8];
    let mode = IteratorMode::From(&start, Direction::Forward);
    let mut found = Vec::new();
    for item in db.raw().iterator_cf_opt(&db.meta(), options, mode) {
        let (key, value) = item.map_err(failed("reading the partitions"))?;
        let id = keys::partition(&key).unwrap_or_default();
        let (class, replica) =
            rows::decode_partition(&value).ok_or_else(|| corrupt(id, Index(0), "partition row"))?;
        found.push((id, class, replica));
    }
    Ok(found)
}

/// Reads what is on disk of the log `id`.
pub(crate) fn find(db: &Db, id: PartitionId) -> Result<Found> {
    let purged = match db.row(&keys::one(Tag::Purged, id))? {
        Some(value) => {
            Some(rows::decode_purged(&value).ok_or_else(|| corrupt(id, Index(0), "purged row"))?)
        }
        None => None,
    };
    let log_start = match db.row(&keys::one(Tag::LogStart, id))? {
        Some(value) => {
            rows::decode_offset(&value).ok_or_else(|| corrupt(id, Index(0), "log start row"))?
        }
        None => Offset(0),
    };
    let epochs = rows_of(db, id, Tag::Epoch, "epoch row", |term, value| {
        rows::decode_epoch(Term(term), value)
    })?;
    let segments = segments(db, id)?;
    let first_kept = purged.map_or(Index(0), |row| Index(row.purged.index.0.saturating_add(1)));
    let last = last_entry(db, id, &segments, first_kept)?;
    let first = segments.first().map(|segment| segment.first);
    let vote = opaque(db, id, Tag::Vote)?;
    let committed = opaque(db, id, Tag::Committed)?;
    let table = match db.row(&keys::one(Tag::Table, id))? {
        Some(value) => {
            Some(rows::decode_table(&value).ok_or_else(|| corrupt(id, Index(0), "table row"))?)
        }
        None => None,
    };
    Ok(Found { purged, log_start, epochs, vote, committed, first, last, segments, table })
}

/// The directory rows of a log.
pub(crate) fn segments(db: &Db, id: PartitionId) -> Result<Vec<Segment>> {
    rows_of(db, id, Tag::Directory, "directory row", |first, value| {
        rows::decode_segment(Index(first), value)
    })
}

/// A row of the caller's bytes.
pub(crate) fn opaque(db: &Db, id: PartitionId, tag: Tag) -> Result<Option<Bytes>> {
    let Some(value) = db.row(&keys::one(tag, id))? else { return Ok(None) };
    let bytes = rows::decode_opaque(&value).ok_or_else(|| corrupt(id, Index(0), "row version"))?;
    Ok(Some(Bytes::copy_from_slice(bytes)))
}

fn rows_of<T>(
    db: &Db,
    id: PartitionId,
    tag: Tag,
    what: &'static str,
    decode: impl Fn(u64, &[u8]) -> Option<T>,
) -> Result<Vec<T>> {
    let (start, end) = keys::all(tag, id);
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(end);
    let mode = IteratorMode::From(&start, Direction::Forward);
    let mut found = Vec::new();
    for item in db.raw().iterator_cf_opt(&db.meta(), options, mode) {
        let (key, value) = item.map_err(failed("reading rows"))?;
        let row = keys::position(&key).and_then(|position| decode(position, &value));
        found.push(row.ok_or_else(|| corrupt(id, Index(0), what))?);
    }
    Ok(found)
}

/// Read at once of a bucket's table: what lies behind the last row of the offset index is little more.
const READ_AT_ONCE: usize = 256 << 10;
/// Where looking forwards is given up: rows of the offset index are missing.
const LOOK_BYTES_MAX: usize = 32 << 20;

/// The last entry from `first_kept` on, looked for from the newest segment backwards.
fn last_entry(
    db: &Db,
    id: PartitionId,
    segments: &[Segment],
    first_kept: Index,
) -> Result<Option<Head>> {
    // If the index cannot be read, whoever reads the log will say so.
    let near = SparseIndex::new(db, id).floor(Offset(i64::MAX)).ok().flatten();
    let near = near.map_or(Index(0), |row| row.index);
    for (at, segment) in segments.iter().enumerate().rev() {
        let family = db
            .bucket(segment.bucket)
            .ok_or_else(|| corrupt(id, segment.first, "bucket (missing)"))?;
        let first = first_kept.max(segment.first);
        // Behind it the bucket may hold what was copied from elsewhere, or another segment.
        let end = match segments.get(at + 1) {
            Some(next) => keys::data(id, next.first).to_vec(),
            None => keys::data_end(id).to_vec(),
        };
        let options = || {
            let mut options = ReadOptions::default();
            options.set_iterate_lower_bound(keys::data(id, first));
            options.set_iterate_upper_bound(end.clone());
            options
        };
        if let Some((index, value)) = last_behind(db, &family, options(), id, near.max(first)) {
            return check_last(id, index, &value).map(Some);
        }
        // Backwards: a block of every table of the bucket is read.
        let mut options = options();
        options.set_total_order_seek(true);
        let mut iterator = db.raw().raw_iterator_cf_opt(&family, options);
        iterator.seek_to_last();
        if let Some((key, value)) = iterator.item() {
            let index =
                keys::data_index(id, key).ok_or_else(|| corrupt(id, segment.first, "data key"))?;
            return check_last(id, index, value).map(Some);
        }
        iterator.status().map_err(unreadable(id, segment.first))?;
    }
    Ok(None)
}

/// The last entry within the bounds of `options`, looked for from `near` on: most tables that hold only what lies
/// before it are not read. `None` when there is none, it is too far, or something on the way cannot be read.
fn last_behind(
    db: &Db,
    family: &Family<'_>,
    mut options: ReadOptions,
    id: PartitionId,
    near: Index,
) -> Option<(Index, Vec<u8>)> {
    options.set_prefix_same_as_start(true);
    options.set_readahead_size(READ_AT_ONCE);
    options.set_auto_readahead_size(true);
    let mut iterator = db.raw().raw_iterator_cf_opt(family, options);
    iterator.seek(keys::data(id, near));
    let (mut last, mut value, mut bytes) = (None, Vec::new(), 0);
    while let Some((key, found)) = iterator.item() {
        bytes += found.len();
        if bytes > LOOK_BYTES_MAX {
            return None;
        }
        last = Some(keys::data_index(id, key)?);
        value.clear();
        value.extend_from_slice(found);
        iterator.next();
    }
    iterator.status().ok()?;
    last.map(|index| (index, value))
}

fn check_last(id: PartitionId, index: Index, value: &[u8]) -> Result<Head> {
    let head = record::decode(id, index, value).map_err(|what| corrupt(id, index, what))?;
    if head.kind == EntryKind::Batch {
        let payload = value.get(RECORD_HEADER_BYTES..).unwrap_or_default();
        batch::verify(payload).map_err(|_| corrupt(id, index, "last batch"))?;
    }
    Ok(head)
}

fn corrupt(partition: PartitionId, index: Index, what: &'static str) -> Error {
    Error::Corrupt { partition, index, what: what.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rocksdb::WriteBatch;

    use super::*;
    use crate::{Engine, NewEntry, Options};

    const ID: PartitionId = PartitionId(7);
    const COUNT: u64 = 300;

    /// What is found of a log of [`COUNT`] entries over several buckets after `change` has been made to its offset index.
    fn found_after(change: impl FnOnce(&mut WriteBatch, &Db)) -> Found {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options {
            cache_bytes_max: 0,
            bucket_bytes_max: 2 << 20,
            memtable_bytes: 1 << 20,
            memtables_bytes_max: 4 << 20,
            ..Options::default()
        };
        let engine = Engine::open(dir.path(), options, Arc::new(|_| ())).expect("it opens");
        let class = RetentionClass::from_retention_ms(-1);
        let neighbours = [PartitionId(6), ID, PartitionId(8)];
        let logs = neighbours.map(|id| engine.log(id, class).expect("it opens"));
        let payload = Bytes::from(batch::tests::batch(1, 20_000));
        let entry = |index| {
            let (index, payload) = (Index(index), payload.clone());
            NewEntry { index, term: Term(1), kind: EntryKind::Batch, payload }
        };
        for first in (0..COUNT).step_by(20) {
            for log in &logs {
                let entries = (first..first + 20).map(entry).collect();
                crate::log::wait(|done| log.append(entries, done)).expect("the disk takes them");
            }
        }
        let db = logs[0].handle.core.read().expect("it is open");
        let mut batch = WriteBatch::default();
        change(&mut batch, &db);
        db.write(batch).expect("the disk takes writes");
        find(&db, ID).expect("the log is whole")
    }

    fn delete_rows(batch: &mut WriteBatch, db: &Db) {
        let (start, end) = keys::all(Tag::Sparse, ID);
        batch.delete_range_cf(&db.meta(), start, end);
    }

    fn row(offset: i64, index: u64) -> (Vec<u8>, Vec<u8>) {
        let (offset, index) = (Offset(offset), Index(index));
        let row = rows::SparseRow { offset, index, max_timestamp_before: 0, position: 0 };
        (keys::sparse(ID, offset), rows::sparse(&row))
    }

    #[test]
    fn the_last_entry_is_found_whatever_the_offset_index_says() {
        let whole = found_after(|_, _| ()).last.expect("there are entries");
        assert_eq!(whole.index, Index(COUNT - 1));
        let missing = found_after(delete_rows);
        assert_eq!(missing.last, Some(whole), "no row");
        for index in [0, 1, COUNT / 2, COUNT - 1, COUNT, COUNT + 1, u64::MAX] {
            let wrong = found_after(|batch, db| {
                delete_rows(batch, db);
                let (key, value) = row(1 << 40, index);
                batch.put_cf(&db.meta(), key, value);
            });
            assert_eq!(wrong.last, Some(whole), "a row that names {index}");
        }
        let garbage = found_after(|batch, db| {
            batch.put_cf(&db.meta(), row(1 << 40, 0).0, b"garbage");
        });
        assert_eq!(garbage.last, Some(whole), "a row that does not decode");
    }
}
