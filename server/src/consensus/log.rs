//! What consensus asks of the log of one partition: the engine's, or the simulation's in its tests.
//!
//! The contract is the engine's (`engine/src/log.rs`): a change can be read when its call returns, changes reach the
//! disk in the order of the calls, and `done` is called once a change is durable, in that order too.

use std::fmt::Debug;

use bytes::Bytes;
use jangbu_engine::{
    CleanRules, CleanStep, Entry, Epoch, Index, LogId, LogState, NewEntry, Offset, PartitionId,
    PartitionLog, PayloadPart, Result, Settled,
};

/// Called once a change is durable, or with the reason why it never will be.
pub(crate) type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// One partition's log. Clones share it.
pub(crate) trait Log: Clone + Debug + Send + Sync + 'static {
    /// Whether no read waits for a disk.
    const IN_MEMORY: bool = false;

    /// See [`PartitionLog::id`].
    fn id(&self) -> PartitionId;
    /// See [`PartitionLog::state`].
    fn state(&self) -> LogState;
    /// See [`PartitionLog::epochs`].
    fn epochs(&self) -> Vec<Epoch>;
    /// See [`PartitionLog::entries`].
    fn entries(
        &self,
        start: Index,
        end: Index,
        bytes_max: usize,
        part: PayloadPart,
    ) -> Result<Vec<Entry>>;
    /// See [`PartitionLog::is_index_cached`].
    fn is_index_cached(&self, index: Index) -> bool;
    /// See [`PartitionLog::append`].
    fn append(&self, entries: Vec<NewEntry>, done: Done) -> Result<()>;
    /// See [`PartitionLog::truncate_after`].
    fn truncate_after(&self, last: Option<Index>) -> Result<()>;
    /// See [`PartitionLog::purge`].
    fn purge(&self, upto: LogId) -> Result<()>;
    /// See [`PartitionLog::reset`].
    fn reset(&self, boundary: LogId, next_offset: Offset, done: Done) -> Result<()>;
    /// See [`PartitionLog::save_vote`].
    fn save_vote(&self, vote: Bytes, done: Done) -> Result<()>;
    /// See [`PartitionLog::vote`].
    fn vote(&self) -> Option<Bytes>;
    /// See [`PartitionLog::save_committed`].
    fn save_committed(&self, committed: Bytes) -> Result<()>;
    /// See [`PartitionLog::committed`].
    fn committed(&self) -> Option<Bytes>;
    /// See [`PartitionLog::save_checkpoint`].
    fn save_checkpoint(&self, checkpoint: Bytes, done: Option<Done>) -> Result<()>;
    /// See [`PartitionLog::checkpoint`].
    fn checkpoint(&self) -> Result<Option<Bytes>>;
    /// See [`PartitionLog::set_log_start`].
    fn set_log_start(&self, start: Offset) -> Result<()>;
    /// See [`PartitionLog::read`].
    fn read(&self, from: Offset, until: Offset, bytes_max: usize) -> Result<Vec<Entry>>;
    /// See [`PartitionLog::clean`].
    fn clean(&self, rules: &CleanRules) -> Result<CleanStep>;
    /// See [`PartitionLog::settled`].
    fn settled(&self) -> Option<Settled>;
    /// See [`PartitionLog::settled_batches`].
    fn settled_batches(&self, from: Offset, until: Offset, bytes_max: usize) -> Result<Vec<Entry>>;
    /// See [`PartitionLog::stage`].
    fn stage(
        &self,
        begin: bool,
        batches: Vec<Bytes>,
        complete: Option<Offset>,
        done: Done,
    ) -> Result<()>;
    /// See [`PartitionLog::staged`].
    fn staged(&self) -> Option<Offset>;
}

/// Whether a log holds this entry, or began behind it. Another entry in its place, and those behind that one, were never
/// committed if this one was.
pub(super) fn holds(log: &impl Log, id: LogId) -> bool {
    let state = log.state();
    if state.purged.is_some_and(|purged| purged.index >= id.index) {
        return true;
    }
    let epochs = log.epochs();
    let begun = epochs.partition_point(|epoch| epoch.first_index <= id.index);
    let term = begun.checked_sub(1).and_then(|at| epochs.get(at)).map(|epoch| epoch.term);
    state.last.is_some_and(|last| last.index >= id.index) && term == Some(id.term)
}

impl Log for PartitionLog {
    fn id(&self) -> PartitionId {
        self.id()
    }

    fn state(&self) -> LogState {
        self.state()
    }

    fn epochs(&self) -> Vec<Epoch> {
        self.epochs()
    }

    fn entries(
        &self,
        start: Index,
        end: Index,
        bytes_max: usize,
        part: PayloadPart,
    ) -> Result<Vec<Entry>> {
        self.entries(start, end, bytes_max, part)
    }

    fn is_index_cached(&self, index: Index) -> bool {
        self.is_index_cached(index)
    }

    fn append(&self, entries: Vec<NewEntry>, done: Done) -> Result<()> {
        self.append(entries, done)
    }

    fn truncate_after(&self, last: Option<Index>) -> Result<()> {
        self.truncate_after(last)
    }

    fn purge(&self, upto: LogId) -> Result<()> {
        self.purge(upto)
    }

    fn reset(&self, boundary: LogId, next_offset: Offset, done: Done) -> Result<()> {
        self.reset(boundary, next_offset, done)
    }

    fn save_vote(&self, vote: Bytes, done: Done) -> Result<()> {
        self.save_vote(vote, done)
    }

    fn vote(&self) -> Option<Bytes> {
        self.vote()
    }

    fn save_committed(&self, committed: Bytes) -> Result<()> {
        self.save_committed(committed)
    }

    fn committed(&self) -> Option<Bytes> {
        self.committed()
    }

    fn save_checkpoint(&self, checkpoint: Bytes, done: Option<Done>) -> Result<()> {
        self.save_checkpoint(checkpoint, done)
    }

    fn checkpoint(&self) -> Result<Option<Bytes>> {
        self.checkpoint()
    }

    fn set_log_start(&self, start: Offset) -> Result<()> {
        self.set_log_start(start)
    }

    fn read(&self, from: Offset, until: Offset, bytes_max: usize) -> Result<Vec<Entry>> {
        self.read(from, until, bytes_max)
    }

    fn clean(&self, rules: &CleanRules) -> Result<CleanStep> {
        self.clean(rules)
    }

    fn settled(&self) -> Option<Settled> {
        self.settled()
    }

    fn settled_batches(&self, from: Offset, until: Offset, bytes_max: usize) -> Result<Vec<Entry>> {
        self.settled_batches(from, until, bytes_max)
    }

    fn stage(
        &self,
        begin: bool,
        batches: Vec<Bytes>,
        complete: Option<Offset>,
        done: Done,
    ) -> Result<()> {
        self.stage(begin, batches, complete, done)
    }

    fn staged(&self) -> Option<Offset> {
        self.staged()
    }
}
