//! What a node does not put up with, and what it says on its HTTP port.

use std::time::{Duration, Instant};

use jangbu_server::{Config, Node};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest};
use kafka_protocol::protocol::StrBytes;
use tempfile::tempdir;

use super::harness::{
    Client, FETCH_VERSION, NO_SEQUENCE, batch, config, fetch_request, http_get, key, records, start,
};

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_no_requests_close_only_their_connection() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut good = Client::connect(&node).await;
    good.create_topic("t", 1).await;
    let lying_array = {
        // A Metadata request, version 1, whose array claims 2^31 - 1 topics.
        let mut frame = key(ApiKey::Metadata).to_vec();
        frame.extend([0, 1, 0, 0, 0, 9, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        [length.to_vec(), frame].concat()
    };
    let frames: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        &[0, 0, 0, 8, 0x7f, 0xff, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 9, 0, 3, 0, 1, 0, 0, 0, 0, 0x7f],
        &lying_array,
    ];
    for frame in frames {
        let mut bad = Client::connect(&node).await;
        bad.send_bytes(frame).await;
        assert!(bad.receive_frame().await.is_none(), "{frame:?} was answered");
        assert!(records(&good.fetch("t", 0, 1, Duration::ZERO).await).is_empty());
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    let mut frame = key(ApiKey::ApiVersions).to_vec();
    frame.extend([0, 99, 0, 0, 0, 5, 0xff, 0xff, 0]);
    client.send_frame(&frame).await;
    let (id, response) = client.receive::<ApiVersionsRequest>(0).await;
    assert_eq!((id, response.error_code), (5, 35));
    assert!(response.api_keys.iter().any(|api| api.api_key == ApiKey::ApiVersions as i16));
    let named = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("test"))
        .with_client_software_version(StrBytes::from_static_str("1.0"));
    let response = client.ask(&named, 4).await;
    let produce = response.api_keys.iter().find(|api| api.api_key == 0).unwrap();
    assert_eq!((produce.min_version, produce.max_version), (0, 13), "KAFKA-18659");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed() {
    let dir = tempdir().unwrap();
    let limited = Config { connections_max: 2, ..config(dir.path()) };
    let node = Node::start(limited).await.unwrap();
    let mut first = Client::connect(&node).await;
    first.create_topic("t", 1).await;
    let mut second = Client::connect(&node).await;
    assert!(records(&second.fetch("t", 0, 1, Duration::ZERO).await).is_empty());
    let mut third = Client::connect(&node).await;
    assert!(third.receive_frame().await.is_none());
    assert!(records(&first.fetch("t", 0, 1, Duration::ZERO).await).is_empty());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_long_polls_and_takes_less_than_five_seconds() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    client.send(&fetch_request("t", 0, 1, Duration::from_secs(600)), FETCH_VERSION).await;
    let started = Instant::now();
    node.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    if let Some(frame) = client.receive_frame().await {
        assert!(!frame.is_empty(), "the poll may be answered with nothing new");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_tells_health_readiness_and_metrics() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 3).await;
    assert!(http_get(&node, "/healthz").await.0.contains("200"));
    let (_, metrics) = http_get(&node, "/metrics").await;
    assert!(metrics.contains("jangbu_partitions 3"), "{metrics}");
    assert!(http_get(&node, "/nothing").await.0.contains("404"));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_request_that_never_comes_keeps_nobody_waiting_for_ever() {
    let dir = tempdir().unwrap();
    let small =
        Config { produce_bytes_max: Some(1 << 20), request_arrival_ms: 200, ..config(dir.path()) };
    let node = Node::start(small).await.unwrap();
    let mut good = Client::connect(&node).await;
    good.create_topic("t", 1).await;
    let mut bad = Client::connect(&node).await;
    // Claims all the room there is, and sends nothing more.
    bad.send_bytes(&(1_u32 << 20).to_be_bytes()).await;
    let large = batch(&[&"x".repeat(100_000)], NO_SEQUENCE);
    loop {
        // Without the limit neither of the two would ever come.
        tokio::select! {
            biased;
            frame = bad.receive_frame() => {
                assert!(frame.is_none(), "its connection is closed");
                break;
            }
            answer = good.produce("t", 0, large.clone()) => assert_eq!(answer.error_code, 0),
        }
    }
    let mut good = Client::connect(&node).await;
    assert_eq!(good.produce("t", 0, large).await.error_code, 0);
    node.shutdown().await;
}
