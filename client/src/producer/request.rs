//! One Produce request: what goes into it, and what its answer means for each batch.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::outgoing::Taken;
use super::queue::Answer;
use crate::client::topic_name;
use crate::connection::Connection;
use crate::{Error, ErrorCode};

/// A batch in a request: its queue and its id.
pub(super) type Sent = (usize, u64);

/// What goes to one broker with the next request.
pub(super) struct Load {
    connection: Arc<Connection>,
    pub(super) batches: Vec<Sent>,
    topics: HashMap<Arc<str>, Vec<PartitionProduceData>>,
    pub(super) bytes: usize,
}

impl Load {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, batches: Vec::new(), topics: HashMap::new(), bytes: 0 }
    }

    pub(super) fn add(&mut self, topic: Arc<str>, partition: i32, index: usize, taken: Taken) {
        self.bytes += taken.bytes.len();
        self.batches.push((index, taken.id));
        let data =
            PartitionProduceData::default().with_index(partition).with_records(Some(taken.bytes));
        self.topics.entry(topic).or_default().push(data);
    }

    pub(super) fn into_request(
        self,
        timeout_ms: i32,
    ) -> (Arc<Connection>, ProduceRequest, Vec<Sent>) {
        let topics = self.topics.into_iter().map(|(topic, partitions)| {
            let name = topic_name(&topic);
            TopicProduceData::default().with_name(name).with_partition_data(partitions)
        });
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(timeout_ms)
            .with_topic_data(topics.collect());
        (self.connection, request, self.batches)
    }
}

/// What a whole request's failure means for each of its batches.
pub(super) fn failed(error: Error) -> Answer {
    match error {
        Error::Disconnected { .. } | Error::Timeout { .. } | Error::Malformed { .. } => {
            Answer::TryAgain { error, in_doubt: true }
        }
        error if error.is_retriable() => Answer::TryAgain { error, in_doubt: false },
        error => Answer::Refused(error),
    }
}

/// What the answer says of one partition's batch.
pub(super) fn read_answer(response: &ProduceResponse, topic: &str, partition: i32) -> Answer {
    let found = response
        .responses
        .iter()
        .filter(|answer| answer.name.as_str() == topic)
        .flat_map(|answer| &answer.partition_responses)
        .find(|answer| answer.index == partition);
    match found {
        Some(found) => judge(found, topic),
        None => failed(Error::malformed("a response", format!("{topic}-{partition} is missing"))),
    }
}

/// What a partition's answer means for its batch.
fn judge(answer: &PartitionProduceResponse, topic: &str) -> Answer {
    let Some(code) = ErrorCode::try_from_code(answer.error_code) else {
        return Answer::Acknowledged(Some(answer.base_offset).filter(|offset| *offset >= 0));
    };
    let what = format!("produce to {topic}-{}", answer.index);
    let message = answer.error_message.as_deref().filter(|text| !text.is_empty());
    let error = Error::Broker { what, code, message: message.map(str::to_owned) };
    match code {
        ErrorCode::DuplicateSequenceNumber => {
            Answer::Acknowledged(Some(answer.base_offset).filter(|offset| *offset >= 0))
        }
        ErrorCode::OutOfOrderSequenceNumber
        | ErrorCode::UnknownProducerId
        | ErrorCode::InvalidProducerEpoch => Answer::OutOfOrder(error),
        ErrorCode::RequestTimedOut
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::NetworkException
        | ErrorCode::KafkaStorageError => Answer::TryAgain { error, in_doubt: true },
        ErrorCode::UnknownServerError => Answer::TryAgain { error, in_doubt: true },
        code if code.is_retriable() => Answer::TryAgain { error, in_doubt: false },
        _ => Answer::Refused(error),
    }
}
