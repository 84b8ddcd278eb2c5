//! A classic group: its members, its generation, and what both are after each request.
//!
//! ```text
//!            first member            all have joined, or time is up
//!   Empty ─────────────> Preparing ─────────────────────────────> Completing
//!     ^                   ^     ^                                     │ the leader's assignment is stored
//!     └── nobody is left ─┘     └── somebody comes, goes, changes ── Stable
//! ```
//!
//! Pure: the time is an argument, and what is to be answered or stored goes to [`Effects`].
//!
//! Invariants:
//! - A member that is known under an instance name is the only one under that name.
//! - The generation only grows.
//! - Whoever waits for an answer gets exactly one.
//!
//! Not here: joining (`join.rs`), rebalances (`rebalance.rs`), the rest of a member's life (`sync.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kafka_protocol::ResponseError;

use super::effects::{Effects, Joined, JoinedMember, Synced};
use super::embedded::subscribed_topics;
use super::member::{Member, Protocol, millis};
use super::records::{GroupValue, MemberValue};
use super::{Limits, Now};

/// The protocol type of consumers.
pub(crate) const CONSUMER: &str = "consumer";

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A rebalance that waits for members.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gathering {
    pub(super) deadline: u64,
    /// Of a group's first rebalance: how much longer it may wait for more members.
    pub(super) initial_left: Option<u64>,
}

/// A group of the classic protocol.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) state: State,
    /// When it came to this state, by the wall clock; -1 is unknown.
    pub(super) since_ms: i64,
    /// None for a group that nobody ever joined: consumers that only commit.
    pub(crate) protocol_type: Option<String>,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// The member ids of static members, by instance.
    pub(super) statics: HashMap<String, String>,
    /// Ids that were given out and have not joined yet, and when they are forgotten.
    pub(super) pending: BTreeMap<String, u64>,
    pub(super) gathering: Option<Gathering>,
    /// Somebody came while the first rebalance waits.
    pub(super) somebody_came: bool,
    /// Members whose sync is awaited, and until when.
    pub(super) unsynced: BTreeSet<String>,
    pub(super) sync_deadline: Option<u64>,
    /// The generation whose assignment is on its way into the log.
    pub(super) assigning: Option<i32>,
    /// What all members together subscribe to, if they are consumers.
    pub(super) subscribed: Option<BTreeSet<String>>,
    /// Commits that are on their way into the log.
    pub(super) committing: usize,
    /// The earliest time at which the group is sure to be looked at.
    pub(super) looked_at: Option<u64>,
}

impl Group {
    /// A group without members.
    pub(crate) fn new(id: String) -> Self {
        Self {
            id,
            state: State::Empty,
            since_ms: -1,
            protocol_type: None,
            generation: 0,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: HashMap::new(),
            pending: BTreeMap::new(),
            gathering: None,
            somebody_came: false,
            unsynced: BTreeSet::new(),
            sync_deadline: None,
            assigning: None,
            subscribed: None,
            committing: 0,
            looked_at: None,
        }
    }

    /// The group as another coordinator, or this node before its restart, has stored it. Its members have all of their
    /// session time-outs to be heard.
    pub(crate) fn load(
        id: &str,
        value: &GroupValue,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) -> Self {
        let mut group = Self::new(id.to_owned());
        group.protocol_type = Some(value.protocol_type.clone()).filter(|kind| !kind.is_empty());
        group.generation = value.generation;
        group.protocol.clone_from(&value.protocol);
        group.leader.clone_from(&value.leader);
        group.since_ms = value.since_ms;
        for stored in &value.members {
            let member = stored.member(value.protocol.as_deref().unwrap_or_default(), now);
            if let Some(instance) = &member.instance {
                group.statics.insert(instance.clone(), member.id.clone());
            }
            group.members.insert(member.id.clone(), member);
        }
        if !group.members.is_empty() {
            group.state = State::Stable;
            group.subscribe();
            // Somebody led the members to what they have, unless they had it from a group of the consumer protocol: they
            // share out anew, as when the group became a classic one.
            if group.members.len() > limits.members_max || group.leader.is_none() {
                group.prepare(now, limits, fx);
            }
        }
        group
    }

    /// What is stored of it, with these assignments in the place of those that hold.
    pub(super) fn value(&self, assignments: Option<&HashMap<String, bytes::Bytes>>) -> GroupValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let stored = |member: &Member| {
            let assignment = match assignments {
                Some(given) => given.get(&member.id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            };
            MemberValue::new(member, protocol, assignment)
        };
        GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since_ms: self.since_ms,
            members: self.members.values().map(stored).collect(),
        }
    }

    /// Whether it consists of nothing, so that it can be forgotten unless offsets are committed for it.
    pub(super) fn is_nothing(&self) -> bool {
        let is_idle = self.pending.is_empty() && self.committing == 0;
        self.state == State::Empty && self.members.is_empty() && is_idle
    }

    pub(super) fn enter(&mut self, state: State, now: Now) {
        self.state = state;
        self.since_ms = now.wall_ms;
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// Checks that a member is who it says.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`.
    pub(super) fn check_member(
        &self,
        member: &str,
        instance: Option<&str>,
    ) -> Result<(), ResponseError> {
        if let Some(instance) = instance {
            match self.statics.get(instance) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(known) if known != member => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        let known = self.members.contains_key(member);
        if known { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    /// Whether somebody with these protocols could be a member.
    pub(super) fn fits(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let common = |own: &Protocol| self.members.values().all(|m| m.supports(&own.name));
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(common)
    }

    /// The protocol that all members support and most of them prefer.
    pub(super) fn elect_protocol(&self) -> Option<String> {
        let all = |name: &str| self.members.values().all(|member| member.supports(name));
        let first = self.members.values().next()?;
        let common: Vec<&str> =
            first.protocols.iter().map(|p| p.name.as_str()).filter(|name| all(name)).collect();
        let vote = |member: &Member| {
            let preferred = member.protocols.iter().find(|p| common.contains(&p.name.as_str()));
            preferred.and_then(|p| common.iter().position(|name| *name == p.name))
        };
        let mut votes = vec![0_usize; common.len()];
        for at in self.members.values().filter_map(vote) {
            votes[at] += 1;
        }
        // Of equals the first.
        let most = votes.iter().copied().max()?;
        let at = votes.iter().position(|count| *count == most)?;
        Some(common[at].to_owned())
    }

    /// Works out what the members subscribe to.
    pub(super) fn subscribe(&mut self) {
        self.subscribed = None;
        let Some(protocol) = self.protocol.as_deref() else { return };
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return;
        }
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            let Some(topics) = subscribed_topics(&member.metadata(protocol)) else { return };
            all.extend(topics);
        }
        self.subscribed = Some(all);
    }

    /// The longest time that a member may take to join again.
    pub(super) fn rebalance_timeout(&self) -> u64 {
        self.members.values().map(|m| millis(m.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    pub(super) fn add(&mut self, member: Member) {
        if self.members.is_empty() {
            self.leader = None;
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), member.id.clone());
        }
        self.pending.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out; whoever waits for it is told `code`.
    pub(super) fn remove(&mut self, id: &str, code: ResponseError, fx: &mut Effects) -> bool {
        let Some(member) = self.members.remove(id) else { return false };
        if let Some(instance) = &member.instance
            && self.statics.get(instance).is_some_and(|known| known == id)
        {
            self.statics.remove(instance);
        }
        self.unsynced.remove(id);
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.dismiss(&member, code, fx);
        true
    }

    /// Tells a member that waits for something that it will not get it.
    pub(super) fn dismiss(&self, member: &Member, code: ResponseError, fx: &mut Effects) {
        if let Some(token) = member.joining {
            fx.joined(token, Joined::refused(&member.id, code));
        }
        if let Some(token) = member.syncing {
            fx.synced(token, Synced::refused(code));
        }
    }

    /// What a member is told that has joined this generation.
    pub(super) fn joined(&self, member: &str, with_members: bool, skip: bool) -> Joined {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let told = |m: &Member| JoinedMember {
            id: m.id.clone(),
            instance: m.instance.clone(),
            metadata: m.metadata(protocol),
        };
        Joined {
            code: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: skip,
            member_id: member.to_owned(),
            members: match with_members {
                true => self.members.values().map(told).collect(),
                false => Vec::new(),
            },
        }
    }

    /// What a member is told of its assignment.
    pub(super) fn synced(&self, member: &Member) -> Synced {
        Synced {
            code: None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: member.assignment.clone(),
        }
    }

    /// When the group has to be looked at next.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let members = self.members.values().map(|member| member.deadline);
        let pending = self.pending.values().copied();
        let gathering = self.gathering.map(|gathering| gathering.deadline);
        members.chain(pending).chain(gathering).chain(self.sync_deadline).min()
    }
}
