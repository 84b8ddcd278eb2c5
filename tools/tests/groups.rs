//! `jangbu group` against a node that is a process: what is committed, how far that is from the ends, and changing it.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod member;
#[expect(dead_code, reason = "other tests kill and restart nodes")]
mod nodes;

use std::io::{BufRead, BufReader, Write};
use std::process::Output;

use member::Member;
use nodes::Cluster;
use serde_json::{Value, json};

/// A node with topic `t`: partition 0 holds 10 records, partition 1 holds 4.
fn node() -> Cluster {
    let node = Cluster::start(1, &[]);
    node.ok(&["topic", "create", "t", "--partitions", "2"]);
    for (partition, count) in [("0", 10), ("1", 4)] {
        let mut producer = node.spawn_client(&["produce", "t", "--partition", partition]);
        let rows: String = (0..count).map(|row| format!("row {row}\n")).collect();
        producer.stdin.take().unwrap().write_all(rows.as_bytes()).unwrap();
        assert!(producer.wait_with_output().unwrap().status.success());
    }
    node
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Committed and lag of each partition.
fn described(node: &Cluster, group: &str) -> Vec<(i64, i64)> {
    let group = &lines(&node.ok(&["group", "describe", group, "--json"]))[0];
    let of = |row: &Value| (row["committed"].as_i64().unwrap(), row["lag"].as_i64().unwrap());
    group["partitions"].as_array().unwrap().iter().map(of).collect()
}

/// Resets all topics of `g` and returns what is committed then.
fn reset(node: &Cluster, to: &[&str]) -> Vec<i64> {
    node.ok(&[&["group", "reset", "g", "--all-topics"], to].concat());
    described(node, "g").into_iter().map(|(committed, _)| committed).collect()
}

fn assert_refused(output: &Output, expected: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]), "{error}");
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_group_is_made_listed_described_and_deleted() {
    let node = node();
    assert_eq!(node.ok(&["group", "list"]), "");
    node.ok(&["group", "reset", "g", "--topic", "t", "--to-offset", "3"]);
    let listed = lines(&node.ok(&["group", "list", "--json"]));
    let expected = json!({
        "group": "g", "type": "classic", "state": "Empty", "protocol": "", "coordinator": 1
    });
    assert_eq!(listed, [expected]);
    assert_eq!(described(&node, "g"), [(3, 7), (3, 1)]);
    let text = node.ok(&["group", "describe", "g"]);
    let mut rows = text.lines();
    assert_eq!(rows.next(), Some("g: Empty (classic), 0 members, coordinator 1, lag 8"));
    let cells: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().collect()).collect();
    let header = ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST"];
    assert_eq!(cells[0], header);
    assert_eq!(cells[1], ["t", "0", "3", "10", "7", "-", "-"]);

    node.ok(&["group", "delete", "g", "--topic", "t:1"]);
    assert_eq!(described(&node, "g"), [(3, 7)]);
    node.ok(&["group", "delete", "g"]);
    assert_eq!(node.ok(&["group", "list", "--json"]), "");
    for command in [&["group", "describe", "g"], &["group", "delete", "g"]] {
        assert_refused(&node.run(command), "there is no group g");
    }
}

#[test]
fn a_reset_goes_where_it_is_told_and_stays_inside_what_is_there() {
    let node = node();
    node.ok(&["group", "reset", "g", "--topic", "t", "--to-latest"]);
    assert_eq!(described(&node, "g"), [(10, 0), (4, 0)]);
    assert_eq!(reset(&node, &["--shift-by", "-3"]), [7, 1]);
    assert_eq!(reset(&node, &["--shift-by", "2"]), [9, 3]);
    assert_eq!(reset(&node, &["--shift-by", "-5"]), [4, 0]);
    assert_eq!(reset(&node, &["--to-current"]), [4, 0]);
    assert_eq!(reset(&node, &["--to-offset", "6"]), [6, 4]);
    assert_eq!(reset(&node, &["--to-earliest"]), [0, 0]);
    assert_eq!(reset(&node, &["--to-datetime", "2100-01-01T00:00:00Z"]), [10, 4]);
    assert_eq!(reset(&node, &["--to-datetime", "2001-01-01T00:00:00Z"]), [0, 0]);
    assert_eq!(reset(&node, &["--by-duration", "0"]), [10, 4]);
    assert_eq!(reset(&node, &["--by-duration", "1d"]), [0, 0]);
    node.ok(&["group", "reset", "g", "--topic", "t:1", "--to-latest"]);
    assert_eq!(described(&node, "g"), [(0, 10), (4, 0)]);
}

#[test]
fn a_dry_run_shows_what_would_change_and_changes_nothing() {
    let node = node();
    node.ok(&["group", "reset", "g", "--topic", "t", "--to-offset", "2"]);
    let args = ["group", "reset", "g", "--all-topics", "--to-latest", "--dry-run"];
    let shown = lines(&node.ok(&[&args[..], &["--json"]].concat()));
    let change = |partition: i32, after: i64| {
        json!({
            "group": "g", "topic": "t", "partition": partition, "before": 2, "after": after,
            "dry_run": true,
        })
    };
    assert_eq!(shown, [change(0, 10), change(1, 4)]);
    let text = node.ok(&args);
    let cells: Vec<Vec<&str>> = text.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(cells[1], ["t", "0", "2", "10", "+8"]);
    assert_eq!(described(&node, "g"), [(2, 8), (2, 2)]);
}

#[test]
fn what_cannot_be_reset_is_refused_with_the_reason() {
    let node = node();
    let cases: [(&[&str], &str); 4] = [
        (&["--topic", "nothing", "--to-latest"], "the topic nothing does not exist"),
        (&["--topic", "t:2", "--to-latest"], "the topic t has no partition 2"),
        (&["--all-topics", "--to-latest"], "the group g has committed nothing"),
        (&["--topic", "t", "--shift-by", "1"], "has committed nothing of t-0"),
    ];
    for (args, expected) in cases {
        assert_refused(&node.run(&[&["group", "reset", "g"], args].concat()), expected);
    }
    assert_eq!(node.ok(&["group", "list"]), "");
}

#[test]
fn a_group_with_members_tells_who_reads_what_and_is_left_alone() {
    let node = node();
    node.ok(&["group", "reset", "g", "--topic", "t", "--to-offset", "1"]);
    let member = Member::join(&node.brokers(), "g", "t", &[1]);
    let group = &lines(&node.ok(&["group", "describe", "g", "--json"]))[0];
    assert_eq!((&group["state"], &group["assignor"]), (&json!("Stable"), &json!("range")));
    assert_eq!(group["lag"], 12);
    let one = &group["members"][0];
    assert_eq!((&one["client"], &one["host"]), (&json!("tester"), &json!("127.0.0.1")));
    assert_eq!(one["partitions"], 1);
    let readers: Vec<&Value> =
        group["partitions"].as_array().unwrap().iter().map(|row| &row["member"]).collect();
    assert_eq!(readers, [&Value::Null, &one["member"]]);

    let reset = ["group", "reset", "g", "--topic", "t", "--to-latest"];
    assert_refused(&node.run(&reset), "the group g is Stable and has 1 members");
    assert_refused(&node.run(&["group", "delete", "g"]), "somebody is in the group g");
    assert_eq!(described(&node, "g"), [(1, 9), (1, 3)]);
    member.leave();
    node.ok(&reset);
    assert_eq!(described(&node, "g"), [(10, 0), (4, 0)]);
}

#[test]
fn watching_shows_a_group_again_and_ends_quietly_when_nobody_reads() {
    let node = node();
    node.ok(&["group", "reset", "g", "--topic", "t", "--to-earliest"]);
    let mut watch = node.spawn_client(&["group", "describe", "g", "--watch=1", "--json"]);
    let mut shown = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut lag = || lines(&shown.next().unwrap().unwrap())[0]["lag"].as_i64().unwrap();
    assert_eq!(lag(), 14);
    node.ok(&["group", "reset", "g", "--topic", "t", "--to-latest"]);
    while lag() != 0 {}
    drop(shown);
    let output = watch.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*error), (Some(0), ""));
}
