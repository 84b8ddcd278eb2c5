//! What this node counts, by name; `/metrics` shows it in Prometheus' format.

use std::sync::LazyLock;

use jangbu_engine::batch::Header;
use metrics::{Counter, counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::broker::Broker;

/// One recorder for the process: several nodes in one process (tests) share it.
static RECORDER: LazyLock<PrometheusHandle> = LazyLock::new(install);

struct Hot {
    batches: Counter,
    records: Counter,
    bytes: Counter,
    fetched: Counter,
}

static HOT: LazyLock<Hot> = LazyLock::new(|| {
    LazyLock::force(&RECORDER);
    Hot {
        batches: counter!("jangbu_produced_batches_total"),
        records: counter!("jangbu_produced_records_total"),
        bytes: counter!("jangbu_produced_bytes_total"),
        fetched: counter!("jangbu_fetched_bytes_total"),
    }
});

fn install() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed; /metrics will be empty");
    }
    describe_counter!("jangbu_produced_batches_total", "Record batches taken in.");
    describe_counter!("jangbu_produced_records_total", "Records taken in.");
    describe_counter!("jangbu_produced_bytes_total", "Bytes of record batches taken in.");
    describe_counter!("jangbu_fetched_bytes_total", "Bytes of record batches sent to consumers.");
    describe_counter!("jangbu_connections_refused_total", "Connections over the limit.");
    describe_gauge!("jangbu_connections_open", "Client connections that are open.");
    describe_gauge!("jangbu_partitions", "Partitions that run on this node.");
    describe_gauge!("jangbu_topics", "Topics of the cluster.");
    describe_gauge!("jangbu_fetch_sessions", "Fetch sessions that are remembered (KIP-227).");
    describe_gauge!("jangbu_engine_cache_bytes", "Bytes in the tail cache.");
    describe_gauge!("jangbu_engine_queued_bytes", "Bytes accepted and not yet durable.");
    describe_gauge!("jangbu_engine_buckets", "Buckets that exist.");
    describe_counter!("jangbu_engine_write_groups_total", "Write groups written.");
    describe_counter!("jangbu_engine_syncs_total", "Syncs of the write-ahead log.");
    describe_counter!("jangbu_engine_sync_microseconds_total", "Time spent in syncs.");
    describe_counter!("jangbu_engine_appended_bytes_total", "Payload bytes appended.");
    handle
}

/// Makes the recorder ready before anything counts.
pub(crate) fn init() {
    LazyLock::force(&HOT);
}

/// Counts a batch that was taken in.
pub(crate) fn produced(header: &Header, bytes: usize) {
    HOT.batches.increment(1);
    HOT.records.increment(u64::try_from(header.record_count).unwrap_or(0));
    HOT.bytes.increment(bytes as u64);
}

/// Counts bytes sent to a consumer.
pub(crate) fn fetched(bytes: usize) {
    HOT.fetched.increment(bytes as u64);
}

/// All metrics in Prometheus' text format.
pub(crate) fn render(broker: &Broker) -> String {
    let stats = broker.engine.stats();
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 53 bits are enough")]
    let set = |name: &'static str, value: usize| gauge!(name).set(value as f64);
    set("jangbu_partitions", broker.replicas.count());
    set("jangbu_topics", broker.controller.image().topics().count());
    set("jangbu_fetch_sessions", broker.sessions.stats().sessions);
    set("jangbu_engine_cache_bytes", stats.cache_bytes);
    set("jangbu_engine_queued_bytes", stats.queued_bytes);
    set("jangbu_engine_buckets", stats.buckets);
    counter!("jangbu_engine_write_groups_total").absolute(stats.write_groups);
    counter!("jangbu_engine_syncs_total").absolute(stats.syncs);
    counter!("jangbu_engine_sync_microseconds_total").absolute(stats.sync_micros);
    counter!("jangbu_engine_appended_bytes_total").absolute(stats.appended_bytes);
    RECORDER.render()
}
