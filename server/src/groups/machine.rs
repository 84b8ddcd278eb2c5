//! The groups of one partition of `__consumer_offsets`, on the node that coordinates them.
//!
//! Pure: requests and the time come in, answers and records go out. What is stored comes back as
//! [`Machine::stored`] once it is committed; what offsets are committed is the [`Table`]'s to say.
//!
//! Invariants:
//! - Every group of the table has its group here, either as a classic one or as one of the consumer protocol.
//! - A group that consists of nothing, and for which nothing is stored, is forgotten.
//!
//! Not here: one group's rules (`group.rs` and those it names, `consumer.rs`), requests to consumer groups (`consumer/machine.rs`,
//! `consumer/hosting.rs`), what is forgotten (`expiry.rs`), reading and writing the log (`shard.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::consumer::Catalog;
use super::consumer::group::{Context, Group as ConsumerGroup};
use super::effects::{Effects, Joined, Synced, Then};
use super::expiry::{clear_remains, tombstones, write_all};
use super::group::{CONSUMER, Group, State};
use super::offsets::Committed;
use super::records::Record;
use super::table::Table;
use super::{Caller, Join, Limits, Now, Sync, Token};

/// Groups of one partition. A million clients with a group each would need 50 partitions of this size half full.
const GROUPS_MAX: usize = 40_000;

/// Offsets to be committed together.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) caller: Caller,
    /// The caller's generation may be a member epoch (version 9).
    pub(crate) tells_epoch: bool,
    /// Topic, partition, offset: those that passed the checks of each partition.
    pub(crate) offsets: Vec<(String, i32, Committed)>,
}

/// The groups of one partition.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// Classic groups.
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) consumers: BTreeMap<String, ConsumerGroup>,
    /// What is known of topics.
    pub(super) topics: Arc<Catalog>,
    /// When to look at which group. An entry may be early, never late.
    timers: BTreeSet<(u64, String)>,
}

impl Machine {
    /// Begins to coordinate what the table holds.
    pub(crate) fn load(table: &Table, now: Now, limits: &Limits, fx: &mut Effects) -> Self {
        let mut machine = Self::default();
        for (id, stored) in table.iter() {
            if let Some(pieces) = stored.consumer.as_deref().filter(|pieces| pieces.is_group()) {
                let topics = Arc::clone(&machine.topics);
                let context = Context { topics: &topics, now, limits };
                let mut group = ConsumerGroup::load(id, pieces, &context);
                if stored.group.is_some() {
                    group.store_whole();
                }
                machine.consumers.insert(id.to_owned(), group);
                machine.schedule(id);
                continue;
            }
            let group = match &stored.group {
                Some(value) => Group::load(id, value, now, limits, fx),
                None => Group::new(id.to_owned()),
            };
            machine.groups.insert(id.to_owned(), group);
            machine.schedule(id);
        }
        machine
    }

    /// Takes note of a group that has come into the table: its offsets may have been committed while it was deleted.
    pub(crate) fn know(&mut self, id: &str) {
        if !self.groups.contains_key(id) && !self.consumers.contains_key(id) {
            self.groups.insert(id.to_owned(), Group::new(id.to_owned()));
        }
    }

    /// What the metadata said last.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.topics
    }

    /// Takes note of what the metadata says now.
    pub(crate) fn learn(&mut self, topics: Arc<Catalog>) {
        self.topics = topics;
    }

    /// The classic group of this name.
    pub(crate) fn get(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// The group of the consumer protocol of this name.
    pub(crate) fn consumer(&self, id: &str) -> Option<&ConsumerGroup> {
        self.consumers.get(id)
    }

    /// All classic groups, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// All groups of the consumer protocol, by name.
    pub(crate) fn consumers(&self) -> impl Iterator<Item = &ConsumerGroup> {
        self.consumers.values()
    }

    /// Whether there is no room for another group.
    pub(super) fn is_full(&self) -> bool {
        self.groups.len() + self.consumers.len() >= GROUPS_MAX
    }

    /// When [`Machine::tick`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Looks at the groups whose time has come.
    pub(crate) fn tick(&mut self, table: &Table, now: Now, limits: &Limits, fx: &mut Effects) {
        while self.next_deadline().is_some_and(|at| at <= now.ms) {
            let Some((_, id)) = self.timers.pop_first() else { return };
            if let Some(group) = self.groups.get_mut(&id) {
                group.looked_at = None;
                group.expire(now, limits, fx);
                self.settle(&id, table);
            } else {
                self.expire_consumers(&id, table, now, limits, fx);
            }
        }
    }

    /// Has a group looked at in time.
    pub(super) fn schedule(&mut self, id: &str) {
        let (next, looked_at) = if let Some(group) = self.groups.get_mut(id) {
            (group.next_deadline(), &mut group.looked_at)
        } else if let Some(group) = self.consumers.get_mut(id) {
            (group.next_deadline(), &mut group.looked_at)
        } else {
            return;
        };
        let Some(next) = next else { return };
        if looked_at.is_none_or(|at| at > next) {
            if let Some(at) = looked_at.replace(next) {
                self.timers.remove(&(at, id.to_owned()));
            }
            self.timers.insert((next, id.to_owned()));
        }
    }

    /// After a change: what has become nothing is forgotten, anything else is looked at in time.
    pub(super) fn settle(&mut self, id: &str, table: &Table) {
        let nothing = self.groups.get(id).is_some_and(Group::is_nothing);
        if nothing && table.get(id).is_none() {
            self.forget(id);
        } else {
            self.schedule(id);
        }
    }

    pub(super) fn forget(&mut self, id: &str) {
        let classic = self.groups.remove(id).and_then(|group| group.looked_at);
        let consumer = self.consumers.remove(id).and_then(|group| group.looked_at);
        for at in classic.into_iter().chain(consumer) {
            self.timers.remove(&(at, id.to_owned()));
        }
    }

    /// Takes a join request. `instance` and the like are the request's; session time-outs have been checked.
    pub(crate) fn join(
        &mut self,
        ask: Join,
        token: Token,
        table: &Table,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        let id = ask.group.clone();
        if self.consumers.get(&id).is_some_and(|group| !group.members.is_empty()) {
            self.join_consumers(&ask, token, table, now, limits, fx);
            return;
        }
        self.yield_to_classic(&id, table, fx);
        if !self.groups.contains_key(&id) {
            if !ask.member_id.is_empty() {
                let code = ResponseError::UnknownMemberId;
                fx.joined(token, Joined::refused(&ask.member_id, code));
                return;
            }
            if self.is_full() {
                fx.joined(token, Joined::refused("", ResponseError::GroupMaxSizeReached));
                return;
            }
            self.groups.insert(id.clone(), Group::new(id.clone()));
        }
        if let Some(group) = self.groups.get_mut(&id) {
            group.join(ask, token, now, limits, fx);
        }
        self.settle(&id, table);
    }

    /// Takes a sync request.
    pub(crate) fn sync(
        &mut self,
        ask: Sync,
        token: Token,
        table: &Table,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        let id = ask.group.clone();
        if self.consumers.contains_key(&id) {
            self.sync_consumers(&ask, token, table, now, limits, fx);
            return;
        }
        match self.groups.get_mut(&id) {
            Some(group) => {
                group.sync(ask, token, now, fx);
                clear_remains(&id, table, fx);
            }
            None => fx.synced(token, Synced::refused(ResponseError::UnknownMemberId)),
        }
        self.schedule(&id);
    }

    /// Hears a member that follows the classic protocol.
    ///
    /// # Errors
    /// As [`Group::heartbeat`].
    pub(crate) fn heartbeat(
        &mut self,
        id: &str,
        caller: &Caller,
        table: &Table,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) -> Result<(), ResponseError> {
        if self.consumers.contains_key(id) {
            return self.hear_consumers(id, caller, table, now, limits, fx);
        }
        let group = self.groups.get_mut(id).ok_or(ResponseError::UnknownMemberId)?;
        group.heartbeat(caller, now)
    }

    /// Lets members go, each by member id and instance; what each is answered.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID` when there is no such group.
    pub(crate) fn leave(
        &mut self,
        id: &str,
        members: &[(String, Option<String>)],
        table: &Table,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        if self.consumers.contains_key(id) {
            return self.leave_consumers(id, members, table, now, limits, fx);
        }
        let group = self.groups.get_mut(id).ok_or(ResponseError::UnknownMemberId)?;
        let leave = |(member, instance): &(String, Option<String>)| {
            group.leave(member, instance.as_deref(), now, limits, fx)
        };
        let answers = members.iter().map(leave).collect();
        self.settle(id, table);
        Ok(answers)
    }

    /// Takes offsets to be committed; they are answered to `token` when they are stored.
    ///
    /// # Errors
    /// As [`Group::may_commit`]; `ILLEGAL_GENERATION` for a generation of a group that does not exist.
    pub(crate) fn commit(
        &mut self,
        id: &str,
        commit: Commit,
        token: Token,
        now: Now,
        fx: &mut Effects,
    ) -> Result<(), ResponseError> {
        let is_full = self.is_full();
        if let Some(group) = self.consumers.get(id) {
            group.may_commit(&commit)?;
        }
        match self.groups.get_mut(id) {
            _ if self.consumers.contains_key(id) => {}
            Some(group) => group.may_commit(&commit.caller, now)?,
            None if commit.caller.generation >= 0 && commit.tells_epoch => {
                return Err(ResponseError::GroupIdNotFound);
            }
            None if commit.caller.generation >= 0 => return Err(ResponseError::IllegalGeneration),
            None if is_full => {
                return Err(ResponseError::CoordinatorNotAvailable);
            }
            None if commit.offsets.is_empty() => {}
            None => {
                self.groups.insert(id.to_owned(), Group::new(id.to_owned()));
            }
        }
        let record = |(topic, partition, value): (String, i32, Committed)| Record::Offset {
            group: id.to_owned(),
            topic,
            partition,
            value: Some(value),
        };
        let records: Vec<Record> = commit.offsets.into_iter().map(record).collect();
        if records.is_empty() {
            fx.stored(token, Ok(()));
        } else {
            self.count_commit(id, |committing| committing + 1);
            fx.write(records, Then::Committed { group: id.to_owned(), token });
        }
        Ok(())
    }

    /// Deletes a group that has no members, with all that is stored of it.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, `NON_EMPTY_GROUP`.
    pub(crate) fn delete(
        &mut self,
        id: &str,
        table: &Table,
        token: Token,
        fx: &mut Effects,
    ) -> Result<(), ResponseError> {
        if self.consumers.contains_key(id) {
            return self.delete_consumers(id, table, token, fx);
        }
        let group = self.groups.get(id).ok_or(ResponseError::GroupIdNotFound)?;
        // Somebody who commits at this moment uses it.
        if group.state != State::Empty || group.committing > 0 {
            return Err(ResponseError::NonEmptyGroup);
        }
        let records = tombstones(id, table.get(id), |_, _, _| true);
        self.forget(id);
        write_all(records, Then::Answer(token), fx);
        Ok(())
    }

    /// Whether the offsets of a topic may be deleted from a group.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`; `NON_EMPTY_GROUP` of a group of which it is not known what it reads;
    /// `GROUP_SUBSCRIBED_TO_TOPIC`.
    pub(crate) fn may_delete_offsets(&self, id: &str, topic: &str) -> Result<(), ResponseError> {
        if let Some(group) = self.consumers.get(id) {
            return match group.subscribes_to(topic) {
                true => Err(ResponseError::GroupSubscribedToTopic),
                false => Ok(()),
            };
        }
        let group = self.groups.get(id).ok_or(ResponseError::GroupIdNotFound)?;
        match group.state {
            State::Empty => Ok(()),
            _ if group.protocol_type.as_deref() != Some(CONSUMER) => {
                Err(ResponseError::NonEmptyGroup)
            }
            _ if group.subscribed.as_ref().is_none_or(|topics| topics.contains(topic)) => {
                Err(ResponseError::GroupSubscribedToTopic)
            }
            _ => Ok(()),
        }
    }

    /// Deletes offsets for which [`Machine::may_delete_offsets`] has been asked.
    pub(crate) fn delete_offsets(
        &self,
        id: &str,
        chosen: Vec<(String, i32)>,
        table: &Table,
        token: Token,
        fx: &mut Effects,
    ) {
        let is_chosen =
            |topic: &str, partition: i32| chosen.iter().any(|(t, p)| t == topic && *p == partition);
        let mut records = tombstones(id, table.get(id), |topic, p, _| is_chosen(topic, p));
        records.retain(|record| matches!(record, Record::Offset { .. }));
        if records.is_empty() {
            fx.stored(token, Ok(()));
        } else {
            write_all(records, Then::Answer(token), fx);
        }
    }

    /// Goes on when something is stored, or could not be.
    pub(crate) fn stored(
        &mut self,
        then: Then,
        result: Result<(), ResponseError>,
        table: &Table,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        match then {
            Then::Nothing => {}
            Then::Answer(token) => fx.stored(token, result),
            Then::Committed { group: id, token } => {
                self.count_commit(&id, |committing| committing.saturating_sub(1));
                self.settle(&id, table);
                fx.stored(token, result);
            }
            Then::Assign { group: id, generation, assignments } => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.assigned(generation, assignments, result, now, limits, fx);
                    self.settle(&id, table);
                }
            }
            Then::Told { group: id, failures, token, reply } => {
                let group = self.consumers.get_mut(&id);
                let is_kept = group.is_none_or(|group| {
                    group.settled(result);
                    group.failures() == failures
                });
                // What came before may not be stored; the member asks again.
                let lost =
                    if is_kept { Ok(()) } else { Err(ResponseError::CoordinatorNotAvailable) };
                let reply = match result.and(lost) {
                    Ok(()) => *reply,
                    Err(code) => reply.refused(code),
                };
                fx.reply(token, reply);
            }
            Then::Turned { classic } => self.turned(*classic, result, now, limits, fx),
            Then::Kept { group: id } => {
                if let Some(group) = self.consumers.get_mut(&id) {
                    group.settled(result);
                }
            }
            Then::Replaced { group: id, replaced } => {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.replaced(*replaced, result, now, fx);
                    self.settle(&id, table);
                }
            }
        }
    }
}
