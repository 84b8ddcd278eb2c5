//! A group of the consumer protocol: its members, its epoch, and who has which partition.
//!
//! Pure: what is to be stored is collected and taken by whoever called. A change holds at once; when it cannot be stored, the
//! whole group is stored again with the next change, so that the log comes to what holds here.
//!
//! Invariants:
//! - `owners` is what the members have, assigned or still to be given up; nothing has two owners.
//! - A member that is known under an instance name is the only one under that name.
//!
//! Not here: heartbeats (`heartbeat.rs`), going (`leave.rs`), the target (`target.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::member::{AWAY, Current, Member, Subscription};
use super::records::{EpochValue, Piece, RegexValue, TargetValue};
use super::stored::Stored;
use super::{Assignment, Catalog, ConsumerLimits};
use crate::groups::effects::{Effects, Reply, Then};
use crate::groups::machine::Commit;
use crate::groups::records::Record;
use crate::groups::{Limits, Now, Token};

/// Bytes that are stored together, roughly: half of what a write may have.
const TOGETHER_BYTES: usize = 512 << 10;

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    /// Its target is older than its epoch.
    Assigning,
    /// Some member is not at its target.
    Reconciling,
    Stable,
}

impl State {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// What a request works with.
pub(crate) struct Context<'a> {
    pub(crate) topics: &'a Catalog,
    pub(crate) now: Now,
    pub(crate) limits: &'a Limits,
}

impl Context<'_> {
    pub(super) fn limits(&self) -> &ConsumerLimits {
        &self.limits.consumer
    }

    /// How long a member of the group may be silent.
    pub(super) fn session_timeout_ms(&self, group: &str) -> i32 {
        self.limits().session_timeout_ms.of(self.topics.overrides(group).session_timeout_ms)
    }

    /// How often it shall be heard.
    pub(super) fn heartbeat_interval_ms(&self, group: &str) -> i32 {
        self.limits().heartbeat_interval_ms.of(self.topics.overrides(group).heartbeat_interval_ms)
    }
}

/// A group of the consumer protocol.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) epoch: i32,
    pub(super) metadata_hash: i64,
    pub(crate) members: BTreeMap<String, Member>,
    /// The member ids of static members, by instance.
    pub(super) statics: BTreeMap<String, String>,
    pub(crate) target_epoch: i32,
    pub(super) target_made_ms: i64,
    pub(crate) targets: BTreeMap<String, Assignment>,
    pub(super) regexes: BTreeMap<String, RegexValue>,
    owners: HashMap<(Uuid, i32), String>,
    /// When its epoch changed last, if that was here.
    pub(super) changed_at: Option<u64>,
    /// The layout of the topics of which the hash was last worked out.
    pub(super) seen_layout: Option<u64>,
    /// Commits that are on their way into the log.
    pub(in crate::groups) committing: usize,
    /// What has changed and was not yet handed out to be stored.
    changes: Vec<Piece>,
    /// Writes that were handed out and are not settled.
    in_flight: usize,
    /// How often something could not be stored.
    failures: u64,
    /// What is stored may lack something.
    torn: bool,
    /// Somebody has left something that nobody was given yet.
    pub(super) is_bereft: bool,
    /// It is on its way to a classic group.
    pub(super) turning: bool,
    /// As a classic group it would be too large to be stored.
    pub(super) too_large: bool,
    /// The earliest time at which the group is sure to be looked at.
    pub(in crate::groups) looked_at: Option<u64>,
}

impl Group {
    /// A group without members.
    pub(crate) fn new(id: String) -> Self {
        Self {
            id,
            epoch: 0,
            metadata_hash: 0,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            target_epoch: 0,
            target_made_ms: 0,
            targets: BTreeMap::new(),
            regexes: BTreeMap::new(),
            owners: HashMap::new(),
            changed_at: None,
            seen_layout: None,
            committing: 0,
            changes: Vec::new(),
            in_flight: 0,
            failures: 0,
            torn: false,
            is_bereft: false,
            turning: false,
            too_large: false,
            looked_at: None,
        }
    }

    /// The group as it is stored. Its members have all of their session time-outs to be heard.
    pub(in crate::groups) fn load(id: &str, stored: &Stored, context: &Context<'_>) -> Self {
        let mut group = Self::new(id.to_owned());
        if let Some(value) = stored.epoch {
            (group.epoch, group.metadata_hash) = (value.epoch, value.metadata_hash);
        }
        if let Some(value) = stored.target_epoch {
            (group.target_epoch, group.target_made_ms) = (value.epoch, value.made_ms);
        }
        group.regexes.clone_from(&stored.regexes);
        for (id, says) in &stored.members {
            let current = stored.currents.get(id).cloned().unwrap_or_default();
            let mut member = Member::new(id.clone(), says.clone(), current);
            member.heard(context.now.ms, context.session_timeout_ms(&group.id));
            group.watch_revocation(&mut member, context.now);
            group.insert(member);
            let target = stored.targets.get(id).cloned().unwrap_or_default();
            group.targets.insert(id.clone(), target);
        }
        // Remains of what could not be stored as a whole are cleared away.
        group.torn = stored.topics || !stored.tombstones(&group.stored()).is_empty();
        group
    }

    /// What is stored once everything is.
    fn stored(&self) -> Stored {
        let members = self.members.values();
        let is_made = self.target_epoch > 0;
        Stored {
            epoch: Some(EpochValue { epoch: self.epoch, metadata_hash: self.metadata_hash }),
            topics: false,
            members: members.clone().map(|m| (m.id.clone(), m.says.clone())).collect(),
            target_epoch: is_made
                .then_some(TargetValue { epoch: self.target_epoch, made_ms: self.target_made_ms }),
            targets: self.targets.clone(),
            currents: members.map(|m| (m.id.clone(), m.current.clone())).collect(),
            regexes: self.regexes.clone(),
        }
    }

    /// Where the group stands.
    pub(crate) fn state(&self) -> State {
        if self.members.is_empty() {
            State::Empty
        } else if self.epoch > self.target_epoch {
            State::Assigning
        } else if self.members.values().any(|member| !member.current.is_at(self.target_epoch)) {
            State::Reconciling
        } else {
            State::Stable
        }
    }

    /// What is to be stored beside what holds already.
    pub(super) fn change(&mut self, piece: Piece) {
        self.changes.push(piece);
    }

    /// Hands out what has changed, so that `then` follows when all of it is stored. `stored` is what is stored now. Without
    /// changes there is still an order: `then` follows what was handed out before.
    pub(in crate::groups) fn hand_out(
        &mut self,
        stored: Option<&Stored>,
        then: Then,
        fx: &mut Effects,
    ) {
        let mut pieces = std::mem::take(&mut self.changes);
        let (mut records, mut bytes) = (Vec::new(), 0);
        if self.torn {
            self.torn = false;
            // It may have been a classic group.
            records.push(Record::group(&self.id, None));
            let whole = self.stored();
            pieces.extend(stored.map(|stored| stored.tombstones(&whole)).unwrap_or_default());
            pieces.extend(whole.pieces());
        }
        for piece in pieces {
            bytes += piece.weight() + self.id.len();
            if bytes > TOGETHER_BYTES && !records.is_empty() {
                bytes = piece.weight();
                self.in_flight += 1;
                fx.write(std::mem::take(&mut records), Then::Kept { group: self.id.clone() });
            }
            records.push(Record::Consumer { group: self.id.clone(), piece });
        }
        self.in_flight += 1;
        fx.write(records, then);
    }

    /// Answers when everything is stored.
    pub(super) fn tell(
        &mut self,
        token: Token,
        reply: Reply,
        stored: Option<&Stored>,
        fx: &mut Effects,
    ) {
        if self.is_level() {
            fx.reply(token, reply);
            return;
        }
        let (group, failures, reply) = (self.id.clone(), self.failures, Box::new(reply));
        self.hand_out(stored, Then::Told { group, failures, token, reply }, fx);
    }

    /// Has all of a group stored of which nothing is on its way, and that there is no classic one of its name: of that a record may
    /// be stored or on its way.
    pub(in crate::groups) fn store_whole(&mut self) {
        self.changes.clear();
        self.torn = true;
    }

    /// Whether something is to be stored.
    pub(super) fn has_changes(&self) -> bool {
        !self.changes.is_empty() || self.torn
    }

    /// It is handed out as a classic group: what has changed is in that.
    pub(super) fn turn(&mut self) {
        self.changes.clear();
        self.torn = false;
        self.turning = true;
        self.in_flight += 1;
    }

    /// Whether everything is stored.
    pub(in crate::groups) fn is_level(&self) -> bool {
        self.changes.is_empty() && !self.torn && self.in_flight == 0
    }

    /// Takes note of what has become of something that was handed out.
    pub(in crate::groups) fn settled(&mut self, result: Result<(), ResponseError>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if result.is_err() {
            self.torn = true;
            self.failures += 1;
        }
    }

    /// How often something could not be stored.
    pub(in crate::groups) fn failures(&self) -> u64 {
        self.failures
    }

    /// The records that delete all of the group.
    pub(in crate::groups) fn tombstones(&self, stored: Option<&Stored>) -> Vec<Record> {
        let mut all = Stored { topics: true, ..self.stored() };
        all.target_epoch.get_or_insert(TargetValue { epoch: 0, made_ms: 0 });
        if let Some(stored) = stored {
            all.members.extend(stored.members.clone());
            all.targets.extend(stored.targets.clone());
            all.currents.extend(stored.currents.clone());
            all.regexes.extend(stored.regexes.clone());
            all.topics = stored.topics;
        } else {
            all.topics = false;
        }
        let pieces = all.tombstones(&Stored::default());
        let record = |piece| Record::Consumer { group: self.id.clone(), piece };
        pieces.into_iter().map(record).collect()
    }

    /// Whether a partition is nobody's, or this member's.
    pub(super) fn is_free(&self, topic: &Uuid, partition: i32, member: &str) -> bool {
        self.owners.get(&(*topic, partition)).is_none_or(|owner| owner == member)
    }

    fn forget_owned(&mut self, id: &str, current: &Current) {
        for (topic, parts) in current.assigned.iter().chain(&current.revoking) {
            for partition in parts.keys() {
                if self.owners.get(&(*topic, *partition)).is_some_and(|owner| owner == id) {
                    self.owners.remove(&(*topic, *partition));
                }
            }
        }
    }

    /// Adds a member or replaces the one with its id.
    pub(super) fn insert(&mut self, member: Member) {
        if let Some(before) = self.members.remove(&member.id) {
            self.forget_owned(&before.id, &before.current);
            let other = |name: &String| Some(name) != member.says.instance.as_ref();
            if let Some(instance) = before.says.instance.filter(other) {
                self.statics.remove(&instance);
            }
        }
        for (topic, parts) in member.current.assigned.iter().chain(&member.current.revoking) {
            for partition in parts.keys() {
                self.owners.insert((*topic, *partition), member.id.clone());
            }
        }
        if let Some(instance) = &member.says.instance {
            self.statics.insert(instance.clone(), member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out, with all that is stored of it.
    pub(super) fn take_out(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.forget_owned(id, &member.current);
        if let Some(instance) = &member.says.instance
            && self.statics.get(instance).is_some_and(|known| known == id)
        {
            self.statics.remove(instance);
        }
        self.targets.remove(id);
        self.change(Piece::Current(id.to_owned(), None));
        self.change(Piece::Target(id.to_owned(), None));
        self.change(Piece::Member(id.to_owned(), None));
        Some(member)
    }

    /// The member under an instance name.
    pub(super) fn by_instance(&self, instance: &str) -> Option<&Member> {
        self.statics.get(instance).and_then(|id| self.members.get(id))
    }

    /// The names that a member subscribes to, as far as they are known.
    pub(super) fn names_of<'a>(&'a self, says: &'a Subscription) -> impl Iterator<Item = &'a str> {
        let matched = says.regex.as_ref().and_then(|regex| self.regexes.get(regex));
        let matched = matched.into_iter().flat_map(|value| &value.topics);
        says.topics.iter().chain(matched).map(String::as_str)
    }

    /// All names that somebody subscribes to.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.members.values().flat_map(|member| self.names_of(&member.says)).collect()
    }

    /// Whether somebody subscribes to a topic.
    pub(crate) fn subscribes_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| self.names_of(&member.says).any(|name| name == topic))
    }

    /// Whether offsets may be committed by this caller.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `UNSUPPORTED_VERSION`, and `STALE_MEMBER_EPOCH` for another epoch than the member's, unless the
    /// member has had each of the partitions since then (KIP-1251); `ILLEGAL_GENERATION` for another one than that of a member
    /// that follows the classic protocol.
    pub(in crate::groups) fn may_commit(&self, commit: &Commit) -> Result<(), ResponseError> {
        let said = commit.caller.generation;
        if said < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(&commit.caller.member_id);
        let member = member.ok_or(ResponseError::UnknownMemberId)?;
        if !member.is_classic() && !commit.tells_epoch {
            return Err(ResponseError::UnsupportedVersion);
        }
        let had_since_then = commit.offsets.iter().all(|(_, partition, value)| {
            let since = member.current.since(&value.topic_id, *partition);
            since.is_some_and(|since| since <= said)
        });
        let is_late = !member.is_classic() && said < member.current.epoch;
        if said == member.current.epoch || (is_late && had_since_then) {
            return Ok(());
        }
        Err(stale(member))
    }

    /// Whether a member may see what is committed.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `STALE_MEMBER_EPOCH`.
    pub(crate) fn may_fetch(&self, member: Option<&str>, epoch: i32) -> Result<(), ResponseError> {
        if member.is_none() && epoch < 0 {
            return Ok(());
        }
        let known = member.and_then(|id| self.members.get(id));
        let known = known.ok_or(ResponseError::UnknownMemberId)?;
        if known.current.epoch == epoch { Ok(()) } else { Err(stale(known)) }
    }

    /// When the group has to be looked at next.
    pub(in crate::groups) fn next_deadline(&self) -> Option<u64> {
        if self.turning {
            return None;
        }
        let of = |member: &Member| match member.rebalance_deadline {
            Some(at) => at.min(member.deadline),
            None => member.deadline,
        };
        self.members.values().map(of).min()
    }

    /// The assignor that most members ask for; of equals the first.
    pub(super) fn assignor(&self, limits: &ConsumerLimits) -> super::Assignor {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for asked in self.members.values().filter_map(|m| m.says.assignor.as_deref()) {
            *votes.entry(asked).or_default() += 1;
        }
        let most = votes.iter().max_by_key(|(_, count)| **count).map(|(name, _)| *name);
        most.and_then(super::Assignor::find).unwrap_or(limits.assignor)
    }

    /// The name of the assignor in use.
    pub(crate) fn assignor_name(&self, limits: &ConsumerLimits) -> &'static str {
        self.assignor(limits).name()
    }

    /// Whether a static member is away and may come back.
    pub(super) fn is_away(member: &Member) -> bool {
        member.current.epoch == AWAY
    }
}

fn stale(member: &Member) -> ResponseError {
    match member.is_classic() {
        true => ResponseError::IllegalGeneration,
        false => ResponseError::StaleMemberEpoch,
    }
}
