//! The writer's part of a relocation: entries and directory row move in one batch.
//!
//! Invariant: readers see the new place only once RocksDB has the entries there, and a read that began before
//! starts over.

use rocksdb::WriteBatch;

use super::Writer;
use crate::Result;
use crate::keys;
use crate::keys::BucketId;
use crate::partition::Partition;
use crate::relocate::Piece;
use crate::rows::{self, Segment};

impl Writer<'_> {
    /// Moves a piece, unless its segment has changed since it was read. Not part of any other batch: the
    /// segments are changed behind it.
    pub(super) fn relocate(&mut self, partition: &Partition, piece: &Piece) -> Result<()> {
        let mut segments = partition.segments.lock().clone();
        let Some(at) = still_there(&segments, piece) else { return Ok(()) };
        let mut batch = WriteBatch::default();
        let bytes: usize = piece.records.iter().map(|record| record.value.len()).sum();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let class = partition.class();
        let target = self.core.buckets.lock().target(class, bytes, self.db, &mut batch);
        let (bucket, closed) = target?;
        let first = piece.records[0].index;
        let family = self.family(partition, bucket, first)?;
        for record in &piece.records {
            batch.put_cf(&family, keys::data(partition.id, record.index), &record.value);
        }
        self.switch(partition, &mut segments, at, bucket, piece, &mut batch);
        fail::fail_point!("engine-relocate-before", |_| Err(crate::Error::Closed));
        self.db.write(batch)?;
        fail::fail_point!("engine-relocate-after", |_| Err(crate::Error::Closed));
        self.bucket = None;
        *partition.segments.lock() = segments;
        partition.state.lock().generation += 1;
        closed.map_or(Ok(()), |id| self.db.flush_bucket(id))
    }

    /// Lets the piece's part of `segments[at]` begin in `bucket`.
    fn switch(
        &self,
        partition: &Partition,
        segments: &mut Vec<Segment>,
        at: usize,
        bucket: BucketId,
        piece: &Piece,
        batch: &mut WriteBatch,
    ) {
        let record = &piece.records[0];
        let moved = Segment {
            first: record.index,
            bucket,
            first_offset: record.base_offset,
            position: record.position,
        };
        batch.delete_cf(&self.meta, keys::directory(partition.id, segments[at].first));
        let continues = at.checked_sub(1).is_some_and(|before| segments[before].bucket == bucket);
        let new = (!continues).then_some(moved).into_iter().chain(piece.rest);
        for segment in new.clone() {
            let key = keys::directory(partition.id, segment.first);
            batch.put_cf(&self.meta, key, rows::segment(&segment));
        }
        segments.splice(at..=at, new);
    }
}

/// The segment that holds the whole piece.
fn still_there(segments: &[Segment], piece: &Piece) -> Option<usize> {
    let (first, last) = (piece.records.first()?.index, piece.records.last()?.index);
    let at = segments.partition_point(|segment| segment.first <= first).checked_sub(1)?;
    let next = segments.get(at + 1).map(|next| next.first);
    let ends = match piece.rest {
        Some(rest) => next.is_none_or(|next| rest.first < next),
        None => next.is_none_or(|next| next.0 == last.0 + 1),
    };
    (segments[at].bucket == piece.source && ends).then_some(at)
}
