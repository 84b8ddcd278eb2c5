//! `ListOffsets` versions 0 and 11.
//!
//! Version 0 is older than the time index: it answers, newest first, the offsets at which segments
//! began before a time. A partition here is a log of one segment.
//!
//! Not here: the offsets themselves (the handler).

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ListOffsetsRequest, ListOffsetsResponse, TopicName,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    },
    protocol::Encodable,
};

use super::{
    Error, put_count, put_string,
    reader::{Format, Reader},
};

/// The timestamp that asks for the end of a partition.
const LATEST: i64 = -1;
/// The timestamp that asks for the start of a partition.
const EARLIEST: i64 = -2;

/// A request of version 0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RequestV0 {
    /// As version 1 says it.
    pub(crate) request: ListOffsetsRequest,
    /// How many offsets to answer, by the request's topics and their partitions.
    pub(crate) max_num_offsets: Vec<Vec<i32>>,
}

/// The answer to a topic of a request of version 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicV0 {
    pub(crate) name: TopicName,
    pub(crate) partitions: Vec<PartitionV0>,
}

/// The answer to a partition of a request of version 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PartitionV0 {
    pub(crate) partition_index: i32,
    pub(crate) error_code: i16,
    /// See [`Segment::offsets_before`].
    pub(crate) offsets: Vec<i64>,
}

/// A partition as a log of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: i64,
    /// The high watermark: consumers do not see further.
    pub(crate) end: i64,
    /// The largest timestamp in the partition.
    pub(crate) modified_ms: i64,
}

impl Segment {
    /// The offsets that version 0 answers, newest first and at most `max_num_offsets`: the end if it
    /// existed at `timestamp`, and the start if nothing was appended after that time.
    pub(crate) fn offsets_before(
        self,
        timestamp: i64,
        max_num_offsets: i32,
        now_ms: i64,
    ) -> Vec<i64> {
        let empty = self.start >= self.end;
        let end = !empty && (timestamp == LATEST || (timestamp >= 0 && timestamp >= now_ms));
        let start = match timestamp {
            LATEST | EARLIEST => true,
            _ => end || timestamp >= self.modified_ms,
        };
        let max = usize::try_from(max_num_offsets).unwrap_or(0);
        let offsets = [end.then_some(self.end), start.then_some(self.start)];
        offsets.into_iter().flatten().take(max).collect()
    }
}

/// Reads a request of version 0.
///
/// # Errors
/// When `body` is anything else.
pub(crate) fn decode_request_v0(body: &mut Bytes) -> Result<RequestV0, Error> {
    let mut reader = Reader::new(body, Format::Classic);
    let replica_id = reader.i32()?;
    let (mut topics, mut max_num_offsets) = (Vec::new(), Vec::new());
    for (topic, counts) in reader.array(topic_v0)? {
        topics.push(topic);
        max_num_offsets.push(counts);
    }
    let request =
        ListOffsetsRequest::default().with_replica_id(replica_id.into()).with_topics(topics);
    Ok(RequestV0 { request, max_num_offsets })
}

fn topic_v0(reader: &mut Reader<'_>) -> Result<(ListOffsetsTopic, Vec<i32>), Error> {
    let name = reader.string()?.into();
    let partition = |reader: &mut Reader<'_>| {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(reader.i32()?)
            .with_timestamp(reader.i64()?);
        Ok((partition, reader.i32()?))
    };
    let (partitions, counts) = reader.array(partition)?.into_iter().unzip();
    Ok((ListOffsetsTopic::default().with_name(name).with_partitions(partitions), counts))
}

/// Writes a response of version 0.
///
/// # Errors
/// When a name or an array is too long for the format.
pub(crate) fn encode_response_v0(topics: &[TopicV0], out: &mut BytesMut) -> Result<(), Error> {
    put_count(out, topics.len())?;
    for topic in topics {
        put_string(out, &topic.name)?;
        put_count(out, topic.partitions.len())?;
        for partition in &topic.partitions {
            out.put_i32(partition.partition_index);
            out.put_i16(partition.error_code);
            put_count(out, partition.offsets.len())?;
            partition.offsets.iter().for_each(|&offset| out.put_i64(offset));
        }
    }
    Ok(())
}

/// Reads a request of version 11, which has the bytes of version 10 (KIP-1023 added a timestamp
/// with a meaning of its own, -6).
///
/// # Errors
/// When `body` is anything else.
pub(crate) fn decode_request_v11(body: &mut Bytes) -> Result<ListOffsetsRequest, Error> {
    let mut reader = Reader::new(body, Format::Flexible);
    let replica_id = reader.i32()?;
    let isolation_level = reader.i8()?;
    let topics = reader.array(topic_v11)?;
    let timeout_ms = reader.i32()?;
    reader.end_structure()?;
    Ok(ListOffsetsRequest::default()
        .with_replica_id(replica_id.into())
        .with_isolation_level(isolation_level)
        .with_topics(topics)
        .with_timeout_ms(timeout_ms))
}

fn topic_v11(reader: &mut Reader<'_>) -> Result<ListOffsetsTopic, Error> {
    let name = reader.string()?.into();
    let partitions = reader.array(|reader| {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(reader.i32()?)
            .with_current_leader_epoch(reader.i32()?)
            .with_timestamp(reader.i64()?);
        reader.end_structure()?;
        Ok(partition)
    })?;
    reader.end_structure()?;
    Ok(ListOffsetsTopic::default().with_name(name).with_partitions(partitions))
}

/// Writes a response of version 11.
///
/// # Errors
/// When a name or an array is too long for the format.
pub(crate) fn encode_response_v11(
    response: &ListOffsetsResponse,
    out: &mut BytesMut,
) -> Result<(), Error> {
    response.encode(out, 10).map_err(|_| Error::TooLong("response"))
}

#[cfg(test)]
mod tests;
