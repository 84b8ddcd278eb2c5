//! What a log gives back: whole batches with their offsets, from memory and from disk alike.
//!
//! Most cases run twice, with a cache that holds everything and with none, because the two ways of
//! reading must not be told apart.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use fixture::{
    append, append_lazily, batch_entry, blank_entry, durable, indexes, log, open, small,
};
use jangbu_engine::{
    Engine, EntryKind, Error, Index, LogId, Offset, Options, PartitionId, PayloadPart,
    RetentionClass, Term, batch,
};

fn both(test: impl Fn(Options)) {
    test(Options { cache_bytes_max: 64 << 20, ..small() });
    test(small());
}

#[test]
fn entries_come_back_with_their_offsets_stamped_in() {
    both(|options| {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path(), options);
        let log = log(&engine, 1);
        append(&log, vec![blank_entry(0, 7), batch_entry(1, 7, 3, 100), batch_entry(2, 9, 2, 100)]);
        let entries = log.entries(Index(0), Index(9), usize::MAX, PayloadPart::Full).unwrap();
        assert_eq!(indexes(&entries), [0, 1, 2]);
        assert_eq!(entries[0].kind, EntryKind::Blank);
        assert_eq!(entries[2].base_offset, Offset(3));
        let header = batch::verify(&entries[2].payload).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch), (Offset(3), 9));
        assert_eq!(log.state().end_offset, Offset(5));
        let heads = log.entries(Index(1), Index(2), 0, PayloadPart::Header).unwrap();
        assert_eq!(heads[0].payload.len(), batch::HEADER_BYTES);
        let epochs: Vec<_> =
            log.epochs().iter().map(|e| (e.term.0, e.first_index.0, e.start_offset.0)).collect();
        assert_eq!(epochs, [(7, 0, 0), (9, 2, 3)]);
    });
}

#[test]
fn an_offset_in_the_middle_of_a_batch_finds_the_batch_that_holds_it() {
    both(|options| {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path(), options);
        let log = log(&engine, 1);
        append(&log, (0..400).map(|index| batch_entry(index, 1, 10, 1000)).collect());
        for offset in [0, 1, 9, 10, 1234, 3999] {
            let entries = log.read(Offset(offset), Offset(4000), 1).unwrap();
            assert_eq!(indexes(&entries), [u64::try_from(offset / 10).unwrap()]);
        }
        assert!(log.read(Offset(4000), Offset(4000), 1).unwrap().is_empty());
        assert!(matches!(
            log.read(Offset(4001), Offset(9999), 1),
            Err(Error::OffsetOutOfRange { end: Offset(4000), .. })
        ));
    });
}

#[test]
fn a_byte_limit_cuts_between_batches_and_until_hides_what_is_behind_it() {
    both(|options| {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path(), options);
        let log = log(&engine, 1);
        append(&log, (0..20).map(|index| batch_entry(index, 1, 2, 939)).collect());
        let bytes = |max| indexes(&log.read(Offset(3), Offset(40), max).unwrap());
        assert_eq!(bytes(0), [1]);
        assert_eq!(bytes(1999), [1]);
        assert_eq!(bytes(2000), [1, 2]);
        assert_eq!(bytes(3999), [1, 2, 3]);
        assert_eq!(indexes(&log.read(Offset(0), Offset(4), 1 << 20).unwrap()), [0, 1]);
        assert_eq!(indexes(&log.read(Offset(0), Offset(5), 1 << 20).unwrap()), [0, 1]);
        let first = log.entries(Index(4), Index(20), 2500, PayloadPart::Full).unwrap();
        assert_eq!(indexes(&first), [4, 5]);
    });
}

#[test]
fn a_read_goes_on_from_disk_into_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), Options { cache_bytes_max: 50_000, ..small() });
    let log = log(&engine, 1);
    for index in 0..200 {
        append(&log, vec![batch_entry(index, 1, 1, 2000)]);
    }
    assert!(!log.is_cached(Offset(0)));
    assert!(log.is_cached(Offset(199)));
    assert!(engine.stats().cache_bytes <= 50_000);
    assert!(engine.stats().buckets > 3);
    let entries = log.read(Offset(0), Offset(200), usize::MAX).unwrap();
    assert_eq!(indexes(&entries), (0..200).collect::<Vec<_>>());
}

#[test]
fn reads_of_the_disk_one_after_the_other_give_every_batch_once_and_nearly_fill_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { bucket_bytes_max: 1 << 20, ..small() };
    let engine = open(dir.path(), options);
    let log = log(&engine, 1);
    // Between two rows of the offset index lie some batches or one; the rest of the log is behind the last row.
    let sizes = [3_000, 50_000, 300_000, 900];
    for index in 0..200 {
        let size = sizes[usize::try_from(index).unwrap() / 50];
        append(&log, vec![batch_entry(index, 1, 2, size)]);
    }
    engine.rest().unwrap();
    for bytes_max in [1, 100_000, 512 << 10, 1 << 20, 3 << 20, usize::MAX] {
        let (mut from, mut seen, mut pieces) = (Offset(1), Vec::new(), Vec::new());
        while from < Offset(400) {
            let entries = log.read(from, Offset(400), bytes_max).unwrap();
            let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
            assert!(bytes <= bytes_max || entries.len() == 1, "{bytes} bytes for {bytes_max}");
            from = entries.last().expect("there is more").next_offset();
            seen.extend(indexes(&entries));
            pieces.push(bytes);
        }
        assert_eq!(seen, (0..200).collect::<Vec<_>>(), "{bytes_max}");
        // What a row costs at the end of a piece is a batch and what lies between two rows.
        let least = bytes_max.saturating_sub(2 * 300_100 + (128 << 10));
        let all_but_last = &pieces[..pieces.len() - 1];
        assert!(all_but_last.iter().all(|bytes| *bytes >= least), "{bytes_max}: {pieces:?}");
    }
}

#[test]
fn many_partitions_share_a_group_and_keep_apart() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let logs: Vec<_> = (0..300).map(|id| log(&engine, id)).collect();
    for index in 0..5 {
        for log in &logs {
            append_lazily(log, vec![batch_entry(index, 1, log.id().0 + 1, 300)]);
        }
    }
    append(&logs[0], vec![blank_entry(5, 1)]);
    let stats = engine.stats();
    assert!(stats.write_groups < 1500, "{} groups", stats.write_groups);
    engine.close().unwrap();
    let engine = open(dir.path(), small());
    assert_eq!(engine.partitions().len(), 300);
    for id in 0..300u32 {
        let log = log(&engine, id);
        let end = Offset(i64::from(id + 1) * 5);
        assert_eq!(log.state().end_offset, end);
        assert_eq!(indexes(&log.read(Offset(0), end, usize::MAX).unwrap()), [0, 1, 2, 3, 4]);
    }
}

#[test]
fn a_truncation_over_buckets_leaves_nothing_of_the_suffix() {
    both(|options| {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path(), options.clone());
        let first = log(&engine, 1);
        for index in 0..600 {
            append_lazily(&first, vec![batch_entry(index, 1 + index / 100, 2, 1000)]);
        }
        append(&first, vec![batch_entry(600, 7, 2, 1000)]);
        assert!(engine.stats().buckets > 5);
        first.truncate_after(Some(Index(99))).unwrap();
        assert_eq!(first.state().end_offset, Offset(200));
        append(&first, vec![batch_entry(100, 9, 5, 10)]);
        let check = |log: &jangbu_engine::PartitionLog| {
            assert_eq!(log.state().end_offset, Offset(205));
            assert_eq!(log.epochs().iter().map(|e| e.term.0).collect::<Vec<_>>(), [1, 9]);
            let entries = log.read(Offset(190), Offset(205), usize::MAX).unwrap();
            assert_eq!(indexes(&entries), (95..=100).collect::<Vec<_>>());
            assert_eq!(entries[5].record_count, 5);
        };
        check(&first);
        engine.close().unwrap();
        let engine = open(dir.path(), options);
        check(&log(&engine, 1));
    });
}

#[test]
fn a_purge_moves_the_start_and_may_pass_the_end() {
    both(|options| {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path(), options.clone());
        let first = log(&engine, 1);
        append(&first, (0..300).map(|index| batch_entry(index, 1, 2, 1000)).collect());
        first.purge(LogId { term: Term(1), index: Index(149) }).unwrap();
        assert_eq!(first.state().log_start_offset, Offset(300));
        assert!(matches!(
            first.read(Offset(299), Offset(600), 1),
            Err(Error::OffsetOutOfRange { .. })
        ));
        assert_eq!(indexes(&first.read(Offset(300), Offset(600), 1).unwrap()), [150]);
        let kept = first.entries(Index(0), Index(152), usize::MAX, PayloadPart::Full).unwrap();
        assert_eq!(indexes(&kept), [150, 151]);
        assert!(matches!(first.truncate_after(Some(Index(10))), Err(Error::InvalidAppend { .. })));
        let beyond = LogId { term: Term(2), index: Index(400) };
        first.purge(beyond).unwrap();
        assert_eq!(first.state().last, Some(beyond));
        assert!(first.append(vec![blank_entry(300, 2)], Box::new(|_| ())).is_err());
        append(&first, vec![batch_entry(401, 2, 4, 10)]);
        engine.close().unwrap();
        let engine = open(dir.path(), options);
        let log = log(&engine, 1);
        assert_eq!(log.state().purged, Some(beyond));
        assert_eq!(log.state().end_offset, Offset(604));
        assert_eq!(indexes(&log.read(Offset(602), Offset(604), 1).unwrap()), [401]);
        log.truncate_after(None).unwrap();
        assert_eq!(log.state().last, Some(beyond));
        assert_eq!(log.state().end_offset, Offset(600));
    });
}

#[test]
fn a_reset_begins_anew_in_either_direction() {
    both(|options| {
        for (boundary, next) in [(1000, 5000), (50, 7)] {
            let dir = tempfile::tempdir().unwrap();
            let engine = open(dir.path(), options.clone());
            let first = log(&engine, 1);
            append(&first, (0..100).map(|index| batch_entry(index, 1, 2, 1000)).collect());
            let boundary = LogId { term: Term(3), index: Index(boundary) };
            durable(|done| first.reset(boundary, Offset(next), done)).unwrap();
            engine.close().unwrap();
            let engine = open(dir.path(), options.clone());
            let log = log(&engine, 1);
            assert_eq!(log.state().last, Some(boundary));
            assert_eq!(log.state().log_start_offset, Offset(next));
            assert_eq!(log.state().end_offset, Offset(next));
            append(&log, vec![batch_entry(boundary.index.0 + 1, 3, 2, 10)]);
            let entries = log.read(Offset(next), Offset(next + 2), 1 << 20).unwrap();
            assert_eq!(indexes(&entries), [boundary.index.0 + 1]);
        }
    });
}

#[test]
fn timestamps_are_found_through_the_index_also_after_a_restart() {
    both(|options| {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = open(dir.path(), options.clone());
        let mut next = 0;
        for _ in 0..3 {
            let log = log(&engine, 1);
            append(&log, (next..next + 300).map(|i| batch_entry(i, 1, 2, 2000)).collect());
            next += 300;
            engine.close().unwrap();
            engine = open(dir.path(), options.clone());
        }
        let log = log(&engine, 1);
        let end = Offset(1800);
        for (timestamp, index) in [(i64::MIN, 0), (0, 0), (1, 1), (2991, 300), (8990, 899)] {
            let found = log.find_timestamp(timestamp, end).unwrap().unwrap();
            assert_eq!(found.index, Index(index), "timestamp {timestamp}");
        }
        assert_eq!(log.find_timestamp(8991, end).unwrap(), None);
        assert_eq!(log.find_timestamp(8990, Offset(1798)).unwrap(), None);
        assert_eq!(log.find_max_timestamp(end).unwrap().unwrap().index, Index(899));
        assert_eq!(log.find_max_timestamp(Offset(1000)).unwrap().unwrap().index, Index(499));
    });
}

#[test]
fn what_a_group_saves_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let first = log(&engine, 1);
    assert_eq!((first.vote(), first.committed(), first.checkpoint().unwrap()), (None, None, None));
    first.save_committed(b"committed".as_slice().into()).unwrap();
    first.save_checkpoint(b"checkpoint".as_slice().into(), None).unwrap();
    assert_eq!(first.checkpoint().unwrap().unwrap(), b"checkpoint".as_slice());
    durable(|done| first.save_vote(b"vote".as_slice().into(), done)).unwrap();
    append(&first, vec![batch_entry(0, 1, 10, 10)]);
    first.set_log_start(Offset(4)).unwrap();
    first.set_log_start(Offset(2)).unwrap();
    assert!(matches!(first.set_log_start(Offset(11)), Err(Error::OffsetOutOfRange { .. })));
    engine.set_node_value("cluster.id", b"abc").unwrap();
    engine.close().unwrap();
    let engine = open(dir.path(), small());
    let log = log(&engine, 1);
    assert_eq!(log.vote().unwrap(), b"vote".as_slice());
    assert_eq!(log.committed().unwrap(), b"committed".as_slice());
    assert_eq!(log.checkpoint().unwrap().unwrap(), b"checkpoint".as_slice());
    assert_eq!(log.state().log_start_offset, Offset(4));
    assert_eq!(engine.node_value("cluster.id").unwrap().unwrap(), b"abc");
    assert_eq!(engine.node_value("cluster").unwrap(), None);
}

#[test]
fn what_was_purged_is_not_found_again_behind_lower_indexes() {
    let begin_anew: [fn(&Engine); 2] = [
        |engine| engine.delete(PartitionId(1)).unwrap(),
        |engine| {
            let boundary = LogId { term: Term(1), index: Index(4) };
            durable(|done| log(engine, 1).reset(boundary, Offset(0), done)).unwrap();
        },
    ];
    for begin_anew in begin_anew {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path(), small());
        append(&log(&engine, 1), (0..30).map(|index| batch_entry(index, 1, 1, 10)).collect());
        log(&engine, 1).purge(LogId { term: Term(1), index: Index(29) }).unwrap();
        begin_anew(&engine);
        append(&log(&engine, 1), vec![batch_entry(5, 2, 1, 10)]);
        engine.close().unwrap();
        let engine = open(dir.path(), small());
        let last = LogId { term: Term(2), index: Index(5) };
        assert_eq!(log(&engine, 1).state().last, Some(last));
    }
}

#[test]
fn a_deleted_log_is_gone_and_its_id_begins_empty() {
    both(|options| {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path(), options.clone());
        let old = log(&engine, 1);
        append(&old, (0..200).map(|index| batch_entry(index, 5, 2, 1000)).collect());
        durable(|done| old.save_vote(b"vote".as_slice().into(), done)).unwrap();
        engine.delete(old.id()).unwrap();
        engine.delete(old.id()).unwrap();
        assert!(matches!(old.read(Offset(0), Offset(1), 1), Err(Error::Deleted(_))));
        assert!(matches!(old.save_committed(bytes::Bytes::new()), Err(Error::Deleted(_))));
        assert!(engine.partitions().is_empty());
        let new = log(&engine, 1);
        assert_eq!(new.state().last, None);
        append(&new, vec![batch_entry(0, 1, 1, 10), batch_entry(1, 1, 1, 10)]);
        engine.close().unwrap();
        let engine = open(dir.path(), options);
        let log = log(&engine, 1);
        assert_eq!(log.vote(), None);
        assert_eq!(log.state().last, Some(LogId { term: Term(1), index: Index(1) }));
        assert_eq!(log.epochs().len(), 1);
        assert_eq!(log.read(Offset(0), Offset(2), 1 << 20).unwrap().len(), 2);
    });
}

#[test]
fn appends_out_of_order_or_of_garbage_are_refused_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let log = log(&engine, 1);
    append(&log, vec![batch_entry(5, 3, 2, 100)]);
    let before = log.state();
    let mut garbage = batch_entry(6, 3, 2, 100);
    garbage.payload = garbage.payload.slice(..80);
    for entries in [
        vec![batch_entry(5, 3, 1, 10)],
        vec![batch_entry(7, 3, 1, 10)],
        vec![batch_entry(6, 2, 1, 10)],
        vec![batch_entry(6, 3, 1, 10), batch_entry(8, 3, 1, 10)],
        vec![batch_entry(6, 1 << 40, 1, 10)],
        vec![garbage],
    ] {
        let done = Box::new(|_| panic!("refused, and completed"));
        assert!(matches!(log.append(entries, done), Err(Error::InvalidAppend { .. })));
        assert_eq!(log.state(), before);
    }
    append(&log, vec![batch_entry(6, 3, 1, 10)]);
}

#[test]
fn the_offset_index_forgets_what_a_truncation_removed() {
    for reopened in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut engine = open(dir.path(), small());
        append(&log(&engine, 1), (0..600).map(|i| batch_entry(i, 1, 1, 2000)).collect());
        if reopened {
            engine.close().unwrap();
            engine = open(dir.path(), small());
        }
        let log = log(&engine, 1);
        log.truncate_after(Some(Index(9))).unwrap();
        append(&log, (10..600).map(|i| batch_entry(i, 2, 10, 10)).collect());
        for offset in (10..5910).step_by(37) {
            let found = log.read(Offset(offset), Offset(5910), 1).unwrap();
            let index = 10 + u64::try_from(offset - 10).unwrap() / 10;
            assert_eq!(indexes(&found), [index], "offset {offset}");
        }
    }
}

#[test]
fn a_timestamp_ahead_of_a_restart_is_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let mut early = batch_entry(3, 1, 1, 10);
    early.payload = fixture::batch(1, 10, 1_000_000, 0);
    append(&log(&engine, 1), (0..3).map(|i| batch_entry(i, 1, 1, 10)).chain([early]).collect());
    engine.close().unwrap();
    let engine = open(dir.path(), small());
    let log = log(&engine, 1);
    append(&log, (4..400).map(|i| batch_entry(i, 1, 1, 2000)).collect());
    let found = log.find_timestamp(500_000, Offset(400)).unwrap().unwrap();
    assert_eq!(found.index, Index(3));
    assert_eq!(log.find_max_timestamp(Offset(400)).unwrap().unwrap().index, Index(3));
}

#[test]
fn a_log_knows_for_which_replica_it_was_created() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), small());
    let class = RetentionClass::from_retention_ms(1000);
    let ours = engine.log_of(PartitionId(1), class, 7).unwrap();
    append(&ours, vec![batch_entry(0, 1, 1, 10)]);
    append(&log(&engine, 2), vec![batch_entry(0, 1, 1, 10)]);
    ours.set_class(RetentionClass::from_retention_ms(-1)).unwrap();
    engine.log_of(PartitionId(1), class, 8).unwrap();
    engine.close().unwrap();

    let engine = open(dir.path(), small());
    let known = |id| engine.replica(PartitionId(id));
    assert_eq!([known(1), known(2), known(3)], [Some(7), Some(0), None]);
    engine.delete(PartitionId(1)).unwrap();
    assert_eq!(known(1), None);
    engine.log_of(PartitionId(1), class, 9).unwrap();
    assert_eq!(known(1), Some(9));
}
