//! What this node counts, and the page that `/metrics` shows.
//!
//! Invariants:
//! - Counting costs a few atomic additions a request or batch, never one a record, and takes no lock
//!   but for answers with an error.
//! - The number of series is bounded: labels are APIs, error codes, levels, never topics or clients.
//!
//! Names, types and texts: `families.rs`; the format: `page.rs`; what it all means: `docs/metrics.md`.

mod families;
mod page;
mod process;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jangbu_engine::batch::Header;
use jangbu_engine::{EngineSpace, EngineStats, Histogram, StoreStats};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::dispatch::{APIS, Key, Response};
use page::Page;
use process::Process;

/// Upper bounds of the duration of a request, in nanoseconds: 100 us to 30 s, the longest long polls.
const REQUEST_DURATIONS: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// Upper bounds of the time to look a key up, in nanoseconds: 10 us to 1 s.
const LOOKUP_DURATIONS: &[u64] = &[
    10_000,
    25_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

/// A number that only grows, or that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, value: u64) {
        self.0.fetch_sub(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a connection ended before its client closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The socket failed, or the client went away inside a request.
    Lost,
    /// What came was no request, or one that is not supported.
    Refused,
    /// A large request did not arrive in time, or an answer was not taken.
    Slow,
}

/// What came of a request for keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupResult {
    /// At least one value.
    Found,
    /// No record, or tombstones only.
    Missing,
    /// An error.
    Failed,
}

impl LookupResult {
    /// All, with their labels.
    const ALL: [(Self, &str); 3] =
        [(Self::Found, "found"), (Self::Missing, "missing"), (Self::Failed, "failed")];
}

/// What a node has counted since its start.
#[derive(Debug)]
pub(crate) struct Metrics {
    produced_batches: Counter,
    produced_records: Counter,
    produced_bytes: Counter,
    fetched_batches: Counter,
    fetched_bytes: Counter,
    /// Reads of a partition served from memory.
    pub(crate) cached_reads: Counter,
    /// Reads of a partition that had to go to RocksDB.
    pub(crate) disk_reads: Counter,
    pub(crate) connections_open: Counter,
    pub(crate) connections_accepted: Counter,
    pub(crate) connections_refused: Counter,
    /// Elections that this node stood for.
    pub(crate) elections: Counter,
    /// Leaderships handed to other nodes.
    pub(crate) transfers: Counter,
    /// Moves of partitions carried out as their leader.
    pub(crate) moves: Counter,
    /// Partitions whose lost replicas this node has begun to have rebuilt, as the controller.
    pub(crate) heals: Counter,
    key_lookups: [Counter; 3],
    key_lookup_durations: Histogram,
    connections_lost: Counter,
    connections_bad: Counter,
    connections_slow: Counter,
    throttled_requests: Counter,
    throttled_nanos: Counter,
    /// By API key; none for those that are not answered.
    durations: Vec<Option<Histogram>>,
    /// By API key and error code.
    errors: Mutex<BTreeMap<(i16, i16), u64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut durations = Vec::new();
        for api in APIS {
            let at = index(api.key);
            if durations.len() <= at {
                durations.resize_with(at + 1, || None);
            }
            durations[at] = Some(Histogram::new(REQUEST_DURATIONS));
        }
        Self {
            produced_batches: Counter::default(),
            produced_records: Counter::default(),
            produced_bytes: Counter::default(),
            fetched_batches: Counter::default(),
            fetched_bytes: Counter::default(),
            cached_reads: Counter::default(),
            disk_reads: Counter::default(),
            connections_open: Counter::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            elections: Counter::default(),
            transfers: Counter::default(),
            moves: Counter::default(),
            heals: Counter::default(),
            key_lookups: Default::default(),
            key_lookup_durations: Histogram::new(LOOKUP_DURATIONS),
            connections_lost: Counter::default(),
            connections_bad: Counter::default(),
            connections_slow: Counter::default(),
            throttled_requests: Counter::default(),
            throttled_nanos: Counter::default(),
            durations,
            errors: Mutex::default(),
        }
    }
}

/// Where an API's durations are: those of jangbu's own behind Kafka's.
fn index(key: Key) -> usize {
    match key {
        Key::Kafka(key) => usize::try_from(key as i16).unwrap_or(0),
        Key::GetKeys => 255,
    }
}

impl Metrics {
    /// Counts a batch that was taken in.
    pub(crate) fn produced(&self, header: &Header, bytes: usize) {
        self.produced_batches.add(1);
        self.produced_records.add(u64::try_from(header.record_count).unwrap_or(0));
        self.produced_bytes.add(bytes as u64);
    }

    /// Counts what a fetch sends to its consumer.
    pub(crate) fn fetched(&self, batches: usize, bytes: usize) {
        self.fetched_batches.add(batches as u64);
        self.fetched_bytes.add(bytes as u64);
    }

    /// Counts an answer, its errors and how long it took from `begun`, when its request was complete.
    pub(crate) fn answered(&self, key: Key, begun: Instant, response: Option<&Response>) {
        if let Some(Some(histogram)) = self.durations.get(index(key)) {
            histogram.observe_duration(begun.elapsed());
        }
        let codes = response.map_or(&[][..], Response::error_codes);
        if codes.is_empty() {
            return;
        }
        let mut errors = self.errors.lock();
        for code in codes {
            *errors.entry((key.number(), *code)).or_default() += 1;
        }
    }

    /// Counts a request for keys, and how long it took to look them up.
    pub(crate) fn looked_up(&self, result: LookupResult, took: Duration) {
        self.key_lookups[result as usize].add(1);
        self.key_lookup_durations.observe_duration(took);
    }

    /// Counts a request that was not read from its socket for `waited`, because no room was left.
    pub(crate) fn throttled(&self, waited: Duration) {
        self.throttled_requests.add(1);
        self.throttled_nanos.add(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a connection that ended before its client closed it.
    pub(crate) fn failed(&self, why: Failure) {
        let counter = match why {
            Failure::Lost => &self.connections_lost,
            Failure::Refused => &self.connections_bad,
            Failure::Slow => &self.connections_slow,
        };
        counter.add(1);
    }
}

/// Where the page's numbers come from.
struct Sources<'a> {
    broker: &'a Broker,
    metrics: &'a Metrics,
    engine: EngineStats,
    /// Nothing once the engine is closed.
    store: Option<StoreStats>,
    space: EngineSpace,
    process: Process,
}

/// All metrics in Prometheus' text format. Asks RocksDB and the file system, so it may block.
pub(crate) fn render(broker: &Broker) -> String {
    let sources = Sources {
        broker,
        metrics: &broker.metrics,
        engine: broker.engine.stats(),
        store: broker.engine.store_stats().ok(),
        space: broker.engine.space().unwrap_or_default(),
        process: Process::read(),
    };
    let mut page = Page::default();
    for family in families::FAMILIES {
        page.begin(family.name, family.kind, family.help);
        (family.collect)(&sources, &mut page);
    }
    page.finish()
}
