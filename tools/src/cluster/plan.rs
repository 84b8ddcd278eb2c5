//! Which partitions move where: pure functions over what the cluster tells.
//!
//! Invariants:
//! - A partition keeps its number of replicas, each on another broker.
//! - A replica goes to a rack that holds none of the partition's others, where there is such a broker.

use std::collections::{BTreeMap, BTreeSet};

use jangbu_client::{Broker, BrokerId, Move};

/// A partition and its brokers, the preferred leader first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) replicas: Vec<BrokerId>,
}

/// Why a broker cannot be emptied.
#[derive(Debug, thiserror::Error)]
#[error(
    "{topic}-{partition} has {replicas} replicas and there are only {others} other brokers; add a broker first"
)]
pub(crate) struct TooFew {
    topic: String,
    partition: i32,
    replicas: usize,
    others: usize,
}

/// How many replicas each broker holds while a plan is made.
struct Load<'a> {
    counts: BTreeMap<BrokerId, usize>,
    racks: BTreeMap<BrokerId, Option<&'a str>>,
}

impl<'a> Load<'a> {
    fn new(brokers: &'a [Broker], placed: &[Placed]) -> Self {
        let mut counts: BTreeMap<_, _> = brokers.iter().map(|broker| (broker.id, 0)).collect();
        for replica in placed.iter().flat_map(|partition| &partition.replicas) {
            *counts.entry(*replica).or_default() += 1;
        }
        let racks = brokers.iter().map(|broker| (broker.id, broker.rack.as_deref())).collect();
        Self { counts, racks }
    }

    fn rack(&self, broker: BrokerId) -> Option<&'a str> {
        self.racks.get(&broker).copied().flatten()
    }

    /// The broker of `candidates` that should take a replica of a partition whose other replicas are `others`.
    fn best(&self, candidates: &BTreeSet<BrokerId>, others: &[BrokerId]) -> Option<BrokerId> {
        let taken: BTreeSet<_> = others.iter().filter_map(|other| self.rack(*other)).collect();
        let rank = |id: &BrokerId| {
            let shares_rack = self.rack(*id).is_some_and(|rack| taken.contains(rack));
            (shares_rack, self.counts.get(id).copied().unwrap_or(0), *id)
        };
        candidates.iter().copied().filter(|id| !others.contains(id)).min_by_key(rank)
    }

    fn moved(&mut self, from: BrokerId, to: BrokerId) {
        self.counts.entry(from).and_modify(|count| *count = count.saturating_sub(1));
        *self.counts.entry(to).or_default() += 1;
    }
}

/// The replicas with `from` replaced by `to`, in the same place.
fn replaced(replicas: &[BrokerId], from: BrokerId, to: BrokerId) -> Vec<BrokerId> {
    replicas.iter().map(|broker| if *broker == from { to } else { *broker }).collect()
}

fn others(replicas: &[BrokerId], without: BrokerId) -> Vec<BrokerId> {
    replicas.iter().copied().filter(|broker| *broker != without).collect()
}

fn to_move(placed: &Placed) -> Move {
    Move {
        topic: placed.topic.clone(),
        partition: placed.partition,
        to: Some(placed.replicas.clone()),
    }
}

/// Takes every replica off `leaving`.
pub(crate) fn drain(
    brokers: &[Broker],
    placed: &[Placed],
    leaving: BrokerId,
) -> Result<Vec<Move>, TooFew> {
    let mut load = Load::new(brokers, placed);
    let stay: BTreeSet<_> =
        brokers.iter().map(|broker| broker.id).filter(|id| *id != leaving).collect();
    let mut moves = Vec::new();
    for partition in placed.iter().filter(|partition| partition.replicas.contains(&leaving)) {
        let others = others(&partition.replicas, leaving);
        let to = load.best(&stay, &others).ok_or_else(|| TooFew {
            topic: partition.topic.clone(),
            partition: partition.partition,
            replicas: partition.replicas.len(),
            others: stay.len(),
        })?;
        load.moved(leaving, to);
        let replicas = replaced(&partition.replicas, leaving, to);
        moves.push(to_move(&Placed { replicas, ..partition.clone() }));
    }
    Ok(moves)
}

/// Moves as few replicas as bring every broker within one of the average. `onto` limits where they go.
pub(crate) fn rebalance(
    brokers: &[Broker],
    placed: &[Placed],
    onto: Option<BrokerId>,
) -> Vec<Move> {
    let mut load = Load::new(brokers, placed);
    let mut placed = placed.to_vec();
    let mut changed = BTreeSet::new();
    while let Some((at, from, to)) = step(&load, &placed, onto) {
        let partition = &mut placed[at];
        partition.replicas = replaced(&partition.replicas, from, to);
        load.moved(from, to);
        changed.insert(at);
    }
    changed.into_iter().map(|at| to_move(&placed[at])).collect()
}

/// One replica from a fuller broker to one that has at least two fewer.
fn step(
    load: &Load<'_>,
    placed: &[Placed],
    onto: Option<BrokerId>,
) -> Option<(usize, BrokerId, BrokerId)> {
    let mut by_count: Vec<_> = load.counts.iter().map(|(id, count)| (*count, *id)).collect();
    by_count.sort_unstable();
    for (most, from) in by_count.iter().rev() {
        let lighter = by_count.iter().filter(|(count, id)| {
            count + 2 <= *most && load.racks.contains_key(id) && onto.is_none_or(|onto| onto == *id)
        });
        for (_, to) in lighter {
            let fits = |partition: &Placed| {
                let others = others(&partition.replicas, *from);
                partition.replicas.contains(from)
                    && !partition.replicas.contains(to)
                    && keeps_racks(load, &others, *from, *to)
            };
            if let Some(at) = placed.iter().position(fits) {
                return Some((at, *from, *to));
            }
        }
    }
    None
}

/// Whether a replica may go from one broker to another without sharing a rack it did not share before.
fn keeps_racks(load: &Load<'_>, others: &[BrokerId], from: BrokerId, to: BrokerId) -> bool {
    let shares = |broker: BrokerId| {
        load.rack(broker).is_some_and(|rack| others.iter().any(|o| load.rack(*o) == Some(rack)))
    };
    !shares(to) || shares(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(racks: &[&str]) -> Vec<Broker> {
        let broker = |(id, rack): (i32, &&str)| Broker {
            id: BrokerId(id),
            address: String::new(),
            rack: (!rack.is_empty()).then(|| (*rack).to_owned()),
        };
        (1..).zip(racks).map(broker).collect()
    }

    fn placed(replicas: &[&[i32]]) -> Vec<Placed> {
        let partition = |(partition, ids): (i32, &&[i32])| Placed {
            topic: "t".to_owned(),
            partition,
            replicas: ids.iter().map(|id| BrokerId(*id)).collect(),
        };
        (0..).zip(replicas).map(partition).collect()
    }

    fn targets(moves: &[Move]) -> Vec<Vec<i32>> {
        let ids = |m: &Move| m.to.iter().flatten().map(|broker| broker.0).collect();
        moves.iter().map(ids).collect()
    }

    #[test]
    fn draining_replaces_only_the_leaving_broker() {
        let placed = placed(&[&[1, 2], &[2, 3], &[3, 1]]);
        let moves = drain(&brokers(&["", "", "", ""]), &placed, BrokerId(1)).unwrap();
        assert_eq!(targets(&moves), [[4, 2], [3, 4]]);
    }

    #[test]
    fn draining_keeps_racks_apart() {
        let placed = placed(&[&[1, 2]]);
        let moves = drain(&brokers(&["a", "b", "b", "c"]), &placed, BrokerId(1)).unwrap();
        assert_eq!(targets(&moves), [[4, 2]], "broker 3 shares the rack of broker 2");
    }

    #[test]
    fn draining_needs_another_broker_for_each_replica() {
        let placed = placed(&[&[1, 2]]);
        let refused = drain(&brokers(&["", ""]), &placed, BrokerId(1)).unwrap_err();
        assert!(refused.to_string().contains("add a broker first"), "{refused}");
    }

    #[test]
    fn rebalancing_levels_the_number_of_replicas_and_stops() {
        let placed = placed(&[&[1, 2], &[1, 2], &[1, 2], &[1, 2], &[1, 2], &[1, 2]]);
        let brokers = brokers(&["", "", ""]);
        let moves = rebalance(&brokers, &placed, None);
        let mut after: BTreeMap<i32, usize> = BTreeMap::new();
        let moved: BTreeMap<i32, Vec<i32>> =
            moves.iter().map(|m| m.partition).zip(targets(&moves)).collect();
        for partition in &placed {
            let before = partition.replicas.iter().map(|b| b.0).collect();
            let replicas = moved.get(&partition.partition).unwrap_or(&before);
            assert_ne!(replicas[0], replicas[1]);
            for broker in replicas {
                *after.entry(*broker).or_default() += 1;
            }
        }
        assert_eq!(after.into_values().collect::<Vec<_>>(), [4, 4, 4]);
        assert!(rebalance(&brokers, &[], None).is_empty());
    }

    #[test]
    fn a_new_broker_gets_its_share_and_nothing_else_moves() {
        let placed = placed(&[&[1], &[1], &[1], &[2]]);
        let moves = rebalance(&brokers(&["", "", ""]), &placed, Some(BrokerId(3)));
        assert_eq!(targets(&moves), [[3]]);
    }
}
