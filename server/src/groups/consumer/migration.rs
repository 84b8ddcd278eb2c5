//! A group with members changes its protocol: what it is as one of the other protocol (KIP-848).
//!
//! ```text
//!            the first member of the consumer protocol joins (UPGRADE)
//!   classic ──────────────────────────────────────────────────────────> consumer, with members that follow the classic protocol
//!      ^                                                                        │
//!      └──── the last member of the consumer protocol has gone (DOWNGRADE) ─────┘
//! ```
//!
//! Invariants:
//! - The epoch begins as the generation was, and the generation as the epoch was: both only grow.
//! - Members have what they had. Those of a classic group with one of another generation than the group's epoch are fenced.
//!
//! Not here: when it happens, and storing it (`hosting.rs`); members of the classic protocol in a consumer group (`classic.rs`).

use kafka_protocol::ResponseError;

use super::classic::{assignment, by_id};
use super::group::{Context, Group};
use super::member::{ClassicSide, Current, Member, Subscription};
use super::{Assignment, Owned, Refusal};
use crate::groups::embedded::{self, Assigned};
use crate::groups::group::{CONSUMER, Group as Classic, State};
use crate::groups::member::Member as ClassicMember;

/// `group.consumer.migration.policy`: which way groups that have members may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Policy {
    Disabled,
    Upgrade,
    Downgrade,
    #[default]
    Bidirectional,
}

impl Policy {
    /// By its name in Kafka, in any case.
    pub(crate) fn find(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "DISABLED" => Some(Self::Disabled),
            "UPGRADE" => Some(Self::Upgrade),
            "DOWNGRADE" => Some(Self::Downgrade),
            "BIDIRECTIONAL" => Some(Self::Bidirectional),
            _ => None,
        }
    }

    fn upgrades(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    fn downgrades(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}

impl Group {
    /// A classic group with members as one of the consumer protocol, of which nothing is stored.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND` where the policy does not allow it, the group is too large, its members are no consumers, or what they say
    /// or have does not decode or comes of an assignor that tells members more than partitions.
    pub(super) fn of_classic(classic: &Classic, context: &Context<'_>) -> Result<Self, Refusal> {
        check_upgrade(classic, context)?;
        let mut group = Self::new(classic.id.clone());
        (group.epoch, group.target_epoch) = (classic.generation, classic.generation);
        group.target_made_ms = context.now.wall_ms;
        // Where one member was given what another one says it had before, it is the first one's.
        let (assigned, others): (Vec<_>, Vec<_>) =
            classic.members.values().partition(|member| !member.assignment.is_empty());
        for member in assigned.into_iter().chain(others) {
            let protocol = classic.protocol.as_deref().filter(|name| member.supports(name));
            let protocol = protocol.or(member.protocols.first().map(|p| p.name.as_str()));
            let metadata = member.metadata(protocol.unwrap_or_default());
            let said = embedded::Subscription::decode(&metadata);
            let said = said.ok_or_else(|| malformed(classic))?;
            let had = Assigned::decode(&member.assignment).ok_or_else(|| malformed(classic))?;
            if had.has_user_data {
                let why = "an unsupported custom assignor is in use.";
                return Err(refusal(classic, why));
            }
            // Between a rebalance that was broken off and the next one nobody is assigned anything, but whoever is cooperative goes
            // on with what it had when it joined.
            let is_unassigned = member.assignment.is_empty() && classic.state != State::Stable;
            let had = if is_unassigned { &said.owned } else { &had.partitions };
            let had = by_id(had, context.topics);
            let current = Current {
                epoch: group.epoch,
                previous_epoch: group.epoch,
                assigned: group.free(&had, &member.id),
                ..Current::default()
            };
            group.targets.insert(member.id.clone(), super::partitions(&current.assigned));
            let mut hosted = Member::new(member.id.clone(), says(member, said), current);
            hosted.heard(context.now.ms, member.session_timeout_ms);
            group.insert(hosted);
        }
        Ok(group)
    }

    /// Those of these partitions that nobody else has, as of the group's epoch: an assignor may have given one to two members.
    fn free(&self, had: &Assignment, id: &str) -> Owned {
        let mut free = Owned::new();
        for (topic, parts) in had {
            let parts = parts.iter().filter(|p| self.is_free(topic, **p, id));
            let parts: std::collections::BTreeMap<i32, i32> =
                parts.map(|p| (*p, self.epoch)).collect();
            if !parts.is_empty() {
                free.insert(*topic, parts);
            }
        }
        free
    }

    /// Whether nobody is left who follows the consumer protocol, and the group may be a classic one.
    pub(super) fn turns_classic(&self, context: &Context<'_>) -> bool {
        context.limits().migration.downgrades()
            && !self.too_large
            && !self.members.is_empty()
            && self.members.len() <= context.limits.members_max
            && self.members.values().all(Member::is_classic)
    }

    /// The group as a classic one: its members have what they were to have, and nobody leads, so that they share out anew.
    pub(super) fn to_classic(&self, context: &Context<'_>) -> Classic {
        let mut classic = Classic::new(self.id.clone());
        classic.protocol_type = Some(CONSUMER.to_owned());
        classic.generation = self.epoch;
        classic.enter(State::Stable, context.now);
        for (member, side) in
            self.members.values().filter_map(|m| Some((m, m.says.classic.as_ref()?)))
        {
            let mut classic_member = ClassicMember {
                id: member.id.clone(),
                instance: member.says.instance.clone(),
                client_id: member.says.client_id.clone(),
                client_host: member.says.client_host.clone(),
                session_timeout_ms: side.session_timeout_ms,
                rebalance_timeout_ms: member.says.rebalance_timeout_ms,
                protocols: side.protocols.clone(),
                assignment: bytes::Bytes::new(),
                joining: None,
                syncing: None,
                is_new: false,
                deadline: 0,
            };
            classic_member.heard(context.now.ms);
            classic.add(classic_member);
        }
        classic.leader = None;
        classic.protocol = classic.elect_protocol();
        classic.subscribe();
        let protocol = classic.protocol.clone().unwrap_or_default();
        for member in classic.members.values_mut() {
            let target = self.targets.get(&member.id).cloned().unwrap_or_default();
            member.assignment = assignment(&member.metadata(&protocol), &target, context.topics);
        }
        classic
    }
}

fn check_upgrade(classic: &Classic, context: &Context<'_>) -> Result<(), Refusal> {
    if !context.limits().migration.upgrades() {
        return Err(refusal(classic, "online upgrade is disabled."));
    }
    if classic.protocol_type.as_deref() != Some(CONSUMER) {
        return Err(refusal(classic, "the group does not use the consumer embedded protocol."));
    }
    if classic.members.len() > context.limits().members_max {
        return Err(refusal(classic, "the group size exceeds the consumer group maximum size."));
    }
    Ok(())
}

fn malformed(classic: &Classic) -> Refusal {
    refusal(classic, "the embedded consumer protocol is malformed.")
}

fn refusal(classic: &Classic, why: &str) -> Refusal {
    let text =
        format!("Cannot upgrade classic group {} to consumer group because {why}", classic.id);
    Refusal::new(ResponseError::GroupIdNotFound, text)
}

/// What a member of a classic group says of itself as one of a consumer group.
fn says(member: &ClassicMember, said: embedded::Subscription) -> Subscription {
    Subscription {
        instance: member.instance.clone(),
        rack: said.rack,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: said.topics,
        regex: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicSide {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    }
}
