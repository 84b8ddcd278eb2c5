//! A group moves between the protocols with its members in it, as Kafka's does with `group.consumer.migration.policy`.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::super::consumer::Policy;
use super::super::consumer::group::State as ConsumerState;
use super::super::group::State;
use super::super::{Caller, Join};
use super::consumer::joins;
use super::mixed::{Client, Kind, PARTITIONS, settle};
use super::world::{World, asks};

fn world() -> World {
    let mut world = World::new();
    world.topic("t", PARTITIONS);
    world
}

/// A group of these clients that has settled.
fn settled(world: &mut World, kinds: &[Kind]) -> Vec<Client> {
    let names = (0..).zip(kinds).map(|(at, kind)| (format!("m{at}"), *kind));
    let mut clients: Vec<Client> =
        names.map(|(name, kind)| Client::new(kind, &name, None)).collect();
    settle(world, &mut clients, 12, 1_500);
    check(world, &clients);
    clients
}

/// Every partition is somebody's, and nobody waits for anything.
fn check(world: &World, clients: &[Client]) {
    let all: Vec<i32> = clients.iter().flat_map(|client| client.owned.iter().copied()).collect();
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "two have one: {clients:?}");
    assert_eq!(all.len(), usize::try_from(PARTITIONS).unwrap(), "nobody has one: {clients:?}");
    match (world.machine.consumer("g"), world.machine.get("g")) {
        (Some(group), None) => {
            assert_eq!(
                (group.state(), group.members.len()),
                (ConsumerState::Stable, clients.len())
            );
        }
        (None, Some(group)) => {
            assert_eq!((group.state, group.members.len()), (State::Stable, clients.len()));
        }
        _ => panic!("it is a group of one kind"),
    }
}

fn is_consumer(world: &World) -> bool {
    world.machine.consumer("g").is_some()
}

fn refusal(world: &mut World) -> ResponseError {
    let token = world.beat("g", &joins("new", &["t"]));
    world.store_all();
    world.heard(token).unwrap().unwrap_err()
}

#[test]
fn a_group_is_upgraded_member_by_member_and_back_and_keeps_what_it_committed() {
    for classic in [Kind::Eager, Kind::Cooperative] {
        let mut world = world();
        let mut clients = settled(&mut world, &[classic, classic]);
        assert!(!is_consumer(&world));
        let mut epoch = clients[0].epoch;
        assert_eq!(world.commit("g", &clients[0].id, epoch, 7), Ok(()));
        for (at, kind) in [(0, Kind::Consumer), (1, Kind::Consumer), (0, classic), (1, classic)] {
            let mut gone =
                std::mem::replace(&mut clients[at], Client::new(kind, &format!("n{at}"), None));
            // One that comes before another one goes, and the other way round.
            if at == 0 {
                settle(&mut world, &mut clients, 2, 500);
            }
            gone.leave(&mut world);
            settle(&mut world, &mut clients, 12, 1_500);
            check(&world, &clients);
            assert_eq!(is_consumer(&world), clients.iter().any(|c| c.kind == Kind::Consumer));
            let newest = clients.iter().map(|client| client.epoch).max().unwrap();
            assert!(newest > epoch, "{newest} after {epoch}");
            epoch = newest;
            assert_eq!(world.offset("g"), Some(7));
        }
    }
}

#[test]
fn members_of_both_protocols_share_a_group_that_outlives_its_coordinator() {
    let mut world = world();
    let mut clients = settled(&mut world, &[Kind::Eager, Kind::Cooperative]);
    clients.push(Client::new(Kind::Consumer, "c", None));
    clients.push(Client::new(Kind::Eager, "", None));
    settle(&mut world, &mut clients, 12, 1_500);
    check(&world, &clients);
    assert!(clients.iter().all(|client| client.owned.len() == 1), "{clients:?}");
    let before: Vec<_> = clients.iter().map(|c| (c.epoch, c.owned.clone())).collect();
    world.fail_over();
    settle(&mut world, &mut clients, 4, 1_500);
    check(&world, &clients);
    let after: Vec<_> = clients.iter().map(|c| (c.epoch, c.owned.clone())).collect();
    assert_eq!(before, after, "nobody had to do anything");
    assert!(world.table.get("g").unwrap().group.is_none(), "the classic group is gone");
}

#[test]
fn a_classic_member_is_told_to_join_again_until_it_is_level() {
    let mut world = world();
    let mut clients = settled(&mut world, &[Kind::Cooperative]);
    let old = clients[0].clone();
    clients.push(Client::new(Kind::Consumer, "c", None));
    clients[1].act(&mut world);
    world.store_all();
    let again = Err(ResponseError::RebalanceInProgress);
    assert_eq!(world.heartbeat_as("g", &old.id, None, old.epoch), again);
    assert_eq!(world.commit("g", &old.id, old.epoch, 3), Ok(()), "it has its partitions");
    let sync = world.sync_as("g", old.caller(), [].into());
    assert_eq!(world.assigned(sync).unwrap().map(|_| ()), again);
    settle(&mut world, &mut clients, 8, 100);
    check(&world, &clients);
    assert!(clients[0].epoch > old.epoch);
    let late = Err(ResponseError::IllegalGeneration);
    assert_eq!(world.commit("g", &old.id, old.epoch, 4), late);
    assert_eq!(world.heartbeat_as("g", &old.id, None, old.epoch), late);
    let unknown = Err(ResponseError::UnknownMemberId);
    assert_eq!(world.heartbeat_as("g", "z", None, 1), unknown);
    assert_eq!(world.heartbeat_as("g", "c", None, clients[1].epoch), unknown, "another protocol");
    assert_eq!(world.leave("g", "c"), unknown);
}

#[test]
fn whoever_does_not_join_or_ask_for_its_assignment_in_time_is_out() {
    let mut world = world();
    let mut clients = settled(&mut world, &[Kind::Eager, Kind::Eager]);
    let silent = clients.pop().unwrap();
    clients.push(Client::new(Kind::Consumer, "c", None));
    clients[1].act(&mut world);
    world.store_all();
    // It is heard, and does not join.
    for _ in 0..59 {
        let told = world.heartbeat_as("g", &silent.id, None, silent.epoch);
        assert_eq!(told, Err(ResponseError::RebalanceInProgress));
        settle(&mut world, &mut clients, 1, 1_000);
    }
    settle(&mut world, &mut clients, 4, 1_000);
    let told = world.heartbeat_as("g", &silent.id, None, silent.epoch);
    assert_eq!(told, Err(ResponseError::UnknownMemberId));
    check(&world, &clients);
    // Its session is its own: ten seconds, and not those of the group.
    clients.remove(0);
    settle(&mut world, &mut clients, 11, 1_000);
    check(&world, &clients);
}

#[test]
fn the_policy_says_which_way_a_group_may_go() {
    for policy in [Policy::Disabled, Policy::Downgrade, Policy::Upgrade, Policy::Bidirectional] {
        let upgrades = matches!(policy, Policy::Upgrade | Policy::Bidirectional);
        let downgrades = matches!(policy, Policy::Downgrade | Policy::Bidirectional);
        let mut world = world();
        world.limits.consumer.migration = policy;
        let clients = settled(&mut world, &[Kind::Eager]);
        let token = world.beat("g", &joins("c", &["t"]));
        world.store_all();
        assert_eq!(world.heard(token).unwrap().is_ok(), upgrades, "{policy:?}");
        assert_eq!(is_consumer(&world), upgrades);
        drop(clients);
        // A classic member may join a consumer group in any case.
        let mut world = self::world();
        world.limits.consumer.migration = policy;
        let mut clients = settled(&mut world, &[Kind::Consumer, Kind::Eager]);
        clients[0].leave(&mut world);
        clients.remove(0);
        settle(&mut world, &mut clients, 8, 1_500);
        check(&world, &clients);
        assert_eq!(is_consumer(&world), !downgrades, "{policy:?}");
    }
}

#[test]
fn a_group_that_is_not_understood_is_not_upgraded() {
    let mut world = world();
    let connect = Join { protocol_type: "connect".to_owned(), ..asks("") };
    let id = world.join_first("g", connect.clone()).unwrap().member_id;
    let token = world.join("g", Join { member_id: id, ..connect });
    world.pass(6_000);
    assert_eq!(refusal(&mut world), ResponseError::GroupIdNotFound, "they are no consumers");
    let joined = world.joined(token).unwrap();
    assert_eq!(world.heartbeat("g", &joined), Ok(()), "nothing has changed");
    for given in [&b"x"[..], b"\0\0\0\0\0\0\0\0\0\x01x"] {
        let mut world = self::world();
        let id = world.new_member("g");
        let token = world.join("g", asks(&id));
        world.pass(6_000);
        let generation = world.joined(token).unwrap().generation;
        let caller = Caller { member_id: id.clone(), instance: None, generation };
        let _ = world.sync_as("g", caller, [(id, Bytes::copy_from_slice(given))].into());
        world.store_all();
        assert_eq!(refusal(&mut world), ResponseError::GroupIdNotFound);
    }
    let mut world = self::world();
    let _ = settled(&mut world, &[Kind::Eager, Kind::Eager]);
    world.limits.consumer.members_max = 1;
    assert_eq!(refusal(&mut world), ResponseError::GroupIdNotFound, "it is too large");
}

#[test]
fn static_members_keep_what_they_have_when_they_come_back_with_the_other_protocol() {
    let mut world = world();
    let mut clients: Vec<Client> =
        ["a", "b"].map(|name| Client::new(Kind::Cooperative, "", Some(name))).into();
    settle(&mut world, &mut clients, 12, 1_500);
    check(&world, &clients);
    let (old, had) = (clients[0].id.clone(), clients[0].owned.clone());
    clients[0] = Client::new(Kind::Consumer, "c", Some("a"));
    settle(&mut world, &mut clients, 8, 1_500);
    check(&world, &clients);
    assert_eq!((is_consumer(&world), &clients[0].owned), (true, &had));
    let fenced = world.heartbeat_as("g", &old, Some("a"), 1);
    assert_eq!(fenced, Err(ResponseError::FencedInstanceId));
    clients[0] = Client::new(Kind::Eager, "", Some("a"));
    settle(&mut world, &mut clients, 8, 1_500);
    check(&world, &clients);
    assert!(!is_consumer(&world));
}

#[test]
fn a_downgrade_that_is_stored_is_finished_by_the_next_coordinator() {
    for lost in [false, true] {
        let mut world = world();
        let mut clients = settled(&mut world, &[Kind::Consumer, Kind::Eager]);
        clients.remove(0).leave(&mut world);
        let token = world.join("g", asks(""));
        let told = world.joined(token).unwrap().code;
        assert_eq!(told, Some(ResponseError::CoordinatorLoadInProgress), "it is on its way");
        if lost {
            world.store_none(ResponseError::CoordinatorNotAvailable);
            assert!(is_consumer(&world));
        } else {
            world.store_all();
            assert!(!is_consumer(&world));
            world.fail_over();
        }
        settle(&mut world, &mut clients, 8, 1_500);
        check(&world, &clients);
        assert!(!is_consumer(&world));
        assert!(world.table.get("g").unwrap().consumer.is_none(), "nothing is left of it");
    }
}
