//! What `/metrics` shows moves with what the node does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jangbu_server::{Config, Node};
use tempfile::tempdir;

use super::harness::{Client, NO_SEQUENCE, batch, config, http_get, start};

/// The samples of a node's page by name and labels, as they are written.
pub(crate) async fn samples(node: &Node) -> BTreeMap<String, f64> {
    let (status, page) = http_get(node, "/metrics").await;
    assert!(status.contains("200"), "{status}");
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Whole numbers are exact in an f64.
fn whole(samples: &BTreeMap<String, f64>, series: &str) -> i64 {
    let value = samples.get(series).unwrap_or_else(|| panic!("{series} is not in {samples:?}"));
    value.to_string().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_and_fetched_is_counted() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 3).await;
    let bytes = batch(&["a", "b"], NO_SEQUENCE);
    let length = i64::try_from(bytes.len()).unwrap();
    for _ in 0..3 {
        assert_eq!(client.produce("t", 0, bytes.clone()).await.error_code, 0);
    }
    assert_eq!(client.produce("t", 7, bytes.clone()).await.error_code, 3);
    client.fetch("t", 0, 1, Duration::ZERO).await;
    let now = samples(&node).await;
    for (series, value) in [
        ("jangbu_topics", 1),
        ("jangbu_partitions", 3),
        ("jangbu_connections_open", 1),
        ("jangbu_connections_accepted_total", 1),
        ("jangbu_produced_batches_total", 3),
        ("jangbu_produced_records_total", 6),
        ("jangbu_produced_bytes_total", 3 * length),
        ("jangbu_fetched_batches_total", 3),
        ("jangbu_fetched_bytes_total", 3 * length),
        ("jangbu_partition_reads_total{source=\"cache\"}", 1),
        ("jangbu_partition_reads_total{source=\"disk\"}", 0),
        ("jangbu_request_duration_seconds_count{api=\"Produce\"}", 4),
        ("jangbu_request_duration_seconds_count{api=\"Fetch\"}", 1),
        ("jangbu_request_errors_total{api=\"Produce\",error=\"UNKNOWN_TOPIC_OR_PARTITION\"}", 1),
        ("jangbu_request_bytes", 0),
        ("jangbu_engine_queue_bytes", 0),
        ("jangbu_engine_rocksdb_stalled", 0),
        ("jangbu_engine_rocksdb_errors", 0),
    ] {
        assert_eq!(whole(&now, series), value, "{series}");
    }
    let syncs = whole(&now, "jangbu_engine_sync_duration_seconds_count");
    let appends = whole(&now, "jangbu_engine_append_duration_seconds_count");
    assert!(syncs >= 3 && appends >= syncs, "{syncs} syncs, {appends} appends");
    assert!(now["jangbu_engine_sync_duration_seconds_sum"] > 0.0);
    assert!(whole(&now, "jangbu_engine_appended_bytes_total") > 3 * length);
    assert!(whole(&now, "jangbu_engine_wal_bytes") > 3 * length);
    assert!(whole(&now, "jangbu_engine_cache_bytes") > 3 * length);
    assert!(whole(&now, "jangbu_engine_memtable_bytes") > 3 * length);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_behind_the_cache_and_lost_connections_are_counted() {
    let dir = tempdir().unwrap();
    let node = Node::start(Config { cache_bytes: Some(0), ..config(dir.path()) }).await.unwrap();
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    client.produce("t", 0, batch(&["a"], NO_SEQUENCE)).await;
    client.produce("t", 0, batch(&["b"], NO_SEQUENCE)).await;
    client.fetch("t", 0, 1, Duration::ZERO).await;
    let mut bad = Client::connect(&node).await;
    bad.send_bytes(&[0xff; 4]).await;
    assert!(bad.receive_frame().await.is_none());
    let mut lost = Client::connect(&node).await;
    lost.send_bytes(&[0, 0]).await;
    drop(lost);
    let expected = BTreeMap::from([
        ("jangbu_partition_reads_total{source=\"disk\"}", 1),
        ("jangbu_connections_failed_total{reason=\"refused\"}", 1),
        ("jangbu_connections_failed_total{reason=\"lost\"}", 1),
        ("jangbu_connections_open", 1),
    ]);
    // A connection's end is seen by its own task, some time after the client has gone.
    let counted = async {
        loop {
            let now = samples(&node).await;
            if expected.iter().all(|(series, value)| whole(&now, series) == *value) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counted).await.expect("counted in the end");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_every_documented_metric_and_no_other() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let (_, page) = http_get(&node, "/metrics").await;
    let documented: BTreeSet<&str> = include_str!("../../../docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| !name.contains('{') && name.contains('_'))
        .collect();
    let typed = |line: &str| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned);
    let typed: Vec<String> = page.lines().filter_map(typed).collect();
    let told: BTreeSet<&str> = typed.iter().map(String::as_str).collect();
    assert_eq!(told.len(), typed.len(), "a metric is told once");
    assert!(told.is_subset(&documented), "{:?}", told.difference(&documented));
    let table =
        include_str!("../../../docs/metrics.md").split("<!-- metrics:end -->").next().unwrap();
    for name in &documented {
        if table.contains(&format!("| `{name}` |")) {
            assert!(told.contains(name), "{name} is documented and not shown");
        }
    }
    let mut seen = BTreeSet::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(series), "{series} is told twice");
        let name = series.split('{').next().unwrap();
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
        let family = of_histogram.filter(|name| told.contains(name)).unwrap_or(name);
        assert!(told.contains(family), "{series} has no TYPE");
    }
    node.shutdown().await;
}
