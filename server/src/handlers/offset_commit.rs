//! OffsetCommit (8), versions 1 to 10: how far a group has read, answered once it is stored on a majority.
//!
//! A partition that cannot be committed is refused by itself; who may commit is asked of the whole request.

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::groups::{caller, code, stored};
use crate::broker::{Broker, now_ms};
use crate::controller::Topic;
use crate::dispatch::{Answer, Call, Refused};
use crate::groups::{Commit, Committed};
use crate::legacy::offsets::{CommitV1, decode_commit_v1, decode_commit_v10, encode_commit_v10};

/// The generation may be the epoch of a member of a consumer group from this version on.
const VERSION_MEMBER_EPOCH: i16 = 9;
/// Topics are named by id from this version on.
const VERSION_TOPIC_IDS: i16 = 10;

/// Decodes, commits and answers.
///
/// # Errors
/// [`Refused`] when the request does not decode.
pub(crate) async fn handle(broker: Arc<Broker>, call: Call) -> Result<Answer, Refused> {
    let response = match call.version {
        1 => {
            let CommitV1 { request, timestamps } = call.decode_by(decode_commit_v1)?;
            let response = answer(&broker, &call, request, &timestamps).await;
            // The answer of version 2 has the same bytes.
            call.respond_as(&response, 2)?
        }
        VERSION_TOPIC_IDS => {
            let request = call.decode_by(decode_commit_v10)?;
            let response = answer(&broker, &call, request, &[]).await;
            let mut body = BytesMut::new();
            encode_commit_v10(&response, &mut body).map_err(|e| call.malformed(e))?;
            call.respond_raw([body.freeze()], call.version)?.with_errors_of(&response)
        }
        _ => call.respond(&answer(&broker, &call, call.decode()?, &[]).await)?,
    };
    Ok(Answer::Now(Some(response)))
}

/// Commits. `timestamps` say when each offset counts as committed, where the client tells.
async fn answer(
    broker: &Broker,
    call: &Call,
    request: OffsetCommitRequest,
    timestamps: &[Vec<i64>],
) -> OffsetCommitResponse {
    let now_ms = now_ms();
    // From version 2 to 4 the client may say how long the offset is kept.
    let expires_ms =
        (request.retention_time_ms >= 0).then(|| now_ms.saturating_add(request.retention_time_ms));
    let mut offsets = Vec::new();
    let mut refused = Vec::new();
    for (t, asked) in request.topics.iter().enumerate() {
        let topic = find(broker, call.version, asked);
        for (p, partition) in asked.partitions.iter().enumerate() {
            let topic = topic.as_ref().map_err(|unknown| *unknown);
            let checked = topic.and_then(|topic| check(broker, topic, partition));
            refused.push(checked.err());
            if let Ok(topic) = checked {
                let told = timestamps.get(t).and_then(|times| times.get(p)).copied();
                let committed = Committed {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: metadata(partition).to_owned(),
                    committed_ms: told.filter(|told| *told >= 0).unwrap_or(now_ms),
                    expires_ms,
                    topic_id: topic.id,
                };
                offsets.push((topic.name.clone(), partition.partition_index, committed));
            }
        }
    }
    let committed = commit(broker, call, &request, offsets).await;
    let mut codes =
        refused.into_iter().map(|refused| refused.map_or(code(committed), |code| code.code()));
    let topics = request.topics.into_iter().map(|topic| of_topic(topic, &mut codes)).collect();
    OffsetCommitResponse::default().with_topics(topics)
}

/// The topic that is asked for, by its name or its id.
fn find(
    broker: &Broker,
    version: i16,
    asked: &OffsetCommitRequestTopic,
) -> Result<Arc<Topic>, ResponseError> {
    if version >= VERSION_TOPIC_IDS {
        return broker.topic_by_id(asked.topic_id).ok_or(ResponseError::UnknownTopicId);
    }
    broker.topic(asked.name.as_str()).ok_or(ResponseError::UnknownTopicOrPartition)
}

fn metadata(partition: &OffsetCommitRequestPartition) -> &str {
    partition.committed_metadata.as_deref().unwrap_or_default()
}

fn check<'a>(
    broker: &Broker,
    topic: &'a Topic,
    partition: &OffsetCommitRequestPartition,
) -> Result<&'a Topic, ResponseError> {
    let index = usize::try_from(partition.partition_index).unwrap_or(usize::MAX);
    if index >= topic.partitions.len() {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    if metadata(partition).len() > broker.groups.limits().metadata_bytes_max {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    Ok(topic)
}

async fn commit(
    broker: &Broker,
    call: &Call,
    request: &OffsetCommitRequest,
    offsets: Vec<(String, i32, Committed)>,
) -> Result<(), ResponseError> {
    let group = request.group_id.as_str();
    let shard = broker.groups.shard(broker, group)?;
    let instance = request.group_instance_id.as_ref();
    let caller = caller(&request.member_id, instance, request.generation_id_or_member_epoch);
    let commit = Commit { caller, tells_epoch: call.version >= VERSION_MEMBER_EPOCH, offsets };
    let waits = shard.ask(|ask| ask.machine.commit(group, commit, ask.token, ask.now, ask.fx))?;
    stored(broker, waits).await
}

fn of_topic(
    topic: OffsetCommitRequestTopic,
    codes: &mut impl Iterator<Item = i16>,
) -> OffsetCommitResponseTopic {
    let partition = |(asked, code): (OffsetCommitRequestPartition, i16)| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(asked.partition_index)
            .with_error_code(code)
    };
    let partitions = topic.partitions.into_iter().zip(codes).map(partition).collect();
    OffsetCommitResponseTopic::default()
        .with_name(topic.name)
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions)
}
