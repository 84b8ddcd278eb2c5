//! A member of a consumer group: what it says of itself, and where it is on its way to its share.
//!
//! Not here: the way (`reconcile.rs`).

use std::collections::BTreeSet;

use super::{Assignment, Owned, partitions};
use crate::groups::Now;
use crate::groups::member::Protocol;

/// A static member that has left for a while keeps its place under this epoch.
pub(crate) const AWAY: i32 = -2;

/// What a member says of itself; it is stored as one record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) instance: Option<String>,
    pub(crate) rack: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) regex: Option<String>,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) assignor: Option<String>,
    /// Of a member that follows the classic protocol in this group.
    pub(crate) classic: Option<ClassicSide>,
}

/// What is known of a member that follows the classic protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassicSide {
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
}

/// Where a member is on its way to its target. The numbers are Kafka's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has all that it shall have as of its epoch.
    #[default]
    Stable,
    /// It has to give something up first.
    Unrevoked,
    /// What it shall get is still somebody else's.
    Unreleased,
    /// Stored by a later version of Kafka.
    Unknown,
}

impl Progress {
    pub(super) fn number(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::Unrevoked => 1,
            Self::Unreleased => 2,
            Self::Unknown => 127,
        }
    }

    pub(super) fn from_number(number: i8) -> Self {
        match number {
            0 => Self::Stable,
            1 => Self::Unrevoked,
            2 => Self::Unreleased,
            _ => Self::Unknown,
        }
    }
}

/// A member's epoch and what it has; it is stored as one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) epoch: i32,
    /// The epoch before: an answer with a new one may be lost.
    pub(crate) previous_epoch: i32,
    pub(crate) progress: Progress,
    pub(crate) assigned: Owned,
    /// What it must give up and may still use.
    pub(crate) revoking: Owned,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            epoch: 0,
            previous_epoch: -1,
            progress: Progress::Stable,
            assigned: Owned::new(),
            revoking: Owned::new(),
        }
    }
}

impl Current {
    /// Whether nothing is left to do until the target changes.
    pub(super) fn is_at(&self, target_epoch: i32) -> bool {
        self.progress == Progress::Stable && self.epoch == target_epoch
    }

    /// Goes to an epoch, from which the one before is the one of now.
    pub(super) fn at(&self, epoch: i32) -> Self {
        Self { epoch, previous_epoch: self.epoch, ..self.clone() }
    }

    /// The epoch at which it got a partition that it may use.
    pub(super) fn since(&self, topic: &uuid::Uuid, partition: i32) -> Option<i32> {
        let of = |owned: &Owned| owned.get(topic)?.get(&partition).copied();
        of(&self.assigned).or_else(|| of(&self.revoking))
    }
}

/// A member as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) says: Subscription,
    pub(crate) current: Current,
    /// When it is taken for gone, unless it is heard before.
    pub(super) deadline: u64,
    /// Until when it must have given up what it has to; if it follows the classic protocol, until when it must have joined again
    /// or asked for its assignment.
    pub(super) rebalance_deadline: Option<u64>,
}

impl Member {
    pub(super) fn new(id: String, says: Subscription, current: Current) -> Self {
        Self { id, says, current, deadline: u64::MAX, rebalance_deadline: None }
    }

    /// Whether it follows the classic protocol.
    pub(crate) fn is_classic(&self) -> bool {
        self.says.classic.is_some()
    }

    /// What it shall use as of now.
    pub(crate) fn assignment(&self) -> Assignment {
        partitions(&self.current.assigned)
    }

    /// Gives a member of the classic protocol its rebalance time-out to join or to ask for its assignment, unless that runs.
    pub(super) fn await_rebalance(&mut self, now: Now) {
        let timeout = u64::try_from(self.says.rebalance_timeout_ms).unwrap_or(0);
        self.rebalance_deadline.get_or_insert(now.ms.saturating_add(timeout));
    }

    pub(super) fn heard(&mut self, now_ms: u64, session_timeout_ms: i32) {
        let own = self.says.classic.as_ref().map(|side| side.session_timeout_ms);
        let timeout = u64::try_from(own.unwrap_or(session_timeout_ms)).unwrap_or(0);
        self.deadline = now_ms.saturating_add(timeout);
    }
}
