//! The partitions this node runs, kept level with the metadata.
//!
//! Invariants:
//! - A partition runs here exactly while the image places a replica of it on this broker.
//! - A log is deleted only after the metadata group has confirmed, through a majority, that no topic
//!   owns it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{Engine, PartitionId, RetentionClass};
use parking_lot::RwLock;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::configs::Durability;
use crate::consensus::{Network, ReplicaId};
use crate::controller::{Controller, TopicPartition};
use crate::metrics::Metrics;
use crate::partition::{DiskReads, Partition, ReadAhead};
use crate::retention;

/// The metadata group's log.
pub(crate) const METADATA: PartitionId = PartitionId(0);
/// Partitions started or stopped at the same time.
const PARALLEL_MAX: usize = 64;

/// What one partition of this node needs to run.
#[derive(Debug, Clone)]
struct Wanted {
    partition: TopicPartition,
    class: RetentionClass,
    durability: Durability,
}

/// The partitions of this node.
#[derive(Debug)]
pub(crate) struct Replicas {
    broker: i32,
    engine: Engine,
    controller: Arc<Controller>,
    running: RwLock<HashMap<PartitionId, Arc<Partition>>>,
    /// What belongs here and cannot run, because what is stored of it is damaged.
    fenced: RwLock<HashSet<PartitionId>>,
    disk: DiskReads,
    metrics: Arc<Metrics>,
    network: Network,
    version: watch::Sender<u64>,
}

/// Bytes read from the disk before they are asked for, over all partitions.
const READ_AHEAD_BYTES_MAX: usize = 16 << 20;

/// The replica id of a partition's first assignment to a broker.
pub(crate) fn replica_id(broker: i32) -> ReplicaId {
    // Broker ids are checked to be positive where they enter.
    ReplicaId::new(u32::try_from(broker).unwrap_or_default(), 0)
}

impl Replicas {
    /// Runs nothing yet.
    pub(crate) fn new(
        broker: i32,
        engine: Engine,
        controller: Arc<Controller>,
        metrics: Arc<Metrics>,
        network: Network,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let reads = Arc::new(Semaphore::new(4 * cores));
        let disk = DiskReads { reads, ahead: Arc::new(ReadAhead::new(READ_AHEAD_BYTES_MAX)) };
        Self {
            broker,
            engine,
            controller,
            running: RwLock::default(),
            fenced: RwLock::default(),
            disk,
            metrics,
            network,
            version: watch::Sender::new(0),
        }
    }

    /// The partition, if it runs here.
    pub(crate) fn get(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.running.read().get(&id).cloned()
    }

    /// Changes when partitions were started or stopped.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The partitions that run here.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        self.running.read().values().cloned().collect()
    }

    /// How many partitions run here.
    pub(crate) fn count(&self) -> usize {
        self.running.read().len()
    }

    /// Whether the partition belongs here and cannot run.
    pub(crate) fn is_fenced(&self, id: PartitionId) -> bool {
        self.fenced.read().contains(&id)
    }

    /// How many partitions are fenced.
    pub(crate) fn fenced_count(&self) -> usize {
        self.fenced.read().len()
    }

    /// Starts what the image wants here and is not running, stops and deletes what it does not want. A partition
    /// that cannot be started is fenced until the next start of the node; the others go on.
    ///
    /// # Errors
    /// The first partition that could not be deleted, with the reason. The node cannot go on.
    pub(crate) async fn reconcile(self: &Arc<Self>) -> Result<(), String> {
        if !self.unwanted(&self.wanted()).is_empty() {
            self.controller.linearize().await.map_err(|e| e.to_string())?;
        }
        let wanted = self.wanted();
        self.stop_unwanted(&wanted).await?;
        let mut missing: Vec<Wanted> = {
            let (running, fenced) = (self.running.read(), self.fenced.read());
            for (id, wanted) in &wanted {
                if let Some(partition) = running.get(id) {
                    partition.set_durability(wanted.durability);
                }
            }
            let runs = |id: PartitionId| running.contains_key(&id) || fenced.contains(&id);
            wanted.into_values().filter(|w| !runs(w.partition.group)).collect()
        };
        // Neighbours share blocks on disk, so that what one start reads serves the next.
        missing.sort_unstable_by_key(|wanted| wanted.partition.group);
        let mut tasks = JoinSet::new();
        for wanted in missing {
            if tasks.len() >= PARALLEL_MAX {
                joined(tasks.join_next().await)?;
            }
            let replicas = Arc::clone(self);
            tasks.spawn(async move { replicas.start_or_fence(wanted).await });
        }
        while !tasks.is_empty() {
            joined(tasks.join_next().await)?;
        }
        self.version.send_modify(|version| *version += 1);
        Ok(())
    }

    fn wanted(&self) -> HashMap<PartitionId, Wanted> {
        let image = self.controller.image();
        let mut wanted = HashMap::new();
        for topic in image.topics() {
            let class = retention::class(&topic.settings);
            let durability = topic.settings.durability;
            for partition in &topic.partitions {
                if partition.brokers.contains(&self.broker) {
                    let partition = partition.clone();
                    wanted.insert(partition.group, Wanted { partition, class, durability });
                }
            }
        }
        wanted
    }

    async fn start_or_fence(&self, wanted: Wanted) -> Result<(), String> {
        let id = wanted.partition.group;
        if let Err(error) = self.start(wanted).await {
            tracing::error!(
                %error, partition = %id,
                "the partition answers KAFKA_STORAGE_ERROR until the node is started again; the others go on"
            );
            self.fenced.write().insert(id);
        }
        Ok(())
    }

    async fn start(&self, wanted: Wanted) -> Result<(), String> {
        let id = wanted.partition.group;
        let failed = |why: String| format!("partition {id} could not be started: {why}");
        let log = self.engine.log(id, wanted.class).map_err(|e| failed(e.to_string()))?;
        let replica = replica_id(self.broker);
        let reads = (self.disk.clone(), Arc::clone(&self.metrics));
        let partition = Partition::start(replica, log, reads.0, reads.1, &self.network).await;
        let partition = partition.map_err(failed)?;
        partition.set_durability(wanted.durability);
        let voters: Vec<_> = wanted.partition.brokers.iter().map(|b| replica_id(*b)).collect();
        partition.initialize(&voters).await.map_err(|e| failed(e.to_string()))?;
        self.running.write().insert(id, Arc::new(partition));
        Ok(())
    }

    fn unwanted(&self, wanted: &HashMap<PartitionId, Wanted>) -> Vec<PartitionId> {
        let on_disk = self.engine.partitions().into_iter();
        on_disk.filter(|id| *id != METADATA && !wanted.contains_key(id)).collect()
    }

    async fn stop_unwanted(&self, wanted: &HashMap<PartitionId, Wanted>) -> Result<(), String> {
        for id in self.unwanted(wanted) {
            self.fenced.write().remove(&id);
            let stopped = self.running.write().remove(&id);
            if let Some(partition) = stopped {
                partition.shutdown().await;
            }
            let engine = self.engine.clone();
            let deleting = tokio::task::spawn_blocking(move || engine.delete(id));
            let deleted = deleting.await.map_err(|e| e.to_string())?;
            deleted.map_err(|e| format!("partition {id} could not be deleted: {e}"))?;
        }
        Ok(())
    }

    /// Waits until every partition that runs here has a leader. False after `timeout`.
    pub(crate) async fn wait_for_leaders(&self, timeout: Duration) -> bool {
        let partitions: Vec<_> = self.running.read().values().cloned().collect();
        let deadline = tokio::time::Instant::now() + timeout;
        for partition in partitions {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if !partition.wait_for_leader(left).await {
                return false;
            }
        }
        true
    }

    /// Stops every partition, storing their checkpoints.
    pub(crate) async fn shutdown(&self) {
        let partitions: Vec<_> = self.running.write().drain().map(|(_, p)| p).collect();
        let mut tasks = JoinSet::new();
        for partition in partitions {
            if tasks.len() >= PARALLEL_MAX {
                tasks.join_next().await;
            }
            tasks.spawn(async move { partition.shutdown().await });
        }
        tasks.join_all().await;
    }
}

fn joined(
    result: Option<Result<Result<(), String>, tokio::task::JoinError>>,
) -> Result<(), String> {
    match result {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(error.to_string()),
        None => Ok(()),
    }
}
