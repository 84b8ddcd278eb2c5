//! Whatever clients, the clock, topics and crashes do, a group of the consumer protocol keeps its promises.
//!
//! Clients join, beat, leave and fall silent at random, some with instance names, by names of topics and by expressions;
//! answers are lost; writes are stored late, fail, are stored although nobody knows, or die with the coordinator; topics come,
//! grow and go. Each client does at once what it is told. What must hold:
//! - what a client uses is its own in the coordinator's eyes, and nobody else's, so that no partition has two owners;
//! - epochs that are told only grow, of the group and of a member;
//! - a commit is taken only from a member, in its epoch or one since which it has had the partition;
//! - in the end, when everybody is heard, everything that is subscribed to is assigned once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::super::Token;
use super::super::consumer::group::State;
use super::super::consumer::{Assignment, Beat};
use super::consumer::joins;
use super::world::World;

const CLIENTS: usize = 5;
const NAMES: [&str; 3] = ["t", "u1", "u2"];

#[derive(Debug, Clone)]
enum Step {
    /// A client is heard, or joins if it is no member; its answer may be lost.
    Beat {
        client: usize,
        lost: bool,
        tells: bool,
    },
    /// It subscribes to something else.
    Subscribe {
        client: usize,
        what: usize,
    },
    /// It forgets all and joins again.
    Restart {
        client: usize,
        anew: bool,
    },
    Leave {
        client: usize,
        away: bool,
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
    Topic {
        name: usize,
        partitions: i32,
    },
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        12 => (client.clone(), prop::bool::weighted(0.15), prop::bool::weighted(0.7))
            .prop_map(|(client, lost, tells)| Step::Beat { client, lost, tells }),
        1 => (client.clone(), 0..4_usize).prop_map(|(client, what)| Step::Subscribe { client, what }),
        1 => (client.clone(), any::<bool>()).prop_map(|(client, anew)| Step::Restart { client, anew }),
        1 => (client.clone(), any::<bool>()).prop_map(|(client, away)| Step::Leave { client, away }),
        2 => (client, -2..2_i32).prop_map(|(client, wrong)| Step::Commit { client, wrong }),
        9 => (1..4_usize, 0..12_u8).prop_map(|(count, how)| Step::Store { count, how }),
        2 => prop_oneof![3 => 1..4_000_u64, 1 => 4_000..50_000_u64].prop_map(|ms| Step::Pass { ms }),
        1 => (0..3_usize, 0..7_i32).prop_map(|(name, partitions)| Step::Topic { name, partitions }),
        1 => Just(Step::FailOver),
    ]
}

/// What a client knows of itself.
#[derive(Debug, Clone, Default)]
struct Client {
    member: String,
    epoch: i32,
    what: usize,
    /// What it uses.
    owned: Assignment,
    /// It has a new subscription to tell.
    resubscribed: bool,
    /// A heartbeat that is not answered, whether the answer is lost, and what it subscribes to.
    waits: Option<(Token, bool, usize)>,
}

struct Model {
    world: World,
    clients: Vec<Client>,
    /// The largest epoch that anybody was told.
    told: i32,
    names: u32,
    offset: i64,
}

/// Two of the clients are static members.
fn instance(client: usize) -> Option<String> {
    ["one", "two"].get(client).map(|name| (*name).to_owned())
}

fn subscribe(beat: &mut Beat, what: usize) {
    let names: &[&str] = [&["t"][..], &["t", "u1"], &[], &["u2"]][what];
    beat.topics = Some(names.iter().map(|name| (*name).to_owned()).collect());
    beat.regex = Some(if what == 2 { "u.".to_owned() } else { String::new() });
}

impl Model {
    fn new() -> Self {
        let mut world = World::new();
        world.topic("t", 3);
        world.topic("u1", 2);
        let clients = (0..CLIENTS).map(|at| Client { what: at % 3, ..Client::default() });
        let mut model = Self { world, clients: clients.collect(), told: 0, names: 0, offset: 0 };
        (0..CLIENTS).for_each(|at| model.restart(at, true));
        model
    }

    fn restart(&mut self, at: usize, anew: bool) {
        self.names += u32::from(anew);
        let client = &mut self.clients[at];
        if anew {
            client.member = format!("m{at}-{}", self.names);
        }
        *client = Client { member: client.member.clone(), what: client.what, ..Client::default() };
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Beat { client, lost, tells } => self.beat(client, lost, tells),
            Step::Subscribe { client, what } => {
                self.clients[client].what = what;
                self.clients[client].resubscribed = true;
            }
            Step::Restart { client, anew } => self.restart(client, anew),
            Step::Leave { client, away } => self.leave(client, away),
            Step::Commit { client, wrong } => self.commit(client, wrong),
            Step::Store { count, how } => {
                for _ in 0..count {
                    match how {
                        0 => self.world.store_in_doubt(),
                        1 => {
                            let code = kafka_protocol::ResponseError::CoordinatorNotAvailable;
                            let _ = self.world.store_one(Err(code));
                        }
                        _ => {
                            let _ = self.world.store_one(Ok(()));
                        }
                    }
                }
            }
            Step::Pass { ms } => self.world.pass(ms),
            Step::Topic { name, partitions } => self.world.topic(NAMES[name], partitions),
            Step::FailOver => {
                self.world.fail_over();
                for client in &mut self.clients {
                    client.waits = None;
                }
            }
        }
        for at in 0..CLIENTS {
            self.hear(at);
        }
        self.check();
    }

    fn beat(&mut self, at: usize, lost: bool, tells: bool) {
        let client = &self.clients[at];
        if client.waits.is_some() {
            return;
        }
        let mut beat = joins(&client.member, &[]);
        (beat.epoch, beat.instance) = (client.epoch, instance(at));
        // Whoever heard nothing says all, and is told all.
        let tells = tells || client.epoch == 0 || client.resubscribed;
        beat.owned = tells.then(|| client.owned.clone());
        if client.epoch == 0 || client.resubscribed {
            subscribe(&mut beat, client.what);
        } else {
            beat.topics = None;
        }
        let token = self.world.beat("g", &beat);
        self.clients[at].waits = Some((token, lost, self.clients[at].what));
    }

    fn hear(&mut self, at: usize) {
        let Some((token, lost, what)) = self.clients[at].waits else { return };
        let Some(heard) = self.world.heard(token) else { return };
        let client = &mut self.clients[at];
        client.waits = None;
        if lost {
            // Whoever hears nothing says all of it again.
            client.resubscribed = true;
            return;
        }
        match heard {
            Ok(heard) => {
                assert!(heard.epoch >= client.epoch, "its epoch went back");
                client.resubscribed &= client.what != what;
                client.epoch = heard.epoch;
                self.told = self.told.max(heard.epoch);
                if let Some(assignment) = heard.assignment {
                    client.owned = assignment;
                }
            }
            Err(code) => {
                use kafka_protocol::ResponseError as E;
                if matches!(code, E::FencedMemberEpoch | E::UnknownMemberId | E::GroupIdNotFound) {
                    self.restart(at, false);
                } else if code == E::FencedInstanceId {
                    self.restart(at, true);
                } else {
                    client.resubscribed = true;
                }
            }
        }
    }

    fn leave(&mut self, at: usize, away: bool) {
        let client = &self.clients[at];
        if client.waits.is_some() || client.epoch <= 0 {
            return;
        }
        let epoch = if away && instance(at).is_some() { -2 } else { -1 };
        let beat =
            Beat { epoch, instance: instance(at), topics: None, ..joins(&client.member, &[]) };
        let _ = self.world.beat("g", &beat);
        self.restart(at, true);
    }

    fn commit(&mut self, at: usize, wrong: i32) {
        self.offset += 1;
        let client = self.clients[at].clone();
        let epoch = client.epoch + wrong;
        let taken = self.world.ask_commit("g", &client.member, epoch, self.offset).is_ok();
        let Some(group) = self.world.machine.consumer("g") else { return };
        let has_members = !group.members.is_empty();
        let Some(member) = group.members.get(&client.member) else {
            assert!(!taken || (!has_members && epoch < 0), "a stranger's commit was taken");
            return;
        };
        let topic = self.world.partitions(&["t"]).first().map(|(id, _)| *id).unwrap_or_default();
        let since = member.current.assigned.get(&topic).and_then(|parts| parts.get(&0));
        let since = since.or_else(|| member.current.revoking.get(&topic)?.get(&0));
        let had = epoch < member.current.epoch && since.is_some_and(|since| *since <= epoch);
        assert_eq!(taken, epoch == member.current.epoch || had);
    }

    fn check(&self) {
        let Some(group) = self.world.machine.consumer("g") else { return };
        assert!(group.target_epoch <= group.epoch && group.epoch >= self.told);
        let mut owners: BTreeMap<(Uuid, i32), &str> = BTreeMap::new();
        for member in group.members.values() {
            for (topic, parts) in member.current.assigned.iter().chain(&member.current.revoking) {
                for partition in parts.keys() {
                    let other = owners.insert((*topic, *partition), &member.id);
                    assert_eq!(other, None, "two members have {topic} {partition}");
                }
            }
        }
        for client in &self.clients {
            let is_member = group.members.get(&client.member).is_some_and(|m| m.current.epoch > 0);
            for (topic, parts) in client.owned.iter().filter(|_| is_member) {
                for partition in parts {
                    let owner = owners.get(&(*topic, *partition)).copied();
                    assert_eq!(owner, Some(client.member.as_str()), "somebody else may use it");
                }
            }
        }
    }

    /// Everybody is heard for a while.
    fn end(mut self) {
        self.world.store_all();
        for round in 0..30 {
            for at in 0..CLIENTS {
                self.hear(at);
                if self.clients[at].waits.is_none() {
                    self.beat(at, false, true);
                }
                self.world.store_all();
                self.hear(at);
                self.check();
            }
            // Those that left for a while and never came back are waited for.
            self.world.pass(if round < 12 { 5_000 } else { 1 });
            self.world.store_all();
        }
        let group = self.world.machine.consumer("g").unwrap();
        assert_eq!(group.state(), State::Stable);
        assert_eq!(group.members.len(), CLIENTS);
        let mut all = BTreeSet::new();
        for client in &self.clients {
            for (topic, parts) in &client.owned {
                for partition in parts {
                    assert!(all.insert((*topic, *partition)), "two clients have it");
                }
            }
        }
        let subscribed: BTreeSet<&str> = self
            .clients
            .iter()
            .flat_map(|c| [&["t"][..], &["t", "u1"], &["u1", "u2"], &["u2"]][c.what])
            .copied()
            .collect();
        let names: Vec<&str> = subscribed.into_iter().collect();
        assert_eq!(all, self.world.partitions(&names));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn groups_keep_their_promises(steps in proptest::collection::vec(step(), 1..150)) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
        }
        model.end();
    }
}
