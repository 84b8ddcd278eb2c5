//! How a node's memory is shared out: from `--memory`, or from what the machine has.
//!
//! Every part is a bound that is kept under overload; beside them stand what a connection and a
//! partition cost (`docs/operations.md`). The kernel's page cache is not counted: it holds the
//! write-ahead log, and tables only where the file system cannot be read past it.

use std::fs;

use crate::config::Config;

const MIB: usize = 1 << 20;
/// The least that works, and the most that is taken without being told to.
const DEFAULT_MAX: usize = 4 << 30;
/// What is taken without being told to, where an eighth of the machine is more than this.
const DEFAULT_MIN: usize = 256 * MIB;

/// The most that look-ups by key fill without being told to.
const KEY_CACHE_MAX: usize = 2 << 30;

/// The parts of a node's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// All of it.
    pub(crate) memory: usize,
    /// All memtables of RocksDB.
    pub(crate) memtables: usize,
    /// One of them.
    pub(crate) memtable: usize,
    /// Bytes accepted and not yet durable.
    pub(crate) queue: usize,
    /// The newest batches.
    pub(crate) cache: usize,
    /// Requests taken in and not yet answered.
    pub(crate) requests: usize,
    /// Records read for clients that have not taken them yet.
    pub(crate) answers: usize,
    /// Blocks of buckets, mostly of their indexes, and of `meta`: each has a cache of this size.
    pub(crate) block_cache: usize,
    /// Blocks of key indexes, beside `memory`: look-ups by key alone fill it.
    pub(crate) key_cache: usize,
    /// A bucket on disk: its tables are as large as a memtable, and a read looks at all of them.
    pub(crate) bucket: u64,
}

impl Sizes {
    /// The sizes a node runs with: what is configured, else its share of the memory.
    pub(crate) fn of(config: &Config) -> Self {
        let memory = config.memory.unwrap_or_else(|| default_memory(machine_bytes()));
        let mut sizes = Self::share_out(memory);
        let known = config.memory.or_else(machine_bytes).unwrap_or(memory);
        sizes.key_cache = config.key_cache_bytes.unwrap_or((known / 8).clamp(MIB, KEY_CACHE_MAX));
        sizes.cache = config.cache_bytes.unwrap_or(sizes.cache);
        sizes.requests = config.produce_bytes_max.unwrap_or(sizes.requests);
        sizes
    }

    /// Half for memtables, a sixteenth each for the queue and for answers, an eighth each for newest batches and
    /// requests, the rest for blocks.
    fn share_out(memory: usize) -> Self {
        let memtables = (memory / 2).max(4 * MIB);
        let memtable = (memtables / 2).clamp(MIB, 128 * MIB);
        let queue = (memory / 16).max(4 * MIB);
        let (cache, requests) = (memory / 8, (memory / 8).max(4 * MIB));
        let answers = (memory / 16).max(2 * MIB);
        let taken = memtables + queue + cache + requests + answers;
        let blocks = memory.saturating_sub(taken);
        Self {
            memory,
            memtables,
            memtable,
            queue,
            cache,
            requests,
            answers,
            block_cache: (blocks / 2).max(MIB),
            key_cache: (memory / 8).max(MIB),
            bucket: (64 * memtable as u64).min(4 << 30),
        }
    }

    /// The engine's options.
    pub(crate) fn engine(&self) -> jangbu_engine::Options {
        jangbu_engine::Options {
            cache_bytes_max: self.cache,
            queue_bytes_max: self.queue,
            bucket_bytes_max: self.bucket,
            memtable_bytes: self.memtable,
            memtables_bytes_max: self.memtables,
            block_cache_bytes: self.block_cache,
            key_cache_bytes: self.key_cache,
            ..jangbu_engine::Options::default()
        }
    }

    /// Tells the sizes, once at the start.
    pub(crate) fn log(&self) {
        let mib = |bytes: usize| format!("{} MiB", bytes / MIB);
        tracing::info!(
            memory = mib(self.memory),
            memtables = mib(self.memtables),
            memtable = mib(self.memtable),
            queue = mib(self.queue),
            cache = mib(self.cache),
            requests = mib(self.requests),
            answers = mib(self.answers),
            blocks = mib(2 * self.block_cache),
            keys = mib(self.key_cache),
            "memory"
        );
    }
}

/// One percent of the machine, at least 256 MiB unless that is more than an eighth of it.
fn default_memory(machine: Option<usize>) -> usize {
    let Some(machine) = machine else { return DEFAULT_MIN };
    (machine / 100).clamp(DEFAULT_MIN.min(machine / 8), DEFAULT_MAX).max(Config::MEMORY_MIN)
}

/// The memory of the machine, or of the control group that this process lives in when that is less.
fn machine_bytes() -> Option<usize> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = limits.iter().filter_map(|path| read(path)?.trim().parse().ok());
    let total = read("/proc/meminfo").and_then(|text| total_bytes(&text));
    limits.chain(total).min()
}

/// `MemTotal` of `/proc/meminfo`.
fn total_bytes(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_no_more_than_the_whole_and_within_the_engines_bounds() {
        for mib in [32, 64, 256, 1024, 16 << 10] {
            let sizes = Sizes::share_out(mib * MIB);
            let parts = sizes.memtables
                + sizes.queue
                + sizes.cache
                + sizes.requests
                + sizes.answers
                + 2 * sizes.block_cache;
            assert!(parts <= sizes.memory, "{mib} MiB: {sizes:?}");
            assert_eq!(sizes.engine().validate(), Ok(()), "{mib} MiB");
        }
    }

    #[test]
    fn a_machine_gives_one_percent_a_small_one_an_eighth() {
        assert_eq!(default_memory(Some(64 << 30)), (64 << 30) / 100);
        assert_eq!(default_memory(Some(8 << 30)), 256 * MIB);
        assert_eq!(default_memory(Some(512 * MIB)), 64 * MIB);
        assert_eq!(default_memory(Some(1 << 40)), 4 << 30);
        assert_eq!(default_memory(None), 256 * MIB);
    }

    #[test]
    fn what_is_configured_wins_over_its_share() {
        let config = Config {
            memory: Some(64 * MIB),
            cache_bytes: Some(0),
            produce_bytes_max: Some(3 * MIB),
            ..Config::default()
        };
        let sizes = Sizes::of(&config);
        assert_eq!((sizes.cache, sizes.requests, sizes.queue), (0, 3 * MIB, 4 * MIB));
        assert_eq!(sizes.key_cache, 8 * MIB, "an eighth of what is configured");
        let config = Config { key_cache_bytes: Some(MIB), ..config };
        assert_eq!(Sizes::of(&config).key_cache, MIB);
    }

    #[test]
    fn the_total_is_read_from_meminfo() {
        assert_eq!(total_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
    }
}
