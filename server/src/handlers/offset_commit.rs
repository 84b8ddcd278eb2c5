//! OffsetCommit (8), versions 2 to 9: how far a group has read, answered once it is stored on a majority.
//!
//! A partition that cannot be committed is refused by itself; who may commit is asked of the whole request.

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
use crate::dispatch::Call;
use crate::groups::{Commit, Committed};

/// The generation may be the epoch of a member of a consumer group from this version on.
const VERSION_MEMBER_EPOCH: i16 = 9;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let now_ms = now_ms();
    // Until version 4 the client may say how long the offset is kept.
    let expires_ms =
        (request.retention_time_ms >= 0).then(|| now_ms.saturating_add(request.retention_time_ms));
    let mut offsets = Vec::new();
    let mut refused = Vec::new();
    for asked in &request.topics {
        let topic = broker.topic(asked.name.as_str());
        for partition in &asked.partitions {
            let checked = check(broker, topic.as_deref(), partition);
            refused.push(checked.err());
            if let Ok(topic) = checked {
                let committed = Committed {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: metadata(partition).to_owned(),
                    committed_ms: now_ms,
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
    let topics = request.topics.into_iter().map(|topic| answer(topic, &mut codes)).collect();
    OffsetCommitResponse::default().with_topics(topics)
}

fn metadata(partition: &OffsetCommitRequestPartition) -> &str {
    partition.committed_metadata.as_deref().unwrap_or_default()
}

fn check<'a>(
    broker: &Broker,
    topic: Option<&'a Topic>,
    partition: &OffsetCommitRequestPartition,
) -> Result<&'a Topic, ResponseError> {
    let index = usize::try_from(partition.partition_index).unwrap_or(usize::MAX);
    let known = topic.filter(|topic| index < topic.partitions.len());
    let topic = known.ok_or(ResponseError::UnknownTopicOrPartition)?;
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

fn answer(
    topic: OffsetCommitRequestTopic,
    codes: &mut impl Iterator<Item = i16>,
) -> OffsetCommitResponseTopic {
    let partition = |(asked, code): (OffsetCommitRequestPartition, i16)| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(asked.partition_index)
            .with_error_code(code)
    };
    let partitions = topic.partitions.into_iter().zip(codes).map(partition).collect();
    OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
}
