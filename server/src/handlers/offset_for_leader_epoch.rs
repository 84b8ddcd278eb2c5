//! OffsetForLeaderEpoch (23), versions 2 to 4: where an epoch ends, so that a client notices that
//! records it has read were replaced (KIP-101, KIP-320).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::broker::{Broker, Lookup};
use crate::controller::Topic;
use crate::dispatch::Call;
use crate::error::partition_code;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|asked| {
        let topic = broker.topic(&asked.topic);
        let partitions = asked.partitions.iter().map(|p| answer(broker, topic.as_deref(), p));
        OffsetForLeaderTopicResult::default()
            .with_topic(asked.topic.clone())
            .with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn answer(
    broker: &Broker,
    topic: Option<&Topic>,
    asked: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let result = EpochEndOffset::default()
        .with_partition(asked.partition)
        .with_leader_epoch(-1)
        .with_end_offset(-1);
    let found = topic.map(|topic| broker.partition(topic, asked.partition));
    let partition = match found {
        Some(Lookup::Here(partition)) => partition,
        Some(Lookup::Fenced) => {
            return result.with_error_code(ResponseError::KafkaStorageError.code());
        }
        Some(Lookup::Elsewhere) => {
            return result.with_error_code(ResponseError::NotLeaderOrFollower.code());
        }
        Some(Lookup::Unknown) | None => {
            return result.with_error_code(ResponseError::UnknownTopicOrPartition.code());
        }
    };
    if let Err(error) = partition.check_leader(asked.current_leader_epoch) {
        return result.with_error_code(partition_code(&error).code());
    }
    match partition.epoch_end(asked.leader_epoch) {
        Some(end) => result.with_leader_epoch(end.epoch).with_end_offset(end.end_offset.0),
        None => result,
    }
}
