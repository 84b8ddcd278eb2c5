//! ListGroups (16), versions 0 to 5: the groups that this node coordinates, by state (KIP-518) and type (KIP-848) if asked.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};

use super::groups::text;
use crate::broker::Broker;
use crate::dispatch::Call;
use crate::groups::group::Group;

/// The only type there is so far.
const TYPE: &str = "classic";

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let is_asked = |filter: &[kafka_protocol::protocol::StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|asked| asked.eq_ignore_ascii_case(value))
    };
    let mut groups = Vec::new();
    if !is_asked(&request.types_filter, TYPE) {
        return ListGroupsResponse::default();
    }
    for shard in broker.groups.shards() {
        let listed = shard.act(|ask| {
            let chosen = |group: &&Group| is_asked(&request.states_filter, group.state.name());
            let groups = ask.machine.iter().filter(chosen);
            groups.map(|group| entry(group, call.version)).collect::<Vec<_>>()
        });
        match listed {
            Ok(listed) => groups.extend(listed),
            // Another node tells them.
            Err(ResponseError::NotCoordinator) => {}
            Err(refused) => return ListGroupsResponse::default().with_error_code(refused.code()),
        }
    }
    ListGroupsResponse::default().with_groups(groups)
}

fn entry(group: &Group, version: i16) -> ListedGroup {
    let entry = ListedGroup::default()
        .with_group_id(GroupId(text(group.id.as_str())))
        .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()));
    let entry = if version >= 4 { entry.with_group_state(text(group.state.name())) } else { entry };
    if version >= 5 { entry.with_group_type(text(TYPE)) } else { entry }
}
