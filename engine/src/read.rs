//! Reading a log: from the tail cache where it holds the start, from RocksDB before that.
//!
//! Invariants:
//! - A read is one state of the log: when a truncation, purge, reset or deletion crosses it, it starts over.
//! - Iterators live for one read and are bounded on both sides.
//! - No lock of the partition is held while the disk is read.
//!
//! Not here: where a read best begins and ends (`sparse.rs`).

use bytes::Bytes;
use rocksdb::{DBRawIterator, ReadOptions};

use crate::batch::HEADER_BYTES;
use crate::core::Core;
use crate::db::{Db, unreadable};
use crate::keys;
use crate::partition::Partition;
use crate::record::{self, Head, RECORD_HEADER_BYTES};
use crate::rows::Segment;
use crate::{Entry, EntryKind, Error, Index, PayloadPart, Result};

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Go on to the next.
    Skip,
    /// Return it, with this much of its payload.
    Take(PayloadPart),
    /// Return it, and look at nothing behind it.
    Last(PayloadPart),
    /// Return what was taken.
    Stop,
}

/// The most that is read from a table at once, beside the block that is asked for.
const READ_AT_ONCE_MAX: usize = 1 << 20;

/// One read of one log.
pub(crate) struct Walk<'a> {
    pub(crate) core: &'a Core,
    pub(crate) partition: &'a Partition,
    /// The generation in which `start` was found.
    pub(crate) generation: u64,
    /// What the read is likely to take: as much is read from a table at once behind the block that is asked for, up to
    /// the read's end.
    pub(crate) bytes: usize,
}

/// Whether a read goes on behind what it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    More,
    Enough,
}

impl Walk<'_> {
    /// Offers the entries `start..end` to `want` and returns those it takes; `None` when the log
    /// changed under the read, which then starts over.
    pub(crate) fn run(
        &self,
        start: Index,
        end: Index,
        mut want: impl FnMut(&Head) -> Want,
    ) -> Result<Option<Vec<Entry>>> {
        let mut taken = Vec::new();
        let mut at = start;
        loop {
            let state = self.partition.live()?;
            if state.generation != self.generation {
                return Ok(None);
            }
            let end = end.min(state.next_index());
            at = at.max(state.first);
            if at >= end {
                return Ok(Some(taken));
            }
            if let Some(entries) = state.tail.iter_from(at) {
                collect_cached(
                    entries.take_while(|entry| entry.index < end),
                    &mut want,
                    &mut taken,
                );
                return Ok(Some(taken));
            }
            let disk_end = state.tail.first().unwrap_or(end).min(end);
            drop(state);
            let next = self.disk(at, disk_end, &mut want, &mut taken);
            if self.partition.live()?.generation != self.generation {
                return Ok(None);
            }
            match next {
                Ok(Next::More) => {}
                Ok(Next::Enough) => return Ok(Some(taken)),
                Err(error @ Error::Corrupt { .. }) => {
                    self.core.corrupt_reads.note(&error);
                    // What lies before the damage is whole; the next read begins at it.
                    return if taken.is_empty() { Err(error) } else { Ok(Some(taken)) };
                }
                Err(error) => return Err(error),
            }
            at = disk_end;
        }
    }

    fn disk(
        &self,
        start: Index,
        end: Index,
        want: &mut impl FnMut(&Head) -> Want,
        taken: &mut Vec<Entry>,
    ) -> Result<Next> {
        let db = self.core.read()?;
        let mut at = start;
        for (segment, from, to) in self.partition.parts(start, end) {
            if from != at {
                return Err(self.partition.corrupt(at, "directory (gap)"));
            }
            if self.segment(&db, &segment, from..to, want, taken)? == Next::Enough {
                return Ok(Next::Enough);
            }
            at = to;
        }
        if at == end { Ok(Next::More) } else { Err(self.partition.corrupt(at, "directory (end)")) }
    }

    fn segment(
        &self,
        db: &Db,
        segment: &Segment,
        range: std::ops::Range<Index>,
        want: &mut impl FnMut(&Head) -> Want,
        taken: &mut Vec<Entry>,
    ) -> Result<Next> {
        let id = self.partition.id;
        let mut iterator = self.iterator(db, segment, &range)?;
        for index in range.start.0..range.end.0 {
            let index = Index(index);
            let Some((key, value)) = iterator.item() else {
                iterator.status().map_err(unreadable(id, index))?;
                return Err(self.partition.corrupt(index, "entry (missing)"));
            };
            if keys::data_index(id, key) != Some(index) {
                return Err(self.partition.corrupt(index, "entry (missing)"));
            }
            let head = record::decode(id, index, value).map_err(|what| {
                let what = format!("{what} in {}", segment.bucket.family());
                self.partition.corrupt(index, what)
            })?;
            let wanted = want(&head);
            match wanted {
                Want::Skip => {}
                Want::Take(part) | Want::Last(part) => {
                    let payload = value.get(RECORD_HEADER_BYTES..).unwrap_or_default();
                    let kept = &payload[..kept_bytes(&head, part)];
                    taken.push(head.entry(Bytes::copy_from_slice(kept)));
                }
                Want::Stop => {}
            }
            if matches!(wanted, Want::Last(_) | Want::Stop) {
                return Ok(Next::Enough);
            }
            iterator.next();
        }
        Ok(Next::More)
    }

    pub(crate) fn iterator<'db>(
        &self,
        db: &'db Db,
        segment: &Segment,
        range: &std::ops::Range<Index>,
    ) -> Result<DBRawIterator<'db>> {
        let id = self.partition.id;
        let missing = || self.partition.corrupt(range.start, "bucket (missing)");
        let family = db.bucket(segment.bucket).ok_or_else(missing)?;
        let start = keys::data(id, range.start);
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(start);
        options.set_iterate_upper_bound(keys::data(id, range.end));
        options.set_prefix_same_as_start(true);
        options.set_verify_checksums(true);
        // One read for all blocks of the run, which ends with the bound above.
        options.set_readahead_size(self.bytes.min(READ_AT_ONCE_MAX));
        options.set_auto_readahead_size(true);
        options.set_background_purge_on_iterator_cleanup(true);
        let mut iterator = db.raw().raw_iterator_cf_opt(&family, options);
        iterator.seek(start);
        Ok(iterator)
    }
}

fn collect_cached<'e>(
    entries: impl Iterator<Item = &'e Entry>,
    want: &mut impl FnMut(&Head) -> Want,
    taken: &mut Vec<Entry>,
) {
    for entry in entries {
        let head = Head::of(entry);
        let wanted = want(&head);
        match wanted {
            Want::Skip | Want::Stop => {}
            Want::Take(part) | Want::Last(part) => {
                taken.push(head.entry(entry.payload.slice(..kept_bytes(&head, part))));
            }
        }
        if matches!(wanted, Want::Last(_) | Want::Stop) {
            return;
        }
    }
}

pub(crate) fn kept_bytes(head: &Head, part: PayloadPart) -> usize {
    match part {
        PayloadPart::Header if head.kind == EntryKind::Batch => {
            HEADER_BYTES.min(head.payload_bytes)
        }
        PayloadPart::Header | PayloadPart::Full => head.payload_bytes,
    }
}
