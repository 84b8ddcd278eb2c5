//! Answers who asks for keys: a client over Kafka's port, over HTTP, or another node on behalf of one.
//!
//! Invariants:
//! - The leader answers with what was committed when the request came, once it has heard that it still leads. Only
//!   who says so is answered by any replica.
//! - An answer has a bound: so many records and bytes, and one record at least.
//!
//! Not here: the key index (the engine's `table.rs`), what a partition makes of it (`partition/keys.rs`), the wire
//! (`handlers/get_keys.rs`, `http/keys.rs`).

mod partitioner;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jangbu_engine::{KeyIndex, KeyRecord, Offset};
use kafka_protocol::ResponseError;
use prost::Message;

use crate::broker::{Broker, Lookup};
use crate::controller::Topic;
use crate::error::partition_code;
use crate::metrics::LookupResult;
use crate::partition::{Error, Partition, Wanted};
use crate::peer::{self, Lane, Request, Response};
use crate::proto::get::get_request::Wanted as Asked;
use crate::proto::get::{GetRequest, GetResponse, Header, KeyRecord as Record};
use crate::proto::peer::{Get, Got};
pub(crate) use partitioner::partition_for_key;

/// Records of one answer.
pub(crate) const RECORDS_MAX: usize = 1_000;
/// Keys of one answer, unless the request says how many.
const KEYS_DEFAULT: usize = 100;
/// Bytes of one answer, about.
const BYTES_MAX: usize = 1 << 20;
/// How long a request may take: one for a time may have to look at every record of its key.
const TIME_MAX: Duration = Duration::from_secs(10);
/// How long a majority may take to confirm that this broker leads.
const CONFIRM_MAX: Duration = Duration::from_secs(5);

/// Why there is no answer.
struct Refusal {
    code: ResponseError,
    message: String,
}

/// What was found.
#[derive(Default)]
struct Found {
    high_watermark: i64,
    records: Vec<KeyRecord>,
    next: Option<Bytes>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match &error {
            // It was turned off, or on, since it was looked at.
            Error::Log(jangbu_engine::Error::NotKeyed(_)) => building(),
            _ => Self { code: partition_code(&error), message: error.to_string() },
        }
    }
}

fn refuse(code: ResponseError, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

fn building() -> Refusal {
    let text = "the key index is still being built; try again";
    refuse(ResponseError::CoordinatorLoadInProgress, text)
}

/// Answers a request for a partition that this broker leads, or has a replica of.
pub(crate) async fn answer(broker: &Broker, request: GetRequest) -> GetResponse {
    let begun = Instant::now();
    let found = tokio::time::timeout(TIME_MAX, look_up(broker, request)).await;
    let found = found.unwrap_or_else(|_| {
        let text = "the key has too many records to look for that time; ask for an offset instead";
        Err(refuse(ResponseError::RequestTimedOut, text))
    });
    let result = match &found {
        Err(_) => LookupResult::Failed,
        Ok(found) if found.records.iter().any(|record| record.value.is_some()) => {
            LookupResult::Found
        }
        Ok(_) => LookupResult::Missing,
    };
    broker.metrics.looked_up(result, begun.elapsed());
    match found {
        Ok(found) => response(found),
        Err(Refusal { code, message }) => {
            GetResponse { error: code.code().into(), message, ..GetResponse::default() }
        }
    }
}

/// The same for any partition: who leads it is asked where this broker may not answer.
pub(crate) async fn answer_or_ask(broker: &Broker, request: GetRequest) -> GetResponse {
    let encoded = request.encode_to_vec();
    let place = (request.topic.clone(), request.partition);
    let here = answer(broker, request).await;
    if here.error != i32::from(ResponseError::NotLeaderOrFollower.code()) {
        return here;
    }
    let Some(leader) = leader_of(broker, &place.0, place.1).filter(|id| *id != broker.id()) else {
        let message = format!("nobody leads {}-{} at the moment; try again", place.0, place.1);
        return GetResponse { message, ..here };
    };
    let request = Request::Get(Get { request: encoded.into() });
    let asked = broker.peers.call(leader, Lane::Control, request, Vec::new(), TIME_MAX);
    let told = match asked.await {
        Ok(Response::Got(got)) if peer::bounded_keys(&got.response) => {
            GetResponse::decode(got.response).map_err(|error| error.to_string())
        }
        Ok(_) => Err("its answer does not decode".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    told.unwrap_or_else(|why| {
        let (topic, index) = place;
        let message = format!("broker {leader} leads {topic}-{index}, but {why}; try again");
        GetResponse { message, ..here }
    })
}

/// Answers another node.
///
/// # Errors
/// When its request does not decode.
pub(crate) async fn serve(broker: &Broker, get: Get) -> Result<Got, String> {
    let request = GetRequest::decode(get.request).map_err(|error| error.to_string())?;
    let response = answer(broker, request).await;
    Ok(Got { response: response.encode_to_vec().into() })
}

fn leader_of(broker: &Broker, topic: &str, index: i32) -> Option<i32> {
    let topic = broker.topic(topic)?;
    let placed = usize::try_from(index).ok().and_then(|index| topic.partitions.get(index))?;
    broker.leader_of(placed.group).map(|leader| leader.broker)
}

async fn look_up(broker: &Broker, request: GetRequest) -> Result<Found, Refusal> {
    let (topic, partition) = find(broker, &request)?;
    if !request.stale_ok {
        partition.check_leader(-1)?;
    }
    check_index(&topic, &partition)?;
    let (asked, wanted) = check(&request)?;
    if !request.stale_ok {
        let confirmed = tokio::time::timeout(CONFIRM_MAX, partition.linearize()).await;
        confirmed.unwrap_or(Err(Error::Timeout))?;
    }
    let high_watermark = partition.bounds().high_watermark.0;
    let found = Found { high_watermark, ..Found::default() };
    match (asked, request.at_time_ms) {
        (Asked::Key(key), None) => {
            Ok(Found { records: partition.history(key, wanted).await?, ..found })
        }
        (Asked::Key(key), Some(time_ms)) => {
            let records = partition.history_until(&key, time_ms, wanted).await?;
            Ok(Found { records, ..found })
        }
        (Asked::Prefix(prefix), _) => {
            let page = partition.keys_with_prefix(&prefix, request.after, wanted).await?;
            Ok(Found { records: page.records, next: page.next, ..found })
        }
    }
}

fn find(broker: &Broker, request: &GetRequest) -> Result<(Arc<Topic>, Arc<Partition>), Refusal> {
    let (name, index) = (&request.topic, request.partition);
    let unknown = |text| refuse(ResponseError::UnknownTopicOrPartition, text);
    let topic = broker.topic(name);
    let topic = topic.ok_or_else(|| unknown(format!("the topic {name} does not exist")))?;
    match broker.partition(&topic, index) {
        Lookup::Here(partition) => Ok((topic, partition)),
        Lookup::Fenced => {
            let text = "what is stored of the partition is damaged";
            Err(refuse(ResponseError::KafkaStorageError, text))
        }
        Lookup::Elsewhere => {
            let text = "this broker has no replica of the partition";
            Err(refuse(ResponseError::NotLeaderOrFollower, text))
        }
        Lookup::Unknown => {
            let count = topic.partitions.len();
            Err(unknown(format!("the topic {name} has no partition {index}; it has {count}")))
        }
    }
}

fn check_index(topic: &Topic, partition: &Partition) -> Result<(), Refusal> {
    match partition.key_index() {
        KeyIndex::Ready => Ok(()),
        KeyIndex::Building => Err(building()),
        // The setting is on its way to the partition.
        KeyIndex::Off if topic.settings.keyed() => Err(building()),
        KeyIndex::Off => {
            let text = format!(
                "the topic {} has no key index: set jangbu.key.index=true, or cleanup.policy=compact",
                topic.name
            );
            Err(refuse(ResponseError::InvalidConfig, text))
        }
    }
}

/// What is asked for, once it makes sense.
fn check(request: &GetRequest) -> Result<(Asked, Wanted), Refusal> {
    let invalid = |text: &str| refuse(ResponseError::InvalidRequest, text);
    let asked = request.wanted.clone().ok_or_else(|| invalid("neither key nor prefix is given"))?;
    let default = match &asked {
        Asked::Key(_) if request.after.is_some() => {
            return Err(invalid("only a prefix has keys behind another one"));
        }
        Asked::Key(_) => 1,
        Asked::Prefix(_) if request.at_time_ms.is_some() => {
            return Err(invalid("a prefix cannot be asked for at a time; ask for an offset"));
        }
        Asked::Prefix(_) => KEYS_DEFAULT,
    };
    let below = match request.at_offset {
        Some(offset) if offset < 0 => return Err(invalid("an offset is not negative")),
        Some(offset) => Offset(offset.saturating_add(1)),
        None => Offset(i64::MAX),
    };
    let limit = usize::try_from(request.limit).unwrap_or(RECORDS_MAX);
    let count_max = if limit == 0 { default } else { limit.min(RECORDS_MAX) };
    Ok((asked, Wanted { below, count_max, bytes_max: BYTES_MAX }))
}

fn response(found: Found) -> GetResponse {
    let Found { high_watermark, records, next } = found;
    let header = |(name, value)| Header { name, value };
    let record = |found: KeyRecord| Record {
        key: found.key,
        offset: found.offset.0,
        timestamp: found.timestamp,
        value: found.value,
        headers: found.headers.into_iter().map(header).collect(),
    };
    let records = records.into_iter().map(record).collect();
    GetResponse { high_watermark, records, next, ..GetResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(request: GetRequest) -> Result<(i64, usize), String> {
        let (_, wanted) = check(&request).map_err(|refusal| refusal.message)?;
        Ok((wanted.below.0, wanted.count_max))
    }

    fn of_key() -> GetRequest {
        GetRequest { wanted: Some(Asked::Key(Bytes::new())), ..GetRequest::default() }
    }

    fn of_prefix() -> GetRequest {
        GetRequest { wanted: Some(Asked::Prefix(Bytes::new())), ..GetRequest::default() }
    }

    #[test]
    fn one_record_of_a_key_and_a_hundred_keys_are_answered_unless_more_are_asked_for() {
        assert_eq!(checked(of_key()), Ok((i64::MAX, 1)));
        assert_eq!(checked(of_prefix()), Ok((i64::MAX, 100)));
        assert_eq!(checked(GetRequest { limit: 7, ..of_key() }), Ok((i64::MAX, 7)));
        assert_eq!(checked(GetRequest { limit: u32::MAX, ..of_key() }), Ok((i64::MAX, 1_000)));
    }

    #[test]
    fn the_record_at_an_offset_counts() {
        assert_eq!(checked(GetRequest { at_offset: Some(0), ..of_key() }), Ok((1, 1)));
        let last = GetRequest { at_offset: Some(i64::MAX), ..of_key() };
        assert_eq!(checked(last), Ok((i64::MAX, 1)));
        assert!(checked(GetRequest { at_offset: Some(-1), ..of_key() }).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(checked(GetRequest::default()).is_err());
        assert!(checked(GetRequest { at_time_ms: Some(5), ..of_prefix() }).is_err());
        assert!(checked(GetRequest { after: Some(Bytes::new()), ..of_key() }).is_err());
    }
}
