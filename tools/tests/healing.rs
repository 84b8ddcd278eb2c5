//! Four processes that are one cluster: replicas of a killed one are rebuilt, a broker is drained, and whoever is killed
//! while partitions move, they end where they were or where they were going, with everything acknowledged.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod nodes;
mod rows;

use std::ops::Range;
use std::process::Child;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nodes::Cluster;
use serde_json::{Value, json};

const READ: [&str; 5] = ["consume", "t", "--from-beginning", "--format", "key-value"];
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks again and again until there is what was waited for.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What `jangbu cluster status` tells; `None` while nobody answers.
fn status(cluster: &Cluster) -> Option<Value> {
    let output = cluster.run(&["cluster", "status", "--json"]);
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// The same of one broker.
fn broker(status: &Value, id: usize) -> Value {
    let brokers = status["brokers"].as_array().unwrap();
    brokers.iter().find(|broker| broker["id"] == id).unwrap().clone()
}

/// Waits until nothing moves and no replica is missing.
fn settled(cluster: &Cluster) -> Value {
    until("nothing is missing and nothing moves", || {
        let status = status(cluster)?;
        let whole = status["under_replicated"] == 0 && status["leaderless"] == 0;
        (whole && status["moving"] == 0).then_some(status)
    })
}

/// Rows that are streamed in while the test does its harm.
struct Load {
    count: u64,
    writing: JoinHandle<()>,
    producer: Child,
}

impl Load {
    fn begin(cluster: &Cluster, rows: Range<u64>, rate: &str) -> Self {
        let args = ["produce", "t", "--key-separator", ":", "--rate", rate, "--json"];
        let mut producer = cluster.spawn_client(&args);
        let input = producer.stdin.take().unwrap();
        let count = rows.end - rows.start;
        let writing = std::thread::spawn(move || rows::write(input, rows, |_| {}));
        Self { count, writing, producer }
    }

    /// Waits until all rows are acknowledged.
    fn end(self) {
        self.writing.join().unwrap();
        let output = self.producer.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&summary["records"], &summary["failed"]), (&self.count.into(), &0.into()));
    }
}

const ROWS: u64 = 40_000;

#[test]
fn replicas_of_a_killed_node_are_rebuilt_and_it_is_of_use_when_it_comes_back() {
    let mut cluster = Cluster::start(4, &["--heal-after", "3s"]);
    cluster.ok(&["topic", "create", "t", "--partitions", "12", "--replication-factor", "3"]);
    let load = Load::begin(&cluster, 0..ROWS, "5000");
    let before = broker(&settled(&cluster), 4)["replicas"].as_u64().unwrap();
    assert!(before > 0, "it holds something that can be lost");
    cluster.kill(3);
    until("nothing is left on the killed node", || {
        let status = status(&cluster)?;
        (status["dead"] == json!([4]) && broker(&status, 4)["replicas"] == 0).then_some(())
    });
    settled(&cluster);
    load.end();
    rows::check(&cluster.ok(&READ), ROWS);
    // What was rebuilt is all there: a second node may fail.
    cluster.kill(0);
    rows::check(&cluster.ok(&READ), ROWS);
    cluster.restart(0);
    // The first one has nothing that counts any more, and takes its share again.
    cluster.restart(3);
    until("it is alive", || (status(&cluster)?["dead"] == json!([])).then_some(()));
    settled(&cluster);
    cluster.ok(&["cluster", "add", "4"]);
    assert!(broker(&settled(&cluster), 4)["replicas"].as_u64().unwrap() > 0);
    cluster.kill(1);
    rows::check(&cluster.ok(&READ), ROWS);
}

#[test]
fn a_node_that_comes_back_in_time_keeps_what_it_had() {
    let mut cluster = Cluster::start(4, &["--heal-after", "1h"]);
    cluster.ok(&["topic", "create", "t", "--partitions", "4", "--replication-factor", "3"]);
    let before = broker(&settled(&cluster), 4)["replicas"].clone();
    cluster.kill(3);
    until("it counts as dead", || (status(&cluster)?["dead"] == json!([4])).then_some(()));
    cluster.restart(3);
    assert_eq!(broker(&settled(&cluster), 4)["replicas"], before);
}

#[test]
fn a_broker_that_drains_gets_nothing_and_leads_nothing_until_it_is_cancelled() {
    let mut cluster = Cluster::start(4, &["--heal-after", "0"]);
    cluster.ok(&["topic", "create", "t", "--partitions", "8", "--replication-factor", "3"]);
    let load = Load::begin(&cluster, 0..ROWS, "8000");
    cluster.ok(&["cluster", "drain", "2"]);
    let drained = |status: &Value| {
        let two = broker(status, 2);
        (two["draining"].clone(), two["replicas"].clone(), two["leads"].clone())
    };
    assert_eq!(drained(&settled(&cluster)), (true.into(), 0.into(), 0.into()));
    cluster.ok(&["topic", "create", "later", "--partitions", "8", "--replication-factor", "3"]);
    cluster.kill(1);
    cluster.restart(1);
    until("it is alive", || (status(&cluster)?["dead"] == json!([])).then_some(()));
    assert_eq!(drained(&settled(&cluster)), (true.into(), 0.into(), 0.into()), "also restarted");
    let refused = cluster.run(&["cluster", "drain", "3"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("add a broker first"), "{why}");
    assert_eq!(broker(&status(&cluster).unwrap(), 3)["draining"], false, "nothing was begun");
    cluster.ok(&["cluster", "drain", "2", "--cancel"]);
    assert_eq!(drained(&settled(&cluster)), (false.into(), 0.into(), 0.into()));
    cluster.ok(&["cluster", "add", "2"]);
    assert!(broker(&settled(&cluster), 2)["replicas"].as_u64().unwrap() > 0);
    let refused = cluster.run(&["cluster", "remove", "2"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("cluster drain 2"), "{why}");
    load.end();
    // A dead one is removed with all it has: that is rebuilt first.
    cluster.kill(1);
    until("it counts as dead", || (status(&cluster)?["dead"] == json!([2])).then_some(()));
    cluster.ok(&["cluster", "remove", "2"]);
    let status = settled(&cluster);
    assert!(status["brokers"].as_array().unwrap().iter().all(|broker| broker["id"] != 2));
    rows::check(&cluster.ok(&READ), ROWS);
}

/// Whom to kill while partitions move.
#[derive(Debug, Clone, Copy)]
enum Victim {
    /// The leader of a partition that moves.
    Leader,
    /// The broker that is being added.
    Added,
    /// The leader of the metadata.
    Controller,
}

/// When to kill it.
#[derive(Debug, Clone, Copy)]
enum When {
    /// As soon as the moves are asked for.
    AtOnce,
    /// While entries are being copied.
    Copying,
    /// When some of the partitions have moved.
    SomeDone,
}

impl When {
    fn has_come(self, status: &Value) -> bool {
        let moves = status["moves"].as_array().unwrap();
        let copied = |m: &Value| m["adding"][0]["bytes"].as_u64().is_some_and(|bytes| bytes > 0);
        match self {
            Self::AtOnce => true,
            Self::Copying => moves.len() < PARTITIONS || moves.iter().any(copied),
            Self::SomeDone => moves.len() < PARTITIONS,
        }
    }
}

const PARTITIONS: usize = 4;

/// The brokers of each partition, in any order, and who leads the first.
fn placed(
    client: &jangbu_client::Client,
    run: &tokio::runtime::Runtime,
) -> Option<(Vec<Vec<i32>>, i32)> {
    let topic = run.block_on(client.topic("t")).ok()?;
    let ids = |p: &jangbu_client::Partition| {
        let mut ids: Vec<i32> = p.replicas.iter().map(|id| id.0).collect();
        ids.sort_unstable();
        ids
    };
    Some((topic.partitions.iter().map(ids).collect(), topic.partitions[0].leader?.0))
}

#[test]
fn whoever_is_killed_while_partitions_move_they_end_in_one_of_both_places_with_every_record() {
    use Victim::{Added, Controller, Leader};
    use When::{AtOnce, Copying, SomeDone};
    // So slow that moves are still under way when somebody is killed.
    let mut cluster = Cluster::start(4, &["--heal-after", "0", "--catch-up-rate", "512KiB"]);
    let partitions = PARTITIONS.to_string();
    cluster.ok(&["topic", "create", "t", "--partitions", &partitions, "--replication-factor", "3"]);
    settled(&cluster);
    let run = tokio::runtime::Runtime::new().unwrap();
    let config = jangbu_client::Config::for_brokers(&cluster.brokers());
    let client = run.block_on(jangbu_client::Client::connect(config)).unwrap();
    let mut on = vec![1, 2, 3];
    move_to(&client, &run, Some(&on));
    settled(&cluster);
    let (stored, rows) = (200_000, 300_000);
    Load::begin(&cluster, 0..stored, "1000000").end();
    let load = Load::begin(&cluster, stored..rows, "4000");
    let rounds = [
        (Leader, AtOnce),
        (Added, Copying),
        (Controller, Copying),
        (Leader, Copying),
        (Controller, SomeDone),
        (Added, AtOnce),
    ];
    for (round, (victim, when)) in rounds.into_iter().enumerate() {
        let added = (1..=4).find(|id| !on.contains(id)).unwrap();
        let mut target = on.clone();
        target[round % 3] = added;
        move_to(&client, &run, Some(&target));
        let status = until("the time to kill", || status(&cluster).filter(|s| when.has_come(s)));
        let killed = match victim {
            Leader => until("a leader", || placed(&client, &run)).1,
            Added => added,
            Controller => i32::try_from(status["controller"].as_i64().unwrap()).unwrap(),
        };
        let at = usize::try_from(killed).unwrap() - 1;
        cluster.kill(at);
        // The last move is turned back while its new replica is dead.
        let cancelled = round == rounds.len() - 1;
        if cancelled {
            move_to(&client, &run, None);
        }
        cluster.restart(at);
        settled(&cluster);
        let (replicas, _) = until("the placement", || placed(&client, &run));
        on.sort_unstable();
        target.sort_unstable();
        for replicas in &replicas {
            assert!(*replicas == on || *replicas == target, "{victim:?} {when:?}: {replicas:?}");
            assert!(cancelled || *replicas == target, "the move goes on by itself: {replicas:?}");
        }
        on = replicas[0].clone();
    }
    load.end();
    rows::check(&cluster.ok(&READ), rows);
    for at in 0..4 {
        cluster.kill(at);
        rows::check(&cluster.ok(&READ), rows);
        cluster.restart(at);
    }
}

/// Begins to move all partitions there, or turns their moves back.
fn move_to(client: &jangbu_client::Client, run: &tokio::runtime::Runtime, to: Option<&[i32]>) {
    let to = to.map(|ids| ids.iter().map(|id| jangbu_client::BrokerId(*id)).collect::<Vec<_>>());
    for partition in 0..i32::try_from(PARTITIONS).unwrap() {
        let wanted = jangbu_client::Move { topic: "t".to_owned(), partition, to: to.clone() };
        let moved = run.block_on(client.move_partitions(&[wanted]));
        // One that has arrived already cannot be turned back.
        assert!(moved.is_ok() || to.is_none(), "{moved:?}");
    }
}
