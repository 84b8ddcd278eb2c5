//! Bytes that changed on disk are an error, never an entry.
//!
//! Buckets are small, so that closed ones lie in table files; one byte in the middle of them is flipped
//! behind the engine's back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fixture::{append, batch_entry, indexes, log, open, small};
use jangbu_engine::{Engine, Error, Offset, Options, PartitionId, RetentionClass};

fn tables(dir: &Path) -> Vec<PathBuf> {
    let mut tables: Vec<_> = std::fs::read_dir(dir.join("store"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .filter(|path| path.metadata().unwrap().len() > 50_000)
        .collect();
    tables.sort();
    tables
}

fn flip(file: &Path) {
    let length = file.metadata().unwrap().len();
    flip_at(file, usize::try_from(length).unwrap() / 2);
}

fn flip_at(file: &Path, at: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// Flips a byte of the batch at `offset`, if `file` holds it: its header has the term, 1, and then the offset.
fn flip_in_batch(file: &Path, offset: u64) -> bool {
    let bytes = std::fs::read(file).unwrap();
    let header = [1_u64.to_be_bytes(), offset.to_be_bytes()].concat();
    let found = bytes.windows(16).rposition(|window| window == header);
    found.inspect(|at| flip_at(file, at + 100)).is_some()
}

/// Writes some buckets; returns their tables, oldest first.
fn fill(dir: &Path) -> Vec<PathBuf> {
    let engine = open(dir, small());
    let log = log(&engine, 1);
    for index in 0..300 {
        append(&log, vec![batch_entry(index, 1, 1, 1000)]);
    }
    engine.close().unwrap();
    // A start writes what the write-ahead log held into tables.
    open(dir, small()).close().unwrap();
    let files = tables(dir);
    assert!(files.len() > 2, "{} tables prove nothing", files.len());
    files
}

#[test]
fn a_log_whose_tail_is_corrupt_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let last = fill(dir.path()).into_iter().filter(|file| flip_in_batch(file, 299)).count();
    assert_eq!(last, 1, "tables hold the last batch");
    let engine = open(dir.path(), small());
    let class = RetentionClass::from_retention_ms(-1);
    let error = engine.log(PartitionId(1), class).unwrap_err();
    assert!(matches!(error, Error::Corrupt { partition: PartitionId(1), .. }), "{error}");
    append(&log(&engine, 2), vec![batch_entry(0, 1, 1, 10)]);
}

#[test]
fn a_last_batch_that_fails_its_own_checksum_does_not_open_though_its_table_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let mut rotten = batch_entry(1, 1, 1, 1000);
    let mut payload = rotten.payload.to_vec();
    payload[500] ^= 1;
    rotten.payload = payload.into();
    append(&log(&engine, 1), vec![batch_entry(0, 1, 1, 10), rotten]);
    engine.close().unwrap();
    let engine = open(dir.path(), small());
    let class = RetentionClass::from_retention_ms(-1);
    let error = engine.log(PartitionId(1), class).unwrap_err();
    assert!(error.to_string().contains("last batch"), "{error}");
}

#[test]
fn a_flipped_byte_in_a_table_is_corruption_and_the_rest_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let files = fill(dir.path());
    flip(&files[0]);
    let engine = open(dir.path(), small());
    let log = log(&engine, 1);
    // A read ends before the damage; the next one begins with it.
    let mut from = Offset(0);
    let error = loop {
        match log.read(from, Offset(300), usize::MAX) {
            Ok(entries) => from = entries.last().expect("it goes on").next_offset(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(from < Offset(100), "the damage is in the first table, and the read came to {from}");
    append(&log, vec![batch_entry(300, 1, 1, 1000)]);
    assert_eq!(indexes(&log.read(Offset(300), Offset(301), 1).unwrap()), [300]);
}

/// Appends 100 entries that lie in the write-ahead log alone, and stops cleanly. Returns that log's file.
fn fill_wal(dir: &Path) -> PathBuf {
    let engine = open(dir, Options::default());
    let log = log(&engine, 1);
    for index in 0..100 {
        append(&log, vec![batch_entry(index, 1, 1, 1000)]);
    }
    engine.close().unwrap();
    let holds_entries = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "log")
            && path.metadata().unwrap().len() > 100_000
    };
    let entries = std::fs::read_dir(dir.join("store")).unwrap();
    let mut logs: Vec<_> =
        entries.map(|entry| entry.unwrap().path()).filter(holds_entries).collect();
    assert_eq!(logs.len(), 1, "one log holds everything: {logs:?}");
    logs.remove(0)
}

fn reopen(dir: &Path, accept_loss: bool) -> Result<Engine, Error> {
    let options = Options { accept_loss, ..small() };
    Engine::open(dir, options, Arc::new(|error: &Error| panic!("the engine failed: {error}")))
}

/// The store is refused, again and again, until the loss is accepted; then it goes on with what is there.
fn refused_until_accepted(dir: &Path) {
    for _ in 0..2 {
        let error = reopen(dir, false).unwrap_err();
        assert!(matches!(&error, Error::Lost { dir: named, .. } if named == dir), "{error}");
        assert!(error.to_string().contains("came back shorter"), "{error}");
    }
    let engine = reopen(dir, true).unwrap();
    assert!(engine.stats().lost_changes > 0);
    let first = log(&engine, 1);
    let end = u64::try_from(first.state().end_offset.0).unwrap();
    assert!(0 < end && end < 100, "{end} of 100 are left");
    let kept = first.read(Offset(0), Offset(100), usize::MAX).unwrap();
    assert_eq!(indexes(&kept), (0..end).collect::<Vec<_>>());
    append(&first, vec![batch_entry(end, 2, 1, 10)]);
    engine.close().unwrap();
    drop(first);
    let engine = reopen(dir, false).unwrap();
    assert_eq!(engine.stats().lost_changes, 0);
    assert_eq!(log(&engine, 1).state().end_offset, Offset(i64::try_from(end).unwrap() + 1));
}

#[test]
fn a_flipped_bit_in_the_synced_middle_of_the_log_is_a_loss_that_must_be_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let file = fill_wal(dir.path());
    flip_at(&file, 50_000);
    refused_until_accepted(dir.path());
}

#[test]
fn a_log_cut_short_is_a_loss_that_must_be_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let file = fill_wal(dir.path());
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(50_000).unwrap();
    refused_until_accepted(dir.path());
}

#[test]
fn a_store_that_was_replaced_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill_wal(dir.path());
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    let error = reopen(dir.path(), false).unwrap_err();
    assert!(error.to_string().contains("another one"), "{error}");
}

#[test]
fn stops_rolls_and_deletions_are_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let mut index = 0;
    for round in 0..6 {
        let engine = reopen(dir.path(), false).unwrap();
        let first = log(&engine, 1);
        for _ in 0..40 {
            append(&first, vec![batch_entry(index, 1, 1, 5000)]);
            index += 1;
        }
        append(&log(&engine, 10 + round), vec![batch_entry(0, 1, 1, 10)]);
        if round % 2 == 1 {
            engine.delete(PartitionId(10 + round)).unwrap();
        }
        engine.close().unwrap();
    }
    assert_eq!(reopen(dir.path(), false).unwrap().stats().lost_changes, 0);
}
