//! Three processes that are one cluster, and what is left when some of them are killed: everything acknowledged.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod rows;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_jangbu");

/// A running node, killed when dropped.
struct Node {
    child: Child,
    kafka: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three nodes, and what it takes to start each of them again.
struct Cluster {
    list: String,
    clients: Vec<String>,
    dirs: Vec<TempDir>,
    nodes: Vec<Option<Node>>,
}

/// Addresses that were free a moment ago.
fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

impl Cluster {
    fn start() -> Self {
        let addresses = free_addresses(6);
        let entries = (1..).zip(&addresses[..3]).map(|(id, address)| format!("{id}@{address}"));
        let mut cluster = Self {
            list: entries.collect::<Vec<_>>().join(","),
            clients: addresses[3..].to_vec(),
            dirs: (0..3).map(|_| TempDir::new().unwrap()).collect(),
            nodes: Vec::new(),
        };
        // None is ready before all of them run.
        let children: Vec<Child> = (0..3).map(|at| cluster.spawn(at)).collect();
        cluster.nodes = children.into_iter().map(|child| Some(ready(child))).collect();
        cluster
    }

    fn spawn(&self, at: usize) -> Child {
        let id = (at + 1).to_string();
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--json", "--http", "127.0.0.1:0", "--memory", "64MiB"]);
        command.args(["--node", &id, "--cluster", &self.list, "--listen", &self.clients[at]]);
        command.arg("--data").arg(self.dirs[at].path());
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Ends a node like a power cut does.
    fn kill(&mut self, at: usize) {
        let mut node = self.nodes[at].take().unwrap();
        node.child.kill().unwrap();
        node.child.wait().unwrap();
    }

    fn restart(&mut self, at: usize) {
        self.nodes[at] = Some(ready(self.spawn(at)));
    }

    fn spawn_client(&self, args: &[&str]) -> Child {
        Command::new(PROGRAM)
            .args(args)
            .args(["--brokers", &self.clients.join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs a command that must succeed and returns what it printed.
    fn ok(&self, args: &[&str]) -> String {
        let child = self.spawn_client(args);
        let output: Output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Waits for a node's banner.
fn ready(mut child: Child) -> Node {
    let mut banner = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut banner).unwrap();
    let banner: Value = serde_json::from_str(&banner).expect("the banner is one JSON object");
    assert_eq!(banner["event"], "ready");
    Node { child, kafka: banner["kafka"].as_str().unwrap().to_owned() }
}

const ROWS: u64 = 60_000;

#[test]
fn nodes_killed_one_after_the_other_while_records_stream_in_lose_repeat_and_reorder_nothing() {
    let mut cluster = Cluster::start();
    assert!(cluster.nodes.iter().flatten().all(|node| !node.kafka.is_empty()));
    cluster.ok(&["topic", "create", "t", "--partitions", "6", "--replication-factor", "3"]);
    let args = ["produce", "t", "--key-separator", ":", "--rate", "5000", "--json"];
    let mut producer = cluster.spawn_client(&args);
    let input = producer.stdin.take().unwrap();
    let (eighth, reached) = mpsc::channel();
    let writing = std::thread::spawn(move || {
        rows::write(input, ROWS, |row| {
            if (row + 1) % (ROWS / 8) == 0 {
                eighth.send(()).unwrap();
            }
        });
    });
    for at in 0..3 {
        reached.recv().unwrap();
        cluster.kill(at);
        reached.recv().unwrap();
        cluster.restart(at);
    }
    writing.join().unwrap();
    let output = producer.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["records"], &summary["failed"]), (&ROWS.into(), &0.into()));
    let read = ["consume", "t", "--from-beginning", "--format", "key-value"];
    rows::check(&cluster.ok(&read), ROWS);
    // Each of them holds everything: any two are enough.
    for at in 0..3 {
        cluster.kill(at);
        rows::check(&cluster.ok(&read), ROWS);
        cluster.restart(at);
    }
}

#[test]
fn a_cluster_that_is_killed_as_a_whole_comes_back_with_everything() {
    let mut cluster = Cluster::start();
    cluster.ok(&["topic", "create", "t", "--partitions", "20", "--replication-factor", "3"]);
    let mut producer = cluster.spawn_client(&["produce", "t", "--key-separator", ":"]);
    rows::write(producer.stdin.take().unwrap(), ROWS, |_| {});
    let output = producer.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for at in 0..3 {
        cluster.kill(at);
    }
    let children: Vec<Child> = (0..3).map(|at| cluster.spawn(at)).collect();
    cluster.nodes = children.into_iter().map(|child| Some(ready(child))).collect();
    rows::check(&cluster.ok(&["consume", "t", "--from-beginning", "--format", "key-value"]), ROWS);
}
