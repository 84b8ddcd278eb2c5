//! OffsetFetch (9), versions 1 to 10: committed offsets, of several groups at a time from version 8 on.
//!
//! Version 10 has ids of topics instead of names: they become names here, and names ids again in the answer.
//!
//! Invariant: what is answered covers every commit that any node has acknowledged before the request.

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::groups::text;
use crate::broker::Broker;
use crate::dispatch::{Answer, Call, Refused};
use crate::groups::Committed;
use crate::legacy::offsets::{decode_fetch_v10, encode_fetch_v10};

/// Several groups, each with its topics.
const VERSION_GROUPS: i16 = 8;
/// An error is told for the whole request, and null stands for all topics.
const VERSION_TOP_ERROR: i16 = 2;
/// Topics are named by id from this version on.
const VERSION_TOPIC_IDS: i16 = 10;

/// Topics and their partitions; nothing stands for all that are committed.
type Asked = Option<Vec<(TopicName, Vec<i32>)>>;
/// What was committed for each partition, by topic.
type Found = Vec<(TopicName, Vec<(i32, Option<Committed>)>)>;

/// Decodes, looks up and answers.
///
/// # Errors
/// [`Refused`] when the request does not decode.
pub(crate) async fn handle(broker: Arc<Broker>, call: Call) -> Result<Answer, Refused> {
    let response = if call.version >= VERSION_TOPIC_IDS {
        let request = call.decode_by(decode_fetch_v10)?;
        let mut groups = Vec::with_capacity(request.groups.len());
        for asked in request.groups {
            groups.push(of_group_by_ids(&broker, asked).await);
        }
        let response = OffsetFetchResponse::default().with_groups(groups);
        let mut body = BytesMut::new();
        encode_fetch_v10(&response, &mut body).map_err(|e| call.malformed(e))?;
        call.respond_raw([body.freeze()], call.version)?.with_errors_of(&response)
    } else {
        call.respond(&answer(&broker, &call, call.decode()?).await)?
    };
    Ok(Answer::Now(Some(response)))
}

async fn answer(broker: &Broker, call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if call.version >= VERSION_GROUPS {
        let mut groups = Vec::with_capacity(request.groups.len());
        for asked in request.groups {
            groups.push(of_group(broker, asked).await);
        }
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let asked: Asked = request
        .topics
        .map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
    // Before version 2 there is no way to ask for all.
    let asked =
        if call.version < VERSION_TOP_ERROR { Some(asked.unwrap_or_default()) } else { asked };
    let nobody = (None, -1);
    match fetch(broker, request.group_id.as_str(), nobody, asked.clone()).await {
        Ok(found) => {
            let topics = found.into_iter().map(|(name, partitions)| topic(name, partitions, 0));
            OffsetFetchResponse::default().with_topics(topics.collect())
        }
        Err(refused) if call.version >= VERSION_TOP_ERROR => {
            OffsetFetchResponse::default().with_error_code(refused.code())
        }
        Err(refused) => {
            let nothing =
                |partitions: Vec<i32>| partitions.into_iter().map(|p| (p, None)).collect();
            let topics = asked.unwrap_or_default().into_iter();
            let topics = topics.map(|(name, p)| topic(name, nothing(p), refused.code()));
            OffsetFetchResponse::default().with_topics(topics.collect())
        }
    }
}

async fn of_group(broker: &Broker, asked: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let topics: Asked = asked
        .topics
        .map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
    let response = OffsetFetchResponseGroup::default();
    let caller = (asked.member_id.as_deref(), asked.member_epoch);
    let response = match fetch(broker, asked.group_id.as_str(), caller, topics).await {
        Ok(found) => {
            let topic = |(name, partitions): (TopicName, Vec<_>)| {
                let partitions =
                    partitions.into_iter().map(|(p, found)| partitions_entry(p, found));
                OffsetFetchResponseTopics::default()
                    .with_name(name)
                    .with_partitions(partitions.collect())
            };
            response.with_topics(found.into_iter().map(topic).collect())
        }
        Err(refused) => response.with_error_code(refused.code()),
    };
    response.with_group_id(asked.group_id)
}

/// The same by ids. An id that no topic has (any more) is an error where it is asked for; where all offsets are, those of
/// topics without an id are left out.
async fn of_group_by_ids(
    broker: &Broker,
    mut asked: OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let mut unknown = Vec::new();
    if let Some(topics) = asked.topics.take() {
        let mut known = Vec::with_capacity(topics.len());
        for topic in topics {
            match broker.topic_by_id(topic.topic_id) {
                Some(found) => known.push(topic.with_name(TopicName(text(found.name.as_str())))),
                None => unknown.push(topic),
            }
        }
        asked.topics = Some(known);
    }
    let ids: Option<Vec<Uuid>> =
        asked.topics.as_ref().map(|topics| topics.iter().map(|topic| topic.topic_id).collect());
    let mut response = of_group(broker, asked).await;
    if response.error_code != 0 {
        return response;
    }
    let found = std::mem::take(&mut response.topics).into_iter();
    response.topics = match ids {
        Some(ids) => found.zip(ids).map(|(topic, id)| topic.with_topic_id(id)).collect(),
        None => found
            .filter_map(|topic| {
                let id = broker.topic(topic.name.as_str())?.id;
                Some(topic.with_topic_id(id))
            })
            .collect(),
    };
    response.topics.extend(unknown.into_iter().map(unknown_topic));
    response
}

fn unknown_topic(asked: OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let code = ResponseError::UnknownTopicId.code();
    let partition = |p| partitions_entry(p, None).with_error_code(code);
    OffsetFetchResponseTopics::default()
        .with_topic_id(asked.topic_id)
        .with_partitions(asked.partition_indexes.into_iter().map(partition).collect())
}

/// What a group has committed for what is asked. A member of a consumer group may say who it is, and in which epoch.
async fn fetch(
    broker: &Broker,
    group: &str,
    (member, epoch): (Option<&str>, i32),
    asked: Asked,
) -> Result<Found, ResponseError> {
    let shard = broker.groups.shard(broker, group)?;
    shard.linearize().await?;
    shard.act(|ask| {
        if let Some(group) = ask.machine.consumer(group) {
            group.may_fetch(member, epoch)?;
        }
        let offsets = ask.table.get(group).map(|stored| &stored.offsets);
        let find = |topic: &str, p: i32| offsets.and_then(|offsets| offsets.get(topic, p)).cloned();
        Ok(match asked {
            Some(topics) => topics
                .into_iter()
                .map(|(name, partitions)| {
                    let found =
                        partitions.into_iter().map(|p| (p, find(name.as_str(), p))).collect();
                    (name, found)
                })
                .collect(),
            None => {
                let mut found: Found = Vec::new();
                for (topic, partition, committed) in
                    offsets.iter().flat_map(|offsets| offsets.iter())
                {
                    if found.last().is_none_or(|(name, _)| name.as_str() != topic) {
                        found.push((TopicName(text(topic)), Vec::new()));
                    }
                    if let Some((_, partitions)) = found.last_mut() {
                        partitions.push((partition, Some(committed.clone())));
                    }
                }
                found
            }
        })
    })?
}

fn partitions_entry(partition: i32, found: Option<Committed>) -> OffsetFetchResponsePartitions {
    let (offset, epoch, metadata) = parts(found);
    OffsetFetchResponsePartitions::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(epoch)
        .with_metadata(Some(metadata))
}

fn topic(
    name: TopicName,
    partitions: Vec<(i32, Option<Committed>)>,
    code: i16,
) -> OffsetFetchResponseTopic {
    let entry = |(partition, found): (i32, Option<Committed>)| {
        let (offset, epoch, metadata) = parts(found);
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(Some(metadata))
            .with_error_code(code)
    };
    let partitions = partitions.into_iter().map(entry).collect();
    OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions)
}

/// Offset, leader epoch and metadata; -1 says that nothing is committed.
fn parts(found: Option<Committed>) -> (i64, i32, StrBytes) {
    match found {
        Some(found) => (found.offset, found.leader_epoch, text(found.metadata)),
        None => (-1, -1, StrBytes::default()),
    }
}
