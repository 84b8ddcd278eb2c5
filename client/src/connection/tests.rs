//! A connection against a scripted peer: order, bounds, and what the waiters are told when it dies.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsResponse, MetadataRequest, MetadataResponse, api_versions_response::ApiVersion,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request};
use proptest::prelude::{any, proptest};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::{Api, Connection, decode_api_versions};
use crate::config::Config;
use crate::{Error, frame};

/// The peer's side of a connection.
struct Peer(TcpStream);

impl Peer {
    /// The next request: its API key and correlation id.
    async fn request(&mut self) -> Option<(i16, i32)> {
        let body = frame::read(&mut self.0, 1 << 20).await.unwrap()?;
        let id = i32::from_be_bytes(body[4..8].try_into().unwrap());
        Some((i16::from_be_bytes([body[0], body[1]]), id))
    }

    async fn send(&mut self, id: i32, body: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_i32(i32::try_from(body.len() + 4).unwrap());
        frame.put_i32(id);
        frame.put_slice(body);
        self.0.write_all(&frame).await.unwrap();
    }

    /// Answers the version request: only Metadata, versions 0 to 4.
    async fn negotiate(&mut self) {
        let (key, id) = self.request().await.unwrap();
        assert_eq!(key, 18);
        let api = ApiVersion::default().with_api_key(3).with_max_version(4);
        let mut body = BytesMut::new();
        ApiVersionsResponse::default().with_api_keys(vec![api]).encode(&mut body, 3).unwrap();
        self.send(id, &body).await;
    }
}

async fn pair(config: Config) -> (Connection, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepting = async {
        let mut peer = Peer(listener.accept().await.unwrap().0);
        peer.negotiate().await;
        peer
    };
    let (connection, peer) = tokio::join!(Connection::open(&address, &config), accepting);
    (connection.unwrap(), peer)
}

fn metadata_answer(controller: i32) -> Bytes {
    let mut body = BytesMut::new();
    let answer = MetadataResponse::default().with_controller_id(controller.into());
    assert_eq!(MetadataResponse::header_version(4), 0);
    answer.encode(&mut body, 4).unwrap();
    body.freeze()
}

#[tokio::test]
async fn a_broker_that_knows_no_keys_is_not_asked_for_any() {
    let (connection, _peer) = pair(Config::default()).await;
    let error = connection.call_own(10_000, "GetKeys", b"").await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { api: "GetKeys", .. }), "{error}");
    assert!(!error.is_retriable());
}

#[tokio::test]
async fn pipelined_answers_reach_the_request_they_belong_to() {
    let (connection, mut peer) = pair(Config::default()).await;
    assert_eq!(connection.version::<MetadataRequest>().unwrap(), 4);
    let request = MetadataRequest::default();
    let pending: Vec<_> =
        (0..3).map(|_| connection.submit(&request, Duration::ZERO).unwrap()).collect();
    for controller in 0..3 {
        let (key, id) = peer.request().await.unwrap();
        assert_eq!(key, MetadataRequest::KEY);
        peer.send(id, &metadata_answer(controller)).await;
    }
    for (controller, pending) in (0..3).zip(pending) {
        assert_eq!(pending.answer().await.unwrap().controller_id.0, controller);
    }
}

#[tokio::test]
async fn when_the_connection_dies_every_waiter_and_every_later_caller_is_told_why() {
    let (connection, mut peer) = pair(Config::default()).await;
    let request = MetadataRequest::default();
    let pending: Vec<_> =
        (0..3).map(|_| connection.submit(&request, Duration::ZERO).unwrap()).collect();
    peer.0.write_all(&i32::MAX.to_be_bytes()).await.unwrap();
    for pending in pending {
        let error = pending.answer().await.unwrap_err();
        assert!(matches!(error, Error::Disconnected { .. }) && error.is_retriable());
        assert!(error.to_string().contains("2147483647"), "{error}");
    }
    let error = connection.call(&request).await.unwrap_err();
    assert!(error.to_string().contains("2147483647"), "{error}");
    assert!(!connection.is_alive());
}

#[tokio::test]
async fn an_answer_to_nothing_ends_the_connection() {
    let (connection, mut peer) = pair(Config::default()).await;
    let pending = connection.submit(&MetadataRequest::default(), Duration::ZERO).unwrap();
    peer.send(4711, &metadata_answer(0)).await;
    let error = pending.answer().await.unwrap_err();
    assert!(error.to_string().contains("not sent"), "{error}");
}

#[tokio::test]
async fn a_request_that_is_not_answered_in_time_gives_the_connection_up() {
    let config = Config { request_timeout: Duration::from_millis(20), ..Config::default() };
    let (connection, _peer) = pair(config).await;
    let error = connection.call(&MetadataRequest::default()).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { what: "Metadata", .. }), "{error}");
    assert!(!connection.is_alive());
}

#[tokio::test]
async fn a_request_the_broker_does_not_know_is_refused_by_name() {
    let (connection, _peer) = pair(Config::default()).await;
    let error = connection.version::<kafka_protocol::messages::FetchRequest>().unwrap_err();
    assert!(
        matches!(error, Error::Unsupported { api, .. } if api == <kafka_protocol::messages::FetchRequest as Api>::NAME)
    );
}

#[tokio::test]
async fn an_answer_that_claims_more_than_it_holds_is_refused_by_name() {
    let (connection, mut peer) = pair(Config::default()).await;
    let pending = connection.submit(&MetadataRequest::default(), Duration::ZERO).unwrap();
    let (_, id) = peer.request().await.unwrap();
    // A throttle time and 2^31 - 1 brokers: decoded, they would take 200 GB.
    peer.send(id, &[0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]).await;
    let error = pending.answer().await.unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    assert!(error.to_string().contains("Metadata: brokers at byte 12"), "{error}");
    assert!(connection.is_alive(), "the frames are sound");
}

proptest! {
    #[test]
    fn any_list_of_versions_decodes_or_fails(code: i16, rest in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = BytesMut::new();
        bytes.put_i32(1);
        bytes.put_i16(code);
        bytes.put_slice(&rest);
        let _ = decode_api_versions(bytes.freeze(), 3);
    }
}
