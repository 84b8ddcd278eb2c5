//! What an engine counts and what it holds, for metrics.
//!
//! Two kinds: [`EngineStats`] is read from memory and costs nothing; [`StoreStats`] asks RocksDB and
//! the file system, so it is for a thread that may block.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::db::{Db, failed};
use crate::keys::BucketId;
use crate::{Histogram, HistogramSnapshot, Result};

/// Upper bounds of the histograms of durations, in nanoseconds: 50 us to 10 s.
const DURATIONS: &[u64] = &[
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
];
/// Upper bounds of the bytes of a write group: 4 KiB to 16 MiB, each four times the one before.
const GROUP_BYTES: &[u64] = &[4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];
/// Upper bounds of the commands of a write group.
const GROUP_COMMANDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// What an engine has done.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) appended_bytes: AtomicU64,
    pub(crate) append: Histogram,
    pub(crate) queue_wait: Histogram,
    pub(crate) group_write: Histogram,
    pub(crate) group_bytes: Histogram,
    pub(crate) group_commands: Histogram,
    pub(crate) sync: Histogram,
    pub(crate) flush_wait_nanos: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            appended_bytes: AtomicU64::new(0),
            append: Histogram::new(DURATIONS),
            queue_wait: Histogram::new(DURATIONS),
            group_write: Histogram::new(DURATIONS),
            group_bytes: Histogram::new(GROUP_BYTES),
            group_commands: Histogram::new(GROUP_COMMANDS),
            sync: Histogram::new(DURATIONS),
            flush_wait_nanos: AtomicU64::new(0),
        }
    }
}

/// What an engine holds in memory and has done since the start.
#[derive(Debug, Clone, Default)]
pub struct EngineStats {
    /// Bytes in the tail cache.
    pub cache_bytes: usize,
    /// The bound of the tail cache.
    pub cache_bytes_max: usize,
    /// Bytes accepted and not yet durable.
    pub queued_bytes: usize,
    /// The bound of `queued_bytes`.
    pub queue_bytes_max: usize,
    /// Time that callers have waited because that bound was reached, in nanoseconds.
    pub queue_full_nanos: u64,
    /// Time that the writer has waited for memtables to be flushed, in nanoseconds.
    pub flush_wait_nanos: u64,
    /// The bound of the memory of all memtables, beyond which it waits.
    pub memtables_bytes_max: usize,
    /// From a command's acceptance until it is durable, in nanoseconds.
    pub append: HistogramSnapshot,
    /// From a command's acceptance until the writer takes it, in nanoseconds.
    pub queue_wait: HistogramSnapshot,
    /// Writing a group to RocksDB, unsynced, in nanoseconds.
    pub group_write: HistogramSnapshot,
    /// Bytes of a write group.
    pub group_bytes: HistogramSnapshot,
    /// Commands of a write group.
    pub group_commands: HistogramSnapshot,
    /// Syncs of the write-ahead log, in nanoseconds.
    pub sync: HistogramSnapshot,
    /// Write groups written since the start.
    pub write_groups: u64,
    /// Syncs of the write-ahead log since the start.
    pub syncs: u64,
    /// Payload bytes appended since the start.
    pub appended_bytes: u64,
    /// Buckets that exist.
    pub buckets: usize,
    /// Changes that had been acknowledged and were not there when the store was opened, as far as is known;
    /// not 0 only with [`crate::Options::accept_loss`].
    pub lost_changes: u64,
    /// Reads since the start that met damaged bytes.
    pub corrupt_reads: u64,
}

impl Counters {
    /// Puts what is counted into `stats`.
    pub(crate) fn fill(&self, stats: &mut EngineStats) {
        stats.flush_wait_nanos = self.flush_wait_nanos.load(Ordering::Relaxed);
        stats.append = self.append.snapshot();
        stats.queue_wait = self.queue_wait.snapshot();
        stats.group_write = self.group_write.snapshot();
        stats.group_bytes = self.group_bytes.snapshot();
        stats.group_commands = self.group_commands.snapshot();
        stats.sync = self.sync.snapshot();
        stats.write_groups = stats.group_write.count();
        stats.syncs = stats.sync.count();
        stats.appended_bytes = self.appended_bytes.load(Ordering::Relaxed);
    }
}

/// Tables of one kind of family at one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LevelStats {
    /// `buckets`, `keys` for key indexes, `compacted` for settled batches, or `meta` for everything else.
    pub family: &'static str,
    /// RocksDB's level.
    pub level: u32,
    /// Table files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What RocksDB holds.
#[derive(Debug, Clone, Default)]
pub struct StoreStats {
    /// Tables by family and level; levels that hold nothing are left out above level 0.
    pub levels: Vec<LevelStats>,
    /// Bytes of all memtables.
    pub memtable_bytes: u64,
    /// Memtables that are full and not yet flushed.
    pub immutable_memtables: u64,
    /// Bytes of the write-ahead log's files, those kept to be used again included.
    pub wal_bytes: u64,
    /// Bytes in the block caches.
    pub block_cache_bytes: u64,
    /// Errors of flushes and compactions since the start.
    pub background_errors: u64,
    /// The rate to which RocksDB slows writes down by itself; 0 as it must be.
    pub delayed_write_rate: u64,
    /// Whether RocksDB holds writes back by itself; false as it must be.
    pub writes_stopped: bool,
}

/// Asks RocksDB what it holds.
pub(crate) fn store(db: &Db, buckets: &[BucketId]) -> Result<StoreStats> {
    let mut stats = StoreStats { levels: levels(db)?, ..StoreStats::default() };
    let buckets: Vec<_> = buckets.iter().filter_map(|id| db.bucket(*id)).collect();
    let others = db.others();
    for family in buckets.iter().chain(&others) {
        stats.immutable_memtables += db.property(family, "rocksdb.num-immutable-mem-table");
    }
    // All buckets share one block cache; the others have one each.
    for family in buckets.first().into_iter().chain(&others) {
        stats.block_cache_bytes += db.property(family, "rocksdb.block-cache-usage");
    }
    stats.memtable_bytes = db.memtables_bytes() as u64;
    stats.background_errors = db.background_errors();
    stats.delayed_write_rate = db.property(&db.node(), "rocksdb.actual-delayed-write-rate");
    stats.writes_stopped = db.property(&db.node(), "rocksdb.is-write-stopped") != 0;
    stats.wal_bytes = wal_bytes(db.raw().path());
    Ok(stats)
}

fn levels(db: &Db) -> Result<Vec<LevelStats>> {
    let empty = |family| LevelStats { family, ..LevelStats::default() };
    let mut levels = ["buckets", "meta", "keys", "compacted"].map(empty).to_vec();
    for file in db.raw().live_files().map_err(failed("listing the tables"))? {
        let bucket = BucketId::from_family(&file.column_family_name).is_some();
        let family = match file.column_family_name.as_str() {
            "keys" => "keys",
            "compacted" => "compacted",
            _ if bucket => "buckets",
            _ => "meta",
        };
        let level = u32::try_from(file.level).unwrap_or(0);
        let at = levels.iter().position(|l| l.family == family && l.level == level);
        let at = at.unwrap_or_else(|| {
            levels.push(LevelStats { level, ..empty(family) });
            levels.len() - 1
        });
        levels[at].files += 1;
        levels[at].bytes += file.size as u64;
    }
    Ok(levels)
}

/// What cannot be looked at counts as nothing: a file may go away meanwhile.
fn wal_bytes(store: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(store) else { return 0 };
    files
        .filter_map(std::io::Result::ok)
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "log"))
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}
