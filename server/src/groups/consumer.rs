//! Groups of the consumer protocol (KIP-848): the coordinator shares out the partitions, and each member is brought to its
//! share by itself.
//!
//! ```text
//!  heartbeat ─ what the member says now ─ epoch ─ target assignment ─ reconcile ─ answer, once what changed is stored
//!              (subscription, regex)      │       (uniform, range)    one member towards its target
//!                                         └ grows with whatever changes who should have what
//! ```
//!
//! Pure, as the classic groups are: the time and what the metadata says of topics are arguments.
//!
//! Invariants:
//! - A partition belongs to one member at a time: nobody gets it before whoever had it has given it up or is gone.
//! - The epochs of the group and of its target assignment only grow.
//! - What a member is told, is stored.
//!
//! Members of the classic protocol may be in such a group, and groups change their protocol (`hosting.rs`, `migration.rs`,
//! `classic.rs`).
//!
//! Not here: which protocol a group follows (`machine.rs`), reading and writing the log (`shard.rs`).

mod assignor;
mod catalog;
mod classic;
pub(crate) mod group;
mod heartbeat;
mod hosting;
mod leave;
pub(super) mod machine;
pub(crate) mod member;
mod migration;
mod range;
mod reconcile;
pub(super) mod records;
mod regex;
pub(super) mod stored;
mod target;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use uuid::Uuid;

pub(crate) use assignor::Assignor;
pub(crate) use catalog::{Catalog, Overrides, TopicFacts};
pub(crate) use heartbeat::Beat;
pub(crate) use migration::Policy;

/// Partitions by topic.
pub(crate) type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions that a member has, by topic, each with the epoch at which it got it.
pub(crate) type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// What the configs say about these groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConsumerLimits {
    /// `group.consumer.max.size`.
    pub(crate) members_max: usize,
    /// `group.consumer.session.timeout.ms`, and its bounds for a single group.
    pub(crate) session_timeout_ms: Bounded,
    /// `group.consumer.heartbeat.interval.ms`, and its bounds for a single group.
    pub(crate) heartbeat_interval_ms: Bounded,
    /// The first of `group.consumer.assignors`.
    pub(crate) assignor: Assignor,
    /// Whether `group.consumer.assignors` names uniform, and range.
    pub(crate) assignors: (bool, bool),
    /// `group.consumer.migration.policy`.
    pub(crate) migration: Policy,
}

/// A value and what it may be for a single group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounded {
    pub(crate) value: i32,
    pub(crate) min: i32,
    pub(crate) max: i32,
}

impl Bounded {
    /// What a group has: its own value within the bounds, or that of all groups.
    pub(crate) fn of(self, own: Option<i32>) -> i32 {
        match own {
            Some(own) => own.max(self.min).min(self.max),
            None => self.value,
        }
    }
}

impl Default for ConsumerLimits {
    fn default() -> Self {
        Self {
            members_max: i32::MAX.unsigned_abs() as usize,
            session_timeout_ms: Bounded { value: 45_000, min: 45_000, max: 60_000 },
            heartbeat_interval_ms: Bounded { value: 5_000, min: 5_000, max: 15_000 },
            assignor: Assignor::Uniform,
            assignors: (true, true),
            migration: Policy::default(),
        }
    }
}

/// What a member is answered to its heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    pub(crate) interval_ms: i32,
    /// What it shall have, where it has to be told.
    pub(crate) assignment: Option<Assignment>,
}

/// Why something is refused, in the words that Kafka has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ResponseError,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<ResponseError> for Refusal {
    fn from(code: ResponseError) -> Self {
        Self::new(code, code.to_string())
    }
}

/// The partitions without the epochs.
pub(crate) fn partitions(owned: &Owned) -> Assignment {
    owned.iter().map(|(topic, parts)| (*topic, parts.keys().copied().collect())).collect()
}

/// Whether all of these are among those that a member has.
fn is_subset(some: &Assignment, owned: &Owned) -> bool {
    some.iter().all(|(topic, parts)| {
        let had = owned.get(topic);
        parts.iter().all(|p| had.is_some_and(|had| had.contains_key(p)))
    })
}
