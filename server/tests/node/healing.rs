//! A cluster that grows, drains and copies: who votes on its metadata, what a broker that drains gets, and how fast
//! replicas that are added are sent the log. What is rebuilt after a kill is tested with processes
//! (`tools/tests/healing.rs`).

use jangbu_server::{Config, Node};
use kafka_protocol::ResponseError;
use tempfile::{TempDir, tempdir};

use super::configs::{BROKER, SET, TOPIC, described as described_config, edit, set};
use super::forming::{Plan, start, started, stop_all, tells};
use super::harness::{Client, NO_SEQUENCE, batch, config, produce_request};
use super::metrics::samples;
use super::ports::free_addresses;
use super::replication::{create, described, moving, reassign, topic, until};

const VOTERS: &str = "jangbu_metadata_voters";
const SENT: &str = "jangbu_catch_up_bytes_total";
const HELD_BACK: &str = "jangbu_catch_up_held_back_seconds_total";

/// A cluster of one, and two that join it.
async fn grown() -> (Vec<Node>, Vec<TempDir>) {
    let [address] = free_addresses();
    let dirs: Vec<TempDir> = (0..3).map(|_| tempdir().unwrap()).collect();
    let small = |at: usize| Config { memory: Some(64 << 20), ..config(dirs[at].path()) };
    let first = Config { peer_listen: Some(address), ..small(0) };
    let mut nodes = vec![started(start(first)).await];
    for at in [1, 2] {
        let join = Some(address.to_string());
        let peer_listen = "127.0.0.1:0".parse().ok();
        nodes.push(started(start(Config { join, peer_listen, ..small(at) })).await);
    }
    tells(&nodes[0], &[1, 2, 3]).await;
    (nodes, dirs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_grew_from_one_node_to_three_goes_on_without_the_first() {
    let (mut nodes, _dirs) = grown().await;
    for node in &nodes {
        until("three vote", async || (samples(node).await[VOTERS] == 3.0).then_some(())).await;
    }
    nodes.remove(0).shutdown().await;
    tells(&nodes[0], &[2, 3]).await;
    assert_eq!(create(&nodes[1], topic("later", 2, 2)).await, (0, 2));
    assert_eq!(described(&nodes[0], "later").await.len(), 2);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_drains_as_its_config_says_whichever_node_is_told() {
    let plan = Plan::new();
    let nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    let mut client = Client::connect(&nodes[0]).await;
    set(&mut client, BROKER, "2", "jangbu.draining", "true").await;
    let mut second = Client::connect(&nodes[1]).await;
    until("the second node has heard of it", async || {
        let told = described_config(&mut second, BROKER, "2", "jangbu.draining").await;
        (told == "true/2").then_some(())
    })
    .await;
    assert_eq!(create(&nodes[2], topic("elsewhere", 6, 2)).await, (0, 2));
    for partition in described(&nodes[0], "elsewhere").await {
        assert!(partition.replica_nodes.iter().all(|id| id.0 != 2), "{partition:?}");
    }
    assert_eq!(create(&nodes[2], topic("default", 1, -1)).await, (0, 2), "not one on each");
    let refused = ResponseError::InvalidRequest.code();
    let drains = ("jangbu.draining", SET, "true");
    let other = ("log.retention.ms", SET, "5");
    assert_eq!(edit(&mut client, BROKER, "", &[drains]).await.0, refused, "not all of them");
    assert_eq!(edit(&mut client, BROKER, "9", &[drains]).await.0, refused, "there is no such");
    assert_eq!(edit(&mut client, BROKER, "2", &[drains, other]).await.0, refused);
    set(&mut client, BROKER, "2", "jangbu.draining", "false").await;
    assert_eq!(create(&nodes[2], topic("everywhere", 6, 3)).await, (0, 3));
    stop_all(nodes).await;
}

/// Fills the topic "large", of one replica; its leader.
async fn filled(nodes: &[Node]) -> (&Node, Client) {
    assert_eq!(create(&nodes[0], topic("large", 1, 1)).await, (0, 1));
    let from = described(&nodes[0], "large").await[0].replica_nodes[0].0;
    let leader = nodes.iter().find(|node| node.id() == from).unwrap();
    let value = "x".repeat(900_000);
    let mut client = Client::connect(leader).await;
    for _ in 0..6 {
        let answer =
            client.ask(&produce_request("large", 0, batch(&[&value], NO_SEQUENCE)), 9).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    (leader, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_added_is_sent_the_log_at_the_rate_that_is_set() {
    let plan = Plan::new();
    let nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    let (leader, mut client) = filled(&nodes).await;
    let from = leader.id();
    let rate = "leader.replication.throttled.rate";
    let own = from.to_string();
    assert_eq!(described_config(&mut client, BROKER, &own, rate).await, "67108864/4");
    set(&mut client, BROKER, &own, rate, "1").await;
    let to = from % 3 + 1;
    assert_eq!(reassign(leader, "large", Some(&[to])).await, 0);
    until("the first are sent", async || (samples(leader).await[SENT] > 0.0).then_some(())).await;
    assert_eq!(moving(leader).await, 1, "the rest takes months");
    // As `kafka-reassign-partitions --additional --throttle` raises it.
    set(&mut client, BROKER, &own, rate, "1000000000").await;
    until("it has moved", async || (moving(leader).await == 0).then_some(())).await;
    let samples = samples(leader).await;
    assert!(samples[SENT] >= 6.0 * 900_000.0, "{}", samples[SENT]);
    assert!(samples[HELD_BACK] > 0.0);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_gets_no_more_than_its_own_rate_and_lists_say_of_which_replicas() {
    let plan = Plan::new();
    let nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    let (leader, mut client) = filled(&nodes).await;
    let to = leader.id() % 3 + 1;
    let added = nodes.iter().find(|node| node.id() == to).unwrap();
    let mut there = Client::connect(added).await;
    let rate = "follower.replication.throttled.rate";
    set(&mut there, BROKER, &to.to_string(), rate, "1").await;
    set(&mut client, TOPIC, "large", "follower.replication.throttled.replicas", &format!("0:{to}"))
        .await;
    assert_eq!(reassign(leader, "large", Some(&[to])).await, 0);
    until("the first are sent", async || (samples(leader).await[SENT] > 0.0).then_some(())).await;
    assert_eq!(moving(leader).await, 1, "the rest takes months");
    assert!(samples(leader).await[SENT] < 3.0 * 900_000.0);
    // Another replica than this one is to be held back.
    set(&mut client, TOPIC, "large", "follower.replication.throttled.replicas", "0:9").await;
    until("it has moved", async || (moving(leader).await == 0).then_some(())).await;
    stop_all(nodes).await;
}
