//! What every handler works with: this node's parts, shared.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jangbu_engine::Engine;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::answers::AnswerRoom;
use crate::config::Config;
use crate::connection::Admission;
use crate::controller::{Controller, Topic};
use crate::disk::Disk;
use crate::fetch_sessions::FetchSessions;
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::replicas::Replicas;

/// This node, as the handlers see it.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) config: Config,
    pub(crate) engine: Engine,
    pub(crate) controller: Arc<Controller>,
    pub(crate) replicas: Arc<Replicas>,
    pub(crate) disk: Disk,
    pub(crate) sessions: FetchSessions,
    /// Room for requests that are taken in and not answered.
    pub(crate) admission: Admission,
    /// Room for records that are read and not taken by their clients.
    pub(crate) answers: AnswerRoom,
    pub(crate) metrics: Arc<Metrics>,
    /// Bounds how many batches are decompressed at a time.
    pub(crate) recoding: Semaphore,
    /// Cancelled when the node begins to drain.
    pub(crate) draining: CancellationToken,
}

impl Broker {
    /// This node's id.
    pub(crate) fn id(&self) -> i32 {
        self.config.node
    }

    /// The topic of this name.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.controller.image().topic(name).cloned()
    }

    /// The topic with this id.
    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.controller.image().topic_by_id(id).cloned()
    }

    /// The partition of a topic, if the topic has it and it runs here.
    pub(crate) fn partition(&self, topic: &Topic, index: i32) -> Lookup {
        let found = usize::try_from(index).ok().and_then(|i| topic.partitions.get(i));
        match found {
            None => Lookup::Unknown,
            Some(partition) => match self.replicas.get(partition.group) {
                Some(running) => Lookup::Here(running),
                None if self.replicas.is_fenced(partition.group) => Lookup::Fenced,
                None => Lookup::Elsewhere,
            },
        }
    }
}

/// Where a partition is.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// It runs here.
    Here(Arc<Partition>),
    /// It belongs here, but what is stored of it is damaged, so that it cannot run.
    Fenced,
    /// The topic has it, but it does not run here (yet).
    Elsewhere,
    /// The topic has no such partition.
    Unknown,
}

/// Wall-clock time in ms since the epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
