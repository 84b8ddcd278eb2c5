//! A member of a classic group.
//!
//! Not here: what a member may do when (`join.rs`, `sync.rs`), what a consumer's subscription says (`embedded.rs`).

use bytes::Bytes;

use super::Token;

/// One way of sharing partitions that a member can take part in, with what the member says for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: String,
    pub(crate) metadata: Bytes,
}

/// A member as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: String,
    /// The name that a static member keeps over its restarts (KIP-345).
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    /// In the order in which the member prefers them.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// Its join request that waits for the rebalance.
    pub(super) joining: Option<Token>,
    /// Its sync request that waits for the assignment.
    pub(super) syncing: Option<Token>,
    /// It has not been through a rebalance yet.
    pub(super) is_new: bool,
    /// When it is taken for gone, unless it is heard before.
    pub(super) deadline: u64,
}

impl Member {
    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|own| own.name == protocol)
    }

    /// What the member says for a protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let own = self.protocols.iter().find(|own| own.name == protocol);
        own.map_or_else(Bytes::new, |own| own.metadata.clone())
    }

    /// Somebody who waits for an answer has not gone, except that nobody waits for a new member longer than for its first
    /// rebalance.
    pub(super) fn waits(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    pub(super) fn heard(&mut self, now: u64) {
        self.deadline = now + millis(self.session_timeout_ms);
    }
}

/// A time-out of the protocol as an unsigned number.
pub(super) fn millis(timeout: i32) -> u64 {
    u64::try_from(timeout).unwrap_or(0)
}
