//! What cleaning remembers from step to step: for some keys, an offset below the bound at which there is a record of it.
//!
//! Any record of the key before that offset is superseded, which then needs no look at the key index. What is remembered stays true:
//! it is committed. How much that is has a bound; a key that is not remembered is looked up.

use std::collections::HashMap;

use super::unpacked::Unpacked;
use crate::{Entry, Offset};

/// Memory that this takes, about.
const BYTES_MAX: usize = 16 << 20;
/// What a key costs beside its bytes.
const KEY_BYTES: usize = 80;

/// Some keys and the offset of a record of each.
#[derive(Debug, Default)]
pub(crate) struct Newer {
    known: HashMap<Box<[u8]>, Offset>,
    bytes: usize,
    epoch: u64,
}

impl Newer {
    /// Forgets what was known of another table.
    pub(crate) fn of(&mut self, epoch: u64) {
        if self.epoch != epoch {
            *self = Self { epoch, ..Self::default() };
        }
    }

    /// Gives back its memory.
    pub(crate) fn forget(&mut self) {
        *self = Self { epoch: self.epoch, ..Self::default() };
    }

    /// Whether a record of `key` behind `offset` is known.
    pub(crate) fn is_known(&self, key: &[u8], offset: Offset) -> bool {
        self.known.get(key).is_some_and(|newer| *newer > offset)
    }

    /// Remembers that `key` has a record at `offset`, if there is room for it.
    pub(crate) fn remember(&mut self, key: &[u8], offset: Offset) {
        if let Some(known) = self.known.get_mut(key) {
            *known = (*known).max(offset);
        } else if self.bytes < BYTES_MAX {
            self.bytes += key.len() + KEY_BYTES;
            self.known.insert(key.into(), offset);
        }
    }

    /// Remembers the records of a batch.
    pub(crate) fn note(&mut self, batch: &Entry) {
        let Some(unpacked) = Unpacked::of(&batch.payload) else { return };
        for (offset, record) in unpacked.records() {
            if let Some(key) = record.key {
                self.remember(key, offset);
            }
        }
    }
}
