//! What tools ask about a cluster: its metadata group, its producers, what has configs, its features.

use jangbu_server::Node;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeQuorumRequest, DescribeQuorumResponse,
    DescribeUserScramCredentialsRequest, ListConfigResourcesRequest, UpdateFeaturesRequest,
};
use kafka_protocol::protocol::StrBytes;
use tempfile::tempdir;

use super::forming::{Plan, stop_all};
use super::harness::{Client, Sequence, batch, start, topic_name};
use super::replication::until;

async fn quorum(node: &Node, topic: &str, version: i16) -> DescribeQuorumResponse {
    let asked = TopicData::default()
        .with_topic_name(topic_name(topic))
        .with_partitions(vec![PartitionData::default()]);
    let request = DescribeQuorumRequest::default().with_topics(vec![asked]);
    Client::connect(node).await.ask(&request, version).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_tells_the_same_of_the_metadata_group() {
    let plan = Plan::new();
    let nodes = plan.start_all([1, 2, 3]).await;
    // Leaders change until all is quiet; then whoever is asked must say the same.
    until("three nodes agree on a leader, and its followers are level", async || {
        let mut told = Vec::new();
        for node in &nodes {
            let response = quorum(node, "__cluster_metadata", 2).await;
            assert_eq!(response.error_code, 0, "{:?}", response.error_message);
            assert!(response.nodes.iter().all(|node| &*node.listeners[0].name == "PEER"));
            let group = &response.topics[0].partitions[0];
            let mut voters: Vec<i32> =
                group.current_voters.iter().map(|voter| voter.replica_id.0).collect();
            voters.sort_unstable();
            assert_eq!((voters, group.observers.len()), (vec![1, 2, 3], 0));
            let ends = group.current_voters.iter().map(|voter| voter.log_end_offset);
            let level = ends.clone().min() == ends.max();
            let leader = group.leader_id;
            let own = group.current_voters.iter().find(|voter| voter.replica_id == leader).unwrap();
            assert!(own.last_caught_up_timestamp > 0 && own.log_end_offset > 0);
            assert!(group.high_watermark <= own.log_end_offset);
            told.push((leader, group.leader_epoch, level));
        }
        (told.iter().all(|one| *one == told[0]) && told[0].2).then_some(())
    })
    .await;
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_of_another_topic_is_unknown() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    for version in 0..=2 {
        let response = quorum(&node, "t", version).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 3);
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_producers_of_a_partition_are_told_with_their_last_sequence() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    for first in [0, 2] {
        let sequence = Sequence { producer_id: 7, first };
        assert_eq!(client.produce("t", 0, batch(&["a", "b"], sequence)).await.error_code, 0);
    }
    let asked = ["t", "nothing"].map(|name| {
        TopicRequest::default().with_name(topic_name(name)).with_partition_indexes(vec![0, 1])
    });
    let request = DescribeProducersRequest::default().with_topics(asked.to_vec());
    let response = client.ask(&request, 0).await;
    let codes = |topic: usize| {
        response.topics[topic].partitions.iter().map(|p| p.error_code).collect::<Vec<_>>()
    };
    assert_eq!((codes(0), codes(1)), (vec![0, 3], vec![3, 3]));
    let [producer] = response.topics[0].partitions[0].active_producers.as_slice() else {
        panic!("one producer has written");
    };
    assert_eq!((producer.producer_id.0, producer.producer_epoch), (7, 0));
    assert_eq!((producer.last_sequence, producer.last_timestamp), (3, 1_001));
    assert_eq!((producer.coordinator_epoch, producer.current_txn_start_offset), (-1, -1));
    node.shutdown().await;
}

/// Types and names.
type Named<'a> = &'a [(i8, &'a str)];

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_brokers_are_listed_as_what_has_configs() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let cases: [(&[i8], Named<'_>); 5] = [
        (&[], &[(2, "t"), (4, "1")]),
        (&[2], &[(2, "t")]),
        (&[4], &[(4, "1")]),
        (&[8, 16, 32], &[]),
        (&[4, 2], &[(2, "t"), (4, "1")]),
    ];
    for (types, expected) in cases {
        let request = ListConfigResourcesRequest::default().with_resource_types(types.to_vec());
        let response = client.ask(&request, 1).await;
        let named: Vec<(i8, &str)> = response
            .config_resources
            .iter()
            .map(|resource| (resource.resource_type, &*resource.resource_name))
            .collect();
        assert_eq!((response.error_code, &*named), (0, expected), "{types:?}");
    }
    let request = ListConfigResourcesRequest::default().with_resource_types(vec![2, 77]);
    assert_eq!(client.ask(&request, 1).await.error_code, 35);
    let metrics = client.ask(&ListConfigResourcesRequest::default(), 0).await;
    assert_eq!((metrics.error_code, metrics.config_resources.len()), (0, 0));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_feature_can_be_changed_and_the_answer_says_why() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    let update = FeatureUpdateKey::default()
        .with_feature(StrBytes::from_static_str("metadata.version"))
        .with_max_version_level(1);
    let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update]);
    let why = "Invalid update version 1 for feature metadata.version.";
    let response = client.ask(&request, 1).await;
    assert_eq!((response.error_code, response.results[0].error_code), (0, 95));
    assert!(response.results[0].error_message.as_ref().unwrap().starts_with(why));
    let response = client.ask(&request, 2).await;
    assert_eq!((response.error_code, response.results.len()), (95, 0));
    assert!(response.error_message.unwrap().contains(why));
    let empty = client.ask(&UpdateFeaturesRequest::default(), 1).await;
    assert_eq!(empty.error_code, 42);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_user_has_scram_credentials() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    let named = |name: &'static str| UserName::default().with_name(StrBytes::from_static_str(name));
    for everyone in [None, Some(Vec::new())] {
        let request = DescribeUserScramCredentialsRequest::default().with_users(everyone);
        let response = client.ask(&request, 0).await;
        assert_eq!((response.error_code, response.results.len()), (0, 0));
    }
    let users = Some(vec![named("b"), named("a"), named("b"), named("")]);
    let request = DescribeUserScramCredentialsRequest::default().with_users(users);
    let response = client.ask(&request, 0).await;
    let told: Vec<_> = response.results.iter().map(|user| (&*user.user, user.error_code)).collect();
    assert_eq!(told, [("", 91), ("a", 91), ("b", 92)]);
    let text = response.results[1].error_message.as_deref();
    assert_eq!(text, Some("Attempt to describe a user credential that does not exist: a"));
    node.shutdown().await;
}
