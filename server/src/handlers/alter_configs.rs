//! AlterConfigs (33), versions 0 to 2: sets exactly these configs, whatever was set before. Older clients
//! use it; IncrementalAlterConfigs has replaced it (KIP-339).

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::config_resources::{Wish, answer, change_all};
use crate::broker::Broker;
use crate::configs::Change;
use crate::dispatch::Call;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
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
    AlterConfigsResponse::default().with_responses(responses.collect())
}

fn wish(resource: &AlterConfigsResource) -> Wish<'_> {
    let pairs = resource.configs.iter().map(|c| (c.name.as_str(), c.value.as_deref()));
    Wish {
        resource_type: resource.resource_type,
        name: resource.resource_name.as_str(),
        change: Change::Replace(pairs.collect()),
    }
}
