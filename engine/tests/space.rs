//! Space comes back: buckets without anything alive go, and what little is alive in one is moved.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use std::path::Path;
use std::time::Duration;

use fixture::{append, batch_entry, indexes, log, open, small};
use jangbu_engine::{
    Engine, Index, LogId, Offset, Options, PartitionId, PartitionLog, PayloadPart, RetentionClass,
    Term,
};

/// Appends entries `from..to` of one record and 10 kB each, one at a time: six fill a bucket.
fn fill(log: &PartitionLog, from: u64, to: u64) {
    for index in from..to {
        append(log, vec![batch_entry(index, 1, 1, 10_000)]);
    }
}

fn buckets(engine: &Engine) -> usize {
    engine.stats().buckets
}

/// Purges what the engine says may go; returns the logs it named.
fn forget(engine: &Engine) -> Vec<u32> {
    let named = engine.forgettable(false).unwrap();
    for (id, upto) in &named {
        let log = engine.log(*id, RetentionClass::from_retention_ms(-1)).unwrap();
        log.purge(LogId { term: Term(1), index: *upto }).unwrap();
    }
    named.into_iter().map(|(id, _)| id.0).collect()
}

fn all(log: &PartitionLog) -> Vec<u64> {
    indexes(&log.entries(Index(0), Index(u64::MAX), usize::MAX, PayloadPart::Full).unwrap())
}

/// Fills several buckets with two logs, of which the second has one entry in the first bucket.
fn filled(dir: &Path) -> Engine {
    let engine = open(dir, small());
    append(&log(&engine, 2), vec![batch_entry(0, 1, 1, 100)]);
    fill(&log(&engine, 1), 0, 30);
    assert!(buckets(&engine) >= 4);
    engine
}

#[test]
fn buckets_below_the_log_start_go_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let first = log(&engine, 1);
    fill(&first, 0, 30);
    let before = buckets(&engine);
    let stored = engine.space().unwrap().stored_bytes;
    assert!(forget(&engine).is_empty(), "everything is alive");
    assert_eq!(engine.drop_dead_buckets().unwrap(), 0);
    first.set_log_start(Offset(20)).unwrap();
    assert_eq!(forget(&engine), [1]);
    let dropped = engine.drop_dead_buckets().unwrap();
    assert!(dropped >= 2, "{dropped}");
    assert_eq!(buckets(&engine), before - dropped);
    assert!(engine.space().unwrap().stored_bytes < stored);
    drop((engine, first));
    let engine = open(dir.path(), small());
    assert_eq!(buckets(&engine), before - dropped);
    let first = log(&engine, 1);
    assert_eq!(first.read(Offset(20), Offset(30), usize::MAX).unwrap().len(), 10);
    assert_eq!(first.size().unwrap().live_bytes, 10 * 10_061);
    fill(&first, 30, 31);
}

#[test]
fn a_deleted_log_gives_its_space_back_also_in_the_active_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), Options { bucket_bytes_max: 1 << 20, ..small() });
    fill(&log(&engine, 1), 0, 20);
    assert_eq!(buckets(&engine), 1);
    engine.delete(PartitionId(1)).unwrap();
    assert_eq!(engine.drop_dead_buckets().unwrap(), 1);
    assert_eq!(buckets(&engine), 0);
    fill(&log(&engine, 1), 0, 2);
    assert_eq!(all(&log(&engine, 1)), [0, 1]);
}

#[test]
fn a_log_without_records_left_holds_no_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let first = log(&engine, 1);
    fill(&first, 0, 8);
    first.set_log_start(Offset(8)).unwrap();
    forget(&engine);
    engine.drop_dead_buckets().unwrap();
    assert_eq!(buckets(&engine), 0, "the active bucket was closed and dropped, too");
    drop((engine, first));
    let engine = open(dir.path(), small());
    let first = log(&engine, 1);
    let state = first.state();
    assert_eq!((state.log_start_offset, state.end_offset), (Offset(8), Offset(8)));
    assert_eq!(state.last, Some(LogId { term: Term(1), index: Index(7) }));
    fill(&first, 8, 9);
    assert_eq!(all(&first), [8]);
}

#[test]
fn what_little_is_alive_in_a_bucket_is_moved_and_the_bucket_goes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    log(&engine, 1).set_log_start(Offset(28)).unwrap();
    forget(&engine);
    engine.drop_dead_buckets().unwrap();
    let before = buckets(&engine);
    let copied = engine.relocate(u64::MAX, false).unwrap();
    assert!((1..1_000).contains(&copied), "{copied} bytes for one small entry");
    assert!(engine.drop_dead_buckets().unwrap() >= 1);
    assert!(buckets(&engine) < before);
    assert_eq!(all(&log(&engine, 2)), [0]);
    drop(engine);
    let engine = open(dir.path(), small());
    assert_eq!(all(&log(&engine, 2)), [0]);
    assert_eq!(log(&engine, 1).read(Offset(28), Offset(30), usize::MAX).unwrap().len(), 2);
    append(&log(&engine, 2), vec![batch_entry(1, 1, 1, 100)]);
    assert_eq!(all(&log(&engine, 2)), [0, 1]);
}

#[test]
fn readers_meet_a_relocation_at_any_time() {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    log(&engine, 1).set_log_start(Offset(29)).unwrap();
    let reader = log(&engine, 2);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reads = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(reader.read(Offset(0), Offset(1), 1).unwrap().len(), 1);
                reads += 1;
            }
            reads
        });
        for round in 0..20 {
            // Each round moves the small entry on, behind others that die.
            let first = log(&engine, 1);
            let end = first.state().end_offset.0;
            let next = u64::try_from(end).unwrap();
            fill(&first, next, next + 7);
            first.set_log_start(Offset(end + 6)).unwrap();
            forget(&engine);
            engine.relocate(u64::MAX, false).unwrap();
            engine.drop_dead_buckets().unwrap();
            assert!(buckets(&engine) < 8, "round {round}: {} buckets", buckets(&engine));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reading.join().unwrap() > 0);
    });
}

#[test]
fn classes_do_not_hold_each_others_space_and_a_class_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let hour = RetentionClass::from_retention_ms(3_600_000);
    let short = engine.log(PartitionId(5), hour).unwrap();
    let long = log(&engine, 6);
    for index in 0..12 {
        append(&short, vec![batch_entry(index, 1, 1, 10_000)]);
        append(&long, vec![batch_entry(index, 1, 1, 10_000)]);
    }
    let before = buckets(&engine);
    short.set_log_start(Offset(12)).unwrap();
    forget(&engine);
    let dropped = engine.drop_dead_buckets().unwrap();
    assert_eq!(dropped, 2, "both of the short class, none of {before} else");
    short.set_class(RetentionClass::from_retention_ms(-1)).unwrap();
    let before = buckets(&engine);
    append(&short, vec![batch_entry(12, 1, 1, 100)]);
    assert_eq!(buckets(&engine), before, "the entry went into the other class's bucket");
}

#[test]
fn an_old_active_bucket_is_closed_without_an_append() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { bucket_age_max: Duration::from_secs(1), ..small() };
    let engine = open(dir.path(), options);
    let first = log(&engine, 1);
    fill(&first, 0, 1);
    first.set_log_start(Offset(1)).unwrap();
    // The clock alone makes the bucket old; nothing tells when.
    let begun = std::time::Instant::now();
    while buckets(&engine) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the bucket stays");
        forget(&engine);
        engine.drop_dead_buckets().unwrap();
        std::thread::yield_now();
    }
}
