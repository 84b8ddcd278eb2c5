//! ListConfigResources (74), versions 0 and 1: what has configs, by type (KIP-1142). Version 0 asks for client metrics alone,
//! of which there are none.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use kafka_protocol::protocol::StrBytes;

use super::config_resources::{RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC};
use crate::broker::Broker;
use crate::dispatch::Call;

/// Kafka's `ConfigResource.Type`: a broker's loggers, client metrics. Nothing has such configs here.
const WITHOUT_CONFIGS: [i8; 2] = [8, 16];

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    if call.version == 0 {
        return ListConfigResourcesResponse::default();
    }
    let known = |kind: &i8| {
        matches!(*kind, RESOURCE_TOPIC | RESOURCE_BROKER | RESOURCE_GROUP)
            || WITHOUT_CONFIGS.contains(kind)
    };
    if !request.resource_types.iter().all(known) {
        return ListConfigResourcesResponse::default()
            .with_error_code(ResponseError::UnsupportedVersion.code());
    }
    let asked =
        |kind: i8| request.resource_types.is_empty() || request.resource_types.contains(&kind);
    let resource = |kind: i8, name: String| {
        ConfigResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_string(name))
    };
    let image = broker.controller.image();
    let mut resources = Vec::new();
    if asked(RESOURCE_TOPIC) {
        resources.extend(image.topics().map(|topic| resource(RESOURCE_TOPIC, topic.name.clone())));
    }
    if asked(RESOURCE_BROKER) {
        resources.extend(image.brokers.keys().map(|id| resource(RESOURCE_BROKER, id.to_string())));
    }
    if asked(RESOURCE_GROUP) {
        // As in Kafka, those of which something was set.
        let groups = image.group_configs().keys();
        resources.extend(groups.map(|group| resource(RESOURCE_GROUP, group.clone())));
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}
