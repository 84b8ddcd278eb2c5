//! Bytes that changed on disk hurt the range they lie in, and nobody else; where there are other replicas, the damaged
//! one is rebuilt from them.
//!
//! Batches are stored as they came, so a byte of a known value can be found in RocksDB's tables and flipped.

use std::path::Path;
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableReplicaAssignment;
use kafka_protocol::messages::{BrokerId, DeleteTopicsRequest};
use tempfile::tempdir;

use super::forming::{Plan, stop_all, tells};
use super::harness::{Client, NO_SEQUENCE, batch, http_get, records, start, topic_name};
use super::metrics::samples;
use super::replication::{create, described, leader, produce, topic, until};
use super::restart::ready;

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const KAFKA_STORAGE_ERROR: i16 = 56;
const BATCHES: i64 = 20;

fn value(topic: &str, number: i64) -> String {
    format!("{topic}-{number:03}-{}", "x".repeat(60_000))
}

/// Two topics whose batches lie in tables.
async fn fill(dir: &Path) {
    let node = start(dir).await;
    let mut client = Client::connect(&node).await;
    for topic in ["good", "bad"] {
        client.create_topic(topic, 1).await;
        for number in 0..BATCHES {
            let sent = client.produce(topic, 0, batch(&[&value(topic, number)], NO_SEQUENCE)).await;
            assert_eq!((sent.error_code, sent.base_offset), (0, number));
        }
    }
    node.shutdown().await;
    // A start writes what the write-ahead log held into tables.
    start(dir).await.shutdown().await;
}

/// Flips a bit of the batch with `value` in the table that holds it.
pub(crate) fn damage(dir: &Path, value: &str) {
    let wanted = &value.as_bytes()[..100];
    let mut found = 0;
    for entry in std::fs::read_dir(dir.join("store")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = std::fs::read(&path).unwrap();
            if let Some(at) = bytes.windows(wanted.len()).position(|window| window == wanted) {
                bytes[at + 50] ^= 4;
                std::fs::write(&path, bytes).unwrap();
                found += 1;
            }
        }
    }
    assert_eq!(found, 1, "one table holds the batch");
}

/// The error code of a fetch, and the offsets it gave.
async fn fetch(client: &mut Client, topic: &str, offset: i64) -> (i16, Vec<i64>) {
    let response = client.fetch(topic, offset, 1, Duration::ZERO).await;
    let code = response.responses[0].partitions[0].error_code;
    let offsets = if code == 0 { records(&response) } else { Vec::new() };
    (code, offsets.into_iter().map(|(offset, _)| offset).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_batch_is_never_served_and_hurts_no_other_range() {
    let dir = tempdir().unwrap();
    fill(dir.path()).await;
    damage(dir.path(), &value("bad", 8));
    let node = start(dir.path()).await;
    ready(&node).await;
    let mut client = Client::connect(&node).await;
    let (code, before) = fetch(&mut client, "bad", 0).await;
    assert_eq!(code, 0);
    assert!(!before.is_empty() && before.iter().all(|offset| *offset < 8), "{before:?}");
    assert_eq!(fetch(&mut client, "bad", 8).await, (KAFKA_STORAGE_ERROR, vec![]));
    let (code, after) = fetch(&mut client, "bad", 14).await;
    assert_eq!((code, after.first()), (0, Some(&14)));
    assert_eq!(client.produce("bad", 0, batch(&["new"], NO_SEQUENCE)).await.base_offset, BATCHES);
    for offset in 0..BATCHES {
        let (code, offsets) = fetch(&mut client, "good", offset).await;
        assert_eq!((code, offsets.first()), (0, Some(&offset)));
    }
    let (_, metrics) = http_get(&node, "/metrics").await;
    assert!(metrics.contains("jangbu_engine_corrupt_reads_total "), "{metrics}");
    assert!(!metrics.contains("jangbu_engine_corrupt_reads_total 0\n"), "{metrics}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_end_is_damaged_is_fenced_and_the_node_starts() {
    let dir = tempdir().unwrap();
    fill(dir.path()).await;
    damage(dir.path(), &value("bad", BATCHES - 1));
    let node = start(dir.path()).await;
    ready(&node).await;
    let mut client = Client::connect(&node).await;
    let refused = client.produce("bad", 0, batch(&["new"], NO_SEQUENCE)).await;
    assert_eq!(refused.error_code, KAFKA_STORAGE_ERROR);
    assert_eq!(fetch(&mut client, "bad", 0).await, (KAFKA_STORAGE_ERROR, vec![]));
    assert_eq!(client.produce("good", 0, batch(&["new"], NO_SEQUENCE)).await.base_offset, BATCHES);
    assert_eq!(fetch(&mut client, "good", 0).await.0, 0);
    let (_, metrics) = http_get(&node, "/metrics").await;
    assert!(metrics.contains("jangbu_partitions_fenced 1\n"), "{metrics}");

    let delete = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name("bad")])
        .with_timeout_ms(10_000);
    assert_eq!(client.ask(&delete, 4).await.responses[0].error_code, 0);
    client.create_topic("bad", 1).await;
    assert_eq!(client.produce("bad", 0, batch(&["new"], NO_SEQUENCE)).await.base_offset, 0);
    node.shutdown().await;
    start(dir.path()).await.shutdown().await;
}

/// Fills topics that have a replica on each node, the first of which leads, so that their batches lie in tables.
async fn fill_on_three(plan: &Plan, topics: [&'static str; 2]) {
    let nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    for name in topics {
        let assignment =
            CreatableReplicaAssignment::default().with_broker_ids([1, 2, 3].map(BrokerId).into());
        let placed = topic(name, -1, -1).with_assignments(vec![assignment]);
        assert_eq!(create(&nodes[0], placed).await, (0, 3));
        for number in 0..BATCHES {
            assert_eq!(produce(&nodes, name, &value(name, number)).await, number);
        }
    }
    until("all is everywhere", async || {
        let mut level = true;
        for name in topics {
            level &= described(&nodes[0], name).await[0].isr_nodes.len() == 3;
        }
        level.then_some(())
    })
    .await;
    stop_all(nodes).await;
    stop_all(plan.start_all([1, 2, 3]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_replicas_are_rebuilt_from_whole_ones_on_the_node_they_are_on() {
    let plan = Plan::new();
    fill_on_three(&plan, ["range", "end"]).await;
    damage(plan.dir(1), &value("range", 8));
    damage(plan.dir(1), &value("end", BATCHES - 1));
    let nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[1], &[1, 2, 3]).await;
    let offline = async |name| described(&nodes[1], name).await[0].offline_replicas.len();
    let isr = async |name| described(&nodes[1], name).await[0].isr_nodes.len();
    let heals = async || {
        let mut heals = 0.0;
        for node in &nodes {
            heals += samples(node).await["jangbu_partition_heals_total"];
        }
        heals
    };
    // One cannot start at all. Of the other one nobody knows before it is read on that node.
    until("the first is rebuilt", async || (heals().await >= 1.0).then_some(())).await;
    until("the first is in sync", async || (isr("end").await == 3).then_some(())).await;
    leader(&nodes[1], "range", 0, &[1]).await;
    let mut client = Client::connect(&nodes[0]).await;
    until("the damage is met", async || {
        (fetch(&mut client, "range", 8).await.0 == KAFKA_STORAGE_ERROR).then_some(())
    })
    .await;
    leader(&nodes[1], "range", 0, &[2, 3]).await;
    until("the second is rebuilt", async || (heals().await >= 2.0).then_some(())).await;
    for name in ["range", "end"] {
        until("all are in sync", async || (isr(name).await == 3).then_some(())).await;
        assert_eq!(offline(name).await, 0);
        // It leads again some time after it has caught up, and has all there is.
        leader(&nodes[1], name, 0, &[1]).await;
        for offset in 0..BATCHES {
            let (code, offsets) = until("an answer of the leader", async || {
                let answer = fetch(&mut client, name, offset).await;
                (answer.0 != NOT_LEADER_OR_FOLLOWER).then_some(answer)
            })
            .await;
            assert_eq!((code, offsets.first()), (0, Some(&offset)), "{name}");
        }
    }
    let (_, metrics) = http_get(&nodes[0], "/metrics").await;
    assert!(metrics.contains("jangbu_partitions_fenced 0\n"), "{metrics}");
    stop_all(nodes).await;
}
