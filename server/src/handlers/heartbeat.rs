//! Heartbeat (12), versions 0 to 4: a member is there, and hears whether it has to join again.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::groups::{caller, code, shard};
use crate::broker::Broker;
use crate::dispatch::Call;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: HeartbeatRequest,
) -> HeartbeatResponse {
    let heard = match heartbeat(broker, &request) {
        // Whoever loads knows the members soon; until then they are taken to be there, as in Kafka.
        Err(ResponseError::CoordinatorLoadInProgress) => Ok(()),
        heard => heard,
    };
    HeartbeatResponse::default().with_error_code(code(heard))
}

fn heartbeat(broker: &Broker, request: &HeartbeatRequest) -> Result<(), ResponseError> {
    let group = request.group_id.as_str();
    let instance = request.group_instance_id.as_ref();
    let caller = caller(&request.member_id, instance, request.generation_id);
    shard(broker, group)?
        .act(|ask| ask.machine.heartbeat(group, &caller, ask.table, ask.now, ask.limits, ask.fx))?
}
