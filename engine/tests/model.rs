//! Whatever is appended, truncated, purged, reset, expired and moved to other buckets, across restarts and
//! bucket rolls, the log equals a vector that had the same done to it.
//!
//! Buckets are tiny so that they roll, and half of the cases run without a cache.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;

use fixture::{append_lazily, batch_entry, blank_entry, durable, log, open, small};
use jangbu_engine::{
    Engine, EntryKind, Index, LogId, NewEntry, Offset, Options, PartitionLog, PayloadPart, Term,
};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

#[derive(Debug, Clone)]
enum Step {
    Append { count: usize, records: u32, bytes: usize, new_term: bool, blank: bool },
    Truncate(f64),
    Purge(f64),
    PurgeBeyond(u64),
    Reset { back: bool, next_offset: i64 },
    LogStart(f64),
    Other { bytes: usize },
    Reclaim { pressed: bool },
    Delete,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1usize..40, 1u32..20, 0usize..3000, any::<bool>(), any::<bool>()).prop_map(
            |(count, records, bytes, new_term, blank)| Step::Append {
                count, records, bytes, new_term, blank
            }
        ),
        4 => (0.0..1.2f64).prop_map(Step::Truncate),
        3 => (0.0..0.7f64).prop_map(Step::Purge),
        1 => (0u64..20).prop_map(Step::PurgeBeyond),
        1 => (any::<bool>(), 0i64..500)
            .prop_map(|(back, next_offset)| Step::Reset { back, next_offset }),
        3 => (0.0..1.0f64).prop_map(Step::LogStart),
        3 => (0usize..30_000).prop_map(|bytes| Step::Other { bytes }),
        4 => any::<bool>().prop_map(|pressed| Step::Reclaim { pressed }),
        1 => Just(Step::Delete),
        4 => Just(Step::Reopen),
    ]
}

/// A log as a vector of (index, term, base offset, records, bytes behind the header).
#[derive(Debug, Default)]
struct Model {
    entries: Vec<(u64, u64, i64, u32, usize)>,
    purged: Option<(LogId, i64)>,
    log_start: i64,
    term: u64,
    /// Entries of another log in the same buckets.
    others: u64,
}

impl Model {
    fn end(&self) -> i64 {
        let purged = self.purged.map_or(0, |(_, offset)| offset);
        self.entries.last().map_or(purged, |e| e.2 + i64::from(e.3))
    }

    fn last(&self) -> Option<LogId> {
        let purged = self.purged.map(|(id, _)| id);
        self.entries.last().map(|e| LogId { term: Term(e.1), index: Index(e.0) }).or(purged)
    }

    fn next(&self) -> u64 {
        self.last().map_or(3, |last| last.index.0 + 1)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
    fn at(&self, part: f64) -> usize {
        ((self.entries.len() as f64 * part) as usize).min(self.entries.len())
    }

    /// Bytes of the batches that end behind `offset`.
    fn bytes_from(&self, offset: i64) -> u64 {
        let behind = self.entries.iter().filter(|e| e.3 > 0 && e.2 + i64::from(e.3) > offset);
        behind.map(|e| 61 + u64::try_from(e.4).unwrap()).sum()
    }

    fn purge(&mut self, upto: LogId) {
        let kept = self.entries.partition_point(|e| e.0 <= upto.index.0);
        let offset = match self.entries[..kept].last() {
            Some(last) => last.2 + i64::from(last.3),
            None => self.end(),
        };
        self.entries.drain(..kept);
        self.purged = Some((upto, offset));
        self.log_start = self.log_start.max(offset);
    }
}

fn new_entry(index: u64, term: u64, records: u32, bytes: usize) -> NewEntry {
    if records == 0 { blank_entry(index, term) } else { batch_entry(index, term, records, bytes) }
}

fn check(log: &PartitionLog, model: &Model) {
    let state = log.state();
    assert_eq!(state.last, model.last());
    assert_eq!(state.purged, model.purged.map(|(id, _)| id));
    assert_eq!(
        (state.log_start_offset, state.end_offset),
        (Offset(model.log_start), Offset(model.end()))
    );
    let entries = log.entries(Index(0), Index(u64::MAX), usize::MAX, PayloadPart::Full).unwrap();
    let found: Vec<_> =
        entries.iter().map(|e| (e.index.0, e.term.0, e.base_offset.0, e.record_count)).collect();
    let expected: Vec<_> = model.entries.iter().map(|e| (e.0, e.1, e.2, e.3)).collect();
    assert_eq!(found, expected);
    for (entry, expected) in entries.iter().zip(&model.entries) {
        if entry.kind == EntryKind::Batch {
            jangbu_engine::batch::verify(&entry.payload).unwrap();
            assert_eq!(entry.payload.len(), 61 + expected.4);
        }
    }
    for entry in model.entries.iter().filter(|e| e.3 > 0).step_by(7) {
        let offset = entry.2 + i64::from(entry.3) - 1;
        if offset >= model.log_start {
            let read = log.read(Offset(offset), state.end_offset, 1).unwrap();
            assert_eq!(read[0].index.0, entry.0);
        }
        let timestamp = i64::try_from(entry.0).unwrap() * 10;
        let first = model
            .entries
            .iter()
            .find(|e| e.3 > 0 && e.0 >= entry.0 && e.2 + i64::from(e.3) > model.log_start);
        let found = log.find_timestamp(timestamp, state.end_offset).unwrap();
        assert_eq!(found.map(|e| e.index.0), first.map(|e| e.0));
    }
    let max = model.entries.iter().rfind(|e| e.3 > 0 && e.2 + i64::from(e.3) > model.log_start);
    let found = log.find_max_timestamp(state.end_offset).unwrap();
    assert_eq!(found.map(|e| e.index.0), max.map(|e| e.0));
    let mut terms: Vec<_> = model.entries.iter().map(|e| e.1).collect();
    terms.dedup();
    let epochs: Vec<_> = log.epochs().iter().map(|e| e.term.0).collect();
    assert!(epochs.ends_with(&terms), "epochs {epochs:?}, terms {terms:?}");
}

/// Sizes are exact; retention takes as much as it may, but for one row of the sparse index.
fn check_sizes(engine: &Engine, model: &Model) {
    // Rows of the index count once they are written.
    engine.set_node_value("barrier", b"").unwrap();
    let log = log(engine, 1);
    const ROW: u64 = (128 << 10) + 2 * 3100;
    let size = log.size().unwrap();
    assert_eq!(size.live_bytes, model.bytes_from(model.log_start));
    assert!(size.stored_bytes >= size.live_bytes);
    let end = Offset(model.end());
    let keep = size.live_bytes / 2;
    let start = log.start_by_size(keep, end).unwrap();
    assert!(start.is_none_or(|start| start.0 > model.log_start && start <= end));
    let left = model.bytes_from(start.map_or(model.log_start, |start| start.0));
    assert!((keep..=keep + ROW).contains(&left), "{left} bytes are left of at least {keep}");
    let Some(newest) = model.entries.iter().rfind(|e| e.3 > 0) else { return };
    let timestamp = |e: &(u64, u64, i64, u32, usize)| i64::try_from(e.0).unwrap() * 10;
    for cutoff in [timestamp(newest) / 2, timestamp(newest) + 1] {
        let Some(start) = log.start_by_time(cutoff, end).unwrap() else { continue };
        assert!(start.0 > model.log_start && start <= end);
        let gone = model.entries.iter().filter(|e| e.3 > 0 && e.2 < start.0);
        assert!(gone.into_iter().all(|e| timestamp(e) < cutoff), "nothing young goes");
    }
}

/// What a node does for its space, and that it never takes an entry.
fn reclaim(engine: &Engine, model: &mut Model, pressed: bool) {
    for (id, upto) in engine.forgettable(pressed).unwrap() {
        if id != log(engine, 1).id() {
            continue;
        }
        let entry = model.entries.iter().find(|e| e.0 == upto.0).expect("an entry that is there");
        assert!(entry.2 + i64::from(entry.3) <= model.log_start, "only what is below the start");
        let upto = LogId { term: Term(entry.1), index: upto };
        log(engine, 1).purge(upto).unwrap();
        model.purge(upto);
    }
    engine.drop_dead_buckets().unwrap();
    engine.relocate(u64::MAX, pressed).unwrap();
}

fn apply(
    engine: &mut Engine,
    dir: &std::path::Path,
    options: &Options,
    model: &mut Model,
    step: Step,
) {
    let log = log(engine, 1);
    match step {
        Step::Append { count, records, bytes, new_term, blank } => {
            model.term += u64::from(new_term);
            let mut entries = Vec::new();
            for at in 0..count {
                let records = if blank && at == 0 { 0 } else { records };
                let (index, base) = (model.next(), model.end());
                entries.push(new_entry(index, model.term, records, bytes));
                model.entries.push((index, model.term, base, records, bytes));
            }
            append_lazily(&log, entries);
        }
        Step::Truncate(part) => {
            let kept = model.at(part);
            let last = model.entries[..kept].last().map(|e| Index(e.0));
            log.truncate_after(last).unwrap();
            model.entries.truncate(kept);
            model.log_start = model.log_start.min(model.end());
        }
        Step::Purge(part) => {
            let upto = model.at(part);
            if let Some(last) = model.entries[..upto].last() {
                let upto = LogId { term: Term(last.1), index: Index(last.0) };
                log.purge(upto).unwrap();
                model.purge(upto);
            }
        }
        Step::PurgeBeyond(by) => {
            let upto = LogId { term: Term(model.term), index: Index(model.next() + by) };
            log.purge(upto).unwrap();
            model.purge(upto);
        }
        Step::Reset { back, next_offset } => {
            let index = if back { model.next() / 2 } else { model.next() + 10 };
            let boundary = LogId { term: Term(model.term), index: Index(index) };
            durable(|done| log.reset(boundary, Offset(next_offset), done)).unwrap();
            model.entries.clear();
            model.purged = Some((boundary, next_offset));
            model.log_start = next_offset;
        }
        Step::LogStart(part) => {
            if let Some(entry) = model.entries.get(model.at(part)) {
                log.set_log_start(Offset(entry.2)).unwrap();
                model.log_start = model.log_start.max(entry.2);
            }
        }
        Step::Other { bytes } => {
            let other = fixture::log(engine, 2);
            append_lazily(&other, vec![batch_entry(model.others, 1, 1, bytes)]);
            model.others += 1;
        }
        Step::Reclaim { pressed } => reclaim(engine, model, pressed),
        Step::Delete => {
            engine.delete(log.id()).unwrap();
            *model = Model { others: model.others, ..Model::default() };
        }
        Step::Reopen => {
            engine.close().unwrap();
            *engine = open(dir, options.clone());
        }
    }
}

/// As many as PROPTEST_CASES asks for, as everywhere; else few, because each opens stores.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_equals_a_vector(
        steps in proptest::collection::vec(step(), 1..30),
        cached in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let cache_bytes_max = if cached { 100_000 } else { 0 };
        let options = Options { cache_bytes_max, ..small() };
        let mut engine = open(dir.path(), options.clone());
        let mut model = Model::default();
        for step in steps.into_iter().chain([Step::Reopen]) {
            apply(&mut engine, dir.path(), &options, &mut model, step);
            check(&log(&engine, 1), &model);
            check_sizes(&engine, &model);
            let others = log(&engine, 2).entries(Index(0), Index(u64::MAX), usize::MAX, PayloadPart::Full);
            assert_eq!(u64::try_from(others.unwrap().len()).unwrap(), model.others);
        }
    }
}
