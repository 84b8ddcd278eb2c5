//! The offsets that a group has committed, and when they expire.
//!
//! Not here: who may commit (`sync.rs`), storing (`table.rs`).

use std::collections::BTreeMap;

use uuid::Uuid;

/// A committed offset, as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    /// Of the last record that was read; -1 is unknown.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    pub(crate) committed_ms: i64,
    /// When it expires, where the client has said so (until version 4 of the commit).
    pub(crate) expires_ms: Option<i64>,
    /// The topic as it was then; zero is unknown.
    pub(crate) topic_id: Uuid,
}

/// The offsets of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, Committed>>,
}

impl Offsets {
    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(super) fn set(&mut self, topic: &str, partition: i32, value: Option<Committed>) {
        match value {
            Some(value) => {
                self.topics.entry(topic.to_owned()).or_default().insert(partition, value);
            }
            None => {
                let Some(partitions) = self.topics.get_mut(topic) else { return };
                partitions.remove(&partition);
                if partitions.is_empty() {
                    self.topics.remove(topic);
                }
            }
        }
    }

    /// All of them, in the order of topics and partitions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, i32, &Committed)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, value)| (topic.as_str(), *partition, value))
        })
    }
}
