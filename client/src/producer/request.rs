//! One Produce request: what goes into it, and what its answer means for each batch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::outgoing::Taken;
use super::queue::Answer;
use crate::batch::Stamped;
use crate::connection::{Connection, Pending};
use crate::error::About;
use crate::{Error, ErrorCode, Result};

/// A batch in a request: its queue and its id.
pub(super) type Sent = (usize, u64);

/// What goes to one broker with the next request.
pub(super) struct Load {
    connection: Arc<Connection>,
    pub(super) batches: Vec<Sent>,
    topics: HashMap<Arc<str>, Vec<(i32, Stamped)>>,
    pub(super) bytes: usize,
}

impl Load {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, batches: Vec::new(), topics: HashMap::new(), bytes: 0 }
    }

    pub(super) fn add(&mut self, topic: Arc<str>, partition: i32, index: usize, taken: Taken) {
        self.bytes += taken.batch.len();
        self.batches.push((index, taken.id));
        self.topics.entry(topic).or_default().push((partition, taken.batch));
    }

    /// Puts the request on its way, and returns its answer and what is in it.
    pub(super) fn submit(
        self,
        timeout_ms: i32,
        extra: Duration,
    ) -> (Result<Pending<ProduceRequest>>, Vec<Sent>) {
        let connection = self.connection;
        let pending = connection
            .version::<ProduceRequest>()
            .map(|version| body(version, timeout_ms, self.topics.into_iter().collect()))
            .and_then(|body| connection.submit_pieces::<ProduceRequest>(body, extra));
        (pending, self.batches)
    }
}

/// A topic with the batches of its partitions.
type Topic = (Arc<str>, Vec<(i32, Stamped)>);

/// The body of a Produce request in pieces, so that records are not copied. Same bytes as kafka-protocol's.
fn body(version: i16, timeout_ms: i32, topics: Vec<Topic>) -> Vec<Bytes> {
    let mut body =
        Body { flexible: version >= FLEXIBLE, head: BytesMut::new(), pieces: Vec::new() };
    if body.flexible {
        body.head.put_u8(0);
    } else {
        body.head.put_i16(-1);
    }
    body.head.put_i16(ACKS_ALL);
    body.head.put_i32(timeout_ms);
    body.count(topics.len());
    for (topic, partitions) in topics {
        if body.flexible {
            body.varint(topic.len() + 1);
        } else {
            body.head.put_i16(i16::try_from(topic.len()).unwrap_or(i16::MAX));
        }
        body.head.put_slice(topic.as_bytes());
        body.count(partitions.len());
        for (partition, batch) in partitions {
            body.head.put_i32(partition);
            body.count(batch.len());
            let (header, records) = batch.finish();
            body.head.put_slice(&header);
            let head = std::mem::take(&mut body.head).freeze();
            body.pieces.extend([head, records]);
            body.no_tags();
        }
        body.no_tags();
    }
    body.no_tags();
    body.pieces.push(body.head.freeze());
    body.pieces
}

/// Every replica in sync has to have it.
const ACKS_ALL: i16 = -1;
/// The first version with variable-length lengths.
const FLEXIBLE: i16 = 9;

/// A body that is being put together.
struct Body {
    flexible: bool,
    /// Bytes behind the last piece.
    head: BytesMut,
    pieces: Vec<Bytes>,
}

impl Body {
    fn varint(&mut self, value: usize) {
        let mut rest = value;
        while rest >= 0x80 {
            self.head.put_u8(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        self.head.put_u8(rest.to_le_bytes()[0]);
    }

    /// The length of an array or of bytes.
    fn count(&mut self, count: usize) {
        if self.flexible {
            self.varint(count + 1);
        } else {
            self.head.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
        }
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.head.put_u8(0);
        }
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
    let about = About::from(format!("produce to {topic}-{}", answer.index));
    let about = Box::new(about.place(topic, answer.index));
    let message = answer.error_message.as_deref().filter(|text| !text.is_empty());
    let error = Error::Broker { about, code, message: message.map(str::to_owned) };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::ProduceRequest;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::protocol::Encodable;

    use super::body;
    use crate::batch::{Builder, Identity, Stamped};
    use crate::client::topic_name;
    use crate::{Compression, Record};

    fn batch(value: &str) -> Stamped {
        let mut builder = Builder::new();
        builder.push(&Record::new(None::<Bytes>, value.repeat(200)), 7);
        builder.seal(Compression::None, None).unwrap().stamp(Identity::NONE, -1)
    }

    #[test]
    fn the_pieces_are_what_kafka_protocol_writes_in_every_version() {
        let topics = |version| {
            let two = vec![(0, batch("a")), (300, batch("bcd"))];
            body(version, 1234, vec![(Arc::from("one"), two), (Arc::from("two"), vec![])]).concat()
        };
        let data = |index, value: &str| {
            let records = Some(batch(value).into_bytes());
            PartitionProduceData::default().with_index(index).with_records(records)
        };
        let topic = |name: &str, data| {
            TopicProduceData::default().with_name(topic_name(name)).with_partition_data(data)
        };
        let request =
            ProduceRequest::default().with_acks(-1).with_timeout_ms(1234).with_topic_data(vec![
                topic("one", vec![data(0, "a"), data(300, "bcd")]),
                topic("two", vec![]),
            ]);
        for version in 3..=12 {
            let mut expected = BytesMut::new();
            request.encode(&mut expected, version).unwrap();
            assert_eq!(topics(version), expected, "version {version}");
        }
    }
}
