//! `jangbu bench` against a node that runs as a process, and against the engine.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[allow(dead_code, reason = "no node is killed here")]
#[path = "nodes/mod.rs"]
mod nodes;

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use nodes::Cluster;

/// Runs it against a cluster, as short as can be, and returns what it printed as JSON.
fn bench(cluster: &Cluster, args: &[&str]) -> Value {
    let short = ["--seconds", "1", "--warm-up", "0", "--json"];
    let printed = cluster.ok(&[&["bench"], args, &short].concat());
    serde_json::from_str(&printed).unwrap()
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} of {value:#}"))
}

#[test]
fn each_load_is_measured_and_leaves_no_topic() {
    let cluster = Cluster::start(1, &[]);
    let produced = bench(&cluster, &["produce", "--partitions", "3", "--rounds", "2"]);
    let rounds = produced["sides"][0]["runs"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    for run in rounds {
        assert!(number(run, "/mb_per_s") > 0.0);
        assert!(number(run, "/client_cpu_s_per_gb") > 0.0);
        assert!(run["acknowledged"].is_null(), "there is no rate, so nothing is due: {run}");
    }

    let consumed = bench(
        &cluster,
        &["consume", "--bytes", "3MiB", "--size", "100", "--keys", "50", "--rounds", "1"],
    );
    assert_eq!(consumed["sides"][0]["runs"][0]["records"], (3 << 20) / 100);

    for what in ["latency", "mixed"] {
        let told = bench(&cluster, &[what, "--rate", "500", "--partitions", "2", "--rounds", "1"]);
        let run = &told["sides"][0]["runs"][0];
        // What was due in the second that was measured, each of them answered and read.
        assert_eq!(run["acknowledged"]["count"], 500, "{run:#}");
        assert_eq!(run["end_to_end"]["count"], 500, "{run:#}");
        assert!(number(run, "/acknowledged/p99_ms") >= number(run, "/acknowledged/p50_ms"));
    }
    assert_eq!(cluster.ok(&["topic", "list", "--json"]), "");
}

#[test]
fn two_sides_are_compared_and_a_page_shows_both() {
    let cluster = Cluster::start(1, &[]);
    let dir = TempDir::new().unwrap();
    let page = dir.path().join("page.html");
    let brokers = cluster.brokers();
    let args = [
        "latency",
        "--rate",
        "200",
        "--rounds",
        "2",
        "--against",
        &brokers,
        "--names",
        "one,<other>",
        "--report",
        page.to_str().unwrap(),
    ];
    let told = bench(&cluster, &args);
    let names: Vec<&str> = told["sides"]
        .as_array()
        .unwrap()
        .iter()
        .map(|side| side["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["one", "<other>"]);
    assert!(number(&told, "/figures/0/ratio") > 0.0);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(
        page.contains("one : &lt;other&gt;") && page.contains("<td>acknowledged p99, ms</td>"),
        "{page}"
    );
    assert_eq!(page.matches("<svg").count(), 3, "throughput and two latencies");
}

#[test]
fn what_a_broker_refuses_ends_it_and_names_the_side() {
    let cluster = Cluster::start(1, &[]);
    let args = [
        "bench",
        "produce",
        "--seconds",
        "1",
        "--names",
        "mine",
        "--config",
        "max.message.bytes=100",
    ];
    let output = cluster.run(&args);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("measuring mine in round 1"), "{error}");
    let output = cluster.run(&["bench", "produce", "--pid", "0"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("process 0"));
}

#[test]
fn the_engine_alone_is_measured_and_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_jangbu"))
        .args([
            "bench",
            "engine",
            "--partitions",
            "10",
            "--bytes",
            "1MiB",
            "--rounds",
            "1",
            "--json",
        ])
        .arg(dir.path())
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let passes = told["passes"].as_array().unwrap();
    assert_eq!(passes.len(), 4);
    for pass in passes {
        assert!(number(pass, "/mb_per_s/0") > 0.0);
    }
    assert!(number(&passes[0], "/written_per_byte/0") >= 1.0, "what is appended is written");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
