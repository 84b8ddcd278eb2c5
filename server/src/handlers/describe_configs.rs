//! DescribeConfigs (32), versions 1 to 4: every config a topic or a broker has, with its default and
//! where its value comes from.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::topics::{Refusal, is_valid_name};
use crate::broker::Broker;
use crate::configs::{self, Ask, Row};
use crate::dispatch::Call;

/// Kafka's `ConfigResource.Type`.
const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let ask = Ask {
            keys: resource.configuration_keys.as_deref(),
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        };
        let rows = describe(broker, &resource, &ask);
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match rows {
            Ok(rows) => result.with_configs(rows.into_iter().map(Into::into).collect()),
            Err(refusal) => result
                .with_error_code(refusal.code.code())
                .with_error_message(Some(StrBytes::from_string(refusal.message))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    ask: &Ask<'_>,
) -> Result<Vec<Row>, Refusal> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        RESOURCE_TOPIC => match broker.topic(name) {
            Some(topic) => Ok(configs::describe_topic(&topic.configs, &broker.values, ask)),
            None if is_valid_name(name) => {
                let code = ResponseError::UnknownTopicOrPartition;
                Err(Refusal::new(code, format!("there is no topic {name}")))
            }
            None => {
                let code = ResponseError::InvalidTopicException;
                Err(Refusal::new(code, format!("'{name}' cannot be a topic's name")))
            }
        },
        // An empty name asks for the cluster-wide dynamic values, of which there are none yet.
        RESOURCE_BROKER if name.is_empty() => Ok(Vec::new()),
        RESOURCE_BROKER if name == broker.id().to_string() => {
            Ok(configs::describe_broker(&broker.values, ask))
        }
        RESOURCE_BROKER => {
            let text =
                format!("Unexpected broker id, expected {} but received {name}", broker.id());
            Err(Refusal::new(ResponseError::InvalidRequest, text))
        }
        other => {
            let text =
                format!("resource type {other} has no configs here; topics (2) and brokers (4) do");
            Err(Refusal::new(ResponseError::InvalidRequest, text))
        }
    }
}
