//! Every metric: its name, its type, what it means, and where its number comes from.
//!
//! The table of `docs/metrics.md` is made from this one, and the dashboard in `docs/grafana` may name
//! nothing else. To add a metric: a line here, and what the test then asks for in the page.

use std::collections::BTreeMap;

use super::page::{Kind, Page, plain, seconds};
use super::{LookupResult, Sources, index};
use crate::broker::{Broker, now_ms};
use crate::codes;
use crate::controller::TopicPartition;
use crate::dispatch::APIS;
use crate::quotas::Kind as Quota;

/// One metric.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) collect: fn(&Sources<'_>, &mut Page),
}

/// Every metric, in the order of the page.
pub(super) static FAMILIES: &[Family] = &[
    gauge("jangbu_build_info", "1; the version is a label.", |_, page| {
        page.labelled(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    }),
    // Requests and connections.
    histogram(
        "jangbu_request_duration_seconds",
        "From a whole request to its whole answer, by API; fetches that wait for records included.",
        |from, page| {
            for api in APIS {
                if let Some(Some(histogram)) = from.metrics.durations.get(index(api.key)) {
                    let name = format!("{:?}", api.key);
                    page.histogram(&[("api", &name)], &histogram.snapshot(), seconds);
                }
            }
        },
    ),
    counter(
        "jangbu_request_errors_total",
        "Errors in answers, by API and Kafka's name of the error; one for each partition or topic.",
        request_errors,
    ),
    gauge(
        "jangbu_request_bytes",
        "Bytes of requests taken in and not yet answered.",
        |from, page| {
            page.value(from.broker.admission.taken_bytes() as u64);
        },
    ),
    gauge(
        "jangbu_request_limit_bytes",
        "The bound of jangbu_request_bytes; sockets are not read beyond it.",
        |from, page| page.value(from.broker.admission.bytes_max() as u64),
    ),
    counter(
        "jangbu_requests_throttled_total",
        "Requests that waited in their socket because that bound was reached.",
        |from, page| page.value(from.metrics.throttled_requests.get()),
    ),
    counter(
        "jangbu_requests_throttled_seconds_total",
        "Time that they waited, over all connections.",
        |from, page| page.seconds(from.metrics.throttled_nanos.get()),
    ),
    counter(
        "jangbu_quota_throttled_total",
        "Times that a client had taken more than its quota, by quota: produce, fetch, request.",
        |from, page| {
            for (kind, label) in Quota::ALL {
                page.labelled(&[("quota", label)], from.broker.quotas.throttled(kind).0);
            }
        },
    ),
    counter(
        "jangbu_quota_throttled_seconds_total",
        "Time for which connections of such clients were not to be read, by quota.",
        |from, page| {
            for (kind, label) in Quota::ALL {
                let nanos = from.broker.quotas.throttled(kind).1;
                page.labelled(&[("quota", label)], seconds(nanos));
            }
        },
    ),
    gauge(
        "jangbu_answer_bytes",
        "Bytes of records that fetches are reading, or have read and their clients have not taken.",
        |from, page| page.value(from.broker.answers.taken_bytes() as u64),
    ),
    gauge(
        "jangbu_answer_limit_bytes",
        "The bound of jangbu_answer_bytes; fetches wait beyond it.",
        |from, page| page.value(from.broker.answers.bytes_max() as u64),
    ),
    gauge("jangbu_connections_open", "Client connections that are open.", |from, page| {
        page.value(from.metrics.connections_open.get());
    }),
    counter("jangbu_connections_accepted_total", "Client connections accepted.", |from, page| {
        page.value(from.metrics.connections_accepted.get());
    }),
    counter(
        "jangbu_connections_refused_total",
        "Client connections closed at once, because connections_max was reached.",
        |from, page| page.value(from.metrics.connections_refused.get()),
    ),
    counter(
        "jangbu_connections_failed_total",
        "Connections that ended before their client closed them, by reason: lost, refused (no \
         request, or one that is not supported), slow (a large request did not arrive, or an answer was not taken, in time).",
        |from, page| {
            for (reason, counter) in [
                ("lost", &from.metrics.connections_lost),
                ("refused", &from.metrics.connections_bad),
                ("slow", &from.metrics.connections_slow),
            ] {
                page.labelled(&[("reason", reason)], counter.get());
            }
        },
    ),
    // What goes in and out.
    counter("jangbu_produced_batches_total", "Record batches taken in.", |from, page| {
        page.value(from.metrics.produced_batches.get());
    }),
    counter("jangbu_produced_records_total", "Records taken in.", |from, page| {
        page.value(from.metrics.produced_records.get());
    }),
    counter("jangbu_produced_bytes_total", "Bytes of record batches taken in.", |from, page| {
        page.value(from.metrics.produced_bytes.get());
    }),
    counter("jangbu_fetched_batches_total", "Record batches sent to consumers.", |from, page| {
        page.value(from.metrics.fetched_batches.get());
    }),
    counter("jangbu_fetched_bytes_total", "Bytes of them.", |from, page| {
        page.value(from.metrics.fetched_bytes.get());
    }),
    counter(
        "jangbu_partition_reads_total",
        "Reads of one partition for a consumer, by source: cache (the newest batches, in memory) \
         or disk (RocksDB).",
        |from, page| {
            page.labelled(&[("source", "cache")], from.metrics.cached_reads.get());
            page.labelled(&[("source", "disk")], from.metrics.disk_reads.get());
        },
    ),
    // Compaction.
    gauge(
        "jangbu_compaction_dirty_ratio",
        "Share of bytes that are not cleaned yet, 0 to 1, of the dirtiest compacted partition here; cleaning begins above min.cleanable.dirty.ratio.",
        |from, page| page.labelled(&[], from.broker.compaction.seen().dirty_ratio),
    ),
    gauge(
        "jangbu_compaction_dirty_bytes",
        "Bytes of compacted partitions that are to be cleaned, at the last look.",
        |from, page| page.value(from.broker.compaction.seen().dirty_bytes),
    ),
    gauge(
        "jangbu_compaction_settled_bytes",
        "Bytes of compacted partitions that were cleaned, at the last look.",
        |from, page| page.value(from.broker.compaction.seen().settled_bytes),
    ),
    gauge(
        "jangbu_compaction_superseded_records",
        "Records of those that have been superseded since, or are tombstones whose time has not come, at the last look.",
        |from, page| page.value(from.broker.compaction.seen().superseded),
    ),
    gauge(
        "jangbu_compaction_oldest_dirty_seconds",
        "Age of the oldest record that is to be cleaned; 0 when there is none.",
        |from, page| {
            let oldest = from.broker.compaction.seen().oldest_dirty_ms;
            let age_ms = oldest.map_or(0, |at| now_ms().saturating_sub(at).max(0));
            page.seconds(u64::try_from(age_ms).unwrap_or(0).saturating_mul(1_000_000));
        },
    ),
    counter(
        "jangbu_compaction_read_bytes_total",
        "Bytes of batches that cleaning read.",
        |from, page| {
            page.value(from.broker.compaction.counts().read_bytes);
        },
    ),
    counter(
        "jangbu_compaction_written_bytes_total",
        "Bytes of batches that cleaning wrote; what it read beyond them is gone.",
        |from, page| page.value(from.broker.compaction.counts().written_bytes),
    ),
    counter(
        "jangbu_compaction_removed_records_total",
        "Records that cleaning took away.",
        |from, page| {
            page.value(from.broker.compaction.counts().removed);
        },
    ),
    counter(
        "jangbu_compaction_passes_total",
        "Times that a partition was cleaned from end to end.",
        |from, page| {
            page.value(from.broker.compaction.counts().passes);
        },
    ),
    counter(
        "jangbu_compaction_errors_total",
        "Times that a partition could not be cleaned; /readyz names it.",
        |from, page| page.value(from.broker.compaction.counts().errors),
    ),
    gauge(
        "jangbu_compaction_failing_partitions",
        "Partitions that could not be cleaned when that was tried last; they keep everything that is written to them.",
        |from, page| page.value(from.broker.compaction.counts().failing),
    ),
    gauge(
        "jangbu_compaction_last_pass_timestamp_seconds",
        "When a partition was cleaned last, seconds since 1970; 0 when none was since the start.",
        |from, page| {
            let last_ms = from.broker.compaction.counts().last_ms.unwrap_or(0);
            page.seconds(u64::try_from(last_ms).unwrap_or(0).saturating_mul(1_000_000));
        },
    ),
    counter(
        "jangbu_compaction_transferred_bytes_total",
        "Bytes of cleaned batches sent to replicas that were added, or that lagged behind what the log still has entries of.",
        |from, page| page.value(from.broker.replicas.network().settled_bytes()),
    ),
    gauge(
        "jangbu_key_index_building_partitions",
        "Partitions whose older records are being entered in their key index.",
        |from, page| page.value(from.broker.compaction.counts().building),
    ),
    gauge("jangbu_topics", "Topics of the cluster.", |from, page| {
        page.value(from.broker.controller.image().topics().count() as u64);
    }),
    gauge("jangbu_partitions", "Partitions that run on this node.", |from, page| {
        page.value(from.broker.replicas.count() as u64);
    }),
    gauge(
        "jangbu_groups",
        "Raft groups of partitions by state; asleep: not written for idle_ms, woken by a write.",
        |from, page| {
            let all = from.broker.replicas.all();
            let asleep = all.iter().filter(|partition| partition.is_asleep()).count();
            page.labelled(&[("state", "asleep")], asleep);
            page.labelled(&[("state", "awake")], all.len() - asleep);
        },
    ),
    gauge("jangbu_partitions_led", "Partitions that this node leads.", |from, page| {
        let led = from.broker.replicas.all().iter().filter(|partition| partition.leads()).count();
        page.value(led as u64);
    }),
    gauge(
        "jangbu_partitions_leaderless",
        "Partitions of the cluster that nobody is known to lead, or only a dead broker.",
        |from, page| {
            let broker = from.broker;
            let all: Vec<_> =
                broker.controller.image().placements().map(|placed| placed.group).collect();
            let led = all.iter().filter(|group| broker.leader_of(**group).is_some()).count();
            page.value((all.len() - led) as u64);
        },
    ),
    gauge(
        "jangbu_partitions_under_replicated",
        "Partitions that this node leads with replicas that are not in sync.",
        |from, page| page.value(under_replicated(from.broker) as u64),
    ),
    gauge(
        "jangbu_partitions_moving",
        "Partitions of the cluster whose replicas are moving; the same on every node.",
        |from, page| {
            let image = from.broker.controller.image();
            page.value(image.placements().filter(|placed| placed.is_moving()).count() as u64);
        },
    ),
    gauge(
        "jangbu_metadata_voters",
        "Brokers that vote on the cluster's metadata, as this node has heard.",
        |from, page| page.value(from.broker.controller.voters().len() as u64),
    ),
    counter(
        "jangbu_key_lookups_total",
        "Requests for keys, by what came of them: found, missing (deleted keys, too) or failed.",
        |from, page| {
            for (result, name) in LookupResult::ALL {
                let count = from.metrics.key_lookups[result as usize].get();
                page.labelled(&[("result", name)], count);
            }
        },
    ),
    histogram(
        "jangbu_key_lookup_duration_seconds",
        "From a request for keys to what was found, where the partition is led.",
        |from, page| {
            page.histogram(&[], &from.metrics.key_lookup_durations.snapshot(), seconds);
        },
    ),
    counter(
        "jangbu_elections_total",
        "Elections of partition leaders that this node stood for; a group may need several.",
        |from, page| page.value(from.metrics.elections.get()),
    ),
    counter(
        "jangbu_leader_transfers_total",
        "Leaderships of partitions that this node has handed to others.",
        |from, page| page.value(from.metrics.transfers.get()),
    ),
    counter(
        "jangbu_partition_moves_total",
        "Moves of partitions that this node has carried out as their leader.",
        |from, page| page.value(from.metrics.moves.get()),
    ),
    counter(
        "jangbu_partition_heals_total",
        "Moves that this node has begun, as the controller, because a broker stayed dead or a replica is damaged.",
        |from, page| page.value(from.metrics.heals.get()),
    ),
    counter(
        "jangbu_catch_up_bytes_total",
        "Bytes of batches that this node, as their leader, has sent to replicas that were being added.",
        |from, page| page.value(from.broker.catch_up.sent_bytes()),
    ),
    counter(
        "jangbu_catch_up_held_back_seconds_total",
        "Time that they were held back by catch_up_rate_bytes, over all partitions.",
        |from, page| page.seconds(from.broker.catch_up.waited_nanos()),
    ),
    gauge(
        "jangbu_fetch_sessions",
        "Fetch sessions that are remembered (KIP-227).",
        |from, page| {
            page.value(from.broker.sessions.stats().sessions as u64);
        },
    ),
    // The engine's write path.
    counter("jangbu_engine_appended_bytes_total", "Payload bytes appended.", |from, page| {
        page.value(from.engine.appended_bytes);
    }),
    histogram(
        "jangbu_engine_append_duration_seconds",
        "From the acceptance of an append until it is durable.",
        |from, page| page.histogram(&[], &from.engine.append, seconds),
    ),
    histogram(
        "jangbu_engine_queue_duration_seconds",
        "From the acceptance of an append until the writer takes it.",
        |from, page| page.histogram(&[], &from.engine.queue_wait, seconds),
    ),
    gauge("jangbu_engine_queue_bytes", "Bytes accepted and not yet durable.", |from, page| {
        page.value(from.engine.queued_bytes as u64);
    }),
    gauge(
        "jangbu_engine_queue_limit_bytes",
        "The bound of jangbu_engine_queue_bytes; appends wait beyond it.",
        |from, page| page.value(from.engine.queue_bytes_max as u64),
    ),
    counter(
        "jangbu_engine_queue_full_seconds_total",
        "Time that appends have waited because that bound was reached.",
        |from, page| page.seconds(from.engine.queue_full_nanos),
    ),
    counter(
        "jangbu_engine_flush_wait_seconds_total",
        "Time that the writer has waited for memtables to be flushed, their bound being reached.",
        |from, page| page.seconds(from.engine.flush_wait_nanos),
    ),
    histogram(
        "jangbu_engine_write_duration_seconds",
        "Writing one group to RocksDB, without the sync.",
        |from, page| page.histogram(&[], &from.engine.group_write, seconds),
    ),
    histogram("jangbu_engine_write_group_bytes", "Bytes of a write group.", |from, page| {
        page.histogram(&[], &from.engine.group_bytes, plain);
    }),
    histogram(
        "jangbu_engine_write_group_commands",
        "Appends and other changes of a write group.",
        |from, page| page.histogram(&[], &from.engine.group_commands, plain),
    ),
    histogram(
        "jangbu_engine_sync_duration_seconds",
        "One sync of the write-ahead log, which serves all partitions.",
        |from, page| page.histogram(&[], &from.engine.sync, seconds),
    ),
    // What the engine holds.
    gauge("jangbu_engine_cache_bytes", "Bytes of the newest batches in memory.", |from, page| {
        page.value(from.engine.cache_bytes as u64);
    }),
    gauge(
        "jangbu_engine_cache_limit_bytes",
        "The bound of jangbu_engine_cache_bytes.",
        |from, page| page.value(from.engine.cache_bytes_max as u64),
    ),
    gauge(
        "jangbu_log_bytes",
        "Bytes of batches that can be read, over all partitions here.",
        |from, page| page.value(from.space.live_bytes),
    ),
    gauge(
        "jangbu_log_stored_bytes",
        "Bytes of all buckets; what is above jangbu_log_bytes waits to be freed or is overhead.",
        |from, page| page.value(from.space.stored_bytes),
    ),
    gauge("jangbu_disk_bytes", "Bytes of the data directory's file system.", |from, page| {
        page.value(from.broker.disk.total_bytes());
    }),
    gauge("jangbu_disk_free_bytes", "Bytes of it that are free.", |from, page| {
        page.value(from.broker.disk.free_bytes());
    }),
    gauge(
        "jangbu_disk_reserve_bytes",
        "Below so many free bytes new records are refused.",
        |from, page| page.value(from.broker.disk.reserve_bytes()),
    ),
    gauge(
        "jangbu_disk_short",
        "1 while new records are refused because the disk is nearly full.",
        |from, page| page.value(u64::from(from.broker.disk.is_short())),
    ),
    gauge("jangbu_engine_buckets", "Buckets that exist.", |from, page| {
        page.value(from.engine.buckets as u64);
    }),
    gauge(
        "jangbu_engine_level_bytes",
        "Bytes of RocksDB's tables, by family (buckets; meta: everything but records) and level.",
        |from, page| levels(from, page, |level| level.bytes),
    ),
    gauge("jangbu_engine_level_files", "RocksDB's tables, by family and level.", |from, page| {
        levels(from, page, |level| level.files)
    }),
    gauge(
        "jangbu_engine_wal_bytes",
        "Bytes of the write-ahead log's files, those kept to be used again included.",
        |from, page| page.value(from.store.as_ref().map_or(0, |store| store.wal_bytes)),
    ),
    gauge("jangbu_engine_memtable_bytes", "Bytes of all memtables.", |from, page| {
        page.value(from.store.as_ref().map_or(0, |store| store.memtable_bytes));
    }),
    gauge(
        "jangbu_engine_memtable_limit_bytes",
        "The bound of jangbu_engine_memtable_bytes; the writer waits for flushes beyond it.",
        |from, page| page.value(from.engine.memtables_bytes_max as u64),
    ),
    gauge(
        "jangbu_engine_memtables_unflushed",
        "Memtables that are full and wait for their flush or are in it.",
        |from, page| page.value(from.store.as_ref().map_or(0, |store| store.immutable_memtables)),
    ),
    gauge(
        "jangbu_engine_block_cache_bytes",
        "Bytes of RocksDB's index blocks and meta rows in memory.",
        |from, page| page.value(from.store.as_ref().map_or(0, |store| store.block_cache_bytes)),
    ),
    counter(
        "jangbu_engine_corrupt_reads_total",
        "Reads that met damaged bytes; other than 0 is an alarm.",
        |from, page| page.value(from.engine.corrupt_reads),
    ),
    gauge(
        "jangbu_partitions_fenced",
        "Partitions that cannot run because what is stored of them is damaged.",
        |from, page| page.value(from.broker.replicas.fenced_count() as u64),
    ),
    gauge(
        "jangbu_engine_lost_changes",
        "Changes that were acknowledged and missing at the start; other than 0 only with --accept-loss.",
        |from, page| page.value(from.engine.lost_changes),
    ),
    gauge(
        "jangbu_engine_rocksdb_errors",
        "Errors of RocksDB's flushes and compactions since the start; other than 0 is an alarm.",
        |from, page| page.value(from.store.as_ref().map_or(0, |store| store.background_errors)),
    ),
    gauge(
        "jangbu_engine_rocksdb_stalled",
        "Whether RocksDB slows or stops writes by itself; other than 0 is a fault of jangbu.",
        |from, page| {
            let stalls = |store: &jangbu_engine::StoreStats| {
                store.writes_stopped || store.delayed_write_rate > 0
            };
            page.value(u64::from(from.store.as_ref().is_some_and(stalls)));
        },
    ),
    // The process, under the names that all Prometheus clients use.
    counter("process_cpu_seconds_total", "User and system time of the process.", |from, page| {
        page.seconds(from.process.cpu_nanos);
    }),
    gauge("process_resident_memory_bytes", "Resident memory.", |from, page| {
        page.value(from.process.resident_bytes);
    }),
    gauge("process_virtual_memory_bytes", "Virtual memory.", |from, page| {
        page.value(from.process.virtual_bytes);
    }),
    gauge("process_open_fds", "Open files and connections.", |from, page| {
        page.value(from.process.open_fds);
    }),
    gauge("process_start_time_seconds", "Start, since the epoch.", |from, page| {
        page.seconds(from.process.start_nanos);
    }),
];

type Collect = fn(&Sources<'_>, &mut Page);

const fn counter(name: &'static str, help: &'static str, collect: Collect) -> Family {
    Family { name, kind: Kind::Counter, help, collect }
}

const fn gauge(name: &'static str, help: &'static str, collect: Collect) -> Family {
    Family { name, kind: Kind::Gauge, help, collect }
}

const fn histogram(name: &'static str, help: &'static str, collect: Collect) -> Family {
    Family { name, kind: Kind::Histogram, help, collect }
}

fn under_replicated(broker: &Broker) -> usize {
    let led: Vec<_> = broker.replicas.all().into_iter().filter(|p| p.leads()).collect();
    let is_under =
        |placed: &TopicPartition| broker.replicas_of(placed).in_sync.len() < placed.brokers.len();
    let placed = led.iter().filter_map(|p| broker.controller.image().placement(p.id()).cloned());
    placed.filter(is_under).count()
}

fn request_errors(from: &Sources<'_>, page: &mut Page) {
    let errors: BTreeMap<_, _> = from.metrics.errors.lock().clone();
    for ((key, code), count) in errors {
        let Some(api) = APIS.iter().find(|api| api.key.number() == key) else { continue };
        let (api, error) = (format!("{:?}", api.key), codes::name(code));
        page.labelled(&[("api", &api), ("error", &error)], count);
    }
}

fn levels(from: &Sources<'_>, page: &mut Page, value: fn(&jangbu_engine::LevelStats) -> u64) {
    for level in from.store.iter().flat_map(|store| &store.levels) {
        let number = level.level.to_string();
        page.labelled(&[("family", level.family), ("level", &number)], value(level));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::FAMILIES;
    use crate::metrics::page::Kind;

    /// The table of `docs/metrics.md`, made from [`FAMILIES`].
    fn table() -> String {
        let mut table = String::from("| Metric | Type | Meaning |\n|---|---|---|\n");
        for family in FAMILIES {
            let line = format!("| `{}` | {} | {} |\n", family.name, family.kind, family.help);
            table.push_str(&line);
        }
        table
    }

    #[test]
    fn the_page_of_the_metrics_shows_this_table() {
        let page = include_str!("../../../docs/metrics.md");
        let (_, rest) = page.split_once("<!-- metrics:start -->\n").expect("the start marker");
        let (shown, _) = rest.split_once("<!-- metrics:end -->").expect("the end marker");
        assert_eq!(shown, table(), "put the right side between the markers of docs/metrics.md");
    }

    #[test]
    fn names_are_as_prometheus_expects_them() {
        let mut names = BTreeSet::new();
        for family in FAMILIES {
            let name = family.name;
            assert!(names.insert(name), "{name} stands twice");
            assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
            assert!(family.help.ends_with('.'), "{name} is a sentence");
            let foreign = ["_ms", "_millis", "_micros", "_microseconds", "_kb", "_mb", "_percent"];
            assert!(!foreign.iter().any(|unit| name.contains(unit)), "{name}: a base unit");
        }
    }

    /// Names of metrics in a PromQL expression; everything of ours begins with one of two words.
    fn named(expression: &str) -> Vec<&str> {
        expression
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("jangbu_") || word.starts_with("process_"))
            .collect()
    }

    #[test]
    fn the_dashboard_shows_only_metrics_that_exist() {
        let text = include_str!("../../../docs/grafana/jangbu.json");
        let dashboard: serde_json::Value = serde_json::from_str(text).expect("valid JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        let mut seen = 0;
        for target in
            panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        {
            let expression = target["expr"].as_str().expect("an expression");
            let names = named(expression);
            assert!(!names.is_empty(), "{expression} names no metric of ours");
            for name in names {
                let histogram = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix));
                let known = |kind: Option<Kind>, name: &str| {
                    FAMILIES.iter().any(|f| f.name == name && kind.is_none_or(|k| k == f.kind))
                };
                let exists = known(None, name)
                    || histogram.is_some_and(|name| known(Some(Kind::Histogram), name));
                assert!(exists, "{name} in {expression} does not exist");
                seen += 1;
            }
        }
        assert!(seen >= 20, "{seen} metrics on the dashboard");
    }
}
