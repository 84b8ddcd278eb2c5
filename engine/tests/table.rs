//! Whatever is produced, overwritten, deleted by tombstones, truncated, trimmed, purged and cleaned, across restarts and
//! while the key index is turned on and off: a reader from the beginning sees the last value of every key, none comes back, and the
//! index says what the log says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/keyed.rs"]
mod keyed;

use std::collections::BTreeMap;

use fixture::{append, append_lazily, blank_entry, log, open, small};
use jangbu_engine::inspect::Store;
use jangbu_engine::{
    CleanRules, CleanStep, Engine, KeyIndex, Offset, Options, PartitionLog, RetentionClass,
};
use kafka_protocol::records::Compression;
use keyed::{Keyed, Read, batch, entry, read_all, records_of};
use proptest::prelude::*;

const RETENTION_MS: i64 = 1000;

#[derive(Debug, Clone)]
enum Step {
    Append { batches: Vec<Vec<Keyed>>, codec: usize, new_term: bool, lazily: bool },
    Blank,
    Truncate(f64),
    LogStart(f64),
    Clean { until: f64, steps: usize, later_ms: i64, keep: bool },
    Purge,
    Reclaim,
    Keyed(bool),
    Build { steps: usize },
    Expire { by_size: bool, part: f64 },
    Reopen,
}

fn records() -> impl Strategy<Value = Vec<Keyed>> {
    let key = prop_oneof![
        8 => (0_u8..12).prop_map(|key| vec![b'k', key]),
        1 => Just(Vec::new()),
        1 => (0_u8..3).prop_map(|key| [vec![0; 1200], vec![key]].concat()),
    ];
    let value = prop_oneof![
        2 => Just(None),
        6 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(Some),
        2 => (250_usize..2000, any::<u8>()).prop_map(|(length, byte)| Some(vec![byte; length])),
    ];
    proptest::collection::vec((key, value), 1..12)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (proptest::collection::vec(records(), 1..12), 0_usize..5, any::<bool>(), any::<bool>())
            .prop_map(|(batches, codec, new_term, lazily)| Step::Append { batches, codec, new_term, lazily }),
        1 => Just(Step::Blank),
        2 => (0.0..1.0f64).prop_map(Step::Truncate),
        2 => (0.0..1.0f64).prop_map(Step::LogStart),
        8 => (0.0..1.1f64, 1_usize..30, 0_i64..1500, any::<bool>())
            .prop_map(|(until, steps, later_ms, keep)| Step::Clean { until, steps, later_ms, keep }),
        2 => Just(Step::Purge),
        1 => Just(Step::Reclaim),
        2 => any::<bool>().prop_map(Step::Keyed),
        2 => (1_usize..5).prop_map(|steps| Step::Build { steps }),
        1 => (any::<bool>(), 0.0..1.0f64).prop_map(|(by_size, part)| Step::Expire { by_size, part }),
        3 => Just(Step::Reopen),
    ]
}

/// All that was ever appended and not truncated, and how far it has been cleaned.
#[derive(Debug, Default)]
struct Model {
    records: Vec<Read>,
    /// Ends of batches, with the index of each.
    ends: Vec<(i64, u64)>,
    /// The next index.
    index: u64,
    term: u64,
    log_start: i64,
    /// Nothing from here on has ever been cleaned.
    cleaned: i64,
    purged: u64,
    now_ms: i64,
    keyed: bool,
}

impl Model {
    fn end(&self) -> i64 {
        self.ends.last().map_or(0, |(end, _)| *end)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
    fn at(&self, part: f64) -> i64 {
        let at = ((self.ends.len() as f64 * part) as usize).min(self.ends.len());
        at.checked_sub(1).map_or(0, |at| self.ends[at].0)
    }

    fn live(&self) -> impl Iterator<Item = &Read> {
        self.records.iter().filter(|record| record.offset >= self.log_start)
    }

    /// The last record of every key.
    fn last(&self) -> BTreeMap<&[u8], &Read> {
        self.live().map(|record| (record.key.as_slice(), record)).collect()
    }
}

struct Case {
    engine: Engine,
    dir: tempfile::TempDir,
    options: Options,
    model: Model,
}

impl Case {
    fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(dir.path(), options.clone());
        let model = Model { term: 1, now_ms: 1_000_000, ..Model::default() };
        Self { engine, dir, options, model }
    }

    fn log(&self) -> PartitionLog {
        log(&self.engine, 1)
    }

    fn append(&mut self, batches: &[Vec<Keyed>], codec: usize, lazily: bool) {
        let codecs = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        let mut entries = Vec::new();
        for records in batches {
            let base = self.model.end();
            let model = &mut self.model;
            model.now_ms += 10;
            entries.push(entry(
                model.index,
                model.term,
                batch(records, model.now_ms, codecs[codec]),
            ));
            for (at, (key, value)) in (0_i64..).zip(records) {
                let (offset, timestamp) = (base + at, model.now_ms + at);
                let (key, value) = (key.clone(), value.clone());
                model.records.push(Read { offset, timestamp, key, value });
            }
            model.ends.push((base + i64::try_from(records.len()).unwrap(), model.index));
            model.index += 1;
        }
        if lazily { append_lazily(&self.log(), entries) } else { append(&self.log(), entries) }
    }

    fn rules(&self, until: i64, keep: bool) -> CleanRules {
        let kept = self.model.ends.iter().map(|(end, _)| Offset(end - 1));
        CleanRules {
            until: Offset(until),
            now_ms: self.model.now_ms,
            delete_retention_ms: RETENTION_MS,
            kept: if keep { kept.step_by(3).collect() } else { Vec::new() },
            bytes_max: 3000,
        }
    }

    /// Cleans in steps; whether it came to the end.
    fn clean(&mut self, until: i64, steps: usize, keep: bool) -> bool {
        let rules = self.rules(until, keep);
        self.model.cleaned = self.model.cleaned.max(until);
        (0..steps).any(|_| {
            let CleanStep { is_finished, .. } = self.log().clean(&rules).unwrap();
            is_finished
        })
    }

    fn ready(&mut self) {
        self.log().set_keyed(true).unwrap();
        self.model.keyed = true;
        while !self.log().build_key_index(Offset(self.model.end()), 2000).unwrap() {}
        assert_eq!(self.log().key_index(), KeyIndex::Ready);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Append { batches, codec, new_term, lazily } => {
                self.model.term += u64::from(new_term);
                self.append(&batches, codec, lazily);
            }
            Step::Blank => {
                append_lazily(&self.log(), vec![blank_entry(self.model.index, self.model.term)]);
                self.model.index += 1;
            }
            Step::Truncate(part) => self.truncate(part),
            Step::LogStart(part) => {
                let start = self.model.at(part);
                self.log().set_log_start(Offset(start)).unwrap();
                self.model.log_start = self.model.log_start.max(start);
            }
            Step::Clean { until, steps, later_ms, keep } => {
                self.model.now_ms += later_ms;
                if self.log().key_index() == KeyIndex::Ready {
                    self.clean(self.model.at(until), steps, keep);
                }
            }
            Step::Purge => {
                if let Some(settled) = self.log().settled() {
                    self.log().purge(settled.upto).unwrap();
                    self.model.purged = self.model.purged.max(settled.upto.index.0 + 1);
                }
            }
            Step::Reclaim => {
                for (id, upto) in self.engine.forgettable(true).unwrap() {
                    let log = log(&self.engine, id.0);
                    let entries = log
                        .entries(
                            upto,
                            jangbu_engine::Index(upto.0 + 1),
                            1,
                            jangbu_engine::PayloadPart::Header,
                        )
                        .unwrap();
                    let term = entries[0].term;
                    log.purge(jangbu_engine::LogId { term, index: upto }).unwrap();
                    self.model.purged = self.model.purged.max(upto.0 + 1);
                }
                self.engine.drop_dead_buckets().unwrap();
                self.engine.relocate(u64::MAX, true).unwrap();
            }
            Step::Keyed(keyed) => {
                self.log().set_keyed(keyed).unwrap();
                self.model.keyed = keyed;
            }
            Step::Build { steps } => {
                for _ in 0..steps {
                    self.log().build_key_index(Offset(self.model.end()), 2000).unwrap();
                }
            }
            Step::Expire { by_size, part } => self.expire(by_size, part),
            Step::Reopen => self.reopen(),
        }
    }

    /// Never what may have been cleaned, which is committed.
    fn truncate(&mut self, part: f64) {
        let end = self.model.at(part).max(self.model.cleaned).max(self.model.log_start);
        let kept = self.model.ends.partition_point(|(at, _)| *at <= end);
        let Some((_, last)) = kept.checked_sub(1).map(|at| self.model.ends[at]) else { return };
        if last < self.model.purged {
            return;
        }
        self.log().truncate_after(Some(jangbu_engine::Index(last))).unwrap();
        self.model.ends.truncate(kept);
        self.model.index = last + 1;
        let end = self.model.end();
        self.model.records.retain(|record| record.offset < end);
        self.model.term += 1;
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small numbers"
    )]
    fn expire(&mut self, by_size: bool, part: f64) {
        let (log, end) = (self.log(), Offset(self.model.end()));
        // Rows of the sparse index count once they are written.
        self.engine.set_node_value("barrier", b"").unwrap();
        let before = read_all(&log, self.model.log_start, usize::MAX);
        let bytes = |start: i64| -> u64 {
            let kept = before.iter().filter(|batch| batch.next_offset().0 > start);
            kept.map(|batch| batch.payload.len() as u64).sum()
        };
        let start = if by_size {
            let kept = (log.size().unwrap().live_bytes as f64 * part) as u64;
            let start = log.start_by_size(kept, end).unwrap();
            let left = bytes(start.map_or(self.model.log_start, |start| start.0));
            assert!(left >= kept.min(bytes(self.model.log_start)), "{left} of {kept} are left");
            start
        } else {
            let cutoff = self.model.now_ms - (300.0 * part) as i64;
            let start = log.start_by_time(cutoff, end).unwrap();
            let gone = before.iter().filter(|batch| Some(batch.base_offset) < start);
            assert!(
                gone.into_iter().all(|batch| batch.max_timestamp < cutoff),
                "nothing young goes"
            );
            start
        };
        if let Some(start) = start {
            assert!(start.0 > self.model.log_start);
            log.set_log_start(start).unwrap();
            self.model.log_start = start.0;
        }
    }

    fn reopen(&mut self) {
        self.engine.close().unwrap();
        let store = Store::open(self.dir.path()).unwrap();
        let report = store.verify(|_, _| ()).unwrap();
        assert_eq!(report.problems, [], "the index equals the log");
        drop(store);
        self.engine = open(self.dir.path(), self.options.clone());
    }

    /// Everything that was read is true, and nothing that counts is missing.
    fn check(&self) {
        let (log, model) = (self.log(), &self.model);
        assert_eq!(
            (log.state().log_start_offset.0, log.state().end_offset.0),
            (model.log_start, model.end())
        );
        let entries = read_all(&log, model.log_start, 5000);
        let read: Vec<_> =
            records_of(&entries).into_iter().filter(|r| r.offset >= model.log_start).collect();
        let mut history = model.live();
        for record in &read {
            assert_eq!(
                history.find(|known| known.offset == record.offset),
                Some(record),
                "was produced so"
            );
        }
        let found: BTreeMap<_, _> = read.iter().map(|r| (r.key.as_slice(), r)).collect();
        for (key, last) in model.last() {
            match found.get(key) {
                Some(found) => assert_eq!(*found, last, "the last value of a key"),
                None => assert!(last.value.is_none(), "only a tombstone may be gone: {last:?}"),
            }
        }
        let untouched = model.live().filter(|r| r.offset >= model.cleaned).count();
        assert_eq!(
            read.iter().filter(|r| r.offset >= model.cleaned).count(),
            untouched,
            "what was never cleaned is whole"
        );
        self.check_any_offset(&log, &entries);
        self.check_timestamps(&log, &entries);
        if log.key_index() == KeyIndex::Ready {
            self.check_index(&log, &read);
        } else {
            assert!(log.get(b"k", Offset(model.end())).is_err());
        }
    }

    fn check_any_offset(&self, log: &PartitionLog, entries: &[jangbu_engine::Entry]) {
        for from in (self.model.log_start..self.model.end()).step_by(7) {
            let expected = entries.iter().find(|batch| batch.next_offset().0 > from);
            let found = log.read(Offset(from), Offset(self.model.end()), 1).unwrap();
            assert_eq!(
                found.first().map(|b| &b.payload),
                expected.map(|b| &b.payload),
                "from {from}"
            );
        }
    }

    fn check_timestamps(&self, log: &PartitionLog, entries: &[jangbu_engine::Entry]) {
        let end = Offset(self.model.end());
        for batch in entries.iter().step_by(5) {
            let expected = entries.iter().find(|b| b.max_timestamp >= batch.max_timestamp);
            let found = log.find_timestamp(batch.max_timestamp, end).unwrap();
            assert_eq!(found.map(|b| b.base_offset), expected.map(|b| b.base_offset));
        }
        let max = entries.iter().map(|b| b.max_timestamp).max();
        let found = log.find_max_timestamp(end).unwrap();
        assert_eq!(found.map(|b| b.max_timestamp), max);
    }

    fn check_index(&self, log: &PartitionLog, read: &[Read]) {
        let end = Offset(self.model.end());
        let plain = |found: jangbu_engine::KeyRecord| Read {
            offset: found.offset.0,
            timestamp: found.timestamp,
            key: found.key.to_vec(),
            value: found.value.map(|value| value.to_vec()),
        };
        let last: BTreeMap<_, _> = read.iter().map(|r| (r.key.as_slice(), r)).collect();
        for (key, last) in &last {
            assert_eq!(log.get(key, end).unwrap().map(plain).as_ref(), Some(*last));
            let history = log.history(key, end, 100, usize::MAX).unwrap();
            let history: Vec<_> = history.into_iter().map(plain).collect();
            let settled = log.settled().map_or(0, |settled| settled.next_offset.0);
            let behind: Vec<_> = read
                .iter()
                .rev()
                .filter(|r| r.key == *key && r.offset >= settled)
                .cloned()
                .collect();
            assert!(history.starts_with(&behind), "all that is not settled");
            assert!(history.iter().all(|r| read.contains(r)), "nothing that is gone");
        }
        assert_eq!(log.get(b"nobody", end).unwrap(), None);
        let listed = log.keys_with_prefix(b"", None, end, usize::MAX, usize::MAX).unwrap();
        let listed: Vec<_> = listed.into_iter().map(plain).collect();
        let mut expected: Vec<_> = last.values().map(|r| (*r).clone()).collect();
        let order = |r: &Read| r.key[..r.key.len().min(1024)].to_vec();
        assert!(listed.iter().map(order).is_sorted());
        let mut listed = listed;
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        expected.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(listed, expected);
        let some = log.keys_with_prefix(b"k", Some(b"k\x04"), end, 3, usize::MAX).unwrap();
        let expected: Vec<_> = last
            .keys()
            .filter(|key| key.starts_with(b"k") && **key > b"k\x04".as_slice())
            .take(3)
            .collect();
        assert_eq!(
            some.iter().map(|r| r.key.as_ref()).collect::<Vec<_>>(),
            expected.into_iter().copied().collect::<Vec<_>>()
        );
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_equals_a_map_and_a_list(steps in proptest::collection::vec(step(), 1..40), cached in any::<bool>()) {
        let cache_bytes_max = if cached { 100_000 } else { 0 };
        let mut case = Case::new(Options { cache_bytes_max, ..small() });
        case.ready();
        for step in steps {
            case.apply(step);
            case.check();
        }
        case.ready();
        let end = case.model.end();
        while !case.clean(end, 1, false) {}
        case.model.now_ms += 2 * RETENTION_MS;
        while !case.clean(end, 1, false) {}
        case.check();
        let left = records_of(&read_all(&case.log(), case.model.log_start, usize::MAX));
        let left: Vec<_> = left.into_iter().filter(|r| r.offset >= case.model.log_start).collect();
        let mut values: Vec<_> = case.model.last().into_values().filter(|r| r.value.is_some()).cloned().collect();
        values.sort_by_key(|r| r.offset);
        let extra: Vec<_> = left.iter().filter(|r| !values.contains(r)).map(|r| (r.offset, r.key.len(), r.value.as_ref().map(Vec::len))).collect();
        assert_eq!(extra, [], "nothing but the last values");
        assert_eq!(left.len(), values.len());
        case.reopen();
        case.check();
    }
}

#[test]
fn another_replica_goes_on_with_what_it_is_given() {
    let mut leader = Case::new(small());
    leader.ready();
    for round in 0..20_u8 {
        let records: Vec<Keyed> = (0..30).map(|key| (vec![key], Some(vec![round; 300]))).collect();
        leader.append(&[records], usize::from(round % 5), false);
    }
    while !leader.clean(leader.model.end(), 1, false) {}
    leader.append(&[vec![(vec![7], None), (vec![99], Some(vec![1]))]], 0, false);
    let settled = leader.log().settled().unwrap();
    let follower = Case::new(small());
    follower.log().set_keyed(true).unwrap();
    append(
        &follower.log(),
        vec![entry(0, 1, batch(&[(vec![3], Some(vec![0]))], 5, Compression::None))],
    );
    let (mut at, mut begin) = (Offset(0), true);
    loop {
        let pieces = leader.log().settled_batches(at, settled.next_offset, 1000).unwrap();
        let complete = pieces.is_empty().then_some(settled.next_offset);
        at = pieces.last().map_or(at, jangbu_engine::Entry::next_offset);
        let batches = pieces.into_iter().map(|batch| batch.payload).collect();
        fixture::durable(|done| follower.log().stage(begin, batches, complete, done)).unwrap();
        begin = false;
        if complete.is_some() {
            break;
        }
    }
    assert_eq!(
        follower.log().state().end_offset,
        Offset(1),
        "what it has stays until it begins anew"
    );
    let follower_dir = follower.dir;
    follower.engine.close().unwrap();
    let engine = open(follower_dir.path(), small());
    let other = log(&engine, 1);
    assert_eq!(other.staged(), Some(settled.next_offset));
    fixture::durable(|done| other.reset(settled.upto, settled.next_offset, done)).unwrap();
    while !other.build_key_index(settled.next_offset, 500).unwrap() {}
    let behind = leader
        .log()
        .entries(
            jangbu_engine::Index(settled.upto.index.0 + 1),
            jangbu_engine::Index(u64::MAX),
            usize::MAX,
            jangbu_engine::PayloadPart::Full,
        )
        .unwrap();
    let behind = behind.into_iter().map(|e| entry(e.index.0, e.term.0, e.payload)).collect();
    append(&other, behind);
    let end = leader.model.end();
    assert_eq!(
        records_of(&read_all(&other, 0, 1 << 20)),
        records_of(&read_all(&leader.log(), 0, 1 << 20))
    );
    let rules = CleanRules { until: Offset(end), ..leader.rules(end, false) };
    while !other.clean(&rules).unwrap().is_finished {}
    let later = CleanRules { now_ms: rules.now_ms + 2 * RETENTION_MS, ..rules };
    while !other.clean(&later).unwrap().is_finished {}
    assert_eq!(other.get(&[7], Offset(end)).unwrap(), None);
    assert!(other.get(&[8], Offset(end)).unwrap().is_some());
    assert_eq!(
        records_of(&read_all(&other, 0, 1 << 20)).len(),
        30,
        "29 keys and another, no tombstone"
    );
    engine.close().unwrap();
    drop(other);
    let problems = Store::open(follower_dir.path()).unwrap().verify(|_, _| ()).unwrap().problems;
    assert_eq!(problems, []);
}

#[test]
fn a_deleted_log_leaves_nothing_behind() {
    let mut case = Case::new(small());
    case.ready();
    case.append(&[vec![(vec![1], Some(vec![1])), (vec![1], Some(vec![2]))]], 0, false);
    case.clean(2, 5, false);
    case.engine.delete(case.log().id()).unwrap();
    let again = case.engine.log(case.log().id(), RetentionClass::from_retention_ms(-1)).unwrap();
    assert_eq!(again.key_index(), KeyIndex::Off);
    again.set_keyed(true).unwrap();
    assert_eq!(again.get(&[1], Offset(1)).unwrap(), None);
}
