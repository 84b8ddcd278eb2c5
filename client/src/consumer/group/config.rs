//! What an application says of its group, and what it is told.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::{Assignor, Committer};
use crate::TopicPartition;
use crate::setters::setters;

/// Who shares out the partitions of a group, and how its members hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupProtocol {
    /// One of the members; all of them stop for each change, unless they are cooperative.
    #[default]
    Classic,
    /// The coordinator, partition by partition: a change stops nobody else (KIP-848). Kafka 4.0 or newer, or jangbu.
    Consumer,
}

/// How a consumer is a member of its group.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// The group's name.
    pub id: String,
    /// The protocol. Default: [`GroupProtocol::Classic`].
    pub protocol: GroupProtocol,
    /// A name of this member that stays over restarts (KIP-345): no rebalance when it comes back within the session.
    /// Default: none.
    pub instance_id: Option<String>,
    /// Time without a heartbeat after which the member counts as dead. With the consumer protocol the broker decides
    /// (45 s there), and this is how long the member itself goes on without an answer. Default: 45 s.
    pub session_timeout: Duration,
    /// Time between heartbeats; with the consumer protocol the broker says it. Default: 3 s.
    pub heartbeat_interval: Duration,
    /// Time in which every member has to come to a rebalance, and so the longest that may lie between two polls.
    /// Default: 5 min.
    pub rebalance_timeout: Duration,
    /// What the member can do with partitions, best first; all members must share one. Of the classic protocol only.
    /// Default: range, then cooperative-sticky, as Kafka's own consumer.
    pub assignors: Vec<Assignor>,
    /// How the coordinator is to share out the partitions: a name that it knows, as `uniform` or `range`. Of the consumer
    /// protocol only. Default: what most members ask for, else the coordinator's own.
    pub server_assignor: Option<String>,
    /// How often what was handed out is committed by itself, and at the latest before a partition is given up. What one
    /// poll returned is committed by a later one. `None` leaves it to [`crate::Consumer::commit`]. Default: 5 s.
    pub auto_commit: Option<Duration>,
}

setters! { GroupConfig:
    field with_protocol protocol: GroupProtocol,
    some with_instance_id instance_id: String,
    field with_session_timeout session_timeout: Duration,
    field with_heartbeat_interval heartbeat_interval: Duration,
    field with_rebalance_timeout rebalance_timeout: Duration,
    field with_assignors assignors: Vec<Assignor>,
    some with_server_assignor server_assignor: String,
    field with_auto_commit auto_commit: Option<Duration>,
}

impl GroupConfig {
    /// A member of the group `id`, with the defaults.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            protocol: GroupProtocol::Classic,
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            rebalance_timeout: Duration::from_secs(300),
            assignors: vec![Assignor::Range, Assignor::CooperativeSticky],
            server_assignor: None,
            auto_commit: Some(Duration::from_secs(5)),
        }
    }

    /// Whether the member reads on while the group rebalances.
    pub(super) fn is_cooperative(&self) -> bool {
        self.assignors.iter().all(|assignor| *assignor == Assignor::CooperativeSticky)
    }
}

/// What a listener does meanwhile.
pub type ListenerFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Is told which partitions come and go. Polling goes on when its future is done; if the poll is dropped before, it
/// is told again.
pub trait RebalanceListener: Send + Sync {
    /// These are about to be given up: the last chance to commit what was done of them.
    fn revoked<'a>(
        &'a self,
        partitions: &'a [TopicPartition],
        committer: &'a Committer,
    ) -> ListenerFuture<'a> {
        let _ = (partitions, committer);
        Box::pin(async {})
    }

    /// These have come, and are about to be read.
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> ListenerFuture<'a> {
        let _ = partitions;
        Box::pin(async {})
    }

    /// These are gone already: the group has gone on without this member, and commits are refused.
    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> ListenerFuture<'a> {
        let _ = partitions;
        Box::pin(async {})
    }
}

/// Nobody listens.
pub(super) struct Silent;
impl RebalanceListener for Silent {}
