//! Metadata (3), versions 0 to 13: brokers, topics, leaders; creates missing topics if asked to.
//!
//! Rules that clients depend on: null topics are all, an empty list is none (from version 1); a
//! leader that is named is among the brokers; LEADER_NOT_AVAILABLE while a partition has none, or only a dead one.

mod settled;

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::topics::{self, Refusal};
use crate::broker::{Broker, Leader};
use crate::controller::{Topic, TopicPartition};
use crate::dispatch::Call;
use crate::groups::topic::is_internal;

/// Everything that may be done with a topic, as a bit field (KIP-430). There are no ACLs yet.
pub(crate) const TOPIC_OPERATIONS: i32 = 0x0df8;
/// Everything that may be done with the cluster.
pub(crate) const CLUSTER_OPERATIONS: i32 = 0x1fa0;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: MetadataRequest,
) -> MetadataResponse {
    let may_create =
        (call.version < 4 || request.allow_auto_topic_creation) && broker.config.auto_create_topics;
    let topics: Vec<MetadataResponseTopic> = match request.topics {
        Some(asked) if !(asked.is_empty() && call.version == 0) => {
            let mut found = Vec::with_capacity(asked.len());
            for topic in asked {
                found.push(find(broker, call, topic, may_create).await);
            }
            let topics: Vec<_> = found.iter().flatten().cloned().collect();
            let lost = settled::lost_leaders(broker, &topics).await;
            let describe = |topic: Arc<Topic>| describe(broker, &topic, &lost);
            found.into_iter().map(|topic| topic.map_or_else(|refused| *refused, describe)).collect()
        }
        _ => {
            let topics: Vec<Arc<Topic>> = broker.controller.image().topics().cloned().collect();
            let lost = settled::lost_leaders(broker, &topics).await;
            topics.iter().map(|topic| describe(broker, topic, &lost)).collect()
        }
    };
    let with_operations = |topic: MetadataResponseTopic| {
        if request.include_topic_authorized_operations && topic.error_code == 0 {
            topic.with_topic_authorized_operations(TOPIC_OPERATIONS)
        } else {
            topic
        }
    };
    let topics = topics.into_iter().map(with_operations).collect();
    let cluster_id = broker.controller.image().cluster_id.clone();
    let response = MetadataResponse::default()
        .with_brokers(broker.listed_brokers().iter().map(broker_entry).collect())
        .with_cluster_id(Some(StrBytes::from_string(cluster_id)))
        .with_controller_id(broker.controller_id().into())
        .with_topics(topics);
    if request.include_cluster_authorized_operations {
        response.with_cluster_authorized_operations(CLUSTER_OPERATIONS)
    } else {
        response
    }
}

/// A broker's rack, if it has one.
pub(crate) fn rack(broker: &crate::controller::Broker) -> Option<StrBytes> {
    (!broker.rack.is_empty()).then(|| StrBytes::from_string(broker.rack.clone()))
}

/// Error code, leader id and leader epoch of a partition, as clients are told them.
pub(crate) fn leader(broker: &Broker, placed: &TopicPartition) -> (i16, i32, i32) {
    match broker.leader_of(placed.group) {
        Some(Leader { broker, epoch }) => (0, broker, epoch),
        None => no_leader(),
    }
}

fn no_leader() -> (i16, i32, i32) {
    (ResponseError::LeaderNotAvailable.code(), -1, -1)
}

/// Broker ids as a response holds them.
pub(crate) fn ids(brokers: impl IntoIterator<Item = i32>) -> Vec<BrokerId> {
    brokers.into_iter().map(BrokerId).collect()
}

fn broker_entry(broker: &crate::controller::Broker) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(broker.id.into())
        .with_host(StrBytes::from_string(broker.host.clone()))
        .with_port(i32::from(broker.port))
        .with_rack(rack(broker))
}

/// The topic that was asked for, or what is answered instead.
async fn find(
    broker: &Broker,
    call: &Call,
    asked: MetadataRequestTopic,
    may_create: bool,
) -> Result<Arc<Topic>, Box<MetadataResponseTopic>> {
    let refused =
        |code: ResponseError| MetadataResponseTopic::default().with_error_code(code.code());
    // Versions 10 and 11 carry the id field but must not use it (KIP-516). Java's consumer says an empty name with an id.
    if call.version >= 12 && (asked.name.is_none() || !asked.topic_id.is_nil()) {
        let unknown = || {
            let refused = refused(ResponseError::UnknownTopicId).with_name(None);
            Box::new(refused.with_topic_id(asked.topic_id))
        };
        return broker.topic_by_id(asked.topic_id).ok_or_else(unknown);
    }
    let Some(name) = asked.name else {
        return Err(Box::new(refused(ResponseError::InvalidTopicException)));
    };
    let found = match broker.topic(&name) {
        Some(topic) => Ok(topic),
        None if !topics::is_valid_name(&name) => {
            Err(Refusal::new(ResponseError::InvalidTopicException, ""))
        }
        None if may_create => topics::auto_create(broker, &name).await,
        None => Err(Refusal::new(ResponseError::UnknownTopicOrPartition, "")),
    };
    found.map_err(|refusal| Box::new(refused(refusal.code).with_name(Some(name))))
}

fn describe(broker: &Broker, topic: &Topic, lost: &BTreeSet<i32>) -> MetadataResponseTopic {
    let partitions =
        (0..topic.partitions.len()).map(|i| describe_partition(broker, topic, i, lost));
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(topic.id)
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions.collect())
}

fn describe_partition(
    broker: &Broker,
    topic: &Topic,
    index: usize,
    lost: &BTreeSet<i32>,
) -> MetadataResponsePartition {
    let placed = &topic.partitions[index];
    let index = i32::try_from(index).unwrap_or(i32::MAX);
    let (code, leader, epoch) = match leader(broker, placed) {
        (_, leader, _) if lost.contains(&leader) => no_leader(),
        leader => leader,
    };
    let replicas = broker.replicas_of(placed);
    MetadataResponsePartition::default()
        .with_error_code(code)
        .with_partition_index(index)
        .with_leader_id(leader.into())
        .with_leader_epoch(epoch)
        .with_replica_nodes(ids(replicas.all))
        .with_isr_nodes(ids(replicas.in_sync))
        .with_offline_replicas(ids(replicas.offline))
}
