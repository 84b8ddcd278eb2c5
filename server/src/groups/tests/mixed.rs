//! A client of a group that may change its protocol: it follows either protocol as real ones do, and does at once what it is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;

use super::super::consumer::Beat;
use super::super::effects::Joined;
use super::super::embedded::{self, Assigned};
use super::super::wire::put_string;
use super::super::{Caller, Join, Protocol, Token};
use super::consumer::joins;
use super::world::{World, asks};

/// The partitions of topic `t`.
pub(super) const PARTITIONS: i32 = 4;

/// Which protocol a client follows, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Classic: it gives up everything before it joins.
    Eager,
    /// Classic: it gives up only what it does not get again.
    Cooperative,
    Consumer,
}

#[derive(Debug, Clone)]
enum Next {
    Join,
    Sync(Box<Joined>),
    Heartbeat,
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) instance: Option<String>,
    /// Its generation, or its epoch.
    pub(super) epoch: i32,
    /// What it uses.
    pub(super) owned: BTreeSet<i32>,
    next: Next,
    waits: Option<Token>,
}

/// What a classic consumer says of itself, in version 1.
fn subscription(owned: &BTreeSet<i32>) -> Bytes {
    let mut to = BytesMut::new();
    to.put_i16(1);
    to.put_i32(1);
    put_string(&mut to, "t");
    to.put_i32(-1);
    to.put_i32(1);
    put_string(&mut to, "t");
    to.put_i32(i32::try_from(owned.len()).unwrap());
    owned.iter().for_each(|partition| to.put_i32(*partition));
    to.freeze()
}

fn assignment(parts: &BTreeSet<i32>) -> Bytes {
    embedded::assignment(&subscription(&BTreeSet::new()), [("t", parts)].into_iter())
}

/// Who leads a classic group leaves everybody what it says it has, and gives the rest to those that have least.
fn share_out(joined: &Joined) -> HashMap<String, Bytes> {
    let mut shares: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    let mut free: BTreeSet<i32> = (0..PARTITIONS).collect();
    for member in &joined.members {
        let said = embedded::Subscription::decode(&member.metadata).unwrap();
        let owned = said.owned.get("t").cloned().unwrap_or_default();
        let kept = owned.into_iter().filter(|p| free.remove(p)).collect();
        shares.insert(&member.id, kept);
    }
    for partition in free {
        let least = shares.values_mut().min_by_key(|parts| parts.len());
        least.unwrap().insert(partition);
    }
    shares.iter().map(|(id, parts)| ((*id).to_owned(), assignment(parts))).collect()
}

impl Client {
    /// A client that has not joined. `id` is what it calls itself if it follows the consumer protocol.
    pub(super) fn new(kind: Kind, id: &str, instance: Option<&str>) -> Self {
        Self {
            kind,
            id: if kind == Kind::Consumer { id.to_owned() } else { String::new() },
            instance: instance.map(str::to_owned),
            epoch: 0,
            owned: BTreeSet::new(),
            next: Next::Join,
            waits: None,
        }
    }

    /// Whether it waits for an answer.
    pub(super) fn waits(&self) -> bool {
        self.waits.is_some()
    }

    /// Nobody answers any more.
    pub(super) fn hang_up(&mut self) {
        self.waits = None;
    }

    /// Asks what it has to ask next, if it does not wait.
    pub(super) fn act(&mut self, world: &mut World) {
        if self.waits.is_some() {
            return;
        }
        if self.kind == Kind::Consumer {
            self.waits = Some(world.beat("g", &self.beat(world)));
            return;
        }
        match self.next.clone() {
            Next::Join => self.waits = Some(world.join("g", self.join())),
            Next::Sync(joined) => {
                let leads = joined.leader == joined.member_id;
                let given = if leads { share_out(&joined) } else { HashMap::new() };
                self.waits = Some(world.sync_as("g", self.caller(), given));
            }
            Next::Heartbeat => {
                let instance = self.instance.as_deref();
                let heard = world.heartbeat_as("g", &self.id, instance, self.epoch);
                if let Err(code) = heard {
                    self.refused(code);
                }
            }
        }
    }

    fn beat(&self, world: &World) -> Beat {
        let topic = world.partitions(&["t"]).first().map(|(id, _)| *id).unwrap();
        let mut owned = super::super::consumer::Assignment::new();
        if !self.owned.is_empty() {
            owned.insert(topic, self.owned.clone());
        }
        let (epoch, instance) = (self.epoch, self.instance.clone());
        Beat { epoch, instance, owned: Some(owned), ..joins(&self.id, &["t"]) }
    }

    fn join(&mut self) -> Join {
        if self.kind == Kind::Eager {
            self.owned.clear();
        }
        let metadata = subscription(&self.owned);
        let protocols = vec![Protocol { name: "range".to_owned(), metadata }];
        Join { instance: self.instance.clone(), protocols, ..asks(&self.id) }
    }

    pub(super) fn caller(&self) -> Caller {
        let (member_id, instance) = (self.id.clone(), self.instance.clone());
        Caller { member_id, instance, generation: self.epoch }
    }

    /// Takes the answer that it waits for, if there is one.
    pub(super) fn hear(&mut self, world: &World) {
        let Some(token) = self.waits.filter(|token| world.was_answered(*token)) else { return };
        self.waits = None;
        if self.kind == Kind::Consumer {
            match world.heard(token).unwrap() {
                Ok(heard) => {
                    assert!(heard.epoch >= self.epoch, "its epoch went back");
                    self.epoch = heard.epoch;
                    if let Some(given) = heard.assignment {
                        self.owned = given.into_values().flatten().collect();
                    }
                }
                Err(code) => self.refused(code),
            }
            return;
        }
        match self.next.clone() {
            Next::Join => {
                let joined = world.joined(token).unwrap();
                match joined.code {
                    None => {
                        self.id.clone_from(&joined.member_id);
                        self.epoch = joined.generation;
                        self.next = Next::Sync(Box::new(joined));
                    }
                    Some(ResponseError::MemberIdRequired) => self.id = joined.member_id,
                    Some(code) => self.refused(code),
                }
            }
            Next::Sync(_) => match world.assigned(token).unwrap() {
                Ok(bytes) => self.get(&bytes),
                Err(code) => self.refused(code),
            },
            Next::Heartbeat => unreachable!("a heartbeat is answered at once"),
        }
    }

    fn get(&mut self, bytes: &[u8]) {
        let given = Assigned::decode(bytes).unwrap().partitions;
        let given = given.get("t").cloned().unwrap_or_default();
        // Whoever is cooperative and has to give something up joins again once it has.
        let gives_up = !self.owned.is_subset(&given);
        self.next = if gives_up { Next::Join } else { Next::Heartbeat };
        self.owned = given;
    }

    fn refused(&mut self, code: ResponseError) {
        use ResponseError as E;
        match code {
            E::UnknownMemberId
            | E::FencedInstanceId
            | E::FencedMemberEpoch
            | E::GroupIdNotFound => {
                let kept =
                    if self.kind == Kind::Consumer { self.id.clone() } else { String::new() };
                self.restart(kept);
            }
            E::IllegalGeneration => self.restart(self.id.clone()),
            E::RebalanceInProgress => self.next = Next::Join,
            E::CoordinatorNotAvailable | E::CoordinatorLoadInProgress => {
                if self.kind != Kind::Consumer {
                    self.next = Next::Join;
                }
            }
            E::UnreleasedInstanceId => {}
            other => panic!("{other:?} to {self:?}"),
        }
    }

    /// It has lost what it had and joins again.
    fn restart(&mut self, id: String) {
        self.id = id;
        self.epoch = 0;
        self.owned.clear();
        self.next = Next::Join;
    }

    /// Leaves for good.
    pub(super) fn leave(&mut self, world: &mut World) {
        if self.id.is_empty() || self.waits.is_some() {
            return;
        }
        if self.kind == Kind::Consumer {
            let _ = world.beat("g", &Beat { epoch: -1, ..self.beat(world) });
        } else {
            let _ = world.leave_as("g", &self.id, self.instance.as_deref());
        }
        let id = if self.kind == Kind::Consumer { format!("{}'", self.id) } else { String::new() };
        self.restart(id);
    }
}

/// Everybody acts in turns, and everything is stored.
pub(super) fn settle(world: &mut World, clients: &mut [Client], rounds: usize, ms: u64) {
    for _ in 0..rounds {
        for client in clients.iter_mut() {
            client.hear(world);
            client.act(world);
            world.store_all();
            client.hear(world);
        }
        world.pass(ms);
        world.store_all();
    }
    clients.iter_mut().for_each(|client| client.hear(world));
}
