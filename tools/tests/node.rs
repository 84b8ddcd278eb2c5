//! The binary against a node that it started itself, on free ports read from the banner.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod rows;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A running node, killed when dropped.
struct Node {
    child: Child,
    kafka: String,
    http: String,
}

impl Node {
    /// Starts a node on `data` and waits for its banner. `listen` may have port 0.
    fn start(data: &Path, listen: &str) -> Self {
        Self::start_with(data, listen, &[])
    }

    /// The same with more arguments.
    fn start_with(data: &Path, listen: &str, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_jangbu"))
            .args(["serve", "--json", "--http", "127.0.0.1:0", "--listen", listen, "--data"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut banner = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut banner).unwrap();
        let banner: Value = serde_json::from_str(&banner).expect("the banner is one JSON object");
        assert_eq!(banner["event"], "ready");
        let address = |name: &str| banner[name].as_str().unwrap().to_owned();
        Self { kafka: address("kafka"), http: address("http"), child }
    }

    /// What `/metrics` shows.
    fn metrics(&self) -> String {
        let mut stream = std::net::TcpStream::connect(&self.http).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    /// Waits until all of its partitions sleep.
    fn wait_until_asleep(&self) {
        let begun = Instant::now();
        while !self.metrics().contains("jangbu_groups{state=\"awake\"} 0\n") {
            assert!(begun.elapsed() < Duration::from_secs(30), "they do not go to sleep");
        }
    }

    fn spawn(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_jangbu"))
            .args(args)
            .args(["--brokers", &self.kafka])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.spawn(args);
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs a command that must succeed and returns what it printed.
    fn ok(&self, args: &[&str], input: &str) -> String {
        let output = self.run(args, input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node() -> (TempDir, Node) {
    let data = TempDir::new().unwrap();
    let node = Node::start(data.path(), "127.0.0.1:0");
    (data, node)
}

#[test]
fn the_banner_names_the_bound_ports() {
    let (_data, node) = node();
    for address in [&node.kafka, &node.http] {
        assert!(!address.ends_with(":0"), "{address}");
        std::net::TcpStream::connect(address).unwrap();
    }
}

#[test]
fn sigterm_ends_a_node_with_0() {
    let (_data, mut node) = node();
    let pid = node.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(node.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_topic_is_created_listed_described_and_deleted() {
    let (_data, node) = node();
    node.ok(&["topic", "create", "t", "--partitions", "3", "--config", "retention.ms=60000"], "");
    let list: Value = serde_json::from_str(&node.ok(&["topic", "list", "--json"], "")).unwrap();
    assert_eq!((&list["topic"], &list["partitions"]), (&"t".into(), &3.into()));
    let text = node.ok(&["topic", "describe", "t", "--json"], "");
    let topic: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(topic["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(topic["partitions"][2]["end"], 0);
    assert_eq!(topic["configs"], serde_json::json!({ "retention.ms": "60000" }));

    let again = node.run(&["topic", "create", "t"], "");
    assert_eq!(again.status.code(), Some(1));
    node.ok(&["topic", "delete", "t"], "");
    assert_eq!(node.run(&["topic", "describe", "t"], "").status.code(), Some(1));
}

#[test]
fn lines_go_in_and_come_out_with_keys_by_every_codec() {
    let (_data, node) = node();
    node.ok(&["topic", "create", "t", "--partitions", "1"], "");
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let args = ["produce", "t", "--key-separator", ":", "--compression", codec];
        node.ok(&args, &format!("{codec}:one\n{codec}:two\n"));
    }
    let read = node.ok(&["consume", "t", "--from-beginning", "--format", "key-value"], "");
    let expected = codecs.map(|codec| format!("{codec}\tone\n{codec}\ttwo\n")).concat();
    assert_eq!(read, expected);
    assert_eq!(node.ok(&["consume", "t", "--offset", "9"], ""), "two\n");
    assert_eq!(node.ok(&["consume", "t", "--from-beginning", "--count", "1"], ""), "one\n");
}

#[test]
fn get_prints_a_value_as_it_is_its_past_and_all_keys_that_begin_so() {
    let (_data, node) = node();
    let config = ["--partitions", "3", "--config", "cleanup.policy=compact"];
    node.ok(&[&["topic", "create", "t"][..], &config].concat(), "");
    let input = "eu-1:old\neu-2:two\nus-1:three\neu-1:new\n";
    node.ok(&["produce", "t", "--key-separator", ":"], input);
    assert_eq!(node.ok(&["get", "t", "eu-1"], ""), "new");
    let record: Value =
        serde_json::from_str(&node.ok(&["get", "t", "eu-1", "--json"], "")).unwrap();
    assert_eq!((&record["key"], &record["value"]), (&"eu-1".into(), &"new".into()));
    let offset = record["offset"].as_i64().unwrap();
    let before = (offset - 1).to_string();
    assert_eq!(node.ok(&["get", "t", "eu-1", "--at-offset", &before], ""), "old");
    let far = node.ok(&["get", "t", "eu-1", "--at-time", "2100-01-01T00:00:00Z"], "");
    assert_eq!(far, "new");
    let history = node.ok(&["get", "t", "eu-1", "--history"], "");
    let values: Vec<&str> = history.lines().map(|line| line.rsplit('\t').next().unwrap()).collect();
    assert_eq!(values, ["new", "old"]);
    assert_eq!(node.ok(&["get", "t", "eu-1", "--history", "1"], "").lines().count(), 1);
    let listed = node.ok(&["get", "t", "eu-", "--prefix", "--stale-ok"], "");
    let mut keys: Vec<&str> = listed.lines().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["eu-1\tnew", "eu-2\ttwo"]);
    assert_eq!(node.ok(&["get", "t", "", "--prefix", "--count", "2"], "").lines().count(), 2);
}

#[test]
fn get_ends_with_1_and_says_why_when_there_is_no_value() {
    let (_data, node) = node();
    node.ok(&["topic", "create", "t", "--config", "cleanup.policy=compact"], "");
    node.ok(&["topic", "create", "plain"], "");
    let partition = ["--partition", "0"];
    let cases: [(&[&str], &str); 5] = [
        (&["get", "t", "k"], "the key k is not in t-"),
        (&["get", "t", "k", "--history"], "the key k is not in t-"),
        (&["get", "t", "k", "--prefix"], "no key of t begins with k"),
        (&["get", "plain", "k"], "set jangbu.key.index=true, or cleanup.policy=compact"),
        (&["get", "nothing", "k"], "the topic nothing does not exist"),
    ];
    for (command, expected) in cases {
        let output = node.run(&[command, &partition].concat(), "");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]), "{error}");
        assert!(error.contains(expected), "{command:?}: {error}");
    }
}

#[test]
fn a_bad_row_names_its_line_and_what_came_before_is_written() {
    let (_data, node) = node();
    let input = "{\"a\":1}\n{\"a\":2}\noops\n";
    let output = node.run(&["produce", "t", "--format", "json"], input);
    assert_eq!(output.status.code(), Some(4));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("standard input:3: no JSON object"), "{error}");
    let read = node.ok(&["consume", "t", "--from-beginning"], "");
    let mut lines: Vec<&str> = read.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["{\"a\":1}", "{\"a\":2}"]);
}

#[test]
fn a_follower_shows_what_is_written_later_and_ends_quietly_when_nobody_reads() {
    let (_data, node) = node();
    node.ok(&["topic", "create", "t", "--partitions", "1"], "");
    node.ok(&["produce", "t"], "first\n");
    let mut follower = node.spawn(&["consume", "t", "--from-beginning", "--follow"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    node.ok(&["produce", "t"], "second\n");
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    drop(lines);
    node.ok(&["produce", "t"], "third\n");
    let output = follower.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*error), (Some(0), ""));
}

const ROWS: u64 = 40_000;

/// The producer's promise: a node that is killed in the middle costs nothing but time.
#[test]
fn a_node_killed_while_records_stream_in_loses_repeats_and_reorders_nothing() {
    let (data, mut node) = node();
    node.ok(&["topic", "create", "t", "--partitions", "4"], "");
    let args = ["produce", "t", "--key-separator", ":", "--rate", "20000", "--json"];
    let mut producer = node.spawn(&args);
    let input = producer.stdin.take().unwrap();
    let (half, reached) = mpsc::channel();
    let writing = std::thread::spawn(move || {
        rows::write(input, 0..ROWS, |row| {
            if row == ROWS / 2 {
                half.send(()).unwrap();
            }
        });
    });
    reached.recv().unwrap();
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    let node = Node::start(data.path(), &node.kafka);
    writing.join().unwrap();
    let output = producer.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["records"], &summary["failed"]), (&ROWS.into(), &0.into()));
    rows::check(&node.ok(&["consume", "t", "--from-beginning", "--format", "key-value"], ""), ROWS);
}

#[test]
fn a_node_killed_while_its_partitions_sleep_loses_nothing() {
    let data = TempDir::new().unwrap();
    let config = data.path().join("node.toml");
    std::fs::write(&config, "idle_ms = 20\n").unwrap();
    let store = data.path().join("store");
    let arguments = ["--config", config.to_str().unwrap(), "--memory", "32MiB"];
    let mut expected = Vec::new();
    for round in 0..3 {
        let mut node = Node::start_with(&store, "127.0.0.1:0", &arguments);
        if round == 0 {
            node.ok(&["topic", "create", "t", "--partitions", "3"], "");
        }
        for part in ["a", "b"] {
            let rows: Vec<String> = (0..30).map(|row| format!("{round}{part}{row}")).collect();
            node.ok(&["produce", "t"], &(rows.join("\n") + "\n"));
            expected.extend(rows);
            node.wait_until_asleep();
        }
        node.child.kill().unwrap();
        node.child.wait().unwrap();
    }
    let node = Node::start_with(&store, "127.0.0.1:0", &arguments);
    let text = node.ok(&["consume", "t", "--from-beginning"], "");
    let mut found: Vec<String> = text.lines().map(str::to_owned).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}
