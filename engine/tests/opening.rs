//! Opening says what is wrong and what to do, and closing lets go of everything.
//!
//! The lock is held by a real second process: this test binary runs itself with a variable set.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use fixture::{append, batch_entry, log, open, small};
use jangbu_engine::{Engine, Error, Index, LogId, Offset, Options, PayloadPart, Term};

const CHILD_DIR: &str = "JANGBU_TEST_LOCK_DIR";

fn refused(dir: &Path) -> Error {
    Engine::open(dir, Options::default(), Arc::new(|_| ())).expect_err("it must not open")
}

/// Not a test of its own: what the second process runs.
#[test]
fn child_holds_the_lock() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let _engine = open(Path::new(&dir), small());
    let mut line = String::new();
    std::io::Write::write_all(&mut std::io::stderr(), b"locked\n").unwrap();
    std::io::stdin().read_line(&mut line).unwrap();
}

#[test]
fn a_directory_in_use_by_another_process_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_holds_the_lock", "--nocapture"])
        .env(CHILD_DIR, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "locked"));
    let error = refused(dir.path());
    assert!(matches!(&error, Error::Locked { dir: named } if named == dir.path()), "{error}");
    let looking = jangbu_engine::inspect::Store::open(dir.path());
    assert!(matches!(looking, Err(Error::Locked { .. })), "a running store is not looked into");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    open(dir.path(), small()).close().unwrap();
}

#[test]
fn a_directory_in_use_by_this_process_is_locked_until_closed() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let kept = log(&engine, 1);
    append(&kept, vec![batch_entry(0, 1, 1, 10)]);
    assert!(matches!(refused(dir.path()), Error::Locked { .. }));
    engine.close().unwrap();
    engine.close().unwrap();
    assert!(matches!(kept.read(Offset(0), Offset(1), 1), Err(Error::Closed)));
    let entries = kept.entries(Index(0), Index(1), 1, PayloadPart::Full);
    assert!(matches!(entries, Err(Error::Closed)));
    let appended = kept.append(vec![batch_entry(1, 1, 1, 10)], Box::new(|_| ()));
    assert!(matches!(appended, Err(Error::Closed)));
    let again = open(dir.path(), small());
    assert_eq!(log(&again, 1).state().end_offset, Offset(1));
}

#[test]
fn dropping_the_last_handle_closes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let kept = log(&engine, 1);
    drop(engine);
    append(&kept, vec![batch_entry(0, 1, 1, 10)]);
    drop(kept);
    assert_eq!(log(&open(dir.path(), small()), 1).state().end_offset, Offset(1));
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let below = file.join("data");
    let error = refused(&below);
    assert!(matches!(&error, Error::Directory { dir, .. } if *dir == below), "{error}");
    assert!(matches!(refused(&file), Error::Directory { .. }));
}

#[test]
fn an_unknown_format_is_refused_and_left_alone() {
    for text in ["jangbu storage format 4\n", "jangbu storage format 1\n", "something else", ""] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), small()).close().unwrap();
        let file = dir.path().join("jangbu-format");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "jangbu storage format 3\n");
        std::fs::write(&file, text).unwrap();
        let error = refused(dir.path());
        assert!(matches!(error, Error::UnknownFormat { known: 3, .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(refused(dir.path()), Error::UnknownFormat { .. }));
    }
}

#[test]
fn a_purge_of_a_log_without_records_leaves_as_many_changes_as_it_states() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..4 {
        let engine = open(dir.path(), small());
        log(&engine, 1).purge(LogId { term: Term(1), index: Index(round) }).unwrap();
        engine.close().unwrap();
    }
    assert_eq!(open(dir.path(), small()).stats().lost_changes, 0);
}

#[test]
fn options_reach_rocksdb() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    append(&log(&engine, 1), vec![batch_entry(0, 1, 1, 10)]);
    engine.close().unwrap();
    let mut files: Vec<_> = std::fs::read_dir(dir.path().join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("OPTIONS-"))
        .collect();
    files.sort();
    let text = std::fs::read_to_string(files.last().unwrap()).unwrap();
    // A family's options stand in two sections.
    let family = |name: &str| {
        let sections = ["CFOptions", "TableOptions/BlockBasedTable"].map(|section| {
            let begins = format!("[{section} \"{name}");
            let options = text.split(begins.as_str()).nth(1).unwrap();
            options.split("\n[").next().unwrap().to_owned()
        });
        sections.concat()
    };
    let (bucket, keys) = (family("bucket-"), family("keys"));
    let (bucket, keys) = (bucket.as_str(), keys.as_str());
    for (part, line) in [
        (text.as_str(), "recycle_log_file_num=10"),
        (text.as_str(), "track_and_verify_wals_in_manifest=true"),
        (text.as_str(), "wal_recovery_mode=kPointInTimeRecovery"),
        (text.as_str(), "manual_wal_flush=false"),
        (text.as_str(), "paranoid_checks=true"),
        (bucket, "disable_auto_compactions=true"),
        (bucket, "memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix.4"),
        (bucket, "prefix_extractor=rocksdb.FixedPrefix.4"),
        (bucket, "compression=kNoCompression"),
        (bucket, "index_type=kBinarySearchWithFirstKey"),
        (bucket, "index_shortening=kNoShortening"),
        (bucket, "block_size=32768"),
        (bucket, "whole_key_filtering=false"),
        (keys, "memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix.8"),
        (keys, "min_write_buffer_number_to_merge=8"),
    ] {
        assert!(part.lines().any(|l| l.trim() == line), "{line} is not in effect");
    }
}
