//! The engine of one node: opening, the logs it holds, closing.

use std::path::Path;
use std::sync::Arc;

use crate::{Error, Options, PartitionId, PartitionLog, Result, RetentionClass};

/// What an engine holds and has done, for metrics.
#[derive(Debug, Clone, Default)]
pub struct EngineStats {
    /// Bytes in the tail cache.
    pub cache_bytes: usize,
    /// Bytes accepted and not yet durable.
    pub queued_bytes: usize,
    /// Write groups written since the start.
    pub write_groups: u64,
    /// Syncs of the write-ahead log since the start.
    pub syncs: u64,
    /// Sum of all sync durations, in microseconds.
    pub sync_micros: u64,
    /// Payload bytes appended since the start.
    pub appended_bytes: u64,
    /// Buckets that exist.
    pub buckets: usize,
}

/// The engine of one node. Clones share it.
#[derive(Debug, Clone)]
pub struct Engine {}

impl Engine {
    /// Opens or creates the engine in `dir`.
    ///
    /// `on_failure` is called once, from an engine thread, after a write or sync has failed and all
    /// waiters have been told; the server ends the process there.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Directory`], [`Error::UnknownFormat`], [`Error::Storage`].
    pub fn open(
        _dir: &Path,
        _options: Options,
        _on_failure: Arc<dyn Fn(&Error) + Send + Sync>,
    ) -> Result<Self> {
        unimplemented!()
    }

    /// The log of `id`, created when it does not exist. The class of an existing log is kept.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when its tail does not decode, [`Error::Storage`], [`Error::Closed`].
    pub fn log(&self, _id: PartitionId, _class: RetentionClass) -> Result<PartitionLog> {
        unimplemented!()
    }

    /// The logs that exist on disk.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionId> {
        unimplemented!()
    }

    /// Deletes a log: its rows are gone at once (durable on return), its bytes go with their
    /// buckets. Later calls on the log answer [`Error::Deleted`].
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Closed`].
    pub fn delete(&self, _id: PartitionId) -> Result<()> {
        unimplemented!()
    }

    /// A small value of the node itself (cluster id, node id), durable on return.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Closed`].
    pub fn set_node_value(&self, _key: &str, _value: &[u8]) -> Result<()> {
        unimplemented!()
    }

    /// What [`Engine::set_node_value`] stored.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn node_value(&self, _key: &str) -> Result<Option<Vec<u8>>> {
        unimplemented!()
    }

    /// What the engine holds and has done.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        unimplemented!()
    }

    /// Makes everything accepted durable, stops the threads and closes RocksDB. Idempotent.
    ///
    /// # Errors
    /// [`Error::Storage`] when the last write or sync failed.
    pub fn close(&self) -> Result<()> {
        unimplemented!()
    }
}
