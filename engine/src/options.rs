//! How an engine is sized: plain data with defaults and bounds.

use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Upper ends of the classes, in ms; what keeps longer is of the class behind the last.
const CLASSES_MS: [i64; 8] =
    [HOUR_MS, 6 * HOUR_MS, DAY_MS, 3 * DAY_MS, 7 * DAY_MS, 14 * DAY_MS, 30 * DAY_MS, 90 * DAY_MS];

/// Partitions of one class share buckets, and so one point in time at which space comes back.
///
/// The class is the smallest of 1h, 6h, 1d, 3d, 7d, 14d, 30d, 90d, unlimited that is at least the
/// partition's `retention.ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetentionClass(pub(crate) u8);

impl RetentionClass {
    /// The class of a topic that keeps records for `retention_ms`, negative meaning for ever.
    #[must_use]
    pub fn from_retention_ms(retention_ms: i64) -> Self {
        let longer = if retention_ms < 0 {
            CLASSES_MS.len()
        } else {
            CLASSES_MS.iter().take_while(|end| **end < retention_ms).count()
        };
        Self(u8::try_from(longer).unwrap_or(u8::MAX))
    }

    /// How long partitions of the class keep records at most, in ms; `None` for ever.
    pub(crate) fn time_ms(self) -> Option<u64> {
        CLASSES_MS.get(usize::from(self.0)).and_then(|time| u64::try_from(*time).ok())
    }
}

/// Sizes of an engine. `validate` names the first field out of its bounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of recent batches kept in memory for tail reads and replication. Default 32 MiB.
    pub cache_bytes_max: usize,
    /// Bytes accepted but not yet durable, over all partitions; `append` blocks above it.
    /// Default 32 MiB, at least 4 MiB.
    pub queue_bytes_max: usize,
    /// A bucket is closed when it holds this much. Default 4 GiB, at least 64 KiB.
    pub bucket_bytes_max: u64,
    /// A bucket is closed at this age, if it holds anything. Default 1 h, at least 1 s.
    pub bucket_age_max: Duration,
    /// Memory for one memtable of a bucket. Default 32 MiB, at least 1 MiB.
    pub memtable_bytes: usize,
    /// Memory for all memtables, those that are being flushed included: the writer waits above it.
    /// Default 128 MiB, at least twice `memtable_bytes`.
    pub memtables_bytes_max: usize,
    /// Bytes of block cache for index blocks and catch-up reads of buckets, and as many for `meta` and settled batches.
    /// Default 16 MiB, at least 1 MiB.
    pub block_cache_bytes: usize,
    /// Bytes of block cache for key indexes; only look-ups and cleaning fill it. Default 16 MiB, at least 1 MiB.
    pub key_cache_bytes: usize,
    /// Writes and reads tables past the page cache, where the file system can. Default true.
    pub direct_io: bool,
    /// Open a store that lost what was acknowledged, instead of refusing it. Default false.
    pub accept_loss: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes_max: 32 << 20,
            queue_bytes_max: 32 << 20,
            bucket_bytes_max: 4 << 30,
            bucket_age_max: Duration::from_secs(3600),
            memtable_bytes: 32 << 20,
            memtables_bytes_max: 128 << 20,
            block_cache_bytes: 16 << 20,
            key_cache_bytes: 16 << 20,
            direct_io: true,
            accept_loss: false,
        }
    }
}

impl Options {
    /// These sizes, made smaller where a volume of `total_bytes` is too small for them.
    #[must_use]
    pub fn fit(mut self, total_bytes: u64) -> Self {
        let part = |of| usize::try_from(total_bytes / of).unwrap_or(usize::MAX);
        self.memtable_bytes = self.memtable_bytes.min(part(128).max(1 << 20));
        self.memtables_bytes_max =
            self.memtables_bytes_max.min(part(32).max(2 * self.memtable_bytes));
        self.queue_bytes_max = self.queue_bytes_max.min(part(16).max(4 << 20));
        self.bucket_bytes_max = self.bucket_bytes_max.min((total_bytes / 16).max(64 << 10));
        self
    }

    /// What may still be written to disk when nothing more is taken in: everything accepted goes to the
    /// write-ahead log and to a table, what lies in memtables to a table, and the log may reach its bound.
    #[must_use]
    pub fn unwritten_bytes_max(&self) -> u64 {
        let bytes = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        bytes(self.queue_bytes_max) * 2 + bytes(self.memtables_bytes_max) * 3
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// The name of the first field out of its bounds, and the bound.
    pub fn validate(&self) -> Result<(), String> {
        let bounds = [
            ("queue_bytes_max", self.queue_bytes_max >= 4 << 20, "4 MiB"),
            ("bucket_bytes_max", self.bucket_bytes_max >= 64 << 10, "64 KiB"),
            ("bucket_age_max", self.bucket_age_max >= Duration::from_secs(1), "1 s"),
            ("memtable_bytes", self.memtable_bytes >= 1 << 20, "1 MiB"),
            (
                "memtables_bytes_max",
                self.memtables_bytes_max / 2 >= self.memtable_bytes,
                "twice memtable_bytes",
            ),
            ("block_cache_bytes", self.block_cache_bytes >= 1 << 20, "1 MiB"),
            ("key_cache_bytes", self.key_cache_bytes >= 1 << 20, "1 MiB"),
        ];
        match bounds.iter().find(|(_, holds, _)| !holds) {
            Some((name, _, least)) => Err(format!("{name} must be at least {least}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, RetentionClass};

    #[test]
    fn a_class_keeps_at_least_as_long_as_asked() {
        for (ms, class) in [
            (0, 0),
            (3_600_000, 0),
            (3_600_001, 1),
            (7 * 86_400_000, 4),
            (91 * 86_400_000, 8),
            (-1, 8),
            (i64::MAX, 8),
        ] {
            assert_eq!(RetentionClass::from_retention_ms(ms), RetentionClass(class), "{ms}");
        }
    }

    #[test]
    fn the_defaults_are_valid_and_a_small_queue_is_not() {
        assert_eq!(Options::default().validate(), Ok(()));
        let small = Options { queue_bytes_max: 1, ..Options::default() };
        assert_eq!(small.validate(), Err("queue_bytes_max must be at least 4 MiB".to_owned()));
    }
}
