//! UnregisterBroker (64), version 0: takes a broker out of the cluster for ever (KIP-746).
//!
//! Unlike Kafka, only a broker that is dead and holds nothing: its replicas would otherwise be missed without
//! anybody having said so.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::controller;
use crate::dispatch::Call;
use crate::error::controller_code;

pub(crate) async fn handle(
    broker: &Broker,
    _call: &Call,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    let id = request.broker_id.0;
    let refuse = |code: ResponseError, message: String| {
        UnregisterBrokerResponse::default()
            .with_error_code(code.code())
            .with_error_message(Some(StrBytes::from_string(message)))
    };
    let dead = broker.controller.image().brokers.get(&id).map(|known| known.dead);
    if dead == Some(false) {
        let message = format!("broker {id} is alive; stop it first, for good");
        return refuse(ResponseError::InvalidRequest, message);
    }
    match broker.controller.remove_broker(id).await {
        Ok(()) => UnregisterBrokerResponse::default(),
        Err(error @ controller::Error::InUse) => {
            let message =
                format!("broker {id} still holds replicas; `jangbu cluster drain {id}` moves them");
            refuse(controller_code(&error), message)
        }
        Err(error @ controller::Error::UnknownBroker) => {
            let message = format!("Broker ID {id} is not currently registered");
            refuse(controller_code(&error), message)
        }
        Err(error) => refuse(controller_code(&error), error.to_string()),
    }
}
