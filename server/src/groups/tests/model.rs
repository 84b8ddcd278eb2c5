//! Whatever clients, the clock and crashes do, a group keeps its promises.
//!
//! Clients join, sync, commit, leave and fall silent at random, with right and wrong ids and generations; writes are stored
//! late, fail, or die with the coordinator. A small model knows what must hold:
//! - within one life of a coordinator a generation is begun once, and generations only grow;
//! - a member gets in a generation what that generation's leader assigned it, so that no partition has two owners;
//! - a commit is taken only from a member of the newest generation, or while the group has no members;
//! - what was acknowledged is the committed offset, until a later commit is;
//! - every request is answered once, those that wait for a crashed coordinator excepted.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use proptest::prelude::*;

use super::super::Token;
use super::super::effects::Joined;
use super::super::group::State;
use super::world::{World, asks, named};

#[derive(Debug, Clone)]
enum Step {
    /// A client (of six, half of them static) joins, as whom it takes itself to be or as somebody new.
    Join {
        client: usize,
        anew: bool,
    },
    /// It asks for its assignment, and gives out assignments if it leads.
    Sync {
        client: usize,
    },
    Heartbeat {
        client: usize,
    },
    Leave {
        client: usize,
    },
    /// It commits, in its generation or another.
    Commit {
        client: usize,
        wrong: i32,
    },
    /// Somebody without a group commits.
    CommitAlone,
    /// So many writes are stored, or fail.
    Store {
        count: usize,
        ok: bool,
    },
    Pass {
        ms: u64,
    },
    FailOver,
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..6_usize;
    prop_oneof![
        6 => (client.clone(), prop::bool::weighted(0.2)).prop_map(|(client, anew)| Step::Join { client, anew }),
        6 => client.clone().prop_map(|client| Step::Sync { client }),
        4 => client.clone().prop_map(|client| Step::Heartbeat { client }),
        1 => client.clone().prop_map(|client| Step::Leave { client }),
        5 => (client, prop_oneof![4 => Just(0), 1 => -2..3]).prop_map(|(client, wrong)| Step::Commit { client, wrong }),
        1 => Just(Step::CommitAlone),
        7 => (1..4_usize, prop::bool::weighted(0.9)).prop_map(|(count, ok)| Step::Store { count, ok }),
        4 => prop_oneof![3 => 1..4_000_u64, 1 => 4_000..70_000_u64].prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::FailOver),
        1 => Just(Step::Expire),
    ]
}

/// What a client knows of itself.
#[derive(Debug, Clone, Default)]
struct Client {
    member: String,
    generation: i32,
    joined: Option<Joined>,
    waits: Option<Token>,
    syncs: Option<(Token, i32)>,
}

struct Model {
    world: World,
    clients: Vec<Client>,
    /// In this life of the coordinator: what the leader of a generation has assigned.
    assigned: BTreeMap<i32, BTreeMap<String, String>>,
    newest: i32,
    /// Commits that are not answered, and what they would commit.
    asked: BTreeMap<Token, i64>,
    acknowledged: Option<i64>,
    next_offset: i64,
    syncs: u32,
    /// Requests up to this one may have died with a coordinator.
    died: Token,
    exempt: BTreeSet<Token>,
}

impl Model {
    fn new() -> Self {
        let mut world = World::new();
        world.limits.retention_ms = 30_000;
        Self {
            world,
            clients: vec![Client::default(); 6],
            assigned: BTreeMap::new(),
            newest: 0,
            asked: BTreeMap::new(),
            acknowledged: None,
            next_offset: 1,
            syncs: 0,
            died: 0,
            exempt: BTreeSet::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Join { client, anew } => self.join(client, anew),
            Step::Sync { client } => self.sync(client),
            Step::Heartbeat { client } => {
                let (member, generation) = self.who(client);
                let _ = self.world.heartbeat_as("g", &member, instance(client), generation);
            }
            Step::Leave { client } => {
                let (member, _) = self.who(client);
                if !member.is_empty() {
                    let _ = self.world.leave("g", &member);
                }
            }
            Step::Commit { client, wrong } => {
                let (member, generation) = self.who(client);
                self.commit(&member, generation + wrong);
            }
            Step::CommitAlone => self.commit("", -1),
            Step::Store { count, ok } => self.store(count, ok),
            Step::Pass { ms } => self.world.pass(ms),
            Step::FailOver => self.fail_over(),
            Step::Expire => self.expire(),
        }
        self.look();
    }

    fn who(&self, client: usize) -> (String, i32) {
        (self.clients[client].member.clone(), self.clients[client].generation)
    }

    fn join(&mut self, client: usize, anew: bool) {
        let member = if anew { String::new() } else { self.clients[client].member.clone() };
        let ask = match instance(client) {
            Some(name) => named(&member, name),
            None => asks(&member),
        };
        let token = self.world.join("g", ask);
        self.clients[client].waits = Some(token);
    }

    fn sync(&mut self, client: usize) {
        let Some(joined) = self.clients[client].joined.clone() else { return };
        // A leader that asks again may say something else.
        self.syncs += 1;
        let mut given = BTreeMap::new();
        if joined.leader == joined.member_id {
            for (at, member) in joined.members.iter().enumerate() {
                given.insert(
                    member.id.clone(),
                    format!("{}/{}/{at}", self.syncs, joined.generation),
                );
            }
        }
        let pairs: Vec<(&str, &str)> =
            given.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let token = self.world.sync("g", &joined, &pairs);
        self.clients[client].syncs = Some((token, joined.generation));
        let completes = self.world.state("g") == Some(State::CompletingRebalance);
        let current = self.world.machine.get("g").map(|g| (g.generation, g.leader.clone()));
        if !given.is_empty()
            && completes
            && current == Some((joined.generation, Some(joined.leader)))
        {
            self.assigned.entry(joined.generation).or_insert(given);
        }
    }

    fn commit(&mut self, member: &str, generation: i32) {
        let offset = self.next_offset;
        self.next_offset += 1;
        let group = self.world.machine.get("g");
        let (state, current) = group.map_or((State::Empty, 0), |g| (g.state, g.generation));
        let is_member = group.is_some_and(|group| group.members.contains_key(member));
        match self.world.ask_commit("g", member, generation, offset) {
            Ok(token) => {
                let alone = generation < 0 && state == State::Empty;
                assert!(alone || (is_member && generation == current), "a fenced commit was taken");
                assert_ne!(state, State::CompletingRebalance);
                assert!(alone || generation == self.newest);
                self.asked.insert(token, offset);
            }
            Err(ResponseError::IllegalGeneration) => {
                assert_ne!((is_member, generation), (true, current))
            }
            Err(ResponseError::UnknownMemberId) => assert!(!is_member || state == State::Empty),
            Err(ResponseError::RebalanceInProgress) => {
                assert_eq!(state, State::CompletingRebalance)
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn store(&mut self, count: usize, ok: bool) {
        for _ in 0..count {
            let code = ResponseError::CoordinatorNotAvailable;
            if !self.world.store_one(if ok { Ok(()) } else { Err(code) }) {
                return;
            }
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        let answered: Vec<(Token, i64)> = self
            .asked
            .iter()
            .filter(|(token, _)| self.world.was_answered(**token))
            .map(|(token, offset)| (*token, *offset))
            .collect();
        for (token, offset) in answered {
            self.asked.remove(&token);
            if self.world.stored(token) == Some(Ok(())) {
                assert!(Some(offset) > self.acknowledged, "commits are stored in their order");
                self.acknowledged = Some(offset);
            }
        }
    }

    fn fail_over(&mut self) {
        let unanswered =
            (self.died + 1..=self.world.tokens()).filter(|t| !self.world.was_answered(*t));
        self.exempt.extend(unanswered);
        self.died = self.world.tokens();
        self.asked.clear();
        self.world.fail_over();
        self.newest = self.world.machine.get("g").map_or(0, |group| group.generation);
        // What was stored holds on; what was not is said anew.
        self.assigned.retain(|generation, _| *generation <= self.newest);
        for client in &mut self.clients {
            (client.waits, client.syncs) = (None, None);
        }
    }

    fn expire(&mut self) {
        let before = self.world.offset("g");
        let quiet = self.asked.is_empty();
        self.world.expire_offsets();
        self.acknowledge();
        if quiet && before.is_some() && self.world.offset("g").is_none() {
            assert!(self.world.state("g").is_none_or(|state| state == State::Empty));
            self.acknowledged = None;
        }
    }

    /// Looks at what has become of the requests, and at the group.
    fn look(&mut self) {
        for at in 0..self.clients.len() {
            self.look_at(at);
        }
        assert_eq!(self.world.offset("g"), self.acknowledged);
        if let Some(group) = self.world.machine.get("g") {
            assert!(group.generation >= self.newest, "{} < {}", group.generation, self.newest);
            self.newest = group.generation;
            for (name, id) in &group.statics {
                assert_eq!(group.members[id].instance.as_ref(), Some(name));
            }
            let named = group.members.values().filter(|m| m.instance.is_some()).count();
            assert_eq!(named, group.statics.len(), "one member an instance");
            assert_eq!(
                group.state == State::Empty,
                group.members.is_empty() && group.gathering.is_none()
            );
            if let Some(given) =
                self.assigned.get(&group.generation).filter(|_| group.state == State::Stable)
            {
                let had = |id: &String| given.get(id).map(String::as_bytes);
                let differs =
                    |m: &&super::super::Member| had(&m.id).is_some_and(|had| had != m.assignment);
                assert_eq!(group.members.values().find(differs).map(|m| &m.id), None);
            }
            let waits = group.members.values().filter(|m| m.syncing.is_some()).count();
            assert!(waits == 0 || group.state == State::CompletingRebalance);
        } else {
            // The group was forgotten, with its generation.
            self.newest = 0;
            self.assigned.clear();
        }
    }

    fn look_at(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if let Some(token) = client.waits.filter(|token| self.world.was_answered(*token)) {
            client.waits = None;
            let joined = self.world.joined(token).unwrap();
            match joined.code {
                None => {
                    client.member.clone_from(&joined.member_id);
                    client.generation = joined.generation;
                    client.joined = Some(joined);
                }
                Some(ResponseError::MemberIdRequired) => client.member = joined.member_id,
                Some(ResponseError::UnknownMemberId) => *client = Client::default(),
                Some(_) => {}
            }
        }
        if let Some((token, generation)) =
            client.syncs.filter(|(token, _)| self.world.was_answered(*token))
        {
            client.syncs = None;
            if let Ok(assignment) = self.world.synced(token).unwrap()
                && let Some(given) = self.assigned.get(&generation)
                && let Some(expected) = given.get(&client.member)
            {
                assert_eq!(&assignment, expected, "another assignment than the leader's");
            }
        }
    }

    /// Everybody falls silent: nobody may wait for ever.
    fn end(mut self) {
        for _ in 0..20 {
            self.world.store_all();
            self.world.pass(400_000);
        }
        self.world.store_all();
        for token in 1..=self.world.tokens() {
            let refused_at_once = !self.world.was_answered(token) && self.exempt.contains(&token);
            assert!(
                self.world.was_answered(token) || refused_at_once,
                "{token} was never answered"
            );
        }
    }
}

/// Half of the clients are static members.
fn instance(client: usize) -> Option<&'static str> {
    [None, None, None, Some("a"), Some("b"), Some("c")][client]
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
