//! What several handlers need about topics: Kafka's rules for names, creating one and waiting for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use crate::broker::{Broker, Lookup};
use crate::controller::{self, Candidate, NewTopic, Topic, TopicPartition, candidates, place};

/// As in Kafka: the name is part of file and metric names there.
const NAME_BYTES_MAX: usize = 249;
/// A topic may not have more partitions than this on one node: each is a Raft group.
pub(crate) const PARTITIONS_MAX: u32 = 10_000;
/// How long a request waits at most for new partitions to have leaders.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a topic cannot be created, as Kafka answers it.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: ResponseError,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<controller::Error> for Refusal {
    fn from(error: controller::Error) -> Self {
        Self::new(crate::error::controller_code(&error), error.to_string())
    }
}

/// Whether `name` is one that Kafka allows.
pub(crate) fn is_valid_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !matches!(name, "" | "." | "..") && name.len() <= NAME_BYTES_MAX && name.bytes().all(allowed)
}

/// Checks a new topic's name, alone and against the topics that exist: `.` and `_` are one in
/// Kafka's metrics, so names that differ only in them are refused.
///
/// # Errors
/// INVALID_TOPIC_EXCEPTION, TOPIC_ALREADY_EXISTS.
pub(crate) fn check_name(broker: &Broker, name: &str) -> Result<(), Refusal> {
    if !is_valid_name(name) {
        let rule = format!(
            "topic name '{name}' is not allowed: 1 to {NAME_BYTES_MAX} of the characters a-z, A-Z, \
             0-9, '.', '_' and '-', and not '.' or '..'"
        );
        return Err(Refusal::new(ResponseError::InvalidTopicException, rule));
    }
    let image = broker.controller.image();
    if image.topic(name).is_some() {
        let text = format!("Topic '{name}' already exists.");
        return Err(Refusal::new(ResponseError::TopicAlreadyExists, text));
    }
    let folded = name.replace('.', "_");
    if name.contains(['.', '_'])
        && let Some(other) = image.topics().find(|t| t.name.replace('.', "_") == folded)
    {
        let text = format!("Topic '{name}' collides with existing topic: {}", other.name);
        return Err(Refusal::new(ResponseError::InvalidTopicException, text));
    }
    Ok(())
}

/// Replicas of a topic that is created without saying how many: as configured, or one on each live broker that is not
/// being emptied if there are fewer of those.
pub(crate) fn default_replication_factor(broker: &Broker) -> usize {
    let live = broker.live_brokers().iter().filter(|live| !live.draining).count();
    usize::try_from(broker.config.default_replication_factor).unwrap_or(1).clamp(1, live.max(1))
}

/// Replicas for `count` more partitions of a topic that has `existing` ones.
///
/// # Errors
/// INVALID_REPLICATION_FACTOR when there are too few brokers, or too few of them are alive for a majority.
pub(crate) fn assign(
    broker: &Broker,
    replication_factor: usize,
    existing: &[TopicPartition],
    count: usize,
) -> Result<Vec<Vec<i32>>, Refusal> {
    let candidates = candidates(&broker.controller.image());
    check_factor(&candidates, replication_factor)?;
    let existing: Vec<Vec<i32>> = existing.iter().map(|p| p.brokers.clone()).collect();
    Ok(place(&candidates, &existing, replication_factor, count))
}

fn check_factor(candidates: &[Candidate], replication_factor: usize) -> Result<(), Refusal> {
    let refuse = |why: String| {
        let text = format!("Unable to replicate the partition {replication_factor} time(s): {why}");
        Refusal::new(ResponseError::InvalidReplicationFactor, text)
    };
    let usable = candidates.iter().filter(|candidate| candidate.usable).count();
    if usable == 0 {
        return Err(refuse("All brokers are currently fenced.".to_owned()));
    }
    if replication_factor > candidates.len() {
        return Err(refuse(format!(
            "The target replication factor of {replication_factor} cannot be reached because only {} broker(s) are \
             registered.",
            candidates.len()
        )));
    }
    // Unlike Kafka's, a partition needs a majority of its replicas to begin.
    if usable <= replication_factor / 2 {
        return Err(refuse(format!(
            "a majority of its replicas must be on live brokers, and only {usable} broker(s) are alive."
        )));
    }
    Ok(())
}

/// Checks lists of brokers that a client has chosen, one a partition; `replication_factor` is that of partitions
/// that exist.
///
/// # Errors
/// INVALID_REPLICA_ASSIGNMENT with Kafka's text.
pub(crate) fn check_assignments(
    broker: &Broker,
    lists: &[Vec<i32>],
    replication_factor: Option<usize>,
) -> Result<(), Refusal> {
    let candidates = candidates(&broker.controller.image());
    check_lists(&candidates, lists, replication_factor)
        .map_err(|text| Refusal::new(ResponseError::InvalidReplicaAssignment, text))
}

fn check_lists(
    candidates: &[Candidate],
    lists: &[Vec<i32>],
    replication_factor: Option<usize>,
) -> Result<(), String> {
    let of = "The manual partition assignment includes";
    let mut expected = replication_factor;
    for list in lists {
        let Some(first) = list.first() else { return Err(format!("{of} an empty replica list.")) };
        let mut sorted = list.clone();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("{of} the broker {} more than once.", pair[0]));
        }
        let known = |id: &i32| candidates.iter().find(|candidate| candidate.id == *id);
        if let Some(missing) = sorted.iter().find(|id| known(id).is_none()) {
            return Err(format!("{of} broker {missing}, but no such broker is registered."));
        }
        match expected {
            Some(expected) if expected != list.len() => {
                return Err(format!(
                    "{of} a partition with {} replica(s), but this is not consistent with previous partitions, which \
                     have {expected} replica(s).",
                    list.len()
                ));
            }
            _ => expected = Some(list.len()),
        }
        let usable = list.iter().filter(|id| known(id).is_some_and(|c| c.usable)).count();
        if usable <= list.len() / 2 {
            return Err(format!(
                "{of} the brokers {list:?} for a partition that prefers {first} as leader, but only {usable} of them \
                 are alive and not draining; a majority must be."
            ));
        }
    }
    Ok(())
}

/// Creates a topic and waits until its partitions here have leaders.
///
/// # Errors
/// As the controller answers. A topic whose partitions are not ready in time exists all the same.
pub(crate) async fn create(
    broker: &Broker,
    name: String,
    partitions: Vec<Vec<i32>>,
    configs: BTreeMap<String, String>,
) -> Result<Uuid, Refusal> {
    let full = |text| Refusal::new(ResponseError::KafkaStorageError, text);
    broker.disk.admit(0).map_err(full)?;
    let id = broker.controller.create_topic(NewTopic { name, partitions, configs }).await?;
    wait_until_ready(broker, id).await;
    Ok(id)
}

/// Creates a missing topic because a client asked for it, as `auto.create.topics.enable` says.
///
/// # Errors
/// Of the name, or as the controller answers.
pub(crate) async fn auto_create(broker: &Broker, name: &str) -> Result<Arc<Topic>, Refusal> {
    check_name(broker, name)?;
    let count = usize::try_from(broker.config.num_partitions).unwrap_or(1);
    let partitions = assign(broker, default_replication_factor(broker), &[], count)?;
    match create(broker, name.to_owned(), partitions, BTreeMap::new()).await {
        Ok(_) => {}
        // Somebody else was faster.
        Err(refusal) if refusal.code == ResponseError::TopicAlreadyExists => {}
        Err(refusal) => return Err(refusal),
    }
    let missing = || {
        let code = ResponseError::UnknownTopicOrPartition;
        Refusal::new(code, "the topic was deleted at the same time")
    };
    broker.topic(name).ok_or_else(missing)
}

/// Waits until all partitions of the topic have leaders; those that run here run, and the others' are reported.
pub(crate) async fn wait_until_ready(broker: &Broker, id: Uuid) {
    let ready = async {
        let (mut started, mut image) = (broker.replicas.changes(), broker.controller.changes());
        loop {
            let Some(topic) = broker.topic_by_id(id) else { return };
            let mut all_led = true;
            for (index, placed) in topic.partitions.iter().enumerate() {
                match broker.partition(&topic, i32::try_from(index).unwrap_or(i32::MAX)) {
                    Lookup::Here(partition) => {
                        partition.wait_for_leader(READY_TIMEOUT).await;
                    }
                    Lookup::Fenced => {}
                    Lookup::Elsewhere | Lookup::Unknown => {
                        let here = placed.replica_of(broker.id()).is_some();
                        all_led &= !here && broker.leader_of(placed.group).is_some();
                    }
                }
            }
            let stopped = tokio::select! {
                () = std::future::ready(()), if all_led => return,
                changed = started.changed() => changed.is_err(),
                changed = image.changed() => changed.is_err(),
            };
            if stopped {
                return;
            }
        }
    };
    if tokio::time::timeout(READY_TIMEOUT, ready).await.is_err() {
        tracing::warn!(topic = %id, "partitions are not ready after {READY_TIMEOUT:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(usable: &[bool]) -> Vec<Candidate> {
        let candidate =
            |(id, usable): (i32, &bool)| Candidate { id, usable: *usable, ..Candidate::default() };
        (1..).zip(usable).map(candidate).collect()
    }

    #[test]
    fn a_factor_needs_as_many_brokers_and_a_majority_that_lives() {
        let refused = |usable: &[bool], factor| {
            check_factor(&brokers(usable), factor).err().map(|refusal| refusal.message)
        };
        assert_eq!(refused(&[true, true, false], 3), None);
        assert_eq!(
            refused(&[true], 3).unwrap(),
            "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached because \
             only 1 broker(s) are registered."
        );
        assert!(refused(&[true, false, false], 3).unwrap().contains("only 1 broker(s) are alive"));
        assert!(refused(&[false], 1).unwrap().contains("All brokers are currently fenced."));
    }

    #[test]
    fn chosen_brokers_are_known_distinct_even_and_mostly_alive() {
        let brokers = brokers(&[true, true, false]);
        let refused = |lists: &[&[i32]], factor| {
            let lists: Vec<Vec<i32>> = lists.iter().map(|list| list.to_vec()).collect();
            check_lists(&brokers, &lists, factor).err()
        };
        assert_eq!(refused(&[&[1, 2, 3], &[3, 1, 2]], None), None);
        let of = "The manual partition assignment includes";
        for (lists, factor, text) in [
            (&[&[][..]][..], None, format!("{of} an empty replica list.")),
            (&[&[2, 9]], None, format!("{of} broker 9, but no such broker is registered.")),
            (&[&[2, 1, 2]], None, format!("{of} the broker 2 more than once.")),
            (
                &[&[1], &[1, 2]],
                None,
                format!(
                    "{of} a partition with 2 replica(s), but this is not consistent with previous partitions, which have 1 \
                     replica(s)."
                ),
            ),
        ] {
            assert_eq!(refused(lists, factor).as_ref(), Some(&text));
        }
        assert!(refused(&[&[1, 2]], Some(1)).is_some(), "the topic has one replica each");
        assert!(refused(&[&[2, 3]], None).unwrap().contains("only 1 of them are alive"));
    }

    #[test]
    fn names_follow_kafkas_rules() {
        for name in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert!(is_valid_name(name), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
            assert!(!is_valid_name(name), "{name}");
        }
    }
}
