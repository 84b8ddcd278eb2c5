//! What a node still knows after it was stopped and started again.

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, MetadataRequest};
use tempfile::tempdir;

use super::harness::{
    Client, NO_SEQUENCE, Sequence, batch, config, http_get, records, start, topic_name,
};

#[tokio::test(flavor = "multi_thread")]
async fn records_offsets_and_topic_ids_survive() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 2).await;
    client.produce("t", 0, batch(&["a", "b"], NO_SEQUENCE)).await;
    let describe = MetadataRequest::default().with_topics(None);
    let before = client.ask(&describe, 12).await;
    node.shutdown().await;

    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    ready(&node).await;
    let after = client.ask(&describe, 12).await;
    assert_eq!(after.topics[0].topic_id, before.topics[0].topic_id);
    assert_eq!(after.cluster_id, before.cluster_id);
    let fetched = records(&client.fetch("t", 0, 1, Duration::ZERO).await);
    assert_eq!(fetched, [(0, "a".to_owned()), (1, "b".to_owned())]);
    assert_eq!(client.produce("t", 0, batch(&["c"], NO_SEQUENCE)).await.base_offset, 2);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_after_a_restart_is_answered_with_its_first_offset() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let init = InitProducerIdRequest::default().with_transactional_id(None);
    let first_id = client.ask(&init, 4).await.producer_id.0;
    let sequence = |first| Sequence { producer_id: first_id, first };
    client.produce("t", 0, batch(&["other"], NO_SEQUENCE)).await;
    client.produce("t", 0, batch(&["a", "b"], sequence(0))).await;
    node.shutdown().await;

    let node = start(dir.path()).await;
    ready(&node).await;
    let mut client = Client::connect(&node).await;
    let again = client.produce("t", 0, batch(&["a", "b"], sequence(0))).await;
    assert_eq!((again.error_code, again.base_offset), (0, 1));
    assert_eq!(client.produce("t", 0, batch(&["c"], sequence(2))).await.base_offset, 3);
    let second_id = client.ask(&init, 4).await.producer_id.0;
    assert!(second_id > first_id, "producer ids are never given out twice");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_behind_what_an_earlier_leader_took_is_no_error_of_the_producer_at_first() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let nth = |first| batch(&["x"], Sequence { producer_id: 7, first });
    client.produce("t", 0, nth(0)).await;
    node.shutdown().await;

    let node = start(dir.path()).await;
    ready(&node).await;
    let mut client = Client::connect(&node).await;
    let early = client.produce("t", 0, nth(2)).await;
    assert_eq!(early.error_code, ResponseError::NotLeaderOrFollower.code(), "it is sent again");
    assert_eq!(client.produce("t", 0, nth(0)).await.base_offset, 0, "as are those before it");
    assert_eq!(client.produce("t", 0, nth(1)).await.base_offset, 1);
    assert_eq!(client.produce("t", 0, nth(2)).await.base_offset, 2);
    let gap = client.produce("t", 0, nth(4)).await;
    assert_eq!(gap.error_code, ResponseError::OutOfOrderSequenceNumber.code());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_stays_deleted_and_its_name_starts_empty() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    client.produce("t", 0, batch(&["old"], NO_SEQUENCE)).await;
    let delete = kafka_protocol::messages::DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name("t")])
        .with_timeout_ms(1000);
    assert_eq!(client.ask(&delete, 5).await.responses[0].error_code, 0);
    node.shutdown().await;

    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    let describe = MetadataRequest::default().with_topics(None);
    assert!(client.ask(&describe, 12).await.topics.is_empty());
    client.create_topic("t", 1).await;
    assert!(records(&client.fetch("t", 0, 1, Duration::ZERO).await).is_empty());
    assert_eq!(client.produce("t", 0, batch(&["new"], NO_SEQUENCE)).await.base_offset, 0);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_is_refused_to_another_node_and_to_a_second_process() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let second = jangbu_server::Node::start(config(dir.path())).await.unwrap_err();
    assert!(second.to_string().contains("in use"), "{second}");
    node.shutdown().await;
    let other = jangbu_server::Config { node: Some(2), ..config(dir.path()) };
    let refused = jangbu_server::Node::start(other).await.unwrap_err();
    assert!(refused.to_string().contains("belongs to node 1"), "{refused}");
}

/// Waits until the node says that it is ready.
pub(crate) async fn ready(node: &jangbu_server::Node) {
    let asking = async {
        while !http_get(node, "/readyz").await.0.contains("200") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.expect("ready in time");
}
