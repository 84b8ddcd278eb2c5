//! Rebalances of a classic group: gathering its members, beginning a generation, time-outs.
//!
//! Source: Kafka's group coordinator; KIP-62 (rebalance time-out), KIP-134 (the first rebalance waits for more members).

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::effects::{Effects, Synced, Then};
use super::group::{Gathering, Group, State};
use super::records::Record;
use super::{Limits, Now};

impl Group {
    /// Begins a rebalance where one is not under way.
    pub(super) fn maybe_prepare(&mut self, now: Now, limits: &Limits, fx: &mut Effects) {
        if self.state != State::PreparingRebalance {
            self.prepare(now, limits, fx);
        }
    }

    pub(super) fn prepare(&mut self, now: Now, limits: &Limits, fx: &mut Effects) {
        if self.state == State::CompletingRebalance {
            self.fail_syncs(ResponseError::RebalanceInProgress, now, fx);
        }
        self.unsynced.clear();
        self.sync_deadline = None;
        self.somebody_came = false;
        let timeout = self.rebalance_timeout();
        self.gathering = Some(if self.state == State::Empty {
            let delay = limits.initial_delay_ms;
            let initial_left = Some(timeout.saturating_sub(delay));
            Gathering { deadline: now.ms + delay, initial_left }
        } else {
            Gathering { deadline: now.ms + timeout, initial_left: None }
        });
        self.enter(State::PreparingRebalance, now);
        self.maybe_complete(now, limits, fx);
    }

    /// Ends the gathering when everybody is there. The first one lasts its time.
    pub(super) fn maybe_complete(&mut self, now: Now, limits: &Limits, fx: &mut Effects) {
        let gathers = self.gathering.is_some_and(|gathering| gathering.initial_left.is_none());
        let all_joined = self.members.values().all(|member| member.joining.is_some());
        if gathers && all_joined && self.pending.is_empty() {
            self.complete(now, limits, fx);
        }
    }

    /// Begins the next generation with those who have joined. Static members stay although they have not.
    fn complete(&mut self, now: Now, _limits: &Limits, fx: &mut Effects) {
        let gone = |m: &&super::member::Member| m.joining.is_none() && m.instance.is_none();
        let gone: Vec<String> = self.members.values().filter(gone).map(|m| m.id.clone()).collect();
        for id in gone {
            self.remove(&id, ResponseError::UnknownMemberId, fx);
        }
        if !self.elect_leader() && !self.members.is_empty() {
            // Only static members are left, and none of them is there: until they come or their sessions end.
            let deadline = now.ms + self.rebalance_timeout();
            self.gathering = Some(Gathering { deadline, initial_left: None });
            return;
        }
        self.gathering = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.elect_protocol();
        self.subscribe();
        if self.members.is_empty() {
            self.leader = None;
            self.enter(State::Empty, now);
            let value = self.value(None);
            fx.write(vec![Record::group(&self.id, Some(value))], Then::Nothing);
            return;
        }
        self.enter(State::CompletingRebalance, now);
        self.unsynced = self.members.keys().cloned().collect();
        self.sync_deadline = Some(now.ms + self.rebalance_timeout());
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.joined(&id, self.is_leader(&id), false);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.is_new = false;
            member.heard(now.ms);
            if let Some(token) = member.joining.take() {
                fx.joined(token, answer);
            }
        }
    }

    /// Makes sure that the leader is somebody who has joined. False when nobody has.
    fn elect_leader(&mut self) -> bool {
        let joined = |id: &String| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        match self.members.values().find(|member| member.joining.is_some()) {
            Some(member) => {
                self.leader = Some(member.id.clone());
                true
            }
            None => false,
        }
    }

    /// Takes the assignments back and tells those who wait for them.
    pub(super) fn fail_syncs(&mut self, code: ResponseError, now: Now, fx: &mut Effects) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(token) = member.syncing.take() {
                member.heard(now.ms);
                fx.synced(token, Synced::refused(code));
            }
        }
    }

    /// Does what the time asks for.
    pub(crate) fn expire(&mut self, now: Now, limits: &Limits, fx: &mut Effects) {
        self.expire_sessions(now, limits, fx);
        let before = self.pending.len();
        self.pending.retain(|_, deadline| *deadline > now.ms);
        if self.pending.len() < before {
            self.maybe_complete(now, limits, fx);
        }
        if let Some(gathering) = self.gathering.filter(|gathering| gathering.deadline <= now.ms) {
            match gathering.initial_left {
                Some(left) if left > 0 && self.somebody_came => {
                    self.somebody_came = false;
                    let delay = limits.initial_delay_ms.clamp(1, left);
                    let initial_left = Some(left - delay);
                    self.gathering = Some(Gathering { deadline: now.ms + delay, initial_left });
                }
                _ => self.complete(now, limits, fx),
            }
        }
        if self.sync_deadline.is_some_and(|deadline| deadline <= now.ms) {
            self.sync_deadline = None;
            let silent = std::mem::take(&mut self.unsynced);
            let under_way = matches!(self.state, State::CompletingRebalance | State::Stable);
            if under_way && !silent.is_empty() {
                for id in silent {
                    self.remove(&id, ResponseError::UnknownMemberId, fx);
                }
                self.maybe_prepare(now, limits, fx);
            }
        }
    }

    fn expire_sessions(&mut self, now: Now, limits: &Limits, fx: &mut Effects) {
        let due = |member: &&super::member::Member| member.deadline <= now.ms;
        let late: Vec<String> = self.members.values().filter(due).map(|m| m.id.clone()).collect();
        for id in late {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.waits() {
                member.heard(now.ms);
            } else {
                self.depart(&id, now, limits, fx);
            }
        }
    }

    /// A member goes, and the others share what it had.
    pub(super) fn depart(&mut self, id: &str, now: Now, limits: &Limits, fx: &mut Effects) {
        if !self.remove(id, ResponseError::UnknownMemberId, fx) {
            return;
        }
        match self.state {
            State::Empty => {}
            State::PreparingRebalance => self.maybe_complete(now, limits, fx),
            State::CompletingRebalance | State::Stable => self.prepare(now, limits, fx),
        }
    }
}
