//! Sharing each topic in ranges: members in order get neighbouring partitions, so that members which subscribe alike get the
//! same numbers of topics that are partitioned alike.
//!
//! The order is that of instance names, then of member ids, so that static members keep their ranges over restarts.

use std::collections::BTreeMap;

use super::Assignment;
use super::assignor::Sharing;

/// What each member shall have.
pub(super) fn assign(group: &Sharing<'_>) -> BTreeMap<String, Assignment> {
    let mut assigned: BTreeMap<String, Assignment> =
        group.members.keys().map(|id| (id.clone(), Assignment::new())).collect();
    let mut order: Vec<_> = group.members.iter().collect();
    order.sort_by_key(|(id, member)| (member.instance.is_none(), &member.instance, *id));
    for topic in group.all_topics() {
        let sharers = order.iter().filter(|(_, member)| member.topics.contains(&topic));
        let sharers: Vec<&String> = sharers.map(|(id, _)| *id).collect();
        let count = i32::try_from(sharers.len()).unwrap_or(i32::MAX).max(1);
        let partitions = group.partitions(topic);
        let (each, more) = (partitions / count, partitions % count);
        let mut next = 0;
        for (id, number) in sharers.into_iter().zip(0..) {
            let end = next + each + i32::from(number < more);
            if end > next
                && let Some(assignment) = assigned.get_mut(id)
            {
                assignment.insert(topic, (next..end).collect());
            }
            next = end;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::super::assignor::Sharer;
    use super::super::assignor::tests::{sharer, topic, topics};
    use super::*;

    #[test]
    fn members_get_the_same_numbers_of_topics_that_are_partitioned_alike() {
        let topics = topics(&[5, 5]);
        let before = BTreeMap::new();
        let member = |instance: Option<&str>| Sharer {
            instance: instance.map(str::to_owned),
            ..sharer(&[0, 1])
        };
        // The names of static members come first.
        let members =
            BTreeMap::from([("a".to_owned(), member(None)), ("b".to_owned(), member(Some("z")))]);
        let assigned = assign(&Sharing { members, before: &before, topics: &topics });
        for number in [0, 1] {
            assert!(assigned["b"][&topic(number)].iter().eq(&[0, 1, 2]));
            assert!(assigned["a"][&topic(number)].iter().eq(&[3, 4]));
        }
    }
}
