//! The topic `__consumer_offsets`: which of its partitions a group belongs to, and creating it when it is first needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use crate::broker::Broker;
use crate::controller::{Topic, candidates};
use crate::handlers::topics;

/// Its name, as in Kafka.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// What it is created with: only the newest record of each key counts, whatever its age.
const CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("compression.type", "producer"),
    ("segment.bytes", "104857600"),
];

/// Topics of the broker's own, to which clients do not write.
pub(crate) fn is_internal(topic: &str) -> bool {
    matches!(topic, OFFSETS_TOPIC | "__transaction_state")
}

/// The partition that a group belongs to, as in Kafka: by Java's hash of its name.
pub(crate) fn partition_of(group: &str, partitions: usize) -> usize {
    let hash = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = group.encode_utf16().fold(0, hash);
    let positive = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    usize::try_from(positive).unwrap_or(0) % partitions.max(1)
}

/// The topic, created if there is none.
///
/// # Errors
/// `COORDINATOR_NOT_AVAILABLE` when it cannot be created now; clients ask again.
pub(crate) async fn find_or_create(broker: &Broker) -> Result<Arc<Topic>, ResponseError> {
    if let Some(topic) = broker.topic(OFFSETS_TOPIC) {
        return Ok(topic);
    }
    let later = ResponseError::CoordinatorNotAvailable;
    let Some((partitions, factor)) = shape(broker) else { return Err(later) };
    let assigned = topics::assign(broker, factor, &[], partitions).map_err(|refusal| {
        tracing::warn!(reason = refusal.message, "{OFFSETS_TOPIC} cannot be created yet");
        later
    })?;
    let configs: BTreeMap<String, String> =
        CONFIGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    match topics::create(broker, OFFSETS_TOPIC.to_owned(), assigned, configs).await {
        Ok(_) => tracing::info!(partitions, factor, "{OFFSETS_TOPIC} was created"),
        // Another one was faster.
        Err(refusal) if refusal.code == ResponseError::TopicAlreadyExists => {}
        Err(refusal) => {
            tracing::warn!(reason = refusal.message, "{OFFSETS_TOPIC} could not be created");
        }
    }
    broker.topic(OFFSETS_TOPIC).ok_or(later)
}

/// Partitions and replicas of the topic: as configured, with no more replicas than there are brokers. Nothing while brokers
/// that vote have not registered: a new cluster would keep too few replicas for ever.
fn shape(broker: &Broker) -> Option<(usize, usize)> {
    let voters = broker.controller.voters().len();
    let image = broker.controller.image();
    let number =
        |name: &str| image.own_configs().number::<i64>(name).and_then(|n| usize::try_from(n).ok());
    let partitions = number("offsets.topic.num.partitions").unwrap_or(50).clamp(1, 10_000);
    let wanted = number("offsets.topic.replication.factor").unwrap_or(3).max(1);
    let brokers = candidates(&image).len();
    (brokers >= wanted.min(voters)).then(|| (partitions, wanted.min(brokers)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_belongs_to_the_partition_that_kafka_would_choose() {
        // By Java's String.hashCode; that of the third is Integer.MIN_VALUE, and the last has a surrogate pair.
        for (group, partition) in [
            ("", 0),
            ("a", 47),
            ("polygenelubricants", 0),
            ("console-consumer-12345", 6),
            ("ä€😀", 1),
        ] {
            assert_eq!(partition_of(group, 50), partition, "{group}");
        }
    }
}
