//! What the committed records of one partition come to: the newest of each group and of each offset.
//!
//! Every replica has one, and they are the same up to the same offset of the log.
//!
//! Not here: reading the log (`tail.rs`), the groups' life (`machine.rs`).

use std::collections::BTreeMap;

use super::consumer;
use super::offsets::Offsets;
use super::records::{GroupValue, Record};

/// What is stored of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// As a group of the classic protocol.
    pub(crate) group: Option<GroupValue>,
    /// As a group of the consumer protocol.
    pub(crate) consumer: Option<Box<consumer::stored::Stored>>,
    pub(crate) offsets: Offsets,
}

/// The groups and offsets of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    groups: BTreeMap<String, Stored>,
}

impl Table {
    /// Applies a committed record.
    pub(crate) fn apply(&mut self, record: Record) {
        match record {
            Record::Offset { group, topic, partition, value } => {
                if value.is_some() || self.groups.contains_key(&group) {
                    let stored = self.groups.entry(group.clone()).or_default();
                    stored.offsets.set(&topic, partition, value);
                    self.forget_nothing(&group);
                }
            }
            Record::Group { group, value } => {
                if value.is_some() || self.groups.contains_key(&group) {
                    self.groups.entry(group.clone()).or_default().group = value;
                    self.forget_nothing(&group);
                }
            }
            Record::Consumer { group, piece } => {
                let stored = self.groups.entry(group.clone()).or_default();
                let pieces = stored.consumer.get_or_insert_default();
                pieces.apply(piece);
                if pieces.is_nothing() {
                    stored.consumer = None;
                }
                self.forget_nothing(&group);
            }
            Record::Unknown => {}
        }
    }

    fn forget_nothing(&mut self, group: &str) {
        if self.groups.get(group).is_some_and(|stored| *stored == Stored::default()) {
            self.groups.remove(group);
        }
    }

    /// What is stored of a group.
    pub(crate) fn get(&self, group: &str) -> Option<&Stored> {
        self.groups.get(group)
    }

    /// All groups, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.groups.iter().map(|(group, stored)| (group.as_str(), stored))
    }
}
