//! Where the snapshots of a log stand: at the entry it was purged up to, or is about to be.
//!
//! A snapshot there takes no record from a follower that lags: it is sent what the purged entries came to, and
//! then all entries that are left.
//!
//! Invariants:
//! - A boundary lies at or below the entry applied last, and never moves back.
//! - The configuration in force at the boundary is known, and those that were applied since.

use std::collections::VecDeque;
use std::io;

use jangbu_engine::{Index, LogId as EngineLogId, Offset, PayloadPart};

use super::log::Log;
use super::log_store::to_io;
use super::types::{LogId, StoredMembership, log_id};

/// An entry of a log, and what lies behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boundary {
    pub(crate) id: LogId,
    /// The offset after the last one up to it.
    pub(crate) next_offset: Offset,
}

impl Boundary {
    /// The boundary at the entry `index`, which the log holds. May read the disk.
    pub(super) fn at(log: &impl Log, index: Index) -> io::Result<Self> {
        let next = Index(index.0.saturating_add(1));
        let entries = log.entries(index, next, 1, PayloadPart::Header).map_err(to_io)?;
        let entry = entries.first().ok_or_else(|| {
            io::Error::other(format!("{} holds no entry {index} to purge up to", log.id()))
        })?;
        let id = log_id(EngineLogId { term: entry.term, index: entry.index });
        Ok(Self { id, next_offset: entry.next_offset() })
    }

    /// The boundary at the entry that was purged last. May read the disk.
    pub(super) fn at_purged(log: &impl Log, purged: EngineLogId) -> io::Result<Self> {
        let first = Index(purged.index.0.saturating_add(1));
        let second = Index(first.0.saturating_add(1));
        let entries = log.entries(first, second, 1, PayloadPart::Header).map_err(to_io)?;
        let next_offset =
            entries.first().map_or_else(|| log.state().end_offset, |entry| entry.base_offset);
        Ok(Self { id: log_id(purged), next_offset })
    }
}

/// The configurations that were applied since the boundary, with the one in force there, oldest first.
#[derive(Debug, Default)]
pub(super) struct Memberships(VecDeque<StoredMembership>);

impl Memberships {
    pub(super) fn new(applied: Vec<StoredMembership>) -> Self {
        Self(applied.into())
    }

    pub(super) fn push(&mut self, membership: StoredMembership) {
        self.0.push_back(membership);
    }

    /// The one in force now.
    pub(super) fn last(&self) -> StoredMembership {
        self.0.back().cloned().unwrap_or_default()
    }

    /// The one in force at an entry that is not older than the boundary.
    pub(super) fn at(&self, id: &LogId) -> StoredMembership {
        let known = self.0.iter().rev().find(|known| known.log_id().as_ref() <= Some(id));
        known.cloned().unwrap_or_default()
    }

    /// Forgets those that were no longer in force at `id`.
    pub(super) fn forget_before(&mut self, id: &LogId) {
        while self.0.get(1).is_some_and(|next| next.log_id().as_ref() <= Some(id)) {
            self.0.pop_front();
        }
    }

    pub(super) fn to_vec(&self) -> Vec<StoredMembership> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::consensus::types::Membership;

    fn membership(index: u64) -> StoredMembership {
        let nodes = BTreeMap::from([(index, ())]);
        let membership = Membership::new(vec![BTreeSet::from([index])], nodes).unwrap();
        StoredMembership::new(Some(LogId::new_term_index(1, index)), membership)
    }

    #[test]
    fn the_configuration_at_a_boundary_is_the_last_one_before_it() {
        let mut known = Memberships::new(vec![membership(0), membership(5)]);
        known.push(membership(9));
        let at = |known: &Memberships, index| {
            known.at(&LogId::new_term_index(1, index)).log_id().map(|id| id.index)
        };
        assert_eq!([0, 4, 5, 8, 9, 20].map(|index| at(&known, index).unwrap()), [0, 0, 5, 5, 9, 9]);
        known.forget_before(&LogId::new_term_index(1, 7));
        assert_eq!([7, 8, 9].map(|index| at(&known, index).unwrap()), [5, 5, 9]);
        assert_eq!(known.to_vec().len(), 2, "what was in force before the boundary is forgotten");
        assert_eq!(known.last(), membership(9));
    }
}
