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

mod codec;
mod group;
mod log_store;
mod network;
mod state_machine;
#[cfg(test)]
mod suite;
mod types;

use bytes::Bytes;
use jangbu_engine::{EntryKind, Index, Offset, Term};

pub(crate) use group::{Group, Proposal};

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
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied {
    /// Offset of the batch's first record.
    pub(crate) base_offset: Offset,
    /// What the state machine answered to a command.
    pub(crate) reply: Bytes,
}

/// Deterministic state built from the committed entries of a group. Same entries, same state.
pub(crate) trait StateMachine: Send + Sync + 'static {
    /// Applies one entry and returns the reply for its proposer. Must not fail: an entry it does not
    /// understand is answered, not refused.
    fn apply(&mut self, entry: &Committed) -> Bytes;

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
}
