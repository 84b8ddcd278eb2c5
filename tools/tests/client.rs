//! The client crate against a real broker: a node that each test starts, or whichever broker `BOOTSTRAP` names.
//!
//!     BOOTSTRAP=127.0.0.1:9092 cargo test --release -p jangbu-tools --test client     (for instance Kafka)
//!
//! Every test has topics and groups of its own, so that a broker can be used again.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "client/consume.rs"]
mod consume;
#[path = "client/consumer_groups.rs"]
mod consumer_groups;
#[path = "client/examples.rs"]
mod examples;
#[path = "client/groups.rs"]
mod groups;
#[path = "client/produce.rs"]
mod produce;
#[path = "client/telemetry.rs"]
mod telemetry;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jangbu_client::{
    BatchDelivery, Client, Config, ConsumerConfig, GroupConfig, NewTopic, OffsetReset, Record,
};
use tempfile::TempDir;

/// Long enough for a rebalance on a busy machine. Nothing waits for it unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker, and a name that nobody else uses on it.
struct Broker {
    address: String,
    name: String,
    _node: Option<Node>,
}

/// A node that this test started; killed when dropped.
struct Node {
    child: Child,
    _data: TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker {
    fn get() -> Self {
        static USED: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let name = format!("client-{now}-{}", USED.fetch_add(1, Ordering::Relaxed));
        if let Ok(address) = std::env::var("BOOTSTRAP") {
            return Self { address, name, _node: None };
        }
        let data = TempDir::new().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_jangbu"))
            .args(["serve", "--json", "--memory", "64MiB", "--http", "127.0.0.1:0"])
            .args(["--listen", "127.0.0.1:0", "--data"])
            .arg(data.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut banner = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut banner).unwrap();
        let banner: serde_json::Value = serde_json::from_str(&banner).unwrap();
        let address = banner["kafka"].as_str().unwrap().to_owned();
        Self { address, name, _node: Some(Node { child, _data: data }) }
    }

    async fn client(&self) -> Client {
        Client::connect(Config::for_brokers(&self.address)).await.unwrap()
    }

    /// A client, and a topic with so many partitions.
    async fn with_topic(&self, partitions: i32) -> (Client, String) {
        let client = self.client().await;
        let new = NewTopic {
            name: self.name.clone(),
            partitions: Some(partitions),
            ..NewTopic::default()
        };
        client.create_topic(&new).await.unwrap();
        (client, self.name.clone())
    }

    /// A member of this test's group, which begins at the beginning.
    fn member(&self, change: impl FnOnce(&mut GroupConfig)) -> ConsumerConfig {
        let mut group = GroupConfig {
            heartbeat_interval: Duration::from_millis(200),
            session_timeout: Duration::from_secs(10),
            ..GroupConfig::new(&self.name)
        };
        change(&mut group);
        let offset_reset = OffsetReset::Earliest;
        ConsumerConfig { group: Some(group), offset_reset, ..ConsumerConfig::default() }
    }
}

/// Records without a key whose values are numbers.
fn numbers(range: std::ops::Range<u32>) -> Vec<Record> {
    range.map(|number| Record::new(None::<&str>, number.to_string())).collect()
}

/// The number that a record holds.
fn number(record: &Record) -> u32 {
    std::str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap()
}

/// Waits until records are acknowledged, and tells how many.
async fn acknowledged(delivery: BatchDelivery) -> usize {
    delivery.await.unwrap().iter().map(|part| part.count).sum()
}
