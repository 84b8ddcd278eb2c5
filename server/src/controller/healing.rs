//! Which partitions get new replicas for those on brokers that stay dead. Pure.
//!
//! Those come first that are nearest to losing their majority. A partition that has lost it cannot change its members:
//! it waits for its brokers.
//!
//! Invariants:
//! - Only replicas on lost brokers are replaced, by brokers that are alive, neither draining nor short of disk, and hold
//!   none of the partition.
//! - No more partitions than allowed are healed at a time, those under way included. What is not begun when its broker
//!   comes back is not begun.
//!
//! Not here: when a broker counts as lost (`cluster/heal.rs`), carrying out a move (`health/moves.rs`).

use std::collections::BTreeSet;

use jangbu_engine::PartitionId;

use super::image::{Data, TopicPartition};
use super::placement::{candidates, replace};

/// A move that replaces lost replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heal {
    pub(crate) group: PartitionId,
    /// The brokers of the partition, for `Reassign`.
    pub(crate) seen: Vec<i32>,
    pub(crate) target: Vec<i32>,
}

/// What healing is to begin, and what it cannot do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) begin: Vec<Heal>,
    /// Partitions whose turn is later.
    pub(crate) later: usize,
    /// Partitions with too few live replicas to change anything.
    pub(crate) without_majority: usize,
    /// Partitions for which no broker is free.
    pub(crate) without_room: usize,
}

/// What to begin, `lost` being the brokers that stay dead. Nothing new goes to those to be `spared`.
pub(crate) fn plan(
    data: &Data,
    lost: &BTreeSet<i32>,
    spared: &BTreeSet<i32>,
    at_a_time: usize,
) -> Plan {
    let mut plan = Plan::default();
    if lost.is_empty() {
        return plan;
    }
    let lives = |id: &i32| data.brokers.get(id).is_some_and(|broker| !broker.dead);
    let under_way = data.placements().filter(|placed| {
        let leaves = |(id, _)| lost.contains(&id) && !placed.target.contains(&id);
        placed.is_moving() && placed.target.iter().all(lives) && placed.members().any(leaves)
    });
    let room = at_a_time.saturating_sub(under_way.count());
    let mut hurt: Vec<(usize, &TopicPartition)> = Vec::new();
    for placed in data.placements() {
        if !heading(placed).iter().any(|id| lost.contains(id)) {
            continue;
        }
        let alive = placed.brokers.iter().filter(|id| lives(id)).count();
        match alive.checked_sub(placed.brokers.len() / 2 + 1) {
            Some(spare) => hurt.push((spare, placed)),
            None => plan.without_majority += 1,
        }
    }
    hurt.sort_by_key(|(spare, placed)| (*spare, placed.brokers.len(), placed.group));
    let mut candidates = candidates(data);
    for candidate in &mut candidates {
        candidate.usable &= !spared.contains(&candidate.id);
    }
    for (_, placed) in hurt {
        if plan.begin.len() >= room {
            plan.later += 1;
            continue;
        }
        match replace(&mut candidates, heading(placed), |id| lost.contains(&id)) {
            Some(target) => {
                plan.begin.push(Heal { group: placed.group, seen: placed.brokers.clone(), target });
            }
            None => plan.without_room += 1,
        }
    }
    plan
}

/// Where the replicas are going to be.
fn heading(placed: &TopicPartition) -> &[i32] {
    if placed.is_moving() { &placed.target } else { &placed.brokers }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
    use uuid::Uuid;

    use super::*;
    use crate::configs::TopicSettings;
    use crate::controller::{Broker, Topic};

    const NOBODY: BTreeSet<i32> = BTreeSet::new();

    /// Brokers from 1 on, those in `dead` dead, and a topic with partitions on these.
    fn cluster(brokers: i32, dead: &[i32], partitions: &[Vec<i32>]) -> Data {
        let mut data = Data::default();
        for id in 1..=brokers {
            let broker = Broker { id, dead: dead.contains(&id), ..Broker::default() };
            data.brokers.insert(id, broker);
        }
        let placed = (1..).zip(partitions);
        data.insert(Topic {
            name: "t".into(),
            id: Uuid::from_u128(1),
            partitions: placed
                .map(|(group, on)| TopicPartition::new(PartitionId(group), on.clone()))
                .collect(),
            configs: Default::default(),
            settings: TopicSettings::defaults(),
        });
        data
    }

    fn lost(ids: &[i32]) -> BTreeSet<i32> {
        ids.iter().copied().collect()
    }

    fn targets(plan: &Plan) -> Vec<(u32, Vec<i32>)> {
        plan.begin.iter().map(|heal| (heal.group.0, heal.target.clone())).collect()
    }

    fn begin(data: &mut Data, plan: &Plan) {
        for heal in &plan.begin {
            data.placement_mut(heal.group).unwrap().move_to(heal.target.clone());
        }
    }

    #[test]
    fn what_is_nearest_to_losing_its_majority_is_healed_first_and_only_so_much_at_a_time() {
        let on = [vec![1, 2, 3, 4, 5], vec![4, 5], vec![1, 2, 3], vec![5, 1, 2], vec![3, 5, 4]];
        let mut data = cluster(6, &[3, 5], &on);
        let first = plan(&data, &lost(&[5]), &NOBODY, 1);
        assert_eq!(
            targets(&first),
            [(4, vec![6, 1, 2])],
            "of the five, two dead still have a spare"
        );
        assert_eq!((first.later, first.without_majority), (1, 2), "2 and 5 have lost it; 3 waits");
        begin(&mut data, &first);
        assert_eq!(plan(&data, &lost(&[5]), &NOBODY, 1).begin, [], "one at a time");
        data.placement_mut(PartitionId(4)).unwrap().arrive();
        assert_eq!(targets(&plan(&data, &lost(&[5]), &NOBODY, 1)), [(1, vec![1, 2, 3, 4, 6])]);
    }

    #[test]
    fn a_broker_that_is_back_or_not_dead_for_long_is_left_alone() {
        let data = cluster(4, &[3], &[vec![1, 2, 3]]);
        assert_eq!(plan(&data, &lost(&[]), &NOBODY, 8), Plan::default());
    }

    #[test]
    fn without_a_broker_that_is_free_nothing_is_begun() {
        let mut data = cluster(4, &[3], &[vec![1, 2, 3]]);
        data.brokers.get_mut(&4).unwrap().draining = true;
        let stuck = plan(&data, &lost(&[3]), &NOBODY, 8);
        assert_eq!((stuck.begin.len(), stuck.without_room), (0, 1));
        data.brokers.get_mut(&4).unwrap().draining = false;
        let stuck = plan(&data, &lost(&[3]), &lost(&[4]), 8);
        assert_eq!((stuck.begin.len(), stuck.without_room), (0, 1), "4 is short of disk");
        assert_eq!(targets(&plan(&data, &lost(&[3]), &NOBODY, 8)), [(1, vec![1, 2, 4])]);
    }

    #[test]
    fn a_move_to_a_broker_that_is_lost_goes_elsewhere() {
        let mut data = cluster(5, &[4], &[vec![1, 2, 3]]);
        data.placement_mut(PartitionId(1)).unwrap().move_to(vec![1, 2, 4]);
        let turned = plan(&data, &lost(&[4]), &NOBODY, 8);
        assert_eq!(targets(&turned), [(1, vec![1, 2, 3])], "3 holds it already");
        assert_eq!(turned.begin[0].seen, [1, 2, 3]);
    }

    fn clusters() -> impl Strategy<Value = (Data, BTreeSet<i32>, usize)> {
        let brokers = vec((any::<bool>(), any::<bool>(), "[ab]?"), 1..8);
        let partitions = vec((0..100_usize, 1..6_usize), 1..20);
        (brokers, partitions, 1..10_usize).prop_map(|(brokers, partitions, at_a_time)| {
            let count = i32::try_from(brokers.len()).unwrap();
            let on = partitions.iter().map(|(first, factor)| {
                let ids = (1..=count).cycle().skip(first % brokers.len());
                ids.take((*factor).min(brokers.len())).collect()
            });
            let mut data = cluster(count, &[], &on.collect::<Vec<_>>());
            for (id, (dead, draining, rack)) in (1..).zip(brokers) {
                let broker = data.brokers.get_mut(&id).unwrap();
                (broker.dead, broker.draining, broker.rack) = (dead, draining, rack);
            }
            let lost = data.brokers.values().filter(|b| b.dead && b.id % 3 != 0).map(|b| b.id);
            let lost = lost.collect();
            (data, lost, at_a_time)
        })
    }

    proptest! {
        #[test]
        fn plans_keep_what_lives_and_end_with_nothing_left_to_begin((mut data, lost, at_a_time) in clusters()) {
            for round in 0.. {
                let plan = plan(&data, &lost, &NOBODY, at_a_time);
                prop_assert!(plan.begin.len() <= at_a_time);
                if plan.begin.is_empty() {
                    prop_assert_eq!(plan.later, 0);
                    break;
                }
                prop_assert!(round < 100, "it never ends");
                for heal in &plan.begin {
                    prop_assert_eq!(heal.target.len(), heal.seen.len());
                    prop_assert_eq!(heal.target.iter().collect::<BTreeSet<_>>().len(), heal.target.len());
                    for (from, to) in heal.seen.iter().zip(&heal.target) {
                        let new = &data.brokers[to];
                        let kept = from == to;
                        prop_assert!(kept || lost.contains(from) && !new.dead && !new.draining);
                        prop_assert!(kept || !heal.seen.contains(to));
                    }
                }
                begin(&mut data, &plan);
                let moved: Vec<_> = plan.begin.iter().map(|heal| heal.group).collect();
                for group in moved {
                    data.placement_mut(group).unwrap().arrive();
                }
            }
        }
    }
}
