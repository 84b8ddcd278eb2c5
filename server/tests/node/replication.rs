//! Partitions with replicas on three nodes: what clients are told, what is still there when a node stops, and how
//! replicas move. All nodes run in this process; what a killed one leaves behind is tested with processes
//! (`tools/tests/cluster.rs`).

use std::time::Duration;

use jangbu_server::{Config, Node};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeLogDirsRequest, ElectLeadersRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, MetadataRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::forming::{PATIENCE, Plan, start, started, stop_all, tells};
use super::harness::{Client, NO_SEQUENCE, batch, records, topic_name};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const PREFERRED_LEADER_NOT_AVAILABLE: i16 = 80;
const ELECTION_NOT_NEEDED: i16 = 84;
const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
const LATEST: i64 = -1;

/// Asks again and again until the answer is one that was waited for.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("not in time: {what}"),
    }
}

/// Creates a topic with these replicas, or as many as by default, and answers its error code and number of replicas.
pub(crate) async fn create(node: &Node, topic: CreatableTopic) -> (i16, i16) {
    let mut client = Client::connect(node).await;
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let answer = client.ask(&request, 7).await;
    (answer.topics[0].error_code, answer.topics[0].replication_factor)
}

pub(crate) fn topic(name: &str, partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replication_factor)
}

/// The partitions of a topic as a node tells them.
pub(crate) async fn described(node: &Node, topic: &str) -> Vec<MetadataResponsePartition> {
    let mut client = Client::connect(node).await;
    let named = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![named]));
    client.ask(&request.with_allow_auto_topic_creation(false), 12).await.topics[0]
        .partitions
        .clone()
}

/// Who leads a partition, once a node knows of somebody among `brokers`.
pub(crate) async fn leader(node: &Node, topic: &str, partition: usize, brokers: &[i32]) -> i32 {
    until("a leader", async || {
        let partitions = described(node, topic).await;
        let told = partitions.get(partition).filter(|told| told.error_code == 0)?;
        Some(told.leader_id.0).filter(|leader| brokers.contains(leader))
    })
    .await
}

fn by_id(nodes: &[Node], id: i32) -> &Node {
    nodes.iter().find(|node| node.id() == id).unwrap()
}

/// Produces to whoever leads, until it is acknowledged; its offset.
pub(crate) async fn produce(nodes: &[Node], topic: &str, value: &str) -> i64 {
    let ids: Vec<i32> = nodes.iter().map(Node::id).collect();
    until("an acknowledgement", async || {
        let leader = leader(&nodes[0], topic, 0, &ids).await;
        let mut client = Client::connect(by_id(nodes, leader)).await;
        let answer = client.produce(topic, 0, batch(&[value], NO_SEQUENCE)).await;
        (answer.error_code == 0).then_some(answer.base_offset)
    })
    .await
}

/// The values of partition 0, read from whoever leads.
async fn values(nodes: &[Node], topic: &str) -> Vec<String> {
    let ids: Vec<i32> = nodes.iter().map(Node::id).collect();
    until("records", async || {
        let leader = leader(&nodes[0], topic, 0, &ids).await;
        let mut client = Client::connect(by_id(nodes, leader)).await;
        let answer = client.fetch(topic, 0, 1, Duration::from_millis(100)).await;
        let read = answer.responses[0].partitions[0].error_code == 0;
        read.then(|| records(&answer).into_iter().map(|(_, value)| value).collect())
    })
    .await
}

/// The partitions that have a log on a node.
async fn stored(node: &Node) -> usize {
    let mut client = Client::connect(node).await;
    let answer = client.ask(&DescribeLogDirsRequest::default().with_topics(None), 4).await;
    answer.results[0].topics.iter().map(|topic| topic.partitions.len()).sum()
}

pub(crate) async fn reassign(node: &Node, topic: &str, replicas: Option<&[i32]>) -> i16 {
    let replicas = replicas.map(|ids| ids.iter().copied().map(BrokerId).collect());
    let partition = ReassignablePartition::default().with_replicas(replicas);
    let topic =
        ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    let answer = Client::connect(node).await.ask(&request.with_timeout_ms(10_000), 1).await;
    assert_eq!(answer.error_code, 0);
    answer.responses[0].partitions[0].error_code
}

/// How many partitions are moving.
pub(crate) async fn moving(node: &Node) -> usize {
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let answer = Client::connect(node).await.ask(&request, 0).await;
    answer.topics.iter().map(|topic| topic.partitions.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_spread_and_every_node_tells_the_same() {
    let plan = Plan::new();
    let nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    assert_eq!(create(&nodes[1], topic("spread", 6, 3)).await, (0, 3));
    for partition in 0..6 {
        let led = leader(&nodes[0], "spread", partition, &[1, 2, 3]).await;
        for node in &nodes[1..] {
            assert_eq!(leader(node, "spread", partition, &[led]).await, led);
        }
    }
    let told = described(&nodes[2], "spread").await;
    for id in [1, 2, 3] {
        let preferred = told.iter().filter(|partition| partition.replica_nodes[0] == id).count();
        assert_eq!(preferred, 2, "node {id} is the first replica of a third");
    }
    assert!(told.iter().all(|partition| partition.isr_nodes.len() == 3));
    assert!(told.iter().all(|partition| partition.offline_replicas.is_empty()));
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_leader_takes_and_gives_records_and_others_name_it() {
    let plan = Plan::new();
    let nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    assert_eq!(create(&nodes[0], topic("led", 1, 3)).await, (0, 3));
    assert_eq!(produce(&nodes, "led", "one").await, 0);
    let led = leader(&nodes[0], "led", 0, &[1, 2, 3]).await;
    for node in nodes.iter().filter(|node| node.id() != led) {
        let mut client = Client::connect(node).await;
        let request = super::harness::produce_request("led", 0, batch(&["two"], NO_SEQUENCE));
        let answer = client.ask(&request, 10).await;
        let refused = &answer.responses[0].partition_responses[0];
        assert_eq!(refused.error_code, NOT_LEADER_OR_FOLLOWER);
        assert_eq!(refused.current_leader.leader_id, led);
        assert_eq!(
            answer.node_endpoints[0].port,
            i32::from(by_id(&nodes, led).kafka_addr().port())
        );
        let answer = client.fetch("led", 0, 1, Duration::ZERO).await;
        let refused = &answer.responses[0].partitions[0];
        assert_eq!(refused.error_code, NOT_LEADER_OR_FOLLOWER);
        assert_eq!(refused.current_leader.leader_id, led);
        let latest = ListOffsetsPartition::default().with_timestamp(LATEST);
        let latest =
            ListOffsetsTopic::default().with_name(topic_name("led")).with_partitions(vec![latest]);
        let request = ListOffsetsRequest::default().with_topics(vec![latest]);
        let answer = client.ask(&request, 7).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, NOT_LEADER_OR_FOLLOWER);
    }
    assert_eq!(values(&nodes, "led").await, ["one"]);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_outlive_each_node_that_stops_and_comes_back() {
    let plan = Plan::new();
    let mut nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    assert_eq!(create(&nodes[0], topic("kept", 1, 3)).await, (0, 3));
    let mut expected = Vec::new();
    for round in 0..3 {
        let led = leader(&nodes[0], "kept", 0, &[1, 2, 3]).await;
        expected.push(format!("before {round}"));
        produce(&nodes, "kept", &expected[expected.len() - 1]).await;
        let at = nodes.iter().position(|node| node.id() == led).unwrap();
        nodes.remove(at).shutdown().await;
        expected.push(format!("while {led} is away"));
        produce(&nodes, "kept", &expected[expected.len() - 1]).await;
        assert_eq!(values(&nodes, "kept").await, expected);
        until("the stopped node counts as offline", async || {
            let told = described(&nodes[0], "kept").await;
            (told[0].offline_replicas == [BrokerId(led)] && told[0].isr_nodes.len() == 2)
                .then_some(())
        })
        .await;
        nodes.push(started(plan.start(usize::try_from(led).unwrap())).await);
        tells(&nodes[0], &[1, 2, 3]).await;
    }
    assert_eq!(values(&nodes, "kept").await, expected);
    stop_all(nodes).await;

    let nodes = plan.start_all([3, 1, 2]).await;
    assert_eq!(values(&nodes, "kept").await, expected);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_majority_acknowledges_nothing_and_goes_on_with_one() {
    let plan = Plan::new();
    let mut nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    let wants_all = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("min.insync.replicas"))
        .with_value(Some(StrBytes::from_static_str("3")));
    let wanting = topic("all", 1, 3).with_configs(vec![wants_all]);
    assert_eq!(create(&nodes[0], wanting).await, (0, 3));
    assert_eq!(create(&nodes[0], topic("most", 1, 3)).await, (0, 3));
    produce(&nodes, "all", "one").await;
    produce(&nodes, "most", "one").await;
    nodes.pop().unwrap().shutdown().await;
    tells(&nodes[0], &[1, 2]).await;
    assert_eq!(produce(&nodes, "most", "two").await, 1);
    let refused = until("too few replicas", async || {
        let led = leader(&nodes[0], "all", 0, &[1, 2]).await;
        let mut client = Client::connect(by_id(&nodes, led)).await;
        let answer = client.produce("all", 0, batch(&["two"], NO_SEQUENCE)).await;
        Some(answer.error_code).filter(|code| *code != NOT_LEADER_OR_FOLLOWER)
    })
    .await;
    assert_eq!(refused, NOT_ENOUGH_REPLICAS);
    assert_eq!(create(&nodes[0], topic("four", 1, 4)).await.0, INVALID_REPLICATION_FACTOR);
    assert_eq!(create(&nodes[0], topic("default", 1, -1)).await, (0, 2), "as many as are alive");
    nodes.push(started(plan.start(3)).await);
    tells(&nodes[0], &[1, 2, 3]).await;
    assert_eq!(produce(&nodes, "all", "two").await, 1);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preferred_replica_leads_when_it_is_asked_for() {
    let plan = Plan::new();
    let mut nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    assert_eq!(create(&nodes[0], topic("preferred", 1, 3)).await, (0, 3));
    produce(&nodes, "preferred", "one").await;
    let first = described(&nodes[0], "preferred").await[0].replica_nodes[0].0;
    let at = nodes.iter().position(|node| node.id() == first).unwrap();
    nodes.remove(at).shutdown().await;
    produce(&nodes, "preferred", "two").await;
    nodes.push(started(plan.start(usize::try_from(first).unwrap())).await);
    tells(&nodes[0], &[1, 2, 3]).await;
    let named =
        TopicPartitions::default().with_topic(topic_name("preferred")).with_partitions(vec![0]);
    let request = ElectLeadersRequest::default()
        .with_topic_partitions(Some(vec![named]))
        .with_timeout_ms(5_000);
    until("the preferred replica leads", async || {
        // Of whatever node it is asked.
        let answer = Client::connect(&nodes[0]).await.ask(&request, 2).await;
        let code = answer.replica_election_results[0].partition_result[0].error_code;
        (code == 0 || code == ELECTION_NOT_NEEDED).then_some(())
    })
    .await;
    leader(&nodes[1], "preferred", 0, &[first]).await;
    assert_eq!(values(&nodes, "preferred").await, ["one", "two"]);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preferred_replica_that_steps_back_is_not_made_the_leader() {
    let plan = Plan::new();
    // The disk of the first has never room.
    let short = Config { disk_reserve_bytes: Some(1 << 60), ..plan.config(1) };
    let starting = [start(short), plan.start(2), plan.start(3)];
    let mut nodes = Vec::new();
    for starting in starting {
        nodes.push(started(starting).await);
    }
    tells(&nodes[1], &[1, 2, 3]).await;
    let assignment =
        CreatableReplicaAssignment::default().with_broker_ids([1, 2, 3].map(BrokerId).into());
    let placed = topic("short", -1, -1).with_assignments(vec![assignment]);
    assert_eq!(create(&nodes[1], placed).await, (0, 3));
    leader(&nodes[1], "short", 0, &[2, 3]).await;
    assert_eq!(produce(&nodes, "short", "one").await, 0);
    let named = TopicPartitions::default().with_topic(topic_name("short")).with_partitions(vec![0]);
    let request = ElectLeadersRequest::default()
        .with_topic_partitions(Some(vec![named]))
        .with_timeout_ms(5_000);
    let answer = Client::connect(&nodes[1]).await.ask(&request, 2).await;
    let code = answer.replica_election_results[0].partition_result[0].error_code;
    assert_eq!(code, PREFERRED_LEADER_NOT_AVAILABLE);
    leader(&nodes[1], "short", 0, &[2, 3]).await;
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_with_its_records_and_leaves_nothing_behind() {
    let plan = Plan::new();
    let nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    assert_eq!(create(&nodes[0], topic("moved", 1, 1)).await, (0, 1));
    produce(&nodes, "moved", "one").await;
    let mut from = described(&nodes[0], "moved").await[0].replica_nodes[0].0;
    assert_eq!(reassign(&nodes[0], "moved", None).await, NO_REASSIGNMENT_IN_PROGRESS);
    assert_eq!(reassign(&nodes[0], "moved", Some(&[1, 9])).await, INVALID_REPLICA_ASSIGNMENT);
    let mut expected = vec!["one".to_owned()];
    // Each of these takes another node's place; the last one comes back where it was before, as another replica.
    for round in 0..4 {
        let to = from % 3 + 1;
        assert_eq!(reassign(&nodes[0], "moved", Some(&[to])).await, 0);
        until("the move is done", async || (moving(&nodes[1]).await == 0).then_some(())).await;
        assert_eq!(leader(&nodes[2], "moved", 0, &[to]).await, to);
        until("the old log is gone", async || {
            (stored(by_id(&nodes, from)).await == 0).then_some(())
        })
        .await;
        assert_eq!(values(&nodes, "moved").await, expected);
        expected.push(format!("after move {round}"));
        produce(&nodes, "moved", &expected[expected.len() - 1]).await;
        from = to;
    }
    assert_eq!(reassign(&nodes[0], "moved", Some(&[1, 2, 3])).await, 0);
    until("it has three replicas", async || {
        let told = described(&nodes[0], "moved").await;
        (moving(&nodes[0]).await == 0 && told[0].isr_nodes.len() == 3).then_some(())
    })
    .await;
    assert_eq!(values(&nodes, "moved").await, expected);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_cannot_go_on_is_turned_back() {
    let plan = Plan::new();
    let mut nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    let on_the_first = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
    let placed = topic("stuck", -1, -1).with_assignments(vec![on_the_first]);
    assert_eq!(create(&nodes[0], placed).await, (0, 1));
    produce(&nodes, "stuck", "one").await;
    nodes.pop().unwrap().shutdown().await;
    tells(&nodes[0], &[1, 2]).await;
    assert_eq!(reassign(&nodes[1], "stuck", Some(&[1, 2, 3])).await, 0);
    until("the move has begun", async || (stored(&nodes[1]).await == 1).then_some(())).await;
    assert_eq!(moving(&nodes[0]).await, 1, "node 3 cannot catch up");
    assert_eq!(produce(&nodes, "stuck", "two").await, 1, "it goes on with the replica it had");
    assert_eq!(reassign(&nodes[1], "stuck", None).await, 0);
    until("it is turned back", async || {
        (moving(&nodes[0]).await == 0 && stored(&nodes[1]).await == 0).then_some(())
    })
    .await;
    assert_eq!(described(&nodes[0], "stuck").await[0].replica_nodes, [BrokerId(1)]);
    assert_eq!(values(&nodes, "stuck").await, ["one", "two"]);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_goes_from_every_node_also_from_one_that_was_away() {
    let plan = Plan::new();
    let mut nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    assert_eq!(create(&nodes[0], topic("gone", 2, 3)).await, (0, 3));
    produce(&nodes, "gone", "one").await;
    until("it is everywhere", async || (stored(&nodes[2]).await == 2).then_some(())).await;
    nodes.pop().unwrap().shutdown().await;
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name("gone")])
        .with_timeout_ms(10_000);
    let answer = Client::connect(&nodes[1]).await.ask(&request, 5).await;
    assert_eq!(answer.responses[0].error_code, 0);
    nodes.push(started(plan.start(3)).await);
    for node in &nodes {
        until("nothing is left", async || (stored(node).await == 0).then_some(())).await;
    }
    stop_all(nodes).await;
}
