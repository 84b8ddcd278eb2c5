//! Partition logs on RocksDB: ordered, durable, one write path and one sync for all partitions.
//!
//! Entries carry a Raft index and, when they hold a record batch, Kafka offsets; either order can
//! be rebuilt from the stored data.
//!
//! Not here: what may be read (`server/src/partition.rs`), consensus (`server/src/consensus`),
//! the network, the Kafka protocol beyond the fixed header of a record batch.

pub mod batch;
mod engine;
mod entry;
mod error;
mod ids;
mod log;
mod options;

pub use engine::{Engine, EngineStats};
pub use entry::{Entry, EntryKind, NewEntry};
pub use error::{Error, Result};
pub use ids::{Index, Offset, PartitionId, Term};
pub use log::{Epoch, LogId, LogState, PartitionLog, PayloadPart};
pub use options::{Options, RetentionClass};
