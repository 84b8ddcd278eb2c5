//! A disk that fills up: records are refused before it is full, and taken again once there is room.
//!
//! The node runs on a small tmpfs in a mount namespace of its own, which needs the right to mount.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jangbu_client::{Client, Config, ConsumerConfig, NewTopic, Producer, ProducerConfig, Record};
use serde_json::Value;

/// Of the tmpfs, in MiB.
const DISK_MIB: usize = 192;
const RECORD_BYTES: usize = 100_000;

struct Node {
    child: Child,
    kafka: String,
}

impl Node {
    fn start(dir: &Path) -> Self {
        let script = "mount -t tmpfs -o size=\"$1\"m tmpfs \"$2\" && exec \"$3\" serve --json \
                      --listen 127.0.0.1:0 --http 127.0.0.1:0 --config \"$4\" --data \"$2/data\"";
        let settings = dir.join("node.toml");
        std::fs::write(&settings, "retention_check_ms = 200\n").unwrap();
        let mount = dir.join("disk");
        std::fs::create_dir(&mount).unwrap();
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(DISK_MIB.to_string())
            .args([mount.as_path(), Path::new(env!("CARGO_BIN_EXE_jangbu")), &settings])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) is installed");
        let mut banner = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut banner).unwrap();
        let banner: Value = serde_json::from_str(&banner)
            .expect("the node starts; mounting a tmpfs needs root or CAP_SYS_ADMIN");
        Self { child, kafka: banner["kafka"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn record(number: usize) -> Record {
    let mut value = number.to_string().into_bytes();
    value.resize(RECORD_BYTES, b' ');
    Record::new(None::<Vec<u8>>, value)
}

fn producer(client: &Client, delivery_timeout: Duration) -> Producer {
    client.producer(ProducerConfig { delivery_timeout, ..ProducerConfig::default() })
}

/// Writes until a record is given up; how many were acknowledged, and why the last was not.
async fn fill(client: &Client, topic: &str) -> (usize, String) {
    let producer = producer(client, Duration::from_secs(3));
    let mut acknowledged = 0;
    for number in 0..10 * DISK_MIB {
        let delivery = producer.send_to(topic, Some(0), record(number)).await.unwrap();
        match delivery.await {
            Ok(_) => acknowledged += 1,
            Err(error) => return (acknowledged, error.to_string()),
        }
    }
    panic!("{acknowledged} records fitted on {DISK_MIB} MiB");
}

/// The numbers of the records in a topic.
async fn numbers(client: &Client, topic: &str, count: usize) -> Vec<usize> {
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign(topic, 0, 0);
    let mut found = Vec::new();
    let begun = Instant::now();
    while found.len() < count && begun.elapsed() < Duration::from_secs(60) {
        for received in consumer.poll(Duration::from_secs(1)).await.unwrap() {
            let text = String::from_utf8(received.record.value.unwrap().to_vec()).unwrap();
            found.push(text.trim_end().parse().unwrap());
        }
    }
    found
}

async fn create(client: &Client, name: &str) {
    let topic = NewTopic {
        name: name.to_owned(),
        partitions: Some(1),
        replication_factor: None,
        configs: Vec::new(),
    };
    client.create_topic(&topic).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_before_it_is_full_and_takes_records_again_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path());
    let client = Client::connect(Config::for_brokers(&node.kafka)).await.unwrap();
    create(&client, "kept").await;
    create(&client, "filler").await;
    let early = producer(&client, Duration::from_secs(60));
    for number in 0..20 {
        early.send_to("kept", Some(0), record(number)).await.unwrap().await.unwrap();
    }
    let mut all_filled = 0;
    for round in 0..3 {
        let (filled, why) = fill(&client, "filler").await;
        assert!(why.contains("nearly full"), "round {round}, after {filled} records: {why}");
        assert!(filled * RECORD_BYTES > DISK_MIB << 18, "a quarter at least: {filled} records");
        all_filled = filled;
        assert!(node.child.try_wait().unwrap().is_none(), "the node lives");
        assert_eq!(numbers(&client, "kept", 20 + round).await.len(), 20 + round, "reads go on");
        assert_eq!(numbers(&client, "filler", filled).await, (0..filled).collect::<Vec<_>>());
        client.delete_topic("filler").await.unwrap();
        // Nobody tells the producer: its record waits and goes through once there is room.
        let patient = producer(&client, Duration::from_secs(60));
        patient.send_to("kept", Some(0), record(20 + round)).await.unwrap().await.unwrap();
        create(&client, "filler").await;
    }
    assert!(all_filled > 0);
    assert_eq!(numbers(&client, "kept", 23).await, (0..23).collect::<Vec<_>>());
}
