//! A relaxed log answers once a batch is written and syncs it soon; nothing else is answered before its sync,
//! and completions keep their order whatever the mode.
//!
//! Needs the feature `failpoints`: syncs are held back to see who waits for them. Fault points are global
//! to the process, so the cases take turns.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use bytes::Bytes;
use fail::FailScenario;
use fixture::{append, batch_entry, blank_entry, log, open, small};
use jangbu_engine::{Engine, NewEntry, Offset, PartitionLog};

/// How long nobody may be told what waits for a sync.
const QUIET: Duration = Duration::from_millis(150);
const SYNC: &str = "engine-sync-before";

struct Told {
    sender: Sender<u64>,
    receiver: Receiver<u64>,
}

impl Told {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { sender, receiver }
    }

    /// A completion that tells `number`.
    fn done(&self, number: u64) -> Box<dyn FnOnce(jangbu_engine::Result<()>) + Send> {
        let sender = self.sender.clone();
        Box::new(move |result| {
            result.unwrap();
            sender.send(number).unwrap();
        })
    }

    fn append(&self, log: &PartitionLog, entry: NewEntry) {
        let number = entry.index.0;
        log.append(vec![entry], self.done(number)).unwrap();
    }

    fn nobody(&self) {
        assert!(self.receiver.recv_timeout(QUIET).is_err(), "told before the sync");
    }

    fn next(&self) -> u64 {
        self.receiver.recv_timeout(Duration::from_secs(30)).expect("an answer")
    }
}

fn batch(index: u64) -> NewEntry {
    batch_entry(index, 1, 1, 100)
}

/// Holds syncs back while `body` runs, and then lets them go.
fn without_syncs(body: impl FnOnce()) {
    fail::cfg(SYNC, "pause").unwrap();
    body();
    fail::remove(SYNC);
}

#[test]
fn a_relaxed_batch_is_answered_before_its_sync_and_synced_by_itself() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let (relaxed, told) = (log(&engine, 1), Told::new());
    append(&relaxed, vec![batch(0)]);
    relaxed.set_relaxed(true);
    // Behind its answer nothing of the first batch is under way any more.
    engine.set_node_value("behind", b"").unwrap();
    without_syncs(|| {
        for index in 1..50 {
            told.append(&relaxed, batch(index));
        }
        assert!((1..50).all(|index| told.next() == index), "in order");
        assert_eq!(relaxed.read(Offset(0), Offset(50), usize::MAX).unwrap().len(), 50);
    });
    let before = engine.stats().syncs;
    told.append(&relaxed, batch(50));
    told.next();
    while engine.stats().syncs == before {
        std::thread::yield_now();
    }
    drop((engine, relaxed));
    scenario.teardown();
}

#[test]
fn votes_rows_and_other_entries_of_a_relaxed_log_wait_for_their_sync() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let relaxed = log(&engine, 1);
    relaxed.set_relaxed(true);
    let cases: [&dyn Fn(&Told); 3] = [
        &|told| relaxed.save_vote(Bytes::from_static(b"v"), told.done(1)).unwrap(),
        &|told| relaxed.save_checkpoint(Bytes::from_static(b"c"), Some(told.done(1))).unwrap(),
        &|told| told.append(&relaxed, blank_entry(1, 1)),
    ];
    for case in cases {
        let told = Told::new();
        without_syncs(|| {
            case(&told);
            told.nobody();
        });
        assert_eq!(told.next(), 1);
    }
    drop((engine, relaxed));
    scenario.teardown();
}

#[test]
fn a_strict_log_beside_a_relaxed_one_waits() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let (strict, relaxed) = (log(&engine, 1), log(&engine, 2));
    relaxed.set_relaxed(true);
    let (slow, fast) = (Told::new(), Told::new());
    without_syncs(|| {
        slow.append(&strict, batch(0));
        fast.append(&relaxed, batch(0));
        fast.next();
        slow.nobody();
    });
    slow.next();
    drop((engine, strict, relaxed));
    scenario.teardown();
}

#[test]
fn completions_keep_their_order_while_the_mode_changes() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let (log, told) = (log(&engine, 1), Told::new());
    without_syncs(|| {
        told.append(&log, batch(0));
        log.set_relaxed(true);
        told.append(&log, batch(1));
        // It is relaxed, but stands behind one that is not.
        told.nobody();
    });
    assert_eq!([told.next(), told.next()], [0, 1]);
    for index in 2..2000 {
        log.set_relaxed(index % 3 == 0);
        told.append(&log, batch(index));
    }
    for index in 2..2000 {
        assert_eq!(told.next(), index);
    }
    drop((engine, log));
    scenario.teardown();
}

#[test]
fn closing_syncs_what_was_answered() {
    let scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let engine: Engine = open(dir.path(), small());
    let (relaxed, told) = (log(&engine, 1), Told::new());
    relaxed.set_relaxed(true);
    told.append(&relaxed, batch(0));
    told.next();
    engine.close().unwrap();
    assert!(engine.stats().syncs > 0);
    assert_eq!(engine.stats().queued_bytes, 0);
    drop((engine, relaxed));
    scenario.teardown();
}
