//! What cleaning remembers from step to step: for some keys, the offset of their newest record that was seen and where their settled
//! record lies, so that few rows of the key index must be looked up.
//!
//! Before a log is settled up to a bound, its keys up to there are *noted*, in order, as long as there is room. What is remembered
//! stays true: what was noted is committed, and where a key's settled record lies changes only in steps of cleaning. How much that is
//! has a bound; a key that is not remembered is looked up. There is one of these for all logs, and it belongs to the log that was
//! cleaned last.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::unpacked::Unpacked;
use crate::partition::Partition;
use crate::{Entry, Index, Offset};

/// Memory that this takes, about.
const BYTES_MAX: usize = 16 << 20;
/// What a key costs beside its bytes.
const KEY_BYTES: usize = 96;

/// Where the row of a key's settled record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Older {
    /// It must be looked up.
    Unknown,
    /// There is none.
    None,
    /// At this offset.
    At(Offset),
}

#[derive(Debug)]
struct Known {
    /// The newest record that was seen.
    newest: Offset,
    older: Older,
}

/// What is known of some keys of one log.
#[derive(Debug, Default)]
pub(crate) struct Newer {
    log: Weak<Partition>,
    epoch: u64,
    /// What was seen lies below it.
    until: Offset,
    known: HashMap<Box<[u8]>, Known>,
    bytes: usize,
    /// Whether a key was not taken in.
    is_full: bool,
    /// Whether every key that is settled is known.
    is_whole: bool,
    /// The records below this offset, from the settled one on, are noted; they lie in entries up to this one.
    noted: (Offset, Index),
    /// Bytes that a step reads, when the last one could not use all.
    window: Option<usize>,
}

impl Newer {
    /// What is known of a table of `log` below `until`: nothing when this belongs to another one, or more was seen.
    pub(crate) fn of(self, log: &Arc<Partition>, epoch: u64, until: Offset) -> Self {
        let is_same = std::ptr::eq(self.log.as_ptr(), Arc::as_ptr(log)) && self.epoch == epoch;
        if is_same && until >= self.until {
            Self { until, ..self }
        } else {
            Self { log: Arc::downgrade(log), epoch, until, ..Self::default() }
        }
    }

    /// Nothing was settled before what is known from here on.
    pub(crate) fn nothing_settled(&mut self) {
        self.is_whole |= self.known.is_empty() && !self.is_full;
    }

    /// Begins anew if there was no room for all keys: the next ones may be others.
    pub(crate) fn forget_if_full(&mut self) {
        if self.is_full {
            let (log, epoch, until) = (std::mem::take(&mut self.log), self.epoch, self.until);
            *self = Self { log, epoch, until, ..Self::default() };
        }
    }

    /// Whether all records from the settled ones on are noted up to `until`.
    pub(crate) fn is_noted(&self, until: Offset) -> bool {
        self.noted.0 >= until
    }

    /// Where noting goes on behind what is settled; `None` when all below `until` is noted, or there is no room.
    pub(crate) fn goes_on(&self, settled: (Offset, Index), until: Offset) -> Option<Index> {
        let (offset, index) = if self.noted.0 > settled.0 { self.noted } else { settled };
        (offset < until && !self.is_full).then(|| Index(index.0.saturating_add(1)))
    }

    /// Notes the records of the batches that come next, which reach up to `to`.
    pub(crate) fn note(&mut self, batches: &[Entry], to: (Offset, Index)) {
        for batch in batches {
            let Some(unpacked) = Unpacked::of(&batch.payload) else { continue };
            for (offset, record) in unpacked.records() {
                if let Some(key) = record.key {
                    self.saw(key, offset);
                }
            }
        }
        if !self.is_full {
            self.noted = to;
        }
    }

    /// Remembers that `key` has a record at `offset`, if there is room for it.
    pub(crate) fn saw(&mut self, key: &[u8], offset: Offset) {
        if let Some(known) = self.known.get_mut(key) {
            known.newest = known.newest.max(offset);
        } else {
            self.insert(key, Known { newest: offset, older: self.unseen() });
        }
    }

    /// Where the settled record of a key is that is not known.
    fn unseen(&self) -> Older {
        if self.is_whole { Older::None } else { Older::Unknown }
    }

    fn insert(&mut self, key: &[u8], known: Known) {
        if self.bytes >= BYTES_MAX {
            (self.is_full, self.is_whole) = (true, false);
            return;
        }
        self.bytes += key.len() + KEY_BYTES;
        self.known.insert(key.into(), known);
    }

    /// The newest record of `key` that was seen, and where its settled one lies.
    pub(crate) fn of_key(&self, key: &[u8]) -> (Option<Offset>, Older) {
        match self.known.get(key) {
            Some(known) => (Some(known.newest), known.older),
            None => (None, self.unseen()),
        }
    }

    /// Remembers that the record of `key` at `offset` has been settled.
    pub(crate) fn settled(&mut self, key: &[u8], offset: Offset) {
        let older = Older::At(offset);
        match self.known.get_mut(key) {
            Some(known) => known.older = older,
            None => self.insert(key, Known { newest: offset, older }),
        }
    }

    /// Remembers that the settled record of `key` at `offset` is gone. (One below the log start may go behind a later one.)
    pub(crate) fn gone(&mut self, key: &[u8], offset: Offset) {
        if let Some(known) = self.known.get_mut(key)
            && known.older == Older::At(offset)
        {
            known.older = Older::None;
        }
    }

    /// Bytes that the next step reads, of `bytes_max`.
    pub(crate) fn window(&self, bytes_max: usize) -> usize {
        self.window.map_or(bytes_max, |window| window.min(bytes_max))
    }

    /// A step has used so many of the bytes that it had read.
    pub(crate) fn used(&mut self, used: usize, read: usize) {
        self.window = Some(if used < read { used } else { read.saturating_mul(2) });
    }
}
