//! One Raft group: propose, learn what is committed, know who leads.
//!
//! This is the only place that names openraft. What leaves it are the library-neutral types of this
//! file, so that the library can be replaced (`docs/decisions/0002-openraft.md`).
//!
//! Invariants:
//! - An answer to a proposal means: durable on a majority, and applied here.
//! - Proposals of one caller are appended in the order in which `propose` returned.
//!
//! Not here: what is proposed and what applying does (`partition.rs`, `controller`), bytes on disk
//! (the engine), frames between nodes.

mod appends;
mod beats;
mod behind;
mod boundary;
mod codec;
mod config;
mod group;
mod instance;
mod lease;
mod log;
mod log_store;
mod members;
mod network;
mod purge;
mod replica;
mod router;
#[cfg(test)]
mod simulation;
mod staging;
mod state_machine;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
mod throttle;
mod transfer;
mod transport;
mod turns;
mod types;
mod wire;

use bytes::Bytes;
use jangbu_engine::{EntryKind, Index, Offset, Term};

pub(crate) use behind::GROUPS_MAX as BEHIND_MAX;
pub(crate) use group::{Group, Proposal};
pub(crate) use log::Log;
pub(crate) use network::Network;
pub(crate) use throttle::{Bounds, Held, Throttle};

/// What a stored checkpoint holds: the index of the last entry in it, the offset behind that, and the state
/// machine's own bytes; `None` when it does not decode.
pub(crate) fn stored_checkpoint(bytes: &[u8]) -> Option<(Option<Index>, Offset, Bytes)> {
    let stored = codec::Checkpoint::decode(bytes).ok()?;
    let index = stored.applied.map(|applied| Index(applied.index));
    Some((index, Offset(stored.next_offset), stored.machine))
}

/// One replica of one group: the broker in the upper half, a number that the controller never
/// reuses in the lower half, so that a broker that returns to a partition is a new Raft node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReplicaId(pub(crate) u64);

impl ReplicaId {
    /// The replica of `broker` with the given epoch.
    pub(crate) fn new(broker: u32, epoch: u32) -> Self {
        Self(u64::from(broker) << 32 | u64::from(epoch))
    }

    /// Which of the broker's replicas of the group, over time.
    pub(crate) fn epoch(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(u32::MAX)
    }

    /// The broker it is on.
    pub(crate) fn broker(self) -> i32 {
        // Broker ids are positive where they enter; another one is no broker that anybody knows.
        i32::try_from(self.0 >> 32).unwrap_or(-1)
    }
}

/// Who sends a group's heartbeats and holds its elections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The group itself, by openraft's tick.
    Own,
    /// Nobody unless asked: the node knows which nodes live, and calls [`Group::elect`].
    Node,
}

/// Who belongs to a group, by the newest configuration in this replica's log, committed or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Members {
    /// Those whose majority commits; of both sides while the configuration is a joint one.
    pub(crate) voters: Vec<ReplicaId>,
    /// Those that are only sent the log.
    pub(crate) learners: Vec<ReplicaId>,
    /// Whether the configuration is a joint one: a change of voters that is not done.
    pub(crate) joint: bool,
}

/// What a state machine is given to apply: a committed batch or command.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    /// Whether `payload` is a record batch or a command.
    pub(crate) kind: EntryKind,
    /// Offset of the first record.
    pub(crate) base_offset: Offset,
    /// The offset after the last record.
    pub(crate) next_offset: Offset,
    /// A batch's fixed header, or a whole command.
    pub(crate) payload: Bytes,
}

/// The answer to a proposal once it is applied.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    /// Offset of the batch's first record.
    pub(crate) base_offset: Offset,
    /// What the state machine answered to a command.
    pub(crate) reply: Bytes,
}

impl Applied {
    /// The answer to what was put into the log as something that does nothing.
    fn nothing() -> Self {
        Self { base_offset: Offset(-1), reply: Bytes::new() }
    }

    fn is_nothing(&self) -> bool {
        self.base_offset < Offset(0)
    }
}

/// Deterministic state built from the committed entries of a group. Same entries, same state.
pub(crate) trait StateMachine: std::fmt::Debug + Send + Sync + 'static {
    /// The log whose entries it is given.
    type Log: Log;

    /// Whether applying an entry that the state has in it already changes nothing. Snapshots of such a machine stand
    /// where its log was purged up to, and their state may be newer than that, so that a follower gets all
    /// entries from there. Snapshots of another machine stand at the entry applied last.
    const IDEMPOTENT: bool = false;

    /// Applies one entry and returns the reply for its proposer. Must not fail: an entry it does not
    /// understand is answered, not refused.
    fn apply(&mut self, entry: &Committed) -> Bytes;

    /// Called when the first entry of a new leader is applied: from now on it may answer.
    fn new_term(&mut self) {}

    /// The state as bytes, so that a restart need not apply everything again.
    fn checkpoint(&self) -> Bytes;

    /// Replaces the state by that of a checkpoint taken where the log's next offset was `next_offset`.
    fn restore(&mut self, checkpoint: &[u8], next_offset: Offset) -> Result<(), String>;
}

/// Who leads the group, as this replica sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Leadership {
    /// The Raft term, which is the Kafka leader epoch.
    pub(crate) term: Term,
    /// The leader, if one is known.
    pub(crate) leader: Option<ReplicaId>,
    /// Whether it is this replica.
    pub(crate) local: bool,
}

/// Why a proposal or a linearizable read got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Another replica leads, or none does: the client refreshes its metadata.
    #[error("this replica does not lead the partition")]
    NotLeader,
    /// The group is stopping or has failed.
    #[error("the partition's replica has stopped")]
    Stopped,
    /// Too few of the other replicas answered in time; whether it happens yet is unknown.
    #[error("too few replicas answered in time")]
    Timeout,
    /// Members cannot change that way, or another change is under way.
    #[error("the members cannot change now: {0}")]
    Members(String),
}
