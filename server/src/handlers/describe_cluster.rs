//! DescribeCluster (60), versions 0 to 2: the brokers and the controller (KIP-700, KIP-919); from version 2 on also
//! brokers that are dead, which Kafka calls fenced (KIP-1073).
//!
//! A tagged field that is jangbu's own stands with each broker that is being emptied; clients that do not know it pass it
//! over.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::metadata::{CLUSTER_OPERATIONS, rack};
use crate::broker::Broker;
use crate::dispatch::Call;

/// Brokers are what a client port tells about; controllers (2) have no port of their own.
const ENDPOINT_BROKERS: i8 = 1;

/// The tag of a broker that is being emptied; one byte, 1.
const TAG_DRAINING: i32 = 27_234;

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
    let cluster_id = broker.controller.image().cluster_id.clone();
    let entry = |b: &crate::controller::Broker| {
        let entry = DescribeClusterBroker::default()
            .with_broker_id(b.id.into())
            .with_host(StrBytes::from_string(b.host.clone()))
            .with_port(i32::from(b.port))
            .with_rack(rack(b))
            .with_is_fenced(b.dead);
        if b.draining {
            entry.with_unknown_tagged_field(TAG_DRAINING, Bytes::from_static(&[1]))
        } else {
            entry
        }
    };
    let brokers = if request.include_fenced_brokers {
        broker.controller.image().brokers.values().cloned().collect()
    } else {
        broker.live_brokers()
    };
    let response = DescribeClusterResponse::default()
        .with_endpoint_type(ENDPOINT_BROKERS)
        .with_cluster_id(StrBytes::from_string(cluster_id))
        .with_controller_id(broker.controller_id().into())
        .with_brokers(brokers.iter().map(entry).collect());
    if request.include_cluster_authorized_operations {
        response.with_cluster_authorized_operations(CLUSTER_OPERATIONS)
    } else {
        response
    }
}
