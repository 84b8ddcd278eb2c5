//! ListOffsets (2), versions 0 to 11: the offset for a point in time, or for an end of the log.
//!
//! Timestamps below zero stand for positions: -1 latest, -2 earliest, -3 the record with the largest
//! timestamp (KIP-734), -4 earliest local (KIP-405), -5 latest tiered, -6 earliest not yet uploaded
//! (KIP-1023). Latest is linearizable: a deposed leader does not answer it.

use std::sync::Arc;

use bytes::BytesMut;
use jangbu_engine::Entry;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use crate::broker::{Broker, Lookup, now_ms};
use crate::controller::Topic;
use crate::dispatch::{Answer, Call, Refused};
use crate::error::partition_code;
use crate::legacy::list_offsets::{self as legacy, PartitionV0, Segment, TopicV0};
use crate::partition::{Error, Partition};

/// Leader epochs came with this version (KIP-320).
const VERSION_EPOCHS: i16 = 4;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Decodes, looks up and answers.
///
/// # Errors
/// [`Refused`] when the request does not decode.
pub(crate) async fn handle(broker: Arc<Broker>, call: Call) -> Result<Answer, Refused> {
    let mut body = BytesMut::new();
    let response = match call.version {
        0 => {
            let request =
                legacy::decode_request_v0(&mut call.body.clone()).map_err(|e| call.malformed(e))?;
            let topics = answer_v0(&broker, request).await;
            legacy::encode_response_v0(&topics, &mut body).map_err(|e| call.malformed(e))?;
            call.respond_raw([body.freeze()], 0)?.with_errors_of(&topics)
        }
        11 => {
            let request = legacy::decode_request_v11(&mut call.body.clone())
                .map_err(|e| call.malformed(e))?;
            let response = answer(&broker, call.version, request).await;
            legacy::encode_response_v11(&response, &mut body).map_err(|e| call.malformed(e))?;
            call.respond_raw([body.freeze()], 11)?.with_errors_of(&response)
        }
        version => {
            let response = answer(&broker, version, call.decode()?).await;
            call.respond(&response)?
        }
    };
    Ok(Answer::Now(Some(response)))
}

async fn answer(broker: &Broker, version: i16, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = broker.topic(&asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in asked.partitions {
            partitions.push(answer_partition(broker, version, topic.as_deref(), partition).await);
        }
        topics.push(
            ListOffsetsTopicResponse::default().with_name(asked.name).with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// A record's place: its offset and timestamp and the epoch it was written in; -1 where there is none.
struct Found {
    offset: i64,
    timestamp: i64,
    epoch: i32,
}

const NOTHING: Found = Found { offset: -1, timestamp: -1, epoch: -1 };

fn find(
    broker: &Broker,
    topic: Option<&Topic>,
    index: i32,
) -> Result<Arc<Partition>, ResponseError> {
    match topic.map(|topic| broker.partition(topic, index)) {
        Some(Lookup::Here(partition)) => Ok(partition),
        Some(Lookup::Fenced) => Err(ResponseError::KafkaStorageError),
        Some(Lookup::Elsewhere) => Err(ResponseError::NotLeaderOrFollower),
        Some(Lookup::Unknown) | None => Err(ResponseError::UnknownTopicOrPartition),
    }
}

async fn answer_partition(
    broker: &Broker,
    version: i16,
    topic: Option<&Topic>,
    asked: ListOffsetsPartition,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default()
        .with_partition_index(asked.partition_index)
        .with_offset(-1)
        .with_timestamp(-1)
        .with_leader_epoch(-1);
    let partition = match find(broker, topic, asked.partition_index) {
        Ok(partition) => partition,
        Err(code) => return response.with_error_code(code.code()),
    };
    let checked = partition.check_leader(asked.current_leader_epoch);
    let found = match (checked, smallest_version(asked.timestamp)) {
        (Err(error), _) => Err(partition_code(&error)),
        (Ok(()), Some(smallest)) if version >= smallest => {
            look_up(&partition, asked.timestamp).await.map_err(|e| partition_code(&e))
        }
        (Ok(()), _) => Err(ResponseError::UnsupportedVersion),
    };
    match found {
        Ok(found) => response
            .with_offset(found.offset)
            .with_timestamp(found.timestamp)
            .with_leader_epoch(if version >= VERSION_EPOCHS { found.epoch } else { -1 }),
        Err(code) => response.with_error_code(code.code()),
    }
}

/// The first version in which a timestamp has a meaning.
fn smallest_version(timestamp: i64) -> Option<i16> {
    match timestamp {
        0.. | LATEST | EARLIEST => Some(0),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        EARLIEST_PENDING_UPLOAD => Some(11),
        _ => None,
    }
}

async fn look_up(partition: &Partition, timestamp: i64) -> Result<Found, Error> {
    let position = |offset, epoch| Found { offset, timestamp: -1, epoch };
    match timestamp {
        LATEST => {
            partition.linearize().await?;
            Ok(position(partition.bounds().high_watermark.0, partition.epoch()))
        }
        EARLIEST | EARLIEST_LOCAL => {
            let start = partition.bounds().log_start;
            Ok(position(start.0, partition.epoch_at(start)))
        }
        // Nothing is ever moved to tiered storage.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(NOTHING),
        MAX_TIMESTAMP => Ok(match partition.find_max_timestamp().await? {
            Some(entry) => first_record(&entry, entry.max_timestamp),
            None => NOTHING,
        }),
        timestamp => Ok(match partition.find_timestamp(timestamp).await? {
            Some(entry) => {
                let found = first_record(&entry, timestamp);
                // The log may begin within the batch.
                let log_start = partition.bounds().log_start;
                Found { offset: found.offset.max(log_start.0), ..found }
            }
            None => NOTHING,
        }),
    }
}

/// The first record of a batch at `timestamp` or later. A batch whose records cannot be read is answered
/// with its first offset: a reader from there misses nothing.
fn first_record(entry: &Entry, timestamp: i64) -> Found {
    let epoch = i32::try_from(entry.term.0).unwrap_or(i32::MAX);
    let whole = Found { offset: entry.base_offset.0, timestamp: entry.max_timestamp, epoch };
    let first = jangbu_engine::records::first_at(&entry.payload, timestamp);
    first.map_or(whole, |r| Found { offset: r.offset.0, timestamp: r.timestamp, epoch })
}

async fn answer_v0(broker: &Broker, request: legacy::RequestV0) -> Vec<TopicV0> {
    let mut topics = Vec::with_capacity(request.request.topics.len());
    for (asked, limits) in request.request.topics.into_iter().zip(request.max_num_offsets) {
        let topic = broker.topic(&asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for (partition, limit) in asked.partitions.iter().zip(limits) {
            partitions.push(answer_partition_v0(broker, topic.as_deref(), partition, limit).await);
        }
        topics.push(TopicV0 { name: asked.name, partitions });
    }
    topics
}

async fn answer_partition_v0(
    broker: &Broker,
    topic: Option<&Topic>,
    asked: &ListOffsetsPartition,
    limit: i32,
) -> PartitionV0 {
    let partition_index = asked.partition_index;
    let refuse = |code: ResponseError| PartitionV0 {
        partition_index,
        error_code: code.code(),
        offsets: Vec::new(),
    };
    let partition = match find(broker, topic, partition_index) {
        Ok(partition) => partition,
        Err(code) => return refuse(code),
    };
    let leads = match partition.check_leader(-1) {
        Ok(()) => partition.linearize().await,
        Err(error) => Err(error),
    };
    if let Err(error) = leads {
        return refuse(partition_code(&error));
    }
    let newest = match partition.find_max_timestamp().await {
        Ok(newest) => newest.map_or(-1, |entry| entry.max_timestamp),
        Err(error) => return refuse(partition_code(&error)),
    };
    let bounds = partition.bounds();
    let (start, end) = (bounds.log_start.0, bounds.high_watermark.0);
    let segment = Segment { start, end, modified_ms: newest };
    let offsets = segment.offsets_before(asked.timestamp, limit, now_ms());
    PartitionV0 { partition_index, error_code: 0, offsets }
}
