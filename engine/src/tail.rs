//! The newest entries of one partition, in memory.
//!
//! Invariants:
//! - Indexes are contiguous and the last one is the log's last, unless the tail is empty.
//! - An entry leaves at the front only after RocksDB has it, or when the log forgets it.

use std::collections::VecDeque;

use crate::{Entry, Index, Offset};

/// What an entry costs beside its payload.
const ENTRY_BYTES: usize = 160;

#[derive(Debug)]
struct Cached {
    entry: Entry,
    /// The command that brought it.
    seq: u64,
}

/// The newest entries of one partition, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    entries: VecDeque<Cached>,
}

fn cost(entry: &Entry) -> usize {
    entry.payload.len() + ENTRY_BYTES
}

impl Tail {
    /// Adds `entry`, brought by command `seq`; returns the bytes it takes.
    pub(crate) fn push(&mut self, entry: Entry, seq: u64) -> usize {
        let bytes = cost(&entry);
        self.entries.push_back(Cached { entry, seq });
        bytes
    }

    /// Index of the oldest entry held.
    pub(crate) fn first(&self) -> Option<Index> {
        self.entries.front().map(|cached| cached.entry.index)
    }

    /// The offset from which on batches are held.
    pub(crate) fn first_offset(&self) -> Option<Offset> {
        self.entries.front().map(|cached| cached.entry.base_offset)
    }

    /// The first offset of what commands behind `seq` brought, if they brought any.
    pub(crate) fn first_offset_behind(&self, seq: u64) -> Option<Offset> {
        let at = self.entries.partition_point(|cached| cached.seq <= seq);
        self.entries.get(at).map(|cached| cached.entry.base_offset)
    }

    /// The entry at `index`, if it is held.
    pub(crate) fn get(&self, index: Index) -> Option<&Entry> {
        self.iter_from(index)?.next()
    }

    /// The entries from `index` on, if it is held.
    pub(crate) fn iter_from(&self, index: Index) -> Option<impl Iterator<Item = &Entry>> {
        let skip = usize::try_from(index.0.checked_sub(self.first()?.0)?).ok()?;
        if skip >= self.entries.len() {
            return None;
        }
        Some(self.entries.range(skip..).map(|cached| &cached.entry))
    }

    /// Index of the first entry that ends behind `offset`, if all from `offset` on are held.
    pub(crate) fn find(&self, offset: Offset) -> Option<Index> {
        if self.first_offset()? > offset {
            return None;
        }
        let at = self.entries.partition_point(|cached| cached.entry.next_offset() <= offset);
        self.entries.get(at).map(|cached| cached.entry.index)
    }

    /// Drops entries after `last`; returns the bytes freed.
    pub(crate) fn truncate_after(&mut self, last: Option<Index>) -> usize {
        let mut freed = 0;
        while let Some(cached) = self.entries.back() {
            if last.is_some_and(|last| cached.entry.index <= last) {
                break;
            }
            freed += cost(&cached.entry);
            self.entries.pop_back();
        }
        freed
    }

    /// Drops entries up to and including `upto`; returns the bytes freed.
    pub(crate) fn purge(&mut self, upto: Index) -> usize {
        self.pop_while(|cached| cached.entry.index <= upto)
    }

    /// Drops what commands up to `seq` brought; returns the bytes freed.
    pub(crate) fn evict(&mut self, seq: u64) -> usize {
        self.pop_while(|cached| cached.seq <= seq)
    }

    fn pop_while(&mut self, leaves: impl Fn(&Cached) -> bool) -> usize {
        let mut freed = 0;
        while let Some(cached) = self.entries.front() {
            if !leaves(cached) {
                break;
            }
            freed += cost(&cached.entry);
            self.entries.pop_front();
        }
        if self.entries.is_empty() {
            // A partition nobody writes to keeps no room for what it once held.
            self.entries = VecDeque::new();
        }
        freed
    }
}
