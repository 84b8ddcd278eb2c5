//! FindCoordinator (10), versions 0 to 6.
//!
//! Consumer groups and transactions are not served yet: clients are told, with a retriable error, that
//! no coordinator is available.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::dispatch::Call;

const MESSAGE: &str = "consumer groups and transactions are not available on this node yet";

pub(crate) async fn handle(
    _broker: &Broker,
    call: &Call,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let code = ResponseError::CoordinatorNotAvailable.code();
    let message = Some(StrBytes::from_static_str(MESSAGE));
    if call.version < 4 {
        return FindCoordinatorResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_node_id((-1).into())
            .with_port(-1);
    }
    let coordinator = |key: StrBytes| {
        Coordinator::default()
            .with_key(key)
            .with_node_id((-1).into())
            .with_port(-1)
            .with_error_code(code)
            .with_error_message(message.clone())
    };
    let coordinators = request.coordinator_keys.into_iter().map(coordinator).collect();
    FindCoordinatorResponse::default().with_coordinators(coordinators)
}
