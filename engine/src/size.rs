//! How large a log is, and where it would begin by retention: positions in the stream of its bytes.
//!
//! The position of a batch is the sum of the sizes of all batches before it, also of those that are
//! gone. Rows of the sparse index, segments and purges state theirs, so that any position is one row and
//! at most 128 KiB of headers away.
//!
//! Invariant: a position is a function of the log before it; truncation and purging change none that stays.
//!
//! Not here: when retention applies (`server/src/retention.rs`), freeing the space (`space.rs`).

use crate::command::Op;
use crate::log::{self, PartitionLog, SCAN_BYTES};
use crate::read::Want;
use crate::record::RECORD_HEADER_BYTES;
use crate::sparse::SparseIndex;
use crate::state::{Change, Totals};
use crate::table::settled::SettledStart;
use crate::{EntryKind, Index, Offset, Result};

/// How many bytes of batches a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSize {
    /// From the log start to the end.
    pub live_bytes: u64,
    /// From the first entry that still takes space to the end.
    pub stored_bytes: u64,
}

/// The positions between which a log lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Of the batch that holds the log start, or of the first that is not settled.
    pub(crate) start: u64,
    /// Of the next batch.
    pub(crate) end: u64,
    /// Of the first entry that still takes space, if any does.
    stored: Option<u64>,
}

/// Where a purge ends.
pub(crate) struct Boundary {
    pub(crate) generation: u64,
    pub(crate) next_offset: Offset,
    pub(crate) position: u64,
}

impl PartitionLog {
    /// How large the log is, including what is appended and not yet durable. May read the disk the first
    /// time after a start and after the log start has moved.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`], [`crate::Error::Storage`], [`crate::Error::Deleted`].
    pub fn size(&self) -> Result<LogSize> {
        let Extent { start, end, stored } = self.extent()?;
        let settled = {
            let state = self.partition.live()?;
            if state.log_start < state.table.settled { state.table.bytes } else { 0 }
        };
        let behind = end.saturating_sub(start);
        let stored_bytes = stored.map_or(0, |stored| end.saturating_sub(stored)).max(behind);
        Ok(LogSize { live_bytes: settled + behind, stored_bytes: settled + stored_bytes })
    }

    /// The positions between which the log lies.
    pub(crate) fn extent(&self) -> Result<Extent> {
        loop {
            self.totals()?;
            let stored = self.partition.segments.lock().first().map(|first| first.position);
            let state = self.partition.live()?;
            let Some(totals) = state.totals() else { continue };
            if let Some(start) = state.start_position {
                return Ok(Extent { start, end: totals.position, stored });
            }
            let start = state.floor();
            drop(state);
            let (generation, position) = self.position(start)?;
            let mut state = self.partition.live()?;
            if state.generation == generation && state.floor() == start {
                state.start_position = Some(position);
            }
        }
    }

    /// The largest offset up to `until` before which everything is older than `expired_before_ms`, if that is
    /// behind the log start: `until` itself, or one that begins about 128 KiB. Batches without a
    /// timestamp do not expire.
    ///
    /// # Errors
    /// As [`PartitionLog::size`].
    pub fn start_by_time(&self, expired_before_ms: i64, until: Offset) -> Result<Option<Offset>> {
        let expired = |timestamp: i64| (0..expired_before_ms).contains(&timestamp);
        let settled = match self.settled_start(until, |head| expired(head.max_timestamp))? {
            SettledStart::Within(start) => return Ok(start),
            SettledStart::Behind(end) => end,
        };
        if expired(self.totals()?.max_timestamp) {
            let log_start = self.partition.live()?.log_start;
            return Ok((until > log_start).then_some(until));
        }
        let row = self.last_row(until, |row| row.max_timestamp_before < expired_before_ms)?;
        let row = row.filter(|row| expired(row.max_timestamp_before));
        Ok(row.map(|row| row.offset).or(settled))
    }

    /// The largest offset up to `until` from which at least `kept_bytes` are left, if that is behind the log
    /// start; it begins about 128 KiB.
    ///
    /// # Errors
    /// As [`PartitionLog::size`].
    pub fn start_by_size(&self, kept_bytes: u64, until: Offset) -> Result<Option<Offset>> {
        self.trim_settled()?;
        let mut excess = self.size()?.live_bytes.saturating_sub(kept_bytes);
        let within = self.settled_start(until, |head| {
            let bytes = u64::try_from(head.payload_bytes).unwrap_or(u64::MAX);
            let goes = bytes <= excess;
            excess = excess.saturating_sub(bytes);
            goes
        })?;
        let settled = match within {
            SettledStart::Within(start) => return Ok(start),
            SettledStart::Behind(end) => end,
        };
        let limit = self.totals()?.position.checked_sub(kept_bytes);
        let Some(limit) = limit else { return Ok(settled) };
        if kept_bytes == 0 {
            let log_start = self.partition.live()?.log_start;
            return Ok((until > log_start).then_some(until));
        }
        let row = self.last_row(until, |row| row.position <= limit)?;
        Ok(row.map(|row| row.offset).or(settled))
    }

    /// The last row of the sparse index behind the log start, up to `until`, for which `holds`.
    fn last_row(
        &self,
        until: Offset,
        holds: impl Fn(&crate::rows::SparseRow) -> bool,
    ) -> Result<Option<crate::rows::SparseRow>> {
        self.settle()?;
        let log_start = self.partition.live()?.floor();
        let db = self.handle.core.read()?;
        let (behind_start, behind_until) = (Offset(log_start.0 + 1), Offset(until.0 + 1));
        let mut index = SparseIndex::new(&db, self.id());
        // Nearly always nothing has expired, which the first row tells.
        if !index.ceiling(behind_start)?.is_some_and(|row| holds(&row)) {
            return Ok(None);
        }
        let row = index.last_where(behind_start, behind_until, holds)?;
        Ok(row.filter(|row| row.offset > log_start))
    }

    /// What all entries come to; after a start or a truncation the last 128 KiB are looked at first.
    pub(crate) fn totals(&self) -> Result<Totals> {
        loop {
            if let Some(totals) = self.partition.live()?.totals() {
                return Ok(totals);
            }
            self.settle()?;
            let state = self.partition.live()?;
            let (generation, end, log_start) = (state.generation, state.end, state.log_start);
            drop(state);
            let (index, position, max_timestamp) = self.row_before(generation, end)?;
            let mut totals = Totals { max_timestamp, position, since_row: 0 };
            let walked = self.walk(generation, SCAN_BYTES).run(index, Index(u64::MAX), |head| {
                totals.since_row += RECORD_HEADER_BYTES + head.payload_bytes;
                if head.kind == EntryKind::Batch {
                    totals.position += u64::try_from(head.payload_bytes).unwrap_or(0);
                    if head.next_offset() > log_start {
                        totals.max_timestamp = totals.max_timestamp.max(head.max_timestamp);
                    }
                }
                Want::Skip
            })?;
            let mut state = self.partition.live()?;
            if walked.is_some() && state.generation == generation {
                state.set_totals(totals);
            }
        }
    }

    /// The generation, and the position of the batch that holds `offset`.
    pub(crate) fn position(&self, offset: Offset) -> Result<(u64, u64)> {
        loop {
            self.settle()?;
            let generation = self.partition.live()?.generation;
            let (index, mut position, _) = self.row_before(generation, offset)?;
            let walked = self.walk(generation, SCAN_BYTES).run(index, Index(u64::MAX), |head| {
                if head.next_offset() > offset {
                    return Want::Stop;
                }
                if head.kind == EntryKind::Batch {
                    position += u64::try_from(head.payload_bytes).unwrap_or(0);
                }
                Want::Skip
            })?;
            if walked.is_some() {
                return Ok((generation, position));
            }
        }
    }

    /// The generation, and the index of the first entry that ends behind `offset`; the index behind the last
    /// entry when there is none.
    pub(crate) fn index_of(&self, offset: Offset) -> Result<(u64, Index)> {
        loop {
            self.settle()?;
            let state = self.partition.live()?;
            let (generation, next) = (state.generation, state.next_index());
            drop(state);
            let (start, _, _) = self.row_before(generation, offset)?;
            let mut found = next;
            let walked = self.walk(generation, SCAN_BYTES).run(start, next, |head| {
                if head.next_offset() > offset {
                    found = head.index;
                    return Want::Stop;
                }
                Want::Skip
            })?;
            if walked.is_some() {
                return Ok((generation, found));
            }
        }
    }

    /// Index, position and largest timestamp before the last row of the sparse index at or below `offset`, else
    /// those of the first entry.
    fn row_before(&self, generation: u64, offset: Offset) -> Result<(Index, u64, i64)> {
        let row = {
            let db = self.handle.core.read()?;
            SparseIndex::new(&db, self.id()).floor(offset)?
        };
        let state = self.partition.live()?;
        let row = row.filter(|row| row.index >= state.first && state.generation == generation);
        Ok(match row {
            Some(row) => (row.index, row.position, row.max_timestamp_before),
            None => (state.first, state.purged_position(), -1),
        })
    }

    /// The end of a purge up to `upto`. At a segment's beginning it is known without reading.
    pub(crate) fn boundary(&self, upto: Index) -> Result<Boundary> {
        let next = upto.0.saturating_add(1);
        loop {
            let segments = self.partition.segments.lock().clone();
            let begins = segments.into_iter().find(|segment| segment.first.0 == next);
            let (generation, head) = match begins {
                Some(_) => (self.partition.live()?.generation, None),
                None => self.head(Some(upto))?,
            };
            let (next_offset, position) = match (begins, head) {
                (Some(segment), _) => (segment.first_offset, segment.position),
                (None, Some(head)) => (head.next_offset(), self.position(head.next_offset())?.1),
                (None, None) => {
                    let position = self.totals()?.position;
                    (self.partition.live()?.end, position)
                }
            };
            if self.partition.live()?.generation == generation {
                return Ok(Boundary { generation, next_offset, position });
            }
        }
    }

    /// Waits until no row of the sparse index is left that a truncation takes away.
    pub(crate) fn settle(&self) -> Result<()> {
        if self.partition.live()?.has_stale_rows() { self.barrier() } else { Ok(()) }
    }

    /// Waits until everything that was asked for before is durable.
    pub(crate) fn barrier(&self) -> Result<()> {
        log::wait(|done| {
            self.handle.core.submit(&self.partition, 0, Some(done), |state| {
                let seq = state.next_seq();
                Ok(Some(Change { op: Op::Barrier, seq, cached: 0, freed: 0 }))
            })
        })
    }
}
