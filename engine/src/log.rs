//! One partition's log: append at the end, read anywhere, trim at the start.
//!
//! Invariants:
//! - Changes of one log happen in one order in memory and on disk: both are made under its lock.
//! - Readers see an entry from the moment `append` returns; what may be served is the caller's rule.
//!
//! Not here: reading the disk (`read.rs`), sizes and retention (`size.rs`), the state itself (`state.rs`), writing (`writer.rs`).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::command::{Done, Op};
use crate::engine::Handle;
use crate::keys::{self, Tag};
use crate::partition::Partition;
use crate::read::{Walk, Want};
use crate::record::Head;
use crate::sparse::SparseIndex;
use crate::state::{Change, Prepared, SPARSE_BYTES, State};
use crate::table::row::KeyRows;
use crate::{
    Entry, EntryKind, Error, Index, NewEntry, Offset, PartitionId, Result, RetentionClass, Term,
    recovery, rows,
};

/// A position in the Raft log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId {
    /// The term of the entry.
    pub term: Term,
    /// Its index.
    pub index: Index,
}

/// Where a term begins in the log (Kafka's leader-epoch lineage).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// The term, which is the leader epoch.
    pub term: Term,
    /// Index of its first entry.
    pub first_index: Index,
    /// Offset the first batch of the term takes or would take.
    pub start_offset: Offset,
}

/// Both ends of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// The last entry removed from the start of the Raft log, if any.
    pub purged: Option<LogId>,
    /// The last entry; `purged` when the log is empty, `None` when it never held any.
    pub last: Option<LogId>,
    /// The first offset that may be read.
    pub log_start_offset: Offset,
    /// The offset the next batch takes.
    pub end_offset: Offset,
}

/// How much of each payload a read returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadPart {
    /// All of it.
    Full,
    /// The first [`crate::batch::HEADER_BYTES`] of a batch, all of any other kind.
    Header,
}

/// One partition's log. Clones share it.
#[derive(Debug, Clone)]
pub struct PartitionLog {
    pub(crate) handle: Arc<Handle>,
    pub(crate) partition: Arc<Partition>,
}

/// What a look at the entries behind a row of the sparse index reads at once.
pub(crate) const SCAN_BYTES: usize = 2 * SPARSE_BYTES;

/// Where a read begins.
struct Start {
    generation: u64,
    index: Index,
    /// Where it may end although its bytes are not used up.
    end: Index,
    /// The end the read may not pass.
    until: Offset,
    /// How much is worth reading at once.
    bytes: usize,
}

impl PartitionLog {
    pub(crate) fn new(handle: Arc<Handle>, partition: Arc<Partition>) -> Self {
        Self { handle, partition }
    }

    /// The partition.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.partition.id
    }

    /// Both ends of the log, including what is appended and not yet durable.
    #[must_use]
    pub fn state(&self) -> LogState {
        self.partition.state.lock().log_state()
    }

    /// Appends `entries`: assigns offsets, stamps base offset and leader epoch, and hands them to the
    /// writer. They are readable when this returns; `done` is called from an engine thread once they
    /// are durable (see [`PartitionLog::set_relaxed`]), in order of appends. Blocks while the engine's queue is full, so `done` itself must
    /// neither append nor block.
    ///
    /// # Errors
    /// [`crate::Error::InvalidAppend`] (nothing is taken, `done` is not called),
    /// [`crate::Error::Closed`], [`crate::Error::Deleted`]; the first append of batches after a start
    /// reads the disk, so [`crate::Error::Corrupt`] and [`crate::Error::Storage`] too.
    pub fn append(
        &self,
        entries: Vec<NewEntry>,
        done: Box<dyn FnOnce(Result<()>) + Send>,
    ) -> Result<()> {
        let invalid = |reason| Error::InvalidAppend { partition: self.id(), reason };
        let keyed = self.partition.live()?.table.keyed;
        let prepared: Vec<Prepared> = entries
            .into_iter()
            .map(|entry| Prepared::new(entry, keyed))
            .collect::<std::result::Result<_, _>>()
            .map_err(invalid)?;
        self.totals()?;
        let bytes = prepared.iter().map(Prepared::bytes).sum();
        self.handle.core.submit(&self.partition, bytes, Some(done), |state| {
            state.append(self.id(), prepared).map(Some).map_err(invalid)
        })
    }

    /// Whether appends of batches are answered once they are written, and synced within 50 ms, instead of
    /// once they are synced. Takes effect for what is appended after the call. Everything else always waits
    /// for its sync, and completions keep the order of their calls.
    pub fn set_relaxed(&self, relaxed: bool) {
        self.partition.answers.relaxed.store(relaxed, Ordering::Release);
    }

    /// Removes every entry after `last` (all of them for `None`); the end offset moves back with
    /// them. Effective for readers on return, ordered before later appends on disk.
    ///
    /// # Errors
    /// [`crate::Error::InvalidAppend`] below the purged index, [`crate::Error::Closed`].
    pub fn truncate_after(&self, last: Option<Index>) -> Result<()> {
        let state = self.partition.live()?;
        let (first, next, table) = (state.first, state.next_index(), state.table);
        let purged = state.purged.map(|row| row.purged.index);
        drop(state);
        let settled = (table.settled > Offset(0)).then_some(table.settled_upto.index);
        let refused = |what| {
            let last = last.unwrap_or_default();
            let reason = format!("index {last} {what} and cannot become the last");
            Err(Error::InvalidAppend { partition: self.id(), reason })
        };
        if last.is_some_and(|last| purged.is_some_and(|purged| last < purged)) {
            return refused("has been purged");
        }
        if settled.is_some_and(|settled| last.unwrap_or_default() < settled && settled >= first) {
            return refused("is settled with entries behind it");
        }
        let last = last.filter(|last| *last >= first);
        let from = last.map_or(first, |last| Index(last.0.saturating_add(1)));
        let mut rows = if table.keyed { self.rows_of_entries(from, next)? } else { Vec::new() };
        self.change(last, |state, head| {
            let mut change = match last {
                Some(_) => state.truncate_after(Some(head?)),
                None => state.truncate_after(None),
            }?;
            if let Op::Truncate { entered, log_start, .. } = &mut change.op {
                *entered = std::mem::take(&mut rows);
                if let (Some(start), true) = (*log_start, table.keyed) {
                    self.handle.core.starts.lower(self.id(), start);
                }
            }
            Some(change)
        })
    }

    /// Forgets the Raft entries up to and including `upto` (which may lie beyond the end, then the
    /// log is empty and goes on behind it). Does not move the log start offset beyond the first kept
    /// batch. Lazy: not synced for itself.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn purge(&self, upto: LogId) -> Result<()> {
        loop {
            let boundary = self.boundary(upto.index)?;
            let mut outdated = false;
            self.handle.core.submit(&self.partition, 0, None, |state| {
                outdated = state.generation != boundary.generation;
                let purge =
                    |state: &mut State| state.purge(upto, boundary.next_offset, boundary.position);
                Ok(if outdated { None } else { purge(state) })
            })?;
            if !outdated {
                return Ok(());
            }
        }
    }

    /// Resets an empty or outdated log to begin behind `boundary` with `next_offset` (a follower that
    /// got a boundary snapshot). `done` is called once durable.
    ///
    /// # Errors
    /// [`crate::Error::InvalidAppend`] for a negative offset, [`crate::Error::Closed`].
    pub fn reset(
        &self,
        boundary: LogId,
        next_offset: Offset,
        done: Box<dyn FnOnce(Result<()>) + Send>,
    ) -> Result<()> {
        if next_offset < Offset(0) {
            let reason = format!("{next_offset} is no offset to begin at");
            return Err(Error::InvalidAppend { partition: self.id(), reason });
        }
        self.handle.core.submit(&self.partition, 0, Some(done), |state| {
            self.handle.core.starts.lower(self.id(), Offset(0));
            Ok(Some(state.reset(self.id(), boundary, next_offset)))
        })
    }

    /// Stores the group's vote (opaque), in one order with appends; `done` once durable.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn save_vote(&self, vote: Bytes, done: Box<dyn FnOnce(Result<()>) + Send>) -> Result<()> {
        let row = self.row(Tag::Vote, &vote);
        let core = &self.handle.core;
        core.submit_row(&self.partition, row, Some(done), |state, _| state.vote = Some(vote))
    }

    /// The vote saved last.
    #[must_use]
    pub fn vote(&self) -> Option<Bytes> {
        self.partition.state.lock().vote.clone()
    }

    /// Remembers the committed position (opaque). Lazy: it goes to the disk with the next append, and
    /// is forgotten by a crash before that.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Deleted`].
    pub fn save_committed(&self, committed: Bytes) -> Result<()> {
        if self.handle.core.is_closed() {
            return Err(Error::Closed);
        }
        let mut state = self.partition.live()?;
        state.committed = Some(committed);
        state.committed_moved = true;
        Ok(())
    }

    /// The committed position saved last.
    #[must_use]
    pub fn committed(&self) -> Option<Bytes> {
        self.partition.state.lock().committed.clone()
    }

    /// Stores the state machine's checkpoint (opaque), ordered after the appends before it. Lazy unless
    /// `done` is given, which is called once durable.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn save_checkpoint(
        &self,
        checkpoint: Bytes,
        done: Option<Box<dyn FnOnce(Result<()>) + Send>>,
    ) -> Result<()> {
        let row = self.row(Tag::Checkpoint, &checkpoint);
        self.handle.core.submit_row(&self.partition, row, done, |state, seq| {
            state.checkpoint = Some((seq, checkpoint));
        })
    }

    /// The checkpoint saved last.
    ///
    /// # Errors
    /// [`crate::Error::Storage`].
    pub fn checkpoint(&self) -> Result<Option<Bytes>> {
        if let Some((_, checkpoint)) = &self.partition.live()?.checkpoint {
            return Ok(Some(checkpoint.clone()));
        }
        recovery::opaque(&*self.handle.core.read()?, self.id(), Tag::Checkpoint)
    }

    /// Entries with `start <= index < end`, stopping after `bytes_max` of payload but returning at
    /// least one if there is one. Also those not yet durable. May read the disk.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`], [`crate::Error::Storage`], [`crate::Error::Deleted`].
    pub fn entries(
        &self,
        start: Index,
        end: Index,
        bytes_max: usize,
        part: PayloadPart,
    ) -> Result<Vec<Entry>> {
        self.check_open()?;
        loop {
            let generation = self.partition.live()?.generation;
            let mut budget = Budget::new(bytes_max);
            let taken = self
                .walk(generation, bytes_max)
                .run(start, end, |head| budget.wants(head, part))?;
            if let Some(taken) = taken {
                return Ok(taken);
            }
        }
    }

    /// Whole record batches from the one that holds `from` up to, not including, offset `until`, at
    /// most `bytes_max` (from the disk sometimes a little less than would fit) but at least one batch when there is one. `from == until` gives none, and so
    /// does a batch that ends behind `until`. May read the disk when [`PartitionLog::is_cached`] is
    /// false.
    ///
    /// # Errors
    /// [`crate::Error::OffsetOutOfRange`] below the log start or above `until`,
    /// [`crate::Error::Corrupt`], [`crate::Error::Storage`], [`crate::Error::Deleted`].
    pub fn read(&self, from: Offset, until: Offset, bytes_max: usize) -> Result<Vec<Entry>> {
        self.check_open()?;
        let mut budget = Budget::new(bytes_max);
        let (mut settled, from) = self.read_settled(from, until, &mut budget)?;
        let Some(from) = from else { return Ok(settled) };
        let behind = self.read_behind(from, until, budget)?;
        if settled.is_empty() {
            return Ok(behind);
        }
        settled.extend(behind);
        Ok(settled)
    }

    /// Batches behind the settled part.
    fn read_behind(&self, from: Offset, until: Offset, left: Budget) -> Result<Vec<Entry>> {
        loop {
            let bytes_max = left.left;
            let Some(start) = self.start(from, until, bytes_max)? else { return Ok(Vec::new()) };
            let mut budget = left.clone();
            let walk = self.walk(start.generation, start.bytes);
            let taken = walk.run(start.index, start.end, |head| {
                if head.kind != EntryKind::Batch || head.next_offset() <= from {
                    Want::Skip
                } else if head.next_offset() <= start.until {
                    budget.wants(head, PayloadPart::Full)
                } else {
                    Want::Stop
                }
            })?;
            if let Some(taken) = taken {
                return Ok(taken);
            }
        }
    }

    /// Whether a read from `from` is served from memory without touching the disk.
    #[must_use]
    pub fn is_cached(&self, from: Offset) -> bool {
        let state = self.partition.state.lock();
        if from < state.table.settled && from >= state.log_start {
            return false;
        }
        from >= state.end || from < state.log_start || state.tail.find(from).is_some()
    }

    /// Whether the entry at `index`, and so every entry after it, is served from memory.
    #[must_use]
    pub fn is_index_cached(&self, index: Index) -> bool {
        let state = self.partition.state.lock();
        state.tail.first().is_some_and(|first| first <= index)
    }

    /// The first batch below `until` whose max timestamp is at least `timestamp` (ms), found through the
    /// sparse index and then headers; `None` when there is none.
    ///
    /// # Errors
    /// As [`PartitionLog::read`].
    pub fn find_timestamp(&self, timestamp: i64, until: Offset) -> Result<Option<Entry>> {
        self.check_open()?;
        match self.find_settled_timestamp(timestamp, until)? {
            Some(entry) => Ok(Some(entry)),
            None => self.find_timestamp_behind(timestamp, until),
        }
    }

    fn find_timestamp_behind(&self, timestamp: i64, until: Offset) -> Result<Option<Entry>> {
        loop {
            let state = self.partition.live()?;
            let (generation, first) = (state.generation, state.first);
            let (from, until) = (state.floor(), until.min(state.end));
            drop(state);
            self.settle()?;
            let index = {
                let db = self.handle.core.read()?;
                let row =
                    SparseIndex::new(&db, self.id()).before_timestamp(timestamp, from, until)?;
                row.map_or(first, |row| row.index.max(first))
            };
            let mut found = false;
            let taken = self.walk(generation, SCAN_BYTES).run(index, Index(u64::MAX), |head| {
                if found || head.next_offset() > until {
                    return Want::Stop;
                }
                found = head.kind == EntryKind::Batch
                    && head.next_offset() > from
                    && head.max_timestamp >= timestamp;
                if found { Want::Take(PayloadPart::Full) } else { Want::Skip }
            })?;
            if let Some(mut taken) = taken {
                return Ok(taken.pop());
            }
        }
    }

    /// The batch below `until` with the largest max timestamp, the first of them on a tie.
    ///
    /// # Errors
    /// As [`PartitionLog::read`].
    pub fn find_max_timestamp(&self, until: Offset) -> Result<Option<Entry>> {
        self.check_open()?;
        let settled = self.find_max_settled_timestamp(until)?;
        let behind = self.find_max_timestamp_behind(until)?;
        Ok(match (settled, behind) {
            (Some(settled), Some(behind)) if settled.max_timestamp < behind.max_timestamp => {
                Some(behind)
            }
            (settled, behind) => settled.or(behind),
        })
    }

    fn find_max_timestamp_behind(&self, until: Offset) -> Result<Option<Entry>> {
        let row = {
            let db = self.handle.core.read()?;
            SparseIndex::new(&db, self.id()).floor(Offset(until.0.saturating_sub(1)))?
        };
        let floor = self.partition.live()?.floor();
        let row = row.filter(|row| row.offset >= floor);
        let before = row.map_or(i64::MIN, |row| row.max_timestamp_before);
        let tail = self.max_timestamp_from(row.map_or(Index(0), |row| row.index), until)?;
        if row.is_none() || tail.is_some_and(|tail| tail > before) {
            return tail.map_or(Ok(None), |tail| self.find_timestamp_behind(tail, until));
        }
        if let Some(entry) = self.find_timestamp_behind(before, until)? {
            return Ok(Some(entry));
        }
        // What the index says was truncated or purged meanwhile: look at every header.
        let max = self.max_timestamp_from(Index(0), until)?;
        max.map_or(Ok(None), |max| self.find_timestamp_behind(max, until))
    }

    /// Changes the retention class: batches appended from now on go to buckets of `class`. Lazy: durable
    /// with a later sync.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn set_class(&self, class: RetentionClass) -> Result<()> {
        if !self.partition.set_class(class) {
            return Ok(());
        }
        self.handle.core.submit_row(&self.partition, self.partition.row(), None, |_, _| ())
    }

    /// Every term in the log with its first index and start offset, oldest first. The first one may
    /// begin in the purged part.
    #[must_use]
    pub fn epochs(&self) -> Vec<Epoch> {
        self.partition.state.lock().epochs.clone()
    }

    /// Moves the log start offset forward to `start` (never back, never past the end). Readers see it
    /// at once; durable with a later sync.
    ///
    /// # Errors
    /// [`crate::Error::OffsetOutOfRange`], [`crate::Error::Closed`].
    pub fn set_log_start(&self, start: Offset) -> Result<()> {
        let (key, value) = (keys::one(Tag::LogStart, self.id()), rows::offset(start));
        // Compaction may drop rows of keys once it is durable.
        let (starts, id) = (self.handle.core.starts.clone(), self.id());
        let keyed = self.partition.live()?.table.keyed;
        let done: Option<Done> = keyed.then(|| -> Done {
            Box::new(move |result| {
                if result.is_ok() {
                    starts.raise(id, start);
                }
            })
        });
        self.handle.core.submit(&self.partition, 0, done, |state| {
            if start > state.end {
                return Err(self.out_of_range(start, state.log_start, state.end));
            }
            if start <= state.log_start {
                return Ok(None);
            }
            state.set_log_start(start);
            let seq = state.next_seq();
            let op = Op::Row { key, value };
            Ok(Some(Change { op, seq, cached: 0, freed: 0 }))
        })
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.handle.core.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    /// The rows of the key index that the entries `from..next` added.
    fn rows_of_entries(&self, from: Index, next: Index) -> Result<Vec<KeyRows>> {
        let (mut rows, mut at) = (Vec::new(), from);
        while at < next {
            let entries = self.entries(at, next, SCAN_BYTES, PayloadPart::Full)?;
            let area = self.partition.live()?.area(self.id());
            let Some(last) = entries.last() else { break };
            at = Index(last.index.0 + 1);
            for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Batch) {
                let mut of = KeyRows::of(&entry.payload, entry.index);
                of.place(area, entry.base_offset);
                rows.push(of);
            }
        }
        Ok(rows)
    }

    /// A read that is likely to take `bytes`.
    pub(crate) fn walk(&self, generation: u64, bytes: usize) -> Walk<'_> {
        Walk { core: &self.handle.core, partition: &self.partition, generation, bytes }
    }

    fn row(&self, tag: Tag, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (keys::one(tag, self.id()), rows::opaque(bytes))
    }

    pub(crate) fn out_of_range(&self, requested: Offset, start: Offset, end: Offset) -> Error {
        Error::OffsetOutOfRange { partition: self.id(), requested, start, end }
    }

    /// Where a read of `from..until` begins; `None` when there is nothing to read.
    fn start(&self, from: Offset, until: Offset, bytes_max: usize) -> Result<Option<Start>> {
        let state = self.partition.live()?;
        let until = until.min(state.end);
        if from < state.log_start || from > until {
            return Err(self.out_of_range(from, state.log_start, until));
        }
        if from == until {
            return Ok(None);
        }
        let generation = state.generation;
        let first = rows::SparseRow {
            offset: state.floor(),
            index: state.first,
            max_timestamp_before: i64::MIN,
            position: state.purged.map_or(0, |row| row.position),
        };
        let cached = state.tail.find(from);
        drop(state);
        let (index, end, bytes) = match cached {
            Some(index) => (index, None, bytes_max),
            None => {
                self.settle()?;
                let db = self.handle.core.read()?;
                let piece = SparseIndex::new(&db, self.id()).piece(from, bytes_max, first)?;
                (piece.start, piece.end, piece.bytes)
            }
        };
        let end = end.unwrap_or(Index(u64::MAX));
        Ok(Some(Start { generation, index, end, until, bytes }))
    }

    /// Changes the log with what stands at `index`, which may have to be read from disk first.
    fn change(
        &self,
        index: Option<Index>,
        mut change: impl FnMut(&mut State, Option<Head>) -> Option<Change>,
    ) -> Result<()> {
        loop {
            let (generation, head) = self.head(index)?;
            let mut outdated = false;
            self.handle.core.submit(&self.partition, 0, None, |state| {
                outdated = state.generation != generation;
                Ok(if outdated { None } else { change(state, head) })
            })?;
            if !outdated {
                return Ok(());
            }
        }
    }

    pub(crate) fn head(&self, index: Option<Index>) -> Result<(u64, Option<Head>)> {
        loop {
            let state = self.partition.live()?;
            let generation = state.generation;
            let Some(index) = index else { return Ok((generation, None)) };
            let held = state.first <= index && index < state.next_index();
            let cached = state.head(index);
            drop(state);
            if !held || cached.is_some() {
                return Ok((generation, cached));
            }
            let end = Index(index.0.saturating_add(1));
            let mut found = None;
            let taken = self.walk(generation, 0).run(index, end, |head| {
                found = Some(*head);
                Want::Skip
            })?;
            if taken.is_some() {
                return Ok((generation, found));
            }
        }
    }

    fn max_timestamp_from(&self, index: Index, until: Offset) -> Result<Option<i64>> {
        loop {
            let state = self.partition.live()?;
            let (generation, from) = (state.generation, state.floor());
            drop(state);
            let mut max = None;
            let walked = self.walk(generation, SCAN_BYTES).run(index, Index(u64::MAX), |head| {
                if head.next_offset() > until {
                    return Want::Stop;
                }
                if head.kind == EntryKind::Batch && head.next_offset() > from {
                    max = max.max(Some(head.max_timestamp));
                }
                Want::Skip
            })?;
            if walked.is_some() {
                return Ok(max);
            }
        }
    }
}

/// The bytes a read may still return.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    pub(crate) left: usize,
    empty: bool,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { left: bytes_max, empty: true }
    }

    /// What to do with the entry: the first is always within the budget.
    pub(crate) fn wants(&mut self, head: &Head, part: PayloadPart) -> Want {
        if head.payload_bytes > self.left && !self.empty {
            return Want::Stop;
        }
        self.empty = false;
        self.left = self.left.saturating_sub(head.payload_bytes);
        if self.left == 0 { Want::Last(part) } else { Want::Take(part) }
    }
}

/// Waits until what `send` asked for is durable.
pub(crate) fn wait(send: impl FnOnce(Done) -> Result<()>) -> Result<()> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    send(Box::new(move |result| {
        // The receiver waits below for as long as this can be called.
        let _ = sender.send(result);
    }))?;
    receiver.recv().unwrap_or(Err(Error::Closed))
}
