//! Sharing all partitions evenly: nobody has two more than somebody who could have one of them, and whoever has a partition
//! keeps it while that holds.
//!
//! What nobody has goes to a member in a rack where it has a replica, if one may have more.
//!
//! Invariant: the same members, topics and shares before give the same shares.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::Assignment;
use super::assignor::Sharing;

/// How often the loads are evened out, at most; each round moves what it can.
const ROUNDS_MAX: usize = 100;

/// What each member shall have.
pub(super) fn assign(group: &Sharing<'_>) -> BTreeMap<String, Assignment> {
    let mut shares = Shares::keep(group);
    let mut subscriptions = group.members.values().map(|member| &member.topics);
    let first = subscriptions.next();
    if subscriptions.all(|topics| Some(topics) == first) {
        shares.even_out_alike();
    } else {
        shares.even_out();
    }
    let ids = group.members.keys().cloned();
    ids.zip(shares.of).collect()
}

/// Shares by member, in the order of their ids.
struct Shares<'a> {
    group: &'a Sharing<'a>,
    of: Vec<Assignment>,
    loads: Vec<usize>,
    /// What nobody has.
    left: BTreeSet<(Uuid, i32)>,
    /// Who subscribes to each topic.
    sharers: BTreeMap<Uuid, Vec<usize>>,
    racks: Vec<Option<&'a str>>,
}

impl<'a> Shares<'a> {
    /// Everybody keeps what it had and may still have.
    fn keep(group: &'a Sharing<'a>) -> Self {
        let mut left = BTreeSet::new();
        for topic in group.all_topics() {
            left.extend((0..group.partitions(topic)).map(|partition| (topic, partition)));
        }
        let mut sharers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        let mut of = Vec::with_capacity(group.members.len());
        for (at, (id, member)) in group.members.iter().enumerate() {
            for topic in &member.topics {
                sharers.entry(*topic).or_default().push(at);
            }
            let mut kept = Assignment::new();
            for (topic, parts) in group.before.get(id).into_iter().flatten() {
                if !member.topics.contains(topic) {
                    continue;
                }
                for partition in parts.iter().filter(|p| left.remove(&(*topic, **p))) {
                    kept.entry(*topic).or_default().insert(*partition);
                }
            }
            of.push(kept);
        }
        let loads = of.iter().map(|kept| kept.values().map(BTreeSet::len).sum()).collect();
        let racks = group.members.values().map(|member| member.rack.as_deref()).collect();
        Self { group, of, loads, left, sharers, racks }
    }

    fn give(&mut self, at: usize, topic: Uuid, partition: i32) {
        self.of[at].entry(topic).or_default().insert(partition);
        self.loads[at] += 1;
    }

    /// Takes a partition of the topic away, the last one of those that are not in the member's rack if there are such.
    fn take(&mut self, at: usize, topic: Uuid) -> Option<i32> {
        let parts = self.of[at].get_mut(&topic)?;
        let facts = self.group.topics.by_id(topic);
        let is_near = |partition: i32| {
            self.racks[at].is_some_and(|rack| facts.is_some_and(|f| f.is_in(partition, rack)))
        };
        let far = parts.iter().rev().copied().find(|partition| !is_near(*partition));
        let partition = far.or_else(|| parts.last().copied())?;
        parts.remove(&partition);
        if parts.is_empty() {
            self.of[at].remove(&topic);
        }
        self.loads[at] -= 1;
        Some(partition)
    }

    /// All subscribe to the same: everybody may have its part, and one more while there are some left over.
    fn even_out_alike(&mut self) {
        let members = self.of.len();
        if members == 0 {
            return;
        }
        let total = self.loads.iter().sum::<usize>() + self.left.len();
        let (each, mut more) = (total / members, total % members);
        let mut quotas = vec![each; members];
        for (at, quota) in quotas.iter_mut().enumerate() {
            if more > 0 && self.loads[at] > each {
                *quota += 1;
                more -= 1;
            }
        }
        for (at, quota) in quotas.iter().enumerate() {
            while self.loads[at] > *quota {
                let Some(topic) = self.of[at].keys().next_back().copied() else { break };
                let Some(partition) = self.take(at, topic) else { break };
                self.left.insert((topic, partition));
            }
        }
        for quota in quotas.iter_mut().filter(|quota| **quota == each).take(more) {
            *quota += 1;
        }
        self.fill_near(&quotas);
        let left = std::mem::take(&mut self.left);
        let mut at = 0;
        for (topic, partition) in left {
            while at + 1 < members && self.loads[at] >= quotas[at] {
                at += 1;
            }
            self.give(at, topic, partition);
        }
    }

    /// Gives what is left to members in the racks where it is, as far as they may have it.
    fn fill_near(&mut self, quotas: &[usize]) {
        let mut needy: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, rack) in self.racks.iter().enumerate().rev() {
            if let Some(rack) = rack.filter(|_| self.loads[at] < quotas[at]) {
                needy.entry(rack).or_default().push(at);
            }
        }
        if needy.is_empty() {
            return;
        }
        for (topic, partition) in self.left.clone() {
            let Some(facts) = self.group.topics.by_id(topic) else { continue };
            let near = needy
                .iter_mut()
                .find(|(rack, members)| !members.is_empty() && facts.is_in(partition, rack));
            let Some((_, members)) = near else { continue };
            let Some(at) = members.last().copied() else { continue };
            self.left.remove(&(topic, partition));
            self.give(at, topic, partition);
            if self.loads[at] >= quotas[at] {
                members.pop();
            }
        }
    }

    /// Members subscribe to different topics: what is left goes to whoever has least, topics with few subscribers first;
    /// then partitions move from those who have most to those who have least.
    fn even_out(&mut self) {
        let mut left: Vec<(Uuid, i32)> = std::mem::take(&mut self.left).into_iter().collect();
        left.sort_by_key(|(topic, partition)| {
            (self.sharers.get(topic).map_or(0, Vec::len), *topic, *partition)
        });
        for (topic, partition) in left {
            if let Some(at) = self.least(topic) {
                self.give(at, topic, partition);
            }
        }
        let topics: Vec<Uuid> = self.sharers.keys().copied().collect();
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            for topic in &topics {
                while self.move_one(*topic) {
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// The subscriber with the smallest load.
    fn least(&self, topic: Uuid) -> Option<usize> {
        self.sharers.get(&topic)?.iter().copied().min_by_key(|at| self.loads[*at])
    }

    /// Moves one partition of the topic to a member that has less by two or more. Each move makes the loads more even, so
    /// that this ends.
    fn move_one(&mut self, topic: Uuid) -> bool {
        let Some(to) = self.least(topic) else { return false };
        let has_some = |at: &usize| self.of[*at].contains_key(&topic);
        let most = self.sharers.get(&topic).into_iter().flatten().copied().filter(has_some);
        let Some(from) = most.max_by_key(|at| self.loads[*at]) else { return false };
        if self.loads[from] < self.loads[to] + 2 {
            return false;
        }
        let Some(partition) = self.take(from, topic) else { return false };
        self.give(to, topic, partition);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::assignor::Sharer;
    use super::super::assignor::tests::{count, sharer, topic, topics};
    use super::super::catalog::Catalog;
    use super::*;

    fn round(
        members: &[(&str, Sharer)],
        before: &BTreeMap<String, Assignment>,
        topics: &Catalog,
    ) -> BTreeMap<String, Assignment> {
        let members = members.iter().map(|(id, member)| ((*id).to_owned(), member.clone()));
        assign(&Sharing { members: members.collect(), before, topics })
    }

    #[test]
    fn only_as_much_moves_as_makes_the_shares_even() {
        let topics = topics(&[7, 3]);
        let all = || sharer(&[0, 1]);
        let one = round(&[("a", all())], &BTreeMap::new(), &topics);
        let two = round(&[("a", all()), ("b", all())], &one, &topics);
        let loads: Vec<usize> = two.values().map(count).collect();
        assert_eq!(loads, [5, 5]);
        let kept = |before: &Assignment, now: &Assignment| {
            now.iter().map(|(t, parts)| parts.intersection(&before[t]).count()).sum::<usize>()
        };
        assert_eq!(kept(&one["a"], &two["a"]), 5, "it only gave away");
        let three = round(&[("a", all()), ("b", all()), ("c", all())], &two, &topics);
        let mut loads: Vec<usize> = three.values().map(count).collect();
        loads.sort_unstable();
        assert_eq!(loads, [3, 3, 4]);
        for id in ["a", "b"] {
            assert_eq!(kept(&two[id], &three[id]), count(&three[id]));
        }
        let back = round(&[("a", all()), ("c", all())], &three, &topics);
        for id in ["a", "c"] {
            assert_eq!(kept(&back[id], &three[id]), count(&three[id]), "it only got more");
        }
    }

    #[test]
    fn members_that_subscribe_to_different_topics_have_as_much_as_can_be() {
        let topics = topics(&[4, 4]);
        let one = round(&[("a", sharer(&[0, 1])), ("b", sharer(&[1]))], &BTreeMap::new(), &topics);
        assert_eq!((count(&one["a"]), count(&one["b"])), (4, 4));
        assert_eq!(one["b"][&topic(1)].len(), 4, "all of the other topic");
    }

    #[test]
    fn members_get_partitions_in_their_racks_where_the_balance_allows() {
        let topics = topics(&[6]);
        let near = |rack: &str| Sharer { rack: Some(rack.to_owned()), ..sharer(&[0]) };
        let members = [("a", near("r2")), ("b", near("r0")), ("c", near("r1"))];
        let assigned = round(&members, &BTreeMap::new(), &topics);
        assert!(assigned["a"][&topic(0)].iter().eq(&[2, 5]));
        assert!(assigned["b"][&topic(0)].iter().eq(&[0, 3]));
        assert!(assigned["c"][&topic(0)].iter().eq(&[1, 4]));
    }
}
