//! DescribeConfigs (32), versions 1 to 4: every config a topic, a broker or a group has, with its default and
//! where its value comes from.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::config_resources::{
    RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC, existing_topic, named_broker, named_group,
    no_configs,
};
use super::topics::Refusal;
use crate::broker::Broker;
use crate::configs::{self, Ask, Row};
use crate::dispatch::Call;

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
        RESOURCE_TOPIC => {
            let topic = existing_topic(broker, name)?;
            let image = broker.controller.image();
            Ok(configs::describe_topic(&topic.configs, image.own_configs(), ask))
        }
        RESOURCE_BROKER => {
            let every = named_broker(broker, name)?.is_none();
            let image = broker.controller.image();
            Ok(match every {
                true => configs::describe_every_broker(image.own_configs(), ask),
                false => configs::describe_broker(image.own_configs(), ask),
            })
        }
        RESOURCE_GROUP => {
            let image = broker.controller.image();
            let own = image.set_for_group(named_group(name)?);
            Ok(configs::describe_group(&own, image.own_configs(), ask))
        }
        other => Err(no_configs(other)),
    }
}
