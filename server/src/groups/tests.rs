//! Classic groups do what Kafka's do, and go on after their coordinator has died.
//!
//! Not here: groups of the consumer protocol (`tests/consumer.rs`).

mod consumer;
mod consumer_model;
mod migration;
mod migration_model;
mod mixed;
mod model;
mod world;

use kafka_protocol::ResponseError;

use super::group::State;
use world::{World, asks, named};

/// The first rebalance waits three seconds, and three more when somebody else comes meanwhile.
const PATIENT_MS: u64 = 6_000;

#[test]
fn members_join_once_they_have_an_id_and_the_leader_is_told_all_of_them() {
    let mut world = World::new();
    let refused = world.join_first("g", asks("")).unwrap();
    assert_eq!(refused.code, Some(ResponseError::MemberIdRequired));
    let a = world.join("g", asks(&refused.member_id));
    let b = world.join_new("g");
    assert_eq!(world.joined(a), None, "the first rebalance waits for more members");
    world.pass(PATIENT_MS);
    let (a, b) = (world.joined(a).unwrap(), world.joined(b).unwrap());
    assert_eq!((a.generation, b.generation), (1, 1));
    assert_eq!(a.leader, b.leader);
    let (leader, follower) = if a.member_id == a.leader { (a, b) } else { (b, a) };
    assert_eq!((leader.members.len(), follower.members.len()), (2, 0));
    let waits = world.sync("g", &follower, &[]);
    assert_eq!(world.synced(waits), None, "the leader has not assigned anything");
    let given = [(leader.member_id.as_str(), "0"), (follower.member_id.as_str(), "1")];
    let leads = world.sync("g", &leader, &given);
    assert_eq!(world.synced(leads), None, "the assignment is not stored");
    world.store_all();
    assert_eq!(world.synced(leads).unwrap().unwrap(), "0");
    assert_eq!(world.synced(waits).unwrap().unwrap(), "1");
    assert_eq!(world.state("g"), Some(State::Stable));
}

#[test]
fn whoever_is_silent_for_its_session_timeout_is_replaced() {
    let mut world = World::new();
    let members = world.settled("g", 2);
    world.pass(6_000);
    assert_eq!(world.heartbeat("g", &members[0]), Ok(()));
    world.pass(6_000);
    assert_eq!(world.heartbeat("g", &members[0]), Err(ResponseError::RebalanceInProgress));
    assert_eq!(world.heartbeat("g", &members[1]), Err(ResponseError::UnknownMemberId));
    let again = world.join("g", asks(&members[0].member_id));
    let joined = world.joined(again).unwrap();
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
}

#[test]
fn a_rebalance_ends_without_those_who_do_not_come() {
    let mut world = World::new();
    let members = world.settled("g", 3);
    assert_eq!(world.leave("g", &members[2].member_id), Ok(()));
    let comes = world.join("g", asks(&members[0].member_id));
    assert_eq!(world.joined(comes), None, "the other one may still come");
    for _ in 0..20 {
        world.pass(3_000);
        let _ = world.heartbeat("g", &members[1]);
    }
    let joined = world.joined(comes).unwrap();
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    assert_eq!(world.heartbeat("g", &members[1]), Err(ResponseError::UnknownMemberId));
}

#[test]
fn the_first_rebalance_waits_longer_while_members_come() {
    let mut world = World::new();
    let first = world.join_new("g");
    world.pass(2_000);
    let second = world.join_new("g");
    world.pass(2_000);
    assert_eq!(world.joined(first), None);
    world.pass(2_000);
    assert_eq!(world.joined(first).unwrap().generation, 1);
    assert_eq!(world.joined(second).unwrap().generation, 1);
}

#[test]
fn a_static_member_that_comes_back_gets_what_it_had_and_fences_the_one_before() {
    let mut world = World::new();
    let one = world.join("g", named("", "one"));
    let two = world.join("g", named("", "two"));
    world.pass(PATIENT_MS);
    let (one, two) = (world.joined(one).unwrap(), world.joined(two).unwrap());
    let (leader, follower) = if one.member_id == one.leader { (&one, &two) } else { (&two, &one) };
    let given = [(leader.member_id.as_str(), "L"), (follower.member_id.as_str(), "F")];
    let _ = world.sync("g", leader, &given);
    let _ = world.sync("g", follower, &[]);
    world.store_all();
    let instance = if std::ptr::eq(follower, &one) { "one" } else { "two" };
    let back = world.join("g", named("", instance));
    assert_eq!(world.joined(back), None, "its new id is not stored");
    world.store_all();
    let back = world.joined(back).unwrap();
    assert_eq!((back.code, back.generation), (None, 1), "nobody else had to join again");
    assert_ne!(back.member_id, follower.member_id);
    let synced = world.sync("g", &back, &[]);
    assert_eq!(world.synced(synced).unwrap().unwrap(), "F");
    let fenced = world.heartbeat_as("g", &follower.member_id, Some(instance), 1);
    assert_eq!(fenced, Err(ResponseError::FencedInstanceId));
    assert_eq!(world.heartbeat_as("g", &back.member_id, Some(instance), 1), Ok(()));
    let unknown = world.heartbeat_as("g", &back.member_id, Some("three"), 1);
    assert_eq!(unknown, Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_static_member_whose_new_id_cannot_be_stored_keeps_the_old_one() {
    let mut world = World::new();
    let one = world.join("g", named("", "one"));
    world.pass(PATIENT_MS);
    let one = world.joined(one).unwrap();
    let _ = world.sync("g", &one, &[(one.member_id.as_str(), "all")]);
    world.store_all();
    let back = world.join("g", named("", "one"));
    world.store_none(ResponseError::CoordinatorNotAvailable);
    assert_eq!(world.joined(back).unwrap().code, Some(ResponseError::CoordinatorNotAvailable));
    assert_eq!(world.heartbeat_as("g", &one.member_id, Some("one"), 1), Ok(()));
}

#[test]
fn a_group_takes_no_more_members_than_it_may_have() {
    let mut world = World::new();
    world.limits.members_max = 2;
    let _ = world.settled("g", 2);
    let third = world.join_first("g", named("", "third")).unwrap();
    assert_eq!(third.code, Some(ResponseError::GroupMaxSizeReached));
    assert_eq!(third.member_id, "");
}

#[test]
fn protocols_must_have_something_in_common() {
    let mut world = World::new();
    let _ = world.settled("g", 1);
    let mut other = named("", "x");
    other.protocols[0].name = "roundrobin".to_owned();
    let refused = world.join_first("g", other).unwrap();
    assert_eq!(refused.code, Some(ResponseError::InconsistentGroupProtocol));
    let mut connect = named("", "x");
    connect.protocol_type = "connect".to_owned();
    let refused = world.join_first("g", connect).unwrap();
    assert_eq!(refused.code, Some(ResponseError::InconsistentGroupProtocol));
}

#[test]
fn the_protocol_is_the_one_that_most_prefer_of_those_that_all_support() {
    let mut world = World::new();
    let ask = |names: &[&str], id: &str| {
        let mut ask = asks(id);
        ask.protocols = names
            .iter()
            .map(|name| super::Protocol { name: (*name).to_owned(), metadata: Default::default() })
            .collect();
        ask
    };
    let ids: Vec<String> = (0..3).map(|_| world.new_member("g")).collect();
    let tokens = [
        world.join("g", ask(&["sticky", "range", "old"], &ids[0])),
        world.join("g", ask(&["range", "old"], &ids[1])),
        world.join("g", ask(&["old", "range"], &ids[2])),
    ];
    world.pass(PATIENT_MS);
    for token in tokens {
        assert_eq!(world.joined(token).unwrap().protocol.as_deref(), Some("range"));
    }
}

#[test]
fn commits_are_taken_from_members_of_this_generation_and_from_nobody_else() {
    let mut world = World::new();
    let members = world.settled("g", 1);
    let id = members[0].member_id.as_str();
    assert_eq!(world.commit("g", id, 1, 10), Ok(()));
    assert_eq!(world.commit("g", id, 0, 11), Err(ResponseError::IllegalGeneration));
    assert_eq!(world.commit("g", "somebody", 1, 11), Err(ResponseError::UnknownMemberId));
    assert_eq!(world.commit("g", "", -1, 11), Err(ResponseError::UnknownMemberId));
    assert_eq!(world.offset("g"), Some(10));
    assert_eq!(world.commit("new", "m", 3, 1), Err(ResponseError::IllegalGeneration));
    assert_eq!(world.commit("new", "", -1, 1), Ok(()), "a consumer without a group");
    let joining = world.join_new("g");
    let again = world.join("g", asks(id));
    assert_eq!(world.joined(again).unwrap().generation, 2);
    assert_eq!(world.joined(joining).unwrap().generation, 2);
    assert_eq!(world.commit("g", id, 2, 12), Err(ResponseError::RebalanceInProgress));
}

#[test]
fn members_go_on_after_their_coordinator_has_died() {
    let mut world = World::new();
    let members = world.settled("g", 2);
    assert_eq!(world.commit("g", &members[0].member_id, 1, 7), Ok(()));
    world.pass(9_000);
    world.fail_over();
    world.pass(9_000);
    for member in &members {
        assert_eq!(world.heartbeat("g", member), Ok(()), "sessions began anew");
        let synced = world.sync("g", member, &[]);
        assert!(world.synced(synced).unwrap().is_ok());
    }
    assert_eq!(world.offset("g"), Some(7));
    assert_eq!(world.commit("g", &members[1].member_id, 1, 8), Ok(()));
}

#[test]
fn a_group_without_members_is_forgotten_when_its_offsets_expire() {
    let mut world = World::new();
    let members = world.settled("g", 1);
    assert_eq!(world.commit("g", &members[0].member_id, 1, 7), Ok(()));
    for _ in 0..10 {
        world.pass(6_000);
        assert_eq!(world.heartbeat("g", &members[0]), Ok(()));
    }
    world.expire_offsets();
    assert_eq!(world.offset("g"), Some(7), "it is in use");
    assert_eq!(world.leave("g", &members[0].member_id), Ok(()));
    world.store_all();
    assert_eq!(world.state("g"), Some(State::Empty));
    world.pass(world.limits.retention_ms.unsigned_abs() / 2);
    world.expire_offsets();
    assert_eq!(world.offset("g"), Some(7));
    world.pass(world.limits.retention_ms.unsigned_abs() / 2);
    world.expire_offsets();
    assert_eq!((world.offset("g"), world.state("g")), (None, None));
    world.fail_over();
    assert_eq!(world.state("g"), None);
}

#[test]
fn only_a_group_without_members_is_deleted() {
    let mut world = World::new();
    let members = world.settled("g", 1);
    assert_eq!(world.commit("g", &members[0].member_id, 1, 7), Ok(()));
    assert_eq!(world.delete("g"), Err(ResponseError::NonEmptyGroup));
    assert_eq!(world.leave("g", &members[0].member_id), Ok(()));
    assert_eq!(world.delete("g"), Ok(()));
    assert_eq!(world.delete("g"), Err(ResponseError::GroupIdNotFound));
    assert_eq!(world.offset("g"), None);
}

#[test]
fn an_id_that_nobody_comes_with_leaves_nothing_behind() {
    let mut world = World::new();
    let _ = world.new_member("g");
    assert_eq!(world.state("g"), Some(State::Empty));
    world.pass(world::SESSION_MS);
    assert_eq!(world.state("g"), None);
    assert_eq!(world.machine.next_deadline(), None);
}
