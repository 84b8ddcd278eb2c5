//! Compacted topics: what the cleaner leaves, what readers get of it while it does, and how replicas that lack what was
//! cleaned come to it. How a log is cleaned the engine's tests say, what can go wrong on the way the simulation's.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Buf;
use jangbu_server::{Config, Node};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record};
use tempfile::tempdir;

use super::configs::{BROKER, TOPIC, set};
use super::damage::damage;
use super::forming::{Plan, start as start_node, started, stop_all, tells};
use super::harness::{Client, config, decoded, http_get, record_bytes, topic_name};
use super::keys::keyed;
use super::metrics::samples;
use super::replication::{create, described, leader, moving, reassign, topic, until};
use super::restart::ready;

const DIRTY: &str = "jangbu_compaction_dirty_bytes";
const REMOVED: &str = "jangbu_compaction_removed_records_total";
const FAILING: &str = "jangbu_compaction_failing_partitions";
const PASSES: &str = "jangbu_compaction_passes_total";
const TRANSFERRED: &str = "jangbu_compaction_transferred_bytes_total";
const STORED: &str = "jangbu_log_stored_bytes";

/// A topic of one partition that is cleaned as soon as anything is dirty.
fn eager(name: &str, replicas: &[i32]) -> CreatableTopic {
    let config = |name, value| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_static_str(value)))
    };
    let ids = replicas.iter().copied().map(BrokerId).collect();
    let assigned =
        CreatableReplicaAssignment::default().with_partition_index(0).with_broker_ids(ids);
    topic(name, -1, -1).with_assignments(vec![assigned]).with_configs(vec![
        config("cleanup.policy", "compact"),
        config("min.cleanable.dirty.ratio", "0.001"),
    ])
}

/// What a consumer that reads all of it from the beginning ends with, by key, and the offsets it saw.
async fn table(node: &Node) -> (BTreeMap<String, (i64, Option<String>)>, Vec<i64>) {
    let mut client = Client::connect(node).await;
    let end = offset(&mut client, -1).await;
    let (mut table, mut offsets) = (BTreeMap::new(), Vec::new());
    let mut from = offset(&mut client, -2).await;
    while from < end {
        let answer = client.fetch("t", from, 1, Duration::from_secs(5)).await;
        let bytes = record_bytes(&answer);
        assert!(!bytes.is_empty(), "a reader stands at {from} and never gets to {end}");
        from = behind(&bytes);
        let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        for Record { offset, key, value, .. } in decoded(bytes) {
            table.insert(text(key.unwrap()), (offset, value.map(text)));
            offsets.push(offset);
        }
    }
    (table, offsets)
}

/// The offset behind the last batch, which may be an empty one.
fn behind(batches: &[u8]) -> i64 {
    let (mut rest, mut end) = (batches, 0);
    while !rest.is_empty() {
        let base = (&rest[..8]).get_i64();
        let length = usize::try_from((&rest[8..12]).get_i32()).unwrap();
        end = base + i64::from((&rest[23..27]).get_i32()) + 1;
        rest = &rest[12 + length..];
    }
    end
}

async fn offset(client: &mut Client, timestamp: i64) -> i64 {
    let partition =
        ListOffsetsPartition::default().with_partition_index(0).with_timestamp(timestamp);
    let named =
        ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![named]);
    client.ask(&request, 7).await.topics[0].partitions[0].offset
}

/// Text that hardly gets smaller when it is packed.
fn noise(seed: usize, bytes: usize) -> String {
    let mut state = seed as u64 + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from((state >> 40) % 64).unwrap())
    };
    (0..bytes).map(|_| next()).collect()
}

/// Writes `rounds` values of `bytes` bytes to each of ten keys; what the keys have then.
async fn fill(node: &Node, rounds: usize, bytes: usize) -> BTreeMap<String, (i64, Option<String>)> {
    let mut client = Client::connect(node).await;
    let mut expected = BTreeMap::new();
    for round in 0..rounds {
        let values: Vec<_> =
            (0..10).map(|key| (format!("k{key}"), noise(round * 10 + key, bytes))).collect();
        let records: Vec<_> = values
            .iter()
            .map(|(key, value)| (Some(key.as_str()), Some(value.as_str()), 1_000))
            .collect();
        let answer = client.produce("t", 0, keyed(&records, Compression::None)).await;
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        for ((key, value), offset) in values.into_iter().zip(answer.base_offset..) {
            expected.insert(key, (offset, Some(value)));
        }
    }
    expected
}

async fn is_clean(node: &Node) {
    until("everything is cleaned", async || {
        let now = samples(node).await;
        (now[PASSES] > 0.0 && now[DIRTY] == 0.0).then_some(())
    })
    .await;
}

/// Has cleaners look every tenth of a second.
async fn look_often(node: &Node) {
    let mut client = Client::connect(node).await;
    set(&mut client, BROKER, "", "log.cleaner.backoff.ms", "100").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_value_of_each_key_stays_at_its_offset_and_readers_reach_the_end() {
    let dir = tempdir().unwrap();
    let node = started(start_node(config(dir.path()))).await;
    look_often(&node).await;
    assert_eq!(create(&node, eager("t", &[1])).await.0, 0);
    let expected = fill(&node, 50, 100).await;
    is_clean(&node).await;
    let (found, offsets) = table(&node).await;
    assert_eq!(found, expected);
    assert!(offsets.len() < 100, "{} of 500 records are left", offsets.len());
    assert!(offsets.is_sorted(), "{offsets:?}");
    let mut client = Client::connect(&node).await;
    assert_eq!((offset(&mut client, -2).await, offset(&mut client, -1).await), (0, 500));
    let at_time = offset(&mut client, 1_000).await;
    assert!(expected.values().any(|(offset, _)| *offset >= at_time), "{at_time}");
    let in_a_hole = record_bytes(&client.fetch("t", 250, 1, Duration::ZERO).await);
    assert!(behind(&in_a_hole) > 250);
    let now = samples(&node).await;
    assert!(now[REMOVED] >= 400.0, "{}", now[REMOVED]);
    assert_eq!(http_get(&node, "/readyz").await.1, "ready\n");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_cleaned_is_named_and_takes_what_is_appended() {
    let dir = tempdir().unwrap();
    let node = started(start_node(config(dir.path()))).await;
    assert_eq!(create(&node, eager("t", &[1])).await.0, 0);
    let mut client = Client::connect(&node).await;
    // Everything is dirty, and that is not more than all.
    set(&mut client, TOPIC, "t", "min.cleanable.dirty.ratio", "1").await;
    fill(&node, 20, 20_000).await;
    node.shutdown().await;
    // A start writes what the write-ahead log held into tables.
    started(start_node(config(dir.path()))).await.shutdown().await;
    damage(dir.path(), &noise(73, 20_000));

    let node = started(start_node(config(dir.path()))).await;
    look_often(&node).await;
    ready(&node).await;
    let mut client = Client::connect(&node).await;
    set(&mut client, TOPIC, "t", "min.cleanable.dirty.ratio", "0.001").await;
    until("the cleaner fails", async || (samples(&node).await[FAILING] > 0.0).then_some(())).await;
    let (status, details) = http_get(&node, "/readyz").await;
    assert!(status.contains("200"), "{status}");
    assert!(details.contains("cleaning t-0 failed "), "{details}");
    let end = offset(&mut client, -1).await;
    assert_eq!((fill(&node, 3, 100).await.len(), offset(&mut client, -1).await), (10, end + 30));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_compacted_and_deleted_keeps_the_last_of_each_key_until_it_is_too_old() {
    let dir = tempdir().unwrap();
    let often = Config { retention_check_ms: 200, ..config(dir.path()) };
    let node = started(start_node(often)).await;
    look_often(&node).await;
    assert_eq!(create(&node, eager("t", &[1])).await.0, 0);
    let mut client = Client::connect(&node).await;
    set(&mut client, TOPIC, "t", "retention.ms", "-1").await;
    set(&mut client, TOPIC, "t", "cleanup.policy", "compact,delete").await;
    let expected = fill(&node, 50, 100).await;
    is_clean(&node).await;
    let (found, offsets) = table(&node).await;
    assert_eq!((found, offset(&mut client, -2).await), (expected, 0));
    assert!(offsets.len() < 100, "{} of 500 records are left", offsets.len());

    let now_ms = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let new = [(Some("k3"), Some("new"), i64::try_from(now_ms).unwrap())];
    let sent = client.produce("t", 0, keyed(&new, Compression::None)).await;
    assert_eq!((sent.error_code, sent.base_offset), (0, 500));
    set(&mut client, TOPIC, "t", "retention.ms", "3600000").await;
    until("what is too old is gone", async || {
        (offset(&mut Client::connect(&node).await, -2).await == 500).then_some(())
    })
    .await;
    let found: Vec<_> = table(&node).await.0.into_iter().collect();
    assert_eq!(found, [("k3".to_owned(), (500, Some("new".to_owned())))]);
    node.shutdown().await;
}

/// A node that looks after its space all the time, in buckets that are soon worth closing.
fn small(plan: &Plan, node: usize) -> Config {
    Config { retention_check_ms: 200, memory: Some(32 << 20), ..plan.config(node) }
}

/// Three of them.
async fn three() -> (Plan, Vec<Node>) {
    let plan = Plan::new();
    let busy = |node| small(&plan, node);
    let starting: Vec<_> = (1..=3).map(|node| start_node(busy(node))).collect();
    let mut nodes = Vec::new();
    for one in starting {
        nodes.push(started(one).await);
    }
    tells(&nodes[0], &[1, 2, 3]).await;
    (plan, nodes)
}

/// Writes until the entries that were cleaned are purged and their space is back.
async fn purged(leader: &Node, others: &[&Node]) -> BTreeMap<String, (i64, Option<String>)> {
    let expected = fill(leader, 80, 60_000).await;
    look_often(leader).await;
    for node in others.iter().chain([&leader]) {
        is_clean(node).await;
        until("cleaned entries give their space back", async || {
            let now = samples(node).await;
            (now[STORED] < 12e6).then_some(())
        })
        .await;
    }
    expected
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_added_is_sent_what_was_cleaned_and_answers_the_same_as_leader() {
    let (_plan, nodes) = three().await;
    assert_eq!(create(&nodes[0], eager("t", &[1, 2])).await.0, 0);
    assert_eq!(leader(&nodes[0], "t", 0, &[1, 2]).await, 1);
    let expected = purged(&nodes[0], &[&nodes[1]]).await;
    assert_eq!(reassign(&nodes[0], "t", Some(&[3])).await, 0);
    until("the move is done", async || (moving(&nodes[0]).await == 0).then_some(())).await;
    assert_eq!(leader(&nodes[0], "t", 0, &[3]).await, 3);
    assert_eq!(table(&nodes[2]).await.0, expected);
    let mut sent = 0.0;
    for node in &nodes {
        sent += samples(node).await[TRANSFERRED];
    }
    assert!(sent > 0.0, "it was sent entries and nothing else");
    let later = fill(&nodes[2], 2, 10).await;
    assert_eq!(table(&nodes[2]).await.0, later, "offsets go on");
    assert_eq!(described(&nodes[0], "t").await[0].replica_nodes, [BrokerId(3)]);
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_is_sent_what_was_cleaned_and_answers_the_same_as_leader() {
    let (plan, mut nodes) = three().await;
    assert_eq!(create(&nodes[0], eager("t", &[1, 2, 3])).await.0, 0);
    assert_eq!(leader(&nodes[0], "t", 0, &[1, 2, 3]).await, 1);
    fill(&nodes[0], 1, 10).await;
    nodes.remove(2).shutdown().await;
    // The leader keeps its entries for the one that is away; a follower does not.
    let expected = fill(&nodes[0], 80, 60_000).await;
    look_often(&nodes[0]).await;
    is_clean(&nodes[1]).await;
    until("the follower has given its space back", async || {
        (samples(&nodes[1]).await[STORED] < 12e6).then_some(())
    })
    .await;
    nodes.remove(0).shutdown().await;
    let third = small(&plan, 3);
    nodes.push(started(start_node(third)).await);
    assert_eq!(leader(&nodes[0], "t", 0, &[2]).await, 2);
    until("the third has everything", async || {
        (samples(&nodes[0]).await[TRANSFERRED] > 0.0).then_some(())
    })
    .await;
    let first = small(&plan, 1);
    nodes.push(started(start_node(first)).await);
    assert_eq!(reassign(&nodes[0], "t", Some(&[3])).await, 0);
    until("the move is done", async || (moving(&nodes[0]).await == 0).then_some(())).await;
    assert_eq!(leader(&nodes[0], "t", 0, &[3]).await, 3);
    assert_eq!(table(&nodes[1]).await.0, expected);
    stop_all(nodes).await;
}
