//! GetKeys (10000), version 0, jangbu's own: what is the value of a key? Answered for one partition by its leader.
//!
//! Behind Kafka's headers stand messages of `server/proto/get.proto`. Clients that do not know the key pass it over in
//! ApiVersions.

use std::sync::Arc;

use prost::Message;

use crate::broker::Broker;
use crate::codes::ErrorCodes;
use crate::dispatch::{Answer, Call, Refused};
use crate::lookup;
use crate::proto::get::{GetRequest, GetResponse};

/// An answer below this size takes no room of others.
const SMALL_BYTES: usize = 16 << 10;

impl ErrorCodes for GetResponse {
    fn codes(&self, tell: &mut dyn FnMut(i16)) {
        tell(i16::try_from(self.error).unwrap_or(-1));
    }
}

/// Answers a request.
///
/// # Errors
/// [`Refused`] when it does not decode.
pub(crate) async fn handle(broker: Arc<Broker>, call: Call) -> Result<Answer, Refused> {
    let request = GetRequest::decode(call.body.clone()).map_err(|e| call.malformed(e))?;
    let found = lookup::answer(&broker, request).await;
    let body = found.encode_to_vec();
    let bytes = body.len();
    let response = call.respond_raw([body.into()], call.version)?.with_errors_of(&found);
    drop(found);
    if bytes < SMALL_BYTES {
        return Ok(Answer::Now(Some(response)));
    }
    let room = broker.answers.reserve(bytes).await;
    Ok(Answer::Now(Some(response.holding(room))))
}
