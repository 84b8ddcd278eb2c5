//! DescribeProducers (61), version 0: the idempotent producers of partitions that this node leads (KIP-664).
//!
//! There are no transactions: no coordinator epoch, no open one.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};

use crate::broker::{Broker, Lookup};
use crate::controller::Topic;
use crate::dispatch::Call;
use crate::error::partition_code;
use crate::producers::Described;

/// The epoch of a client that does not say which one it knows.
const ANY_EPOCH: i32 = -1;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|asked| {
        let topic = broker.topic(&asked.name);
        let of = |index: &i32| match producers(broker, topic.as_deref(), *index) {
            Ok(known) => PartitionResponse::default()
                .with_partition_index(*index)
                .with_active_producers(known.into_iter().map(entry).collect()),
            Err(code) => PartitionResponse::default()
                .with_partition_index(*index)
                .with_error_code(code.code()),
        };
        let partitions = asked.partition_indexes.iter().map(of).collect();
        TopicResponse::default().with_name(asked.name).with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn producers(
    broker: &Broker,
    topic: Option<&Topic>,
    index: i32,
) -> Result<Vec<Described>, ResponseError> {
    match topic.map(|topic| broker.partition(topic, index)) {
        Some(Lookup::Here(partition)) => {
            partition.check_leader(ANY_EPOCH).map_err(|error| partition_code(&error))?;
            Ok(partition.described_producers())
        }
        Some(Lookup::Fenced) => Err(ResponseError::KafkaStorageError),
        Some(Lookup::Elsewhere) => Err(ResponseError::NotLeaderOrFollower),
        Some(Lookup::Unknown) | None => Err(ResponseError::UnknownTopicOrPartition),
    }
}

fn entry(producer: Described) -> ProducerState {
    ProducerState::default()
        .with_producer_id(producer.id.into())
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(-1)
}
