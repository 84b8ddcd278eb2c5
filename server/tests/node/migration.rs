//! A group changes its protocol with a member in it, over the wire, and is what it has become after each restart.

use bytes::Bytes;
use jangbu_server::Node;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    ListGroupsRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use tempfile::tempdir;

use super::consumer_groups::{beats, coordinator, count, group, heard, joins};
use super::harness::{Client, config, start};
use super::replication::until;

const LOADING: i16 = 14;
const NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const REBALANCE_IN_PROGRESS: i16 = 27;
/// It reads topic `t`, and has nothing.
const SUBSCRIPTION: &[u8] = b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0";
/// Partitions 0 and 1 of topic `t`, in version 1.
const BOTH: &[u8] = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x01\xff\xff\xff\xff";

fn is_passing(code: i16) -> bool {
    matches!(code, LOADING | NOT_AVAILABLE | NOT_COORDINATOR)
}

async fn join(node: &Node, member: &StrBytes) -> JoinGroupResponse {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(Bytes::from_static(SUBSCRIPTION));
    let request = JoinGroupRequest::default()
        .with_group_id(group("g"))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_member_id(member.clone())
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol]);
    until("a join is answered", async || {
        let answer = Client::connect(node).await.ask(&request, 5).await;
        (!is_passing(answer.error_code)).then_some(answer)
    })
    .await
}

/// The assignment.
async fn sync(node: &Node, member: &StrBytes, generation: i32, given: &'static [u8]) -> Bytes {
    let given = SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment(Bytes::from_static(given));
    let request = SyncGroupRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(generation)
        .with_member_id(member.clone())
        .with_assignments(vec![given]);
    let answer = Client::connect(node).await.ask(&request, 3).await;
    assert_eq!(answer.error_code, 0);
    answer.assignment
}

/// Hears that it has to join again, and does; its generation.
async fn join_again(node: &Node, member: &StrBytes, generation: i32) -> i32 {
    let request = HeartbeatRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(generation)
        .with_member_id(member.clone());
    until("it is told to join again", async || {
        let code = Client::connect(node).await.ask(&request, 3).await.error_code;
        assert!(code == 0 || is_passing(code) || code == REBALANCE_IN_PROGRESS, "{code}");
        (code == REBALANCE_IN_PROGRESS).then_some(())
    })
    .await;
    let joined = join(node, member).await;
    assert_eq!((joined.error_code, &joined.member_id), (0, member));
    joined.generation_id
}

async fn kind(node: &Node) -> String {
    until("the group is listed", async || {
        let listed = Client::connect(node).await.ask(&ListGroupsRequest::default(), 5).await;
        listed.groups.first().map(|group| group.group_type.to_string())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_upgraded_and_downgraded_around_its_classic_member() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    Client::connect(&node).await.create_topic("t", 2).await;
    coordinator(&node, "g").await;
    let member = join(&node, &StrBytes::default()).await.member_id;
    let first = join(&node, &member).await.generation_id;
    assert_eq!(sync(&node, &member, first, BOTH).await, BOTH);

    let new = heard(&node, &joins("g", "new")).await;
    assert_eq!((new.error_code, new.member_epoch, count(&new)), (0, first + 1, Some(0)));
    assert_eq!(kind(&node).await, "consumer");
    node.shutdown().await;
    let node = Node::start(config(dir.path())).await.unwrap();
    coordinator(&node, "g").await;
    let second = join_again(&node, &member, first).await;
    assert_eq!(second, first + 1, "its epoch is its generation");
    let has = sync(&node, &member, second, b"").await;
    assert_eq!(has.len(), BOTH.len() - 4, "one partition");
    let new = heard(&node, &beats("g", "new", second)).await;
    assert_eq!(count(&new), Some(1), "the other one");

    assert_eq!(heard(&node, &beats("g", "new", -1)).await.error_code, 0);
    assert_eq!(kind(&node).await, "classic");
    node.shutdown().await;
    let node = Node::start(config(dir.path())).await.unwrap();
    coordinator(&node, "g").await;
    let third = join_again(&node, &member, second).await;
    assert_eq!(third, second + 1);
    assert_eq!(sync(&node, &member, third, BOTH).await, BOTH);
    let request = DescribeGroupsRequest::default().with_groups(vec![group("g")]);
    let described = Client::connect(&node).await.ask(&request, 5).await.groups.remove(0);
    assert_eq!((&*described.group_state, described.members.len()), ("Stable", 1));
    node.shutdown().await;
}
