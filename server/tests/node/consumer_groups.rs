//! Groups of the consumer protocol over the wire: members go on after a restart and with the next coordinator; what is refused.

use jangbu_server::Node;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DescribeConfigsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, GroupId, IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
    ListGroupsRequest, MetadataRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;
use tempfile::tempdir;

use super::forming::{Plan, stop_all};
use super::harness::{Client, config, start, topic_name};
use super::replication::until;

const LOADING: i16 = 14;
const NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const UNKNOWN_MEMBER: i16 = 25;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const GROUP_ID_NOT_FOUND: i16 = 69;
const FENCED_MEMBER_EPOCH: i16 = 110;
const UNSUPPORTED_ASSIGNOR: i16 = 112;
const STALE_MEMBER_EPOCH: i16 = 113;
const INVALID_REGEX: i16 = 128;
const GROUP_RESOURCE: i8 = 32;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// Somebody joins and reads topic `t`.
pub(crate) fn joins(name: &str, member: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member))
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(vec![topic_name("t")]))
        .with_topic_partitions(Some(Vec::new()))
}

pub(crate) fn beats(name: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(None)
}

/// The answer to a heartbeat, once the node coordinates.
pub(crate) async fn heard(
    node: &Node,
    ask: &ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    until("a heartbeat is answered", async || {
        let mut client = Client::connect(node).await;
        let answer = client.ask(ask, 1).await;
        let is_passing = matches!(answer.error_code, LOADING | NOT_AVAILABLE | NOT_COORDINATOR);
        (!is_passing).then_some(answer)
    })
    .await
}

/// The partitions in an answer.
pub(crate) fn count(answer: &ConsumerGroupHeartbeatResponse) -> Option<usize> {
    let assignment = answer.assignment.as_ref()?;
    Some(assignment.topic_partitions.iter().map(|topic| topic.partitions.len()).sum())
}

/// What it has, as it says it.
fn owned(answer: &ConsumerGroupHeartbeatResponse) -> Vec<TopicPartitions> {
    let topics = &answer.assignment.as_ref().unwrap().topic_partitions;
    let owned = topics.iter().map(|topic| {
        TopicPartitions::default()
            .with_topic_id(topic.topic_id)
            .with_partitions(topic.partitions.clone())
    });
    owned.collect()
}

pub(crate) async fn coordinator(node: &Node, name: &str) -> i32 {
    until("a coordinator", async || {
        let mut client = Client::connect(node).await;
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(name)]);
        let found = client.ask(&request, 4).await.coordinators.remove(0);
        (found.error_code == 0).then_some(found.node_id.0)
    })
    .await
}

/// Two members that share four partitions.
async fn two_members(node: &Node) {
    let first = heard(node, &joins("g", "a")).await;
    assert_eq!((first.error_code, first.member_epoch, count(&first)), (0, 1, Some(4)));
    let second = heard(node, &joins("g", "b")).await;
    assert_eq!((second.error_code, second.member_epoch, count(&second)), (0, 2, Some(0)));
    let asked = heard(node, &beats("g", "a", 1)).await;
    assert_eq!((asked.member_epoch, count(&asked)), (1, Some(2)));
    let given_up = beats("g", "a", 1).with_topic_partitions(Some(owned(&asked)));
    assert_eq!(heard(node, &given_up).await.member_epoch, 2);
    assert_eq!(count(&heard(node, &beats("g", "b", 2)).await), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_their_partitions_survive_a_restart() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    Client::connect(&node).await.create_topic("t", 4).await;
    assert_eq!(coordinator(&node, "g").await, node.id());
    two_members(&node).await;
    node.shutdown().await;

    let node = Node::start(config(dir.path())).await.unwrap();
    let again = heard(&node, &beats("g", "a", 2)).await;
    assert_eq!((again.error_code, again.member_epoch, count(&again)), (0, 2, None));
    assert_eq!(heard(&node, &beats("g", "b", 1)).await.error_code, FENCED_MEMBER_EPOCH);
    assert_eq!(heard(&node, &beats("g", "c", 2)).await.error_code, UNKNOWN_MEMBER);
    let left = heard(&node, &beats("g", "b", -1)).await;
    assert_eq!((left.error_code, left.member_epoch), (0, -1));
    let alone = heard(&node, &beats("g", "a", 2)).await;
    assert_eq!((alone.member_epoch, count(&alone)), (3, Some(4)));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_their_partitions_survive_their_coordinator() {
    let plan = Plan::new();
    let mut nodes = plan.start_all([1, 2, 3]).await;
    Client::connect(&nodes[0]).await.create_topic("t", 4).await;
    let first = coordinator(&nodes[0], "g").await;
    let at = nodes.iter().position(|node| node.id() == first).unwrap();
    two_members(&nodes[at]).await;
    nodes.remove(at).shutdown().await;

    let next = until("another coordinator", async || {
        Some(coordinator(&nodes[0], "g").await).filter(|next| *next != first)
    })
    .await;
    let node = nodes.iter().find(|node| node.id() == next).unwrap();
    for member in ["a", "b"] {
        let again = heard(node, &beats("g", member, 2)).await;
        assert_eq!((again.error_code, again.member_epoch, count(&again)), (0, 2, None));
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_described_and_listed_by_their_type() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 4).await;
    coordinator(&node, "g").await;
    two_members(&node).await;
    let request =
        ConsumerGroupDescribeRequest::default().with_group_ids(vec![group("g"), group("none")]);
    let described = client.ask(&request, 1).await.groups;
    assert_eq!((described[0].error_code, described[1].error_code), (0, GROUP_ID_NOT_FOUND));
    assert_eq!((described[0].group_epoch, described[0].assignment_epoch), (2, 2));
    assert_eq!((&*described[0].group_state, &*described[0].assignor_name), ("Stable", "uniform"));
    for member in &described[0].members {
        assert_eq!(member.assignment, member.target_assignment);
        assert_eq!(member.assignment.topic_partitions[0].partitions.len(), 2);
        assert_eq!((member.member_epoch, member.member_type), (2, 1));
    }
    let request = DescribeGroupsRequest::default().with_groups(vec![group("g")]);
    assert_eq!(client.ask(&request, 6).await.groups[0].error_code, GROUP_ID_NOT_FOUND);
    for (kind, expected) in [("consumer", 1), ("classic", 0)] {
        let request = ListGroupsRequest::default().with_types_filter(vec![text(kind)]);
        assert_eq!(client.ask(&request, 5).await.groups.len(), expected, "{kind}");
    }
    for (epoch, expected) in [(2, 0), (1, STALE_MEMBER_EPOCH)] {
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group("g"))
            .with_member_id(Some(text("a")))
            .with_member_epoch(epoch)
            .with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        assert_eq!(client.ask(&request, 9).await.groups[0].error_code, expected);
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_refuses_is_refused() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    Client::connect(&node).await.create_topic("t", 1).await;
    coordinator(&node, "g").await;
    let join = || joins("g", "a");
    for (ask, code) in [
        (join().with_group_id(group("")), INVALID_REQUEST),
        (join().with_member_id(text("")), INVALID_REQUEST),
        (join().with_member_id(text(&"m".repeat(40_000))), INVALID_REQUEST),
        (join().with_rebalance_timeout_ms(-1), INVALID_REQUEST),
        (join().with_topic_partitions(None), INVALID_REQUEST),
        (join().with_subscribed_topic_names(None), INVALID_REQUEST),
        (join().with_instance_id(Some(text(""))), INVALID_REQUEST),
        (beats("g", "a", -2), INVALID_REQUEST),
        (beats("g", "a", -3), INVALID_REQUEST),
        (beats("g", "a", 1), GROUP_ID_NOT_FOUND),
        (beats("g", "a", -1), GROUP_ID_NOT_FOUND),
        (join().with_server_assignor(Some(text("odd"))), UNSUPPORTED_ASSIGNOR),
        (join().with_subscribed_topic_regex(Some(text("(a"))), INVALID_REGEX),
        (join().with_subscribed_topic_regex(Some(text("((a{999}){999}){999}"))), INVALID_REGEX),
    ] {
        let answer = heard(&node, &ask).await;
        assert_eq!(answer.error_code, code, "{:?}", answer.error_message);
        assert!(answer.error_message.is_some());
    }
    let listed = Client::connect(&node).await.ask(&ListGroupsRequest::default(), 5).await;
    assert_eq!(listed.groups.len(), 0, "nothing is left of what was refused");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_has_configs_of_its_own() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    coordinator(&node, "g").await;
    // A fifth of what is set, while things change.
    assert_eq!(heard(&node, &joins("g", "a")).await.heartbeat_interval_ms, 1_000);
    for (name, value, code) in [
        ("consumer.heartbeat.interval.ms", "7000", 0),
        ("consumer.heartbeat.interval.ms", "4999", INVALID_CONFIG),
        ("consumer.session.timeout.ms", "60001", INVALID_CONFIG),
        ("retention.ms", "5", INVALID_CONFIG),
    ] {
        let wish = AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(GROUP_RESOURCE)
            .with_resource_name(text("g"))
            .with_configs(vec![wish]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = client.ask(&request, 1).await.responses.remove(0);
        assert_eq!(answer.error_code, code, "{name}={value}: {:?}", answer.error_message);
    }
    let told = heard(&node, &joins("g", "b")).await.heartbeat_interval_ms;
    assert_eq!(told, 1_400);
    let listed = ListConfigResourcesRequest::default().with_resource_types(vec![GROUP_RESOURCE]);
    let listed = client.ask(&listed, 1).await.config_resources;
    assert_eq!(listed.iter().map(|group| &*group.resource_name).collect::<Vec<_>>(), ["g"]);
    node.shutdown().await;
    let node = Node::start(config(dir.path())).await.unwrap();
    let mut client = Client::connect(&node).await;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(GROUP_RESOURCE)
        .with_resource_name(text("g"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let told = client.ask(&request, 4).await.results.remove(0);
    let told: Vec<_> = told
        .configs
        .iter()
        .map(|row| (row.name.to_string(), row.value.as_deref().unwrap_or_default().to_owned()))
        .collect();
    let expected =
        [("consumer.heartbeat.interval.ms", "7000"), ("consumer.session.timeout.ms", "45000")];
    assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_found_by_its_id_whatever_name_is_said() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let named = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let request = MetadataRequest::default().with_topics(Some(vec![named]));
    let id = client.ask(&request, 12).await.topics[0].topic_id;
    // As Java's consumer asks for what a regular expression has brought it.
    for name in [None, Some(topic_name(""))] {
        let by_id = MetadataRequestTopic::default().with_name(name).with_topic_id(id);
        let request = MetadataRequest::default().with_topics(Some(vec![by_id]));
        let found = client.ask(&request, 12).await.topics.remove(0);
        assert_eq!((found.error_code, found.name), (0, Some(topic_name("t"))));
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_is_a_finalized_feature() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("test"))
        .with_client_software_version(text("1"));
    for (version, least) in [(3, 1), (4, 0)] {
        let answer = client.ask(&request, version).await;
        let supported = &answer.supported_features[0];
        assert_eq!(&*supported.name, "group.version");
        assert_eq!((supported.min_version, supported.max_version), (least, 1));
        assert_eq!(answer.finalized_features[0].max_version_level, 1);
        assert_eq!(answer.finalized_features_epoch, 0);
    }
    node.shutdown().await;
}
