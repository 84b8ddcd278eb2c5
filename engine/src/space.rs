//! Giving space back: which buckets nothing alive lies in, dropping them, and emptying those in which
//! little does.
//!
//! A bucket goes in three steps, each finished at the next start when a crash comes between: its row says
//! `Dropping` (durable, and with it that no directory row names it), its family is dropped, its row goes.
//!
//! Invariants:
//! - A bucket is dropped only when no directory row on disk names it and none ever will: it is closed.
//! - A closed bucket gets no directory row any more: appends and relocation write into the active one.
//!
//! Not here: moving entries (`relocate.rs`), when the log start moves (`server/src/retention.rs`).

use std::collections::{BTreeMap, HashSet};

use rocksdb::{Direction, IteratorMode, ReadOptions};

use crate::bucket::now_ms;
use crate::command::Op;
use crate::db::{Db, failed};
use crate::keys::{self, BucketId, Tag};
use crate::log::PartitionLog;
use crate::rows::{self, BucketRow, BucketState, Segment};
use crate::{Engine, Error, Index, Offset, PartitionId, Result};

/// Entries of a bucket are copied away when they are at most one part in this many of it.
const WORTH_COPYING: u64 = 4;
/// An active bucket without anything alive is closed when it holds this part of what it may.
pub(crate) const WORTH_CLOSING: u64 = 64;

/// How much space all logs take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineSpace {
    /// Bytes of batches that can be read.
    pub live_bytes: u64,
    /// Bytes of the buckets, in tables and in memory.
    pub stored_bytes: u64,
}

/// What a bucket holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    pub(crate) row: BucketRow,
    pub(crate) live_bytes: u64,
    /// Whether everything in it lies below a log start.
    pub(crate) dead: bool,
}

/// One segment of a log with what it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) segment: Segment,
    /// The last entry of it.
    last: Index,
    live_bytes: u64,
    dead: bool,
}

/// Logs with their segments, and the buckets these lie in.
pub(crate) struct Usage {
    pub(crate) logs: Vec<(PartitionLog, Vec<Held>)>,
    pub(crate) buckets: BTreeMap<BucketId, Use>,
    bucket_bytes_max: u64,
    now_ms: u64,
    /// Whether space is so short that no bucket is waited for.
    pressed: bool,
}

impl Usage {
    /// Whether a bucket is to be emptied by purging, and by copying what is alive.
    pub(crate) fn is_freeable(&self, id: BucketId) -> bool {
        let Some(held) = self.buckets.get(&id) else { return false };
        let bytes = held.row.bytes;
        if held.row.state == BucketState::Active {
            return held.dead && bytes >= self.bucket_bytes_max / WORTH_CLOSING;
        }
        held.dead || held.live_bytes == 0 || self.is_worth_copying(id, held)
    }

    /// A bucket of a class is expected to empty itself within the class's time.
    fn is_worth_copying(&self, id: BucketId, held: &Use) -> bool {
        let age_ms = self.now_ms.saturating_sub(held.row.created_ms);
        let overdue = id.class.time_ms().is_none_or(|time| age_ms > time.saturating_mul(2));
        held.live_bytes < held.row.bytes / WORTH_COPYING && (self.pressed || overdue)
    }
}

impl Engine {
    /// How much space all logs take.
    ///
    /// # Errors
    /// [`Error::Closed`]; as [`PartitionLog::size`].
    pub fn space(&self) -> Result<EngineSpace> {
        let mut live_bytes = 0;
        for log in self.open_logs()? {
            live_bytes += live(log.size())?.map_or(0, |size| size.live_bytes);
        }
        let ids = self.handle.core.buckets.lock().ids();
        let db = self.handle.core.read()?;
        let in_buckets: u64 = ids.into_iter().map(|id| db.bucket_bytes(id)).sum();
        let stored_bytes =
            in_buckets + db.family_bytes(&db.keys()) + db.family_bytes(&db.compacted());
        Ok(EngineSpace { live_bytes, stored_bytes })
    }

    /// The logs that must be purged, and up to where, so that buckets can go. `pressed` says that space is
    /// short: then buckets are emptied that would have emptied themselves in time.
    ///
    /// # Errors
    /// As [`Engine::space`].
    pub fn forgettable(&self, pressed: bool) -> Result<Vec<(PartitionId, Index)>> {
        let usage = self.usage(pressed)?;
        let mut found = Vec::new();
        for (log, held) in &usage.logs {
            let mut freeable = held.iter().filter(|held| usage.is_freeable(held.segment.bucket));
            let Some(last) = freeable.rfind(|held| held.dead || held.live_bytes > 0) else {
                continue;
            };
            let upto = if last.dead { Some(last.last) } else { live(log.last_dead())?.flatten() };
            let purged = log.state().purged.map(|purged| purged.index);
            found.extend(upto.filter(|upto| purged < Some(*upto)).map(|upto| (log.id(), upto)));
        }
        Ok(found)
    }

    /// Closes active buckets that are old, and drops buckets that no log lies in. Returns how many were
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Closed`].
    pub fn drop_dead_buckets(&self) -> Result<usize> {
        // Purges and deletions asked for before this are on disk behind it.
        self.through_writer(Op::Barrier, 0)?;
        for log in self.open_logs()? {
            live(log.trim_settled())?;
        }
        let named = named_buckets(&*self.handle.core.read()?)?;
        let finished: Vec<_> = {
            let buckets = self.handle.core.buckets.lock();
            let is_finished = |id: &BucketId| buckets.is_finished(*id, !named.contains(id));
            buckets.ids().into_iter().filter(is_finished).collect()
        };
        for id in finished {
            self.change_bucket(id, Some(BucketState::Closed))?;
        }
        // The closing rows are on disk, and with them every directory row that names a closed bucket.
        let db = self.handle.core.read()?;
        let closed = crate::bucket::closed(&db)?;
        let named = named_buckets(&db)?;
        drop(db);
        let dead: Vec<_> = closed.into_iter().filter(|id| !named.contains(id)).collect();
        for id in &dead {
            self.drop_bucket(*id)?;
        }
        Ok(dead.len())
    }

    fn drop_bucket(&self, id: BucketId) -> Result<()> {
        self.change_bucket(id, Some(BucketState::Dropping))?;
        fail::fail_point!("engine-drop-after-mark", |_| Err(Error::Closed));
        self.handle.core.read()?.drop_bucket(id)?;
        fail::fail_point!("engine-drop-after-family", |_| Err(Error::Closed));
        self.change_bucket(id, None)?;
        tracing::info!(bucket = id.family(), "dropped a bucket");
        Ok(())
    }

    /// Changes a bucket's row through the writer, durable on return.
    fn change_bucket(&self, id: BucketId, to: Option<BucketState>) -> Result<()> {
        self.through_writer(Op::Bucket { id, to }, 0)
    }

    pub(crate) fn usage(&self, pressed: bool) -> Result<Usage> {
        let mut logs = Vec::new();
        for log in self.open_logs()? {
            if let Some(held) = live(log.held())? {
                logs.push((log, held));
            }
        }
        let rows = self.handle.core.buckets.lock();
        let mut buckets: BTreeMap<BucketId, Use> = rows
            .iter()
            .map(|(id, row)| (*id, Use { row: *row, live_bytes: 0, dead: true }))
            .collect();
        let bucket_bytes_max = rows.bytes_max();
        drop(rows);
        for held in logs.iter().flat_map(|(_, held)| held) {
            if let Some(bucket) = buckets.get_mut(&held.segment.bucket) {
                bucket.live_bytes += held.live_bytes;
                bucket.dead &= held.dead;
            }
        }
        Ok(Usage { logs, buckets, bucket_bytes_max, now_ms: now_ms(), pressed })
    }
}

/// `None` for a log that was deleted meanwhile, or that does not decode: what it holds stays as it is.
pub(crate) fn live<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Deleted(_)) => Ok(None),
        Err(error @ Error::Corrupt { .. }) => {
            tracing::warn!(%error, "the space of a log cannot be told");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl PartitionLog {
    /// The segments with what they hold.
    fn held(&self) -> Result<Vec<Held>> {
        let extent = self.extent()?;
        let segments = self.partition.segments.lock().clone();
        let state = self.partition.live()?;
        let (log_start, end, next) = (state.floor(), state.end, state.next_index());
        drop(state);
        let behind = |at: usize| match segments.get(at + 1) {
            Some(next) => (next.first, next.first_offset, next.position),
            None => (next, end, extent.end),
        };
        let hold = |(at, segment): (usize, &Segment)| {
            let (next, end_offset, position) = behind(at);
            // The last one holds what comes next, too, unless the log has no records at all.
            let is_last = at + 1 == segments.len();
            let dead = end_offset <= log_start && (!is_last || log_start == end);
            let live_bytes = position.saturating_sub(segment.position.max(extent.start));
            let live_bytes = if dead { 0 } else { live_bytes };
            Held { segment: *segment, last: Index(next.0.saturating_sub(1)), live_bytes, dead }
        };
        Ok(segments.iter().enumerate().map(hold).collect())
    }

    /// The last entry below the log start, if there is one.
    fn last_dead(&self) -> Result<Option<Index>> {
        let start: Offset = self.partition.live()?.floor();
        let (_, index) = self.index_of(start)?;
        let first = self.partition.live()?.first;
        Ok((index > first).then(|| Index(index.0 - 1)))
    }
}

/// The buckets that directory rows on disk name.
fn named_buckets(db: &Db) -> Result<HashSet<BucketId>> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound([Tag::Directory as u8 + 1]);
    let start = [Tag::Directory as u8];
    let mode = IteratorMode::From(&start, Direction::Forward);
    let mut named = HashSet::new();
    for item in db.raw().iterator_cf_opt(&db.meta(), options, mode) {
        let (key, value) = item.map_err(failed("reading the directory"))?;
        let id = keys::partition(&key).unwrap_or_default();
        let corrupt =
            Error::Corrupt { partition: id, index: Index(0), what: "directory row".into() };
        let segment = rows::decode_segment(Index(0), &value).ok_or(corrupt)?;
        named.insert(segment.bucket);
    }
    Ok(named)
}
