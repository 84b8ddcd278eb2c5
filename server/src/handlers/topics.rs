//! What several handlers need about topics: Kafka's rules for names, creating one and waiting for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use crate::broker::{Broker, Lookup};
use crate::controller::{self, NewTopic, Topic, place};

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

/// Replicas for partitions `first..first + count`, on the brokers there are.
pub(crate) fn assign(
    broker: &Broker,
    replication_factor: usize,
    first: usize,
    count: usize,
) -> Vec<Vec<i32>> {
    let brokers: Vec<i32> = broker.controller.image().brokers.keys().copied().collect();
    place(&brokers, replication_factor, first, count)
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
    let partitions = assign(broker, 1, 0, count);
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

/// Waits until all partitions of the topic that belong on this node run here and have leaders.
pub(crate) async fn wait_until_ready(broker: &Broker, id: Uuid) {
    let ready = async {
        let mut started = broker.replicas.changes();
        loop {
            let Some(topic) = broker.topic_by_id(id) else { return };
            let mut all_here = true;
            for index in 0..topic.partitions.len() {
                let index = i32::try_from(index).unwrap_or(i32::MAX);
                match broker.partition(&topic, index) {
                    Lookup::Here(partition) => {
                        partition.wait_for_leader(READY_TIMEOUT).await;
                    }
                    Lookup::Fenced => {}
                    Lookup::Elsewhere | Lookup::Unknown => all_here = false,
                }
            }
            if all_here || started.changed().await.is_err() {
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
