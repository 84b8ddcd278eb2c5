//! The first failed write or sync latches: every waiter is told, nothing more is taken, and whoever
//! opened the engine is told once. What was acknowledged before is there afterwards.
//!
//! Needs the feature `failpoints`. Fault points are global to the process, so the cases take turns.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use std::path::Path;
use std::sync::{Arc, mpsc};

use fail::FailScenario;
use fixture::{append, batch_entry, log, open, small};
use jangbu_engine::inspect::Store;
use jangbu_engine::{
    Engine, Error, Index, Offset, Options, PartitionId, PayloadPart, RetentionClass,
};

fn open_reporting(dir: &Path) -> (Engine, mpsc::Receiver<Error>) {
    let (sender, receiver) = mpsc::channel();
    let report = Arc::new(move |error: &Error| sender.send(error.clone()).unwrap());
    (Engine::open(dir, small(), report).unwrap(), receiver)
}

fn fails_and_latches(point: &str) {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (engine, reports) = open_reporting(dir.path());
    let first = log(&engine, 1);
    append(&first, vec![batch_entry(0, 1, 1, 100)]);
    fail::cfg(point, "return").unwrap();
    let (sender, results) = mpsc::channel();
    let mut taken = 0;
    for index in 1..50 {
        let sender = sender.clone();
        let done = Box::new(move |result| sender.send((index, result)).unwrap());
        match first.append(vec![batch_entry(index, 1, 1, 100)], done) {
            Ok(()) => taken += 1,
            Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
        }
    }
    drop(sender);
    let told: Vec<_> = results.iter().collect();
    assert!(taken > 0);
    assert_eq!(told.len(), taken, "every waiter is told");
    assert!(told.iter().map(|(index, _)| index).is_sorted(), "in order");
    for (_, result) in told {
        assert!(matches!(result, Err(Error::Storage { .. })), "{result:?}");
    }
    assert!(matches!(reports.recv(), Ok(Error::Storage { .. })));
    assert!(matches!(first.save_committed(bytes::Bytes::new()), Err(Error::Closed)));
    assert!(matches!(engine.set_node_value("a", b"b"), Err(Error::Closed)));
    fail::remove(point);
    assert!(matches!(engine.close(), Err(Error::Storage { .. })));
    drop((engine, first));
    assert!(reports.recv().is_err(), "reported once");
    let engine = open(dir.path(), small());
    let end = log(&engine, 1).state().end_offset;
    assert!(end >= Offset(1), "what was acknowledged is there");
    append(&log(&engine, 1), vec![batch_entry(u64::try_from(end.0).unwrap(), 2, 1, 100)]);
    drop(engine);
    scenario.teardown();
}

#[test]
fn a_failed_write_latches() {
    fails_and_latches("engine-write-before");
    fails_and_latches("engine-write-after");
}

#[test]
fn a_failed_sync_latches() {
    fails_and_latches("engine-sync-before");
    fails_and_latches("engine-sync-after");
}

#[test]
fn nothing_is_acknowledged_before_its_sync() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (engine, _reports) = open_reporting(dir.path());
    let log = log(&engine, 1);
    fail::cfg("engine-sync-before", "pause").unwrap();
    let (sender, results) = mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    log.append(vec![batch_entry(0, 1, 1, 100)], done).unwrap();
    while engine.stats().write_groups == 0 {
        std::thread::yield_now();
    }
    // Written, readable, and held back by the sync alone.
    assert_eq!(log.read(Offset(0), Offset(1), 1).unwrap().len(), 1);
    let early = results.recv_timeout(std::time::Duration::from_millis(100));
    assert!(early.is_err(), "acknowledged before the sync");
    fail::remove("engine-sync-before");
    results.recv().unwrap().unwrap();
    drop((engine, log));
    scenario.teardown();
}

#[test]
fn a_crash_between_creating_a_bucket_and_writing_into_it_leaves_no_trace() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (engine, _reports) = open_reporting(dir.path());
    let first = log(&engine, 1);
    append(&first, vec![batch_entry(0, 1, 1, 70_000)]);
    fail::cfg("engine-roll-after-create", "return").unwrap();
    let failed = fixture::durable(|done| first.append(vec![batch_entry(1, 1, 1, 10)], done));
    assert!(failed.is_err());
    fail::remove("engine-roll-after-create");
    drop((engine, first));
    let engine = open(dir.path(), small());
    assert_eq!(engine.stats().buckets, 1);
    append(&log(&engine, 1), vec![batch_entry(1, 1, 1, 10)]);
    assert_eq!(engine.stats().buckets, 2);
    assert_eq!(log(&engine, 1).read(Offset(0), Offset(2), 1 << 20).unwrap().len(), 2);
    drop(engine);
    scenario.teardown();
}

#[test]
fn what_is_not_written_yet_stays_readable_without_a_cache() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (engine, _reports) = open_reporting(dir.path());
    let log = log(&engine, 1);
    append(&log, vec![batch_entry(0, 1, 1, 100)]);
    let (at_write, arrivals) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    fail::cfg_callback("engine-write-before", move || {
        // Once the test has dropped its ends, nothing is held back any more.
        let _ = at_write.send(());
        let _ = gate.lock().unwrap().recv();
    })
    .unwrap();
    fixture::append_lazily(&log, vec![batch_entry(1, 1, 1, 100)]);
    arrivals.recv().unwrap();
    fixture::append_lazily(&log, vec![batch_entry(2, 1, 1, 100)]);
    go.send(()).unwrap();
    arrivals.recv().unwrap();
    // The first is written and has left the cache; the second waits at the write.
    let entries = log.read(Offset(0), Offset(3), usize::MAX).unwrap();
    assert_eq!(fixture::indexes(&entries), [0, 1, 2]);
    assert!(!log.is_cached(Offset(1)));
    assert!(log.is_cached(Offset(2)));
    drop(go);
    engine.close().unwrap();
    scenario.teardown();
}

#[test]
fn a_slow_flush_holds_the_writer_back_and_rocksdb_never_does() {
    const ENTRIES: u64 = 320;
    let scenario = FailScenario::setup();
    fail::cfg("engine-flush-slowly", "return").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = Options { bucket_bytes_max: 1 << 30, ..small() };
    let bound = options.memtables_bytes_max as u64;
    let engine = open(dir.path(), options.clone());
    let first = log(&engine, 1);
    for index in 0..ENTRIES {
        append(&first, vec![batch_entry(index, 1, 1, 100_000)]);
        let (stats, store) = (engine.stats(), engine.store_stats().unwrap());
        // One write group and the last block of an arena may come on top.
        assert!(store.memtable_bytes <= bound + (2 << 20), "{} bytes", store.memtable_bytes);
        assert!(!store.writes_stopped && store.delayed_write_rate == 0, "RocksDB stalls");
        assert!(stats.queued_bytes <= stats.queue_bytes_max);
    }
    let waited = engine.stats().flush_wait_nanos;
    assert!(waited > 0, "32 MB at 8 MB a second do not fit into 4 MB without waiting");
    drop((first, engine));
    fail::remove("engine-flush-slowly");
    let engine = open(dir.path(), options);
    let end = Offset(i64::try_from(ENTRIES).unwrap());
    assert_eq!(log(&engine, 1).state().end_offset, end, "nothing is lost");
    assert_eq!(log(&engine, 1).read(Offset(0), end, usize::MAX).unwrap().len(), 320);
    drop(engine);
    scenario.teardown();
}

/// Fills buckets and makes most of what is in them dead.
fn fill_and_forget(engine: &Engine) {
    let (first, other) = (log(engine, 1), log(engine, 2));
    append(&other, vec![batch_entry(0, 1, 1, 100)]);
    for index in 0..20 {
        append(&first, vec![batch_entry(index, 1, 1, 10_000)]);
    }
    first.set_log_start(Offset(13)).unwrap();
    for (id, upto) in engine.forgettable(false).unwrap() {
        assert_eq!(id, first.id());
        first.purge(jangbu_engine::LogId { term: jangbu_engine::Term(1), index: upto }).unwrap();
    }
}

/// Lets `point` fail while space is given back.
fn crash_while_reclaiming(dir: &Path, point: &str) {
    let (engine, _reports) = open_reporting(dir);
    fill_and_forget(&engine);
    fail::cfg(point, "return").unwrap();
    let relocated = engine.relocate(u64::MAX, false);
    let dropped = engine.drop_dead_buckets();
    assert!(relocated.is_err() || dropped.is_err(), "{point} was not reached");
    fail::remove(point);
}

#[test]
fn a_bucket_goes_only_behind_the_sync_of_what_was_copied_out_of_it() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    fill_and_forget(&engine);
    let before = engine.stats().buckets;
    fail::cfg("engine-sync-before", "pause").unwrap();
    let (sender, dropped) = mpsc::channel();
    let reclaiming = engine.clone();
    std::thread::spawn(move || {
        reclaiming.relocate(u64::MAX, false).unwrap();
        sender.send(reclaiming.drop_dead_buckets().unwrap()).unwrap();
    });
    let early = dropped.recv_timeout(std::time::Duration::from_millis(300));
    let meanwhile = engine.stats().buckets;
    // The engine cannot end while a sync is held back.
    fail::remove("engine-sync-before");
    assert!(early.is_err(), "dropped before the sync");
    assert_eq!(meanwhile, before);
    assert!(dropped.recv().unwrap() > 0);
    assert!(engine.stats().buckets < before);
    drop(engine);
    scenario.teardown();
}

#[test]
fn a_crash_at_any_step_of_giving_space_back_loses_nothing_and_is_finished_later() {
    let scenario = FailScenario::setup();
    for point in [
        "engine-relocate-before",
        "engine-relocate-after",
        "engine-drop-after-mark",
        "engine-drop-after-family",
    ] {
        let dir = tempfile::tempdir().unwrap();
        crash_while_reclaiming(dir.path(), point);
        let engine = open(dir.path(), small());
        let (first, other) = (log(&engine, 1), log(&engine, 2));
        let alive = first.read(Offset(13), Offset(20), usize::MAX).unwrap();
        assert_eq!(fixture::indexes(&alive), (13..20).collect::<Vec<_>>(), "{point}");
        assert_eq!(other.read(Offset(0), Offset(1), 1).unwrap().len(), 1, "{point}");
        engine.relocate(u64::MAX, false).unwrap();
        engine.drop_dead_buckets().unwrap();
        let left = engine.stats().buckets;
        assert!(left <= 3, "{point}: {left} buckets for 70 kB");
        assert_eq!(other.read(Offset(0), Offset(1), 1).unwrap().len(), 1, "{point}");
        append(&first, vec![batch_entry(20, 1, 1, 100)]);
        append(&other, vec![batch_entry(1, 1, 1, 100)]);
        drop((engine, first, other));
    }
    scenario.teardown();
}

/// Durable steps of a running engine. The last one only warns.
const STEPS: [&str; 8] = [
    "engine-write-before",
    "engine-write-after",
    "engine-sync-before",
    "engine-sync-after",
    "engine-roll-before-create",
    "engine-roll-after-create",
    "engine-flush-before",
    "engine-watermark-before",
];

/// Durable steps of opening a new store.
const OPENING: [&str; 4] = [
    "engine-format-before-rename",
    "engine-format-after-rename",
    "engine-open-after-store",
    "engine-watermark-before-rename",
];

/// Rounds of a workload; `Err` ends it. Each round appends to three logs, over bucket rolls, votes, and rewrites
/// the end of one of them. Notes how many entries of each log were acknowledged.
fn work(engine: &Engine, acked: &mut [u64; 3]) -> Result<(), Error> {
    let class = RetentionClass::from_retention_ms(-1);
    let logs = (0..3).map(|id| engine.log(PartitionId(id), class));
    let logs = logs.collect::<Result<Vec<_>, Error>>()?;
    for round in 0..30_u64 {
        for (log, acked) in logs.iter().zip(acked.iter_mut()) {
            let entries = (0..2).map(|at| batch_entry(round * 2 + at, 1 + round / 10, 1, 4000));
            fixture::durable(|done| log.append(entries.collect(), done))?;
            *acked = round * 2 + 2;
        }
        fixture::durable(|done| logs[0].save_vote(bytes::Bytes::from_static(b"vote"), done))?;
        // The last entry of one log gives way to the same one: what is there must not change.
        logs[1].truncate_after(Some(Index(round * 2)))?;
        acked[1] = round * 2 + 1;
        let again = vec![batch_entry(round * 2 + 1, 1 + round / 10, 1, 4000)];
        fixture::durable(|done| logs[1].append(again, done))?;
        acked[1] = round * 2 + 2;
    }
    Ok(())
}

/// What was acknowledged is there, what is there was asked for, and every row agrees.
fn check_after(dir: &Path, acked: [u64; 3], what: &str) {
    let engine = open(dir, small());
    for (id, acked) in (0..3).zip(acked) {
        let log = log(&engine, id);
        let entries =
            log.entries(Index(0), Index(u64::MAX), usize::MAX, PayloadPart::Full).unwrap();
        let count = entries.len() as u64;
        assert!(count >= acked, "{what}: log {id} has {count} entries, {acked} were acknowledged");
        assert_eq!(fixture::indexes(&entries), (0..count).collect::<Vec<_>>(), "{what}: log {id}");
        for entry in &entries {
            let asked = batch_entry(entry.index.0, entry.term.0, 1, 4000);
            assert_eq!(entry.term.0, 1 + entry.index.0 / 20, "{what}: log {id}");
            assert_eq!(entry.payload[16..], asked.payload[16..], "{what}: log {id}");
        }
        append(&log, vec![batch_entry(count, 9, 1, 10)]);
    }
    engine.close().unwrap();
    let report = Store::open(dir).unwrap().verify(|_, _| ()).unwrap();
    assert_eq!(report.problems, [], "{what}");
}

#[test]
fn whichever_durable_step_fails_nothing_acknowledged_is_lost_and_nothing_invented() {
    let scenario = FailScenario::setup();
    for point in STEPS {
        let mut failed = 0;
        for passes in [0, 1, 2, 3, 7, 20, 55] {
            let dir = tempfile::tempdir().unwrap();
            let (engine, _reports) = open_reporting(dir.path());
            let mut acked = [0; 3];
            fail::cfg(point, &format!("{passes}*off->return")).unwrap();
            failed += u32::from(work(&engine, &mut acked).is_err());
            fail::remove(point);
            drop(engine);
            check_after(dir.path(), acked, &format!("{point} after {passes}"));
        }
        assert!(failed > 0 || point == "engine-watermark-before", "{point} was never met");
    }
    scenario.teardown();
}

#[test]
fn a_new_store_whose_opening_fails_anywhere_opens_the_next_time() {
    let scenario = FailScenario::setup();
    for point in OPENING {
        let dir = tempfile::tempdir().unwrap();
        fail::cfg(point, "return").unwrap();
        assert!(Engine::open(dir.path(), small(), Arc::new(|_| ())).is_err(), "{point}");
        fail::remove(point);
        check_after(dir.path(), [0; 3], point);
    }
    scenario.teardown();
}
