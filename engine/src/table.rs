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

use bytes::Bytes;

use crate::{Entry, LogId, Offset, PartitionLog, Result};

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

impl PartitionLog {
    /// Turns the key index on or off. On: what is appended from now on is entered with its batch, and what is there
    /// already by [`PartitionLog::build_key_index`]. Off: all rows go.
    ///
    /// # Errors
    /// [`crate::Error::Closed`], [`crate::Error::Deleted`].
    pub fn set_keyed(&self, keyed: bool) -> Result<()> {
        let _ = keyed;
        Ok(())
    }

    /// Whether the log can be asked for keys.
    #[must_use]
    pub fn key_index(&self) -> KeyIndex {
        KeyIndex::Off
    }

    /// Enters the next `bytes_max` bytes or so of what was there before the index was turned on, up to `until` (the
    /// high watermark); true once everything is. Durable with a later sync. Reads the disk.
    ///
    /// # Errors
    /// As [`PartitionLog::read`].
    pub fn build_key_index(&self, until: Offset, bytes_max: u64) -> Result<bool> {
        let _ = (until, bytes_max);
        Ok(true)
    }

    /// The newest record of `key` below `below` (exclusive; at most the high watermark), tombstones included. May read
    /// the disk.
    ///
    /// # Errors
    /// [`crate::Error::NotKeyed`] unless [`KeyIndex::Ready`]; as [`PartitionLog::read`].
    pub fn get(&self, key: &[u8], below: Offset) -> Result<Option<KeyRecord>> {
        self.history(key, below, 1, usize::MAX).map(|found| found.into_iter().next())
    }

    /// The records of `key` below `below`, newest first: at most `count_max`, and about `bytes_max` bytes but at least one.
    /// What cleaning took away is not among them.
    ///
    /// # Errors
    /// As [`PartitionLog::get`].
    pub fn history(
        &self,
        key: &[u8],
        below: Offset,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<KeyRecord>> {
        let _ = (key, below, count_max, bytes_max);
        Err(crate::Error::NotKeyed(self.id()))
    }

    /// The newest record below `below` of each key that begins with `prefix` and comes after `after` in byte order, tombstones included: at
    /// most `count_max`, and about `bytes_max` bytes but at least one. (Keys beyond 1 KiB are ordered by their first 1 KiB
    /// only.)
    ///
    /// # Errors
    /// As [`PartitionLog::get`].
    pub fn keys_with_prefix(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        below: Offset,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<KeyRecord>> {
        let _ = (prefix, after, below, count_max, bytes_max);
        Err(crate::Error::NotKeyed(self.id()))
    }

    /// How clean the log is up to `until`.
    ///
    /// # Errors
    /// As [`PartitionLog::size`].
    pub fn cleanliness(&self, until: Offset) -> Result<Cleanliness> {
        let _ = until;
        Ok(Cleanliness::default())
    }

    /// Cleans a little more, durable on return: the next part of what is not settled, and once all is, the settled records
    /// that are superseded. To be called again until [`CleanStep::is_finished`]. Reads the disk.
    ///
    /// # Errors
    /// [`crate::Error::NotKeyed`] unless [`KeyIndex::Ready`]; as [`PartitionLog::read`].
    pub fn clean(&self, rules: &CleanRules) -> Result<CleanStep> {
        let _ = rules;
        Err(crate::Error::NotKeyed(self.id()))
    }

    /// The settled part, if there is one.
    #[must_use]
    pub fn settled(&self) -> Option<Settled> {
        None
    }

    /// Batches of the settled part from the one that ends at or behind `from`, below `until`: about `bytes_max` bytes, but
    /// at least one if there is one. Their `index` means nothing. Reads the disk.
    ///
    /// # Errors
    /// As [`PartitionLog::read`].
    pub fn settled_batches(
        &self,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Entry>> {
        let _ = (from, until, bytes_max);
        Ok(Vec::new())
    }

    /// Takes batches of another replica's settled part, beside what the log has: `begin` forgets what was staged before,
    /// `complete` says that what is staged now is everything below that offset. A [`PartitionLog::reset`] to exactly that
    /// offset then begins with them as its settled part. Ascending, each as [`PartitionLog::settled_batches`] gave it.
    /// `done` once durable.
    ///
    /// # Errors
    /// [`crate::Error::InvalidAppend`] for bytes that are no such batch, [`crate::Error::Closed`].
    pub fn stage(
        &self,
        begin: bool,
        batches: Vec<Bytes>,
        complete: Option<Offset>,
        done: Box<dyn FnOnce(Result<()>) + Send>,
    ) -> Result<()> {
        let _ = (begin, batches, complete);
        done(Ok(()));
        Ok(())
    }

    /// Up to which offset everything is staged, if it is.
    #[must_use]
    pub fn staged(&self) -> Option<Offset> {
        None
    }
}
