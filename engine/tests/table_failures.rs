//! Wherever a step of cleaning, entering or staging is cut off, what comes back is a log in which no key has lost its last value,
//! none has come back, and the index says what the log says; cleaning goes on from there.
//!
//! Needs the feature `failpoints`. Fault points are global to the process, so the cases take turns.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/keyed.rs"]
mod keyed;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fail::FailScenario;
use fixture::{append, durable, log, open, small};
use jangbu_engine::inspect::Store;
use jangbu_engine::{CleanRules, Engine, Error, KeyIndex, Offset, PartitionLog, Result};
use kafka_protocol::records::Compression;
use keyed::{Keyed, batch, entry, read_all, records_of};

/// Where a step can end early.
const POINTS: [&str; 5] = [
    "engine-write-before",
    "engine-write-after",
    "engine-sync-before",
    "engine-sync-after",
    "engine-table-written",
];
const BATCHES: u8 = 12;

/// The last value of every key of [`fill`]; key 5 has a tombstone.
fn last_values() -> BTreeMap<Vec<u8>, Vec<u8>> {
    (0..8_u8).filter(|key| *key != 5).map(|key| (vec![key], vec![BATCHES - 1; 300])).collect()
}

fn fill(log: &PartitionLog) {
    for round in 0..BATCHES {
        let value = |key: u8| (key != 5 || round + 1 < BATCHES).then(|| vec![round; 300]);
        let records: Vec<Keyed> = (0..8).map(|key| (vec![key], value(key))).collect();
        let payload = batch(&records, i64::from(round), Compression::Lz4);
        append(log, vec![entry(u64::from(round), 1, payload)]);
    }
}

fn rules(now_ms: i64) -> CleanRules {
    let until = Offset(i64::from(BATCHES) * 8);
    CleanRules { until, now_ms, delete_retention_ms: 100, kept: Vec::new(), bytes_max: 200 }
}

/// Opens an engine whose failures are expected.
fn fragile(dir: &Path) -> Engine {
    Engine::open(dir, small(), Arc::new(|_: &Error| ())).unwrap()
}

/// Does `work` with a fault in its way, then opens what is left and looks at it.
fn cut_off(dir: &Path, point: &str, work: impl FnOnce(&PartitionLog) -> Result<()>) -> Engine {
    let engine = fragile(dir);
    let log = log(&engine, 1);
    fail::cfg(point, "return").unwrap();
    assert!(work(&log).is_err(), "{point} is on the way");
    fail::remove(point);
    drop(log);
    let _ = engine.close();
    drop(engine);
    let report = Store::open(dir).unwrap().verify(|_, _| ()).unwrap();
    assert_eq!(report.problems, [], "after {point}");
    open(dir, small())
}

fn check(log: &PartitionLog) {
    let read = records_of(&read_all(log, 0, 1 << 20));
    let last: BTreeMap<_, _> = read.into_iter().map(|r| (r.key, r.value)).collect();
    let values: BTreeMap<_, _> = last.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
    assert_eq!(values, last_values());
    let end = log.state().end_offset;
    if log.key_index() == KeyIndex::Ready {
        for (key, value) in last_values() {
            let found = log.get(&key, end).unwrap().and_then(|found| found.value);
            assert_eq!(found.as_deref(), Some(value.as_slice()));
        }
        let deleted = log.get(&[5], end).unwrap();
        assert!(deleted.is_none_or(|found| found.value.is_none()), "it came back");
    }
}

/// Cleans to the end, with time for tombstones to go.
fn finish(log: &PartitionLog) {
    for now in [0, 1000] {
        while !log.clean(&rules(now)).unwrap().is_finished {}
    }
    check(log);
    assert_eq!(records_of(&read_all(log, 0, 1 << 20)).len(), last_values().len());
}

#[test]
fn a_step_of_cleaning_may_end_anywhere() {
    let scenario = FailScenario::setup();
    let steps = steps_to_the_end();
    assert!(steps > 5, "{steps} steps");
    for point in POINTS {
        for whole_steps in 0..steps {
            let dir = tempfile::tempdir().unwrap();
            let engine = fragile(dir.path());
            engine_ready(&engine);
            let mut now = Clock::default();
            for _ in 0..whole_steps {
                now.step(&log(&engine, 1)).unwrap();
            }
            engine.close().unwrap();
            let engine = cut_off(dir.path(), point, |log| now.step(log).map(|_| ()));
            let first = log(&engine, 1);
            check(&first);
            finish(&first);
        }
    }
    scenario.teardown();
}

/// Time goes on once everything is clean, so that the tombstone may go.
#[derive(Default)]
struct Clock {
    now_ms: i64,
}

impl Clock {
    /// Does a step that changes something; false when there is none left.
    fn step(&mut self, log: &PartitionLog) -> Result<bool> {
        loop {
            let step = log.clean(&rules(self.now_ms))?;
            if step.read_bytes > 0 {
                return Ok(true);
            }
            if step.is_finished && self.now_ms > 0 {
                return Ok(false);
            }
            if step.is_finished {
                self.now_ms = 1000;
            }
        }
    }
}

fn steps_to_the_end() -> usize {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    engine_ready(&engine);
    let (log, mut now) = (log(&engine, 1), Clock::default());
    let mut steps = 0;
    while now.step(&log).unwrap() {
        steps += 1;
    }
    steps
}

fn engine_ready(engine: &Engine) {
    let log = log(engine, 1);
    log.set_keyed(true).unwrap();
    fill(&log);
}

#[test]
fn entering_old_records_may_end_anywhere() {
    let scenario = FailScenario::setup();
    for point in POINTS {
        let dir = tempfile::tempdir().unwrap();
        let engine = fragile(dir.path());
        fill(&log(&engine, 1));
        log(&engine, 1).set_keyed(true).unwrap();
        let end = log(&engine, 1).state().end_offset;
        assert!(!log(&engine, 1).build_key_index(end, 700).unwrap());
        engine.close().unwrap();
        let engine = cut_off(dir.path(), point, |log| log.build_key_index(end, 700).map(|_| ()));
        let first = log(&engine, 1);
        while !first.build_key_index(end, 700).unwrap() {}
        check(&first);
        finish(&first);
    }
    scenario.teardown();
}

#[test]
fn taking_in_what_another_replica_settled_may_end_anywhere() {
    let scenario = FailScenario::setup();
    let other = tempfile::tempdir().unwrap();
    let leader = open(other.path(), small());
    engine_ready(&leader);
    let leader = log(&leader, 1);
    while !leader.clean(&rules(0)).unwrap().is_finished {}
    let settled = leader.settled().unwrap();
    let batches = leader.settled_batches(Offset(0), settled.next_offset, usize::MAX).unwrap();
    let batches: Vec<_> = batches.into_iter().map(|batch| batch.payload).collect();
    let complete = Some(settled.next_offset);
    let stage =
        |log: &PartitionLog| durable(|done| log.stage(true, batches.clone(), complete, done));
    for point in &POINTS[..4] {
        for staged in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let engine = fragile(dir.path());
            engine_ready(&engine);
            if staged {
                stage(&log(&engine, 1)).unwrap();
            }
            engine.close().unwrap();
            let engine = cut_off(dir.path(), point, |log| {
                if staged {
                    durable(|done| log.reset(settled.upto, settled.next_offset, done))
                } else {
                    stage(log)
                }
            });
            let first = log(&engine, 1);
            while !first.build_key_index(settled.next_offset, 700).unwrap() {}
            check(&first);
            stage(&first).unwrap();
            durable(|done| first.reset(settled.upto, settled.next_offset, done)).unwrap();
            while !first.build_key_index(settled.next_offset, 700).unwrap() {}
            finish(&first);
        }
    }
    scenario.teardown();
}
