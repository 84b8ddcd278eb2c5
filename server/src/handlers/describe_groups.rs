//! DescribeGroups (15), versions 0 to 6: a classic group's state and members. Groups of the consumer protocol do not exist here,
//! as in Kafka: tools ask ConsumerGroupDescribe first.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

use super::groups::{GROUP_OPERATIONS, shard, text};
use crate::broker::Broker;
use crate::dispatch::Call;
use crate::groups::group::{Group, State};

/// A group that does not exist is an error from this version on, and not a dead group (KIP-1043).
const VERSION_NOT_FOUND: i16 = 6;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let operations = request.include_authorized_operations;
    let describe = |group: GroupId| {
        let described = describe(broker, call.version, group.as_str()).with_group_id(group);
        match operations && described.error_code == 0 {
            true => described.with_authorized_operations(GROUP_OPERATIONS),
            false => described,
        }
    };
    DescribeGroupsResponse::default()
        .with_groups(request.groups.into_iter().map(describe).collect())
}

fn describe(broker: &Broker, version: i16, group: &str) -> DescribedGroup {
    let described = shard(broker, group).and_then(|shard| {
        shard.act(|ask| (ask.machine.get(group).map(entry), ask.machine.consumer(group).is_some()))
    });
    match described {
        Ok((Some(entry), _)) => entry,
        Ok((None, _)) if version < VERSION_NOT_FOUND => {
            DescribedGroup::default().with_group_state(text("Dead"))
        }
        Ok((None, is_consumer)) => {
            let why = if is_consumer { "is not a classic group" } else { "not found" };
            DescribedGroup::default()
                .with_error_code(ResponseError::GroupIdNotFound.code())
                .with_error_message(Some(text(format!("Group {group} {why}."))))
                .with_group_state(text("Dead"))
        }
        Err(refused) => DescribedGroup::default().with_error_code(refused.code()),
    }
}

fn entry(group: &Group) -> DescribedGroup {
    // Before the members have agreed on a protocol there is nothing that holds for all of them.
    let stable = group.state == State::Stable;
    let protocol = group.protocol.as_deref().filter(|_| stable);
    let member = |member: &crate::groups::Member| {
        let described = DescribedGroupMember::default()
            .with_member_id(text(member.id.as_str()))
            .with_group_instance_id(member.instance.as_deref().map(text))
            .with_client_id(text(member.client_id.as_str()))
            .with_client_host(text(member.client_host.as_str()));
        match protocol {
            Some(protocol) => described
                .with_member_metadata(member.metadata(protocol))
                .with_member_assignment(member.assignment.clone()),
            None => described,
        }
    };
    DescribedGroup::default()
        .with_group_state(text(group.state.name()))
        .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()))
        .with_protocol_data(text(protocol.unwrap_or_default()))
        .with_members(group.members.values().map(member).collect())
}
