//! Looking into a stopped store finds what was damaged, where, and nothing in a store that is whole.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use std::path::{Path, PathBuf};

use fixture::{append, batch_entry, blank_entry, indexes, log, open, small};
use jangbu_engine::inspect::{Repair, Report, Store, repair};
use jangbu_engine::{Error, Index, LogId, Offset, Options, PartitionId, Term};

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

/// Flips bits near the end of a file: of a table that is the footer.
fn flip_footer(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.len() - 4;
    bytes[at] ^= 0xff;
    std::fs::write(file, bytes).unwrap();
}

fn refused(dir: &Path) -> Error {
    jangbu_engine::Engine::open(dir, small(), std::sync::Arc::new(|_: &Error| ())).unwrap_err()
}

#[test]
fn a_store_that_opens_is_not_repaired() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    assert_eq!(repair(dir.path()).unwrap(), Repair::NotNeeded);
    assert_eq!(verify(dir.path()).problems, []);
}

#[test]
fn a_table_that_cannot_be_opened_is_set_aside_and_everything_else_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let files = tables(dir.path());
    let damaged = &files[files.len() / 2];
    flip_footer(damaged);
    assert!(matches!(refused(dir.path()), Error::Damaged { .. }), "a start is refused");
    let Repair::Done { reason, lost } = repair(dir.path()).unwrap() else {
        panic!("it was refused before")
    };
    let name = damaged.file_name().unwrap();
    assert!(reason.contains(name.to_str().unwrap()), "{reason}");
    let named = |file: &PathBuf| file.file_name() == Some(name) && file.exists();
    assert!(lost.iter().any(named), "{lost:?}");
    assert!(matches!(refused(dir.path()), Error::Lost { .. }), "something is missing");

    let engine = open(dir.path(), Options { accept_loss: true, ..small() });
    let log = log(&engine, 3);
    let end = log.state().end_offset;
    assert_eq!(end, Offset(392), "nothing is missing at its end");
    let (mut read, mut missing, mut from) = (Vec::new(), 0, Offset(0));
    while from < end {
        match log.read(from, end, 1 << 20) {
            Ok(entries) => {
                read.extend(indexes(&entries));
                from = entries.last().unwrap().next_offset();
            }
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                (missing, from) = (missing + 1, Offset(from.0 + 1));
            }
        }
    }
    assert!(missing > 0, "what lay in the table cannot be read");
    assert_eq!(read.first(), Some(&0));
    assert_eq!(read.last(), Some(&199));
    // Each batch has two records; an entry in fifty is none.
    assert_eq!(2 * read.len() + missing, 392, "what is missing is known to be, offset by offset");
    append(&log, vec![batch_entry(200, 1, 1, 10)]);
}

#[test]
fn a_store_without_its_manifest_is_whole_again_after_a_repair() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let before = verify(dir.path());
    let store = dir.path().join("store");
    let current = std::fs::read_to_string(store.join("CURRENT")).unwrap();
    flip_footer(&store.join(current.trim()));
    assert!(matches!(refused(dir.path()), Error::Damaged { .. }), "a start is refused");
    let Repair::Done { lost, .. } = repair(dir.path()).unwrap() else {
        panic!("it was refused before")
    };
    assert_eq!(lost, [store.join("lost").join(current.trim())]);
    open(dir.path(), Options { accept_loss: true, ..small() }).close().unwrap();
    let after = verify(dir.path());
    assert_eq!(after.problems, []);
    assert_eq!((before.partitions, before.entries), (after.partitions, after.entries));
}
