//! DescribeTopicPartitions (75), version 0: partitions of topics, page by page (KIP-966).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition as Partition,
    DescribeTopicPartitionsResponseTopic as TopicEntry,
};
use kafka_protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::metadata::{TOPIC_OPERATIONS, ids, leader};
use super::topics::is_valid_name;
use crate::broker::Broker;
use crate::controller::Topic;
use crate::dispatch::Call;

/// Partitions in one answer at most, as Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: i32 = 2000;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let mut names: Vec<String> = request.topics.iter().map(|t| t.name.to_string()).collect();
    if names.is_empty() {
        names = broker.controller.image().topics().map(|t| t.name.clone()).collect();
    }
    names.sort();
    names.dedup();
    let (first_topic, mut first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.to_string(), cursor.partition_index.max(0)),
        None => (String::new(), 0),
    };
    let mut left = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.into_iter().filter(|name| *name >= first_topic) {
        let start = if name == first_topic { std::mem::take(&mut first_partition) } else { 0 };
        let topic = broker.topic(&name);
        let count = topic.as_ref().map_or(0, |t| i32::try_from(t.partitions.len()).unwrap_or(0));
        if left == 0 {
            response.next_cursor = Some(cursor(&name, start));
            break;
        }
        let end = count.min(start.saturating_add(left));
        response.topics.push(entry(broker, &name, topic, start..end));
        left -= (end - start).max(0);
        if end < count {
            response.next_cursor = Some(cursor(&name, end));
            break;
        }
    }
    response
}

fn cursor(name: &str, partition: i32) -> Cursor {
    Cursor::default().with_topic_name(topic_name(name)).with_partition_index(partition)
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn entry(
    broker: &Broker,
    name: &str,
    topic: Option<Arc<Topic>>,
    range: std::ops::Range<i32>,
) -> TopicEntry {
    let entry = TopicEntry::default().with_name(Some(topic_name(name)));
    let Some(topic) = topic else {
        let code = if is_valid_name(name) {
            ResponseError::UnknownTopicOrPartition
        } else {
            ResponseError::InvalidTopicException
        };
        return entry.with_error_code(code.code());
    };
    entry
        .with_topic_id(topic.id)
        .with_is_internal(crate::groups::topic::is_internal(&topic.name))
        .with_partitions(range.map(|index| partition(broker, &topic, index)).collect())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn partition(broker: &Broker, topic: &Topic, index: i32) -> Partition {
    let entry = Partition::default().with_partition_index(index);
    let placed = usize::try_from(index).ok().and_then(|i| topic.partitions.get(i));
    let Some(placed) = placed else {
        return entry.with_error_code(ResponseError::UnknownTopicOrPartition.code());
    };
    let (code, leader, epoch) = leader(broker, placed);
    let replicas = broker.replicas_of(placed);
    entry
        .with_error_code(code)
        .with_leader_id(leader.into())
        .with_leader_epoch(epoch)
        .with_replica_nodes(ids(replicas.all))
        .with_isr_nodes(ids(replicas.in_sync))
        .with_offline_replicas(ids(replicas.offline))
        .with_eligible_leader_replicas(Some(vec![]))
        .with_last_known_elr(Some(vec![]))
}
