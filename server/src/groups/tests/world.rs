//! A coordinator, its log and its clients in one place, with a clock that tests move.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::super::consumer::{Beat, Catalog, ConsumerLimits, Heard, TopicFacts};
use super::super::effects::{Effects, Joined, Reply, Write};
use super::super::group::State;
use super::super::{
    Caller, Commit, Committed, Join, Limits, Machine, Now, Protocol, Sync, Table, Token,
};

/// The session time-out of every member.
pub(super) const SESSION_MS: u64 = 10_000;

pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) table: Table,
    pub(super) limits: Limits,
    pub(super) now: Now,
    writes: VecDeque<Write>,
    /// What each request was answered.
    replies: BTreeMap<Token, Reply>,
    next: Token,
    ids: u32,
    topics: BTreeMap<String, TopicFacts>,
    catalog: Arc<Catalog>,
}

/// A request to join by a member with this id.
pub(super) fn asks(member: &str) -> Join {
    Join {
        group: String::new(),
        member_id: member.to_owned(),
        instance: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\0\0\0\0"),
        }],
        new_id: String::new(),
        requires_id: true,
        skips_assignment: true,
    }
}

/// The same by a static member.
pub(super) fn named(member: &str, instance: &str) -> Join {
    Join { instance: Some(instance.to_owned()), ..asks(member) }
}

impl World {
    pub(super) fn new() -> Self {
        let limits = Limits {
            members_max: 1000,
            initial_delay_ms: 3_000,
            session_timeout_ms: (6_000, 1_800_000),
            metadata_bytes_max: 4096,
            retention_ms: 600_000,
            consumer: ConsumerLimits::default(),
        };
        Self {
            machine: Machine::default(),
            table: Table::default(),
            limits,
            now: Now { ms: 1, wall_ms: 1_000_000 },
            writes: VecDeque::new(),
            replies: BTreeMap::new(),
            next: 0,
            ids: 0,
            topics: BTreeMap::new(),
            catalog: Arc::default(),
        }
    }

    fn token(&mut self) -> Token {
        self.next += 1;
        self.next
    }

    /// How many requests were made.
    pub(super) fn tokens(&self) -> Token {
        self.next
    }

    pub(super) fn was_answered(&self, token: Token) -> bool {
        self.replies.contains_key(&token)
    }

    fn take(&mut self, fx: Effects) {
        self.writes.extend(fx.writes);
        for (token, reply) in fx.replies {
            assert!(self.replies.insert(token, reply).is_none(), "{token} was answered before");
        }
    }

    fn new_id(&mut self) -> String {
        self.ids += 1;
        format!("client-{}", self.ids)
    }

    pub(super) fn join(&mut self, group: &str, ask: Join) -> Token {
        let token = self.token();
        let mut fx = Effects::default();
        let ask = Join { group: group.to_owned(), new_id: self.new_id(), ..ask };
        self.machine.join(ask, token, &self.table, self.now, &self.limits, &mut fx);
        self.take(fx);
        token
    }

    /// The answer to a join, which comes at once.
    pub(super) fn join_first(&mut self, group: &str, ask: Join) -> Option<Joined> {
        let token = self.join(group, ask);
        self.joined(token)
    }

    /// Somebody new comes, twice as it has to.
    pub(super) fn join_new(&mut self, group: &str) -> Token {
        let id = self.new_member(group);
        self.join(group, asks(&id))
    }

    /// The id that a new member was given.
    pub(super) fn new_member(&mut self, group: &str) -> String {
        self.join_first(group, asks("")).unwrap().member_id
    }

    pub(super) fn joined(&self, token: Token) -> Option<Joined> {
        match self.replies.get(&token)? {
            Reply::Joined(joined) => Some(joined.clone()),
            other => panic!("{other:?} is no answer to a join"),
        }
    }

    pub(super) fn sync(&mut self, group: &str, as_whom: &Joined, given: &[(&str, &str)]) -> Token {
        let caller = Caller {
            member_id: as_whom.member_id.clone(),
            instance: None,
            generation: as_whom.generation,
        };
        let given = given
            .iter()
            .map(|(to, what)| ((*to).to_owned(), Bytes::copy_from_slice(what.as_bytes())));
        self.sync_as(group, caller, given.collect())
    }

    /// The same with assignments as they are, by a member that may be static.
    pub(super) fn sync_as(
        &mut self,
        group: &str,
        caller: Caller,
        assignments: HashMap<String, Bytes>,
    ) -> Token {
        let token = self.token();
        let group = group.to_owned();
        let ask = Sync { group, caller, protocol_type: None, protocol: None, assignments };
        let mut fx = Effects::default();
        let (table, limits) = (&self.table, &self.limits);
        self.machine.sync(ask, token, table, self.now, limits, &mut fx);
        self.take(fx);
        token
    }

    /// The assignment as it is.
    pub(super) fn assigned(&self, token: Token) -> Option<Result<Bytes, ResponseError>> {
        match self.replies.get(&token)? {
            Reply::Synced(synced) => Some(match synced.code {
                Some(code) => Err(code),
                None => Ok(synced.assignment.clone()),
            }),
            other => panic!("{other:?} is no answer to a sync"),
        }
    }

    pub(super) fn synced(&self, token: Token) -> Option<Result<String, ResponseError>> {
        match self.replies.get(&token)? {
            Reply::Synced(synced) => Some(match synced.code {
                Some(code) => Err(code),
                None => Ok(String::from_utf8(synced.assignment.to_vec()).unwrap()),
            }),
            other => panic!("{other:?} is no answer to a sync"),
        }
    }

    pub(super) fn heartbeat(&mut self, group: &str, member: &Joined) -> Result<(), ResponseError> {
        self.heartbeat_as(group, &member.member_id, None, member.generation)
    }

    pub(super) fn heartbeat_as(
        &mut self,
        group: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        let instance = instance.map(str::to_owned);
        let caller = Caller { member_id: member.to_owned(), instance, generation };
        let mut fx = Effects::default();
        let (table, limits) = (&self.table, &self.limits);
        let heard = self.machine.heartbeat(group, &caller, table, self.now, limits, &mut fx);
        self.take(fx);
        heard
    }

    pub(super) fn leave(&mut self, group: &str, member: &str) -> Result<(), ResponseError> {
        self.leave_as(group, member, None)
    }

    pub(super) fn leave_as(
        &mut self,
        group: &str,
        member: &str,
        instance: Option<&str>,
    ) -> Result<(), ResponseError> {
        let mut fx = Effects::default();
        let who = [(member.to_owned(), instance.map(str::to_owned))];
        let (table, limits) = (&self.table, &self.limits);
        let answers = self.machine.leave(group, &who, table, self.now, limits, &mut fx);
        self.take(fx);
        answers?[0]
    }

    /// Asks for a commit of partition 0 of `t`, in the version of members of consumer groups if there is such a group.
    pub(super) fn ask_commit(
        &mut self,
        group: &str,
        member: &str,
        generation: i32,
        offset: i64,
    ) -> Result<Token, ResponseError> {
        let token = self.token();
        let caller = Caller { member_id: member.to_owned(), instance: None, generation };
        let value = Committed {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
            committed_ms: self.now.wall_ms,
            expires_ms: None,
            topic_id: Default::default(),
        };
        let (topic_id, tells_epoch) = self.topic_of_commit(group);
        let value = Committed { topic_id, ..value };
        let commit = Commit { caller, tells_epoch, offsets: vec![("t".to_owned(), 0, value)] };
        let mut fx = Effects::default();
        let taken = self.machine.commit(group, commit, token, self.now, &mut fx);
        if let Err(code) = taken {
            fx.stored(token, Err(code));
        }
        self.take(fx);
        taken.map(|()| token)
    }

    fn topic_of_commit(&self, group: &str) -> (uuid::Uuid, bool) {
        let id = self.topics.get("t").map(|facts| facts.id).unwrap_or_default();
        (id, self.machine.consumer(group).is_some())
    }

    /// The same, and stores it.
    pub(super) fn commit(
        &mut self,
        group: &str,
        member: &str,
        generation: i32,
        offset: i64,
    ) -> Result<(), ResponseError> {
        let token = self.ask_commit(group, member, generation, offset)?;
        self.store_all();
        self.stored(token).expect("it is stored")
    }

    pub(super) fn stored(&self, token: Token) -> Option<Result<(), ResponseError>> {
        match self.replies.get(&token)? {
            Reply::Stored(result) => Some(*result),
            other => panic!("{other:?} is no answer to a commit"),
        }
    }

    pub(super) fn offset(&self, group: &str) -> Option<i64> {
        Some(self.table.get(group)?.offsets.get("t", 0)?.offset)
    }

    pub(super) fn delete(&mut self, group: &str) -> Result<(), ResponseError> {
        let token = self.token();
        let mut fx = Effects::default();
        if let Err(code) = self.machine.delete(group, &self.table, token, &mut fx) {
            fx.stored(token, Err(code));
        }
        self.take(fx);
        self.store_all();
        self.stored(token).expect("it is stored")
    }

    pub(super) fn expire_offsets(&mut self) {
        let mut fx = Effects::default();
        let (table, limits) = (&self.table, &self.limits);
        self.machine.expire_offsets(table, |_, _| false, self.now, limits, &mut fx);
        self.take(fx);
        self.store_all();
    }

    pub(super) fn state(&self, group: &str) -> Option<State> {
        Some(self.machine.get(group)?.state)
    }

    /// The topic exists with so many partitions from now on; with none it is gone.
    pub(super) fn topic(&mut self, name: &str, partitions: i32) {
        let layout = self.catalog.layout + 1;
        let id = self.topics.remove(name).map(|facts| facts.id);
        if partitions > 0 {
            let id = id.unwrap_or_else(|| uuid::Uuid::from_u128(layout.into()));
            let facts = TopicFacts { id, partitions, racks: Vec::new() };
            self.topics.insert(name.to_owned(), facts);
        }
        self.catalog = Arc::new(Catalog::new(layout, self.topics.clone(), BTreeMap::new()));
        self.machine.learn(Arc::clone(&self.catalog));
    }

    /// The partitions of these topics.
    pub(super) fn partitions(&self, names: &[&str]) -> BTreeSet<(uuid::Uuid, i32)> {
        let facts = names.iter().filter_map(|name| self.topics.get(*name));
        facts.flat_map(|facts| (0..facts.partitions).map(|p| (facts.id, p))).collect()
    }

    pub(super) fn beat(&mut self, group: &str, beat: &Beat) -> Token {
        let token = self.token();
        let mut fx = Effects::default();
        let (table, limits) = (&self.table, &self.limits);
        let beat = Beat { group: group.to_owned(), ..beat.clone() };
        self.machine.beat(&beat, token, table, self.now, limits, &mut fx);
        self.take(fx);
        token
    }

    pub(super) fn heard(&self, token: Token) -> Option<Result<Heard, ResponseError>> {
        match self.replies.get(&token)? {
            Reply::Heard(heard) => Some(heard.clone().map_err(|refusal| refusal.code)),
            other => panic!("{other:?} is no answer to a heartbeat"),
        }
    }

    /// Stores the oldest write and has the answer say that it may not be stored.
    pub(super) fn store_in_doubt(&mut self) {
        let Some(write) = self.writes.front() else { return };
        for record in write.records.clone() {
            self.table.apply(record);
        }
        let _ = self.store_one(Err(ResponseError::CoordinatorNotAvailable));
    }

    /// Stores the oldest write. False when there is none.
    pub(super) fn store_one(&mut self, result: Result<(), ResponseError>) -> bool {
        let Some(write) = self.writes.pop_front() else { return false };
        let chain = write.then.chain().filter(|_| result.is_err()).map(str::to_owned);
        if result.is_ok() {
            for record in write.records {
                let (key, value) = record.encode();
                let read = super::super::records::Record::decode(&key, value.as_deref());
                self.table.apply(read.unwrap());
            }
        }
        let mut fx = Effects::default();
        let (table, limits) = (&self.table, &self.limits);
        self.machine.stored(write.then, result, table, self.now, limits, &mut fx);
        // Whatever counts on it fails with it, as in the queue.
        let is_behind = |write: &Write| chain.is_some() && write.then.chain() == chain.as_deref();
        let all = std::mem::take(&mut self.writes).into_iter();
        let (behind, kept): (Vec<Write>, Vec<Write>) = all.partition(is_behind);
        self.writes = kept.into();
        for write in behind {
            self.machine.stored(write.then, result, table, self.now, limits, &mut fx);
        }
        self.take(fx);
        true
    }

    pub(super) fn store_all(&mut self) {
        while self.store_one(Ok(())) {}
    }

    pub(super) fn store_none(&mut self, code: ResponseError) {
        while self.store_one(Err(code)) {}
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now.ms + ms;
        loop {
            let next = self.machine.next_deadline().filter(|at| *at <= until).unwrap_or(until);
            let step = next.saturating_sub(self.now.ms);
            self.now.ms += step;
            self.now.wall_ms += i64::try_from(step).unwrap();
            let mut fx = Effects::default();
            self.machine.tick(&self.table, self.now, &self.limits, &mut fx);
            self.take(fx);
            if self.now.ms >= until && self.machine.next_deadline().is_none_or(|at| at > until) {
                return;
            }
        }
    }

    /// The coordinator dies with what it has not stored, and another one goes on.
    pub(super) fn fail_over(&mut self) {
        self.writes.clear();
        let mut fx = Effects::default();
        self.machine = Machine::load(&self.table, self.now, &self.limits, &mut fx);
        self.machine.learn(Arc::clone(&self.catalog));
        self.take(fx);
    }

    /// A group of so many members that has settled, each with its number as its assignment.
    pub(super) fn settled(&mut self, group: &str, count: usize) -> Vec<Joined> {
        let ids: Vec<String> = (0..count).map(|_| self.new_member(group)).collect();
        let tokens: Vec<Token> = ids.iter().map(|id| self.join(group, asks(id))).collect();
        self.pass(20_000.min(3_000 * (count as u64 + 1)));
        let joined: Vec<Joined> = tokens.iter().map(|at| self.joined(*at).unwrap()).collect();
        let leader = joined.iter().find(|one| one.member_id == one.leader).unwrap().clone();
        let given: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), "x")).collect();
        for one in &joined {
            let _ =
                self.sync(group, one, if one.member_id == leader.member_id { &given } else { &[] });
        }
        self.store_all();
        assert_eq!(self.state(group), Some(State::Stable));
        joined
    }
}
