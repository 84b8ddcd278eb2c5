//! Cleaning: the next entries become settled batches without the records that later ones supersede, and settled batches lose
//! those that have been superseded since.
//!
//! Which records are superseded the key index says: the newest row of a record's key below the bound is another one's. So
//! what a step costs follows from what it reads, never from how many keys there are. Keys are noted ahead, and what was looked up is
//! remembered, within a bound (`newer.rs`), so that few of them must be looked up.
//!
//! - *Settling* reads entries in order. A record whose key has a newer one below the bound loses its row and does not become
//!   settled. One that is the newest does; an older one of its key that is settled already loses its row and is *marked*.
//! - *Sweeping* goes through the marks in the order of offsets and writes the batches they lie in without the records.
//!
//! A step is one batch of RocksDB, so a crash leaves it done or not begun, and what comes back is consistent either way.
//!
//! Invariants:
//! - A record is only taken away when a newer one of its key lies below the bound, or it is a tombstone whose time is over and
//!   nothing older of its key is left.
//! - Base offset, last offset, epoch, producer, codec and the records that stay are as they were.
//! - Every settled record that has no row has a mark.
//!
//! Sources: Kafka's log compaction (documentation, "Log Compaction"), KIP-58, KIP-354.

mod settle;
mod sweep;

use super::lookup::readiness;
use super::newer::Newer;
use super::{CleanRules, CleanStep, Cleanliness, KeyIndex};
use crate::keys::Area;
use crate::log::PartitionLog;
use crate::rows::TableRow;
use crate::{Error, Index, Offset, Result};

pub(crate) use sweep::Sweep;

/// Bytes that a step writes, about: appends wait behind it for so long.
const WRITTEN_BYTES: usize = 512 << 10;

impl CleanRules {
    /// When a tombstone that is settled now may go.
    fn horizon(&self) -> i64 {
        self.now_ms.saturating_add(self.delete_retention_ms.max(0))
    }

    /// Whether the batch that ends with `last` stays although it has no records.
    fn keeps(&self, last: Offset) -> bool {
        self.kept.binary_search(&last).is_ok()
    }
}

/// A table as a step finds it.
struct View {
    area: Area,
    epoch: u64,
    table: TableRow,
    log_start: Offset,
    first: Index,
    until: Offset,
}

impl PartitionLog {
    /// How clean the log is up to `until`.
    ///
    /// # Errors
    /// As [`PartitionLog::size`].
    pub fn cleanliness(&self, until: Offset) -> Result<Cleanliness> {
        let extent = self.extent()?;
        let state = self.partition.live()?;
        let (table, floor, end) = (state.table, state.floor(), state.end);
        drop(state);
        let position = if until >= end { extent.end } else { self.position(until)?.1 };
        let oldest = if floor < until { self.oldest_dirty(floor, until)? } else { None };
        Ok(Cleanliness {
            settled_bytes: table.bytes,
            dirty_bytes: position.saturating_sub(extent.start),
            marked: table.marked,
            next_horizon_ms: table.horizon,
            oldest_dirty_ms: oldest.unwrap_or(-1),
        })
    }

    /// The largest timestamp of the first batch from `floor` on. Read once for each `floor`.
    fn oldest_dirty(&self, floor: Offset, until: Offset) -> Result<Option<i64>> {
        let known = self.partition.live()?.oldest_dirty;
        if let Some((_, timestamp)) = known.filter(|(at, _)| *at == floor) {
            return Ok(Some(timestamp));
        }
        let batches = self.read(floor, until, 1)?;
        let timestamp = batches.first().map(|batch| batch.max_timestamp);
        self.partition.live()?.oldest_dirty = timestamp.map(|timestamp| (floor, timestamp));
        Ok(timestamp)
    }

    /// Cleans a little more, durable on return: the next part of what is not settled, and once all is, the settled records
    /// that are superseded. To be called again until [`CleanStep::is_finished`]. Reads the disk.
    ///
    /// # Errors
    /// [`crate::Error::NotKeyed`] unless [`KeyIndex::Ready`]; as [`PartitionLog::read`].
    pub fn clean(&self, rules: &CleanRules) -> Result<CleanStep> {
        self.check_open()?;
        let _maintaining = self.partition.maintaining.lock();
        let state = self.partition.live()?;
        if readiness(&state.table, state.log_start) != KeyIndex::Ready {
            return Err(Error::NotKeyed(self.id()));
        }
        let view = View {
            area: state.area(self.id()),
            epoch: state.table_epoch,
            table: state.table,
            log_start: state.log_start,
            first: state.first,
            until: rules.until.min(state.end),
        };
        let unwritten = state.tail.first_offset_behind(state.written_seq);
        drop(state);
        if unwritten.is_some_and(|unwritten| unwritten < view.until) {
            self.barrier()?;
        }
        // What is known is put back only behind a step that has been written.
        let known = std::mem::take(&mut *self.handle.core.newer.lock());
        let mut newer = known.of(&self.partition, view.epoch, view.until);
        let step = self.next_step(&view, rules, &mut newer)?;
        *self.handle.core.newer.lock() = newer;
        Ok(step)
    }

    fn next_step(&self, view: &View, rules: &CleanRules, newer: &mut Newer) -> Result<CleanStep> {
        if view.table.settled < view.until
            && let Some(step) = self.settle_more(view, rules, newer)?
        {
            return Ok(step);
        }
        // Nothing is left to be settled.
        newer.forget_if_full();
        self.sweep(view, rules, newer)
    }
}
