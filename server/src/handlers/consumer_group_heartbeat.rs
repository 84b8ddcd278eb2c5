//! ConsumerGroupHeartbeat (68), versions 0 and 1: joining, staying in and leaving a group of the consumer protocol (KIP-848).
//!
//! From version 1 on the client chooses its member id (KIP-1082).

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_response::{
    Assignment as ToldAssignment, TopicPartitions,
};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use uuid::Uuid;

use super::groups::{reply, shard, text};
use crate::broker::Broker;
use crate::dispatch::Call;
use crate::groups::consumer::{Assignment, Assignor, Beat, ConsumerLimits, Heard, Refusal};
use crate::groups::effects::Reply;

/// The client chooses its member id from this version on.
const VERSION_MEMBER_ID: i16 = 1;
/// Bytes of all topic names that a member subscribes to: they become part of a record.
const NAMES_BYTES_MAX: usize = 256 << 10;
/// Keys of records have strings of 32 KiB at most.
const ID_BYTES_MAX: usize = 1 << 10;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    match heartbeat(broker, call, request).await {
        Ok(heard) => ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(heard.member_id)))
            .with_member_epoch(heard.epoch)
            .with_heartbeat_interval_ms(heard.interval_ms)
            .with_assignment(heard.assignment.map(told)),
        Err(refusal) => ConsumerGroupHeartbeatResponse::default()
            .with_error_code(refusal.code.code())
            .with_error_message(Some(text(refusal.message))),
    }
}

fn told(assignment: Assignment) -> ToldAssignment {
    let topic = |(id, parts): (Uuid, BTreeSet<i32>)| {
        TopicPartitions::default().with_topic_id(id).with_partitions(parts.into_iter().collect())
    };
    ToldAssignment::default().with_topic_partitions(assignment.into_iter().map(topic).collect())
}

async fn heartbeat(
    broker: &Broker,
    call: &Call,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<Heard, Refusal> {
    check(call.version, &request, &broker.groups.limits().consumer)?;
    let shard = shard(broker, request.group_id.as_str())?;
    let beat = read(call, request);
    broker.groups.refresh(broker);
    let waits = shard.ask(|ask| {
        ask.machine.beat(&beat, ask.token, ask.table, ask.now, ask.limits, ask.fx);
        Ok(())
    })?;
    match reply(broker, waits).await? {
        Reply::Heard(heard) => heard,
        Reply::Joined(_) | Reply::Synced(_) | Reply::Stored(_) => {
            Err(ResponseError::UnknownServerError.into())
        }
    }
}

/// Checks what the request says by itself, in the order and the words of Kafka.
fn check(
    version: i16,
    request: &ConsumerGroupHeartbeatRequest,
    limits: &ConsumerLimits,
) -> Result<(), Refusal> {
    let invalid = |text: &str| Err(Refusal::new(ResponseError::InvalidRequest, text));
    let is_empty = |text: &Option<_>| {
        text.as_ref().is_some_and(|t: &kafka_protocol::protocol::StrBytes| t.is_empty())
    };
    let epoch = request.member_epoch;
    if (version >= VERSION_MEMBER_ID || epoch != 0) && request.member_id.is_empty() {
        return invalid("MemberId can't be empty.");
    }
    if request.group_id.trim().is_empty() {
        return invalid("GroupId can't be empty.");
    }
    if is_empty(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if is_empty(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    let ids = [request.group_id.len(), request.member_id.len()];
    let named = [&request.instance_id, &request.rack_id, &request.server_assignor];
    let named = named.into_iter().flatten().map(|name| name.len());
    if ids.into_iter().chain(named).any(|bytes| bytes > ID_BYTES_MAX) {
        return invalid("Ids and names may have 1024 bytes.");
    }
    match epoch {
        0 => check_joining(request)?,
        -2 if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
        ..-2 => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    let names = request.subscribed_topic_names.iter().flatten();
    if names.map(|name| name.len() + 2).sum::<usize>() > NAMES_BYTES_MAX {
        return invalid("The names of subscribed topics may have 256 KiB.");
    }
    check_assignor(request.server_assignor.as_deref(), limits)
}

fn check_joining(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let invalid = |text: &str| Err(Refusal::new(ResponseError::InvalidRequest, text));
    if request.rebalance_timeout_ms == -1 {
        return invalid("RebalanceTimeoutMs must be provided in first request.");
    }
    if request.topic_partitions.as_ref().is_none_or(|parts| !parts.is_empty()) {
        return invalid("TopicPartitions must be empty when (re-)joining.");
    }
    if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
        return invalid(
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        );
    }
    Ok(())
}

fn check_assignor(asked: Option<&str>, limits: &ConsumerLimits) -> Result<(), Refusal> {
    let Some(asked) = asked else { return Ok(()) };
    let offered = match Assignor::find(asked) {
        Some(Assignor::Uniform) => limits.assignors.0,
        Some(Assignor::Range) => limits.assignors.1,
        None => false,
    };
    if offered {
        return Ok(());
    }
    let names = [(limits.assignors.0, "uniform"), (limits.assignors.1, "range")];
    let names: Vec<&str> = names.into_iter().filter(|(has, _)| *has).map(|(_, n)| n).collect();
    let text = format!(
        "ServerAssignor {asked} is not supported. Supported assignors: {}.",
        names.join(", ")
    );
    Err(Refusal::new(ResponseError::UnsupportedAssignor, text))
}

fn read(call: &Call, request: ConsumerGroupHeartbeatRequest) -> Beat {
    let member_id = match request.member_id.is_empty() {
        true => Uuid::new_v4().to_string(),
        false => request.member_id.to_string(),
    };
    let string = |text: Option<kafka_protocol::protocol::StrBytes>| text.map(|t| t.to_string());
    let owned = request.topic_partitions.map(|owned| {
        let mut all = Assignment::new();
        for topic in owned {
            all.entry(topic.topic_id).or_default().extend(topic.partitions);
        }
        all
    });
    Beat {
        group: request.group_id.to_string(),
        member_id,
        epoch: request.member_epoch,
        instance: string(request.instance_id),
        rack: string(request.rack_id),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != -1),
        topics: request
            .subscribed_topic_names
            .map(|names| names.iter().map(|name| name.to_string()).collect()),
        regex: string(request.subscribed_topic_regex),
        assignor: string(request.server_assignor),
        owned,
        client_id: call.client_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        client_host: format!("/{}", call.peer),
    }
}
