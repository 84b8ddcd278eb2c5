//! CreatePartitions (37), versions 0 to 3: more partitions for a topic (KIP-195). Every topic is
//! answered.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::topics::{self, PARTITIONS_MAX, Refusal};
use crate::broker::Broker;
use crate::controller::Topic;
use crate::dispatch::Call;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut seen = BTreeSet::new();
    let mut results = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let result = if seen.insert(asked.name.clone()) {
            add(broker, &asked, request.validate_only).await
        } else {
            let text = "the topic is named twice in the request";
            Err(Refusal::new(ResponseError::InvalidRequest, text))
        };
        let entry = CreatePartitionsTopicResult::default().with_name(asked.name);
        results.push(match result {
            Ok(()) => entry,
            Err(refusal) => entry
                .with_error_code(refusal.code.code())
                .with_error_message(Some(StrBytes::from_string(refusal.message))),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

async fn add(
    broker: &Broker,
    asked: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Refusal> {
    let missing = || {
        let code = ResponseError::UnknownTopicOrPartition;
        Refusal::new(code, format!("there is no topic {}", asked.name.as_str()))
    };
    let topic = broker.topic(&asked.name).ok_or_else(missing)?;
    let existing = topic.partitions.len();
    let partitions = new_partitions(broker, &topic, asked)?;
    if validate_only {
        return Ok(());
    }
    let existing = u32::try_from(existing).unwrap_or(u32::MAX);
    broker.controller.create_partitions(topic.id, existing, partitions).await?;
    topics::wait_until_ready(broker, topic.id).await;
    Ok(())
}

fn new_partitions(
    broker: &Broker,
    topic: &Topic,
    asked: &CreatePartitionsTopic,
) -> Result<Vec<Vec<i32>>, Refusal> {
    let existing = topic.partitions.len();
    let count = usize::try_from(asked.count).unwrap_or(0);
    let invalid = |text: String| Refusal::new(ResponseError::InvalidPartitions, text);
    if count <= existing {
        return Err(invalid(format!(
            "The topic {} currently has {existing} partition(s); {} would not be an increase.",
            topic.name, asked.count
        )));
    }
    if asked.count.unsigned_abs() > PARTITIONS_MAX {
        return Err(invalid(format!("a topic may have {PARTITIONS_MAX} partitions")));
    }
    let factor = topic.partitions.first().map_or(1, |p| p.brokers.len());
    let Some(assignments) = &asked.assignments else {
        return topics::assign(broker, factor, &topic.partitions, count - existing);
    };
    let lists: Vec<Vec<i32>> =
        assignments.iter().map(|a| a.broker_ids.iter().map(|id| id.0).collect()).collect();
    if lists.len() != count - existing {
        let text = format!(
            "Attempted to add {} additional partition(s), but only {} assignment(s) were specified.",
            count - existing,
            lists.len()
        );
        return Err(Refusal::new(ResponseError::InvalidReplicaAssignment, text));
    }
    topics::check_assignments(broker, &lists, Some(factor))?;
    Ok(lists)
}
