//! What the records of one consumer group come to.
//!
//! Not here: reading them (`records.rs`), the table of all groups (`table.rs` beside the classic groups).

use std::collections::{BTreeMap, BTreeSet};

use super::Assignment;
use super::member::{Current, Subscription};
use super::records::{EpochValue, Piece, RegexValue, TargetValue};

/// The newest record of each key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(super) epoch: Option<EpochValue>,
    pub(super) topics: bool,
    pub(super) members: BTreeMap<String, Subscription>,
    pub(super) target_epoch: Option<TargetValue>,
    pub(super) targets: BTreeMap<String, Assignment>,
    pub(super) currents: BTreeMap<String, Current>,
    pub(super) regexes: BTreeMap<String, RegexValue>,
}

fn set<V>(map: &mut BTreeMap<String, V>, key: String, value: Option<V>) {
    match value {
        Some(value) => {
            map.insert(key, value);
        }
        None => {
            map.remove(&key);
        }
    }
}

impl Stored {
    pub(in crate::groups) fn apply(&mut self, piece: Piece) {
        match piece {
            Piece::Epoch(value) => self.epoch = value,
            Piece::Topics(there) => self.topics = there,
            Piece::Member(id, value) => set(&mut self.members, id, value),
            Piece::TargetEpoch(value) => self.target_epoch = value,
            Piece::Target(id, value) => set(&mut self.targets, id, value),
            Piece::Current(id, value) => set(&mut self.currents, id, value),
            Piece::Regex(regex, value) => set(&mut self.regexes, regex, value),
        }
    }

    /// Whether nothing is stored.
    pub(in crate::groups) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether there is a group, and not just some of its remains.
    pub(in crate::groups) fn is_group(&self) -> bool {
        self.epoch.is_some()
    }

    /// The tombstones of everything that is stored and not among `kept`.
    pub(in crate::groups) fn tombstones(&self, kept: &Stored) -> Vec<Piece> {
        let gone = |stored: BTreeSet<&String>, kept: BTreeSet<&String>| {
            stored.difference(&kept).map(|id| (*id).clone()).collect::<Vec<String>>()
        };
        let mut all = Vec::new();
        let keys = gone(self.currents.keys().collect(), kept.currents.keys().collect());
        all.extend(keys.into_iter().map(|id| Piece::Current(id, None)));
        let keys = gone(self.targets.keys().collect(), kept.targets.keys().collect());
        all.extend(keys.into_iter().map(|id| Piece::Target(id, None)));
        if self.target_epoch.is_some() && kept.target_epoch.is_none() {
            all.push(Piece::TargetEpoch(None));
        }
        let keys = gone(self.members.keys().collect(), kept.members.keys().collect());
        all.extend(keys.into_iter().map(|id| Piece::Member(id, None)));
        let keys = gone(self.regexes.keys().collect(), kept.regexes.keys().collect());
        all.extend(keys.into_iter().map(|regex| Piece::Regex(regex, None)));
        if self.topics {
            all.push(Piece::Topics(false));
        }
        if self.epoch.is_some() && kept.epoch.is_none() {
            all.push(Piece::Epoch(None));
        }
        all
    }

    /// All of it as records.
    pub(super) fn pieces(&self) -> Vec<Piece> {
        let mut all = vec![Piece::Epoch(self.epoch)];
        let members = self.members.iter();
        all.extend(members.map(|(id, value)| Piece::Member(id.clone(), Some(value.clone()))));
        let regexes = self.regexes.iter();
        all.extend(regexes.map(|(regex, value)| Piece::Regex(regex.clone(), Some(value.clone()))));
        let targets = self.targets.iter();
        all.extend(targets.map(|(id, value)| Piece::Target(id.clone(), Some(value.clone()))));
        all.push(Piece::TargetEpoch(self.target_epoch));
        let currents = self.currents.iter();
        all.extend(currents.map(|(id, value)| Piece::Current(id.clone(), Some(value.clone()))));
        all
    }
}
