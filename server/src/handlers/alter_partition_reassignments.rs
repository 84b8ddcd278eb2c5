//! AlterPartitionReassignments (45), versions 0 and 1: moves partitions to other brokers (KIP-455).
//!
//! The answer means that the moves are under way; ListPartitionReassignments tells when they are done. Null
//! replicas turn a move back.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::topics::{self, Refusal};
use crate::broker::Broker;
use crate::controller::{Error, TopicPartition};
use crate::dispatch::Call;

/// Changes that meet another one are looked at again so many times.
const TRIES: usize = 3;
/// The first version that tells whether the number of replicas may change.
const VERSION_FACTOR: i16 = 1;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let may_change_factor =
        call.version < VERSION_FACTOR || request.allow_replication_factor_change;
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let entry = ReassignablePartitionResponse::default()
                .with_partition_index(asked.partition_index);
            partitions.push(match alter(broker, &topic.name, &asked, may_change_factor).await {
                Ok(()) => entry.with_error_message(None),
                Err(refusal) => entry
                    .with_error_code(refusal.code.code())
                    .with_error_message(Some(StrBytes::from_string(refusal.message))),
            });
        }
        let entry = ReassignableTopicResponse::default().with_name(topic.name);
        responses.push(entry.with_partitions(partitions));
    }
    let response = AlterPartitionReassignmentsResponse::default()
        .with_error_message(None)
        .with_responses(responses);
    if call.version >= VERSION_FACTOR {
        response.with_allow_replication_factor_change(request.allow_replication_factor_change)
    } else {
        response
    }
}

async fn alter(
    broker: &Broker,
    name: &str,
    asked: &ReassignablePartition,
    may_change_factor: bool,
) -> Result<(), Refusal> {
    let mut tries = 0;
    loop {
        let placed = find(broker, name, asked.partition_index)?;
        let target = target(broker, &placed, asked, may_change_factor)?;
        if !placed.is_moving() && target == placed.brokers {
            return Ok(());
        }
        tries += 1;
        match broker.controller.reassign(placed.group, placed.brokers, target).await {
            Ok(()) => return Ok(()),
            // It moved meanwhile.
            Err(Error::Stale) if tries < TRIES => {}
            Err(error) => return Err(refused(&error)),
        }
    }
}

fn refused(error: &Error) -> Refusal {
    let code = match error {
        Error::Stale => ResponseError::ReassignmentInProgress,
        Error::UnknownBroker => ResponseError::InvalidReplicaAssignment,
        error => crate::error::controller_code(error),
    };
    Refusal::new(code, error.to_string())
}

fn find(broker: &Broker, name: &str, index: i32) -> Result<TopicPartition, Refusal> {
    let missing = |text: String| Refusal::new(ResponseError::UnknownTopicOrPartition, text);
    let topic = broker.topic(name);
    let topic = topic.ok_or_else(|| missing(format!("Unable to find a topic named {name}.")))?;
    let placed = usize::try_from(index).ok().and_then(|i| topic.partitions.get(i));
    placed.cloned().ok_or_else(|| missing(format!("Unable to find partition {name}:{index}.")))
}

/// Where the partition is to move; nowhere in particular when the move is to be turned back.
fn target(
    broker: &Broker,
    placed: &TopicPartition,
    asked: &ReassignablePartition,
    may_change_factor: bool,
) -> Result<Vec<i32>, Refusal> {
    let Some(replicas) = &asked.replicas else {
        if placed.is_moving() {
            return Ok(Vec::new());
        }
        let text = "No partition reassignment is in progress.";
        return Err(Refusal::new(ResponseError::NoReassignmentInProgress, text));
    };
    let target: Vec<i32> = replicas.iter().map(|id| id.0).collect();
    topics::check_assignments(broker, std::slice::from_ref(&target), None)?;
    let headed = if placed.is_moving() { &placed.target } else { &placed.brokers };
    if !may_change_factor && target.len() != headed.len() {
        let (from, to) = (headed.len(), target.len());
        let text = format!("The replication factor is changed from {from} to {to}");
        return Err(Refusal::new(ResponseError::InvalidReplicationFactor, text));
    }
    Ok(target)
}
