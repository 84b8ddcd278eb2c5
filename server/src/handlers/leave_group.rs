//! LeaveGroup (13), versions 0 to 5: one member, or several from version 3 on (KIP-345).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::groups::{code, shard};
use crate::broker::Broker;
use crate::dispatch::Call;

/// Several members may leave together.
const VERSION_BATCH: i16 = 3;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let members = match call.version {
        VERSION_BATCH.. => request.members,
        _ => vec![MemberIdentity::default().with_member_id(request.member_id)],
    };
    let answers = match leave(broker, request.group_id.as_str(), &members) {
        Ok(answers) => answers,
        // Kafka tells this of each member.
        Err(ResponseError::UnknownMemberId) => {
            members.iter().map(|_| Err(ResponseError::UnknownMemberId)).collect()
        }
        Err(refused) => return LeaveGroupResponse::default().with_error_code(refused.code()),
    };
    if call.version < VERSION_BATCH {
        let alone = answers.into_iter().next().unwrap_or(Ok(()));
        return LeaveGroupResponse::default().with_error_code(code(alone));
    }
    let answer = |(member, answer): (MemberIdentity, Result<(), ResponseError>)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code(answer))
    };
    LeaveGroupResponse::default()
        .with_members(members.into_iter().zip(answers).map(answer).collect())
}

fn leave(
    broker: &Broker,
    group: &str,
    members: &[MemberIdentity],
) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
    let who: Vec<(String, Option<String>)> = members
        .iter()
        .map(|m| (m.member_id.to_string(), m.group_instance_id.as_ref().map(ToString::to_string)))
        .collect();
    shard(broker, group)?
        .act(|ask| ask.machine.leave(group, &who, ask.table, ask.now, ask.limits, ask.fx))?
}
