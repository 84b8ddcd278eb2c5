//! DeleteTopics (20), versions 0 to 6: by name, or by id from version 6 on.

use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Broker;
use crate::dispatch::{Answer, Call, Refused};
use crate::error::controller_code;
use crate::legacy::topics::{
    decode_delete_request_v0 as decode_legacy, encode_delete_response_v0 as encode_legacy,
};

/// Decodes, deletes and answers.
///
/// # Errors
/// [`Refused`] when the request does not decode.
pub(crate) async fn handle(broker: Arc<Broker>, call: Call) -> Result<Answer, Refused> {
    let request = match call.version {
        0 => decode_legacy(&mut call.body.clone()).map_err(|e| call.malformed(e))?,
        _ => call.decode()?,
    };
    let response = delete_all(&broker, request).await;
    let response = match call.version {
        0 => {
            let mut body = BytesMut::new();
            encode_legacy(&response, &mut body).map_err(|e| call.malformed(e))?;
            call.respond_raw([body.freeze()], 0)?.with_errors_of(&response)
        }
        _ => call.respond(&response)?,
    };
    Ok(Answer::Now(Some(response)))
}

async fn delete_all(broker: &Broker, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let named = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState::default().with_name(Some(name)));
    let mut responses = Vec::new();
    for asked in named.chain(request.topics) {
        responses.push(delete(broker, asked).await);
    }
    DeleteTopicsResponse::default().with_responses(responses)
}

async fn delete(broker: &Broker, asked: DeleteTopicState) -> DeletableTopicResult {
    let result = DeletableTopicResult::default().with_name(asked.name.clone());
    let refuse = |result: DeletableTopicResult, code: ResponseError| {
        let message = StrBytes::from_string(code.to_string());
        result.with_error_code(code.code()).with_error_message(Some(message))
    };
    let topic = match &asked.name {
        Some(_) if !asked.topic_id.is_nil() => {
            return refuse(result, ResponseError::InvalidRequest);
        }
        Some(name) => broker.topic(name),
        None => broker.topic_by_id(asked.topic_id),
    };
    let Some(topic) = topic else {
        let code = match asked.name {
            Some(_) => ResponseError::UnknownTopicOrPartition,
            None => ResponseError::UnknownTopicId,
        };
        return refuse(result.with_topic_id(asked.topic_id), code);
    };
    let result = result
        .with_topic_id(topic.id)
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))));
    match broker.controller.delete_topic(topic.id).await {
        Ok(()) => result,
        Err(error) => refuse(result, controller_code(&error)),
    }
}
