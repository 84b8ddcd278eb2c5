//! SyncGroup (14), versions 0 to 5: answered when the leader's assignment is stored.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::groups::{caller, reply, shard, text};
use crate::broker::Broker;
use crate::dispatch::Call;
use crate::groups::Sync;
use crate::groups::effects::{Reply, Synced};

/// The protocol is told from this version on.
const VERSION_PROTOCOL: i16 = 5;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let synced = sync(broker, request).await.unwrap_or_else(Synced::refused);
    let response = SyncGroupResponse::default()
        .with_error_code(synced.code.map_or(0, |code| code.code()))
        .with_assignment(synced.assignment);
    match call.version {
        VERSION_PROTOCOL.. => response
            .with_protocol_type(synced.protocol_type.map(text))
            .with_protocol_name(synced.protocol.map(text)),
        _ => response,
    }
}

async fn sync(broker: &Broker, request: SyncGroupRequest) -> Result<Synced, ResponseError> {
    let shard = shard(broker, request.group_id.as_str())?;
    let instance = request.group_instance_id.as_ref();
    // The request's buffer is not kept.
    let given = request.assignments.iter();
    let given = given.map(|a| (a.member_id.to_string(), Bytes::copy_from_slice(&a.assignment)));
    let ask = Sync {
        group: request.group_id.to_string(),
        caller: caller(&request.member_id, instance, request.generation_id),
        protocol_type: request.protocol_type.as_ref().map(ToString::to_string),
        protocol: request.protocol_name.as_ref().map(ToString::to_string),
        assignments: given.collect::<HashMap<String, Bytes>>(),
    };
    let waits = shard.ask(|shard| {
        let (token, table, now, limits) = (shard.token, shard.table, shard.now, shard.limits);
        shard.machine.sync(ask, token, table, now, limits, shard.fx);
        Ok(())
    })?;
    match reply(broker, waits).await? {
        Reply::Synced(synced) => Ok(synced),
        Reply::Joined(_) | Reply::Stored(_) | Reply::Heard(_) => {
            Err(ResponseError::UnknownServerError)
        }
    }
}
