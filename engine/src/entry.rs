//! One entry of a partition's log: what the engine is given and what it gives back.

use bytes::Bytes;

use crate::{Index, Offset, Term};

/// What an entry's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A Kafka record batch (magic 2). The only kind that takes offsets.
    Batch,
    /// A leader's first entry of its term; no payload.
    Blank,
    /// A change of the group's members, opaque to the engine.
    Membership,
    /// A command of a replicated state machine, opaque to the engine.
    Command,
}

/// An entry to append. Offsets are assigned by the engine.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// Follows the log's last index without a gap (any index when the log is empty).
    pub index: Index,
    /// At least the term of the entry before it.
    pub term: Term,
    /// What `payload` is.
    pub kind: EntryKind,
    /// For [`EntryKind::Batch`], exactly one record batch whose CRC the caller has checked.
    pub payload: Bytes,
}

/// A stored entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the Raft log.
    pub index: Index,
    /// The term of the leader that proposed it.
    pub term: Term,
    /// What `payload` is.
    pub kind: EntryKind,
    /// Offset of its first record; for other kinds, the offset the next batch will take.
    pub base_offset: Offset,
    /// Offsets it takes: 0 for every kind but a batch.
    pub record_count: u32,
    /// Largest timestamp in the batch in ms since the epoch, -1 for other kinds.
    pub max_timestamp: i64,
    /// For a batch, the batch with base offset and leader epoch stamped in.
    pub payload: Bytes,
}

impl Entry {
    /// The offset after the last one this entry takes.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.record_count)))
    }
}
