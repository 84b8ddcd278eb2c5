//! OffsetDelete (47), version 0: forgets what a group has committed for topics that it does not read (KIP-496).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::groups::{code, shard, stored};
use crate::broker::Broker;
use crate::dispatch::Call;

/// What each partition is answered, by topic and partition.
type Verdicts = Vec<Vec<Result<(), ResponseError>>>;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let verdicts = match delete(broker, &request).await {
        Ok(verdicts) => verdicts,
        Err(refused) => return OffsetDeleteResponse::default().with_error_code(refused.code()),
    };
    let topics = request.topics.into_iter().zip(verdicts).map(|(topic, verdicts)| {
        let partitions = topic.partitions.into_iter().zip(verdicts).map(|(asked, verdict)| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code(verdict))
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}

async fn delete(broker: &Broker, request: &OffsetDeleteRequest) -> Result<Verdicts, ResponseError> {
    let group = request.group_id.as_str();
    let shard = shard(broker, group)?;
    let count = |name: &str| broker.topic(name).map_or(0, |topic| topic.partitions.len());
    let counts: Vec<usize> = request.topics.iter().map(|t| count(t.name.as_str())).collect();
    let mut verdicts: Verdicts = Vec::new();
    let waits = shard.ask(|ask| {
        let mut chosen = Vec::new();
        for (topic, count) in request.topics.iter().zip(counts) {
            let mut of_topic = Vec::new();
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let exists = usize::try_from(index).is_ok_and(|index| index < count);
                // What the group as a whole does not allow is told at the top.
                let verdict = match ask.machine.may_delete_offsets(group, topic.name.as_str()) {
                    Err(ResponseError::GroupSubscribedToTopic) => {
                        Err(ResponseError::GroupSubscribedToTopic)
                    }
                    other => {
                        other?;
                        if exists { Ok(()) } else { Err(ResponseError::UnknownTopicOrPartition) }
                    }
                };
                if verdict.is_ok() {
                    chosen.push((topic.name.to_string(), index));
                }
                of_topic.push(verdict);
            }
            verdicts.push(of_topic);
        }
        if request.topics.is_empty() {
            ask.machine.may_delete_offsets(group, "")?;
        }
        ask.machine.delete_offsets(group, chosen, ask.table, ask.token, ask.fx);
        Ok(())
    })?;
    stored(broker, waits).await?;
    Ok(verdicts)
}
