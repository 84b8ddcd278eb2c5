//! Keys over HTTP: `GET /topics/{topic}/keys/{key}`, and `GET /topics/{topic}/keys?prefix=` for a list.
//!
//! Any node answers: it asks the one that leads. Keys and topics are percent-encoded bytes, which need not be UTF-8.
//!
//! Not here: what is asked for (`keys/query.rs`), how records look in JSON (`keys/json.rs`), the answer itself
//! (`lookup.rs`).

mod json;
mod query;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use kafka_protocol::ResponseError;

use super::Shared;
use crate::answers::Reserved;
use crate::broker::Broker;
use crate::controller::Topic;
use crate::lookup;
use crate::proto::get::get_request::Wanted;
use crate::proto::get::{GetRequest, GetResponse, KeyRecord};
use query::{Format, Params, encode, parse_path};

/// Bytes of a list of keys, about; and an answer above it holds room.
const LIST_BYTES: usize = 1 << 20;
const SMALL_BYTES: usize = 16 << 10;

const PARTITION: &str = "x-jangbu-partition";
const OFFSET: &str = "x-jangbu-offset";
const TIMESTAMP: &str = "x-jangbu-timestamp";
const HIGH_WATERMARK: &str = "x-jangbu-high-watermark";
const TOMBSTONE: &str = "x-jangbu-tombstone";

/// Why there is no value: a status and a sentence.
struct Problem {
    status: StatusCode,
    text: String,
}

type Outcome = Result<Response, Problem>;

impl Problem {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// What Kafka's error code is over HTTP.
    fn of(response: &GetResponse) -> Self {
        let code = i16::try_from(response.error).ok().and_then(ResponseError::try_from_code);
        let status = match code {
            Some(ResponseError::UnknownTopicOrPartition) => StatusCode::NOT_FOUND,
            Some(ResponseError::InvalidConfig) => StatusCode::CONFLICT,
            Some(ResponseError::InvalidRequest) => StatusCode::BAD_REQUEST,
            Some(ResponseError::RequestTimedOut) => StatusCode::GATEWAY_TIMEOUT,
            Some(code) if code.is_retriable() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, response.message.clone())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text + "\n").into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// `GET /topics/{topic}/keys/{key}`.
pub(super) async fn get(State(shared): State<Shared>, uri: Uri, headers: HeaderMap) -> Response {
    one(&shared, &uri, &headers).await.unwrap_or_else(IntoResponse::into_response)
}

/// `GET /topics/{topic}/keys`.
pub(super) async fn list(State(shared): State<Shared>, uri: Uri) -> Response {
    all(&shared, &uri).await.unwrap_or_else(IntoResponse::into_response)
}

fn broker(shared: &Shared) -> Result<Arc<Broker>, Problem> {
    let starting = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the node is starting");
    shared.status.broker().cloned().ok_or_else(starting)
}

fn find_topic(broker: &Broker, name: &str) -> Result<Arc<Topic>, Problem> {
    let missing =
        || Problem::new(StatusCode::NOT_FOUND, format!("the topic {name} does not exist"));
    broker.topic(name).ok_or_else(missing)
}

async fn one(shared: &Shared, uri: &Uri, headers: &HeaderMap) -> Outcome {
    let broker = broker(shared)?;
    let (name, key) = parse_path(uri.path()).map_err(Problem::bad)?;
    let key = key.unwrap_or_default();
    let params = Params::parse(uri.query().unwrap_or_default(), query::OF_KEY);
    let params = params.map_err(Problem::bad)?;
    let topic = find_topic(&broker, &name)?;
    let partition =
        params.partition.unwrap_or_else(|| lookup::partition_for_key(&key, topic.partitions.len()));
    let request = GetRequest {
        topic: name,
        partition,
        wanted: Some(Wanted::Key(key.clone())),
        limit: params.history.unwrap_or(1),
        ..params.request()
    };
    let place = Place { topic: request.topic.clone(), partition };
    let found = lookup::answer_or_ask(&broker, request).await;
    if found.error != 0 {
        return Err(Problem::of(&found));
    }
    let format = params.format.unwrap_or_else(|| accepted(headers));
    let Some(newest) = found.records.first() else {
        return Ok(place.missing(found.high_watermark));
    };
    if params.history.is_some() {
        let body = json::history(&place, &found, format == Format::Base64);
        return Ok(place.found(&broker, None, found.high_watermark, body, json::TYPE).await);
    }
    let Some(value) = newest.value.clone() else {
        return Ok(place.deleted(newest, found.high_watermark));
    };
    if is_known(headers, newest.offset) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        place.describe(&mut response, Some(newest), found.high_watermark);
        return Ok(response);
    }
    let (body, content_type) = match format {
        Format::Raw => (value, "application/octet-stream"),
        Format::Base64 => {
            (crate::bytes_in_json::base64(&value).into(), "text/plain; charset=utf-8")
        }
        Format::Json => (json::one(&place, newest, found.high_watermark), json::TYPE),
    };
    Ok(place.found(&broker, Some(newest), found.high_watermark, body, content_type).await)
}

/// Partition after partition, until there are enough.
async fn all(shared: &Shared, uri: &Uri) -> Outcome {
    let broker = broker(shared)?;
    let (name, _) = parse_path(uri.path()).map_err(Problem::bad)?;
    let params = Params::parse(uri.query().unwrap_or_default(), query::OF_KEYS);
    let params = params.map_err(Problem::bad)?;
    let topic = find_topic(&broker, &name)?;
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let (first, end) = match params.partition {
        Some(partition) => (partition, partition.saturating_add(1)),
        None => (params.from, count),
    };
    let prefix = params.prefix.clone().unwrap_or_default();
    let limit = params.limit.unwrap_or(100).clamp(1, lookup::RECORDS_MAX);
    let mut listed = json::Listed::new(params.format == Some(Format::Base64));
    let mut after = params.after.clone();
    let mut next = None;
    for partition in first..end {
        let left = limit.saturating_sub(listed.count());
        if left == 0 || listed.bytes() >= LIST_BYTES {
            next = Some((partition, None));
            break;
        }
        let request = GetRequest {
            topic: name.clone(),
            partition,
            wanted: Some(Wanted::Prefix(prefix.clone())),
            limit: u32::try_from(left).unwrap_or(u32::MAX),
            after: after.take(),
            ..params.request()
        };
        let found = lookup::answer_or_ask(&broker, request).await;
        if found.error != 0 {
            return Err(Problem::of(&found));
        }
        listed.add(partition, &found.records);
        if let Some(key) = found.next {
            next = Some((partition, Some(key)));
            break;
        }
    }
    let next = next.map(|(partition, after)| {
        let restricted = params.partition.map(|partition| format!("&partition={partition}"));
        let after = after.map(|key| format!("&after={}", encode(&key)));
        let at = params.at_offset.map(|offset| format!("&at-offset={offset}"));
        format!(
            "/topics/{name}/keys?prefix={}&limit={limit}&from={partition}{}{}{}",
            encode(&prefix),
            restricted.unwrap_or_default(),
            after.unwrap_or_default(),
            at.unwrap_or_default(),
        )
    });
    let body = listed.finish(&name, next);
    let room = room(&broker, body.len()).await;
    Ok(with_body(body, json::TYPE, room))
}

/// What the client would rather have; JSON has to be asked for.
fn accepted(headers: &HeaderMap) -> Format {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let json = accepts.is_some_and(|types| types.contains("application/json"));
    if json { Format::Json } else { Format::Raw }
}

/// Whether the client has the record at `offset` already.
fn is_known(headers: &HeaderMap, offset: i64) -> bool {
    let given = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = given.filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        tag == "*" || tag.trim_matches('"').parse() == Ok(offset)
    })
}

/// Where a key is.
struct Place {
    topic: String,
    partition: i32,
}

impl Place {
    fn describe(&self, response: &mut Response, record: Option<&KeyRecord>, high_watermark: i64) {
        let headers = response.headers_mut();
        headers.insert(PARTITION, HeaderValue::from(self.partition));
        headers.insert(HIGH_WATERMARK, HeaderValue::from(high_watermark));
        if let Some(record) = record {
            headers.insert(OFFSET, HeaderValue::from(record.offset));
            headers.insert(TIMESTAMP, HeaderValue::from(record.timestamp));
            if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", record.offset)) {
                headers.insert(header::ETAG, tag);
            }
        }
    }

    fn missing(&self, high_watermark: i64) -> Response {
        let Self { topic, partition } = self;
        let text =
            format!("there is no such key in {topic}-{partition}, up to offset {high_watermark}\n");
        let mut response = (StatusCode::NOT_FOUND, text).into_response();
        self.describe(&mut response, None, high_watermark);
        response
    }

    fn deleted(&self, tombstone: &KeyRecord, high_watermark: i64) -> Response {
        let Self { topic, partition } = self;
        let offset = tombstone.offset;
        let text = format!(
            "the key was deleted by the tombstone at offset {offset} of {topic}-{partition}\n"
        );
        let mut response = (StatusCode::NOT_FOUND, text).into_response();
        self.describe(&mut response, Some(tombstone), high_watermark);
        response.headers_mut().remove(header::ETAG);
        response.headers_mut().insert(TOMBSTONE, HeaderValue::from_static("true"));
        response
    }

    async fn found(
        &self,
        broker: &Broker,
        record: Option<&KeyRecord>,
        high_watermark: i64,
        body: Bytes,
        content_type: &'static str,
    ) -> Response {
        let room = room(broker, body.len()).await;
        let mut response = with_body(body, content_type, room);
        self.describe(&mut response, record, high_watermark);
        response
    }
}

/// Room for a body until it is sent, unless it is small.
async fn room(broker: &Broker, bytes: usize) -> Option<Reserved> {
    match bytes {
        0..SMALL_BYTES => None,
        _ => Some(broker.answers.reserve(bytes).await),
    }
}

fn with_body(body: Bytes, content_type: &'static str, room: Option<Reserved>) -> Response {
    let length = HeaderValue::from(body.len());
    let body = match room {
        None => Body::from(body),
        Some(room) => {
            let chunks = stream::unfold((Some(body), room), async |(body, room)| {
                Some((Ok::<_, std::convert::Infallible>(body?), (None, room)))
            });
            Body::from_stream(chunks)
        }
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_has_the_offset_is_told_so() {
        let known = |given: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(given));
            is_known(&headers, 7)
        };
        assert!(known("\"7\"") && known("W/\"7\"") && known("\"1\", \"7\"") && known("*"));
        assert!(!known("\"8\"") && !known("") && !known("\"77\""));
    }

    #[test]
    fn kafkas_codes_become_statuses_and_what_passes_says_when_to_come_again() {
        let of = |code: ResponseError| {
            let response = GetResponse { error: code.code().into(), ..GetResponse::default() };
            let response = Problem::of(&response).into_response();
            (response.status().as_u16(), response.headers().contains_key(header::RETRY_AFTER))
        };
        assert_eq!(of(ResponseError::CoordinatorLoadInProgress), (503, true));
        assert_eq!(of(ResponseError::NotLeaderOrFollower), (503, true));
        assert_eq!(of(ResponseError::InvalidConfig), (409, false));
        assert_eq!(of(ResponseError::UnknownTopicOrPartition), (404, false));
        assert_eq!(of(ResponseError::UnknownServerError), (500, false));
    }
}
