//! FindCoordinator (10), versions 0 to 6: which node coordinates a group, several groups at a time from version 4 on.
//!
//! The first to ask has the topic for groups created. Transactions and share groups are not served yet: clients are told,
//! with a retriable error, that no coordinator is available.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::groups::text;
use crate::broker::Broker;
use crate::controller;
use crate::dispatch::Call;
use crate::groups::topic::{find_or_create, partition_of};

/// Several keys at a time.
const VERSION_KEYS: i16 = 4;
/// The type of key that names a group.
const GROUP: i8 = 0;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    if call.version < VERSION_KEYS {
        return match find(broker, request.key_type, &request.key).await {
            Ok(found) => FindCoordinatorResponse::default()
                .with_error_message(Some(StrBytes::from_static_str("NONE")))
                .with_node_id(found.id.into())
                .with_host(text(found.host))
                .with_port(i32::from(found.port)),
            Err((code, why)) => FindCoordinatorResponse::default()
                .with_error_code(code.code())
                .with_error_message(Some(StrBytes::from_static_str(why)))
                .with_node_id((-1).into())
                .with_port(-1),
        };
    }
    let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
    for key in request.coordinator_keys {
        let coordinator = match find(broker, request.key_type, &key).await {
            Ok(found) => Coordinator::default()
                .with_node_id(found.id.into())
                .with_host(text(found.host))
                .with_port(i32::from(found.port)),
            Err((code, why)) => Coordinator::default()
                .with_error_code(code.code())
                .with_error_message(Some(StrBytes::from_static_str(why)))
                .with_node_id((-1).into())
                .with_port(-1),
        };
        coordinators.push(coordinator.with_key(key));
    }
    FindCoordinatorResponse::default().with_coordinators(coordinators)
}

async fn find(
    broker: &Broker,
    key_type: i8,
    key: &str,
) -> Result<controller::Broker, (ResponseError, &'static str)> {
    let not_available = ResponseError::CoordinatorNotAvailable;
    if key_type != GROUP {
        let why = "transactions and share groups are not available on this node yet";
        return Err((not_available, why));
    }
    let topic = find_or_create(broker).await;
    let topic = topic.map_err(|code| (code, "the topic for groups cannot be created yet"))?;
    let leader = topic.partitions.get(partition_of(key, topic.partitions.len()));
    let leader = leader.and_then(|placed| broker.leader_of(placed.group));
    let found =
        leader.and_then(|leader| broker.controller.image().brokers.get(&leader.broker).cloned());
    found.ok_or((not_available, "the group's partition has no leader at the moment"))
}
