//! What a member asks of its coordinator: to join, to stay and to leave (KIP-62, KIP-345, KIP-394).
//!
//! Not here: the same in the consumer protocol (`heartbeat.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::watch;

use super::assignors::Member;
use super::heartbeat::Assignment;
use super::offsets::{Committer, Identity};
use super::protocol::{Partitions, Subscription, decode_assignment, encode_assignment, flat};
use super::{GroupConfig, GroupProtocol};
use crate::client::millis;
use crate::cluster::Scope;
use crate::{Error, ErrorCode, Result, TopicPartition};

/// The kind of group that consumers make.
const PROTOCOL_TYPE: StrBytes = StrBytes::from_static_str("consumer");

/// What a rebalance gave a member.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    pub(super) assigned: BTreeSet<TopicPartition>,
    /// Commits of the partitions it did not have before.
    pub(super) committed: BTreeMap<TopicPartition, i64>,
    /// How many partitions each topic had, if this member leads the group.
    pub(super) counts: Option<BTreeMap<String, i32>>,
    /// `assigned` as the coordinator of the consumer protocol has it.
    pub(super) held: Option<Assignment>,
}

/// What the heartbeat has to tell; what comes later counts.
#[derive(Debug, Clone)]
pub(super) enum Signal {
    /// The group waits for its members to join again.
    Rebalance,
    /// The coordinator wants the member to read these, and nothing else.
    Assigned(Assignment),
    /// The group has gone on without this member.
    Lost(Error),
    /// The coordinator does not take it as a member.
    Refused(Error),
}

/// A member's side of the conversation. Clones are the same member.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) committer: Committer,
    pub(super) config: Arc<GroupConfig>,
    pub(super) topics: Arc<BTreeSet<String>>,
    /// A regular expression for topics, instead of `topics`.
    pub(super) pattern: Option<Arc<str>>,
    pub(super) rack: Option<String>,
}

impl Link {
    /// Joins until it works or a refusal is final.
    pub(super) async fn join(self, owned: BTreeSet<TopicPartition>) -> Result<Joined> {
        let mut failures = 0;
        loop {
            let error = match self.join_once(&owned).await {
                Ok(joined) => return Ok(joined),
                Err(error) => error,
            };
            let coordinator = &self.committer.coordinator;
            let mut identity = self.committer.identity();
            match error.code() {
                // A broker's way to hand out an id before the member counts (KIP-394).
                Some(ErrorCode::MemberIdRequired | ErrorCode::RebalanceInProgress)
                    if failures < 3 =>
                {
                    failures += 1;
                    continue;
                }
                Some(ErrorCode::MemberIdRequired | ErrorCode::RebalanceInProgress) => {}
                Some(ErrorCode::UnknownMemberId) => identity.member.clear(),
                Some(ErrorCode::IllegalGeneration) => {}
                _ if error.is_retriable() => {}
                _ => return Err(error),
            }
            if error.code() != Some(ErrorCode::RebalanceInProgress) {
                identity.generation = -1;
                self.committer.become_member(identity);
            }
            coordinator.doubt(&error);
            failures += 1;
            tracing::debug!(group = coordinator.group, %error, "cannot join, will try again");
            tokio::time::sleep(coordinator.cluster.config.backoff(failures)).await;
        }
    }

    async fn join_once(&self, owned: &BTreeSet<TopicPartition>) -> Result<Joined> {
        let coordinator = &self.committer.coordinator;
        let answer = self.ask_to_join(owned).await?;
        let generation = answer.generation_id;
        let member = answer.member_id.to_string();
        let instance = self.config.instance_id.clone();
        self.committer.become_member(Identity { member: member.clone(), generation, instance });
        let leads = answer.leader.as_str() == member && !answer.skip_assignment;
        let (mut assignments, mut counts) = (BTreeMap::new(), None);
        if leads {
            let (assigned, known) = self.decide(&answer).await?;
            (assignments, counts) = (assigned, Some(known));
        }
        let given = assignments.iter().map(|(member, partitions)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(StrBytes::from_string(member.clone()))
                .with_assignment(encode_assignment(partitions))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(coordinator.group_id())
            .with_generation_id(generation)
            .with_member_id(StrBytes::from_string(member))
            .with_group_instance_id(self.instance())
            .with_protocol_type(Some(PROTOCOL_TYPE))
            .with_protocol_name(answer.protocol_name)
            .with_assignments(given.collect());
        let synced = coordinator.call(&request, self.config.rebalance_timeout).await?;
        coordinator.check(synced.error_code, "sync")?;
        let malformed = |reason| Error::malformed("an assignment", reason);
        let assigned = flat(&decode_assignment(&synced.assignment).map_err(malformed)?);
        let added: Vec<TopicPartition> = assigned.difference(owned).cloned().collect();
        let committed = self.committer.committed(&added).await?;
        Ok(Joined { assigned, committed, counts, held: None })
    }

    async fn ask_to_join(&self, owned: &BTreeSet<TopicPartition>) -> Result<JoinGroupResponse> {
        let coordinator = &self.committer.coordinator;
        let identity = self.committer.identity();
        let subscription = Subscription {
            topics: self.topics.iter().cloned().collect(),
            owned: by_topic(owned),
            generation: identity.generation,
            rack: self.rack.clone(),
        };
        let metadata = subscription.encode();
        let protocols = self.config.assignors.iter().map(|assignor| {
            JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str(assignor.name()))
                .with_metadata(metadata.clone())
        });
        let request = JoinGroupRequest::default()
            .with_group_id(coordinator.group_id())
            .with_session_timeout_ms(millis(self.config.session_timeout))
            .with_rebalance_timeout_ms(millis(self.config.rebalance_timeout))
            .with_member_id(StrBytes::from_string(identity.member.clone()))
            .with_group_instance_id(self.instance())
            .with_protocol_type(PROTOCOL_TYPE)
            .with_protocols(protocols.collect());
        let answer = coordinator.call(&request, self.config.rebalance_timeout).await?;
        if ErrorCode::try_from_code(answer.error_code) == Some(ErrorCode::MemberIdRequired) {
            let member = answer.member_id.to_string();
            self.committer.become_member(Identity { member, ..identity });
        }
        coordinator.check(answer.error_code, "join")?;
        Ok(answer)
    }

    fn instance(&self) -> Option<StrBytes> {
        self.config.instance_id.clone().map(StrBytes::from_string)
    }

    /// As the group's leader: who gets what.
    async fn decide(
        &self,
        answer: &JoinGroupResponse,
    ) -> Result<(BTreeMap<String, Partitions>, BTreeMap<String, i32>)> {
        let chosen = answer.protocol_name.as_deref().unwrap_or_default();
        let known = self.config.assignors.iter().find(|assignor| assignor.name() == chosen);
        let assignor = known.ok_or_else(|| {
            Error::malformed("a response", format!("assignor {chosen} is unknown"))
        })?;
        let mut members = Vec::new();
        for member in &answer.members {
            let subscription = Subscription::decode(&member.metadata)
                .map_err(|reason| Error::malformed("a member's subscription", reason))?;
            let instance = member.group_instance_id.as_ref().map(ToString::to_string);
            members.push(Member { id: member.member_id.to_string(), instance, subscription });
        }
        let topics = members.iter().flat_map(|member| member.subscription.topics.clone()).collect();
        let counts = self.counts(&topics).await?;
        Ok((assignor.assign(&members, &counts), counts))
    }

    /// How many partitions these topics have now; those that do not exist are missing.
    async fn counts(&self, topics: &BTreeSet<String>) -> Result<BTreeMap<String, i32>> {
        let cluster = &self.committer.coordinator.cluster;
        let mut counts = BTreeMap::new();
        for topic in topics {
            match cluster.refresh(Scope::Existing(topic)).await {
                Err(Error::UnknownTopic { .. }) => continue,
                done => done?,
            }
            if let Some(known) = cluster.cached(topic) {
                let count = i32::try_from(known.partitions.len()).unwrap_or(i32::MAX);
                counts.insert(topic.clone(), count);
            }
        }
        Ok(counts)
    }

    /// Tells the coordinator from time to time that the member is there, until it is not any more.
    pub(super) async fn beat(
        self,
        counts: Option<BTreeMap<String, i32>>,
        polled: Arc<Mutex<Instant>>,
        signals: watch::Sender<Option<Signal>>,
    ) {
        let age_max = self.committer.coordinator.cluster.config.metadata_age_max;
        let (mut answered, mut looked, mut told) = (Instant::now(), Instant::now(), false);
        loop {
            tokio::time::sleep(self.config.heartbeat_interval).await;
            if let Some(idle) = self.idle(&polled) {
                self.leave().await;
                let _ = signals.send(Some(idle));
                return;
            }
            match self.beat_once().await {
                Ok(()) => answered = Instant::now(),
                Err(error) if error.code() == Some(ErrorCode::RebalanceInProgress) => {
                    answered = Instant::now();
                    if !std::mem::replace(&mut told, true) {
                        let _ = signals.send(Some(Signal::Rebalance));
                    }
                }
                Err(error) => {
                    self.committer.coordinator.doubt(&error);
                    if !error.is_retriable() || answered.elapsed() > self.config.session_timeout {
                        let _ = signals.send(Some(Signal::Lost(error)));
                        return;
                    }
                }
            }
            if let Some(before) = counts.as_ref().filter(|_| !told && looked.elapsed() > age_max) {
                looked = Instant::now();
                let topics = before.keys().chain(&*self.topics).cloned().collect();
                if self.counts(&topics).await.is_ok_and(|now| now != *before) {
                    told = true;
                    let _ = signals.send(Some(Signal::Rebalance));
                }
            }
        }
    }

    /// Whether the application has not polled for too long.
    pub(super) fn idle(&self, polled: &Mutex<Instant>) -> Option<Signal> {
        let after = polled.lock().expect("nobody panics with this lock").elapsed();
        let what = "the next poll, so the member left its group";
        let is_idle = after > self.config.rebalance_timeout;
        is_idle.then_some(Signal::Lost(Error::Timeout { what, after }))
    }

    async fn beat_once(&self) -> Result<()> {
        let identity = self.committer.identity();
        let request = HeartbeatRequest::default()
            .with_group_id(self.committer.coordinator.group_id())
            .with_generation_id(identity.generation)
            .with_member_id(StrBytes::from_string(identity.member))
            .with_group_instance_id(self.instance());
        let answer = self.committer.coordinator.call(&request, Duration::ZERO).await?;
        self.committer.coordinator.check(answer.error_code, "heartbeat")
    }

    /// Leaves the group, so that the others need not wait. A static member of a classic group stays until its session ends.
    pub(super) async fn leave(&self) {
        let identity = self.committer.identity();
        self.committer.become_member(Identity::nobody(identity.instance.clone()));
        if identity.member.is_empty() {
            return;
        }
        if self.config.protocol == GroupProtocol::Consumer {
            return self.depart(identity.member).await;
        }
        if self.config.instance_id.is_some() {
            return;
        }
        let member = StrBytes::from_string(identity.member);
        let request = LeaveGroupRequest::default()
            .with_group_id(self.committer.coordinator.group_id())
            .with_members(vec![MemberIdentity::default().with_member_id(member)]);
        if let Err(error) = self.committer.coordinator.call(&request, Duration::ZERO).await {
            tracing::debug!(%error, "cannot leave the group; its session will end by itself");
        }
    }
}

fn by_topic(all: &BTreeSet<TopicPartition>) -> Partitions {
    let mut found = Partitions::new();
    for place in all {
        found.entry(place.topic.to_string()).or_default().push(place.partition);
    }
    found
}
