//! One client's flood, or its silence, costs the others little: everybody gets room in turn, and nobody keeps it
//! without using it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use jangbu_server::{Config, Node};
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use tempfile::tempdir;

use super::harness::{
    Client, FETCH_VERSION, NO_SEQUENCE, PRODUCE_VERSION, batch, config, fetch_request,
    produce_request, records,
};
use super::metrics::samples;

const UNANSWERED: usize = 100;
/// Of the flood's batches, while the other client waits for one of its own.
const IN_BETWEEN_MAX: i64 = 1_000;
const SMALL: usize = 32 << 20;

/// Keeps as many large requests under way until told to stop; `end` is the offset behind the last one answered.
async fn flood(mut client: Client, end: Arc<AtomicI64>, done: Arc<AtomicBool>) {
    let request = produce_request("t", 0, batch(&[&"x".repeat(100_000)], NO_SEQUENCE));
    for _ in 0..UNANSWERED {
        client.send(&request, PRODUCE_VERSION).await;
    }
    while !done.load(Ordering::Acquire) {
        let (_, response) = client.receive::<ProduceRequest>(PRODUCE_VERSION).await;
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        end.store(answer.base_offset + 1, Ordering::Release);
        client.send(&request, PRODUCE_VERSION).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_quiet_producer_is_answered_in_turn_beside_a_flood() {
    let dir = tempdir().unwrap();
    let small = Config { memory: Some(SMALL), ..config(dir.path()) };
    let node = Node::start(small).await.unwrap();
    let mut quiet = Client::connect(&node).await;
    quiet.create_topic("t", 1).await;
    let (end, done) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let flooding = Client::connect(&node).await;
    let flooding = tokio::spawn(flood(flooding, Arc::clone(&end), Arc::clone(&done)));
    while end.load(Ordering::Acquire) == 0 {
        tokio::task::yield_now().await;
    }
    // Both sizes: what is counted against the room for requests, and what is not.
    for size in [20_000, 10].into_iter().cycle().take(30) {
        let mine = batch(&[&"y".repeat(size)], NO_SEQUENCE);
        let before = end.load(Ordering::Acquire);
        let answer = quiet.produce("t", 0, mine).await;
        assert_eq!(answer.error_code, 0);
        let in_between = answer.base_offset - before;
        assert!(in_between <= IN_BETWEEN_MAX, "{in_between} batches of the flood came before one");
    }
    assert!(!flooding.is_finished(), "the flood goes on");
    done.store(true, Ordering::Release);
    flooding.await.unwrap();
    assert!(end.load(Ordering::Acquire) > 100, "a flood");
    node.shutdown().await;
}

/// A topic with so many batches of 14 kB, written by requests that are too small to be counted.
async fn filled(node: &Node, batches: usize) -> Client {
    let mut client = Client::connect(node).await;
    client.create_topic("t", 1).await;
    let request = produce_request("t", 0, batch(&[&"x".repeat(14_000)], NO_SEQUENCE));
    client.send_burst(&request, PRODUCE_VERSION, batches).await;
    for _ in 0..batches {
        let (_, response) = client.receive::<ProduceRequest>(PRODUCE_VERSION).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
    client
}

/// A client that asks for a mebibyte so many times and reads no answer.
async fn silent(node: &Node, requests: usize) -> Client {
    let mut client = Client::connect(node).await;
    let request = fetch_request("t", 0, 1, Duration::ZERO);
    client.send_burst(&request, FETCH_VERSION, requests).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_read_no_answers_keep_no_more_than_their_room_and_not_for_ever() {
    const BATCHES: usize = 300;
    let dir = tempdir().unwrap();
    let small = Config { memory: Some(SMALL), request_arrival_ms: 300, ..config(dir.path()) };
    let node = Arc::new(Node::start(small).await.unwrap());
    let mut good = filled(&node, BATCHES).await;
    let mut kept = Vec::new();
    for _ in 0..6 {
        kept.push(silent(&node, 64).await);
    }
    let limit = samples(&node).await["jangbu_answer_limit_bytes"];
    assert_eq!(limit, f64::from(2 << 20));
    // Beyond what the kernel holds for them, each of them holds an answer of a mebibyte or waits for room.
    while samples(&node).await["jangbu_answer_bytes"] < limit * 0.9 {}
    let reading = tokio::spawn(async move {
        let mut next = 0;
        while next < i64::try_from(BATCHES).unwrap() {
            let found = records(&good.fetch("t", next, 1, Duration::ZERO).await);
            assert_eq!(found[0].0, next);
            next += i64::try_from(found.len()).unwrap();
        }
    });
    while !reading.is_finished() {
        let taken = samples(&node).await["jangbu_answer_bytes"];
        assert!(taken <= limit, "{taken} bytes of answers");
    }
    reading.await.unwrap();
    let slow = samples(&node).await["jangbu_connections_failed_total{reason=\"slow\"}"];
    assert!(slow > 0.0, "somebody had to go");
    drop(kept);
    Arc::into_inner(node).expect("nobody else has it").shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fetch_that_waits_for_more_holds_nothing_and_wants_no_more_than_there_is_room_for() {
    let dir = tempdir().unwrap();
    let small = Config { memory: Some(SMALL), ..config(dir.path()) };
    let node = Node::start(small).await.unwrap();
    let mut producer = filled(&node, 10).await;
    let mut waiting = Client::connect(&node).await;
    let greedy = fetch_request("t", 0, i32::MAX, Duration::from_secs(600));
    waiting.send(&greedy, FETCH_VERSION).await;
    let mut quiet = 0;
    while quiet < 20 {
        quiet += u32::from(samples(&node).await["jangbu_answer_bytes"] == 0.0);
    }
    for _ in 0..50 {
        let mine = batch(&[&"x".repeat(14_000)], NO_SEQUENCE);
        assert_eq!(producer.produce("t", 0, mine).await.error_code, 0);
    }
    let (_, response) = waiting.receive::<FetchRequest>(FETCH_VERSION).await;
    assert!(records(&response).len() > 30, "half a mebibyte, in batches of 14 kB");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_that_reads_late_keeps_its_connection_while_nobody_wants_its_room() {
    const REQUESTS: usize = 20;
    let dir = tempdir().unwrap();
    let hasty = Config { memory: Some(SMALL), request_arrival_ms: 1, ..config(dir.path()) };
    let node = Node::start(hasty).await.unwrap();
    drop(filled(&node, 100).await);
    let mut late = silent(&node, REQUESTS).await;
    let mut held = 0;
    while held < 50 {
        held += u32::from(samples(&node).await["jangbu_answer_bytes"] > 0.0);
    }
    for _ in 0..REQUESTS {
        let (_, response) = late.receive::<FetchRequest>(FETCH_VERSION).await;
        assert_eq!(records(&response)[0].0, 0);
    }
    assert_eq!(samples(&node).await["jangbu_answer_bytes"], 0.0);
    node.shutdown().await;
}
