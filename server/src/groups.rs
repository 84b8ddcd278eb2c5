//! Consumer groups: who shares which partitions, and how far each group has read.
//!
//! A group belongs to one partition of `__consumer_offsets`, and the node that leads that partition coordinates it. What
//! must outlive the node are records there, in Kafka's own formats.
//!
//! ```text
//!  handlers ─ coordinator ─ shard (one a partition) ─┬─ machine: groups and offsets, pure ─ group, join, rebalance, sync
//!                                                    │           (classic), consumer (KIP-848)
//!                                                    ├─ writer: records → batch → the partition's Raft group
//!                                                    └─ tail: every replica reads what is committed into its table
//! ```
//!
//! Invariants:
//! - What a client was told is stored, is committed on a majority and in the table of the node that told it.
//! - Only records that are committed change a table, in the order of the log.
//! - The files of the machine do no I/O and read no clock.

mod batch;
mod catalogs;
pub(crate) mod consumer;
pub(crate) mod coordinator;
pub(crate) mod effects;
mod embedded;
mod expiry;
pub(crate) mod group;
mod join;
mod machine;
mod member;
mod offsets;
mod queue;
mod rebalance;
mod records;
mod settings;
mod shard;
mod sync;
mod table;
mod tail;
#[cfg(test)]
mod tests;
pub(crate) mod topic;
mod wire;

pub(crate) use coordinator::Coordinator;
pub(crate) use join::Join;
pub(crate) use machine::{Commit, Machine};
pub(crate) use member::{Member, Protocol};
pub(crate) use offsets::Committed;
pub(crate) use settings::DYNAMIC;
pub(crate) use shard::Shard;
pub(crate) use sync::{Caller, Sync};
pub(crate) use table::Table;

/// A request that waits for its answer.
pub(crate) type Token = u64;

/// The time, as an argument.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Milliseconds that only grow, for time-outs.
    pub(crate) ms: u64,
    /// Milliseconds since the epoch, for what is stored.
    pub(crate) wall_ms: i64,
}

/// What the groups of a node are held to, as its configs say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// `group.max.size`.
    pub(crate) members_max: usize,
    /// `group.initial.rebalance.delay.ms`.
    pub(crate) initial_delay_ms: u64,
    /// `group.min.session.timeout.ms`, `group.max.session.timeout.ms`.
    pub(crate) session_timeout_ms: (i32, i32),
    /// `offset.metadata.max.bytes`.
    pub(crate) metadata_bytes_max: usize,
    /// `offsets.retention.minutes`, in ms.
    pub(crate) retention_ms: i64,
    /// What groups of the consumer protocol are held to.
    pub(crate) consumer: consumer::ConsumerLimits,
}
