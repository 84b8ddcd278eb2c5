//! One partition's log: append at the end, read anywhere, trim at the start.

use bytes::Bytes;

use crate::{Entry, Index, NewEntry, Offset, PartitionId, Result, Term};

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
pub struct PartitionLog {}

impl PartitionLog {
    /// The partition.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        unimplemented!()
    }

    /// Both ends of the log, including what is appended and not yet durable.
    #[must_use]
    pub fn state(&self) -> LogState {
        unimplemented!()
    }

    /// Appends `entries`: assigns offsets, stamps base offset and leader epoch, and hands them to the
    /// writer. They are readable when this returns; `done` is called from an engine thread once they
    /// are durable, in order of appends. Blocks while the engine's queue is full.
    ///
    /// # Errors
    /// [`crate::Error::InvalidAppend`] (nothing is taken, `done` is not called),
    /// [`crate::Error::Closed`], [`crate::Error::Deleted`].
    pub fn append(
        &self,
        _entries: Vec<NewEntry>,
        _done: Box<dyn FnOnce(Result<()>) + Send>,
    ) -> Result<()> {
        unimplemented!()
    }

    /// Removes every entry after `last` (all of them for `None`); the end offset moves back with
    /// them. Effective for readers on return, ordered before later appends on disk.
    ///
    /// # Errors
    /// [`crate::Error::InvalidAppend`] below the purged index, [`crate::Error::Closed`].
    pub fn truncate_after(&self, _last: Option<Index>) -> Result<()> {
        unimplemented!()
    }

    /// Forgets the Raft entries up to and including `upto` (which may lie beyond the end, then the
    /// log is empty and goes on behind it). Does not move the log start offset beyond the first kept
    /// batch. Lazy: not synced for itself.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn purge(&self, _upto: LogId) -> Result<()> {
        unimplemented!()
    }

    /// Resets an empty or outdated log to begin behind `boundary` with `next_offset` (a follower that
    /// got a boundary snapshot). `done` is called once durable.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn reset(
        &self,
        _boundary: LogId,
        _next_offset: Offset,
        _done: Box<dyn FnOnce(Result<()>) + Send>,
    ) -> Result<()> {
        unimplemented!()
    }

    /// Stores the group's vote (opaque), in one order with appends; `done` once durable.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn save_vote(&self, _vote: Bytes, _done: Box<dyn FnOnce(Result<()>) + Send>) -> Result<()> {
        unimplemented!()
    }

    /// The vote saved last.
    #[must_use]
    pub fn vote(&self) -> Option<Bytes> {
        unimplemented!()
    }

    /// Stores the committed position (opaque). Lazy: durable with a later sync.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn save_committed(&self, _committed: Bytes) -> Result<()> {
        unimplemented!()
    }

    /// The committed position saved last.
    #[must_use]
    pub fn committed(&self) -> Option<Bytes> {
        unimplemented!()
    }

    /// Stores the state machine's checkpoint (opaque), ordered after the appends before it. Lazy unless
    /// `done` is given, which is called once durable.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn save_checkpoint(
        &self,
        _checkpoint: Bytes,
        _done: Option<Box<dyn FnOnce(Result<()>) + Send>>,
    ) -> Result<()> {
        unimplemented!()
    }

    /// The checkpoint saved last.
    ///
    /// # Errors
    /// [`crate::Error::Storage`].
    pub fn checkpoint(&self) -> Result<Option<Bytes>> {
        unimplemented!()
    }

    /// Entries with `start <= index < end`, stopping after `bytes_max` of payload but returning at
    /// least one if there is one. Also those not yet durable. May read the disk.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`], [`crate::Error::Storage`], [`crate::Error::Deleted`].
    pub fn entries(
        &self,
        _start: Index,
        _end: Index,
        _bytes_max: usize,
        _part: PayloadPart,
    ) -> Result<Vec<Entry>> {
        unimplemented!()
    }

    /// Whole record batches from the one that holds `from` up to, not including, offset `until`, at
    /// most `bytes_max` but at least one batch when there is one. `from == until` gives none.
    /// May read the disk when [`PartitionLog::is_cached`] is false.
    ///
    /// # Errors
    /// [`crate::Error::OffsetOutOfRange`] below the log start or above `until`,
    /// [`crate::Error::Corrupt`], [`crate::Error::Storage`], [`crate::Error::Deleted`].
    pub fn read(&self, _from: Offset, _until: Offset, _bytes_max: usize) -> Result<Vec<Entry>> {
        unimplemented!()
    }

    /// Whether a read from `from` is served from memory without touching the disk.
    #[must_use]
    pub fn is_cached(&self, _from: Offset) -> bool {
        unimplemented!()
    }

    /// Whether the entry at `index`, and so all after it, is served from memory.
    #[must_use]
    pub fn is_index_cached(&self, _index: Index) -> bool {
        unimplemented!()
    }

    /// The first batch below `until` whose max timestamp is at least `timestamp` (ms), found through the
    /// sparse index and then headers; `None` when there is none.
    ///
    /// # Errors
    /// As [`PartitionLog::read`].
    pub fn find_timestamp(&self, _timestamp: i64, _until: Offset) -> Result<Option<Entry>> {
        unimplemented!()
    }

    /// The batch below `until` with the largest max timestamp, the first of them on a tie.
    ///
    /// # Errors
    /// As [`PartitionLog::read`].
    pub fn find_max_timestamp(&self, _until: Offset) -> Result<Option<Entry>> {
        unimplemented!()
    }

    /// Every term in the log with its first index and start offset, oldest first.
    #[must_use]
    pub fn epochs(&self) -> Vec<Epoch> {
        unimplemented!()
    }

    /// Moves the log start offset forward to `start` (never back, never past the end). Readers see it
    /// at once; durable with a later sync.
    ///
    /// # Errors
    /// [`crate::Error::OffsetOutOfRange`], [`crate::Error::Closed`].
    pub fn set_log_start(&self, _start: Offset) -> Result<()> {
        unimplemented!()
    }
}
