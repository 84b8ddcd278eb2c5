//! The types openraft is instantiated with.

use std::fmt;

use bytes::Bytes;
use jangbu_engine::{EntryKind, LogId as EngineLogId, Offset};
use openraft::impls::leader_id_std::LeaderId;
use openraft::vote::RaftLeaderId;

use super::Applied;

#[cfg(not(test))]
pub(crate) type Runtime = openraft_rt_tokio::TokioRuntime;
/// The same, with random numbers and an order of wake-ups that a simulation can repeat.
#[cfg(test)]
pub(crate) type Runtime = super::simulation::Runtime;

openraft::declare_raft_types!(
    /// One type configuration for all groups. `leader_id_std` allows one leader per term, which is
    /// what makes the term usable as Kafka's leader epoch.
    pub(crate) Types:
        D = Payload,
        R = Applied,
        NodeId = u64,
        Node = (),
        Term = u64,
        LeaderId = LeaderId<u64, u64>,
        Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>,
        AsyncRuntime = Runtime,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, ()>;

/// What is proposed. The offsets are unknown until the log store has assigned them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) kind: EntryKind,
    pub(crate) bytes: Bytes,
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    /// On the replica that proposed it, which proposals it must not overtake (`turns.rs`).
    pub(crate) turn: Option<u64>,
}

impl Payload {
    pub(crate) fn new(kind: EntryKind, bytes: Bytes) -> Self {
        Self { kind, bytes, base_offset: Offset(-1), next_offset: Offset(-1), turn: None }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} bytes at offset {}", self.kind, self.bytes.len(), self.base_offset)
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "applied at offset {}", self.base_offset)
    }
}

/// openraft's log id of an engine position.
pub(crate) fn log_id(id: EngineLogId) -> LogId {
    LogId::new_term_index(id.term.0, id.index.0)
}
