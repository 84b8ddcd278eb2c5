//! Which partitions get new replicas for those on brokers that stay dead, and for those that are damaged on brokers that
//! live. Pure.
//!
//! A damaged replica is rebuilt on the same broker: the partition moves off it and from there back, which makes another
//! replica of it. A broker that takes no new replicas gets none; then, and where there are but two replicas and another broker
//! is free, it is rebuilt on another one.
//!
//! Those come first that are nearest to losing their majority. A partition that has lost it cannot change its members:
//! it waits for its brokers.
//!
//! Invariants:
//! - Only replicas on lost brokers and damaged ones are replaced, by brokers that are alive, neither draining nor short of
//!   disk, and hold none of the partition or the damaged replica of it.
//! - A damaged replica goes only when another one is whole, alive and in sync, and those that are left can go on.
//! - No more partitions than allowed are healed at a time, those under way included. What is not begun when its broker
//!   comes back is not begun.
//!
//! Not here: when a broker counts as lost (`cluster/heal.rs`), carrying out a move (`health/moves.rs`).

use std::collections::BTreeSet;

use jangbu_engine::PartitionId;

use super::image::{Data, TopicPartition};
use super::placement::{Candidate, candidates, replace};
use crate::consensus::ReplicaId;

/// A move that replaces lost replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heal {
    pub(crate) group: PartitionId,
    /// The brokers of the partition, for `Reassign`.
    pub(crate) seen: Vec<i32>,
    pub(crate) target: Vec<i32>,
    /// Where it moves on to from there, if anywhere.
    pub(crate) then: Vec<i32>,
}

/// What healing is to begin, and what it cannot do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) begin: Vec<Heal>,
    /// Partitions whose turn is later.
    pub(crate) later: usize,
    /// Partitions with too few live replicas to change anything.
    pub(crate) without_majority: usize,
    /// Partitions for whose lost or damaged replicas no broker is free.
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
    if lost.is_empty() && data.with_damaged_replicas().next().is_none() {
        return plan;
    }
    let under_way = data.placements().filter(|placed| {
        let is_bad = |id, replica| lost.contains(&id) || data.is_damaged(placed.group, replica);
        let leaves = |(id, replica)| !placed.target.contains(&id) && is_bad(id, replica);
        let heals = !placed.then.is_empty() || placed.members().any(leaves);
        placed.is_moving() && placed.target.iter().all(|id| data.lives(*id)) && heals
    });
    let room = at_a_time.saturating_sub(under_way.count());
    let mut hurt: Vec<(usize, &TopicPartition)> = Vec::new();
    for placed in data.placements() {
        if !placed.heading().iter().any(|id| lost.contains(id)) {
            continue;
        }
        let alive = placed.brokers.iter().filter(|id| data.lives(**id)).count();
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
        match replace(&mut candidates, placed.heading(), |id| lost.contains(&id)) {
            Some(target) => {
                let (group, seen) = (placed.group, placed.brokers.clone());
                plan.begin.push(Heal { group, seen, target, then: Vec::new() });
            }
            None => plan.without_room += 1,
        }
    }
    for placed in data.with_damaged_replicas() {
        let lost = placed.heading().iter().any(|id| lost.contains(id));
        let Some(bad) = renewable(data, placed).filter(|_| !lost && !placed.is_moving()) else {
            continue;
        };
        if plan.begin.len() >= room {
            plan.later += 1;
            continue;
        }
        match renew(placed, bad, &mut candidates) {
            Some(heal) => plan.begin.push(heal),
            None => plan.without_room += 1,
        }
    }
    plan
}

/// The broker of a damaged replica that can go: another one is whole and in sync, and the majorities before and after
/// it has gone are there.
fn renewable(data: &Data, placed: &TopicPartition) -> Option<i32> {
    let lives = |replica: &ReplicaId| data.lives(replica.broker());
    let votes = |replica: &&ReplicaId| lives(replica) && !data.is_stopped(placed.group, **replica);
    let replicas = placed.replicas();
    let behind = data.behind(placed.group);
    let is_whole = |replica: &ReplicaId| {
        lives(replica) && !data.is_damaged(placed.group, *replica) && !behind.contains(replica)
    };
    let is_majority = |voting: usize, of: usize| 2 * voting > of;
    let can_go = |bad: &&ReplicaId| {
        let others: Vec<ReplicaId> = replicas.iter().filter(|id| id != bad).copied().collect();
        lives(bad)
            && data.is_damaged(placed.group, **bad)
            && others.iter().any(is_whole)
            && is_majority(replicas.iter().filter(votes).count(), replicas.len())
            && is_majority(others.iter().filter(votes).count(), others.len())
    };
    replicas.iter().find(can_go).map(|replica| replica.broker())
}

/// The move that replaces the damaged replica of a broker.
fn renew(placed: &TopicPartition, bad: i32, candidates: &mut [Candidate]) -> Option<Heal> {
    let (group, seen) = (placed.group, placed.brokers.clone());
    let stays = candidates.iter().any(|candidate| candidate.id == bad && candidate.usable);
    // With two, the other one would be the only copy in between.
    if (!stays || seen.len() == 2)
        && let Some(target) = replace(candidates, &seen, |id| id == bad)
    {
        return Some(Heal { group, seen, target, then: Vec::new() });
    }
    let target = seen.iter().copied().filter(|id| *id != bad).collect();
    stays.then(|| Heal { group, then: seen.clone(), seen, target })
}

#[cfg(test)]
mod tests {
    use jangbu_engine::Term;
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
            let placed = data.placement_mut(heal.group).unwrap();
            placed.move_on(heal.target.clone(), heal.then.clone());
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

    fn damage(data: &mut Data, group: u32, broker: u32, stopped: bool) {
        data.set_damaged(PartitionId(group), ReplicaId::new(broker, 0), stopped);
    }

    #[test]
    fn a_damaged_replica_is_rebuilt_on_its_broker_by_leaving_and_coming_back() {
        let mut data = cluster(3, &[], &[vec![1, 2, 3], vec![3, 1, 2], vec![2, 3, 1]]);
        damage(&mut data, 1, 1, true);
        damage(&mut data, 3, 1, false);
        let first = plan(&data, &NOBODY, &NOBODY, 1);
        let ways = |plan: &Plan| {
            let way = |heal: &Heal| (heal.group.0, heal.target.clone(), heal.then.clone());
            plan.begin.iter().map(way).collect::<Vec<_>>()
        };
        assert_eq!(ways(&first), [(1, vec![2, 3], vec![1, 2, 3])]);
        assert_eq!(first.later, 1);
        begin(&mut data, &first);
        for _ in 0..2 {
            assert_eq!(
                plan(&data, &NOBODY, &NOBODY, 1).begin,
                [],
                "one at a time, also on its way back"
            );
            data.placement_mut(PartitionId(1)).unwrap().arrive();
            data.forget_departed(PartitionId(1));
        }
        let next = plan(&data, &NOBODY, &NOBODY, 8);
        assert_eq!(ways(&next), [(3, vec![2, 3], vec![2, 3, 1])], "the first one is whole again");
    }

    #[test]
    fn a_damaged_replica_stays_where_too_little_would_be_left() {
        let two_of = |dead: &[i32], stopped, brokers| {
            let mut data = cluster(brokers, dead, &[vec![1, 2]]);
            damage(&mut data, 1, 1, stopped);
            plan(&data, &NOBODY, &NOBODY, 8)
        };
        assert_eq!(two_of(&[2], false, 3).begin, []);
        assert_eq!(two_of(&[], true, 3).begin, [], "it cannot vote for its own leaving");
        assert_eq!(targets(&two_of(&[], false, 3)), [(1, vec![3, 2])]);
        assert_eq!(targets(&two_of(&[], false, 2)), [(1, vec![2])], "and back");
        let three_of = |dead: &[i32], behind: &[u32]| {
            let mut data = cluster(3, dead, &[vec![1, 2, 3]]);
            damage(&mut data, 1, 1, false);
            damage(&mut data, 1, 2, false);
            let behind: Vec<_> = behind.iter().map(|id| ReplicaId::new(*id, 0)).collect();
            data.set_behind(PartitionId(1), Term(1), &behind);
            targets(&plan(&data, &NOBODY, &NOBODY, 8))
        };
        assert_eq!(three_of(&[], &[]), [(1, vec![2, 3])], "one after the other");
        assert_eq!(three_of(&[3], &[]), [], "the only whole one is dead");
        assert_eq!(three_of(&[], &[3]), [], "the only whole one is behind");
        assert_eq!(three_of(&[2], &[]), [], "two would be left, one of them dead");
        let mut alone = cluster(2, &[], &[vec![1]]);
        damage(&mut alone, 1, 1, false);
        assert_eq!(plan(&alone, &NOBODY, &NOBODY, 8).begin, []);
    }

    #[test]
    fn a_broker_that_takes_no_replicas_has_its_damaged_ones_rebuilt_elsewhere() {
        let mut data = cluster(4, &[], &[vec![1, 2, 3]]);
        damage(&mut data, 1, 1, true);
        data.brokers.get_mut(&1).unwrap().draining = true;
        assert_eq!(targets(&plan(&data, &NOBODY, &NOBODY, 8)), [(1, vec![4, 2, 3])]);
        let stuck = plan(&data, &NOBODY, &lost(&[4]), 8);
        assert_eq!((stuck.begin.len(), stuck.without_room), (0, 1));
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
