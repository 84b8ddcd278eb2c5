//! JoinGroup (11), versions 0 to 9: answered when the group's rebalance has gathered its members.
//!
//! Version 4 gives somebody new an id first (KIP-394), version 5 brings static members (KIP-345), version 9 tells a leader
//! that it has nothing to assign (KIP-814).

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::groups::{reply, shard, text};
use crate::broker::Broker;
use crate::dispatch::Call;
use crate::groups::effects::{Joined, Reply};
use crate::groups::{Join, Limits, Protocol};

/// What a member says of itself becomes part of a record, which may not be larger.
const METADATA_BYTES_MAX: usize = 1 << 20;
/// Somebody new is told its id first from this version on.
const VERSION_ID_REQUIRED: i16 = 4;
/// The protocol that the members have agreed on may be null from this version on, and its type is told.
const VERSION_PROTOCOL_TYPE: i16 = 7;
/// A leader may be told not to assign.
const VERSION_SKIPS_ASSIGNMENT: i16 = 9;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let member_id = request.member_id.to_string();
    let joined = join(broker, call, request).await;
    answer(call.version, joined.unwrap_or_else(|code| Joined::refused(&member_id, code)))
}

async fn join(
    broker: &Broker,
    call: &Call,
    request: JoinGroupRequest,
) -> Result<Joined, ResponseError> {
    let shard = shard(broker, request.group_id.as_str())?;
    let ask = read(call, request, &broker.groups.limits())?;
    let waits = shard.ask(|shard| {
        let (token, table, now, limits) = (shard.token, shard.table, shard.now, shard.limits);
        shard.machine.join(ask, token, table, now, limits, shard.fx);
        Ok(())
    })?;
    match reply(broker, waits).await? {
        Reply::Joined(joined) => Ok(joined),
        Reply::Synced(_) | Reply::Stored(_) | Reply::Heard(_) => {
            Err(ResponseError::UnknownServerError)
        }
    }
}

/// Reads and checks what the request says by itself.
fn read(call: &Call, request: JoinGroupRequest, limits: &Limits) -> Result<Join, ResponseError> {
    let (shortest, longest) = limits.session_timeout_ms;
    if !(shortest..=longest).contains(&request.session_timeout_ms) {
        return Err(ResponseError::InvalidSessionTimeout);
    }
    let bytes: usize = request.protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum();
    if bytes > METADATA_BYTES_MAX {
        return Err(ResponseError::UnknownServerError);
    }
    let client_id = call.client_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let instance = request.group_instance_id.as_ref().map(ToString::to_string);
    let prefix = instance.as_deref().unwrap_or(&client_id);
    let protocol = |p: kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol| {
        // The request's buffer is not kept.
        Protocol { name: p.name.to_string(), metadata: Bytes::copy_from_slice(&p.metadata) }
    };
    // Version 0 has no rebalance time-out: it is the session's.
    let rebalance_timeout_ms = match request.rebalance_timeout_ms {
        -1 => request.session_timeout_ms,
        given => given.max(0),
    };
    Ok(Join {
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        new_id: format!("{prefix}-{}", Uuid::new_v4()),
        instance,
        client_id,
        client_host: format!("/{}", call.peer),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(protocol).collect(),
        requires_id: call.version >= VERSION_ID_REQUIRED,
        skips_assignment: call.version >= VERSION_SKIPS_ASSIGNMENT,
    })
}

fn answer(version: i16, joined: Joined) -> JoinGroupResponse {
    let member = |member: crate::groups::effects::JoinedMember| {
        JoinGroupResponseMember::default()
            .with_member_id(text(member.id))
            .with_group_instance_id(member.instance.map(text))
            .with_metadata(member.metadata)
    };
    let protocol = match joined.protocol {
        None if version < VERSION_PROTOCOL_TYPE => Some(StrBytes::default()),
        protocol => protocol.map(text),
    };
    let response = JoinGroupResponse::default()
        .with_error_code(joined.code.map_or(0, |code| code.code()))
        .with_generation_id(joined.generation)
        .with_protocol_name(protocol)
        .with_leader(text(joined.leader))
        .with_member_id(text(joined.member_id))
        .with_members(joined.members.into_iter().map(member).collect());
    let response = match version {
        VERSION_SKIPS_ASSIGNMENT.. => response.with_skip_assignment(joined.skip_assignment),
        _ => response,
    };
    match version {
        VERSION_PROTOCOL_TYPE.. => response.with_protocol_type(joined.protocol_type.map(text)),
        _ => response,
    }
}
