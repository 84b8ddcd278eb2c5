//! What DeleteRecords and retention take away, and what stays.

use std::time::Duration;

use jangbu_server::Node;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{CreateTopicsRequest, DeleteRecordsRequest, ListOffsetsRequest};
use kafka_protocol::protocol::StrBytes;
use tempfile::tempdir;

use super::harness::{Client, NO_SEQUENCE, batch, records, start, topic_name};
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
