//! How fast the engine appends when every append is waited for until it is durable.
//!
//! One round appends one batch to every partition in turn until 64 MiB are accepted, then waits for the
//! last completion. Throughput counts payload bytes; RocksDB writes each of them twice, to its
//! write-ahead log, which is synced, and later to a table.

#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jangbu_engine::batch::sample;
use jangbu_engine::{
    Engine, EntryKind, Index, NewEntry, Options, PartitionId, PartitionLog, RetentionClass, Term,
};

const ROUND_BYTES: usize = 64 << 20;

/// Appends `count` batches over all of `logs` and waits until they are durable.
fn round(logs: &[PartitionLog], next: &mut [u64], payload: &Bytes, count: usize) {
    let (sender, receiver) = mpsc::channel();
    for at in 0..count {
        let at = at % logs.len();
        let (index, kind) = (Index(next[at]), EntryKind::Batch);
        next[at] += 1;
        let entry = NewEntry { index, term: Term(1), kind, payload: payload.clone() };
        let sender = sender.clone();
        let done = Box::new(move |result| drop(sender.send(result)));
        logs[at].append(vec![entry], done).expect("the engine takes appends");
    }
    drop(sender);
    for result in receiver {
        result.expect("the disk takes appends");
    }
}

fn synced_appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append synced");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    group.warm_up_time(Duration::from_millis(500));
    for partitions in [1u32, 1000] {
        for kib in [1usize, 16, 64] {
            let dir = tempfile::tempdir().expect("a directory");
            let failed = Arc::new(|error: &jangbu_engine::Error| panic!("{error}"));
            let engine = Engine::open(dir.path(), Options::default(), failed).expect("it opens");
            let class = RetentionClass::from_retention_ms(-1);
            let logs: Vec<_> = (0..partitions)
                .map(|id| engine.log(PartitionId(id), class).expect("it opens"))
                .collect();
            let mut next = vec![0; logs.len()];
            let payload = Bytes::from(sample(kib << 10));
            let count = ROUND_BYTES / payload.len();
            group.throughput(Throughput::Bytes(ROUND_BYTES as u64));
            let id = BenchmarkId::new(format!("{partitions} partitions"), format!("{kib} KiB"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|rounds| {
                    let begun = Instant::now();
                    for _ in 0..rounds {
                        round(&logs, &mut next, &payload, count);
                    }
                    begun.elapsed()
                });
            });
            engine.close().expect("it closes");
        }
    }
    group.finish();
}

criterion_group!(benches, synced_appends);
criterion_main!(benches);
