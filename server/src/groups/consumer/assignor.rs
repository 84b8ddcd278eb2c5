//! The ways of sharing partitions among members.
//!
//! Invariant: every partition of a topic that somebody subscribes to goes to exactly one of its subscribers.
//!
//! Not here: the two ways (`uniform.rs`, `range.rs`).

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Assignment, Catalog, range, uniform};

/// A way of sharing partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assignor {
    /// Everybody gets as much as the others, and keeps what it has.
    Uniform,
    /// Of each topic everybody gets neighbouring partitions, the same of topics with as many.
    Range,
}

impl Assignor {
    /// By its name in Kafka.
    pub(crate) fn find(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(super) fn assign(self, group: &Sharing<'_>) -> BTreeMap<String, Assignment> {
        match self {
            Self::Uniform => uniform::assign(group),
            Self::Range => range::assign(group),
        }
    }
}

/// A member as assignors see it.
#[derive(Debug, Clone, Default)]
pub(super) struct Sharer {
    pub(super) instance: Option<String>,
    pub(super) rack: Option<String>,
    /// The topics that exist and to which it subscribes.
    pub(super) topics: BTreeSet<Uuid>,
}

/// Who shares what.
pub(super) struct Sharing<'a> {
    pub(super) members: BTreeMap<String, Sharer>,
    /// What each was to have before.
    pub(super) before: &'a BTreeMap<String, Assignment>,
    pub(super) topics: &'a Catalog,
}

impl Sharing<'_> {
    /// The number of partitions of a topic.
    pub(super) fn partitions(&self, topic: Uuid) -> i32 {
        self.topics.by_id(topic).map_or(0, |facts| facts.partitions.max(0))
    }

    /// All topics that somebody subscribes to.
    pub(super) fn all_topics(&self) -> BTreeSet<Uuid> {
        self.members.values().flat_map(|member| member.topics.iter().copied()).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::TopicFacts;
    use super::*;

    pub(in super::super) fn topic(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    /// Topics of so many partitions, by number; partition p is in rack p mod 3.
    pub(in super::super) fn topics(partitions: &[i32]) -> Catalog {
        let facts = |(number, count): (u128, &i32)| {
            let racks = (0..*count).map(|p| BTreeSet::from([Arc::from(format!("r{}", p % 3))]));
            let facts =
                TopicFacts { id: topic(number), partitions: *count, racks: racks.collect() };
            (format!("t{number}"), facts)
        };
        Catalog::new(1, (0..).zip(partitions).map(facts).collect(), BTreeMap::new())
    }

    pub(in super::super) fn sharer(topics: &[u128]) -> Sharer {
        Sharer { topics: topics.iter().map(|t| topic(*t)).collect(), ..Sharer::default() }
    }

    pub(in super::super) fn count(assignment: &Assignment) -> usize {
        assignment.values().map(BTreeSet::len).sum()
    }

    /// Everything that is subscribed to is with one subscriber.
    fn check(group: &Sharing<'_>, assigned: &BTreeMap<String, Assignment>) {
        let mut seen = BTreeSet::new();
        assert!(assigned.keys().eq(group.members.keys()));
        for (id, assignment) in assigned {
            for (topic, parts) in assignment {
                assert!(group.members[id].topics.contains(topic), "it does not subscribe");
                for p in parts {
                    assert!(
                        (0..group.partitions(*topic)).contains(p),
                        "there is no such partition"
                    );
                    assert!(seen.insert((*topic, *p)), "two have it");
                }
            }
        }
        let all: usize =
            group.all_topics().iter().map(|t| group.partitions(*t).unsigned_abs() as usize).sum();
        assert_eq!(seen.len(), all, "somebody has it");
    }

    fn members() -> impl Strategy<Value = BTreeMap<String, Sharer>> {
        let one = (proptest::collection::btree_set(0..4_u128, 0..4), prop::option::of(0..3_u8));
        let sharer = one.prop_map(|(topics, rack)| Sharer {
            topics: topics.into_iter().map(topic).collect(),
            rack: rack.map(|rack| format!("r{rack}")),
            instance: None,
        });
        proptest::collection::btree_map("[a-h]", sharer, 0..7)
    }

    proptest! {
        #[test]
        fn everything_is_shared_out_whoever_comes_and_goes(
            partitions in proptest::collection::vec(0..9_i32, 4),
            rounds in proptest::collection::vec(members(), 1..5),
            is_range in any::<bool>(),
        ) {
            let topics = topics(&partitions);
            let assignor = if is_range { Assignor::Range } else { Assignor::Uniform };
            let mut before = BTreeMap::new();
            for members in rounds {
                let group = Sharing { members, before: &before, topics: &topics };
                let assigned = assignor.assign(&group);
                check(&group, &assigned);
                before = assigned;
            }
        }
    }
}
