//! InitProducerId (22), versions 0 to 5: ids for idempotent producers (KIP-98, KIP-360).
//!
//! Every call gets an id that the metadata group has never given out, as Kafka does without a
//! transactional id. Transactional ids are refused until there are transactions.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::broker::Broker;
use crate::dispatch::Call;
use crate::error::controller_code;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    if let Some(id) = &request.transactional_id {
        let code = if id.is_empty() {
            ResponseError::InvalidRequest
        } else {
            // Retriable: the client waits for a coordinator, as FindCoordinator told it to.
            ResponseError::CoordinatorNotAvailable
        };
        return refuse(code);
    }
    match broker.controller.next_producer_id().await {
        Ok(id) => {
            InitProducerIdResponse::default().with_producer_id(id.into()).with_producer_epoch(0)
        }
        Err(error) => refuse(controller_code(&error)),
    }
}

fn refuse(code: ResponseError) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(code.code())
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
}
