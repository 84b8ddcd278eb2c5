//! A member's side of the consumer protocol (KIP-848): one request by which it joins, stays, hears what it is to read,
//! says what it has, and leaves.
//!
//! ```text
//! join, epoch 0 ──► epoch n, assignment ──► names and commits looked up ──► adopted ──► "I have it", epoch n ──► ...
//! ```
//!
//! Invariants:
//! - What is said once is not said again, until an error leaves open whether it was heard.
//! - A member says that it has no partition any more only after what was read of it is committed.
//!
//! Not here: giving up and taking partitions (`rebalance.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::consumer_group_heartbeat_response::Assignment as Told;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, GroupId};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::watch;
use uuid::Uuid;

use super::GroupConfig;
use super::member::{Joined, Link, Signal};
use super::offsets::Identity;
use crate::client::{millis, topic_name};
use crate::cluster::Scope;
use crate::{Error, ErrorCode, Result, TopicPartition};

/// The epochs by which a member joins, leaves, and leaves for a while (a static one).
const JOIN: i32 = 0;
const LEAVE: i32 = -1;
const LEAVE_FOR_A_WHILE: i32 = -2;
/// The shortest time between heartbeats, whatever the broker says.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Partitions by the id of their topic.
pub(super) type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

/// What a member says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Says {
    pub(super) topics: Arc<BTreeSet<String>>,
    pub(super) pattern: Option<Arc<str>>,
    /// What it reads.
    pub(super) owned: Assignment,
}

/// What is assigned, and what the group has committed of what is new.
type Found = (BTreeSet<TopicPartition>, BTreeMap<TopicPartition, i64>);

/// What the coordinator answers.
struct Heard {
    interval: Duration,
    assignment: Option<Assignment>,
}

/// The heartbeat that tells what has changed since `before`; everything, if that is not known.
fn request(
    group: GroupId,
    config: &GroupConfig,
    rack: Option<&str>,
    identity: Identity,
    (says, before): (&Says, Option<&Says>),
) -> ConsumerGroupHeartbeatRequest {
    let joins = identity.generation <= JOIN;
    let before = before.filter(|_| !joins);
    let is_new = |is_same: fn(&Says, &Says) -> bool| before.is_none_or(|old| !is_same(says, old));
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let mut request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group)
        .with_member_id(StrBytes::from_string(identity.member))
        .with_member_epoch(identity.generation.max(JOIN))
        .with_instance_id(config.instance_id.as_deref().map(text));
    if before.is_none() {
        request = request
            .with_rack_id(rack.map(text))
            .with_rebalance_timeout_ms(millis(config.rebalance_timeout))
            .with_server_assignor(config.server_assignor.as_deref().map(text));
    } else {
        request = request.with_rebalance_timeout_ms(-1);
    }
    if is_new(|new, old| new.topics == old.topics) {
        let names = says.topics.iter().map(|topic| topic_name(topic));
        request = request.with_subscribed_topic_names(Some(names.collect()));
    }
    // No pattern any more is an empty one.
    let pattern = says.pattern.as_deref();
    if (before.is_none() && pattern.is_some())
        || before.is_some_and(|old| old.pattern != says.pattern)
    {
        request = request.with_subscribed_topic_regex(Some(text(pattern.unwrap_or_default())));
    }
    if is_new(|new, old| new.owned == old.owned) {
        let owned = says.owned.iter().map(|(topic, partitions)| {
            let partitions = partitions.iter().copied().collect();
            TopicPartitions::default().with_topic_id(*topic).with_partitions(partitions)
        });
        request = request.with_topic_partitions(Some(owned.collect()));
    }
    request
}

fn read(told: Told) -> Assignment {
    let mut all = Assignment::new();
    for topic in told.topic_partitions.into_iter().filter(|topic| !topic.partitions.is_empty()) {
        all.entry(topic.topic_id).or_default().extend(topic.partitions);
    }
    all
}

/// What an error means for the membership; nothing if the heartbeat is to be tried again.
fn fate(error: &Error) -> Option<Signal> {
    match error.code() {
        Some(
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId,
        ) => Some(Signal::Lost(error.clone())),
        // Permission may be given, as Kafka's own consumer hopes.
        Some(ErrorCode::TopicAuthorizationFailed) => None,
        _ if error.is_retriable() => None,
        _ => Some(Signal::Refused(error.clone())),
    }
}

impl Link {
    /// Is a member, until the coordinator does not want it any more.
    pub(super) async fn stay(
        self,
        mut says: watch::Receiver<Says>,
        polled: Arc<Mutex<Instant>>,
        signals: watch::Sender<Option<Signal>>,
    ) {
        let coordinator = &self.committer.coordinator;
        let (mut before, mut answered, mut failures) = (None, Instant::now(), 0);
        loop {
            let now = says.borrow_and_update().clone();
            let pause = match self.say(&now, before.as_ref()).await {
                Ok(heard) => {
                    (before, answered, failures) = (Some(now), Instant::now(), 0);
                    if let Some(assignment) = heard.assignment {
                        let _ = signals.send(Some(Signal::Assigned(assignment)));
                    }
                    heard.interval
                }
                Err(error) => {
                    coordinator.doubt(&error);
                    let is_over = || answered.elapsed() > self.config.session_timeout;
                    let lost = || is_over().then(|| Signal::Lost(error.clone()));
                    if let Some(signal) = fate(&error).or_else(lost) {
                        let _ = signals.send(Some(signal));
                        return;
                    }
                    tracing::debug!(group = coordinator.group, %error, "no heartbeat, will try again");
                    (before, failures) = (None, failures + 1);
                    coordinator.cluster.config.backoff(failures)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause.min(self.config.rebalance_timeout)) => {}
                changed = says.changed() => if changed.is_err() { return },
            }
            if let Some(idle) = self.idle(&polled) {
                self.leave().await;
                let _ = signals.send(Some(idle));
                return;
            }
        }
    }

    async fn say(&self, says: &Says, before: Option<&Says>) -> Result<Heard> {
        let coordinator = &self.committer.coordinator;
        let identity = self.committer.identity();
        let rack = self.rack.as_deref();
        let group = coordinator.group_id();
        let request = request(group, &self.config, rack, identity.clone(), (says, before));
        let answer = coordinator.call(&request, Duration::ZERO).await?;
        let message = answer.error_message.as_deref();
        coordinator.check_told(answer.error_code, message, "heartbeat")?;
        let member = answer.member_id.map_or(identity.member, |member| member.to_string());
        let generation = answer.member_epoch;
        self.committer.become_member(Identity { member, generation, instance: identity.instance });
        let interval = u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0);
        Ok(Heard {
            interval: Duration::from_millis(interval).max(INTERVAL_MIN),
            assignment: answer.assignment.map(read),
        })
    }

    /// Leaves the group; a static member for a while, in which its partitions are kept for it.
    pub(super) async fn depart(&self, member: String) {
        let away = self.config.instance_id.is_some();
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.committer.coordinator.group_id())
            .with_member_id(StrBytes::from_string(member))
            .with_instance_id(self.config.instance_id.clone().map(StrBytes::from_string))
            .with_rebalance_timeout_ms(-1)
            .with_member_epoch(if away { LEAVE_FOR_A_WHILE } else { LEAVE });
        if let Err(error) = self.committer.coordinator.call(&request, Duration::ZERO).await {
            tracing::debug!(%error, "cannot leave the group; its session will end by itself");
        }
    }

    /// Finds the names of what was assigned, and what the group has committed of what is new; tries until it works, or a
    /// refusal is final. A topic that nobody knows any more is soon missing in the next assignment, which is taken up
    /// instead.
    pub(super) async fn resolve(
        self,
        held: Assignment,
        owned: BTreeSet<TopicPartition>,
    ) -> Result<Joined> {
        let coordinator = &self.committer.coordinator;
        let mut failures = 0;
        loop {
            let unfinished = match self.find(&held, &owned).await {
                Ok(Some((assigned, committed))) => {
                    return Ok(Joined { assigned, committed, counts: None, held: Some(held) });
                }
                Ok(None) => None,
                Err(error) if error.is_retriable() => Some(error),
                Err(error) => return Err(error),
            };
            let group = &coordinator.group;
            tracing::debug!(group, error = ?unfinished, "cannot take partitions yet");
            failures += 1;
            tokio::time::sleep(coordinator.cluster.config.backoff(failures)).await;
        }
    }

    async fn find(
        &self,
        held: &Assignment,
        owned: &BTreeSet<TopicPartition>,
    ) -> Result<Option<Found>> {
        let Some(assigned) = self.names(held).await? else { return Ok(None) };
        let added: Vec<TopicPartition> = assigned.difference(owned).cloned().collect();
        let committed = self.committer.committed(&added).await?;
        Ok(Some((assigned, committed)))
    }

    /// The partitions by name; none while a topic is unknown.
    async fn names(&self, all: &Assignment) -> Result<Option<BTreeSet<TopicPartition>>> {
        let cluster = &self.committer.coordinator.cluster;
        let is_unknown = |id: &Uuid| cluster.name(*id).is_none();
        let unknown: Vec<Uuid> = all.keys().copied().filter(is_unknown).collect();
        if !unknown.is_empty() {
            cluster.refresh(Scope::Ids(&unknown)).await?;
        }
        let mut named = BTreeSet::new();
        for (id, partitions) in all {
            let Some(topic) = cluster.name(*id) else { return Ok(None) };
            named.extend(partitions.iter().map(|partition| TopicPartition {
                topic: Arc::clone(&topic),
                partition: *partition,
            }));
        }
        Ok(Some(named))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, GroupId};
    use kafka_protocol::protocol::StrBytes;
    use uuid::Uuid;

    use super::super::member::Signal;
    use super::super::offsets::Identity;
    use super::super::{GroupConfig, GroupProtocol};
    use super::{Assignment, Says, fate, request};
    use crate::{Error, ErrorCode};

    const TOPIC: Uuid = Uuid::from_u128(7);

    fn at(generation: i32) -> Identity {
        Identity { member: "m".into(), generation, instance: None }
    }

    fn says(topics: &[&str], pattern: Option<&str>, owned: &[i32]) -> Says {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let owned = match owned {
            [] => Assignment::new(),
            some => Assignment::from([(TOPIC, some.iter().copied().collect::<BTreeSet<_>>())]),
        };
        Says { topics: Arc::new(topics), pattern: pattern.map(Arc::from), owned }
    }

    fn beat(
        identity: Identity,
        now: &Says,
        before: Option<&Says>,
    ) -> ConsumerGroupHeartbeatRequest {
        let config = GroupConfig {
            protocol: GroupProtocol::Consumer,
            server_assignor: Some("range".into()),
            ..GroupConfig::new("g")
        };
        let group = GroupId(StrBytes::from_static_str("g"));
        request(group, &config, Some("east"), identity, (now, before))
    }

    #[test]
    fn whoever_joins_says_everything_and_has_nothing() {
        let now = says(&["t"], None, &[]);
        for generation in [-1, 0] {
            // Also what was said in an earlier life.
            let first = beat(at(generation), &now, Some(&now));
            assert_eq!((first.member_epoch, first.rebalance_timeout_ms), (0, 300_000));
            assert_eq!(first.topic_partitions, Some(vec![]));
            assert_eq!(first.subscribed_topic_names.unwrap()[0].as_str(), "t");
            assert_eq!(first.server_assignor.as_deref(), Some("range"));
            assert_eq!(first.rack_id.as_deref(), Some("east"));
            assert_eq!(first.subscribed_topic_regex, None);
        }
    }

    #[test]
    fn whoever_stays_says_only_what_is_new() {
        let now = says(&["t"], None, &[0, 3]);
        let same = beat(at(5), &now, Some(&now));
        assert_eq!((same.member_epoch, same.rebalance_timeout_ms), (5, -1));
        assert_eq!((same.subscribed_topic_names, same.topic_partitions), (None, None));
        assert_eq!((same.server_assignor, same.rack_id), (None, None));
        let gave_up = beat(at(5), &says(&["t"], None, &[3]), Some(&now));
        let left = gave_up.topic_partitions.unwrap();
        assert_eq!((left[0].topic_id, &left[0].partitions), (TOPIC, &vec![3]));
        assert_eq!(gave_up.subscribed_topic_names, None);
        let unsure = beat(at(5), &now, None);
        assert_eq!(unsure.topic_partitions.unwrap()[0].partitions, [0, 3]);
        assert_eq!((unsure.member_epoch, unsure.rebalance_timeout_ms), (5, 300_000));
    }

    #[test]
    fn a_pattern_takes_the_place_of_names_and_an_empty_one_takes_it_away() {
        let (names, pattern) = (says(&["t"], None, &[]), says(&[], Some("t.*"), &[]));
        let to_pattern = beat(at(5), &pattern, Some(&names));
        assert_eq!(to_pattern.subscribed_topic_regex.as_deref(), Some("t.*"));
        assert_eq!(to_pattern.subscribed_topic_names, Some(vec![]));
        let back = beat(at(5), &names, Some(&pattern));
        assert_eq!(back.subscribed_topic_regex.as_deref(), Some(""));
        assert_eq!(beat(at(5), &pattern, Some(&pattern)).subscribed_topic_regex, None);
    }

    #[test]
    fn a_member_that_is_not_known_any_more_has_lost_everything_and_a_refusal_is_told() {
        let of = |code: ErrorCode| fate(&Error::refused("heartbeat", code));
        for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
            assert!(matches!(of(code), Some(Signal::Lost(_))), "{code}");
        }
        for code in [ErrorCode::NotCoordinator, ErrorCode::CoordinatorLoadInProgress] {
            assert!(of(code).is_none(), "{code}");
        }
        for code in [ErrorCode::UnreleasedInstanceId, ErrorCode::InvalidRegularExpression] {
            assert!(matches!(of(code), Some(Signal::Refused(_))), "{code}");
        }
    }
}
