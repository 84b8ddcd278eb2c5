//! What the handlers of group APIs share: finding the groups' shard, waiting for what comes later, strings.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::groups::effects::Reply;
use crate::groups::{Caller, Shard};

/// Everything that may be done with a group, as a bit field (KIP-430): read, delete, describe, and its configs' two. There
/// are no ACLs yet.
pub(super) const GROUP_OPERATIONS: i32 = (1 << 3) | (1 << 6) | (1 << 8) | (1 << 10) | (1 << 11);

/// The shard of a group whose name may not be empty.
///
/// # Errors
/// `INVALID_GROUP_ID`, `COORDINATOR_NOT_AVAILABLE`, `NOT_COORDINATOR`.
pub(super) fn shard(broker: &Broker, group: &str) -> Result<Arc<Shard>, ResponseError> {
    if group.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    broker.groups.shard(broker, group)
}

/// What a request that waits is answered.
///
/// # Errors
/// `NOT_COORDINATOR` when this node ceases to coordinate, or stops.
pub(super) async fn reply(
    broker: &Broker,
    waits: oneshot::Receiver<Reply>,
) -> Result<Reply, ResponseError> {
    let clients = broker.clients();
    tokio::select! {
        biased;
        reply = waits => reply.map_err(|_| ResponseError::NotCoordinator),
        () = clients.cancelled() => Err(ResponseError::NotCoordinator),
    }
}

/// Waits until something is stored.
///
/// # Errors
/// Why it is not.
pub(super) async fn stored(
    broker: &Broker,
    waits: oneshot::Receiver<Reply>,
) -> Result<(), ResponseError> {
    match reply(broker, waits).await? {
        Reply::Stored(result) => result,
        Reply::Joined(_) | Reply::Synced(_) | Reply::Heard(_) => {
            Err(ResponseError::UnknownServerError)
        }
    }
}

/// Who calls, as a request says it.
pub(super) fn caller(member: &StrBytes, instance: Option<&StrBytes>, generation: i32) -> Caller {
    Caller {
        member_id: member.to_string(),
        instance: instance.map(ToString::to_string),
        generation,
    }
}

/// The number of an error, 0 for none.
pub(super) fn code(result: Result<(), ResponseError>) -> i16 {
    result.err().map_or(0, |code| code.code())
}

/// A string of an answer.
pub(super) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
