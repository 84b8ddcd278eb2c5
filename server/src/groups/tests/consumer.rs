//! Groups of the consumer protocol do what Kafka's do, and go on after their coordinator has died.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;

use super::super::Join;
use super::super::consumer::group::State;
use super::super::consumer::{Assignment, Beat, Heard};
use super::super::table::Stored;
use super::world::{World, asks, named};

const SESSION_MS: u64 = 45_000;
const REBALANCE_MS: u64 = 10_000;

/// Somebody joins and reads these topics.
pub(super) fn joins(member: &str, topics: &[&str]) -> Beat {
    Beat {
        member_id: member.to_owned(),
        rebalance_timeout_ms: Some(10_000),
        topics: Some(topics.iter().map(|topic| (*topic).to_owned()).collect()),
        owned: Some(Assignment::new()),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        ..Beat::default()
    }
}

fn beats(member: &str, epoch: i32, owned: Option<Assignment>) -> Beat {
    let (client_id, client_host) = ("client".to_owned(), "/127.0.0.1".to_owned());
    Beat { member_id: member.to_owned(), epoch, owned, client_id, client_host, ..Beat::default() }
}

/// A client that does at once what it is told.
struct Client {
    id: String,
    instance: Option<String>,
    epoch: i32,
    owned: Assignment,
}

impl Client {
    fn join(world: &mut World, id: &str, ask: Beat) -> Self {
        let instance = ask.instance.clone();
        let heard = told(world, &ask).unwrap();
        let owned = heard.assignment.expect("whoever joins is told what it has");
        Self { id: id.to_owned(), instance, epoch: heard.epoch, owned }
    }

    fn beat(&mut self, world: &mut World) -> Result<(), ResponseError> {
        let beat = beats(&self.id, self.epoch, Some(self.owned.clone()));
        let heard = told(world, &Beat { instance: self.instance.clone(), ..beat })?;
        self.epoch = heard.epoch;
        self.owned = heard.assignment.unwrap_or_else(|| self.owned.clone());
        Ok(())
    }

    fn count(&self) -> usize {
        self.owned.values().map(BTreeSet::len).sum()
    }
}

/// What a heartbeat to group `g` is answered when everything is stored.
fn told(world: &mut World, beat: &Beat) -> Result<Heard, ResponseError> {
    let token = world.beat("g", beat);
    world.store_all();
    world.heard(token).expect("everything is stored")
}

fn world() -> World {
    let mut world = World::new();
    world.topic("t", 4);
    world
}

fn state(world: &World) -> Option<State> {
    world.machine.consumer("g").map(super::super::consumer::group::Group::state)
}

fn settle(world: &mut World, clients: &mut [&mut Client]) {
    for _ in 0..4 {
        for client in clients.iter_mut() {
            client.beat(world).unwrap();
        }
    }
    assert_eq!(state(world), Some(State::Stable));
}

#[test]
fn a_member_is_told_what_it_has_once_that_is_stored() {
    let mut world = world();
    let token = world.beat("g", &joins("a", &["t"]));
    assert_eq!(world.heard(token), None, "nothing is stored");
    world.store_all();
    let heard = world.heard(token).unwrap().unwrap();
    assert_eq!((heard.member_id.as_str(), heard.epoch, heard.interval_ms), ("a", 1, 1_000));
    assert_eq!(heard.assignment.unwrap().values().next().unwrap().len(), 4);
    let again = told(&mut world, &beats("a", 1, None)).unwrap();
    assert_eq!((again.epoch, again.assignment), (1, None), "nothing is new");
    world.pass(5_000);
    let calm = told(&mut world, &beats("a", 1, None)).unwrap();
    assert_eq!(calm.interval_ms, 5_000, "nothing has changed for a while");
    let full = Beat { epoch: 1, ..joins("a", &["t"]) };
    assert!(told(&mut world, &full).unwrap().assignment.is_some(), "it says and is told all");
}

#[test]
fn partitions_move_when_they_were_given_up_and_not_before() {
    let mut world = world();
    let mut a = Client::join(&mut world, "a", joins("a", &["t"]));
    assert_eq!((a.count(), state(&world)), (4, Some(State::Stable)));
    let mut b = Client::join(&mut world, "b", joins("b", &["t"]));
    assert_eq!((b.count(), b.epoch), (0, 2), "all of it is another's");
    assert_eq!(state(&world), Some(State::Reconciling));
    let silent = told(&mut world, &beats("a", 1, None)).unwrap();
    assert_eq!(silent.epoch, 1, "it has to give up two");
    let kept = silent.assignment.unwrap();
    assert_eq!(kept.values().next().unwrap().len(), 2);
    b.beat(&mut world).unwrap();
    assert_eq!(b.count(), 0, "the other one did not say that it has given them up");
    a.beat(&mut world).unwrap();
    assert_eq!((a.count(), a.epoch), (4, 1), "it still has them");
    b.beat(&mut world).unwrap();
    assert_eq!(b.count(), 0);
    a.owned = kept;
    a.beat(&mut world).unwrap();
    assert_eq!((a.count(), a.epoch), (2, 2));
    b.beat(&mut world).unwrap();
    assert_eq!((b.count(), b.epoch), (2, 2));
    assert_eq!(state(&world), Some(State::Stable));
}

#[test]
fn what_somebody_leaves_behind_goes_to_the_others() {
    let mut world = world();
    let mut a = Client::join(&mut world, "a", joins("a", &["t"]));
    let mut b = Client::join(&mut world, "b", joins("b", &["t"]));
    settle(&mut world, &mut [&mut a, &mut b]);
    let left = told(&mut world, &beats("b", -1, None)).unwrap();
    assert_eq!((left.epoch, left.assignment), (-1, None));
    assert_eq!(state(&world), Some(State::Assigning));
    a.beat(&mut world).unwrap();
    assert_eq!((a.count(), a.epoch), (4, 3));
    assert_eq!(b.beat(&mut world), Err(ResponseError::UnknownMemberId));
    assert_eq!(told(&mut world, &beats("a", -1, None)).unwrap().epoch, -1);
    assert_eq!(state(&world), Some(State::Empty));
}

#[test]
fn whoever_is_silent_or_does_not_give_up_in_time_is_out() {
    let mut world = world();
    let mut a = Client::join(&mut world, "a", joins("a", &["t"]));
    let mut b = Client::join(&mut world, "b", joins("b", &["t"]));
    assert_eq!(told(&mut world, &beats("a", 1, None)).unwrap().epoch, 1, "it must give up two");
    world.pass(REBALANCE_MS - 1);
    b.beat(&mut world).unwrap();
    assert_eq!(b.count(), 0);
    world.pass(1);
    world.store_all();
    assert_eq!(a.beat(&mut world), Err(ResponseError::UnknownMemberId));
    b.beat(&mut world).unwrap();
    assert_eq!(b.count(), 4);
    world.pass(SESSION_MS);
    world.store_all();
    assert_eq!((state(&world), world.machine.next_deadline()), (Some(State::Empty), None));
}

#[test]
fn an_epoch_that_is_not_the_members_fences_it_unless_an_answer_was_lost() {
    let mut world = world();
    let mut a = Client::join(&mut world, "a", joins("a", &["t"]));
    let had = a.owned.clone();
    let _b = Client::join(&mut world, "b", joins("b", &["t"]));
    a.beat(&mut world).unwrap();
    a.beat(&mut world).unwrap();
    assert_eq!(a.epoch, 2);
    let fenced = Err(ResponseError::FencedMemberEpoch);
    assert_eq!(told(&mut world, &beats("a", 1, None)).map(|_| ()), fenced);
    assert_eq!(told(&mut world, &beats("a", 1, Some(had))).map(|_| ()), fenced, "more than it has");
    assert_eq!(told(&mut world, &beats("a", 3, None)).map(|_| ()), fenced);
    let lost = told(&mut world, &beats("a", 1, Some(a.owned.clone()))).unwrap();
    assert_eq!(lost.epoch, 2);
    let again = Client::join(&mut world, "a", joins("a", &["t"]));
    assert_eq!((again.epoch, again.owned), (2, a.owned), "it joins again with nothing");
    let unknown = told(&mut world, &beats("c", 1, None)).map(|_| ());
    assert_eq!(unknown, Err(ResponseError::UnknownMemberId));
    let token = world.beat("other", &beats("a", 1, None));
    assert_eq!(world.heard(token).unwrap().map(|_| ()), Err(ResponseError::GroupIdNotFound));
}

#[test]
fn topics_that_come_grow_and_go_change_the_assignment() {
    let mut world = world();
    let mut a = Client::join(&mut world, "a", joins("a", &["t", "later"]));
    assert_eq!((a.count(), a.epoch), (4, 1));
    world.topic("other", 9);
    a.beat(&mut world).unwrap();
    assert_eq!((a.count(), a.epoch), (4, 1), "nobody reads it");
    world.topic("later", 2);
    a.beat(&mut world).unwrap();
    assert_eq!((a.count(), a.epoch), (6, 2));
    world.topic("later", 5);
    a.beat(&mut world).unwrap();
    assert_eq!((a.count(), a.epoch), (9, 3));
    world.topic("t", 0);
    a.beat(&mut world).unwrap();
    a.beat(&mut world).unwrap();
    assert_eq!((a.count(), a.epoch), (5, 4));
}

#[test]
fn another_subscription_takes_away_and_brings_partitions() {
    let mut world = world();
    world.topic("u", 3);
    let mut a = Client::join(&mut world, "a", joins("a", &["t"]));
    let other = Beat { epoch: 1, topics: Some(["u".to_owned()].into()), ..beats("a", 1, None) };
    let heard = told(&mut world, &other).unwrap();
    assert_eq!(heard.assignment, Some(Assignment::new()), "it has to give up the other topic");
    a.owned = Assignment::new();
    a.beat(&mut world).unwrap();
    assert_eq!((a.count(), a.epoch), (3, 2));
}

#[test]
fn expressions_are_resolved_by_the_group() {
    let mut world = world();
    world.topic("metrics.cpu", 2);
    let regex = |id: &str, text: &str| Beat {
        regex: Some(text.to_owned()),
        topics: None,
        ..joins(id, &[])
    };
    let mut a = Client::join(&mut world, "a", regex("a", "metrics\\..*"));
    assert_eq!(a.count(), 2);
    world.topic("metrics.ram", 3);
    a.beat(&mut world).unwrap();
    assert_eq!(a.count(), 5);
    let mut b = Client::join(&mut world, "b", regex("b", "metrics\\..*"));
    settle(&mut world, &mut [&mut a, &mut b]);
    assert_eq!((a.count() + b.count(), a.count().abs_diff(b.count())), (5, 1));
    let invalid = told(&mut world, &regex("c", "(")).map(|_| ());
    assert_eq!(invalid, Err(ResponseError::InvalidRegularExpression));
    assert!(!world.machine.consumer("g").unwrap().members.contains_key("c"));
    world.fail_over();
    settle(&mut world, &mut [&mut a, &mut b]);
    let gone = told(
        &mut world,
        &Beat { regex: Some(String::new()), topics: Some([].into()), ..beats("a", a.epoch, None) },
    );
    assert_eq!(gone.unwrap().assignment, Some(Assignment::new()), "it subscribes to nothing");
}

#[test]
fn a_static_member_that_goes_for_a_while_finds_its_place_again() {
    let mut world = world();
    let named =
        |id: &str, name: &str| Beat { instance: Some(name.to_owned()), ..joins(id, &["t"]) };
    let mut a = Client::join(&mut world, "a", named("a", "one"));
    let mut b = Client::join(&mut world, "b", named("b", "two"));
    settle(&mut world, &mut [&mut a, &mut b]);
    let unreleased = told(&mut world, &named("c", "one")).map(|_| ());
    assert_eq!(unreleased, Err(ResponseError::UnreleasedInstanceId));
    let away = Beat { instance: Some("one".to_owned()), ..beats("a", -2, None) };
    assert_eq!(told(&mut world, &away).unwrap().epoch, -2);
    b.beat(&mut world).unwrap();
    assert_eq!(b.count(), 2, "the other one may come back");
    world.fail_over();
    let back = Client::join(&mut world, "c", named("c", "one"));
    assert_eq!((back.owned, back.epoch), (a.owned.clone(), 2), "nothing has moved");
    assert_eq!(a.beat(&mut world), Err(ResponseError::FencedInstanceId));
    let wrong = Beat { instance: Some("three".to_owned()), ..beats("c", 2, None) };
    assert_eq!(told(&mut world, &wrong).map(|_| ()), Err(ResponseError::UnknownMemberId));
    let gone = Beat { instance: Some("one".to_owned()), ..beats("c", -2, None) };
    assert!(told(&mut world, &gone).is_ok());
    for _ in 0..3 {
        world.pass(SESSION_MS / 3);
        b.beat(&mut world).unwrap();
    }
    b.beat(&mut world).unwrap();
    assert_eq!(b.count(), 4, "it did not come back in time");
}

#[test]
fn commits_and_fetches_are_for_members_in_their_epoch() {
    let mut world = world();
    let mut a = Client::join(&mut world, "a", joins("a", &["t"]));
    assert_eq!(world.commit("g", "a", 1, 10), Ok(()));
    assert_eq!(world.commit("g", "a", 2, 11), Err(ResponseError::StaleMemberEpoch));
    assert_eq!(world.commit("g", "b", 1, 11), Err(ResponseError::UnknownMemberId));
    assert_eq!(world.commit("g", "", -1, 11), Err(ResponseError::UnknownMemberId));
    let mut b = Client::join(&mut world, "b", joins("b", &["t"]));
    settle(&mut world, &mut [&mut a, &mut b]);
    let (had, other) =
        if a.owned.values().next().unwrap().contains(&0) { ("a", "b") } else { ("b", "a") };
    if had == "a" {
        assert_eq!(world.commit("g", "a", 1, 12), Ok(()), "it has had the partition since then");
    }
    assert_eq!(world.commit("g", other, 1, 12), Err(ResponseError::StaleMemberEpoch));
    assert_eq!(world.commit("g", had, 2, 13), Ok(()));
    let group = world.machine.consumer("g").unwrap();
    assert_eq!(group.may_fetch(None, -1), Ok(()));
    assert_eq!(group.may_fetch(Some("a"), 2), Ok(()));
    assert_eq!(group.may_fetch(Some("a"), 1), Err(ResponseError::StaleMemberEpoch));
    assert_eq!(group.may_fetch(Some("z"), 2), Err(ResponseError::UnknownMemberId));
    for id in ["a", "b"] {
        assert!(told(&mut world, &beats(id, -1, None)).is_ok());
    }
    assert_eq!(world.commit("g", "", -1, 14), Ok(()), "the group is empty");
    assert_eq!(world.offset("g"), Some(14));
}

#[test]
fn members_go_on_after_their_coordinator_has_died() {
    let mut world = world();
    let mut a = Client::join(&mut world, "a", joins("a", &["t"]));
    let mut b = Client::join(&mut world, "b", joins("b", &["t"]));
    a.beat(&mut world).unwrap();
    world.fail_over();
    settle(&mut world, &mut [&mut a, &mut b]);
    assert_eq!((a.epoch, b.epoch, a.count(), b.count()), (2, 2, 2, 2));
    let before = (a.owned.clone(), b.owned.clone());
    world.fail_over();
    settle(&mut world, &mut [&mut a, &mut b]);
    assert_eq!((a.owned, b.owned), before);
}

#[test]
fn what_could_not_be_stored_is_stored_with_the_next_change() {
    let mut world = world();
    let token = world.beat("g", &joins("a", &["t"]));
    world.store_none(ResponseError::CoordinatorNotAvailable);
    let lost = world.heard(token).unwrap().map(|_| ());
    assert_eq!(lost, Err(ResponseError::CoordinatorNotAvailable));
    let mut a = Client::join(&mut world, "a", joins("a", &["t"]));
    assert_eq!((a.count(), a.epoch), (4, 1));
    world.fail_over();
    settle(&mut world, &mut [&mut a]);
    assert_eq!(a.epoch, 1);
}

#[test]
fn an_empty_group_becomes_one_of_the_other_protocol_and_back() {
    let mut world = world();
    let members = world.settled("g", 1);
    let refused = told(&mut world, &joins("a", &["t"])).map(|_| ());
    assert_eq!(world.commit("g", &members[0].member_id, 1, 7), Ok(()));
    assert_eq!(
        refused,
        Err(ResponseError::GroupIdNotFound),
        "what its members have does not decode"
    );
    assert_eq!(world.leave("g", &members[0].member_id), Ok(()));
    let a = Client::join(&mut world, "a", joins("a", &["t"]));
    assert_eq!((a.count(), world.state("g"), world.offset("g")), (4, None, Some(7)));
    let connect = Join { protocol_type: "connect".to_owned(), ..named("", "x") };
    let refused = world.join_first("g", connect).unwrap();
    assert_eq!(refused.code, Some(ResponseError::InconsistentGroupProtocol));
    assert!(told(&mut world, &beats("a", -1, None)).is_ok());
    let _ = world.join("g", asks(""));
    world.store_all();
    let stored = world.table.get("g").unwrap();
    assert!(matches!(stored, Stored { consumer: None, group: None, .. }));
    assert_eq!((state(&world), world.offset("g")), (None, Some(7)));
}

#[test]
fn a_group_without_members_is_deleted_or_forgotten_with_its_offsets() {
    let mut world = world();
    let _ = Client::join(&mut world, "a", joins("a", &["t"]));
    assert_eq!(world.commit("g", "a", 1, 7), Ok(()));
    assert_eq!(world.delete("g"), Err(ResponseError::NonEmptyGroup));
    assert!(told(&mut world, &beats("a", -1, None)).is_ok());
    world.pass(world.limits.retention_ms.unsigned_abs());
    let _ = Client::join(&mut world, "b", joins("b", &["t"]));
    world.expire_offsets();
    assert_eq!(world.offset("g"), Some(7), "it is in use");
    assert!(told(&mut world, &beats("b", -1, None)).is_ok());
    world.expire_offsets();
    assert!(world.table.get("g").is_none() && state(&world).is_none());
    let _ = Client::join(&mut world, "a", joins("a", &["t"]));
    assert!(told(&mut world, &beats("a", -1, None)).is_ok());
    assert_eq!(world.delete("g"), Ok(()));
    assert!(world.table.get("g").is_none() && state(&world).is_none());
    assert_eq!(world.delete("g"), Err(ResponseError::GroupIdNotFound));
}

#[test]
fn a_group_takes_no_more_members_than_it_may_have() {
    let mut world = world();
    world.limits.consumer.members_max = 1;
    let mut a = Client::join(&mut world, "a", joins("a", &["t"]));
    let refused = told(&mut world, &joins("b", &["t"])).map(|_| ());
    assert_eq!(refused, Err(ResponseError::GroupMaxSizeReached));
    assert_eq!(a.beat(&mut world), Ok(()));
}
