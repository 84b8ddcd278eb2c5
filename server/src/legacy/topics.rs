//! `CreateTopics` versions 0 and 1, `DeleteTopics` version 0.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
};

use super::{
    Error, put_count, put_nullable_string, put_string,
    reader::{Format, Reader},
};

/// The two old versions of `CreateTopics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreateVersion {
    V0,
    V1,
}

/// Reads a `CreateTopics` request; version 0 cannot ask for validation alone.
///
/// # Errors
/// When `body` is anything else.
pub(crate) fn decode_create_request(
    body: &mut Bytes,
    version: CreateVersion,
) -> Result<CreateTopicsRequest, Error> {
    let mut reader = Reader::new(body, Format::Classic);
    let topics = reader.array(topic)?;
    let timeout_ms = reader.i32()?;
    let validate_only = version == CreateVersion::V1 && reader.bool()?;
    Ok(CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(timeout_ms)
        .with_validate_only(validate_only))
}

fn topic(reader: &mut Reader<'_>) -> Result<CreatableTopic, Error> {
    Ok(CreatableTopic::default()
        .with_name(reader.string()?.into())
        .with_num_partitions(reader.i32()?)
        .with_replication_factor(reader.i16()?)
        .with_assignments(reader.array(assignment)?)
        .with_configs(reader.array(config)?))
}

fn assignment(reader: &mut Reader<'_>) -> Result<CreatableReplicaAssignment, Error> {
    Ok(CreatableReplicaAssignment::default()
        .with_partition_index(reader.i32()?)
        .with_broker_ids(reader.array(|reader| Ok(reader.i32()?.into()))?))
}

fn config(reader: &mut Reader<'_>) -> Result<CreatableTopicConfig, Error> {
    Ok(CreatableTopicConfig::default()
        .with_name(reader.string()?)
        .with_value(reader.nullable_string()?))
}

/// Writes a `CreateTopics` response; version 0 says no reason for an error.
///
/// # Errors
/// When a name, a message or the array is too long for the format.
pub(crate) fn encode_create_response(
    response: &CreateTopicsResponse,
    version: CreateVersion,
    out: &mut BytesMut,
) -> Result<(), Error> {
    put_count(out, response.topics.len())?;
    for topic in &response.topics {
        put_string(out, &topic.name)?;
        out.put_i16(topic.error_code);
        if version == CreateVersion::V1 {
            put_nullable_string(out, topic.error_message.as_deref())?;
        }
    }
    Ok(())
}

/// Reads a `DeleteTopics` request of version 0.
///
/// # Errors
/// When `body` is anything else.
pub(crate) fn decode_delete_request_v0(body: &mut Bytes) -> Result<DeleteTopicsRequest, Error> {
    let mut reader = Reader::new(body, Format::Classic);
    let names = reader.array(|reader| Ok(reader.string()?.into()))?;
    Ok(DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(reader.i32()?))
}

/// Writes a `DeleteTopics` response of version 0; every result must have its topic's name.
///
/// # Errors
/// When a name or the array is too long for the format.
pub(crate) fn encode_delete_response_v0(
    response: &DeleteTopicsResponse,
    out: &mut BytesMut,
) -> Result<(), Error> {
    put_count(out, response.responses.len())?;
    for result in &response.responses {
        put_string(out, result.name.as_ref().map_or("", |name| name.as_str()))?;
        out.put_i16(result.error_code);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
