//! Who of a group reads which partitions, as Kafka's assignors of the same names decide. Pure functions.
//!
//! Invariant: every partition of a subscribed topic goes to exactly one member that subscribes to it; only of
//! [`Assignor::CooperativeSticky`] those that another member has yet to give up go to nobody for now.

use std::collections::{BTreeMap, BTreeSet};

use super::protocol::{Partitions, Subscription};

/// How the partitions are spread over the members of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Of each topic neighbouring partitions, so that topics with as many partitions go alike.
    Range,
    /// Partitions in turns.
    RoundRobin,
    /// Evenly, and whoever has a partition keeps it where possible. If it is the only assignor of the members,
    /// they go on reading during a rebalance, and give up only what another one gets.
    CooperativeSticky,
}

impl Assignor {
    /// Its name on the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The partitions of each member; `counts` has those of every topic that exists.
    pub(crate) fn assign(
        self,
        members: &[Member],
        counts: &BTreeMap<String, i32>,
    ) -> BTreeMap<String, Partitions> {
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by_key(|member| (member.instance.is_none(), &member.instance, &member.id));
        let assigned = match self {
            Self::Range => range(&members, counts),
            Self::RoundRobin => round_robin(&members, counts),
            Self::CooperativeSticky => sticky(&members, counts),
        };
        let named = members.iter().zip(assigned);
        named.map(|(member, set)| (member.id.clone(), by_topic(set))).collect()
    }
}

/// A member as the leader sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) subscription: Subscription,
}

impl Member {
    fn wants(&self, topic: &str) -> bool {
        self.subscription.topics.iter().any(|wanted| wanted == topic)
    }
}

type One<'a> = (&'a str, i32);
type Sets<'a> = Vec<BTreeSet<One<'a>>>;

fn by_topic(set: BTreeSet<One<'_>>) -> Partitions {
    let mut all = Partitions::new();
    for (topic, partition) in set {
        all.entry(topic.to_owned()).or_default().push(partition);
    }
    all
}

fn every(counts: &BTreeMap<String, i32>) -> impl Iterator<Item = One<'_>> {
    counts.iter().flat_map(|(topic, count)| (0..*count).map(move |at| (topic.as_str(), at)))
}

fn range<'a>(members: &[&Member], counts: &'a BTreeMap<String, i32>) -> Sets<'a> {
    let mut sets: Sets = vec![BTreeSet::new(); members.len()];
    for (topic, count) in counts {
        let wanting: Vec<usize> =
            (0..members.len()).filter(|at| members[*at].wants(topic)).collect();
        let sharers = i32::try_from(wanting.len()).unwrap_or(i32::MAX);
        let mut next = 0;
        for (turn, at) in (0..).zip(wanting) {
            let share = count / sharers + i32::from(turn < count % sharers);
            sets[at].extend((next..next + share).map(|partition| (topic.as_str(), partition)));
            next += share;
        }
    }
    sets
}

fn round_robin<'a>(members: &[&Member], counts: &'a BTreeMap<String, i32>) -> Sets<'a> {
    let mut sets: Sets = vec![BTreeSet::new(); members.len()];
    let mut turn = 0;
    for one in every(counts) {
        let order = (0..members.len()).map(|step| (turn + step) % members.len());
        if let Some(at) = order.into_iter().find(|at| members[*at].wants(one.0)) {
            sets[at].insert(one);
            turn = at + 1;
        }
    }
    sets
}

/// Keeps what members have, gives the rest to those with the least, evens out, and takes back from that what
/// another member has yet to give up.
fn sticky<'a>(members: &[&Member], counts: &'a BTreeMap<String, i32>) -> Sets<'a> {
    let owners = owners(members, counts);
    let mut sets: Sets = vec![BTreeSet::new(); members.len()];
    let mut free = Vec::new();
    for one in every(counts) {
        match owners.get(&one) {
            Some(at) => drop(sets[*at].insert(one)),
            None => free.push(one),
        }
    }
    for one in free {
        let wanting = (0..members.len()).filter(|at| members[*at].wants(one.0));
        if let Some(at) = wanting.min_by_key(|at| sets[*at].len()) {
            sets[at].insert(one);
        }
    }
    while even_out(members, &mut sets) {}
    for (at, set) in sets.iter_mut().enumerate() {
        set.retain(|one| owners.get(one).is_none_or(|owner| *owner == at));
    }
    sets
}

/// Who has each partition: of several that claim one, whoever got it last, if it is one.
fn owners<'a>(members: &[&Member], counts: &'a BTreeMap<String, i32>) -> BTreeMap<One<'a>, usize> {
    let mut claims: BTreeMap<One<'a>, (i32, Option<usize>)> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        let Subscription { owned, generation, .. } = &member.subscription;
        for (topic, partitions) in owned {
            let Some((topic, count)) = counts.get_key_value(topic) else { continue };
            for partition in partitions.iter().filter(|at| (0..*count).contains(*at)) {
                if !member.wants(topic) {
                    continue;
                }
                let claim = claims.entry((topic, *partition)).or_insert((i32::MIN, None));
                if *generation > claim.0 {
                    *claim = (*generation, Some(at));
                } else if *generation == claim.0 {
                    claim.1 = None;
                }
            }
        }
    }
    claims.into_iter().filter_map(|(one, (_, at))| Some((one, at?))).collect()
}

/// Moves one partition from a member to one that has at least two less. False if there is none to move.
fn even_out(members: &[&Member], sets: &mut Sets<'_>) -> bool {
    let mut order: Vec<usize> = (0..sets.len()).collect();
    order.sort_by_key(|at| sets[*at].len());
    for to in &order {
        for from in order.iter().rev() {
            if sets[*from].len() < sets[*to].len() + 2 {
                break;
            }
            let movable = sets[*from].iter().rev().find(|one| members[*to].wants(one.0)).copied();
            if let Some(one) = movable {
                sets[*from].remove(&one);
                sets[*to].insert(one);
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests;
