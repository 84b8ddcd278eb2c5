//! Whatever was acknowledged is there after `kill -9`, in order and without gaps.
//!
//! A child process (this binary, run again with a variable set) appends to many logs and writes every
//! acknowledgement to a pipe. It is killed after a number of them, and the directory opened again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;

use fixture::{batch_entry, indexes, log, open, small};
use jangbu_engine::{Index, Offset, PayloadPart, batch};

const CHILD_DIR: &str = "JANGBU_TEST_CRASH_DIR";
const LOGS: u32 = 20;

/// Not a test of its own: what the process runs that is killed.
#[test]
fn child_appends_until_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let engine = open(Path::new(&dir), small());
    let out = Arc::new(Mutex::new(std::io::stderr()));
    let logs: Vec<_> = (0..LOGS).map(|id| log(&engine, id)).collect();
    // A killed process loses nothing of a relaxed log either: the kernel has what was written.
    logs.iter().step_by(2).for_each(|log| log.set_relaxed(true));
    let mut next: Vec<u64> =
        logs.iter().map(|log| log.state().last.map_or(0, |last| last.index.0 + 1)).collect();
    loop {
        for (log, next) in logs.iter().zip(&mut next) {
            let (id, index, out) = (log.id(), *next, Arc::clone(&out));
            *next += 2;
            let entries = vec![batch_entry(index, 1, 3, 500), batch_entry(index + 1, 1, 3, 500)];
            let done = Box::new(move |result: jangbu_engine::Result<()>| {
                result.unwrap();
                // One write, so that the kill cannot tear a line.
                let line = format!("ack {id} {}\n", index + 1);
                out.lock().unwrap().write_all(line.as_bytes()).unwrap();
            });
            log.append(entries, done).unwrap();
        }
    }
}

/// Runs the child until it has reported `acks` acknowledgements, kills it, and returns the last
/// acknowledged index of each log.
fn run_and_kill(dir: &Path, acks: usize) -> BTreeMap<u32, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_appends_until_killed", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = 0;
    while let Some(Ok(line)) = lines.next() {
        if let Some((id, index)) = line.strip_prefix("ack ").and_then(|ack| ack.split_once(' ')) {
            let previous = acknowledged.insert(id.parse().unwrap(), index.parse().unwrap());
            assert!(previous < Some(index.parse().unwrap()), "acknowledged out of order");
            seen += 1;
        }
        if seen == acks {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= acks, "the child ended by itself after {seen}");
    acknowledged
}

#[test]
fn acknowledged_entries_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    for acks in [1, 100, 1500, 4000] {
        let acknowledged = run_and_kill(dir.path(), acks);
        let engine = open(dir.path(), small());
        for (id, last) in acknowledged {
            let log = log(&engine, id);
            let end = log.state().last.map_or(0, |last| last.index.0 + 1);
            assert!(end > last, "log {id} ends at {end}, {last} was acknowledged");
            let entries =
                log.entries(Index(0), Index(u64::MAX), usize::MAX, PayloadPart::Full).unwrap();
            assert_eq!(indexes(&entries), (0..end).collect::<Vec<_>>());
            let mut offset = 0;
            for entry in &entries {
                batch::verify(&entry.payload).unwrap();
                assert_eq!(entry.base_offset, Offset(offset));
                offset += 3;
            }
            assert_eq!(log.state().end_offset, Offset(offset));
        }
    }
}
