//! What the writer is asked to do: one command is one call of the public interface.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::keys::BucketId;
use crate::partition::Partition;
use crate::record;
use crate::relocate::Piece;
use crate::rows::{BucketState, PurgedRow, SparseRow};
use crate::state::SparseCut;
use crate::table::row::KeyRows;
use crate::{Epoch, Index, Offset, Result, Term};

/// Called once the command is durable, or with the reason why it never will be.
pub(crate) type Done = Box<dyn FnOnce(Result<()>) + Send>;

/// An entry as RocksDB stores it.
#[derive(Debug)]
pub(crate) struct StoredRecord {
    pub(crate) index: Index,
    pub(crate) base_offset: Offset,
    /// Bytes of all batches before it.
    pub(crate) position: u64,
    pub(crate) value: Bytes,
    /// What its records add to the key index.
    pub(crate) rows: KeyRows,
}

/// A family with rows that a [`Op::Rows`] changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    Meta,
    Keys,
    Compacted,
}

/// A change of one row, or of many that lie together.
#[derive(Debug)]
pub(crate) enum RowChange {
    Put {
        home: Home,
        key: Vec<u8>,
        value: Bytes,
    },
    Delete {
        home: Home,
        key: Vec<u8>,
    },
    /// The rows `start..end`.
    DeleteRange {
        home: Home,
        start: Vec<u8>,
        end: Vec<u8>,
    },
    /// Rows of the key index.
    Enter(KeyRows),
}

impl RowChange {
    /// The bytes it takes in a batch, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
            Self::DeleteRange { start, end, .. } => start.len() + end.len(),
            Self::Enter(rows) => rows.bytes(),
        }
    }
}

/// A change of durable state.
#[derive(Debug)]
pub(crate) enum Op {
    /// New entries, with the epochs and sparse rows that begin in them, and the committed position
    /// when it has moved since the last append.
    Append {
        records: Vec<StoredRecord>,
        epochs: Vec<Epoch>,
        sparse: Vec<SparseRow>,
        committed: Option<Bytes>,
    },
    /// Removal of the entries `from..=to_last`, the last ones; `log_start` when it moved back with them.
    Truncate {
        from: Index,
        to_last: Index,
        epochs: Vec<Term>,
        sparse: SparseCut,
        log_start: Option<Offset>,
        /// What they had added to the key index.
        entered: Vec<KeyRows>,
    },
    /// Removal of the entries up to a position; of `all` there are. Rows of the sparse index stay below `settled`.
    Purge { row: PurgedRow, epochs: Vec<Term>, all: bool, settled: Offset },
    /// Removal of everything, and a new beginning, at `log_start`; the rows of the table that come with it.
    Reset { row: PurgedRow, log_start: Offset, epochs: Vec<Term>, table: Vec<RowChange> },
    /// Removal of the partition.
    Delete,
    /// Entries that move to another bucket.
    Relocate(Piece),
    /// A bucket's next state; none when it is gone.
    Bucket { id: BucketId, to: Option<BucketState> },
    /// Nothing: waits for what came before.
    Barrier,
    /// Rows of a table.
    Rows(Vec<RowChange>),
    /// A row of `meta`.
    Row { key: Vec<u8>, value: Vec<u8> },
    /// A row of `default`.
    Node { key: Vec<u8>, value: Vec<u8> },
}

/// One call, on its way to the disk.
pub(crate) struct Command {
    /// The partition it changes; none for a value of the node.
    pub(crate) partition: Option<Arc<Partition>>,
    /// Its number within the partition.
    pub(crate) seq: u64,
    pub(crate) op: Op,
    /// Bytes it holds of the queue's bound.
    pub(crate) bytes: usize,
    /// `None` makes it lazy: it needs no sync for itself.
    pub(crate) done: Option<Done>,
    /// When it was accepted.
    pub(crate) accepted: Instant,
    /// Whether its log was relaxed then.
    pub(crate) relaxed: bool,
}

impl Command {
    /// Whether it may be answered before its sync: it appends nothing but batches to a relaxed log.
    pub(crate) fn is_relaxed(&self) -> bool {
        let Op::Append { records, .. } = &self.op else { return false };
        self.relaxed && records.iter().all(|stored| record::is_batch(&stored.value))
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Command")
            .field("seq", &self.seq)
            .field("op", &self.op)
            .finish_non_exhaustive()
    }
}
