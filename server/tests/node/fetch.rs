//! What fetching answers: whole batches, long polls, and limits.

use std::time::{Duration, Instant};

use jangbu_server::{Config, Node};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_response::PartitionData;
use tempfile::tempdir;

use super::harness::{
    Client, FETCH_VERSION, NO_SEQUENCE, batch, config, fetch_request, http_get, records, start,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_inside_a_batch_gives_the_whole_batch() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    client.produce("t", 0, batch(&["a", "b", "c"], NO_SEQUENCE)).await;
    client.produce("t", 0, batch(&["d", "e"], NO_SEQUENCE)).await;
    let offsets = |from: i64| (from..5).collect::<Vec<_>>();
    for (from, first) in [(0, 0), (1, 0), (2, 0), (3, 3), (4, 3)] {
        let fetched = records(&client.fetch("t", from, 1, Duration::ZERO).await);
        assert_eq!(fetched.iter().map(|r| r.0).collect::<Vec<_>>(), offsets(first), "from {from}");
    }
    assert!(records(&client.fetch("t", 5, 1, Duration::ZERO).await).is_empty());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_outside_the_log_are_out_of_range() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    for offset in [-1, 1, i64::MAX] {
        let response = client.fetch("t", offset, 1, Duration::from_secs(60)).await;
        let code = response.responses[0].partitions[0].error_code;
        assert_eq!(code, ResponseError::OffsetOutOfRange.code(), "offset {offset}");
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_when_a_record_arrives() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut reader = Client::connect(&node).await;
    let mut writer = Client::connect(&node).await;
    writer.create_topic("t", 1).await;
    let wait = Duration::from_secs(600);
    reader.send(&fetch_request("t", 0, 1, wait), FETCH_VERSION).await;
    writer.produce("t", 0, batch(&["late"], NO_SEQUENCE)).await;
    // Without the wake-up this would take ten minutes.
    let (_, response) = reader.receive::<FetchRequest>(FETCH_VERSION).await;
    assert_eq!(records(&response), [(0, "late".to_owned())]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_waits_for_min_bytes() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut reader = Client::connect(&node).await;
    let mut writer = Client::connect(&node).await;
    writer.create_topic("t", 1).await;
    let one = batch(&["x"], NO_SEQUENCE);
    let three = i32::try_from(3 * one.len()).unwrap();
    reader.send(&fetch_request("t", 0, three, Duration::from_secs(600)), FETCH_VERSION).await;
    for _ in 0..3 {
        writer.produce("t", 0, one.clone()).await;
    }
    let (_, response) = reader.receive::<FetchRequest>(FETCH_VERSION).await;
    assert_eq!(records(&response).len(), 3);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_poll_waits_as_long_as_asked() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let started = Instant::now();
    let wait = Duration::from_millis(200);
    assert!(records(&client.fetch("t", 0, 1, wait).await).is_empty());
    assert!(started.elapsed() >= wait);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_the_limits_still_comes() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let value = "x".repeat(10_000);
    client.produce("t", 0, batch(&[&value], NO_SEQUENCE)).await;
    client.produce("t", 0, batch(&[&value], NO_SEQUENCE)).await;
    let mut request = fetch_request("t", 0, 1, Duration::ZERO).with_max_bytes(100);
    request.topics[0].partitions[0].partition_max_bytes = 100;
    let fetched = records(&client.ask(&request, FETCH_VERSION).await);
    assert_eq!(fetched.len(), 1, "one batch, and only one");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_partition_keeps_to_the_limit_of_the_response() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 2).await;
    let value = "x".repeat(10_000);
    for partition in 0..2 {
        client.produce("t", partition, batch(&[&value], NO_SEQUENCE)).await;
    }
    let mut request = fetch_request("t", 0, 1, Duration::ZERO).with_max_bytes(15_000);
    let second = request.topics[0].partitions[0].clone().with_partition(1);
    request.topics[0].partitions.push(second);
    let response = client.ask(&request, FETCH_VERSION).await;
    let bytes = |i: usize| {
        let records = &response.responses[0].partitions[i].records;
        records.as_ref().map_or(0, bytes::Bytes::len)
    };
    assert!(bytes(0) > 10_000, "the first comes whole");
    assert_eq!(bytes(1), 0, "the second would exceed max_bytes");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_do_not_fit_are_not_read_from_the_disk() {
    const PARTITIONS: i32 = 60;
    const BATCH: usize = 100_000;
    let dir = tempdir().unwrap();
    let node = Node::start(Config { cache_bytes: Some(0), ..config(dir.path()) }).await.unwrap();
    let mut client = Client::connect(&node).await;
    client.create_topic("t", PARTITIONS).await;
    let value = "x".repeat(BATCH);
    for partition in 0..PARTITIONS {
        // The newest entry stays in memory; what is read lies before it.
        client.produce("t", partition, batch(&[&value], NO_SEQUENCE)).await;
        client.produce("t", partition, batch(&["y"], NO_SEQUENCE)).await;
    }
    // Each partition is asked for little, and gives a whole batch: ten of them fit.
    let mut request = fetch_request("t", 0, 1, Duration::ZERO).with_max_bytes(1_050_000);
    let mut wanted = request.topics[0].partitions[0].clone();
    wanted.partition_max_bytes = 1000;
    request.topics[0].partitions =
        (0..PARTITIONS).map(|partition| wanted.clone().with_partition(partition)).collect();
    let given = |data: &PartitionData| data.records.as_ref().is_some_and(|r| !r.is_empty());
    let disk_reads = async || {
        let (_, page) = http_get(&node, "/metrics").await;
        let reads = |line: &str| {
            let count = line.strip_prefix("jangbu_partition_reads_total{source=\"disk\"} ")?;
            count.parse::<u64>().ok()
        };
        page.lines().find_map(reads).unwrap()
    };
    // The first answer tells how large batches are.
    client.ask(&request, FETCH_VERSION).await;
    let before = disk_reads().await;
    let response = client.ask(&request, FETCH_VERSION).await;
    let read = disk_reads().await - before;
    let given = response.responses[0].partitions.iter().filter(|data| given(data)).count();
    assert!((8..=10).contains(&given), "{given} partitions");
    assert!(read <= 11, "{read} partitions were read");
    node.shutdown().await;
}
