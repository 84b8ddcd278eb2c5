//! The one table of what this node answers: API key, versions, handler.
//!
//! ApiVersions' answer and the table of `docs/protocol.md` are made from it. To add an API: a file in
//! `handlers`, a line in [`APIS`], a test.

mod key;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::answers::Reserved;
use crate::broker::Broker;
use crate::codes::ErrorCodes;
use crate::handlers;
use crate::schema;
pub(crate) use key::Key;

/// One API this node answers.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) key: Key,
    /// The versions whose requests are answered.
    pub(crate) min: i16,
    pub(crate) max: i16,
    /// The smallest version that ApiVersions tells; see `handlers::produce` for the one difference.
    pub(crate) advertised_min: i16,
    handler: Handler,
}

type Handler = fn(Arc<Broker>, Call) -> BoxFuture<'static, Result<Answer, Refused>>;

/// One line of the table. A handler takes and gives kafka-protocol's types; a `raw` one takes the
/// call and makes its answer itself. A number after the versions is the smallest one advertised.
macro_rules! api {
    (own $key:ident, $min:literal ..= $max:literal, raw $handler:path) => {
        Api {
            key: Key::$key,
            min: $min,
            max: $max,
            advertised_min: $min,
            handler: |broker, call| Box::pin($handler(broker, call)),
        }
    };
    ($key:ident, $min:literal ..= $max:literal, advertised $advertised:literal, raw $handler:path) => {
        Api {
            key: Key::Kafka(ApiKey::$key),
            min: $min,
            max: $max,
            advertised_min: $advertised,
            handler: |broker, call| Box::pin($handler(broker, call)),
        }
    };
    ($key:ident, $min:literal ..= $max:literal, raw $handler:path) => {
        api!($key, $min ..= $max, advertised $min, raw $handler)
    };
    ($key:ident, $min:literal ..= $max:literal, $handler:path) => {
        Api {
            key: Key::Kafka(ApiKey::$key),
            min: $min,
            max: $max,
            advertised_min: $min,
            handler: |broker, call| {
                Box::pin(async move {
                    let request = call.decode()?;
                    let response = $handler(&broker, &call, request).await;
                    call.answer(&response)
                })
            },
        }
    };
}

/// What this node answers, by API key.
pub(crate) static APIS: &[Api] = &[
    api!(Produce, 3..=13, advertised 0, raw handlers::produce::begin),
    api!(Fetch, 4..=18, raw handlers::fetch::handle),
    api!(ListOffsets, 0..=11, raw handlers::list_offsets::handle),
    api!(Metadata, 0..=13, handlers::metadata::handle),
    api!(OffsetCommit, 1..=10, raw handlers::offset_commit::handle),
    api!(OffsetFetch, 1..=10, raw handlers::offset_fetch::handle),
    api!(FindCoordinator, 0..=6, handlers::find_coordinator::handle),
    api!(JoinGroup, 0..=9, handlers::join_group::handle),
    api!(Heartbeat, 0..=4, handlers::heartbeat::handle),
    api!(LeaveGroup, 0..=5, handlers::leave_group::handle),
    api!(SyncGroup, 0..=5, handlers::sync_group::handle),
    api!(DescribeGroups, 0..=6, handlers::describe_groups::handle),
    api!(ListGroups, 0..=5, handlers::list_groups::handle),
    api!(ApiVersions, 0..=4, handlers::api_versions::handle),
    api!(CreateTopics, 0..=7, raw handlers::create_topics::handle),
    api!(DeleteTopics, 0..=6, raw handlers::delete_topics::handle),
    api!(DeleteRecords, 0..=2, handlers::delete_records::handle),
    api!(InitProducerId, 0..=5, handlers::init_producer_id::handle),
    api!(OffsetForLeaderEpoch, 2..=4, handlers::offset_for_leader_epoch::handle),
    api!(DescribeConfigs, 1..=4, handlers::describe_configs::handle),
    api!(AlterConfigs, 0..=2, handlers::alter_configs::handle),
    api!(DescribeLogDirs, 1..=5, raw handlers::describe_log_dirs::handle),
    api!(CreatePartitions, 0..=3, handlers::create_partitions::handle),
    api!(DeleteGroups, 0..=2, handlers::delete_groups::handle),
    api!(OffsetDelete, 0..=0, handlers::offset_delete::handle),
    api!(ElectLeaders, 0..=2, handlers::elect_leaders::handle),
    api!(IncrementalAlterConfigs, 0..=1, handlers::incremental_alter_configs::handle),
    api!(AlterPartitionReassignments, 0..=1, handlers::alter_partition_reassignments::handle),
    api!(ListPartitionReassignments, 0..=0, handlers::list_partition_reassignments::handle),
    api!(DescribeClientQuotas, 0..=1, handlers::describe_client_quotas::handle),
    api!(AlterClientQuotas, 0..=1, handlers::alter_client_quotas::handle),
    api!(DescribeUserScramCredentials, 0..=0, handlers::describe_user_scram_credentials::handle),
    api!(DescribeQuorum, 0..=2, handlers::describe_quorum::handle),
    api!(UpdateFeatures, 0..=2, handlers::update_features::handle),
    api!(DescribeProducers, 0..=0, handlers::describe_producers::handle),
    api!(ListConfigResources, 0..=1, handlers::list_config_resources::handle),
    api!(DescribeCluster, 0..=2, handlers::describe_cluster::handle),
    api!(UnregisterBroker, 0..=0, handlers::unregister_broker::handle),
    api!(ConsumerGroupHeartbeat, 0..=1, handlers::consumer_group_heartbeat::handle),
    api!(ConsumerGroupDescribe, 0..=1, handlers::consumer_group_describe::handle),
    api!(DescribeTopicPartitions, 0..=0, handlers::describe_topic_partitions::handle),
    api!(own GetKeys, 0..=0, raw handlers::get_keys::handle),
];

/// Why a request ends its connection: it cannot be answered, not even with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("a request header does not decode: {0}")]
    Header(String),
    #[error("API key {key} version {version} is not supported")]
    Unsupported { key: i16, version: i16 },
    #[error("a {key:?} request of version {version} does not decode: {reason}")]
    Body { key: Key, version: i16, reason: String },
    #[error("the answer to {key:?} version {version} could not be encoded: {reason}")]
    Answer { key: Key, version: i16, reason: String },
}

/// One request, its header decoded.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) key: Key,
    pub(crate) version: i16,
    correlation_id: i32,
    /// The name that the client gives itself.
    pub(crate) client_id: Option<StrBytes>,
    /// Where the client is.
    pub(crate) peer: IpAddr,
    pub(crate) body: Bytes,
}

/// A response as the chunks to write: its frame is not copied together.
#[derive(Debug)]
pub(crate) struct Response {
    chunks: VecDeque<Bytes>,
    /// The error codes in it, to be counted.
    errors: Vec<i16>,
    /// The room that its records take until they are written.
    room: Reserved,
    /// For how long the connection is not read once this is written.
    pause: Duration,
}

/// A handler's answer.
pub(crate) enum Answer {
    /// The response, or none where the client expects none (acks=0).
    Now(Option<Response>),
    /// The request is taken in; the response comes when this resolves.
    Later(BoxFuture<'static, Option<Response>>),
}

impl Response {
    /// What is to be written, and the room that it takes until then.
    pub(crate) fn into_parts(self) -> (VecDeque<Bytes>, Reserved) {
        (self.chunks, self.room)
    }

    /// The same, holding `room` until it is written.
    #[must_use]
    pub(crate) fn holding(self, room: Reserved) -> Self {
        Self { room, ..self }
    }

    /// No response, where the client expects none, after which its connection rests.
    pub(crate) fn silent(pause: Duration) -> Self {
        let room = Reserved::default();
        Self { chunks: VecDeque::new(), errors: Vec::new(), room, pause }
    }

    /// The same, after which the connection rests for so long at least.
    #[must_use]
    pub(crate) fn resting(self, pause: Duration) -> Self {
        Self { pause: self.pause.max(pause), ..self }
    }

    /// For how long the connection is not read once this is written.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// The error codes in it, without those that say that all is well.
    pub(crate) fn error_codes(&self) -> &[i16] {
        &self.errors
    }

    /// The same, with the error codes of the body that it was made of.
    #[must_use]
    pub(crate) fn with_errors_of(mut self, body: &impl ErrorCodes) -> Self {
        body.codes(&mut |code| {
            if code != 0 {
                self.errors.push(code);
            }
        });
        self
    }
}

impl Call {
    /// Decodes the header of a request frame.
    ///
    /// # Errors
    /// [`Refused::Header`], [`Refused::Unsupported`].
    pub(crate) fn parse(mut frame: Bytes, peer: IpAddr) -> Result<Self, Refused> {
        let word = |at: usize| frame.get(at..at + 2).map(|b| i16::from_be_bytes([b[0], b[1]]));
        let too_short = || Refused::Header("it is too short".to_owned());
        let (raw_key, version) = (word(0).ok_or_else(too_short)?, word(2).ok_or_else(too_short)?);
        let unsupported = Refused::Unsupported { key: raw_key, version };
        let Some(key) = Key::find(raw_key) else { return Err(unsupported) };
        let Some(api) = find(key) else { return Err(unsupported) };
        let supported = (api.min..=api.max).contains(&version);
        // A client may ask for any version of ApiVersions and learns from the answer which to use.
        let header_version = match (key, supported) {
            (Key::Kafka(ApiKey::ApiVersions), false) => key.request_header_version(api.max),
            (_, true) => key.request_header_version(version),
            (_, false) => return Err(unsupported),
        };
        schema::check_header(header_version, &frame).map_err(|e| Refused::Header(e.to_string()))?;
        let header = RequestHeader::decode(&mut frame, header_version)
            .map_err(|e| Refused::Header(e.to_string()))?;
        let RequestHeader { correlation_id, client_id, .. } = header;
        Ok(Self { key, version, correlation_id, client_id, peer, body: frame })
    }

    /// Whether requests before this one may still be unanswered when it begins.
    pub(crate) fn overlaps(&self) -> bool {
        self.key == Key::Kafka(ApiKey::Produce)
    }

    /// Decodes the body with kafka-protocol's types, after a look at its counts and lengths.
    ///
    /// # Errors
    /// [`Refused::Body`].
    pub(crate) fn decode<T: Decodable>(&self) -> Result<T, Refused> {
        self.decode_by(|body| T::decode(body, self.version))
    }

    /// Decodes the body by a decoder of ours, after the same look.
    ///
    /// # Errors
    /// [`Refused::Body`].
    pub(crate) fn decode_by<T, E: ToString>(
        &self,
        decode: impl FnOnce(&mut Bytes) -> Result<T, E>,
    ) -> Result<T, Refused> {
        schema::check(self.key, self.version, &self.body).map_err(|e| self.malformed(e))?;
        decode(&mut self.body.clone()).map_err(|e| self.malformed(e))
    }

    /// The error for a body that does not decode.
    pub(crate) fn malformed(&self, reason: impl ToString) -> Refused {
        Refused::Body { key: self.key, version: self.version, reason: reason.to_string() }
    }

    /// The name that the client gives itself; empty for none.
    pub(crate) fn client(&self) -> &str {
        self.client_id.as_deref().unwrap_or_default()
    }

    /// A response in this request's version.
    ///
    /// # Errors
    /// [`Refused::Answer`].
    pub(crate) fn respond(
        &self,
        body: &(impl Encodable + ErrorCodes),
    ) -> Result<Response, Refused> {
        self.respond_as(body, self.version)
    }

    /// A response in another version than the request's: what ApiVersions answers to a version it does
    /// not know (KIP-511).
    ///
    /// # Errors
    /// [`Refused::Answer`].
    pub(crate) fn respond_as(
        &self,
        body: &(impl Encodable + ErrorCodes),
        version: i16,
    ) -> Result<Response, Refused> {
        let mut bytes = BytesMut::new();
        let encoded = body.encode(&mut bytes, version);
        encoded.map_err(|e| self.unencodable(e))?;
        Ok(self.respond_raw([bytes.freeze()], version)?.with_errors_of(body))
    }

    /// A response whose body is already encoded, in pieces; [`Response::with_errors_of`] adds what of it is
    /// counted.
    ///
    /// # Errors
    /// [`Refused::Answer`].
    pub(crate) fn respond_raw(
        &self,
        body: impl IntoIterator<Item = Bytes>,
        version: i16,
    ) -> Result<Response, Refused> {
        let mut head = BytesMut::with_capacity(16);
        head.put_i32(0);
        ResponseHeader::default()
            .with_correlation_id(self.correlation_id)
            .encode(&mut head, self.key.response_header_version(version))
            .map_err(|e| self.unencodable(e))?;
        let body: Vec<Bytes> = body.into_iter().filter(|chunk| !chunk.is_empty()).collect();
        let length = head.len() - 4 + body.iter().map(Bytes::len).sum::<usize>();
        let length = i32::try_from(length).map_err(|e| self.unencodable(e))?;
        head[..4].copy_from_slice(&length.to_be_bytes());
        let chunks = std::iter::once(head.freeze()).chain(body).collect();
        let (errors, room) = (Vec::new(), Reserved::default());
        Ok(Response { chunks, errors, room, pause: Duration::ZERO })
    }

    fn unencodable(&self, reason: impl ToString) -> Refused {
        Refused::Answer { key: self.key, version: self.version, reason: reason.to_string() }
    }

    fn answer(&self, body: &(impl Encodable + ErrorCodes)) -> Result<Answer, Refused> {
        self.respond(body).map(|response| Answer::Now(Some(response)))
    }
}

fn find(key: Key) -> Option<&'static Api> {
    APIS.iter().find(|api| api.key == key)
}

/// Begins to answer a request.
///
/// # Errors
/// [`Refused`] ends the connection.
pub(crate) async fn begin(broker: &Arc<Broker>, call: Call) -> Result<Answer, Refused> {
    let Some(api) = find(call.key) else {
        return Err(Refused::Unsupported { key: call.key.number(), version: call.version });
    };
    if call.version < api.min || call.version > api.max {
        return handlers::api_versions::unsupported(broker, &call);
    }
    (api.handler)(Arc::clone(broker), call).await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// The table of `docs/protocol.md`, made from [`APIS`].
    fn table() -> String {
        let mut table =
            String::from("| Key | API | Versions answered | Advertised |\n|--:|---|---|---|\n");
        let mut apis: Vec<&Api> = APIS.iter().collect();
        apis.sort_by_key(|api| api.key.number());
        for api in apis {
            let (key, name) = (api.key.number(), api.key);
            let line = format!(
                "| {key} | {name:?} | {}-{} | {}-{} |\n",
                api.min, api.max, api.advertised_min, api.max
            );
            table.push_str(&line);
        }
        table
    }

    #[test]
    fn the_protocol_page_shows_this_table() {
        let page = include_str!("../../docs/protocol.md");
        let (_, rest) = page.split_once("<!-- apis:start -->\n").expect("the start marker");
        let (shown, _) = rest.split_once("<!-- apis:end -->").expect("the end marker");
        assert_eq!(shown, table(), "put the right side between the markers of docs/protocol.md");
    }

    #[test]
    fn every_api_stands_in_the_table_once() {
        let mut keys: Vec<i16> = APIS.iter().map(|api| api.key.number()).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), APIS.len());
    }

    #[test]
    fn headers_that_do_not_decode_are_refused() {
        for frame in [&b""[..], b"\0", b"\0\x12\0", b"\0\x12\0\x03\0\0\0", b"\x7f\xff\0\0\0\0\0\0"]
        {
            assert!(
                Call::parse(Bytes::from_static(frame), Ipv4Addr::LOCALHOST.into()).is_err(),
                "{frame:?}"
            );
        }
    }
}
