//! Consumer groups: what a coordinator still knows after a restart, and what the next one knows when it stops.

use jangbu_server::Node;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use tempfile::tempdir;

use super::forming::{Plan, stop_all};
use super::harness::{Client, config, start, topic_name};
use super::replication::until;

const LOADING: i16 = 14;
const NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const ILLEGAL_GENERATION: i16 = 22;
const MEMBER_ID_REQUIRED: i16 = 79;

fn group(name: &str) -> GroupId {
    GroupId(StrBytes::from_string(name.to_owned()))
}

/// The broker that coordinates a group.
async fn coordinator(node: &Node, name: &str) -> i32 {
    until("a coordinator", async || {
        let mut client = Client::connect(node).await;
        let key = StrBytes::from_string(name.to_owned());
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![key]);
        let found = client.ask(&request, 4).await.coordinators.remove(0);
        (found.error_code == 0).then_some(found.node_id.0)
    })
    .await
}

/// Whether a client would look for the coordinator again, or wait for it.
fn is_passing(code: i16) -> bool {
    matches!(code, LOADING | NOT_AVAILABLE | NOT_COORDINATOR)
}

async fn commit(node: &Node, name: &str, member: &str, generation: i32, offset: i64) -> i16 {
    until("a commit is answered", async || {
        let mut client = Client::connect(node).await;
        let partition = OffsetCommitRequestPartition::default()
            .with_committed_offset(offset)
            .with_committed_metadata(Some(StrBytes::from_static_str("note")));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group(name))
            .with_member_id(StrBytes::from_string(member.to_owned()))
            .with_generation_id_or_member_epoch(generation)
            .with_topics(vec![topic]);
        let code = client.ask(&request, 8).await.topics[0].partitions[0].error_code;
        (!is_passing(code)).then_some(code)
    })
    .await
}

async fn committed(node: &Node, name: &str) -> (i64, String) {
    until("a committed offset", async || {
        let mut client = Client::connect(node).await;
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partition_indexes(vec![0]);
        let request =
            OffsetFetchRequest::default().with_group_id(group(name)).with_topics(Some(vec![topic]));
        let answer = client.ask(&request, 7).await;
        assert!(answer.error_code == 0 || is_passing(answer.error_code));
        let found = answer.topics.first()?.partitions[0].clone();
        Some((found.committed_offset, found.metadata.unwrap_or_default().to_string()))
    })
    .await
}

/// A group of one member that has settled; the member's id.
async fn settled(node: &Node, name: &str) -> String {
    let mut client = Client::connect(node).await;
    let protocol =
        JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range"));
    let mut join = JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol]);
    let first = until("the coordinator takes members", async || {
        let answer = client.ask(&join, 5).await;
        (!is_passing(answer.error_code)).then_some(answer)
    })
    .await;
    assert_eq!(first.error_code, MEMBER_ID_REQUIRED);
    join.member_id = first.member_id.clone();
    let joined = client.ask(&join, 5).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    let given = SyncGroupRequestAssignment::default().with_member_id(first.member_id.clone());
    let sync = SyncGroupRequest::default()
        .with_group_id(group(name))
        .with_generation_id(1)
        .with_member_id(first.member_id.clone())
        .with_assignments(vec![given]);
    assert_eq!(client.ask(&sync, 3).await.error_code, 0);
    first.member_id.to_string()
}

async fn heartbeat(node: &Node, name: &str, member: &str, generation: i32) -> i16 {
    until("a heartbeat is answered", async || {
        let mut client = Client::connect(node).await;
        let request = HeartbeatRequest::default()
            .with_group_id(group(name))
            .with_generation_id(generation)
            .with_member_id(StrBytes::from_string(member.to_owned()));
        let code = client.ask(&request, 3).await.error_code;
        (!is_passing(code)).then_some(code)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_offsets_survive_a_restart() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    Client::connect(&node).await.create_topic("t", 1).await;
    assert_eq!(coordinator(&node, "g").await, node.id());
    let member = settled(&node, "g").await;
    assert_eq!(commit(&node, "g", &member, 1, 41).await, 0);
    assert_eq!(commit(&node, "g", &member, 1, 42).await, 0);
    assert_eq!(commit(&node, "alone", "", -1, 7).await, 0);
    node.shutdown().await;

    let node = Node::start(config(dir.path())).await.unwrap();
    assert_eq!(committed(&node, "g").await, (42, "note".to_owned()));
    assert_eq!(committed(&node, "alone").await, (7, "note".to_owned()));
    assert_eq!(heartbeat(&node, "g", &member, 1).await, 0, "a member goes on");
    assert_eq!(commit(&node, "g", &member, 2, 43).await, ILLEGAL_GENERATION);
    assert_eq!(commit(&node, "g", &member, 1, 43).await, 0);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_commits_survive_their_coordinator() {
    let plan = Plan::new();
    let mut nodes = plan.start_all([1, 2, 3]).await;
    Client::connect(&nodes[0]).await.create_topic("t", 1).await;
    let first = coordinator(&nodes[0], "g").await;
    let at = nodes.iter().position(|node| node.id() == first).unwrap();
    let member = settled(&nodes[at], "g").await;
    assert_eq!(commit(&nodes[at], "g", &member, 1, 42).await, 0);
    nodes.remove(at).shutdown().await;

    let next = until("another coordinator", async || {
        Some(coordinator(&nodes[0], "g").await).filter(|next| *next != first)
    })
    .await;
    let node = nodes.iter().find(|node| node.id() == next).unwrap();
    assert_eq!(committed(node, "g").await, (42, "note".to_owned()));
    assert_eq!(heartbeat(node, "g", &member, 1).await, 0, "the member goes on");
    assert_eq!(commit(node, "g", &member, 1, 43).await, 0);
    stop_all(nodes).await;
}
