//! Members of a consumer group that follow the classic protocol: JoinGroup, SyncGroup, Heartbeat and LeaveGroup against a group
//! whose coordinator shares out the partitions.
//!
//! ```text
//!   Heartbeat: REBALANCE_IN_PROGRESS ─> JoinGroup: what it has, and its epoch as the generation ─> SyncGroup: what it shall have
//!      ^ there is a newer epoch, something to give up, or what it waits for is free                             │
//!      └────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A member that rebalances eagerly has given up everything when it joins; a cooperative one says what it has, gives up what it
//! does not get any more, and joins again.
//!
//! Source: KIP-848; Kafka's `classicGroupJoinToConsumerGroup` and its like. Stricter than Kafka: somebody who is not known and says
//! that it has partitions has lost them, and is told so; else it would go on with what may be somebody else's.
//!
//! Not here: how such members come into a group that is there already (`migration.rs`).

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;

use super::group::{Context, Group};
use super::member::{ClassicSide, Current, Member, Progress, Subscription};
use super::records::Piece;
use super::{Assignment, Catalog};
use crate::groups::effects::{Joined, Synced};
use crate::groups::embedded;
use crate::groups::group::CONSUMER;
use crate::groups::{Caller, Join, Sync};

impl Group {
    /// Takes a join request, of somebody new or of a member that joins again. The answer counts once what has changed is stored.
    ///
    /// # Errors
    /// `GROUP_MAX_SIZE_REACHED`, `INCONSISTENT_GROUP_PROTOCOL`, `MEMBER_ID_REQUIRED`, `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`.
    pub(in crate::groups) fn join(
        &mut self,
        ask: &Join,
        context: &Context<'_>,
    ) -> Result<Joined, ResponseError> {
        let is_new = ask.member_id.is_empty();
        let id = if is_new { ask.new_id.as_str() } else { ask.member_id.as_str() };
        self.check_room(id, context).map_err(|refusal| refusal.code)?;
        let inconsistent = ResponseError::InconsistentGroupProtocol;
        let preferred = ask.protocols.first().filter(|_| self.supports(id, ask));
        let preferred = preferred.ok_or(inconsistent)?;
        let said = embedded::Subscription::decode(&preferred.metadata).ok_or(inconsistent)?;
        if is_new && ask.requires_id && ask.instance.is_none() {
            return Err(ResponseError::MemberIdRequired);
        }
        if let Some(old) = self.replaced(id, is_new, ask, &said)? {
            self.replace(&old, id);
        }
        let known = self.members.get(id).cloned();
        let before = known.as_ref().map(|member| member.says.clone()).unwrap_or_default();
        let owned = by_id(&said.owned, context.topics);
        let says = says(ask, said, &before);
        let resubscribed = says.topics != before.topics || says.regex != before.regex;
        if known.is_none() || says != before {
            self.change(Piece::Member(id.to_owned(), Some(says.clone())));
        }
        let mut member =
            known.unwrap_or_else(|| Member::new(id.to_owned(), says.clone(), Current::default()));
        member.says = says;
        member.heard(context.now.ms, ask.session_timeout_ms);
        // Until then it has to ask for its assignment.
        member.rebalance_deadline = None;
        member.await_rebalance(context.now);
        self.advance(member, resubscribed, Some(&owned), context);
        let epoch = self.members.get(id).map_or(0, |member| member.current.epoch);
        Ok(Joined {
            code: None,
            generation: epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: Some(preferred.name.clone()),
            // Nobody leads: the coordinator assigns.
            leader: String::new(),
            skip_assignment: false,
            member_id: id.to_owned(),
            members: Vec::new(),
        })
    }

    /// Whether somebody has a protocol that all others of the classic protocol support.
    fn supports(&self, id: &str, ask: &Join) -> bool {
        let others = self.members.values().filter(|member| member.id != id);
        let others: Vec<&ClassicSide> = others.filter_map(|m| m.says.classic.as_ref()).collect();
        let has = |side: &ClassicSide, name: &str| side.protocols.iter().any(|p| p.name == name);
        let is_common = |name: &str| others.iter().all(|side| has(side, name));
        ask.protocol_type == CONSUMER && ask.protocols.iter().any(|own| is_common(&own.name))
    }

    /// Checks who joins; the member whose place it takes, if one's is.
    fn replaced(
        &self,
        id: &str,
        is_new: bool,
        ask: &Join,
        said: &embedded::Subscription,
    ) -> Result<Option<String>, ResponseError> {
        let Some(instance) = &ask.instance else {
            return match self.members.get(id) {
                Some(member) if member.is_classic() && member.says.instance.is_none() => Ok(None),
                None if said.owned.values().all(|parts| parts.is_empty()) => Ok(None),
                _ => Err(ResponseError::UnknownMemberId),
            };
        };
        match self.by_instance(instance) {
            Some(known) if is_new => Ok(Some(known.id.clone())),
            Some(known) if known.id != id => Err(ResponseError::FencedInstanceId),
            None if !is_new => Err(ResponseError::UnknownMemberId),
            _ => Ok(None),
        }
    }

    /// What a member shall have as of its epoch.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`, `ILLEGAL_GENERATION`, `INCONSISTENT_GROUP_PROTOCOL`; `REBALANCE_IN_PROGRESS` when it
    /// has to join again.
    pub(in crate::groups) fn sync(
        &mut self,
        ask: &Sync,
        context: &Context<'_>,
    ) -> Result<Synced, ResponseError> {
        let (mut member, side) = self.classic_member(&ask.caller)?;
        let protocol = side.protocols.first().ok_or(ResponseError::InconsistentGroupProtocol)?;
        let differs =
            |given: &Option<String>, own: &str| given.as_deref().is_some_and(|g| g != own);
        if differs(&ask.protocol_type, CONSUMER) || differs(&ask.protocol, &protocol.name) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        let must_join =
            self.epoch > member.current.epoch && member.current.progress != Progress::Unrevoked;
        if must_join {
            member.await_rebalance(context.now);
            self.insert(member);
            return Err(ResponseError::RebalanceInProgress);
        }
        member.heard(context.now.ms, side.session_timeout_ms);
        member.rebalance_deadline = None;
        let assignment = assignment(&protocol.metadata, &member.assignment(), context.topics);
        self.insert(member);
        Ok(Synced {
            code: None,
            protocol_type: ask.protocol_type.clone(),
            protocol: ask.protocol.clone(),
            assignment,
        })
    }

    /// Hears a member.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`, `ILLEGAL_GENERATION`; `REBALANCE_IN_PROGRESS` when it has to join again.
    pub(in crate::groups) fn hear(
        &mut self,
        caller: &Caller,
        context: &Context<'_>,
    ) -> Result<(), ResponseError> {
        let (mut member, side) = self.classic_member(caller)?;
        self.maybe_bump(false, context);
        member.heard(context.now.ms, side.session_timeout_ms);
        let must_join = member.current.epoch < self.epoch
            || match member.current.progress {
                Progress::Unrevoked => true,
                Progress::Unreleased => !self.waits(&member),
                Progress::Stable | Progress::Unknown => false,
            };
        if must_join {
            member.await_rebalance(context.now);
        }
        self.insert(member);
        if must_join { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    /// Whether something that a member shall have is somebody else's.
    fn waits(&self, member: &Member) -> bool {
        let target = self.targets.get(&member.id).into_iter().flatten();
        let mut all = target.flat_map(|(topic, parts)| parts.iter().map(move |p| (topic, *p)));
        all.any(|(topic, partition)| !self.is_free(topic, partition, &member.id))
    }

    /// Takes out those who leave; what each is answered. An empty member id stands for whoever has the instance name, as
    /// administrators ask for it, whatever protocol that follows.
    pub(in crate::groups) fn let_go(
        &mut self,
        who: &[(String, Option<String>)],
        context: &Context<'_>,
    ) -> Vec<Result<(), ResponseError>> {
        let mut gone: Vec<String> = Vec::new();
        let mut leave = |(id, instance): &(String, Option<String>)| {
            let member = self.leaver(id, instance.as_deref())?;
            if gone.contains(&member.id) {
                return Err(ResponseError::UnknownMemberId);
            }
            gone.push(member.id.clone());
            Ok(())
        };
        let answers = who.iter().map(&mut leave).collect();
        self.remove(&gone, context);
        answers
    }

    fn leaver(&self, id: &str, instance: Option<&str>) -> Result<&Member, ResponseError> {
        let unknown = ResponseError::UnknownMemberId;
        if id.is_empty() {
            return instance.and_then(|name| self.by_instance(name)).ok_or(unknown);
        }
        self.who(id, instance)
    }

    /// The member that somebody says it is.
    fn who(&self, id: &str, instance: Option<&str>) -> Result<&Member, ResponseError> {
        let member = match instance {
            Some(name) => self.by_instance(name),
            None => self.members.get(id),
        };
        let member = member.ok_or(ResponseError::UnknownMemberId)?;
        if member.id != id {
            return Err(ResponseError::FencedInstanceId);
        }
        if member.is_classic() { Ok(member) } else { Err(ResponseError::UnknownMemberId) }
    }

    /// The member that calls, in its epoch.
    fn classic_member(&self, caller: &Caller) -> Result<(Member, ClassicSide), ResponseError> {
        let member = self.who(&caller.member_id, caller.instance.as_deref())?;
        let side = member.says.classic.clone().ok_or(ResponseError::UnknownMemberId)?;
        if caller.generation != member.current.epoch {
            return Err(ResponseError::IllegalGeneration);
        }
        Ok((member.clone(), side))
    }
}

/// What a member says of itself with its request to join.
fn says(ask: &Join, said: embedded::Subscription, before: &Subscription) -> Subscription {
    Subscription {
        instance: ask.instance.clone().or_else(|| before.instance.clone()),
        rack: said.rack.or_else(|| before.rack.clone()),
        client_id: ask.client_id.clone(),
        client_host: ask.client_host.clone(),
        topics: said.topics,
        regex: None,
        rebalance_timeout_ms: ask.rebalance_timeout_ms,
        assignor: before.assignor.clone(),
        classic: Some(ClassicSide {
            session_timeout_ms: ask.session_timeout_ms,
            protocols: ask.protocols.clone(),
        }),
    }
}

/// Partitions by the ids of those topics that exist.
pub(super) fn by_id(
    named: &BTreeMap<String, std::collections::BTreeSet<i32>>,
    topics: &Catalog,
) -> Assignment {
    let mut all = Assignment::new();
    for (name, parts) in named {
        for id in topics.ids(std::iter::once(name.as_str())) {
            all.entry(id).or_default().extend(parts);
        }
    }
    all
}

/// An assignment as a member with this subscription reads it, without topics that are no more.
pub(super) fn assignment(
    subscription: &[u8],
    partitions: &Assignment,
    topics: &Catalog,
) -> bytes::Bytes {
    let named = partitions.iter().filter_map(|(id, parts)| Some((topics.name(*id)?, parts)));
    embedded::assignment(subscription, named)
}
