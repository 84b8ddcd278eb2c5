//! What groups have to know of topics, and of their own configs, at one moment.
//!
//! Invariant: two catalogs with the same layout are the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

/// A topic as assignors see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicFacts {
    pub(crate) id: Uuid,
    pub(crate) partitions: i32,
    /// The racks in which each partition has a replica; nothing where no broker tells its rack.
    pub(crate) racks: Vec<BTreeSet<Arc<str>>>,
}

impl TopicFacts {
    /// Whether a partition has a replica in this rack.
    pub(super) fn is_in(&self, partition: i32, rack: &str) -> bool {
        let at = usize::try_from(partition).unwrap_or(usize::MAX);
        self.racks.get(at).is_some_and(|racks| racks.contains(rack))
    }
}

/// What is set for one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    pub(crate) session_timeout_ms: Option<i32>,
    pub(crate) heartbeat_interval_ms: Option<i32>,
}

/// Topics by name, and what is set for groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    /// Grows with each change.
    pub(crate) layout: u64,
    topics: BTreeMap<String, TopicFacts>,
    names: HashMap<Uuid, String>,
    overrides: BTreeMap<String, Overrides>,
}

impl Catalog {
    pub(crate) fn new(
        layout: u64,
        topics: BTreeMap<String, TopicFacts>,
        overrides: BTreeMap<String, Overrides>,
    ) -> Self {
        let names = topics.iter().map(|(name, facts)| (facts.id, name.clone())).collect();
        Self { layout, topics, names, overrides }
    }

    pub(super) fn by_id(&self, id: Uuid) -> Option<&TopicFacts> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// The name of a topic that exists.
    pub(crate) fn name(&self, id: Uuid) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// The names of all topics.
    pub(super) fn topic_names(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(String::as_str)
    }

    /// What is set for a group.
    pub(crate) fn overrides(&self, group: &str) -> Overrides {
        self.overrides.get(group).copied().unwrap_or_default()
    }

    /// The ids of those topics that exist.
    pub(super) fn ids<'a>(&self, names: impl Iterator<Item = &'a str>) -> BTreeSet<Uuid> {
        names.filter_map(|name| self.topics.get(name)).map(|facts| facts.id).collect()
    }

    /// A number that differs when any of these topics does: whether it exists, its id, its partitions, their racks. It is
    /// the same on every node, and 0 when there is none of them.
    pub(super) fn hash<'a>(&self, names: impl Iterator<Item = &'a str>) -> i64 {
        let mut hash = Fnv::default();
        let mut known = false;
        for (name, facts) in names.filter_map(|name| Some((name, self.topics.get(name)?))) {
            known = true;
            hash.add(name.as_bytes());
            hash.add(facts.id.as_bytes());
            hash.add(&facts.partitions.to_be_bytes());
            for (number, racks) in facts.racks.iter().enumerate() {
                hash.add(&number.to_be_bytes());
                racks.iter().for_each(|rack| hash.add(rack.as_bytes()));
            }
        }
        if known { i64::from_be_bytes(hash.0.to_be_bytes()) } else { 0 }
    }
}

/// FNV-1a of 64 bits: the hash is stored, so it may not change with a library.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds bytes, and that they end here.
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().copied().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(partitions: i32, racks: &[&str]) -> TopicFacts {
        let racks = (0..partitions).map(|_| racks.iter().map(|rack| Arc::from(*rack)).collect());
        TopicFacts { id: Uuid::from_u128(7), partitions, racks: racks.collect() }
    }

    fn catalog(topics: &[(&str, TopicFacts)]) -> Catalog {
        let topics = topics.iter().map(|(name, facts)| ((*name).to_owned(), facts.clone()));
        Catalog::new(1, topics.collect(), BTreeMap::new())
    }

    #[test]
    fn whatever_changes_with_a_topic_changes_the_hash_and_nothing_else_does() {
        let hash = |catalog: &Catalog| catalog.hash(["a", "b"].into_iter());
        let one = catalog(&[("a", facts(2, &[]))]);
        let same = catalog(&[("a", facts(2, &[])), ("other", facts(9, &[]))]);
        assert_eq!(hash(&one), hash(&same));
        let other_id = TopicFacts { id: Uuid::from_u128(8), ..facts(2, &[]) };
        for changed in [
            catalog(&[]),
            catalog(&[("a", facts(3, &[]))]),
            catalog(&[("a", facts(2, &["r"]))]),
            catalog(&[("a", other_id)]),
            catalog(&[("a", facts(2, &[])), ("b", facts(2, &[]))]),
        ] {
            assert_ne!(hash(&one), hash(&changed));
        }
        assert_eq!(hash(&catalog(&[])), 0);
    }
}
