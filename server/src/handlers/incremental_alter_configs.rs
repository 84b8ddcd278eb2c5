//! IncrementalAlterConfigs (44), versions 0 and 1: sets, deletes, appends to and subtracts from single
//! configs of topics and brokers (KIP-339).

use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::config_resources::{Wish, answer, change_all};
use crate::broker::Broker;
use crate::configs::{Change, Edit};
use crate::dispatch::Call;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let wishes: Vec<Wish<'_>> = request.resources.iter().map(wish).collect();
    let results = change_all(broker, &wishes, request.validate_only).await;
    let responses = request.resources.iter().zip(results).map(|(resource, result)| {
        let (code, message) = answer(result);
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

fn wish(resource: &AlterConfigsResource) -> Wish<'_> {
    let edits = resource.configs.iter().map(|c| Edit {
        name: c.name.as_str(),
        operation: c.config_operation,
        value: c.value.as_deref(),
    });
    Wish {
        resource_type: resource.resource_type,
        name: resource.resource_name.as_str(),
        change: Change::Edit(edits.collect()),
    }
}
