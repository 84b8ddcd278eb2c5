//! Whatever clients of both protocols, the clock and crashes do, a group that moves between the protocols keeps its promises.
//!
//! Clients come with either protocol, come back with the other, leave and fall silent; writes are stored late, fail, are stored
//! although nobody knows, or die with the coordinator. What must hold:
//! - nobody whose commits are taken uses a partition that somebody else uses whose commits are taken;
//! - a commit is taken from a member in its generation or epoch, or since that it has had the partition, and else from nobody;
//! - in a consumer group no partition has two owners;
//! - epochs and generations only grow while there are members, from one protocol to the other;
//! - in the end every partition is somebody's, and the group follows the consumer protocol if a client of it is there.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use proptest::prelude::*;

use super::super::group::State;
use super::mixed::{Client, Kind, PARTITIONS, settle};
use super::world::World;

const CLIENTS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Act {
        client: usize,
    },
    /// It is gone without a word, and another one is there in its place.
    Restart {
        client: usize,
        kind: Kind,
    },
    /// It leaves first.
    Leave {
        client: usize,
        kind: Kind,
    },
    Commit {
        client: usize,
        wrong: i32,
    },
    Store {
        count: usize,
        how: u8,
    },
    Pass {
        ms: u64,
    },
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let kind = prop_oneof![Just(Kind::Eager), Just(Kind::Cooperative), Just(Kind::Consumer)];
    prop_oneof![
        16 => client.clone().prop_map(|client| Step::Act { client }),
        1 => (client.clone(), kind.clone()).prop_map(|(client, kind)| Step::Restart { client, kind }),
        2 => (client.clone(), kind).prop_map(|(client, kind)| Step::Leave { client, kind }),
        3 => (client, prop_oneof![3 => Just(0), 1 => -2..2_i32])
            .prop_map(|(client, wrong)| Step::Commit { client, wrong }),
        10 => (1..4_usize, 0..20_u8).prop_map(|(count, how)| Step::Store { count, how }),
        3 => prop_oneof![4 => 1..4_000_u64, 1 => 4_000..50_000_u64].prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::FailOver),
    ]
}

struct Model {
    world: World,
    clients: Vec<Client>,
    names: u32,
    offset: i64,
    /// The newest generation or epoch of this life of the coordinator.
    newest: i32,
}

impl Model {
    fn new() -> Self {
        let mut world = World::new();
        world.topic("t", PARTITIONS);
        let mut model = Self { world, clients: Vec::new(), names: 0, offset: 0, newest: 0 };
        for at in 0..CLIENTS {
            let kind = [Kind::Eager, Kind::Cooperative, Kind::Eager, Kind::Consumer][at];
            let client = model.client(at, kind);
            model.clients.push(client);
        }
        model
    }

    /// A new client; one of them is static.
    fn client(&mut self, at: usize, kind: Kind) -> Client {
        self.names += 1;
        Client::new(kind, &format!("m{at}-{}", self.names), (at == 0).then_some("one"))
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Act { client } => self.clients[client].act(&mut self.world),
            Step::Restart { client, kind } => self.clients[client] = self.client(client, kind),
            Step::Leave { client, kind } => {
                self.clients[client].leave(&mut self.world);
                self.clients[client] = self.client(client, kind);
            }
            Step::Commit { client, wrong } => self.commit(client, wrong),
            Step::Store { count, how } => (0..count).for_each(|_| self.store(how)),
            Step::Pass { ms } => self.world.pass(ms),
            Step::FailOver => {
                self.world.fail_over();
                self.newest = 0;
                self.clients.iter_mut().for_each(Client::hang_up);
            }
        }
        for client in &mut self.clients {
            client.hear(&self.world);
        }
        self.check();
    }

    fn store(&mut self, how: u8) {
        match how {
            0 => self.world.store_in_doubt(),
            1 => {
                let _ = self.world.store_one(Err(ResponseError::CoordinatorNotAvailable));
            }
            _ => {
                let _ = self.world.store_one(Ok(()));
            }
        }
    }

    /// Whether the coordinator takes commits of a client in its generation or epoch.
    fn is_member(&self, client: &Client) -> bool {
        let machine = &self.world.machine;
        if let Some(group) = machine.consumer("g") {
            let member = group.members.get(&client.id);
            return member.is_some_and(|member| {
                member.current.epoch == client.epoch
                    && member.is_classic() == (client.kind != Kind::Consumer)
            });
        }
        machine.get("g").is_some_and(|group| {
            client.kind != Kind::Consumer
                && group.members.contains_key(&client.id)
                && group.generation == client.epoch
        })
    }

    fn commit(&mut self, at: usize, wrong: i32) {
        self.offset += 1;
        let client = self.clients[at].clone();
        let completes = self.world.state("g") == Some(State::CompletingRebalance);
        let is_member = self.is_member(&client) && !completes;
        let epoch = client.epoch + wrong;
        let taken = self.world.ask_commit("g", &client.id, epoch, self.offset).is_ok();
        if wrong == 0 {
            let anybody = client.id.is_empty();
            assert!(!is_member || taken, "a member's commit was refused: {client:?}");
            assert!(!taken || is_member || anybody || client.kind == Kind::Consumer);
        } else if client.kind != Kind::Consumer && self.is_member(&client) {
            assert!(!taken, "a fenced commit was taken");
        }
    }

    fn check(&mut self) {
        let machine = &self.world.machine;
        let newest = match (machine.consumer("g"), machine.get("g")) {
            (Some(group), _) if !group.members.is_empty() => {
                let mut owned = BTreeSet::new();
                for member in group.members.values() {
                    let current = &member.current;
                    for (topic, parts) in current.assigned.iter().chain(&current.revoking) {
                        for partition in parts.keys() {
                            assert!(owned.insert((*topic, *partition)), "it has two owners");
                        }
                    }
                }
                Some(group.epoch)
            }
            (None, Some(group)) if !group.members.is_empty() => Some(group.generation),
            _ => None,
        };
        if let Some(newest) = newest {
            assert!(newest >= self.newest, "{newest} after {}", self.newest);
        }
        self.newest = newest.unwrap_or(0);
        let mut used = BTreeSet::new();
        for client in self.clients.iter().filter(|client| self.is_member(client)) {
            for partition in &client.owned {
                assert!(used.insert(*partition), "two use {partition}: {:?}", self.clients);
            }
        }
    }

    /// Everybody acts for a while.
    fn end(mut self) {
        self.world.store_all();
        // Those that are gone without a word are missed.
        settle(&mut self.world, &mut self.clients, 90, 1_500);
        // Meanwhile it may have been empty and begun anew.
        self.newest = 0;
        self.check();
        let all: Vec<i32> = self.clients.iter().flat_map(|c| c.owned.iter().copied()).collect();
        assert_eq!(all.len(), usize::try_from(PARTITIONS).unwrap(), "{:?}", self.clients);
        assert!(self.clients.iter().all(|client| self.is_member(client) && !client.waits()));
        let has_consumer = self.clients.iter().any(|client| client.kind == Kind::Consumer);
        assert_eq!(self.world.machine.consumer("g").is_some(), has_consumer);
        let stored = self.world.table.get("g").unwrap();
        assert_eq!(
            (stored.consumer.is_some(), stored.group.is_some()),
            (has_consumer, !has_consumer),
            "{stored:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_group_of_both_protocols_keeps_its_promises(
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
        }
        model.end();
    }
}
