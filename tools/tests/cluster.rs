//! Three processes that are one cluster, and what is left when some of them are killed: everything acknowledged.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod nodes;
mod rows;

use std::sync::mpsc;

use jangbu_client::{BrokerId, Client, Config};
use nodes::Cluster;
use serde_json::Value;

const ROWS: u64 = 60_000;

#[test]
fn nodes_killed_one_after_the_other_while_records_stream_in_lose_repeat_and_reorder_nothing() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.ok(&["topic", "create", "t", "--partitions", "6", "--replication-factor", "3"]);
    let args = ["produce", "t", "--key-separator", ":", "--rate", "5000", "--json"];
    let mut producer = cluster.spawn_client(&args);
    let input = producer.stdin.take().unwrap();
    let (eighth, reached) = mpsc::channel();
    let writing = std::thread::spawn(move || {
        rows::write(input, 0..ROWS, |row| {
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
    let mut cluster = Cluster::start(3, &[]);
    cluster.ok(&["topic", "create", "t", "--partitions", "20", "--replication-factor", "3"]);
    let mut producer = cluster.spawn_client(&["produce", "t", "--key-separator", ":"]);
    rows::write(producer.stdin.take().unwrap(), 0..ROWS, |_| {});
    let output = producer.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for at in 0..3 {
        cluster.kill(at);
    }
    cluster.start_all();
    rows::check(&cluster.ok(&["consume", "t", "--from-beginning", "--format", "key-value"]), ROWS);
}

#[tokio::test]
async fn nobody_is_sent_to_a_leader_that_was_just_killed() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.ok(&["topic", "create", "t", "--partitions", "30", "--replication-factor", "3"]);
    let brokers = cluster.brokers();
    for at in 0..3 {
        let killed = BrokerId(i32::try_from(at + 1).unwrap());
        // Connected before, so that it asks as soon as the node is gone.
        let client = Client::connect(Config::for_brokers(&brokers)).await.unwrap();
        let led = async || {
            let topic = client.topic("t").await.unwrap();
            topic.partitions.iter().filter(|partition| partition.leader == Some(killed)).count()
        };
        while led().await == 0 {} // until leadership is back where it is preferred
        cluster.kill(at);
        for _ in 0..5 {
            assert_eq!(led().await, 0, "clients are told that node {killed:?} leads");
        }
        cluster.restart(at);
    }
}
