//! Which brokers hold a partition's replicas, and which of them is preferred as leader. Pure.
//!
//! In this order: brokers that are alive and not draining, then as many racks as possible, then the same number of
//! replicas (and of leaders) of this topic on each broker, then the same over all topics, then in turns.
//!
//! Invariant: a partition's replicas are on different brokers.
//!
//! Not here: whether there are enough brokers (`handlers/topics.rs`), moving replicas (`health/moves.rs`).

use std::collections::{BTreeMap, BTreeSet};

use super::image::Data;

/// A broker that may get replicas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: i32,
    /// Empty when it has none: then it is one by itself.
    pub(crate) rack: String,
    /// It is alive and not draining.
    pub(crate) usable: bool,
    /// Partitions over all topics that prefer it as leader.
    pub(crate) leaders: usize,
    /// Replicas over all topics.
    pub(crate) replicas: usize,
}

/// The brokers of the cluster with what they hold.
pub(crate) fn candidates(data: &Data) -> Vec<Candidate> {
    let candidate = |broker: &super::Broker| Candidate {
        id: broker.id,
        rack: broker.rack.clone(),
        usable: !broker.dead && !broker.draining,
        ..Candidate::default()
    };
    let mut by_id: BTreeMap<i32, Candidate> =
        data.brokers.values().map(|broker| (broker.id, candidate(broker))).collect();
    for partition in data.topics().flat_map(|topic| &topic.partitions) {
        let brokers =
            if partition.target.is_empty() { &partition.brokers } else { &partition.target };
        for (position, broker) in brokers.iter().enumerate() {
            let Some(candidate) = by_id.get_mut(broker) else { continue };
            candidate.replicas += 1;
            candidate.leaders += usize::from(position == 0);
        }
    }
    by_id.into_values().collect()
}

/// Replicas for `count` more partitions of a topic that has `existing` ones. There are as many replicas each as
/// asked for, or as candidates if those are fewer.
pub(crate) fn place(
    candidates: &[Candidate],
    existing: &[Vec<i32>],
    replication_factor: usize,
    count: usize,
) -> Vec<Vec<i32>> {
    let mut round = Round::new(candidates, existing);
    (0..count).map(|_| round.next(replication_factor)).collect()
}

/// The replicas with those that are lost replaced by usable brokers, each in its place; the candidates take note of it.
/// Those for which there is no broker stay. `None` when that is all of them.
pub(crate) fn replace(
    candidates: &mut [Candidate],
    replicas: &[i32],
    lost: impl Fn(i32) -> bool,
) -> Option<Vec<i32>> {
    let mut replaced = replicas.to_vec();
    for place in 0..replaced.len() {
        if !lost(replaced[place]) {
            continue;
        }
        let rack = |id: &i32| candidates.iter().find(|c| c.id == *id).map(|c| c.rack.as_str());
        let stay = replaced.iter().filter(|id| !lost(**id));
        let racks: BTreeSet<&str> = stay.filter_map(rack).filter(|rack| !rack.is_empty()).collect();
        let free = |at: &usize| {
            let candidate = &candidates[*at];
            candidate.usable && !lost(candidate.id) && !replaced.contains(&candidate.id)
        };
        let best = (0..candidates.len()).filter(free).min_by_key(|at| {
            let candidate = &candidates[*at];
            (racks.contains(candidate.rack.as_str()), candidate.replicas, candidate.id)
        });
        if let Some(best) = best {
            replaced[place] = candidates[best].id;
            candidates[best].replicas += 1;
        }
    }
    (replaced != replicas).then_some(replaced)
}

/// What one topic's partitions have got so far, by the position of the broker among the candidates.
struct Round<'a> {
    candidates: &'a [Candidate],
    leaders: Vec<usize>,
    replicas: Vec<usize>,
    /// The leader of the partition before.
    last: Option<usize>,
}

impl<'a> Round<'a> {
    fn new(candidates: &'a [Candidate], existing: &[Vec<i32>]) -> Self {
        let nothing = vec![0; candidates.len()];
        let mut round =
            Self { candidates, leaders: nothing.clone(), replicas: nothing, last: None };
        let at = |id: &i32| candidates.iter().position(|candidate| candidate.id == *id);
        for partition in existing {
            let places: Vec<usize> = partition.iter().filter_map(at).collect();
            round.take(&places);
        }
        round
    }

    fn take(&mut self, places: &[usize]) {
        if let Some(leader) = places.first() {
            self.leaders[*leader] += 1;
            self.last = Some(*leader);
        }
        for place in places {
            self.replicas[*place] += 1;
        }
    }

    fn next(&mut self, replication_factor: usize) -> Vec<i32> {
        let Some(leader) = self.leader() else { return Vec::new() };
        let mut places = vec![leader];
        while places.len() < replication_factor.min(self.candidates.len()) {
            let Some(next) = self.follower(&places) else { break };
            places.push(next);
        }
        self.take(&places);
        places.into_iter().map(|place| self.candidates[place].id).collect()
    }

    fn leader(&self) -> Option<usize> {
        let count = self.candidates.len();
        // The first one is the candidate behind the last leader.
        let turn =
            |place: usize| self.last.map_or(place, |last| (place + count - last - 1) % count);
        (0..count).min_by_key(|place| {
            let candidate = &self.candidates[*place];
            let here = (self.leaders[*place], candidate.leaders, candidate.replicas);
            (!candidate.usable, here, turn(*place))
        })
    }

    fn follower(&self, places: &[usize]) -> Option<usize> {
        let count = self.candidates.len();
        let leader = *places.first()?;
        let racks: BTreeSet<&str> = places.iter().map(|p| self.rack(*p)).collect();
        // Each time a broker leads, another one stands behind it: if it dies, all of them share what it led.
        let turn = |place: usize| {
            let distance = (place + count - leader) % count;
            let others = (count - 1).max(1);
            (distance + others - 1 + self.leaders[leader] % others) % others
        };
        (0..count).filter(|place| !places.contains(place)).min_by_key(|place| {
            let candidate = &self.candidates[*place];
            let shares_rack = !candidate.rack.is_empty() && racks.contains(self.rack(*place));
            let here = (self.replicas[*place], candidate.replicas);
            (!candidate.usable, shares_rack, here, turn(*place))
        })
    }

    fn rack(&self, place: usize) -> &'a str {
        &self.candidates[place].rack
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn brokers(racks: &[&str]) -> Vec<Candidate> {
        let candidate = |(id, rack): (i32, &&str)| Candidate {
            id,
            rack: (*rack).to_owned(),
            usable: true,
            ..Candidate::default()
        };
        (1..).zip(racks).map(candidate).collect()
    }

    #[test]
    fn leaders_take_turns_and_so_do_those_behind_them() {
        let placed = place(&brokers(&[""; 3]), &[], 3, 6);
        assert_eq!(placed[..3], [[1, 2, 3], [2, 3, 1], [3, 1, 2]]);
        assert_eq!(placed[3..], [[1, 3, 2], [2, 1, 3], [3, 2, 1]]);
    }

    #[test]
    fn added_partitions_go_on_where_the_others_ended() {
        assert_eq!(place(&brokers(&[""; 3]), &[vec![1], vec![2]], 1, 2), [[3], [1]]);
    }

    #[test]
    fn topics_of_one_partition_go_to_the_broker_that_leads_least() {
        let mut brokers = brokers(&[""; 3]);
        (brokers[0].leaders, brokers[1].leaders) = (2, 1);
        assert_eq!(place(&brokers, &[], 1, 1), [[3]]);
    }

    #[test]
    fn a_new_broker_does_not_get_all_partitions_of_the_next_topic() {
        let mut brokers = brokers(&[""; 3]);
        for old in &mut brokers[..2] {
            (old.leaders, old.replicas) = (1000, 1000);
        }
        assert_eq!(place(&brokers, &[], 1, 3), [[3], [1], [2]]);
    }

    #[test]
    fn a_broker_that_is_dead_or_drains_is_the_last_resort_and_leads_nothing() {
        let mut brokers = brokers(&[""; 3]);
        brokers[0].usable = false;
        assert!(place(&brokers, &[], 2, 9).iter().all(|replicas| !replicas.contains(&1)));
        assert!(place(&brokers, &[], 3, 9).iter().all(|replicas| replicas[2] == 1));
    }

    #[test]
    fn a_lost_replica_goes_to_a_free_rack_and_there_to_the_broker_that_holds_least() {
        let mut brokers = brokers(&["a", "b", "c", "a", "b", "b"]);
        brokers[2].usable = false;
        (brokers[1].replicas, brokers[5].replicas) = (2, 1);
        let lost = |id| id == 3;
        assert_eq!(
            replace(&mut brokers, &[3, 1], lost),
            Some(vec![5, 1]),
            "b is free, and 5 empty"
        );
        assert_eq!(brokers[4].replicas, 1);
        assert_eq!(replace(&mut brokers, &[1, 3, 2], lost), Some(vec![1, 4, 2]), "no rack is free");
        assert_eq!(replace(&mut brokers[..3], &[1, 3, 2], lost), None, "no broker is free");
        assert_eq!(replace(&mut brokers, &[1, 2], lost), None, "nothing is lost");
    }

    fn clusters() -> impl Strategy<Value = (Vec<Candidate>, usize, usize)> {
        let broker = ("[abc]?", any::<bool>(), 0..50_usize, 0..50_usize);
        let brokers = proptest::collection::vec(broker, 1..9).prop_map(|brokers| {
            let candidate =
                |(id, (rack, usable, leaders, more)): (i32, (String, bool, usize, usize))| {
                    Candidate { id, rack, usable, leaders, replicas: leaders + more }
                };
            (1..).zip(brokers).map(candidate).collect::<Vec<_>>()
        });
        (brokers, 1..6_usize, 1..60_usize)
    }

    fn spread(
        candidates: &[Candidate],
        among: impl Fn(&Candidate) -> bool,
        of: impl Fn(i32) -> usize,
    ) -> usize {
        let counts: Vec<usize> = candidates.iter().filter(|c| among(c)).map(|c| of(c.id)).collect();
        counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
    }

    proptest! {
        #[test]
        fn every_partition_has_different_brokers_and_a_usable_leader_if_there_is_one(
            (candidates, factor, count) in clusters(),
        ) {
            let placed = place(&candidates, &[], factor, count);
            prop_assert_eq!(placed.len(), count);
            let usable: BTreeSet<i32> = candidates.iter().filter(|c| c.usable).map(|c| c.id).collect();
            for replicas in placed {
                let distinct: BTreeSet<i32> = replicas.iter().copied().collect();
                prop_assert_eq!(distinct.len(), factor.min(candidates.len()));
                prop_assert_eq!(replicas.len(), distinct.len());
                prop_assert!(usable.is_empty() || usable.contains(&replicas[0]));
                let used = distinct.intersection(&usable).count();
                prop_assert_eq!(used, factor.min(usable.len()), "a dead broker before a live one");
            }
        }

        #[test]
        fn leaders_are_even_over_usable_brokers((candidates, factor, count) in clusters()) {
            let placed = place(&candidates, &[], factor, count);
            let led = |id| placed.iter().filter(|replicas| replicas[0] == id).count();
            prop_assert!(spread(&candidates, |c| c.usable, led) <= 1);
        }

        #[test]
        fn replicas_are_even_without_racks(
            (mut candidates, factor, count) in clusters(),
        ) {
            for candidate in &mut candidates {
                (candidate.rack, candidate.usable) = (String::new(), true);
            }
            let placed = place(&candidates, &[], factor, count);
            let held = |id| placed.iter().filter(|replicas| replicas.contains(&id)).count();
            prop_assert!(spread(&candidates, |_| true, held) <= 2);
        }

        #[test]
        fn replicas_are_on_as_many_racks_as_there_are((candidates, factor, count) in clusters()) {
            let mut candidates = candidates;
            candidates.iter_mut().for_each(|c| c.usable = true);
            let rack = |id: i32| {
                let found = candidates.iter().find(|c| c.id == id).unwrap();
                if found.rack.is_empty() { id.to_string() } else { found.rack.clone() }
            };
            let racks: BTreeSet<String> = candidates.iter().map(|c| rack(c.id)).collect();
            for replicas in place(&candidates, &[], factor, count) {
                let on: BTreeSet<String> = replicas.iter().map(|id| rack(*id)).collect();
                prop_assert_eq!(on.len(), replicas.len().min(racks.len()));
            }
        }
    }
}
