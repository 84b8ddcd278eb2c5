//! Nodes form a cluster, come back to it and join it, whatever the order they are started in; and what keeps them from
//! it is said. All nodes run in this process and reach each other over loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use jangbu_server::{Config, Node};
use kafka_protocol::messages::MetadataRequest;
use tempfile::{TempDir, tempdir};
use tokio::task::JoinHandle;

use super::harness::{Client, config, http_get_at};
use super::ports::free_addresses;
use super::restart::ready;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What it takes to start the nodes of a list, again and again.
pub(crate) struct Plan {
    list: String,
    dirs: Vec<TempDir>,
    http: Vec<SocketAddr>,
}

impl Plan {
    /// Of three nodes.
    pub(crate) fn new() -> Self {
        let [a, b, c, x, y, z] = free_addresses();
        Self {
            list: format!("1@{a},2@{b},3@{c}"),
            dirs: [(); 3].map(|()| tempdir().unwrap()).into(),
            http: vec![x, y, z],
        }
    }

    pub(crate) fn dir(&self, node: usize) -> &Path {
        self.dirs[node - 1].path()
    }

    pub(crate) fn config(&self, node: usize) -> Config {
        Config {
            node: i32::try_from(node).ok(),
            cluster: Some(self.list.clone()),
            http: self.http[node - 1],
            memory: Some(64 << 20),
            ..config(self.dirs[node - 1].path())
        }
    }

    pub(crate) fn start(&self, node: usize) -> Start {
        start(self.config(node))
    }

    /// Starts all nodes and waits until they serve.
    pub(crate) async fn start_all(&self, order: [usize; 3]) -> Vec<Node> {
        let mut nodes = Vec::new();
        for starting in order.map(|node| self.start(node)) {
            nodes.push(started(starting).await);
        }
        nodes.sort_by_key(Node::id);
        nodes
    }

    /// Waits until a node that is starting says this about what it waits for.
    async fn waits_for(&self, node: usize, what: &str) {
        let mut said = String::new();
        let asking = async {
            while !said.contains(what) {
                if let Some((_, body)) = http_get_at(self.http[node - 1], "/readyz").await {
                    said = body;
                }
                tokio::task::yield_now().await;
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asking).await;
        assert!(asked.is_ok(), "node {node} says {said:?} instead of {what:?}");
    }
}

pub(crate) type Start = JoinHandle<Result<Node, jangbu_server::Error>>;

pub(crate) fn start(config: Config) -> Start {
    tokio::spawn(Node::start(config))
}

pub(crate) async fn started(starting: Start) -> Node {
    let started = tokio::time::timeout(PATIENCE, starting).await.expect("a start in time");
    started.unwrap().unwrap()
}

pub(crate) async fn stop_all(nodes: Vec<Node>) {
    let stopping = nodes.into_iter().map(|node| tokio::spawn(node.shutdown()));
    for stopped in stopping.collect::<Vec<_>>() {
        stopped.await.unwrap();
    }
}

/// The cluster id and the brokers that a node tells.
async fn told(node: &Node) -> (String, Vec<i32>) {
    let mut client = Client::connect(node).await;
    let answer = client.ask(&MetadataRequest::default().with_topics(Some(Vec::new())), 12).await;
    let mut brokers: Vec<i32> = answer.brokers.iter().map(|broker| broker.node_id.0).collect();
    brokers.sort_unstable();
    (answer.cluster_id.unwrap().to_string(), brokers)
}

/// Waits until a node tells these brokers, and returns the cluster's id.
pub(crate) async fn tells(node: &Node, brokers: &[i32]) -> String {
    let asking = async {
        loop {
            let (cluster_id, told) = told(node).await;
            if told == brokers {
                return cluster_id;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the brokers are told in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_form_one_cluster_in_any_order_and_find_each_other_again() {
    let plan = Plan::new();
    let nodes = plan.start_all([3, 2, 1]).await;
    let cluster_id = tells(&nodes[0], &[1, 2, 3]).await;
    for node in &nodes {
        assert_eq!(tells(node, &[1, 2, 3]).await, cluster_id);
    }
    stop_all(nodes).await;

    let nodes = plan.start_all([2, 1, 3]).await;
    for node in &nodes {
        assert_eq!(tells(node, &[1, 2, 3]).await, cluster_id);
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_whom_it_waits_for_and_two_of_three_serve_later() {
    let plan = Plan::new();
    let (first, second) = (plan.start(1), plan.start(2));
    plan.waits_for(1, "waiting for node 3 (127.0.0.1:").await;
    plan.waits_for(2, "waiting for node 3 (127.0.0.1:").await;
    let third = started(plan.start(3)).await;
    let nodes = vec![started(first).await, started(second).await, third];
    tells(&nodes[0], &[1, 2, 3]).await;
    stop_all(nodes).await;

    let first = plan.start(1);
    plan.waits_for(1, "waiting for nodes 2 (").await;
    let second = started(plan.start(2)).await;
    let first = started(first).await;
    tells(&first, &[1, 2]).await;
    ready(&second).await;
    stop_all(vec![first, second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_taken_by_every_node() {
    let plan = Plan::new();
    let nodes = plan.start_all([1, 2, 3]).await;
    for (node, topic) in nodes.iter().zip(["a", "b", "c"]) {
        let mut client = Client::connect(node).await;
        client.create_topic(topic, 1).await;
        let answer = client.ask(&MetadataRequest::default().with_topics(None), 12).await;
        let names: Vec<_> = answer.topics.iter().filter_map(|t| t.name.as_ref()).collect();
        assert!(names.iter().any(|name| name.as_str() == topic), "it reads what it wrote");
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_node_joins_gets_an_id_and_keeps_it() {
    let plan = Plan::new();
    let nodes = plan.start_all([1, 2, 3]).await;
    let cluster_id = tells(&nodes[0], &[1, 2, 3]).await;
    let dir = tempdir().unwrap();
    let address = plan.list.rsplit_once('@').unwrap().1;
    let joins = |dir: &Path| Config {
        join: Some(address.to_owned()),
        peer_listen: "127.0.0.1:0".parse().ok(),
        memory: Some(64 << 20),
        ..config(dir)
    };
    let fourth = started(start(joins(dir.path()))).await;
    assert_eq!(fourth.id(), 4);
    for node in nodes.iter().chain([&fourth]) {
        assert_eq!(tells(node, &[1, 2, 3, 4]).await, cluster_id);
    }
    fourth.shutdown().await;

    let again = Config { join: None, ..joins(dir.path()) };
    let fourth = started(start(again)).await;
    assert_eq!(fourth.id(), 4, "its directory says who it is");
    assert_eq!(tells(&fourth, &[1, 2, 3, 4]).await, cluster_id);
    fourth.shutdown().await;
    let alone = Node::start(config(dir.path())).await.unwrap_err().to_string();
    assert!(alone.contains("belongs to node 4 of a cluster"), "{alone}");
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_data_is_not_let_in_under_its_id() {
    let mut plan = Plan::new();
    let mut nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    nodes.pop().unwrap().shutdown().await;
    plan.dirs[2] = tempdir().unwrap();
    let wiped = plan.start(3);
    plan.waits_for(3, "another data directory").await;
    assert!(!wiped.is_finished());
    wiped.abort();
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn different_lists_form_no_cluster_and_both_sides_say_so() {
    let plan = Plan::new();
    let first = plan.start(1);
    let short: Vec<_> = plan.list.split(',').take(2).collect();
    let [other] = free_addresses();
    let list = format!("{},4@{other}", short.join(","));
    let second = start(Config { cluster: Some(list), ..plan.config(2) });
    plan.waits_for(1, "with another --cluster").await;
    plan.waits_for(2, "with another --cluster").await;
    assert!(!first.is_finished() && !second.is_finished());
    first.abort();
    second.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_one_takes_nodes_in_and_becomes_part_of_no_other() {
    let [address] = free_addresses();
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let listens = || Config { peer_listen: Some(address), ..config(first.path()) };
    let alone = started(start(listens())).await;
    let join = Some(address.to_string());
    let peer_listen = "127.0.0.1:0".parse().ok();
    let joins = Config { join, peer_listen, ..config(second.path()) };
    let joined = started(start(joins.clone())).await;
    assert_eq!((alone.id(), joined.id()), (1, 2));
    tells(&alone, &[1, 2]).await;
    stop_all(vec![joined, alone]).await;

    let dir = tempdir().unwrap();
    started(start(config(dir.path()))).await.shutdown().await;
    let refused = Node::start(Config { data: dir.path().to_owned(), ..joins }).await.unwrap_err();
    assert!(refused.to_string().contains("holds a cluster of one"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_stopped_while_it_waits() {
    let plan = Plan::new();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let starting = Node::start_until(plan.config(1), async { drop(stopped.await) });
    let starting = tokio::spawn(starting);
    plan.waits_for(1, "waiting for nodes 2 (").await;
    stop.send(()).unwrap();
    assert!(starting.await.unwrap().unwrap().is_none());
    let nodes = plan.start_all([1, 2, 3]).await;
    stop_all(nodes).await;
}
