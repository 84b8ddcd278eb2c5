//! A member's life between rebalances: assignments, heartbeats, leaving, the right to commit.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::effects::{Effects, Synced, Then};
use super::group::{Group, State};
use super::records::Record;
use super::{Limits, Now, Token};

/// Who a member says it is, in a generation.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) member_id: String,
    pub(crate) instance: Option<String>,
    pub(crate) generation: i32,
}

/// A request for an assignment; the leader's brings everybody's.
#[derive(Debug, Clone)]
pub(crate) struct Sync {
    /// The group.
    pub(crate) group: String,
    pub(crate) caller: Caller,
    /// What the member takes the group's to be (version 5).
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignments: HashMap<String, Bytes>,
}

impl Group {
    /// Takes a sync request; it is answered through `fx`, at once or when the leader's assignment is stored.
    pub(crate) fn sync(&mut self, ask: Sync, token: Token, now: Now, fx: &mut Effects) {
        if let Err(code) = self.check_sync(&ask) {
            fx.synced(token, Synced::refused(code));
            return;
        }
        let id = ask.caller.member_id;
        match self.state {
            State::Empty => fx.synced(token, Synced::refused(ResponseError::UnknownMemberId)),
            State::PreparingRebalance => {
                fx.synced(token, Synced::refused(ResponseError::RebalanceInProgress));
            }
            State::CompletingRebalance => {
                let leads = self.is_leader(&id);
                self.await_assignment(&id, token, fx);
                // Should the leader ask again, what it said first holds.
                if leads && self.assigning != Some(self.generation) {
                    self.assigning = Some(self.generation);
                    let value = self.value(Some(&ask.assignments));
                    let (group, generation) = (self.id.clone(), self.generation);
                    let assignments = ask.assignments;
                    let then = Then::Assign { group, generation, assignments };
                    fx.write(vec![Record::group(&self.id, Some(value))], then);
                }
            }
            State::Stable => {
                self.unsynced.remove(&id);
                let Some(member) = self.members.get_mut(&id) else { return };
                member.heard(now.ms);
                let answer = self.members.get(&id).map(|member| self.synced(member));
                fx.synced(
                    token,
                    answer.unwrap_or_else(|| Synced::refused(ResponseError::UnknownMemberId)),
                );
            }
        }
        self.forget_sync_deadline();
    }

    fn check_sync(&self, ask: &Sync) -> Result<(), ResponseError> {
        self.check_caller(&ask.caller)?;
        let differs =
            |given: &Option<String>, own: &Option<String>| given.is_some() && given != own;
        if differs(&ask.protocol_type, &self.protocol_type)
            || differs(&ask.protocol, &self.protocol)
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn await_assignment(&mut self, id: &str, token: Token, fx: &mut Effects) {
        self.unsynced.remove(id);
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(earlier) = member.syncing.replace(token) {
            fx.synced(earlier, Synced::refused(ResponseError::RebalanceInProgress));
        }
    }

    /// Once everybody has asked for its assignment nobody is missed any more.
    fn forget_sync_deadline(&mut self) {
        if self.unsynced.is_empty() {
            self.sync_deadline = None;
        }
    }

    /// Goes on when the leader's assignments are stored, or could not be.
    pub(super) fn assigned(
        &mut self,
        generation: i32,
        mut assignments: HashMap<String, Bytes>,
        result: Result<(), ResponseError>,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        if self.assigning == Some(generation) {
            self.assigning = None;
        }
        if self.state != State::CompletingRebalance || self.generation != generation {
            return;
        }
        if let Err(code) = result {
            self.fail_syncs(code, now, fx);
            self.maybe_prepare(now, limits, fx);
            return;
        }
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
        }
        self.enter(State::Stable, now);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let Some(answer) = self.members.get(&id).map(|member| self.synced(member)) else {
                continue;
            };
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(token) = member.syncing.take() {
                member.heard(now.ms);
                fx.synced(token, answer);
            }
        }
    }

    /// Checks who calls, and in which generation.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`, `ILLEGAL_GENERATION`.
    fn check_caller(&self, caller: &Caller) -> Result<(), ResponseError> {
        self.check_member(&caller.member_id, caller.instance.as_deref())?;
        if caller.generation == self.generation {
            Ok(())
        } else {
            Err(ResponseError::IllegalGeneration)
        }
    }

    /// Hears a member.
    ///
    /// # Errors
    /// `REBALANCE_IN_PROGRESS` when it has to join again, and as [`Group::check_caller`].
    pub(crate) fn heartbeat(&mut self, caller: &Caller, now: Now) -> Result<(), ResponseError> {
        self.check_caller(caller)?;
        if let Some(member) = self.members.get_mut(&caller.member_id) {
            member.heard(now.ms);
        }
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// Lets a member go; an empty member id stands for whoever has the instance name, as administrators ask for it.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`.
    pub(crate) fn leave(
        &mut self,
        member: &str,
        instance: Option<&str>,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) -> Result<(), ResponseError> {
        if member.is_empty() {
            let known = instance.and_then(|name| self.statics.get(name)).cloned();
            let known = known.ok_or(ResponseError::UnknownMemberId)?;
            self.depart(&known, now, limits, fx);
        } else if self.pending.remove(member).is_some() {
            self.maybe_complete(now, limits, fx);
        } else {
            self.check_member(member, instance)?;
            self.depart(member, now, limits, fx);
        }
        Ok(())
    }

    /// Whether offsets may be committed by this caller, which is heard by it.
    ///
    /// # Errors
    /// As [`Group::check_caller`]; `UNKNOWN_MEMBER_ID` for somebody who is no member of a group that has some;
    /// `REBALANCE_IN_PROGRESS` before the generation has its assignments.
    pub(crate) fn may_commit(&mut self, caller: &Caller, now: Now) -> Result<(), ResponseError> {
        if caller.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        let says_who =
            caller.generation >= 0 || !caller.member_id.is_empty() || caller.instance.is_some();
        if says_who {
            self.check_caller(caller)?;
        } else if self.state != State::Empty {
            return Err(ResponseError::UnknownMemberId);
        }
        if self.state == State::CompletingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(&caller.member_id) {
            member.heard(now.ms);
        }
        Ok(())
    }
}
