//! DescribeCluster (60), versions 0 to 2: the brokers and the controller (KIP-700, KIP-919).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::metadata::{CLUSTER_OPERATIONS, rack};
use crate::broker::Broker;
use crate::dispatch::Call;

/// Brokers are what a client port tells about; controllers (2) have no port of their own.
const ENDPOINT_BROKERS: i8 = 1;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if call.version >= 1 && request.endpoint_type != ENDPOINT_BROKERS {
        let message = "this port answers for brokers only (endpoint type 1)";
        return DescribeClusterResponse::default()
            .with_error_code(ResponseError::MismatchedEndpointType.code())
            .with_error_message(Some(StrBytes::from_static_str(message)))
            .with_endpoint_type(ENDPOINT_BROKERS);
    }
    let image = broker.controller.image();
    let entry = |b: &crate::controller::Broker| {
        DescribeClusterBroker::default()
            .with_broker_id(b.id.into())
            .with_host(StrBytes::from_string(b.host.clone()))
            .with_port(i32::from(b.port))
            .with_rack(rack(b))
    };
    let response = DescribeClusterResponse::default()
        .with_endpoint_type(ENDPOINT_BROKERS)
        .with_cluster_id(StrBytes::from_string(image.cluster_id.clone()))
        .with_controller_id(broker.id().into())
        .with_brokers(image.brokers.values().map(entry).collect());
    if request.include_cluster_authorized_operations {
        response.with_cluster_authorized_operations(CLUSTER_OPERATIONS)
    } else {
        response
    }
}
