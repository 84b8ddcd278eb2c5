//! Finding a partition's log on disk: rows of `meta`, and one seek to its last entry.
//!
//! Invariant: the work is the same for a log of a terabyte and an empty one.

use bytes::Bytes;
use rocksdb::{Direction, IteratorMode, ReadOptions};

use crate::batch;
use crate::db::{Db, failed, unreadable};
use crate::keys::{self, Tag};
use crate::record::{self, Head, RECORD_HEADER_BYTES};
use crate::rows::{self, PurgedRow, Segment};
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
    Ok(Found { purged, log_start, epochs, vote, committed, first, last, segments })
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

/// The last entry from `first_kept` on, looked for from the newest segment backwards.
fn last_entry(
    db: &Db,
    id: PartitionId,
    segments: &[Segment],
    first_kept: Index,
) -> Result<Option<Head>> {
    for (at, segment) in segments.iter().enumerate().rev() {
        let family = db
            .bucket(segment.bucket)
            .ok_or_else(|| corrupt(id, segment.first, "bucket (missing)"))?;
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(keys::data(id, first_kept.max(segment.first)));
        // Behind it the bucket may hold what was copied from elsewhere, or another segment.
        match segments.get(at + 1) {
            Some(next) => options.set_iterate_upper_bound(keys::data(id, next.first)),
            None => options.set_iterate_upper_bound(keys::data_end(id)),
        }
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
