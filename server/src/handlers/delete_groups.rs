//! DeleteGroups (42), versions 0 to 2: groups without members, with their offsets.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::groups::{code, shard, stored};
use crate::broker::Broker;
use crate::dispatch::Call;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        let deleted = delete(broker, group.as_str()).await;
        let result = DeletableGroupResult::default().with_error_code(code(deleted));
        results.push(result.with_group_id(group));
    }
    DeleteGroupsResponse::default().with_results(results)
}

async fn delete(broker: &Broker, group: &str) -> Result<(), ResponseError> {
    let shard = shard(broker, group)?;
    let waits = shard.ask(|ask| ask.machine.delete(group, ask.table, ask.token, ask.fx))?;
    stored(broker, waits).await
}
