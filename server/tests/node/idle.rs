//! A partition that nobody writes to goes to sleep, and nobody who reads or writes can tell.

use std::time::Duration;

use jangbu_server::{Config, Node};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{InitProducerIdRequest, ListOffsetsRequest, MetadataRequest};
use tempfile::tempdir;

use super::harness::{Client, NO_SEQUENCE, Sequence, batch, config, records, topic_name};
use super::metrics::samples;

/// A node whose partitions sleep soon.
async fn sleepy(data: &std::path::Path) -> Node {
    Node::start(Config { idle_ms: 20, ..config(data) }).await.unwrap()
}

/// Waits until every partition sleeps.
async fn asleep(node: &Node) {
    let waiting = async {
        loop {
            let now = samples(node).await;
            let [asleep, awake] = ["asleep", "awake"]
                .map(|state| now[&format!("jangbu_groups{{state=\"{state}\"}}")]);
            if asleep > 0.0 && awake == 0.0 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("asleep in the end");
}

/// The latest offset and the leader epoch of partition 0.
async fn end(client: &mut Client) -> (i64, i32) {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    let response = client.ask(&request, 7).await;
    let answer = &response.topics[0].partitions[0];
    assert_eq!(answer.error_code, 0);
    (answer.offset, answer.leader_epoch)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_partition_answers_and_a_write_wakes_it_in_the_same_epoch() {
    let dir = tempdir().unwrap();
    let node = sleepy(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 3).await;
    client.produce("t", 0, batch(&["a", "b"], NO_SEQUENCE)).await;
    let (offset, epoch) = end(&mut client).await;
    for round in 0..5 {
        asleep(&node).await;
        assert_eq!(end(&mut client).await, (offset + round, epoch), "the end, asleep");
        let described = client.ask(&MetadataRequest::default().with_topics(None), 12).await;
        for partition in &described.topics[0].partitions {
            assert_eq!((partition.error_code, partition.leader_id.0), (0, 1));
        }
        let fetched = records(&client.fetch("t", 0, 1, Duration::ZERO).await);
        assert_eq!(fetched.len(), usize::try_from(offset + round).unwrap(), "a fetch, asleep");
        asleep(&node).await;
        let answer = client.produce("t", 0, batch(&["c"], NO_SEQUENCE)).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, offset + round), "a write");
        assert_eq!(end(&mut client).await, (offset + round + 1, epoch), "the same epoch");
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_on_a_sleeping_partition_ends_with_the_write_that_wakes_it() {
    let dir = tempdir().unwrap();
    let node = sleepy(dir.path()).await;
    let mut producer = Client::connect(&node).await;
    producer.create_topic("t", 1).await;
    asleep(&node).await;
    let mut consumer = Client::connect(&node).await;
    let polling =
        tokio::spawn(async move { consumer.fetch("t", 0, 1, Duration::from_secs(60)).await });
    producer.produce("t", 0, batch(&["a"], NO_SEQUENCE)).await;
    let fetched = tokio::time::timeout(Duration::from_secs(20), polling).await;
    assert_eq!(records(&fetched.expect("woken").unwrap()), [(0, "a".to_owned())]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_keep_their_sequences_over_a_sleep() {
    let dir = tempdir().unwrap();
    let node = sleepy(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let init = InitProducerIdRequest::default().with_transactional_id(None);
    let producer_id = client.ask(&init, 4).await.producer_id.0;
    let sequence = |first| Sequence { producer_id, first };
    assert_eq!(client.produce("t", 0, batch(&["a", "b"], sequence(0))).await.base_offset, 0);
    asleep(&node).await;
    let again = client.produce("t", 0, batch(&["a", "b"], sequence(0))).await;
    assert_eq!((again.error_code, again.base_offset), (0, 0), "known, though it sleeps");
    asleep(&node).await;
    assert_eq!(client.produce("t", 0, batch(&["c"], sequence(2))).await.base_offset, 2);
    asleep(&node).await;
    let skipped = client.produce("t", 0, batch(&["e"], sequence(9))).await;
    assert_eq!(skipped.error_code, 45, "out of order");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_while_all_sleep_loses_nothing() {
    let dir = tempdir().unwrap();
    let node = sleepy(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 2).await;
    client.produce("t", 0, batch(&["a"], NO_SEQUENCE)).await;
    asleep(&node).await;
    client.produce("t", 0, batch(&["b"], NO_SEQUENCE)).await;
    asleep(&node).await;
    let (_, epoch) = end(&mut client).await;
    node.shutdown().await;

    let node = sleepy(dir.path()).await;
    let mut client = Client::connect(&node).await;
    asleep(&node).await;
    let (offset, later) = end(&mut client).await;
    assert_eq!(offset, 2);
    assert!(later > epoch, "a start is a new epoch");
    let fetched = records(&client.fetch("t", 0, 1, Duration::ZERO).await);
    assert_eq!(fetched, [(0, "a".to_owned()), (1, "b".to_owned())]);
    assert_eq!(client.produce("t", 0, batch(&["c"], NO_SEQUENCE)).await.base_offset, 2);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_node_gives_its_memory_back() {
    let dir = tempdir().unwrap();
    let node = sleepy(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let large = "x".repeat(500_000);
    for _ in 0..20 {
        client.produce("t", 0, batch(&[&large], NO_SEQUENCE)).await;
    }
    let resting = async {
        loop {
            let now = samples(&node).await;
            let held = now["jangbu_engine_cache_bytes"] + now["jangbu_engine_memtable_bytes"];
            if held < 3_000_000.0 {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), resting).await.expect("given back in the end");
    let fetched = client.fetch("t", 0, 1, Duration::ZERO).await;
    assert_eq!(records(&fetched)[0].0, 0, "it is all there");
    node.shutdown().await;
}
