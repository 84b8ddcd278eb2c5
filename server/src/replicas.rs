//! The partitions this node runs, kept level with the metadata.
//!
//! Invariants:
//! - A partition runs here while the image says that this broker may be a member of its group, as that replica.
//! - A log is deleted only after the metadata group has confirmed, through a majority, that no topic
//!   places it here, or when the image places a later replica here: then the earlier one has left the group.
//! - A group gets its first members only while nobody has ever led it, and none of its replicas has moved.
//!
//! Not here: elections, and moving replicas (`health.rs`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{Engine, KeyIndex, PartitionId, PartitionLog, RetentionClass};
use parking_lot::RwLock;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use crate::configs::Durability;
use crate::consensus::{Network, ReplicaId};
use crate::controller::{Controller, TopicPartition};
use crate::metrics::Metrics;
use crate::partition::{DiskReads, Partition, ReadAhead, Shared};
use crate::retention;

/// The metadata group's log.
pub(crate) const METADATA: PartitionId = PartitionId(0);
/// Partitions started or stopped at the same time.
const PARALLEL_MAX: usize = 64;
/// Bytes read from the disk before they are asked for, over all partitions.
const READ_AHEAD_BYTES_MAX: usize = 16 << 20;

/// What one partition of this node needs to run.
#[derive(Debug, Clone)]
struct Wanted {
    partition: TopicPartition,
    replica: ReplicaId,
    class: RetentionClass,
    durability: Durability,
    keyed: bool,
}

/// What is to be done with what is on disk.
#[derive(Debug, Default, PartialEq, Eq)]
struct Leftovers {
    /// Placed here no longer, as far as the image here knows.
    unplaced: Vec<PartitionId>,
    /// Logs of replicas that have left their group; a later one is placed here.
    replaced: Vec<PartitionId>,
    /// Logs of replicas that the image here does not know yet.
    unknown: HashSet<PartitionId>,
}

/// The partitions of this node.
#[derive(Debug)]
pub(crate) struct Replicas {
    broker: i32,
    engine: Engine,
    controller: Arc<Controller>,
    running: RwLock<HashMap<PartitionId, Arc<Partition>>>,
    /// What belongs here and cannot run, because what is stored of it is damaged.
    fenced: RwLock<HashMap<PartitionId, ReplicaId>>,
    shared: Shared,
    version: watch::Sender<u64>,
}

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
            shared: Shared { disk, metrics, network, terms: Arc::default() },
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

    /// Notified when a leader, here or elsewhere, begins to answer for a partition that runs here. For one task.
    pub(crate) fn terms(&self) -> &Arc<Notify> {
        &self.shared.terms
    }

    /// The way to the other replicas of the partitions.
    pub(crate) fn network(&self) -> &Network {
        &self.shared.network
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
        self.fenced.read().contains_key(&id)
    }

    /// The partitions that are fenced, as which replicas.
    pub(crate) fn fenced(&self) -> Vec<(PartitionId, ReplicaId)> {
        self.fenced.read().iter().map(|(id, replica)| (*id, *replica)).collect()
    }

    /// The running partitions whose damage reads have met.
    pub(crate) fn damaged(&self) -> Vec<Arc<Partition>> {
        let damaged = self.engine.damaged();
        let running = self.running.read();
        damaged.iter().filter_map(|id| running.get(id).cloned()).collect()
    }

    /// How many partitions are fenced.
    pub(crate) fn fenced_count(&self) -> usize {
        self.fenced.read().len()
    }

    /// Starts what the image wants here and is not running, stops and deletes what it does not want. A partition
    /// that cannot be started is fenced until the next start of the node; the others go on. False when something is
    /// left to do that must wait until the metadata group answers.
    ///
    /// # Errors
    /// The first partition that could not be deleted, with the reason. The node cannot go on.
    pub(crate) async fn reconcile(self: &Arc<Self>) -> Result<bool, String> {
        let mut done = true;
        let mut wanted = self.wanted();
        let mut leftovers = self.leftovers(&wanted);
        if !leftovers.unplaced.is_empty() {
            match self.controller.linearize().await {
                Ok(()) => {
                    wanted = self.wanted();
                    leftovers = self.leftovers(&wanted);
                }
                Err(error) => {
                    tracing::debug!(%error, "partitions that are placed here no longer wait to be deleted");
                    leftovers.unplaced.clear();
                    done = false;
                }
            }
        }
        for id in leftovers.unplaced.iter().chain(&leftovers.replaced) {
            self.delete(*id).await?;
        }
        for id in &leftovers.unknown {
            tracing::debug!(partition = %id, "the metadata here is older than the replica; it starts later");
        }
        self.start_missing(wanted, &leftovers.unknown).await?;
        self.version.send_modify(|version| *version += 1);
        Ok(done)
    }

    async fn start_missing(
        self: &Arc<Self>,
        wanted: HashMap<PartitionId, Wanted>,
        unknown: &HashSet<PartitionId>,
    ) -> Result<(), String> {
        self.follow_settings(&wanted).await;
        let mut missing: Vec<Wanted> = {
            let (running, fenced) = (self.running.read(), self.fenced.read());
            let runs = |id: PartitionId| {
                running.contains_key(&id) || fenced.contains_key(&id) || unknown.contains(&id)
            };
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
        Ok(())
    }

    /// Tells the partitions that run what their topics' settings are now.
    async fn follow_settings(&self, wanted: &HashMap<PartitionId, Wanted>) {
        let running: Vec<_> = {
            let running = self.running.read();
            let both = wanted.iter().filter_map(|(id, wanted)| Some((running.get(id)?, wanted)));
            both.map(|(partition, wanted)| (Arc::clone(partition), wanted)).collect()
        };
        for (partition, wanted) in running {
            partition.set_durability(wanted.durability);
            if let Err(error) = partition.set_keyed(wanted.keyed).await {
                tracing::debug!(%error, partition = %partition.id(), "the key index is as it was");
            }
        }
    }

    fn wanted(&self) -> HashMap<PartitionId, Wanted> {
        let image = self.controller.image();
        let mut wanted = HashMap::new();
        for topic in image.topics() {
            let class = retention::class(&topic.settings);
            let durability = topic.settings.durability;
            let keyed = topic.settings.keyed();
            for partition in &topic.partitions {
                if let Some(replica) = partition.replica_of(self.broker) {
                    let partition = partition.clone();
                    let group = partition.group;
                    let one = Wanted { partition, replica, class, durability, keyed };
                    wanted.insert(group, one);
                }
            }
        }
        wanted
    }

    fn leftovers(&self, wanted: &HashMap<PartitionId, Wanted>) -> Leftovers {
        let stored = self.engine.partitions().into_iter().filter(|id| *id != METADATA);
        let stored = stored.filter_map(|id| Some((id, self.engine.replica(id)?)));
        leftovers(stored, |id| wanted.get(&id).map(|wanted| wanted.replica.epoch()))
    }

    async fn start_or_fence(&self, wanted: Wanted) -> Result<(), String> {
        let (id, replica) = (wanted.partition.group, wanted.replica);
        if let Err(error) = self.start(wanted).await {
            tracing::error!(
                %error, partition = %id,
                "the partition answers KAFKA_STORAGE_ERROR until the node is started again, or it is rebuilt from another replica; the others go on"
            );
            self.fenced.write().insert(id, replica);
        }
        Ok(())
    }

    async fn start(&self, wanted: Wanted) -> Result<(), String> {
        let id = wanted.partition.group;
        let failed = |why: String| format!("partition {id} could not be started: {why}");
        let log = self.engine.log_of(id, wanted.class, wanted.replica.epoch());
        let log = log.map_err(|e| failed(e.to_string()))?;
        // Before anything can be appended: each record is entered with its batch.
        let log = keyed(log, wanted.keyed).await.map_err(|e| failed(e.to_string()))?;
        let partition = Partition::start(wanted.replica, log, &self.shared).await;
        let partition = partition.map_err(failed)?;
        partition.set_durability(wanted.durability);
        let first = self.first_live(&wanted.partition) == Some(self.broker);
        if first && let Some(members) = self.first_members(&wanted.partition) {
            partition.initialize(&members).await.map_err(|e| failed(e.to_string()))?;
        }
        self.running.write().insert(id, Arc::new(partition));
        Ok(())
    }

    /// The members that a partition's group begins with, unless it may have some already.
    pub(crate) fn first_members(&self, placed: &TopicPartition) -> Option<Vec<ReplicaId>> {
        let led = self.controller.image().leader(placed.group).is_some();
        (placed.is_new() && !led).then(|| placed.replicas())
    }

    /// The first of a partition's replicas that is not known to be dead.
    fn first_live(&self, placed: &TopicPartition) -> Option<i32> {
        let image = self.controller.image();
        placed.brokers.iter().copied().find(|id| *id == self.broker || image.lives(*id))
    }

    async fn delete(&self, id: PartitionId) -> Result<(), String> {
        self.fenced.write().remove(&id);
        let stopped = self.running.write().remove(&id);
        if let Some(partition) = stopped {
            partition.shutdown().await;
        }
        let engine = self.engine.clone();
        let deleting = tokio::task::spawn_blocking(move || engine.delete(id));
        let deleted = deleting.await.map_err(|e| e.to_string())?;
        deleted.map_err(|e| format!("partition {id} could not be deleted: {e}"))
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

/// The log with a key index, or without one.
async fn keyed(log: PartitionLog, keyed: bool) -> jangbu_engine::Result<PartitionLog> {
    if (log.key_index() != KeyIndex::Off) == keyed {
        return Ok(log);
    }
    let setting = tokio::task::spawn_blocking(move || log.set_keyed(keyed).map(|()| log));
    setting.await.unwrap_or(Err(jangbu_engine::Error::Closed))
}

/// What to do with the logs on disk, each with the epoch of its replica; `placed` is the epoch that the image places
/// here.
fn leftovers(
    stored: impl Iterator<Item = (PartitionId, u32)>,
    placed: impl Fn(PartitionId) -> Option<u32>,
) -> Leftovers {
    let mut leftovers = Leftovers::default();
    for (id, epoch) in stored {
        match placed(id) {
            None => leftovers.unplaced.push(id),
            Some(placed) if placed > epoch => leftovers.replaced.push(id),
            Some(placed) if placed < epoch => {
                leftovers.unknown.insert(id);
            }
            Some(_) => {}
        }
    }
    leftovers
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_goes_when_its_replica_is_placed_here_no_longer_or_a_later_one_is() {
        let stored = [(1, 0), (2, 0), (3, 4), (4, 4)].map(|(id, epoch)| (PartitionId(id), epoch));
        let placed = HashMap::from([(2, 0), (3, 5), (4, 2), (5, 0)]);
        let found = leftovers(stored.into_iter(), |id| placed.get(&id.0).copied());
        let expected = Leftovers {
            unplaced: vec![PartitionId(1)],
            replaced: vec![PartitionId(3)],
            unknown: HashSet::from([PartitionId(4)]),
        };
        assert_eq!(found, expected);
    }
}
