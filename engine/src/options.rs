//! How an engine is sized: plain data with defaults and bounds.

use std::time::Duration;

/// Partitions of one class share buckets, and so one point in time at which space comes back.
///
/// The class is the smallest of 1h, 6h, 1d, 3d, 7d, 14d, 30d, 90d, unlimited that is at least the
/// partition's `retention.ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetentionClass(pub(crate) u8);

impl RetentionClass {
    /// The class of a topic that keeps records for `retention_ms`, negative meaning for ever.
    #[must_use]
    pub fn from_retention_ms(_retention_ms: i64) -> Self {
        unimplemented!()
    }
}

/// Sizes of an engine. `validate` names the first field out of its bounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of recent batches kept in memory for tail reads and replication. Default 256 MiB.
    pub cache_bytes_max: usize,
    /// Bytes accepted but not yet durable, over all partitions; `append` blocks above it.
    /// Default 128 MiB, at least 16 MiB.
    pub queue_bytes_max: usize,
    /// A bucket is closed when it holds this much. Default 4 GiB.
    pub bucket_bytes_max: u64,
    /// A bucket is closed at this age, if it holds anything. Default 1 h.
    pub bucket_age_max: Duration,
    /// Memory for one memtable of a bucket. Default 64 MiB.
    pub memtable_bytes: usize,
    /// Bytes of block cache for index blocks and catch-up reads. Default 128 MiB.
    pub block_cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes_max: 256 << 20,
            queue_bytes_max: 128 << 20,
            bucket_bytes_max: 4 << 30,
            bucket_age_max: Duration::from_secs(3600),
            memtable_bytes: 64 << 20,
            block_cache_bytes: 128 << 20,
        }
    }
}
