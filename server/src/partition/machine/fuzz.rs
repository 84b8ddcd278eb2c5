//! Entries and checkpoints of a partition that are not what they should be.
//!
//! Whatever is committed, the machine goes on, the high watermark covers the entry, and the log start never moves
//! back nor beyond what is committed.

use jangbu_engine::{
    Engine, Index, NewEntry, Options, PartitionId, PartitionLog, RetentionClass, batch,
};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq};
use proptest::proptest;
use tempfile::TempDir;

use super::*;

const RECORDS: i64 = 20;

/// A log of as many batches of one record.
fn log() -> (TempDir, Engine, PartitionLog) {
    let dir = tempfile::tempdir().unwrap();
    let failed = |error: &jangbu_engine::Error| panic!("the engine failed: {error}");
    let engine = Engine::open(dir.path(), Options::default(), Arc::new(failed)).unwrap();
    let log = engine.log(PartitionId(1), RetentionClass::from_retention_ms(-1)).unwrap();
    let entries = (0..RECORDS).map(|index| NewEntry {
        index: Index(u64::try_from(index).unwrap()),
        term: Term(1),
        kind: EntryKind::Batch,
        payload: header(-1, -1, 0, 0),
    });
    let (done, durable) = std::sync::mpsc::channel();
    log.append(entries.collect(), Box::new(move |result| done.send(result).unwrap())).unwrap();
    durable.recv().unwrap().unwrap();
    (dir, engine, log)
}

/// A batch's fixed header, its checksum included.
fn header(producer_id: i64, epoch: i16, sequence: i32, last_offset_delta: i32) -> Bytes {
    let mut bytes = vec![0; batch::HEADER_BYTES];
    bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
    bytes[16] = 2;
    bytes[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
    bytes[43..51].copy_from_slice(&producer_id.to_be_bytes());
    bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
    bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
    bytes[57..61].copy_from_slice(&last_offset_delta.wrapping_add(1).to_be_bytes());
    batch::rewrite(&mut bytes, 0, 0);
    bytes.into()
}

fn committed(kind: EntryKind, next_offset: i64, payload: Bytes) -> Committed {
    Committed {
        kind,
        base_offset: Offset(next_offset - 1),
        next_offset: Offset(next_offset),
        payload,
    }
}

#[test]
fn any_command_leaves_the_log_start_where_it_was_or_further_on() {
    let (_dir, _engine, log) = log();
    proptest!(|(asked: i64, raw in vec(any::<u8>(), 0..40), next in 1..=RECORDS)| {
        let mut machine = PartitionMachine::new(Arc::default(), log.clone(), Arc::default());
        for payload in [set_log_start(Offset(asked)), Bytes::from(raw)] {
            let before = log.state().log_start_offset;
            machine.apply(&committed(EntryKind::Command, next, payload));
            let after = log.state().log_start_offset;
            prop_assert!(before <= after && after <= before.max(Offset(next)));
        }
    });
}

#[test]
fn whatever_a_batch_says_the_high_watermark_covers_it() {
    let (_dir, _engine, log) = log();
    let batch = (-2..3_i64, any::<i16>(), any::<i32>(), 0..i32::MAX);
    proptest!(|(batches in vec(batch, 1..10), cut in 0..80_usize)| {
        let mut machine = PartitionMachine::new(Arc::default(), log.clone(), Arc::default());
        let whole = batches.into_iter().map(|(id, epoch, first, delta)| {
            header(id, epoch, first, delta)
        });
        let torn = header(1, 1, 1, 1).slice(..cut.min(batch::HEADER_BYTES));
        for (next, payload) in (1..).zip(whole.chain([torn, Bytes::from(vec![0xff; cut])])) {
            machine.apply(&committed(EntryKind::Batch, next, payload));
            prop_assert_eq!(machine.progress.high_watermark(), Offset(next));
        }
        let mut again = PartitionMachine::new(Arc::default(), machine.log.clone(), Arc::default());
        again.restore(&machine.checkpoint(), Offset(7)).unwrap();
        prop_assert_eq!(
            &again.progress.tables.lock().committed,
            &machine.progress.tables.lock().committed
        );
    });
}

#[test]
fn arbitrary_checkpoints_fail_or_hold() {
    let (_dir, _engine, log) = log();
    proptest!(|(bytes in vec(any::<u8>(), 0..100), next: i64)| {
        let mut machine = PartitionMachine::new(Arc::default(), log.clone(), Arc::default());
        if machine.restore(&bytes, Offset(next)).is_ok() {
            prop_assert_eq!(machine.progress.high_watermark(), Offset(next));
            machine.apply(&committed(EntryKind::Batch, 1, header(1, 0, 0, 0)));
        }
    });
}
