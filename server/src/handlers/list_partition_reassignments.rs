//! ListPartitionReassignments (46), version 0: the partitions that are moving (KIP-455).

use std::collections::BTreeMap;

use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::metadata::ids;
use crate::broker::Broker;
use crate::controller::{Topic, TopicPartition};
use crate::dispatch::Call;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let asked: Option<BTreeMap<String, Vec<i32>>> = request.topics.map(|topics| {
        topics.into_iter().map(|t| (t.name.to_string(), t.partition_indexes)).collect()
    });
    let image = broker.controller.image();
    let mut topics = Vec::new();
    for topic in image.topics() {
        let wanted = match &asked {
            None => None,
            Some(asked) => match asked.get(&topic.name) {
                Some(partitions) => Some(partitions.as_slice()),
                None => continue,
            },
        };
        let partitions = moving(topic, wanted);
        if !partitions.is_empty() {
            let name = TopicName(StrBytes::from_string(topic.name.clone()));
            let entry = OngoingTopicReassignment::default().with_name(name);
            topics.push(entry.with_partitions(partitions));
        }
    }
    ListPartitionReassignmentsResponse::default().with_error_message(None).with_topics(topics)
}

fn moving(topic: &Topic, wanted: Option<&[i32]>) -> Vec<OngoingPartitionReassignment> {
    let numbered = (0..).zip(&topic.partitions);
    let asked = numbered.filter(|(index, _)| wanted.is_none_or(|wanted| wanted.contains(index)));
    asked
        .filter(|(_, placed)| placed.is_moving())
        .map(|(index, placed)| entry(index, placed))
        .collect()
}

/// As Kafka tells it: the replicas are those of the target and behind them those that go.
fn entry(index: i32, placed: &TopicPartition) -> OngoingPartitionReassignment {
    let adding = placed.target.iter().filter(|id| !placed.brokers.contains(id)).copied();
    let given_up = placed.leaving.iter().map(|(broker, _)| *broker);
    let mut removing: Vec<i32> = Vec::new();
    for id in placed.brokers.iter().copied().chain(given_up) {
        if !placed.target.contains(&id) && !removing.contains(&id) {
            removing.push(id);
        }
    }
    OngoingPartitionReassignment::default()
        .with_partition_index(index)
        .with_replicas(ids(placed.target.iter().copied().chain(removing.iter().copied())))
        .with_adding_replicas(ids(adding))
        .with_removing_replicas(ids(removing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_those_of_the_target_and_then_those_that_go() {
        let placed = TopicPartition {
            brokers: vec![1, 2],
            target: vec![2, 3],
            leaving: vec![(4, 1)],
            ..TopicPartition::default()
        };
        let entry = entry(5, &placed);
        assert_eq!(entry.replicas, ids([2, 3, 1, 4]));
        assert_eq!(entry.adding_replicas, ids([3]));
        assert_eq!(entry.removing_replicas, ids([1, 4]));
    }
}
