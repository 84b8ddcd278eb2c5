//! ConsumerGroupHeartbeat: joining, staying, being brought to one's share.
//!
//! Everything is checked before anything changes, so that what is refused leaves no trace.
//!
//! Not here: leaving (`leave.rs`), what the request says by itself (the handler).

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;

use super::group::{Context, Group};
use super::member::{Current, Member, Progress, Subscription};
use super::records::Piece;
use super::{Assignment, Heard, Refusal, is_subset};

/// How many times as often members are heard while something changes.
const SOONER: i32 = 5;
/// The shortest time between two heartbeats of a member.
const INTERVAL_MIN_MS: i32 = 500;

/// What a member says in a heartbeat; nothing where it is as before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beat {
    pub(crate) group: String,
    pub(crate) member_id: String,
    /// 0 to join, -1 to leave, -2 to leave for a while.
    pub(crate) epoch: i32,
    pub(crate) instance: Option<String>,
    pub(crate) rack: Option<String>,
    pub(crate) rebalance_timeout_ms: Option<i32>,
    pub(crate) topics: Option<BTreeSet<String>>,
    pub(crate) regex: Option<String>,
    pub(crate) assignor: Option<String>,
    /// What it has.
    pub(crate) owned: Option<Assignment>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
}

impl Beat {
    /// Whether everything is said, as when the member does not know what was heard of it.
    fn is_full(&self) -> bool {
        let subscribes = self.topics.is_some() || self.regex.is_some();
        self.epoch == 0
            || (self.rebalance_timeout_ms.is_some() && subscribes && self.owned.is_some())
    }

    /// What the member says now, where it said `before` before.
    fn says(&self, before: &Subscription) -> Subscription {
        let newer = |said: &Option<String>, before: &Option<String>| {
            said.clone().or_else(|| before.clone())
        };
        Subscription {
            instance: newer(&self.instance, &before.instance),
            rack: newer(&self.rack, &before.rack),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            topics: self.topics.clone().unwrap_or_else(|| before.topics.clone()),
            regex: newer(&self.regex, &before.regex).filter(|regex| !regex.is_empty()),
            rebalance_timeout_ms: self.rebalance_timeout_ms.unwrap_or(before.rebalance_timeout_ms),
            assignor: newer(&self.assignor, &before.assignor),
            classic: None,
        }
    }
}

impl Group {
    /// Takes a heartbeat of a member that stays or joins. The answer counts once what has changed is stored.
    ///
    /// # Errors
    /// `GROUP_MAX_SIZE_REACHED`, `UNKNOWN_MEMBER_ID`, `FENCED_MEMBER_EPOCH`, `UNRELEASED_INSTANCE_ID`, `FENCED_INSTANCE_ID`,
    /// `INVALID_REGULAR_EXPRESSION`.
    pub(in crate::groups) fn heartbeat(
        &mut self,
        beat: &Beat,
        context: &Context<'_>,
    ) -> Result<Heard, Refusal> {
        self.check_room(&beat.member_id, context)?;
        let replaced = self.check(beat)?;
        if let Some(regex) = beat.regex.as_deref().filter(|regex| !regex.is_empty()) {
            self.check_regex(regex, context.topics)?;
        }
        if let Some(old) = replaced {
            self.replace(&old, &beat.member_id);
        }
        let id = beat.member_id.as_str();
        let known = self.members.get(id).cloned();
        let before = known.as_ref().map(|member| member.says.clone()).unwrap_or_default();
        let had = known.as_ref().map(Member::assignment);
        let says = beat.says(&before);
        let resubscribed = says.topics != before.topics || says.regex != before.regex;
        if known.is_none() || says != before {
            self.change(Piece::Member(id.to_owned(), Some(says.clone())));
        }
        let mut member =
            known.unwrap_or_else(|| Member::new(id.to_owned(), says.clone(), Current::default()));
        member.says = says;
        member.heard(context.now.ms, context.session_timeout_ms(&self.id));
        self.advance(member, resubscribed, beat.owned.as_ref(), context);
        let member = self.members.get(id).ok_or(ResponseError::UnknownMemberId)?;
        let has = member.assignment();
        let is_told = beat.is_full() || had.as_ref() != Some(&has);
        Ok(Heard {
            member_id: id.to_owned(),
            epoch: member.current.epoch,
            interval_ms: self.interval_ms(member, context),
            assignment: is_told.then_some(has),
        })
    }

    /// When the member shall be heard again: sooner while what members have is changing, so that whoever has to give
    /// something up hears of it soon.
    fn interval_ms(&self, member: &Member, context: &Context<'_>) -> i32 {
        let calm = context.heartbeat_interval_ms(&self.id);
        let lasts = u64::try_from(calm).unwrap_or(0);
        let is_fresh = |at: u64| context.now.ms.saturating_sub(at) < lasts;
        let changes =
            member.current.progress != Progress::Stable || self.changed_at.is_some_and(is_fresh);
        if changes { (calm / SOONER).max(INTERVAL_MIN_MS).min(calm) } else { calm }
    }

    pub(super) fn check_room(&self, member: &str, context: &Context<'_>) -> Result<(), Refusal> {
        let most = context.limits().members_max;
        if self.members.len() >= most && !self.members.contains_key(member) {
            let text =
                format!("The consumer group has reached its maximum capacity of {most} members.");
            return Err(Refusal::new(ResponseError::GroupMaxSizeReached, text));
        }
        Ok(())
    }

    /// Checks who calls, with which epoch; the member whose place is taken, if one's is.
    fn check(&self, beat: &Beat) -> Result<Option<String>, Refusal> {
        let joins = beat.epoch == 0;
        let Some(instance) = &beat.instance else {
            match self.members.get(&beat.member_id) {
                Some(member) => check_epoch(member, beat)?,
                None if joins => {}
                None => return Err(self.unknown(&beat.member_id)),
            }
            return Ok(None);
        };
        let Some(known) = self.by_instance(instance) else {
            return if joins { Ok(None) } else { Err(unknown_instance(instance)) };
        };
        if joins {
            // Whoever follows the classic protocol may be replaced at any time, as there.
            if !Self::is_away(known) && !known.is_classic() {
                let text = format!(
                    "Static member {} with instance id {instance} cannot join the group because the instance id is owned by member {}.",
                    beat.member_id, known.id
                );
                return Err(Refusal::new(ResponseError::UnreleasedInstanceId, text));
            }
            return Ok(Some(known.id.clone()));
        }
        check_instance(known, &beat.member_id, instance)?;
        check_epoch(known, beat)?;
        Ok(None)
    }

    pub(super) fn unknown(&self, member: &str) -> Refusal {
        let text = format!("Member {member} is not a member of group {}.", self.id);
        Refusal::new(ResponseError::UnknownMemberId, text)
    }

    /// A static member comes back under another id, or the same: it has what it had, and begins at epoch 0.
    pub(super) fn replace(&mut self, old: &str, new: &str) {
        let target = self.targets.get(old).cloned().unwrap_or_default();
        let Some(before) = self.take_out(old) else { return };
        let current = Current { epoch: 0, previous_epoch: 0, ..before.current };
        self.change(Piece::Member(new.to_owned(), Some(before.says.clone())));
        self.change(Piece::Target(new.to_owned(), Some(target.clone())));
        self.change(Piece::Current(new.to_owned(), Some(current.clone())));
        self.targets.insert(new.to_owned(), target);
        self.insert(Member::new(new.to_owned(), before.says, current));
    }
}

pub(super) fn unknown_instance(instance: &str) -> Refusal {
    let text = format!("Instance id {instance} is unknown.");
    Refusal::new(ResponseError::UnknownMemberId, text)
}

pub(super) fn check_instance(known: &Member, member: &str, instance: &str) -> Result<(), Refusal> {
    if known.id == member {
        return Ok(());
    }
    let text = format!(
        "Static member {member} with instance id {instance} was fenced by member {}.",
        known.id
    );
    Err(Refusal::new(ResponseError::FencedInstanceId, text))
}

/// The epoch must be the member's, or the one before if the answer with the newer one may have been lost. Epoch 0 always
/// joins again.
fn check_epoch(member: &Member, beat: &Beat) -> Result<(), Refusal> {
    let current = &member.current;
    let is_lost = || {
        let fits = |owned| is_subset(owned, &current.assigned);
        beat.epoch == current.previous_epoch && beat.owned.as_ref().is_some_and(fits)
    };
    if beat.epoch == 0 || beat.epoch == current.epoch {
        return Ok(());
    }
    if beat.epoch < current.epoch && is_lost() {
        return Ok(());
    }
    let relation = if beat.epoch > current.epoch { "greater" } else { "smaller" };
    let text = format!(
        "The consumer group member has a {relation} member epoch ({}) than the one known by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
        beat.epoch, current.epoch
    );
    Err(Refusal::new(ResponseError::FencedMemberEpoch, text))
}
