//! What one partition's log is, in memory or on the disk: the engine's contract as a pure model.
//!
//! The same changes make the same image, so that a crash is an image that lacks the last changes.

use std::collections::BTreeMap;

use bytes::Bytes;
use jangbu_engine::{Entry, EntryKind, Epoch, Index, LogId, LogState, Offset};

use super::records::{Record, records};

/// A change of a log; offsets are assigned.
#[derive(Debug)]
pub(super) enum Change {
    /// Entries behind the last one, with the committed position as it was then.
    Append {
        entries: Vec<Entry>,
        committed: Option<Bytes>,
    },
    Truncate(Option<Index>),
    /// Up to here; the offset behind it.
    Purge(LogId, Offset),
    Reset(LogId, Offset),
    Vote(Bytes),
    Checkpoint(Bytes),
    LogStart(Offset),
    Settle(Settled),
    /// Batches of another replica: whether they are the first, and whether they are all below an offset.
    Stage {
        begin: bool,
        batches: Vec<Entry>,
        complete: Option<Offset>,
    },
}

/// What cleaning left of a log, by base offset.
#[derive(Debug, Clone, Default)]
pub(super) struct Settled {
    pub(super) batches: BTreeMap<i64, Entry>,
    /// The last batch that it stands for, and the offset behind it.
    pub(super) upto: Option<(LogId, Offset)>,
}

impl Settled {
    /// The offset behind it.
    pub(super) fn end(&self) -> Offset {
        self.upto.map_or(Offset(0), |(_, end)| end)
    }
}

/// A log.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pub(super) entries: BTreeMap<u64, Entry>,
    /// The last entry that was purged, and the offset behind it.
    pub(super) purged: Option<(LogId, Offset)>,
    pub(super) log_start: Offset,
    pub(super) epochs: Vec<Epoch>,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    pub(super) checkpoint: Option<Bytes>,
    pub(super) settled: Settled,
    staged: BTreeMap<i64, Entry>,
    /// Up to where everything is staged.
    pub(super) staged_below: Option<Offset>,
}

impl Image {
    /// Both ends of it.
    pub(super) fn state(&self) -> LogState {
        let purged = self.purged.map(|(id, _)| id);
        let last = self.entries.values().next_back();
        LogState {
            purged,
            last: last.map(|last| LogId { term: last.term, index: last.index }).or(purged),
            log_start_offset: self.log_start,
            end_offset: self.end(),
        }
    }

    /// The offset behind the last entry.
    pub(super) fn end(&self) -> Offset {
        let purged = self.purged.map_or(Offset(0), |(_, next_offset)| next_offset);
        self.entries.values().next_back().map_or(purged, Entry::next_offset)
    }

    /// The offset behind the entry at `index`, or behind the one before it that there is.
    pub(super) fn next_offset(&self, index: Index) -> Offset {
        let before = self.entries.range(..=index.0).next_back();
        let purged = self.purged.map_or(Offset(0), |(_, next_offset)| next_offset);
        before.map_or(purged, |(_, entry)| entry.next_offset())
    }

    /// Whether it holds this entry, or began behind it.
    pub(super) fn covers(&self, id: LogId) -> bool {
        self.purged.is_some_and(|(purged, _)| purged.index >= id.index)
            || self.entries.get(&id.index.0).is_some_and(|entry| entry.term == id.term)
    }

    /// Makes a change.
    pub(super) fn change(&mut self, change: &Change) {
        match change {
            Change::Append { entries, committed } => {
                entries.iter().for_each(|entry| self.append(entry));
                if committed.is_some() {
                    self.committed.clone_from(committed);
                }
            }
            Change::Truncate(last) => self.truncate(*last),
            Change::Purge(upto, next_offset) => self.purge(*upto, *next_offset),
            Change::Reset(boundary, next_offset) => self.reset(*boundary, *next_offset),
            Change::Vote(vote) => self.vote = Some(vote.clone()),
            Change::Checkpoint(checkpoint) => self.checkpoint = Some(checkpoint.clone()),
            Change::LogStart(start) => {
                self.log_start = *start;
                self.settled.batches.retain(|_, batch| batch.next_offset() > *start);
            }
            Change::Settle(settled) => self.settled = settled.clone(),
            Change::Stage { begin, batches, complete } => self.stage(*begin, batches, *complete),
        }
    }

    fn append(&mut self, entry: &Entry) {
        if self.epochs.last().is_none_or(|last| last.term != entry.term) {
            let (term, first_index) = (entry.term, entry.index);
            self.epochs.push(Epoch { term, first_index, start_offset: self.end() });
        }
        self.entries.insert(entry.index.0, entry.clone());
    }

    fn truncate(&mut self, last: Option<Index>) {
        let from = last.map_or(0, |last| last.0 + 1);
        if self.entries.split_off(&from).is_empty() {
            return;
        }
        self.epochs.retain(|epoch| epoch.first_index.0 < from);
        self.log_start = self.log_start.min(self.end());
    }

    fn purge(&mut self, upto: LogId, next_offset: Offset) {
        if self.purged.is_some_and(|(purged, _)| purged.index >= upto.index) {
            return;
        }
        let next = upto.index.0 + 1;
        self.entries = self.entries.split_off(&next);
        self.purged = Some((upto, next_offset));
        if self.settled.end() < next_offset {
            self.log_start = self.log_start.max(next_offset);
        }
        let begun = self.epochs.partition_point(|epoch| epoch.first_index.0 <= next);
        self.epochs.drain(..begun.saturating_sub(1));
    }

    fn reset(&mut self, boundary: LogId, next_offset: Offset) {
        self.entries.clear();
        self.epochs.clear();
        self.purged = Some((boundary, next_offset));
        let staged = std::mem::take(&mut self.staged);
        if self.staged_below.take() == Some(next_offset) {
            self.settled = Settled { batches: staged, upto: Some((boundary, next_offset)) };
            self.log_start = Offset(0);
        } else {
            self.settled = Settled::default();
            self.log_start = next_offset;
        }
    }

    fn stage(&mut self, begin: bool, batches: &[Entry], complete: Option<Offset>) {
        if begin {
            self.staged.clear();
        }
        let batches = batches.iter().map(|batch| (batch.base_offset.0, batch.clone()));
        self.staged.extend(batches);
        self.staged_below = complete;
    }

    /// The batches that end behind `from` and not behind `until`, settled or not.
    pub(super) fn batches(&self, from: Offset, until: Offset) -> impl Iterator<Item = &Entry> {
        let settled = self.settled.end();
        let behind = self
            .entries
            .values()
            .filter(move |entry| entry.kind == EntryKind::Batch && entry.base_offset >= settled);
        let all = self.settled.batches.values().chain(behind);
        all.filter(move |batch| batch.next_offset() > from && batch.next_offset() <= until)
    }

    /// The records below `end` that readers are given.
    pub(super) fn records(&self, end: Offset) -> Vec<Record> {
        let batches = self.batches(self.log_start, end);
        let found = batches.flat_map(|batch| records(&batch.payload));
        found.filter(|record| record.offset >= self.log_start).collect()
    }
}
