//! Which partitions move where: pure functions over what the cluster tells.
//!
//! Where a partition is moving counts, not where it is: plans made one after the other do not undo each other.
//!
//! Invariants:
//! - A partition keeps its number of replicas, each on another broker.
//! - Replicas go to brokers that are alive and not being emptied.
//! - A replica goes to a rack that holds none of the partition's others, where there is such a broker.
//! - A plan made after another one was carried out is empty.

use std::collections::{BTreeMap, BTreeSet};

use jangbu_client::{Broker, BrokerId, Move};

/// A partition and its brokers, the preferred leader first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Where its replicas are, or are moving.
    pub(crate) replicas: Vec<BrokerId>,
    /// Whether they are moving.
    pub(crate) moving: bool,
}

/// Why a broker cannot be emptied.
#[derive(Debug, thiserror::Error)]
#[error(
    "{topic}-{partition} has {replicas} replicas and there are only {others} other brokers to hold them; add a broker first"
)]
pub(crate) struct TooFew {
    topic: String,
    partition: i32,
    replicas: usize,
    others: usize,
}

/// How many replicas each broker holds while a plan is made.
struct Load<'a> {
    brokers: BTreeMap<BrokerId, &'a Broker>,
    counts: BTreeMap<BrokerId, usize>,
}

impl<'a> Load<'a> {
    fn new(brokers: &'a [Broker], placed: &[Placed]) -> Self {
        let mut counts: BTreeMap<_, _> = brokers.iter().map(|broker| (broker.id, 0)).collect();
        for replica in placed.iter().flat_map(|partition| &partition.replicas) {
            *counts.entry(*replica).or_default() += 1;
        }
        Self { brokers: brokers.iter().map(|broker| (broker.id, broker)).collect(), counts }
    }

    fn rack(&self, broker: BrokerId) -> Option<&'a str> {
        self.brokers.get(&broker).and_then(|broker| broker.rack.as_deref())
    }

    fn lives(&self, broker: BrokerId) -> bool {
        self.brokers.get(&broker).is_some_and(|broker| broker.alive)
    }

    /// Whether a broker may be given replicas.
    fn usable(&self, broker: BrokerId) -> bool {
        self.brokers.get(&broker).is_some_and(|broker| broker.alive && !broker.draining)
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
    let ids = brokers.iter().map(|broker| broker.id);
    let stay: BTreeSet<_> = ids.filter(|id| *id != leaving && load.usable(*id)).collect();
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

/// Moves as few replicas as bring every broker within one of the average. `onto` limits where they go. What is moving, and
/// what has a replica on a broker that is not there, stays: the one may end elsewhere, and the other needs all it has.
pub(crate) fn rebalance(
    brokers: &[Broker],
    placed: &[Placed],
    onto: Option<BrokerId>,
) -> Vec<Move> {
    let mut load = Load::new(brokers, placed);
    let whole = |partition: &&Placed| partition.replicas.iter().all(|id| load.lives(*id));
    let free = placed.iter().filter(|partition| !partition.moving).filter(whole);
    let mut placed: Vec<Placed> = free.cloned().collect();
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
    let usable = load.counts.iter().filter(|(id, _)| load.usable(**id));
    let mut by_count: Vec<_> = usable.map(|(id, count)| (*count, *id)).collect();
    by_count.sort_unstable();
    for (most, from) in by_count.iter().rev() {
        let lighter = by_count
            .iter()
            .filter(|(count, id)| count + 2 <= *most && onto.is_none_or(|onto| onto == *id));
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
mod tests;
