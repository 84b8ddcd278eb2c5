//! What the engine's tests share: valid batches, small engines, appends that are waited for.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::path::Path;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use jangbu_engine::batch::HEADER_BYTES;
use jangbu_engine::{
    Engine, Entry, EntryKind, Error, Index, NewEntry, Options, PartitionId, PartitionLog, Result,
    RetentionClass, Term,
};

/// A valid batch of `count` records with `records_bytes` bytes behind its header.
pub(crate) fn batch(count: u32, records_bytes: usize, max_timestamp: i64, fill: u8) -> Bytes {
    let mut bytes = vec![fill; HEADER_BYTES + records_bytes];
    let length = i32::try_from(bytes.len() - 12).unwrap();
    let count = i32::try_from(count).unwrap();
    bytes[..HEADER_BYTES].fill(0);
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    // The codec's bits say lz4: the records are opaque.
    bytes[22] = 3;
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

/// A new entry with a batch of `count` records.
pub(crate) fn batch_entry(index: u64, term: u64, count: u32, records_bytes: usize) -> NewEntry {
    let fill = u8::try_from(index % 251).unwrap();
    let timestamp = i64::try_from(index).unwrap() * 10;
    NewEntry {
        index: Index(index),
        term: Term(term),
        kind: EntryKind::Batch,
        payload: batch(count, records_bytes, timestamp, fill),
    }
}

/// A new entry that takes no offset.
pub(crate) fn blank_entry(index: u64, term: u64) -> NewEntry {
    let kind = EntryKind::Blank;
    NewEntry { index: Index(index), term: Term(term), kind, payload: Bytes::new() }
}

/// Options under which everything happens soon: small buckets, small memtables, hardly any cache.
pub(crate) fn small() -> Options {
    Options {
        cache_bytes_max: 0,
        bucket_bytes_max: 64 << 10,
        memtable_bytes: 1 << 20,
        memtables_bytes_max: 4 << 20,
        ..Options::default()
    }
}

/// Opens the engine in `dir`.
pub(crate) fn open(dir: &Path, options: Options) -> Engine {
    Engine::open(dir, options, Arc::new(|error: &Error| panic!("the engine failed: {error}")))
        .unwrap()
}

/// The log of `id`.
pub(crate) fn log(engine: &Engine, id: u32) -> PartitionLog {
    engine.log(PartitionId(id), RetentionClass::from_retention_ms(-1)).unwrap()
}

/// Calls `send` with a `done` and waits until it is called.
pub(crate) fn durable(
    send: impl FnOnce(Box<dyn FnOnce(Result<()>) + Send>) -> Result<()>,
) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    send(Box::new(move |result| sender.send(result).unwrap()))?;
    receiver.recv().unwrap()
}

/// Appends and waits until it is durable.
pub(crate) fn append(log: &PartitionLog, entries: Vec<NewEntry>) {
    durable(|done| log.append(entries, done)).unwrap();
}

/// Appends and does not wait.
pub(crate) fn append_lazily(log: &PartitionLog, entries: Vec<NewEntry>) {
    log.append(entries, Box::new(|_| ())).unwrap();
}

/// The indexes of `entries`.
pub(crate) fn indexes(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.index.0).collect()
}
