//! Assignments are complete, even, and move no more than they must.

use std::collections::BTreeMap;

use proptest::prelude::{Strategy, any, proptest};

use super::{Assignor, Member};
use crate::consumer::group::protocol::{Partitions, Subscription};

fn member(id: &str, topics: &[&str]) -> Member {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    let subscription = Subscription { topics, generation: -1, ..Subscription::default() };
    Member { id: id.into(), instance: None, subscription }
}

fn counts(topics: &[(&str, i32)]) -> BTreeMap<String, i32> {
    topics.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
}

fn shown(all: &BTreeMap<String, Partitions>) -> String {
    format!("{all:?}").replace('"', "")
}

#[test]
fn range_gives_neighbours_of_each_topic_and_the_first_members_one_more() {
    let members = [member("a", &["t", "u"]), member("b", &["t", "u"])];
    let assigned = Assignor::Range.assign(&members, &counts(&[("t", 3), ("u", 3)]));
    assert_eq!(shown(&assigned), "{a: {t: [0, 1], u: [0, 1]}, b: {t: [2], u: [2]}}");
}

#[test]
fn round_robin_goes_on_where_the_topic_before_ended() {
    let members = [member("a", &["t", "u"]), member("b", &["t", "u"])];
    let assigned = Assignor::RoundRobin.assign(&members, &counts(&[("t", 3), ("u", 3)]));
    assert_eq!(shown(&assigned), "{a: {t: [0, 2], u: [1]}, b: {t: [1], u: [0, 2]}}");
}

#[test]
fn a_member_that_joins_gets_what_the_others_have_given_up_and_not_before() {
    let counts = counts(&[("t", 4)]);
    let mut old = member("a", &["t"]);
    old.subscription.owned = Partitions::from([("t".into(), vec![0, 1, 2, 3])]);
    old.subscription.generation = 1;
    let members = [old.clone(), member("b", &["t"])];
    let first = Assignor::CooperativeSticky.assign(&members, &counts);
    assert_eq!(shown(&first), "{a: {t: [0, 1]}, b: {}}");
    old.subscription.owned = first["a"].clone();
    let second = Assignor::CooperativeSticky.assign(&[old, member("b", &["t"])], &counts);
    assert_eq!(shown(&second), "{a: {t: [0, 1]}, b: {t: [2, 3]}}");
}

#[test]
fn of_two_that_claim_a_partition_the_later_generation_has_it() {
    let owning = |id, generation| {
        let mut member = member(id, &["t"]);
        member.subscription.owned = Partitions::from([("t".into(), vec![0])]);
        member.subscription.generation = generation;
        member
    };
    let assigned =
        Assignor::CooperativeSticky.assign(&[owning("a", 3), owning("b", 4)], &counts(&[("t", 1)]));
    assert_eq!(shown(&assigned), "{a: {}, b: {t: [0]}}");
}

const TOPICS: [&str; 3] = ["t", "u", "v"];

fn group() -> impl Strategy<Value = (Vec<Member>, BTreeMap<String, i32>)> {
    let wishes = proptest::collection::vec(any::<[bool; 3]>(), 1..8);
    (wishes, proptest::array::uniform3(0_i32..12)).prop_map(|(wishes, sizes)| {
        let members = wishes.iter().enumerate().map(|(at, wish)| {
            let topics = TOPICS.iter().zip(wish).filter(|(_, wanted)| **wanted);
            member(&format!("m{at}"), &topics.map(|(topic, _)| *topic).collect::<Vec<_>>())
        });
        let sizes = TOPICS.iter().zip(sizes).map(|(topic, size)| ((*topic).to_owned(), size));
        (members.collect(), sizes.collect())
    })
}

/// Every partition of a topic that somebody wants goes to one member that wants it.
fn assert_complete(
    members: &[Member],
    counts: &BTreeMap<String, i32>,
    assigned: &BTreeMap<String, Partitions>,
) {
    for (topic, count) in counts {
        let wanted = members.iter().any(|member| member.wants(topic));
        let mut given = Vec::new();
        for member in members {
            let of_topic = assigned[&member.id].get(topic);
            assert!(of_topic.is_none() || member.wants(topic), "{} has no use for it", member.id);
            given.extend(of_topic.into_iter().flatten().copied());
        }
        given.sort_unstable();
        assert_eq!(given, (0..if wanted { *count } else { 0 }).collect::<Vec<_>>(), "{topic}");
    }
}

proptest! {
    #[test]
    fn every_partition_has_one_reader((members, counts) in group()) {
        for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky] {
            assert_complete(&members, &counts, &assignor.assign(&members, &counts));
        }
    }

    #[test]
    fn after_two_rebalances_a_changed_group_is_complete_and_a_third_moves_nothing(
        (members, counts) in group(),
        leaves: proptest::sample::Index,
    ) {
        let sticky = Assignor::CooperativeSticky;
        let mut members = members;
        let mut assigned = sticky.assign(&members, &counts);
        let gone = members.remove(leaves.index(members.len()));
        members.push(Member { id: "new".into(), ..gone });
        for generation in 1..4 {
            for member in &mut members {
                member.subscription.owned = assigned.get(&member.id).cloned().unwrap_or_default();
                member.subscription.generation = generation;
            }
            let next = sticky.assign(&members, &counts);
            assert!(generation < 3 || next == assigned, "{assigned:?} then {next:?}");
            assigned = next;
        }
        assert_complete(&members, &counts, &assigned);
    }
}
