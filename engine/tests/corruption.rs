//! Bytes that changed on disk are an error, never an entry.
//!
//! Buckets are small, so that closed ones lie in table files; one byte in the middle of them is flipped
//! behind the engine's back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use std::path::{Path, PathBuf};

use fixture::{append, batch_entry, indexes, log, open, small};
use jangbu_engine::{Error, Offset, PartitionId, RetentionClass};

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
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
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
    for file in fill(dir.path()) {
        flip(&file);
    }
    let engine = open(dir.path(), small());
    let class = RetentionClass::from_retention_ms(-1);
    let error = engine.log(PartitionId(1), class).unwrap_err();
    assert!(matches!(error, Error::Corrupt { partition: PartitionId(1), .. }), "{error}");
    append(&log(&engine, 2), vec![batch_entry(0, 1, 1, 10)]);
}

#[test]
fn a_flipped_byte_in_a_table_is_corruption_and_the_rest_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let files = fill(dir.path());
    flip(&files[0]);
    let engine = open(dir.path(), small());
    let log = log(&engine, 1);
    let error = log.read(Offset(0), Offset(300), usize::MAX).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    append(&log, vec![batch_entry(300, 1, 1, 1000)]);
    assert_eq!(indexes(&log.read(Offset(300), Offset(301), 1).unwrap()), [300]);
}
