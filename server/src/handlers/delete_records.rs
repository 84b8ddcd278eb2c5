//! DeleteRecords (21), versions 0 to 2: moves the log start of partitions (KIP-107).
//!
//! An offset of -1 stands for the high watermark. An offset that is gone already moves nothing.

use std::time::Duration;

use jangbu_engine::Offset;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use tokio::time::Instant;

use crate::broker::{Broker, Lookup};
use crate::controller::Topic;
use crate::dispatch::Call;
use crate::error::partition_code;
use crate::groups::topic::is_internal;

/// Stands for the high watermark.
const ALL: i64 = -1;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = Instant::now() + timeout;
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = broker.topic(&asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let deleted = delete(broker, topic.as_deref(), partition, deadline).await;
            let result = DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index);
            partitions.push(match deleted {
                Ok(low_watermark) => result.with_low_watermark(low_watermark.0),
                Err(code) => result.with_low_watermark(-1).with_error_code(code.code()),
            });
        }
        topics.push(
            DeleteRecordsTopicResult::default().with_name(asked.name).with_partitions(partitions),
        );
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete(
    broker: &Broker,
    topic: Option<&Topic>,
    asked: &DeleteRecordsPartition,
    deadline: Instant,
) -> Result<Offset, ResponseError> {
    let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
    if is_internal(&topic.name) {
        return Err(ResponseError::InvalidTopicException);
    }
    let partition = match broker.partition(topic, asked.partition_index) {
        Lookup::Here(partition) => partition,
        Lookup::Fenced => return Err(ResponseError::KafkaStorageError),
        Lookup::Elsewhere => return Err(ResponseError::NotLeaderOrFollower),
        Lookup::Unknown => return Err(ResponseError::UnknownTopicOrPartition),
    };
    if !topic.settings.deletes_old_records {
        return Err(ResponseError::PolicyViolation);
    }
    let offset = match asked.offset {
        ALL => partition.bounds().high_watermark,
        offset => Offset(offset),
    };
    match tokio::time::timeout_at(deadline, partition.set_log_start(offset)).await {
        Ok(moved) => moved.map_err(|error| partition_code(&error)),
        Err(_) => Err(ResponseError::RequestTimedOut),
    }
}
