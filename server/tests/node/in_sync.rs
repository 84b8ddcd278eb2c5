//! Which replicas are in sync, as clients are told: a replica that is alive and gets no entries of its leader is not.
//!
//! The third node is reached through a gate, which holds back what one node sends over its connection for entries, like a
//! network that lets pings pass and bulk data not. Everybody takes it for alive.

use std::collections::BTreeMap;
use std::sync::Arc;

use jangbu_server::{Config, Node};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::{BrokerId, DescribeLogDirsRequest, DescribeTopicPartitionsRequest};
use kafka_protocol::protocol::StrBytes;
use prost::Message;
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::forming::{start, started, stop_all, tells};
use super::harness::{Client, NO_SEQUENCE, batch, config, topic_name};
use super::metrics::samples;
use super::ports::free_addresses;
use super::replication::{create, described, leader, produce, topic, until};

const NOT_ENOUGH_REPLICAS: i16 = 19;
const UNDER_REPLICATED: &str = "jangbu_partitions_under_replicated";

/// What is looked at in the first message of a connection.
#[derive(Clone, PartialEq, Message)]
struct Hello {
    #[prost(int32, tag = "3")]
    node: i32,
    /// 0 is the one for entries.
    #[prost(uint32, tag = "7")]
    lane: u32,
}

/// Whose entries are held back.
type Held = watch::Sender<Option<i32>>;

/// Passes everything on between who connects and the node that listens at `to`, but for what is held.
async fn gate(listener: TcpListener, to: std::net::SocketAddr, held: Arc<Held>) {
    loop {
        let (from, _) = listener.accept().await.unwrap();
        tokio::spawn(pass(from, to, held.subscribe()));
    }
}

/// `None` once the connection has ended.
async fn pass(
    mut from: TcpStream,
    to: std::net::SocketAddr,
    mut held: watch::Receiver<Option<i32>>,
) -> Option<()> {
    // The length of what follows it, a checksum, the length of the message.
    let length = from.read_u32().await.ok()?;
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut frame).await.ok()?;
    let hello = Hello::decode(&frame[8..]).unwrap();
    let mut to = TcpStream::connect(to).await.ok()?;
    to.write_u32(length).await.ok()?;
    to.write_all(&frame).await.ok()?;
    let ((mut asks, mut is_answered), (mut answers, mut is_asked)) = (from.split(), to.split());
    let asking = async {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let read = asks.read(&mut bytes).await.ok().filter(|read| *read > 0)?;
            let free = |held: &Option<i32>| hello.lane != 0 || *held != Some(hello.node);
            held.wait_for(free).await.ok()?;
            is_asked.write_all(&bytes[..read]).await.ok()?;
        }
    };
    tokio::select! {
        ended = asking => ended,
        _ = tokio::io::copy(&mut answers, &mut is_answered) => None,
    }
}

/// Replicas on all three, the first of which leads.
fn on_all(name: &str, min_in_sync: &'static str) -> CreatableTopic {
    let assignment =
        CreatableReplicaAssignment::default().with_broker_ids([1, 2, 3].map(BrokerId).into());
    let wanted = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("min.insync.replicas"))
        .with_value(Some(StrBytes::from_static_str(min_in_sync)));
    topic(name, -1, -1).with_assignments(vec![assignment]).with_configs(vec![wanted])
}

/// What a node holds of each topic.
async fn stored_bytes(node: &Node) -> BTreeMap<String, i64> {
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let topics = Client::connect(node).await.ask(&request, 4).await.results.remove(0).topics;
    let sized =
        topics.iter().map(|topic| (topic.name.to_string(), topic.partitions[0].partition_size));
    sized.collect()
}

/// Waits until a node tells these replicas to be in sync, to all who ask.
async fn tells_in_sync(node: &Node, name: &str, ids: &[i32]) {
    let ids: Vec<BrokerId> = ids.iter().copied().map(BrokerId).collect();
    until("who is in sync", async || {
        let told = described(node, name).await.remove(0);
        assert_eq!((told.replica_nodes.len(), told.offline_replicas.len()), (3, 0));
        let asked = TopicRequest::default().with_name(topic_name(name));
        let request = DescribeTopicPartitionsRequest::default().with_topics(vec![asked]);
        // As `kafka-topics.sh --describe` asks.
        let answer = Client::connect(node)
            .await
            .ask(&request.with_response_partition_limit(10), 0)
            .await
            .topics
            .remove(0);
        assert_eq!(answer.partitions[0].offline_replicas.len(), 0);
        (told.isr_nodes == ids && answer.partitions[0].isr_nodes == ids).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_replica_that_gets_nothing_is_out_of_sync_until_it_has_caught_up() {
    let [a, b, behind] = free_addresses();
    let gates = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let list = format!("1@{a},2@{b},3@{}", gates.local_addr().unwrap());
    let held = Arc::new(Held::new(None));
    let gate = tokio::spawn(gate(gates, behind, Arc::clone(&held)));
    let dirs = [(); 3].map(|()| tempdir().unwrap());
    let starting = [1, 2, 3].map(|id| {
        start(Config {
            node: i32::try_from(id).ok(),
            cluster: Some(list.clone()),
            peer_listen: (id == 3).then_some(behind),
            memory: Some(64 << 20),
            replica_lag_max_ms: 1000,
            ..config(dirs[id - 1].path())
        })
    });
    let mut nodes = Vec::new();
    for starting in starting {
        nodes.push(started(starting).await);
    }
    tells(&nodes[0], &[1, 2, 3]).await;
    for (name, min_in_sync) in [("most", "2"), ("all", "3")] {
        assert_eq!(create(&nodes[0], on_all(name, min_in_sync)).await, (0, 3));
        leader(&nodes[0], name, 0, &[1]).await;
        produce(&nodes, name, "one").await;
    }
    for node in &nodes {
        tells_in_sync(node, "most", &[1, 2, 3]).await;
    }

    until("all is everywhere", async || {
        (stored_bytes(&nodes[2]).await == stored_bytes(&nodes[0]).await).then_some(())
    })
    .await;

    held.send_replace(Some(1));
    assert_eq!(produce(&nodes, "most", "two").await, 1);
    // The third node does not hear of it: the metadata are entries too.
    for node in &nodes[..2] {
        tells_in_sync(node, "most", &[1, 2]).await;
        tells_in_sync(node, "all", &[1, 2, 3]).await;
    }
    assert_eq!(samples(&nodes[0]).await[UNDER_REPLICATED], 1.0);
    assert_eq!(produce(&nodes, "most", "three").await, 2, "two are in sync");
    let mut client = Client::connect(&nodes[0]).await;
    let refused = until("too few are in sync", async || {
        let answer = client.produce("all", 0, batch(&["two"], NO_SEQUENCE)).await;
        Some(answer.error_code).filter(|code| *code != 0)
    })
    .await;
    assert_eq!(refused, NOT_ENOUGH_REPLICAS);
    tells_in_sync(&nodes[1], "all", &[1, 2]).await;

    held.send_replace(None);
    for name in ["most", "all"] {
        for node in &nodes {
            tells_in_sync(node, name, &[1, 2, 3]).await;
        }
    }
    assert_eq!(samples(&nodes[0]).await[UNDER_REPLICATED], 0.0);
    produce(&nodes, "all", "three").await;
    stop_all(nodes).await;
    gate.abort();
}
