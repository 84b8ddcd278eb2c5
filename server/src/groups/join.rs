//! Joining a classic group: new members, members that come again, static members (KIP-345).
//!
//! Not here: what a rebalance does with those who have joined (`rebalance.rs`).

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::effects::{Effects, Joined, Replaced, Then};
use super::group::{Group, State};
use super::member::{Member, Protocol, millis};
use super::records::Record;
use super::{Limits, Now, Token};

/// How long a new member is waited for during its first rebalance, whatever its session time-out: its client may send no
/// heartbeats yet.
const FIRST_JOIN_MS: u64 = 5 * 60 * 1000;
/// Ids of a group that are given out and have not joined yet.
const PENDING_MAX: usize = 10_000;

/// A request to join.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    /// The group.
    pub(crate) group: String,
    /// Empty for somebody new.
    pub(crate) member_id: String,
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<Protocol>,
    /// The id that somebody new gets.
    pub(crate) new_id: String,
    /// Somebody new is told its id and has to come again with it (version 4).
    pub(crate) requires_id: bool,
    /// The client knows what it means to lead and not to assign (version 9).
    pub(crate) skips_assignment: bool,
}

impl Join {
    fn member(&self, id: String, now: Now, token: Token) -> Member {
        Member {
            id,
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocols: self.protocols.clone(),
            assignment: Bytes::new(),
            joining: Some(token),
            syncing: None,
            is_new: true,
            deadline: now.ms + FIRST_JOIN_MS,
        }
    }
}

impl Group {
    /// Takes a join request; it is answered through `fx`, at once or when the rebalance is over.
    pub(crate) fn join(
        &mut self,
        ask: Join,
        token: Token,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        if !self.has_room_for(&ask.member_id, limits.members_max) {
            self.remove(&ask.member_id, ResponseError::UnknownMemberId, fx);
            fx.joined(token, Joined::refused("", ResponseError::GroupMaxSizeReached));
        } else if !self.fits(&ask.protocol_type, &ask.protocols) {
            let code = ResponseError::InconsistentGroupProtocol;
            fx.joined(token, Joined::refused(&ask.member_id, code));
        } else if ask.member_id.is_empty() {
            self.join_new(ask, token, now, limits, fx);
        } else if self.pending.contains_key(&ask.member_id) {
            self.admit(ask.member_id.clone(), &ask, token, now, limits, fx);
        } else if let Err(code) = self.check_member(&ask.member_id, ask.instance.as_deref()) {
            fx.joined(token, Joined::refused(&ask.member_id, code));
        } else {
            self.join_again(ask, token, now, limits, fx);
        }
        self.maybe_complete(now, limits, fx);
    }

    fn has_room_for(&self, member: &str, members_max: usize) -> bool {
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                let joined = self.members.values().filter(|m| m.joining.is_some()).count();
                self.members.get(member).is_some_and(|m| m.joining.is_some())
                    || joined < members_max
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(member) || self.members.len() < members_max
            }
        }
    }

    fn join_new(&mut self, ask: Join, token: Token, now: Now, limits: &Limits, fx: &mut Effects) {
        let new_id = ask.new_id.clone();
        let known = ask.instance.as_ref().and_then(|name| self.statics.get(name)).cloned();
        if let Some(old_id) = known {
            self.come_back(&old_id, ask, token, now, limits, fx);
        } else if ask.instance.is_none() && ask.requires_id {
            if self.pending.len() >= PENDING_MAX {
                fx.joined(token, Joined::refused("", ResponseError::GroupMaxSizeReached));
                return;
            }
            self.pending.insert(new_id.clone(), now.ms + millis(ask.session_timeout_ms));
            fx.joined(token, Joined::refused(&new_id, ResponseError::MemberIdRequired));
        } else {
            self.admit(new_id, &ask, token, now, limits, fx);
        }
    }

    /// Adds a member, for which the others join again.
    fn admit(
        &mut self,
        id: String,
        ask: &Join,
        token: Token,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(ask.protocol_type.clone());
        }
        if self.gathering.is_some_and(|gathering| gathering.initial_left.is_some()) {
            self.somebody_came = true;
        }
        self.add(ask.member(id, now, token));
        self.maybe_prepare(now, limits, fx);
    }

    fn join_again(&mut self, ask: Join, token: Token, now: Now, limits: &Limits, fx: &mut Effects) {
        let id = ask.member_id.clone();
        let changed = self.members.get(&id).is_none_or(|member| member.protocols != ask.protocols);
        let leads = self.is_leader(&id);
        match self.state {
            // It never heard of the generation that it is in already.
            State::CompletingRebalance if !changed => {
                fx.joined(token, self.joined(&id, leads, false));
                return;
            }
            // The leader asks for a rebalance this way, when topics have changed.
            State::Stable if !changed && !leads => {
                fx.joined(token, self.joined(&id, false, false));
                return;
            }
            State::Empty => {
                fx.joined(token, Joined::refused(&id, ResponseError::UnknownMemberId));
                return;
            }
            _ => {}
        }
        self.update(&id, &ask, token, fx);
        self.maybe_prepare(now, limits, fx);
    }

    /// What a member says now replaces what it said before.
    fn update(&mut self, id: &str, ask: &Join, token: Token, fx: &mut Effects) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.protocols.clone_from(&ask.protocols);
        member.session_timeout_ms = ask.session_timeout_ms;
        member.rebalance_timeout_ms = ask.rebalance_timeout_ms;
        // The earlier request of the same member has nobody left who reads the answer.
        if let Some(earlier) = member.joining.replace(token) {
            fx.joined(earlier, Joined::refused(id, ResponseError::RebalanceInProgress));
        }
    }

    /// A static member comes back under a new id, and the one under the old id is fenced.
    fn come_back(
        &mut self,
        old_id: &str,
        ask: Join,
        token: Token,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        let leader_before = self.leader.clone();
        let Some(before) = self.members.get(old_id).cloned() else { return };
        let new_id = ask.new_id.clone();
        self.rename(old_id, &new_id, fx);
        self.update(&new_id, &ask, token, fx);
        if let Some(member) = self.members.get_mut(&new_id) {
            member.heard(now.ms);
        }
        match self.state {
            State::Stable if self.elect_protocol() == self.protocol => {
                let value = self.value(None);
                let skips_assignment = ask.skips_assignment;
                let replaced = Replaced { token, before, new_id, leader_before, skips_assignment };
                let then = Then::Replaced { group: self.id.clone(), replaced: Box::new(replaced) };
                fx.write(vec![Record::group(&self.id, Some(value))], then);
            }
            _ => self.maybe_prepare(now, limits, fx),
        }
    }

    /// Gives a static member another id.
    fn rename(&mut self, old_id: &str, new_id: &str, fx: &mut Effects) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        self.dismiss(&member, ResponseError::FencedInstanceId, fx);
        (member.joining, member.syncing) = (None, None);
        new_id.clone_into(&mut member.id);
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), new_id.to_owned());
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.to_owned());
        }
        if self.unsynced.remove(old_id) {
            self.unsynced.insert(new_id.to_owned());
        }
        self.members.insert(new_id.to_owned(), member);
    }

    /// Goes on when a static member's new id is stored, or takes it back.
    pub(super) fn replaced(
        &mut self,
        replaced: Replaced,
        result: Result<(), ResponseError>,
        now: Now,
        fx: &mut Effects,
    ) {
        let Replaced { token, before, new_id, leader_before, skips_assignment } = replaced;
        let waits = self.members.get(&new_id).is_some_and(|m| m.joining == Some(token));
        // A rebalance that has begun meanwhile has answered, or will.
        if !waits || self.state != State::Stable {
            return;
        }
        if let Some(member) = self.members.get_mut(&new_id) {
            member.joining = None;
        }
        if let Err(code) = result {
            self.rename(&new_id, &before.id, fx);
            if let Some(member) = self.members.get_mut(&before.id) {
                *member = Member { joining: None, syncing: None, ..before };
                member.heard(now.ms);
            }
            fx.joined(token, Joined::refused("", code));
            return;
        }
        let leads = self.is_leader(&new_id);
        let joined = if skips_assignment {
            self.joined(&new_id, leads, leads)
        } else {
            // It is not told that it leads: an assignment that it sends now would reach nobody.
            let leader = leader_before.unwrap_or_default();
            Joined { leader, ..self.joined(&new_id, false, false) }
        };
        fx.joined(token, joined);
    }
}
