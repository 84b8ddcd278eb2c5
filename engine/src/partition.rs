//! One partition as the engine's threads share it.
//!
//! Invariants:
//! - No lock here but `maintaining` is held across I/O or while waiting for room.
//! - `segments` is changed by the log thread that writes, before RocksDB's state is published to readers.
//! - Every entry in RocksDB that is not purged lies in the bucket its segment names; a bucket
//!   without a segment holds no live entry of the partition and never gets a stale one back.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::keys::{self, Tag};
use crate::rows::{self, Segment};
use crate::state::State;
use crate::{Error, Index, PartitionId, Result, RetentionClass};

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: PartitionId,
    /// The number of the replica whose log this is; never changes.
    pub(crate) replica: u32,
    class: AtomicU8,
    pub(crate) state: Mutex<State>,
    /// Which bucket holds which entries, oldest first.
    pub(crate) segments: Mutex<Vec<Segment>>,
    pub(crate) answers: Answers,
    /// Held by what changes the table step by step: cleaning, entering old records, trimming. Never by a reader or an append.
    pub(crate) maintaining: Mutex<()>,
}

/// When the partition's appends are answered.
///
/// `waiting` grows only within a log thread's turn, and shrinks only after a completion has been called: as long as one waits for a sync, everything behind it waits too, so that completions keep
/// the order of the commands also while the mode changes.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Batches appended from now on are answered once they are written; otherwise, and for everything else,
    /// once synced.
    pub(crate) relaxed: AtomicBool,
    /// Completions that wait for a sync.
    waiting: AtomicUsize,
}

impl Answers {
    /// Whether a completion may be called now, before the sync. Otherwise it is counted as waiting.
    pub(crate) fn now_or_wait(&self, relaxed: bool) -> bool {
        if relaxed && self.waiting.load(Ordering::Acquire) == 0 {
            return true;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        false
    }

    /// Notes that a completion that waited has been called.
    pub(crate) fn called(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Partition {
    /// The partition `id` of a class and replica with what is known of its log.
    pub(crate) fn new(
        id: PartitionId,
        (class, replica): (RetentionClass, u32),
        state: State,
        segments: Vec<Segment>,
    ) -> Self {
        let (state, segments) = (Mutex::new(state), Mutex::new(segments));
        let answers = Answers::default();
        let (class, maintaining) = (AtomicU8::new(class.0), Mutex::new(()));
        Self { id, replica, class, state, segments, answers, maintaining }
    }

    /// The class whose buckets take its entries from now on.
    pub(crate) fn class(&self) -> RetentionClass {
        RetentionClass(self.class.load(Ordering::Relaxed))
    }

    /// Its row as it is now.
    pub(crate) fn row(&self) -> (Vec<u8>, Vec<u8>) {
        (keys::one(Tag::Partition, self.id), rows::partition(self.class(), self.replica))
    }

    /// Changes the class; true if it was another one.
    pub(crate) fn set_class(&self, class: RetentionClass) -> bool {
        self.class.swap(class.0, Ordering::Relaxed) != class.0
    }

    /// The parts of the segments between `start` and `end`, oldest first.
    pub(crate) fn parts(&self, start: Index, end: Index) -> Vec<(Segment, Index, Index)> {
        let segments = self.segments.lock();
        let skip = segments.partition_point(|segment| segment.first <= start).saturating_sub(1);
        let mut parts = Vec::new();
        for (at, segment) in segments.iter().enumerate().skip(skip) {
            let next = segments.get(at + 1).map_or(Index(u64::MAX), |next| next.first);
            let (from, to) = (segment.first.max(start), next.min(end));
            if segment.first >= end {
                break;
            }
            if from < to {
                parts.push((*segment, from, to));
            }
        }
        parts
    }

    /// The error for stored bytes at `index` that do not decode.
    pub(crate) fn corrupt(&self, index: Index, what: impl Into<Cow<'static, str>>) -> Error {
        Error::Corrupt { partition: self.id, index, what: what.into() }
    }

    /// Locks the state of a log that is not deleted.
    pub(crate) fn live(&self) -> Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.state.lock();
        if state.deleted { Err(Error::Deleted(self.id)) } else { Ok(state) }
    }
}
