//! The log threads: many partitions' commands, in order, into one RocksDB batch and one sync.
//!
//! Two threads do the same in turns: take what has queued up, write it unsynced, sync. While one
//! syncs group *k*, the other writes group *k+1*; no delay is needed, and with little to do a group
//! is never handed from thread to thread. While the memtables are over their bound the one that writes
//! waits for a flush, and the queue in front of it holds the callers back: RocksDB itself never does.
//!
//! Invariants:
//! - Commands reach RocksDB in the order they were queued, and are completed in that order.
//! - After the first failure nothing more is written; what is queued is failed, and the last thread
//!   to end calls `on_failure`, once.

mod relocate;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rocksdb::WriteBatch;

use crate::command::{Command, Home, Op, RowChange, StoredRecord};
use crate::core::Core;
use crate::db::{Db, Family};
use crate::histogram::nanos;
use crate::keys::{self, BucketId, Tag};
use crate::partition::Partition;
use crate::queue::Turn;
use crate::rows::{self, PurgedRow, Segment};
use crate::state::SparseCut;
use crate::sync;
use crate::{Error, Index, Offset, PartitionId, Result, Term};

const GROUP_BYTES_MAX: usize = 4 << 20;
const GROUP_COMMANDS_MAX: usize = 512;
/// How often a flush that is waited for is looked at.
const FLUSH_POLL: Duration = Duration::from_millis(1);
/// What RocksDB's batch adds to a record, at most.
const RECORD_OVERHEAD: usize = 32;
/// Up to this many keys are deleted one by one; a range deletion costs every later read a little.
const POINT_DELETES_MAX: u64 = 256;

/// Deletes `start..end`. An empty range is left out: RocksDB counts it when it is written and not when the log is
/// recovered, so that a store would come back with fewer changes than its watermark states.
fn delete_range(batch: &mut WriteBatch, family: &Family<'_>, start: &[u8], end: &[u8]) {
    if start < end {
        batch.delete_range_cf(family, start, end);
    }
}

/// Runs until the engine is closed and everything is durable, or something fails.
pub(crate) fn run(core: &Core, db: &Db, on_failure: &(dyn Fn(&Error) + Send + Sync)) {
    let end = End { core, db, on_failure };
    let (meta, keys, compacted) = (db.meta(), db.keys(), db.compacted());
    let errors = db.background_errors();
    let mut writer = Writer { core, db, meta, keys, compacted, bucket: None, errors };
    while let Some((mut commands, turn)) = next_group(core) {
        if !core.is_failed() {
            if let Err(error) = writer.write(&commands) {
                core.fail(&error);
            } else {
                publish(core, &commands);
            }
        }
        let bytes = commands.iter().map(|command| command.bytes).sum();
        let answered = answer_relaxed(core, &mut commands);
        if commands.iter().all(|command| command.done.is_none()) {
            match answered {
                true => core.unsynced.hold(bytes),
                false => core.room.give_back(bytes),
            }
            continue;
        }
        // Taken before the turn is given back: whoever writes next syncs next.
        let syncing = core.syncing.lock();
        drop(turn);
        let held = core.unsynced.take();
        let result = sync::sync(core, db);
        core.room.give_back(held);
        sync::complete(core, commands, &result);
        drop(syncing);
    }
    drop(end);
}

/// What is left to do when a log thread ends, however it ends.
struct End<'a> {
    core: &'a Core,
    db: &'a Db,
    on_failure: &'a (dyn Fn(&Error) + Send + Sync),
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core.fail(&Error::Closed);
        }
        if self.core.running.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        while let Some((mut commands, _turn)) = next_group(self.core) {
            answer_relaxed(self.core, &mut commands);
            sync::complete(self.core, commands, &Err(Error::Closed));
        }
        // Lazy commands behind the last group are not durable yet; a failure has latched already.
        let held = self.core.unsynced.take();
        let _ = sync::sync(self.core, self.db);
        self.core.room.give_back(held);
        if let Some(error) = self.core.failure() {
            (self.on_failure)(&error);
        }
    }
}

fn next_group(core: &Core) -> Option<(Vec<Command>, Turn<'_, Command>)> {
    let (mut bytes, mut count) = (0, 0);
    let mut alone = false;
    let commands = core.commands.drain(|next| {
        let first = count == 0;
        let fits = first || !(alone || matches!(next.op, Op::Relocate(_)));
        alone = matches!(next.op, Op::Relocate(_));
        bytes += next.bytes;
        count += 1;
        fits && (first || bytes <= GROUP_BYTES_MAX && count <= GROUP_COMMANDS_MAX)
    });
    let now = Instant::now();
    for command in commands.iter().flat_map(|(commands, _)| commands) {
        core.counters.queue_wait.observe_duration(now.duration_since(command.accepted));
    }
    commands
}

/// Answers the appends that need not wait for the sync; whether there were any. The others are counted,
/// which holds back what comes behind them. Called within the turn, so in the order of commands.
fn answer_relaxed(core: &Core, commands: &mut [Command]) -> bool {
    let mut any = false;
    for command in commands {
        let Some(partition) = command.partition.as_ref().filter(|_| command.done.is_some()) else {
            continue;
        };
        let early = !core.is_failed() && command.is_relaxed();
        if partition.answers.now_or_wait(early)
            && let Some(done) = command.done.take()
        {
            core.counters.append.observe_duration(command.accepted.elapsed());
            sync::call(done, &Ok(()));
            any = true;
        }
    }
    any
}

/// Lets readers find the group's entries on disk and the tail cache drop them.
fn publish(core: &Core, commands: &[Command]) {
    for command in commands {
        if let Some(partition) = &command.partition {
            partition.state.lock().written(command.seq);
        }
    }
    core.evict();
}

struct Writer<'db> {
    core: &'db Core,
    db: &'db Db,
    meta: Family<'db>,
    keys: Family<'db>,
    compacted: Family<'db>,
    /// The bucket written last: looking up a family takes a lock and a string.
    bucket: Option<(BucketId, Family<'db>)>,
    /// Errors of flushes that have been seen.
    errors: u64,
}

impl<'db> Writer<'db> {
    fn write(&mut self, commands: &[Command]) -> Result<()> {
        if let [Command { partition: Some(partition), op: Op::Relocate(piece), .. }] = commands {
            return self.relocate(partition, piece);
        }
        self.wait_for_flushes();
        let bytes: usize = commands.iter().map(|c| c.bytes + RECORD_OVERHEAD).sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes + (4 << 10));
        let mut closed = Vec::new();
        for command in commands {
            self.add(command, &mut batch, &mut closed)?;
        }
        let (begun, counters) = (Instant::now(), &self.core.counters);
        counters.group_bytes.observe(batch.size_in_bytes() as u64);
        counters.group_commands.observe(commands.len() as u64);
        self.db.write(batch)?;
        counters.group_write.observe_duration(begun.elapsed());
        // A family that is held keeps the tables of its bucket from going.
        self.bucket = None;
        closed.into_iter().try_for_each(|id| self.db.flush_bucket(id))
    }

    /// Waits while the memtables are over their bound and one of them is on its way to disk. When none
    /// is, the write itself makes RocksDB begin a flush; and after an error it tells whether writing can
    /// go on.
    fn wait_for_flushes(&mut self) {
        let over = || self.db.memtables_bytes() > self.core.memtables_bytes_max;
        if !over() {
            return;
        }
        let begun = Instant::now();
        let buckets = self.core.buckets.lock().ids();
        while over() && self.db.is_flushing(&buckets) {
            let errors = self.db.background_errors();
            if errors > self.errors {
                self.errors = errors;
                break;
            }
            std::thread::sleep(FLUSH_POLL);
        }
        let waited = nanos(begun.elapsed());
        self.core.counters.flush_wait_nanos.fetch_add(waited, Ordering::Relaxed);
    }

    fn add(
        &mut self,
        command: &Command,
        batch: &mut WriteBatch,
        closed: &mut Vec<BucketId>,
    ) -> Result<()> {
        let partition = command.partition.as_ref();
        match (&command.op, partition) {
            (Op::Node { key, value }, _) => batch.put_cf(&self.db.node(), key, value),
            (Op::Barrier | Op::Relocate(_), _) => {}
            (Op::Bucket { id, to }, _) => {
                closed.extend(self.core.buckets.lock().change(*id, *to, self.db, batch));
            }
            (Op::Row { key, value }, _) => batch.put_cf(&self.meta, key, value),
            (Op::Rows(changes), _) => self.change_rows(changes, batch),
            (Op::Append { records, epochs, sparse, committed }, Some(partition)) => {
                closed.extend(self.append(partition, records, batch)?);
                if let Some(committed) = committed {
                    let key = keys::one(Tag::Committed, partition.id);
                    batch.put_cf(&self.meta, key, rows::opaque(committed));
                }
                for row in epochs {
                    batch.put_cf(&self.meta, keys::epoch(partition.id, row.term), rows::epoch(row));
                }
                for row in sparse {
                    let key = keys::sparse(partition.id, row.offset);
                    batch.put_cf(&self.meta, key, rows::sparse(row));
                }
            }
            (
                Op::Truncate { from, to_last, epochs, sparse, log_start, entered },
                Some(partition),
            ) => {
                for (key, _) in entered.iter().flat_map(|rows| rows.iter()) {
                    batch.delete_cf(&self.keys, key);
                }
                if let Some(start) = log_start {
                    let key = keys::one(Tag::LogStart, partition.id);
                    batch.put_cf(&self.meta, key, rows::offset(*start));
                }
                self.truncate(partition, *from, *to_last, batch)?;
                self.delete_epochs(partition.id, epochs, batch);
                self.cut_sparse(partition.id, sparse, batch);
            }
            (Op::Purge { row, epochs, all, settled }, Some(partition)) => {
                self.purge(partition, row, *all, *settled, batch);
                self.delete_epochs(partition.id, epochs, batch);
            }
            (Op::Reset { row, log_start, epochs, table }, Some(partition)) => {
                self.clear(partition, batch)?;
                self.delete_epochs(partition.id, epochs, batch);
                self.put_purged(partition.id, row, batch);
                let start = rows::offset(*log_start);
                batch.put_cf(&self.meta, keys::one(Tag::LogStart, partition.id), start);
                self.change_rows(table, batch);
            }
            (Op::Delete, Some(partition)) => self.delete(partition, batch)?,
            (_, None) => return Err(Error::Closed),
        }
        Ok(())
    }

    fn change_rows(&self, changes: &[RowChange], batch: &mut WriteBatch) {
        let family = |home: &Home| match home {
            Home::Meta => &self.meta,
            Home::Keys => &self.keys,
            Home::Compacted => &self.compacted,
        };
        for change in changes {
            match change {
                RowChange::Put { home, key, value } => batch.put_cf(family(home), key, value),
                RowChange::Delete { home, key } => batch.delete_cf(family(home), key),
                RowChange::DeleteRange { home, start, end } => {
                    delete_range(batch, family(home), start, end);
                }
                RowChange::Enter(rows) => {
                    for (key, value) in rows.iter() {
                        batch.put_cf(&self.keys, key, value);
                    }
                }
            }
        }
    }

    /// Puts the records into the active bucket; returns the bucket closed for it, if one was.
    fn append(
        &mut self,
        partition: &Arc<Partition>,
        records: &[StoredRecord],
        batch: &mut WriteBatch,
    ) -> Result<Option<BucketId>> {
        let Some(first) = records.first() else { return Ok(None) };
        let bytes: usize = records.iter().map(|record| record.value.len()).sum();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let target = self.core.buckets.lock().target(partition.class(), bytes, self.db, batch);
        let (bucket, closed) = target?;
        self.begin_segment(partition, first, bucket, batch);
        let family = self.family(partition, bucket, first.index)?;
        for record in records {
            batch.put_cf(&family, keys::data(partition.id, record.index), &record.value);
            for (key, value) in record.rows.iter() {
                batch.put_cf(&self.keys, key, value);
            }
        }
        self.core.counters.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(closed)
    }

    fn begin_segment(
        &self,
        partition: &Partition,
        first: &StoredRecord,
        bucket: BucketId,
        batch: &mut WriteBatch,
    ) {
        let mut segments = partition.segments.lock();
        if segments.last().is_some_and(|last| last.bucket == bucket) {
            return;
        }
        let segment = Segment {
            first: first.index,
            bucket,
            first_offset: first.base_offset,
            position: first.position,
        };
        segments.push(segment);
        let key = keys::directory(partition.id, first.index);
        batch.put_cf(&self.meta, key, rows::segment(&segment));
    }

    fn family(&mut self, partition: &Partition, id: BucketId, at: Index) -> Result<Family<'db>> {
        if let Some((cached, family)) = &self.bucket
            && *cached == id
        {
            return Ok(Arc::clone(family));
        }
        let missing = || partition.corrupt(at, "bucket (missing)");
        let family = self.db.bucket(id).ok_or_else(missing)?;
        self.bucket = Some((id, Arc::clone(&family)));
        Ok(family)
    }

    fn truncate(
        &mut self,
        partition: &Partition,
        from: Index,
        to_last: Index,
        batch: &mut WriteBatch,
    ) -> Result<()> {
        let end = Index(to_last.0.saturating_add(1));
        for (segment, from, end) in partition.parts(from, end) {
            let family = self.family(partition, segment.bucket, from)?;
            if end.0 - from.0 > POINT_DELETES_MAX {
                let range = (keys::data(partition.id, from), keys::data(partition.id, end));
                delete_range(batch, &family, &range.0, &range.1);
            } else {
                for index in from.0..end.0 {
                    batch.delete_cf(&family, keys::data(partition.id, Index(index)));
                }
            }
        }
        let mut segments = partition.segments.lock();
        while let Some(segment) = segments.pop_if(|segment| segment.first >= from) {
            batch.delete_cf(&self.meta, keys::directory(partition.id, segment.first));
        }
        Ok(())
    }

    /// Drops the segments and sparse rows behind a purge, but not those below `settled`. The last segment stays unless `all` entries
    /// go: its bucket may get more of them.
    fn purge(
        &self,
        partition: &Partition,
        row: &PurgedRow,
        all: bool,
        settled: Offset,
        batch: &mut WriteBatch,
    ) {
        self.put_purged(partition.id, row, batch);
        let (start, end) =
            (keys::sparse(partition.id, settled), keys::sparse(partition.id, row.next_offset));
        delete_range(batch, &self.meta, &start, &end);
        let mut segments = partition.segments.lock();
        let begun = segments
            .partition_point(|segment| segment.first.0 <= row.purged.index.0.saturating_add(1));
        let dropped = if all { segments.len() } else { begun.saturating_sub(1) };
        for segment in segments.drain(..dropped) {
            batch.delete_cf(&self.meta, keys::directory(partition.id, segment.first));
        }
    }

    fn put_purged(&self, id: PartitionId, row: &PurgedRow, batch: &mut WriteBatch) {
        batch.put_cf(&self.meta, keys::one(Tag::Purged, id), rows::purged(row));
    }

    fn delete_epochs(&self, id: PartitionId, epochs: &[Term], batch: &mut WriteBatch) {
        for term in epochs {
            batch.delete_cf(&self.meta, keys::epoch(id, *term));
        }
    }

    fn cut_sparse(&self, id: PartitionId, cut: &SparseCut, batch: &mut WriteBatch) {
        match cut {
            SparseCut::Points(offsets) => {
                for offset in offsets {
                    batch.delete_cf(&self.meta, keys::sparse(id, *offset));
                }
            }
            SparseCut::From(offset) => {
                let (start, end) = (keys::sparse(id, *offset), keys::sparse(id, Offset(i64::MAX)));
                delete_range(batch, &self.meta, &start, &end);
            }
        }
    }

    /// Removes all entries, directory rows and sparse rows. What was purged goes too where the next entries may be put:
    /// their indexes may be lower, and an entry behind them would be taken for theirs.
    fn clear(&mut self, partition: &Partition, batch: &mut WriteBatch) -> Result<()> {
        let segments = std::mem::take(&mut *partition.segments.lock());
        let mut buckets: BTreeSet<_> = self.core.buckets.lock().active().collect();
        for segment in &segments {
            buckets.insert(segment.bucket);
            batch.delete_cf(&self.meta, keys::directory(partition.id, segment.first));
        }
        let start = keys::data(partition.id, Index(0));
        let end = keys::data_end(partition.id);
        for bucket in buckets {
            let family = self.family(partition, bucket, Index(0))?;
            delete_range(batch, &family, &start, &end);
        }
        let (start, end) = keys::all(Tag::Sparse, partition.id);
        delete_range(batch, &self.meta, &start, &end);
        Ok(())
    }

    fn delete(&mut self, partition: &Partition, batch: &mut WriteBatch) -> Result<()> {
        self.clear(partition, batch)?;
        // The directory too: rows that did not decode are in no list.
        for tag in [Tag::Epoch, Tag::Directory] {
            let (start, end) = keys::all(tag, partition.id);
            delete_range(batch, &self.meta, &start, &end);
        }
        if partition.state.lock().has_table() {
            let (start, end) = keys::all_areas(partition.id);
            delete_range(batch, &self.keys, &start, &end);
            delete_range(batch, &self.compacted, &start, &end);
        }
        for tag in [
            Tag::Partition,
            Tag::Vote,
            Tag::Committed,
            Tag::Checkpoint,
            Tag::Purged,
            Tag::LogStart,
            Tag::Table,
        ] {
            batch.delete_cf(&self.meta, keys::one(tag, partition.id));
        }
        Ok(())
    }
}
