//! Producers that send more than the node can take are slowed down; memory keeps its bounds, nothing is
//! lost, and RocksDB never holds writes back by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jangbu_server::{Config, Node};
use kafka_protocol::messages::ProduceRequest;
use tempfile::tempdir;

use super::harness::{Client, NO_SEQUENCE, PRODUCE_VERSION, batch, config, produce_request};
use super::metrics::samples;

const PRODUCERS: i32 = 8;
const REQUESTS: i64 = 20;
const MIB: f64 = 1_048_576.0;

/// Sends everything before it looks at the first answer; the base offsets answered.
async fn flood(mut client: Client, partition: i32) -> Vec<i64> {
    let value = "x".repeat(900_000);
    let request = produce_request("t", partition, batch(&[&value], NO_SEQUENCE));
    for _ in 0..REQUESTS {
        client.send(&request, PRODUCE_VERSION).await;
    }
    let mut offsets = Vec::new();
    for _ in 0..REQUESTS {
        let (_, response) = client.receive::<ProduceRequest>(PRODUCE_VERSION).await;
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        offsets.push(answer.base_offset);
    }
    offsets
}

/// Looks at the bounds again and again until told to stop; how often it did.
async fn watch(node: &Node, done: &AtomicBool) -> usize {
    let mut looks = 0;
    while !done.load(Ordering::Acquire) {
        let now = samples(node).await;
        let requests = now["jangbu_request_bytes"];
        assert!(requests <= now["jangbu_request_limit_bytes"], "requests: {requests}");
        // Room is given as long as there is any, so one command may go beyond.
        let queue = now["jangbu_engine_queue_bytes"];
        assert!(queue <= now["jangbu_engine_queue_limit_bytes"] + MIB, "queue: {queue}");
        // A write group of 4 MiB may come on top, and the last blocks of the arenas.
        let memtables = now["jangbu_engine_memtable_bytes"];
        assert!(memtables <= now["jangbu_engine_memtable_limit_bytes"] + 6.0 * MIB, "{memtables}");
        let cache = now["jangbu_engine_cache_bytes"];
        let pinned = now["jangbu_engine_queue_limit_bytes"] + MIB;
        assert!(cache <= now["jangbu_engine_cache_limit_bytes"] + pinned, "cache: {cache}");
        assert!(now["jangbu_engine_rocksdb_stalled"] == 0.0, "RocksDB stalls");
        looks += 1;
    }
    looks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn more_than_it_can_take_slows_producers_and_nothing_else() {
    let dir = tempdir().unwrap();
    let small = Config { memory: Some(32 << 20), ..config(dir.path()) };
    let node = Arc::new(Node::start(small).await.unwrap());
    Client::connect(&node).await.create_topic("t", PRODUCERS).await;
    let done = Arc::new(AtomicBool::new(false));
    let watching = {
        let (node, done) = (Arc::clone(&node), Arc::clone(&done));
        tokio::spawn(async move { watch(&node, &done).await })
    };
    let mut producers = tokio::task::JoinSet::new();
    for partition in 0..PRODUCERS {
        let client = Client::connect(&node).await;
        producers.spawn(flood(client, partition));
    }
    for offsets in producers.join_all().await {
        assert_eq!(offsets, (0..REQUESTS).collect::<Vec<_>>(), "all there, in order");
    }
    done.store(true, Ordering::Release);
    assert!(watching.await.unwrap() > 0, "looked at least once");
    let after = samples(&node).await;
    assert!(after["jangbu_requests_throttled_total"] > 0.0, "4 MiB of room for 144 MB at once");
    assert!(after["jangbu_requests_throttled_seconds_total"] > 0.0);
    Arc::into_inner(node).expect("nobody else has it").shutdown().await;
}
