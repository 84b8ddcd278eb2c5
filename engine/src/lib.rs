//! Partition logs on RocksDB: ordered, durable, one write path and one sync for all partitions.
//!
//! Entries carry a Raft index and, when they hold a record batch, Kafka offsets; either order can
//! be rebuilt from the stored data.
//!
//! Not here: what may be read (`server/src/partition.rs`), consensus (`server/src/consensus`),
//! the network, the Kafka protocol beyond the fixed header of a record batch.

pub mod batch;
mod bucket;
mod command;
mod core;
mod corrupt;
mod db;
mod engine;
mod entry;
mod error;
mod format;
mod histogram;
mod ids;
pub mod inspect;
mod keys;
mod log;
mod options;
mod partition;
mod queue;
mod read;
mod record;
pub mod records;
mod recovery;
mod relaxed;
mod relocate;
mod rows;
mod size;
mod space;
mod sparse;
mod state;
mod stats;
mod sync;
mod table;
mod tail;
mod watermark;
mod writer;

pub use engine::Engine;
pub use entry::{Entry, EntryKind, NewEntry};
pub use error::{Error, Result};
pub use histogram::{Histogram, HistogramSnapshot};
pub use ids::{Index, Offset, PartitionId, Term};
pub use log::{Epoch, LogId, LogState, PartitionLog, PayloadPart};
pub use options::{Options, RetentionClass};
pub use size::LogSize;
pub use space::EngineSpace;
pub use stats::{EngineStats, LevelStats, StoreStats};
pub use table::{CleanRules, CleanStep, Cleanliness, KeyIndex, KeyRecord, Settled};
