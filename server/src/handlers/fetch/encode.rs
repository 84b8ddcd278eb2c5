//! The bytes of a Fetch response, with the batches as they are: not copied, not even put together.
//!
//! kafka-protocol encodes everything but the records: a partition is encoded with empty records, whose
//! encoding is known and last but for the tagged fields, and the batches follow in its place.

use std::mem;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::fetch_response::{
    FetchableTopicResponse, NodeEndpoint, PartitionData,
};
use kafka_protocol::protocol::Encodable;

/// From this version on lengths are varints and structures end with tagged fields (KIP-482).
const VERSION_FLEXIBLE: i16 = 12;
const VERSION_SESSIONS: i16 = 7;
const VERSION_TOPIC_IDS: i16 = 13;
/// The first version in which the response says where the leaders are that it names (KIP-951).
const VERSION_ENDPOINTS: i16 = 16;

/// Why a response cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("a length does not fit")]
    Length,
    #[error("{0}")]
    Protocol(String),
}

struct Encoder {
    flexible: bool,
    version: i16,
    chunks: Vec<Bytes>,
    current: BytesMut,
}

/// Encodes a response; `records` are the batches of those of its partitions that have any, in order.
///
/// # Errors
/// [`Error`], which no response of bounded size leads to.
pub(super) fn encode(
    response: &FetchResponse,
    records: Vec<Vec<Bytes>>,
    version: i16,
) -> Result<Vec<Bytes>, Error> {
    let flexible = version >= VERSION_FLEXIBLE;
    let mut out = Encoder { flexible, version, chunks: Vec::new(), current: BytesMut::new() };
    let mut records = records.into_iter();
    out.current.put_i32(response.throttle_time_ms);
    if version >= VERSION_SESSIONS {
        out.current.put_i16(response.error_code);
        out.current.put_i32(response.session_id);
    }
    out.length(response.responses.len())?;
    for topic in &response.responses {
        out.topic(topic, &mut records)?;
    }
    out.endpoints(&response.node_endpoints)?;
    out.chunks.push(out.current.freeze());
    Ok(out.chunks)
}

impl Encoder {
    fn topic(
        &mut self,
        topic: &FetchableTopicResponse,
        records: &mut impl Iterator<Item = Vec<Bytes>>,
    ) -> Result<(), Error> {
        if self.version >= VERSION_TOPIC_IDS {
            self.current.put_slice(topic.topic_id.as_bytes());
        } else {
            let name = topic.topic.as_bytes();
            if self.flexible {
                self.length(name.len())?;
            } else {
                self.current.put_i16(i16::try_from(name.len()).map_err(|_| Error::Length)?);
            }
            self.current.put_slice(name);
        }
        self.length(topic.partitions.len())?;
        for partition in &topic.partitions {
            let has_records = partition.records.as_ref().is_some_and(|r| !r.is_empty());
            let batches = if has_records { records.next() } else { None };
            self.partition(partition, batches.unwrap_or_default())?;
        }
        self.no_tagged_fields();
        Ok(())
    }

    fn partition(&mut self, data: &PartitionData, batches: Vec<Bytes>) -> Result<(), Error> {
        if batches.is_empty() {
            let encoded = data.encode(&mut self.current, self.version);
            return encoded.map_err(|e| Error::Protocol(e.to_string()));
        }
        let empty = data.clone().with_records(Some(Bytes::new()));
        let encoded = empty.encode(&mut self.current, self.version);
        encoded.map_err(|e| Error::Protocol(e.to_string()))?;
        // The length of empty records and, if flexible, the number of tagged fields: a partition with
        // records has none.
        let tail = if self.flexible { 2 } else { 4 };
        self.current.truncate(self.current.len() - tail);
        self.length(batches.iter().map(Bytes::len).sum())?;
        self.chunks.push(mem::take(&mut self.current).freeze());
        self.chunks.extend(batches);
        self.no_tagged_fields();
        Ok(())
    }

    /// The tagged fields of the response: at most where leaders are, with tag 0.
    fn endpoints(&mut self, endpoints: &[NodeEndpoint]) -> Result<(), Error> {
        if self.version < VERSION_ENDPOINTS || endpoints.is_empty() {
            self.no_tagged_fields();
            return Ok(());
        }
        let mut field = Self { current: BytesMut::new(), chunks: Vec::new(), ..*self };
        field.length(endpoints.len())?;
        for endpoint in endpoints {
            let encoded = endpoint.encode(&mut field.current, self.version);
            encoded.map_err(|e| Error::Protocol(e.to_string()))?;
        }
        self.current.put_slice(&[1, 0]);
        self.varint(u32::try_from(field.current.len()).map_err(|_| Error::Length)?)?;
        self.current.put_slice(&field.current);
        Ok(())
    }

    /// The length of an array or of bytes.
    fn length(&mut self, length: usize) -> Result<(), Error> {
        if !self.flexible {
            self.current.put_i32(i32::try_from(length).map_err(|_| Error::Length)?);
            return Ok(());
        }
        let length = u32::try_from(length).map_err(|_| Error::Length)?;
        self.varint(length.checked_add(1).ok_or(Error::Length)?)
    }

    fn varint(&mut self, mut rest: u32) -> Result<(), Error> {
        while rest >= 0x80 {
            self.current.put_u8(u8::try_from(rest & 0x7f).map_err(|_| Error::Length)? | 0x80);
            rest >>= 7;
        }
        self.current.put_u8(u8::try_from(rest).map_err(|_| Error::Length)?);
        Ok(())
    }

    fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.current.put_u8(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::fetch_response::EpochEndOffset;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn partition(index: i32, records: &[u8]) -> PartitionData {
        PartitionData::default()
            .with_partition_index(index)
            .with_high_watermark(77)
            .with_aborted_transactions(None)
            .with_records(Some(Bytes::copy_from_slice(records)))
    }

    #[test]
    fn the_bytes_are_those_of_kafka_protocol_in_every_version() {
        let long = vec![7; 300];
        let diverging = EpochEndOffset::default().with_epoch(3).with_end_offset(4);
        let first = FetchableTopicResponse::default()
            .with_topic(TopicName(StrBytes::from_static_str("first")))
            .with_topic_id(uuid::Uuid::from_u128(5))
            .with_partitions(vec![partition(0, b"ab"), partition(1, b""), partition(2, &long)]);
        let second = FetchableTopicResponse::default()
            .with_topic(TopicName(StrBytes::from_static_str("second")))
            .with_topic_id(uuid::Uuid::from_u128(6))
            .with_partitions(vec![partition(0, b"x")]);
        for version in 4..=18 {
            let mut response =
                FetchResponse::default().with_responses(vec![first.clone(), second.clone()]);
            if version >= VERSION_SESSIONS {
                response.session_id = 9;
            }
            if version >= VERSION_FLEXIBLE {
                response.responses[0].partitions[1].diverging_epoch = diverging.clone();
            }
            if version >= VERSION_TOPIC_IDS {
                response.responses.iter_mut().for_each(|t| t.topic = TopicName::default());
            } else {
                response.responses.iter_mut().for_each(|t| t.topic_id = uuid::Uuid::nil());
            }
            if version >= VERSION_ENDPOINTS {
                let host = StrBytes::from_string("h".repeat(200));
                let endpoint = NodeEndpoint::default().with_node_id(3.into()).with_host(host);
                response.node_endpoints = vec![endpoint.with_port(9092)];
            }
            let mut expected = BytesMut::new();
            response.encode(&mut expected, version).unwrap();
            let records = vec![
                vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")],
                vec![Bytes::copy_from_slice(&long)],
                vec![Bytes::from_static(b"x")],
            ];
            let chunks = encode(&response, records, version).unwrap();
            assert_eq!(chunks.concat(), expected, "version {version}");
        }
    }
}
