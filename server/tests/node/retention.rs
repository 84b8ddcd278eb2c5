//! What DeleteRecords and retention take away, and what stays.

use std::time::Duration;

use jangbu_server::{Config, Node};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DescribeLogDirsRequest, DescribeLogDirsResponse,
    ListOffsetsRequest,
};
use kafka_protocol::protocol::StrBytes;
use tempfile::tempdir;

use super::harness::{Client, NO_SEQUENCE, batch, config, records, start, topic_name};
use super::restart::ready;

/// Deletes what lies before `offset` of partition 0: the error code and the low watermark.
async fn delete_records(client: &mut Client, topic: &str, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(offset);
    let named =
        DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![named]).with_timeout_ms(10_000);
    let response = client.ask(&request, 2).await;
    let result = &response.topics[0].partitions[0];
    (result.error_code, result.low_watermark)
}

async fn earliest(client: &mut Client, topic: &str) -> i64 {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-2);
    let named =
        ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![named]);
    let response = client.ask(&request, 7).await;
    response.topics[0].partitions[0].offset
}

/// Creates a topic with one partition and these configs.
async fn create_with(client: &mut Client, name: &str, configs: &[(&'static str, &str)]) {
    let config = |(name, value): &(&'static str, &str)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string((*value).to_owned())))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let response = client.ask(&request, 7).await;
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
}

async fn with_four_records(node: &Node) -> Client {
    let mut client = Client::connect(node).await;
    client.create_topic("t", 1).await;
    client.produce("t", 0, batch(&["a", "b", "c"], NO_SEQUENCE)).await;
    client.produce("t", 0, batch(&["d"], NO_SEQUENCE)).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_are_gone_at_once_and_after_a_restart() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = with_four_records(&node).await;
    assert_eq!(delete_records(&mut client, "t", 2).await, (0, 2));
    assert_eq!(earliest(&mut client, "t").await, 2);
    let below = client.fetch("t", 1, 1, Duration::ZERO).await;
    let code = below.responses[0].partitions[0].error_code;
    assert_eq!(code, ResponseError::OffsetOutOfRange.code());
    // A batch is one piece: a reader in its middle gets all of it and drops what it did not ask for.
    let kept = records(&client.fetch("t", 2, 1, Duration::ZERO).await);
    assert_eq!(kept.last(), Some(&(3, "d".to_owned())));
    node.shutdown().await;

    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    ready(&node).await;
    assert_eq!(earliest(&mut client, "t").await, 2);
    assert_eq!(client.produce("t", 0, batch(&["e"], NO_SEQUENCE)).await.base_offset, 4);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minus_one_deletes_everything_and_offsets_go_on() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = with_four_records(&node).await;
    assert_eq!(delete_records(&mut client, "t", -1).await, (0, 4));
    assert_eq!(delete_records(&mut client, "t", 1).await, (0, 4), "the log start never goes back");
    assert_eq!(client.produce("t", 0, batch(&["e"], NO_SEQUENCE)).await.base_offset, 4);
    let fetched = records(&client.fetch("t", 4, 1, Duration::ZERO).await);
    assert_eq!(fetched, [(4, "e".to_owned())]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deleted_is_refused() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = with_four_records(&node).await;
    create_with(&mut client, "kept", &[("cleanup.policy", "")]).await;
    for (topic, offset, code) in [
        ("t", 5, ResponseError::OffsetOutOfRange),
        ("t", -2, ResponseError::OffsetOutOfRange),
        ("missing", 0, ResponseError::UnknownTopicOrPartition),
        ("kept", 0, ResponseError::PolicyViolation),
    ] {
        assert_eq!(delete_records(&mut client, topic, offset).await, (code.code(), -1), "{topic}");
    }
    assert_eq!(earliest(&mut client, "t").await, 0);
    node.shutdown().await;
}

/// Retention is applied all the time.
fn eager(dir: &std::path::Path) -> Config {
    Config { retention_check_ms: 5, ..config(dir) }
}

/// Asks again until the log begins behind 0; where it begins then.
async fn until_moved(client: &mut Client, topic: &str) -> i64 {
    let moved = async {
        loop {
            match earliest(client, topic).await {
                0 => tokio::task::yield_now().await,
                offset => return offset,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), moved).await.expect("retention runs")
}

async fn log_dirs(client: &mut Client, topics: &[&str]) -> DescribeLogDirsResponse {
    let named = |topic: &&str| {
        DescribableLogDirTopic::default().with_topic(topic_name(topic)).with_partitions(vec![0, 7])
    };
    let topics = topics.iter().map(named).collect();
    client.ask(&DescribeLogDirsRequest::default().with_topics(Some(topics)), 4).await
}

/// The size of partition 0 as DescribeLogDirs tells it.
async fn size(client: &mut Client, topic: &str) -> i64 {
    let response = log_dirs(client, &[topic]).await;
    assert_eq!((response.error_code, response.results.len()), (0, 1));
    let partitions = &response.results[0].topics[0].partitions;
    assert_eq!(partitions.len(), 1);
    assert_eq!((partitions[0].partition_index, partitions[0].offset_lag), (0, 0));
    partitions[0].partition_size
}

#[tokio::test(flavor = "multi_thread")]
async fn old_records_expire_and_a_topic_without_deletion_keeps_them() {
    let dir = tempdir().unwrap();
    let node = Node::start(eager(dir.path())).await.unwrap();
    let mut client = Client::connect(&node).await;
    create_with(&mut client, "kept", &[("cleanup.policy", ""), ("retention.ms", "1")]).await;
    create_with(&mut client, "young", &[("retention.ms", "9000000000000000")]).await;
    create_with(&mut client, "old", &[("retention.ms", "1")]).await;
    for topic in ["kept", "young", "old"] {
        let answer = client.produce(topic, 0, batch(&["a", "b", "c"], NO_SEQUENCE)).await;
        assert_eq!(answer.error_code, 0);
    }
    assert_eq!(until_moved(&mut client, "old").await, 3, "all of it, as Kafka does");
    assert_eq!(earliest(&mut client, "kept").await, 0);
    assert_eq!(earliest(&mut client, "young").await, 0);
    assert_eq!(client.produce("old", 0, batch(&["d"], NO_SEQUENCE)).await.base_offset, 3);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_keeps_as_many_bytes_as_it_may() {
    const KEPT: i64 = 300_000;
    let dir = tempdir().unwrap();
    let node = Node::start(eager(dir.path())).await.unwrap();
    let mut client = Client::connect(&node).await;
    let limits = [("retention.ms", "-1"), ("retention.bytes", "300000")];
    create_with(&mut client, "t", &limits).await;
    let value = "x".repeat(10_000);
    for _ in 0..100 {
        client.produce("t", 0, batch(&[&value], NO_SEQUENCE)).await;
    }
    let settled = async {
        loop {
            let size = size(&mut client, "t").await;
            if size < KEPT + (128 << 10) + 2 * 10_100 {
                return size;
            }
            tokio::task::yield_now().await;
        }
    };
    let left = tokio::time::timeout(Duration::from_secs(30), settled).await.unwrap();
    assert!(left >= KEPT, "{left}");
    assert!(earliest(&mut client, "t").await >= 50);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_dirs_tell_the_sizes_of_batches_and_the_disk() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = with_four_records(&node).await;
    let first = i64::try_from(batch(&["a", "b", "c"], NO_SEQUENCE).len()).unwrap();
    let second = i64::try_from(batch(&["d"], NO_SEQUENCE).len()).unwrap();
    assert_eq!(size(&mut client, "t").await, first + second);
    assert_eq!(delete_records(&mut client, "t", 3).await, (0, 3));
    assert_eq!(size(&mut client, "t").await, second);
    let response = log_dirs(&mut client, &["t", "missing"]).await;
    let found = &response.results[0];
    assert_eq!(found.topics.len(), 1);
    assert!(found.usable_bytes > 0 && found.total_bytes >= found.usable_bytes);
    let all = DescribeLogDirsRequest::default().with_topics(None);
    let all = client.ask(&all, 1).await;
    assert_eq!(all.results[0].topics.len(), 1);
    node.shutdown().await;

    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    ready(&node).await;
    assert_eq!(size(&mut client, "t").await, second);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_records_and_topics_are_refused_and_reads_go_on() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    with_four_records(&node).await;
    node.shutdown().await;

    let reserve = Some(u64::try_from(i64::MAX).unwrap());
    let node = Node::start(Config { disk_reserve_bytes: reserve, ..config(dir.path()) });
    let node = node.await.unwrap();
    let mut client = Client::connect(&node).await;
    ready(&node).await;
    let refused = client.produce("t", 0, batch(&["e"], NO_SEQUENCE)).await;
    assert_eq!(refused.error_code, ResponseError::KafkaStorageError.code());
    assert!(ResponseError::KafkaStorageError.is_retriable());
    let message = refused.error_message.expect("a message").to_string();
    assert!(message.contains("nearly full"), "{message}");
    let topic = CreatableTopic::default()
        .with_name(topic_name("new"))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let created = client.ask(&request, 7).await;
    assert_eq!(created.topics[0].error_code, ResponseError::KafkaStorageError.code());
    assert_eq!(records(&client.fetch("t", 3, 1, Duration::ZERO).await).len(), 1);
    assert_eq!(delete_records(&mut client, "t", 2).await, (0, 2));
    node.shutdown().await;
}
