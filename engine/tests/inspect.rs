//! Looking into a stopped store finds what was damaged, where, and nothing in a store that is whole.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use std::path::{Path, PathBuf};

use fixture::{append, batch_entry, blank_entry, indexes, log, open, small};
use jangbu_engine::inspect::{Report, Store};
use jangbu_engine::{Error, Index, LogId, PartitionId, Term};

/// Three logs over several buckets, with a truncation, a purge and a deletion behind them.
fn fill(dir: &Path) {
    let engine = open(dir, small());
    let logs: Vec<_> = (1..=3).map(|id| log(&engine, id)).collect();
    for index in 0..200 {
        for log in &logs {
            let entry =
                if index % 50 == 7 { blank_entry(index, 1) } else { batch_entry(index, 1, 2, 900) };
            append(log, vec![entry]);
        }
    }
    logs[0].truncate_after(Some(Index(150))).unwrap();
    append(&logs[0], vec![batch_entry(151, 2, 1, 900)]);
    logs[1].purge(LogId { term: Term(1), index: Index(90) }).unwrap();
    append(&log(&engine, 4), vec![batch_entry(0, 1, 1, 70_000)]);
    engine.delete(PartitionId(4)).unwrap();
    engine.close().unwrap();
    // A start writes what the write-ahead log held into tables.
    open(dir, small()).close().unwrap();
}

fn verify(dir: &Path) -> Report {
    Store::open(dir).unwrap().verify(|_, _| ()).unwrap()
}

fn tables(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("store")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut tables: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .filter(|path| path.metadata().unwrap().len() > 50_000)
        .collect();
    tables.sort();
    tables
}

/// Every file of the store but RocksDB's lock, with its bytes.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(dir.join("store")).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.to_string_lossy().contains("LOG"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_whole_store_has_no_problem_and_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let before = contents(dir.path());
    let report = verify(dir.path());
    assert_eq!(report.problems, []);
    assert_eq!((report.problem_count, report.partitions), (0, 3));
    assert!(report.entries >= 200 + 152, "{} entries", report.entries);
    assert!(report.buckets > 3);
    let store = Store::open(dir.path()).unwrap();
    let partitions = store.partitions().unwrap();
    assert_eq!(partitions.iter().map(|info| info.id.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(partitions[0].indexes, Some((Index(0), Index(151))));
    assert_eq!(partitions[1].indexes, Some((Index(91), Index(199))));
    assert!(store.buckets().unwrap().iter().any(|bucket| bucket.state == "active"));
    let mut dumped = Vec::new();
    store
        .dump(PartitionId(1), |entry| {
            let (entry, header) = entry.unwrap();
            assert_eq!(header.is_some(), entry.index.0 % 50 != 7);
            dumped.push(entry.clone());
            true
        })
        .unwrap();
    assert_eq!(indexes(&dumped), (0..152).collect::<Vec<_>>());
    drop(store);
    assert!(contents(dir.path()) == before, "looking changed the store");
}

#[test]
fn every_damaged_table_is_named_and_the_rest_is_still_read() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let whole = verify(dir.path()).entries;
    let files = tables(dir.path());
    assert!(files.len() > 2);
    for file in &files {
        let kept = std::fs::read(file).unwrap();
        let mut bad = kept.clone();
        bad[kept.len() / 2] ^= 1;
        std::fs::write(file, &bad).unwrap();
        let report = verify(dir.path());
        assert!(report.problem_count > 0, "{} is damaged", file.display());
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(report.problems.iter().any(|problem| problem.what.contains(&name)), "{report:?}");
        assert!(report.entries > whole / 2, "{} of {whole} entries were read", report.entries);
        std::fs::write(file, &kept).unwrap();
    }
    assert_eq!(verify(dir.path()).problem_count, 0);
}

#[test]
fn a_damaged_log_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), jangbu_engine::Options::default());
    for index in 0..100 {
        append(&log(&engine, 1), vec![batch_entry(index, 1, 1, 1000)]);
    }
    engine.close().unwrap();
    assert_eq!(verify(dir.path()).problem_count, 0);
    let entries = std::fs::read_dir(dir.path().join("store")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let file = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max_by_key(|path| path.metadata().unwrap().len())
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[50_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let report = verify(dir.path());
    assert!(report.problems.iter().any(|p| p.what.contains("came back shorter")), "{report:?}");
}

#[test]
fn what_is_no_store_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open(dir.path()), Err(Error::Directory { .. })));
    std::fs::write(dir.path().join("jangbu-format"), "jangbu storage format 9\n").unwrap();
    assert!(matches!(Store::open(dir.path()), Err(Error::UnknownFormat { .. })));
}
