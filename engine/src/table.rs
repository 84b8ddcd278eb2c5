//! The log as a table: a key index beside the entries, and the settled part that cleaning leaves of them.
//!
//! ```text
//! offsets   log start ........ settled ......................... end
//! where     family `compacted` | buckets (every Raft entry)
//!           batches as cleaning left them, with holes | untouched, contiguous Raft indexes
//! rows      family `keys`: one for every record of both parts, newest first within a key
//! ```
//!
//! Below the *settled* offset a batch has lost the records that later ones of the same key supersede; the batch keeps its
//! base and last offset. What is settled may be purged from the Raft log without moving the log start.
//!
//! Not here: when to clean and how far (`server/src/compaction.rs`).

mod build;
pub(crate) mod clean;
mod lookup;
mod maintain;
pub(crate) mod newer;
pub(crate) mod row;
pub(crate) mod settled;
mod stage;
pub(crate) mod starts;
mod unpacked;

use bytes::Bytes;

use crate::{LogId, Offset};

/// Whether a log can be asked for keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyIndex {
    /// It has no key index.
    Off,
    /// Records that were there before the index was turned on are still being entered.
    Building,
    /// Every record from the log start to the end is entered.
    Ready,
}

/// A record found by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its key.
    pub key: Bytes,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp, ms.
    pub timestamp: i64,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Which records cleaning may take away.
#[derive(Debug, Clone)]
pub struct CleanRules {
    /// Only records below this offset are cleaned, and only by records below it: at most the high watermark, and
    /// the first record that is younger than `min.compaction.lag.ms`.
    pub until: Offset,
    /// The time now, ms since the epoch.
    pub now_ms: i64,
    /// How long a tombstone stays after it was first cleaned, ms.
    pub delete_retention_ms: i64,
    /// The last offsets of batches that must stay, if need be without records: the last one of each producer.
    /// Ascending.
    pub kept: Vec<Offset>,
    /// How many bytes of batches a step reads, about.
    pub bytes_max: u64,
}

/// What one step of cleaning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CleanStep {
    /// Bytes of batches that were read.
    pub read_bytes: u64,
    /// Bytes of batches that were only looked at, for their keys.
    pub noted_bytes: u64,
    /// Bytes of batches that were written.
    pub written_bytes: u64,
    /// Records that were taken away.
    pub removed: u64,
    /// Whether nothing is left to be cleaned by these rules.
    pub is_finished: bool,
}

/// How clean a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleanliness {
    /// Bytes of batches in the settled part.
    pub settled_bytes: u64,
    /// Bytes of batches behind it, up to the offset that was asked for.
    pub dirty_bytes: u64,
    /// Records of the settled part that are superseded and not yet taken away, or may go later.
    pub marked: u64,
    /// When the first tombstone of the settled part may go, ms since the epoch; `i64::MAX` when there is none.
    pub next_horizon_ms: i64,
    /// Largest timestamp of the first batch behind the settled part, ms; -1 when there is none.
    pub oldest_dirty_ms: i64,
}

/// The settled part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The last Raft entry it stands for: everything up to it may be purged.
    pub upto: LogId,
    /// The offset behind it.
    pub next_offset: Offset,
    /// Bytes of its batches.
    pub bytes: u64,
}
