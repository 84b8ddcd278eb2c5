//! `OffsetCommit` versions 1 and 10, `OffsetFetch` version 10.
//!
//! Version 10 of both names topics by id instead of by name and is version 9 otherwise (KIP-848). Version 1 of
//! `OffsetCommit` has a time for each partition, where version 2 has one to keep all of them.
//!
//! Not here: which names belong to which ids (the handlers).

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_commit_response::OffsetCommitResponseTopic;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};

use super::reader::{Format, Reader};
use super::{Error, end_structure, put_compact_array, put_compact_string};

/// How long offsets are kept is for the broker to say.
const NO_RETENTION: i64 = -1;

/// A commit of version 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CommitV1 {
    /// As version 2 says it.
    pub(crate) request: OffsetCommitRequest,
    /// When each offset counts as committed, -1 for now, by the request's topics and their partitions.
    pub(crate) timestamps: Vec<Vec<i64>>,
}

/// Reads a commit of version 1.
///
/// # Errors
/// When `body` is anything else.
pub(crate) fn decode_commit_v1(body: &mut Bytes) -> Result<CommitV1, Error> {
    let mut reader = Reader::new(body, Format::Classic);
    let request = OffsetCommitRequest::default()
        .with_group_id(reader.string()?.into())
        .with_generation_id_or_member_epoch(reader.i32()?)
        .with_member_id(reader.string()?)
        .with_retention_time_ms(NO_RETENTION);
    let (topics, timestamps) = reader.array(topic_v1)?.into_iter().unzip();
    Ok(CommitV1 { request: request.with_topics(topics), timestamps })
}

fn topic_v1(reader: &mut Reader<'_>) -> Result<(OffsetCommitRequestTopic, Vec<i64>), Error> {
    let name = reader.string()?.into();
    let partition = |reader: &mut Reader<'_>| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(reader.i32()?)
            .with_committed_offset(reader.i64()?);
        let timestamp = reader.i64()?;
        Ok((partition.with_committed_metadata(reader.nullable_string()?), timestamp))
    };
    let (partitions, timestamps) = reader.array(partition)?.into_iter().unzip();
    Ok((
        OffsetCommitRequestTopic::default().with_name(name).with_partitions(partitions),
        timestamps,
    ))
}

/// Reads a commit of version 10.
///
/// # Errors
/// When `body` is anything else.
pub(crate) fn decode_commit_v10(body: &mut Bytes) -> Result<OffsetCommitRequest, Error> {
    let mut reader = Reader::new(body, Format::Flexible);
    let request = OffsetCommitRequest::default()
        .with_group_id(reader.string()?.into())
        .with_generation_id_or_member_epoch(reader.i32()?)
        .with_member_id(reader.string()?)
        .with_group_instance_id(reader.nullable_string()?)
        .with_retention_time_ms(NO_RETENTION)
        .with_topics(reader.array(committed_topic)?);
    reader.end_structure()?;
    Ok(request)
}

fn committed_topic(reader: &mut Reader<'_>) -> Result<OffsetCommitRequestTopic, Error> {
    let topic = OffsetCommitRequestTopic::default().with_topic_id(reader.uuid()?);
    let partitions = reader.array(|reader| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(reader.i32()?)
            .with_committed_offset(reader.i64()?)
            .with_committed_leader_epoch(reader.i32()?)
            .with_committed_metadata(reader.nullable_string()?);
        reader.end_structure()?;
        Ok(partition)
    })?;
    reader.end_structure()?;
    Ok(topic.with_partitions(partitions))
}

/// Writes the answer to a commit of version 10.
///
/// # Errors
/// When an array is too long for the format.
pub(crate) fn encode_commit_v10(
    response: &OffsetCommitResponse,
    out: &mut BytesMut,
) -> Result<(), Error> {
    out.put_i32(response.throttle_time_ms);
    put_compact_array(out, &response.topics, |out, topic: &OffsetCommitResponseTopic| {
        out.put_slice(topic.topic_id.as_bytes());
        put_compact_array(out, &topic.partitions, |out, partition| {
            out.put_i32(partition.partition_index);
            out.put_i16(partition.error_code);
            end_structure(out);
            Ok(())
        })?;
        end_structure(out);
        Ok(())
    })?;
    end_structure(out);
    Ok(())
}

/// Reads a request of version 10 for what is committed.
///
/// # Errors
/// When `body` is anything else.
pub(crate) fn decode_fetch_v10(body: &mut Bytes) -> Result<OffsetFetchRequest, Error> {
    let mut reader = Reader::new(body, Format::Flexible);
    let request = OffsetFetchRequest::default()
        .with_groups(reader.array(fetched_group)?)
        .with_require_stable(reader.bool()?);
    reader.end_structure()?;
    Ok(request)
}

fn fetched_group(reader: &mut Reader<'_>) -> Result<OffsetFetchRequestGroup, Error> {
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(reader.string()?.into())
        .with_member_id(reader.nullable_string()?)
        .with_member_epoch(reader.i32()?);
    let topics = reader.nullable_array(|reader| {
        let topic = OffsetFetchRequestTopics::default()
            .with_topic_id(reader.uuid()?)
            .with_partition_indexes(reader.array(Reader::i32)?);
        reader.end_structure()?;
        Ok(topic)
    })?;
    reader.end_structure()?;
    Ok(group.with_topics(topics))
}

/// Writes what is committed as version 10 says it.
///
/// # Errors
/// When a string or an array is too long for the format.
pub(crate) fn encode_fetch_v10(
    response: &OffsetFetchResponse,
    out: &mut BytesMut,
) -> Result<(), Error> {
    out.put_i32(response.throttle_time_ms);
    put_compact_array(out, &response.groups, |out, group: &OffsetFetchResponseGroup| {
        put_compact_string(out, Some(&group.group_id))?;
        put_compact_array(out, &group.topics, put_fetched)?;
        out.put_i16(group.error_code);
        end_structure(out);
        Ok(())
    })?;
    end_structure(out);
    Ok(())
}

fn put_fetched(out: &mut BytesMut, topic: &OffsetFetchResponseTopics) -> Result<(), Error> {
    out.put_slice(topic.topic_id.as_bytes());
    put_compact_array(out, &topic.partitions, |out, partition| {
        out.put_i32(partition.partition_index);
        out.put_i64(partition.committed_offset);
        out.put_i32(partition.committed_leader_epoch);
        put_compact_string(out, partition.metadata.as_deref())?;
        out.put_i16(partition.error_code);
        end_structure(out);
        Ok(())
    })?;
    end_structure(out);
    Ok(())
}

#[cfg(test)]
mod tests;
