//! ListGroups (16), versions 0 to 5: the groups that this node coordinates, by state (KIP-518) and type (KIP-848) if asked.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};

use super::groups::text;
use crate::broker::Broker;
use crate::dispatch::Call;
use crate::groups::group::CONSUMER;

/// The types of groups.
const CLASSIC_TYPE: &str = "classic";
const CONSUMER_TYPE: &str = "consumer";

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: ListGroupsRequest,
) -> ListGroupsResponse {
    let is_asked = |filter: &[kafka_protocol::protocol::StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|asked| asked.eq_ignore_ascii_case(value))
    };
    let mut groups = Vec::new();
    for shard in broker.groups.shards() {
        let listed = shard.act(|ask| {
            let classic = ask.machine.iter().map(|group| Entry {
                id: &group.id,
                protocol_type: group.protocol_type.as_deref().unwrap_or_default(),
                state: group.state.name(),
                kind: CLASSIC_TYPE,
            });
            let consumer = ask.machine.consumers().map(|group| Entry {
                id: &group.id,
                protocol_type: CONSUMER,
                state: group.state().name(),
                kind: CONSUMER_TYPE,
            });
            let chosen = |entry: &Entry<'_>| {
                is_asked(&request.types_filter, entry.kind)
                    && is_asked(&request.states_filter, entry.state)
            };
            let groups = classic.chain(consumer).filter(chosen);
            groups.map(|entry| entry.told(call.version)).collect::<Vec<_>>()
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

/// A group as it is listed.
struct Entry<'a> {
    id: &'a str,
    protocol_type: &'a str,
    state: &'static str,
    kind: &'static str,
}

impl Entry<'_> {
    fn told(&self, version: i16) -> ListedGroup {
        let entry = ListedGroup::default()
            .with_group_id(GroupId(text(self.id)))
            .with_protocol_type(text(self.protocol_type));
        let entry = if version >= 4 { entry.with_group_state(text(self.state)) } else { entry };
        if version >= 5 { entry.with_group_type(text(self.kind)) } else { entry }
    }
}
