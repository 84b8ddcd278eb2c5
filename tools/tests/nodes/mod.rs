//! Nodes that are processes of one cluster, to be killed and started again.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

#[path = "../../../server/tests/node/ports.rs"]
mod ports;
use ports::free_addresses;

const PROGRAM: &str = env!("CARGO_BIN_EXE_jangbu");

/// A running node, killed when dropped.
pub(crate) struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nodes with the ids from 1 on, and what it takes to start each of them again.
pub(crate) struct Cluster {
    list: String,
    clients: Vec<String>,
    dirs: Vec<TempDir>,
    flags: Vec<String>,
    nodes: Vec<Option<Node>>,
}

impl Cluster {
    /// So many nodes, each started with these flags too.
    pub(crate) fn start(count: usize, flags: &[&str]) -> Self {
        let addresses: Vec<String> =
            (0..2 * count).map(|_| free_addresses::<1>()[0].to_string()).collect();
        let entries = (1..).zip(&addresses[..count]).map(|(id, address)| format!("{id}@{address}"));
        let mut cluster = Self {
            list: entries.collect::<Vec<_>>().join(","),
            clients: addresses[count..].to_vec(),
            dirs: (0..count).map(|_| TempDir::new().unwrap()).collect(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            nodes: (0..count).map(|_| None).collect(),
        };
        cluster.start_all();
        cluster
    }

    /// Starts all nodes: none is ready before most of them run.
    pub(crate) fn start_all(&mut self) {
        let children: Vec<Child> = (0..self.dirs.len()).map(|at| self.spawn(at)).collect();
        self.nodes = children.into_iter().map(|child| Some(ready(child))).collect();
    }

    fn spawn(&self, at: usize) -> Child {
        let id = (at + 1).to_string();
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--json", "--http", "127.0.0.1:0", "--memory", "64MiB"]);
        command.args(["--node", &id, "--cluster", &self.list, "--listen", &self.clients[at]]);
        command.args(&self.flags).arg("--data").arg(self.dirs[at].path());
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Ends a node like a power cut does.
    pub(crate) fn kill(&mut self, at: usize) {
        let mut node = self.nodes[at].take().unwrap();
        node.0.kill().unwrap();
        node.0.wait().unwrap();
    }

    pub(crate) fn restart(&mut self, at: usize) {
        self.nodes[at] = Some(ready(self.spawn(at)));
    }

    /// Where clients connect.
    pub(crate) fn brokers(&self) -> String {
        self.clients.join(",")
    }

    pub(crate) fn spawn_client(&self, args: &[&str]) -> Child {
        Command::new(PROGRAM)
            .args(args)
            .args(["--brokers", &self.brokers()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.spawn_client(args).wait_with_output().unwrap()
    }

    /// Runs a command that must succeed and returns what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
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
    Node(child)
}
