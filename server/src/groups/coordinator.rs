//! The groups of this node: a shard for each replica of `__consumer_offsets` that runs here.
//!
//! Not here: what a shard does (`shard.rs`), which partition a group belongs to (`topic.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::PartitionId;
use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use uuid::Uuid;

use super::catalogs::Catalogs;
use super::consumer::Catalog;
use super::shard::Shard;
use super::topic::{OFFSETS_TOPIC, partition_of};
use super::{Limits, queue, tail};
use crate::broker::Broker;
use crate::configs::BrokerConfigs;

/// How often is looked whether leadership has moved without anybody saying so, and what the configs are.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The groups of this node.
#[derive(Debug)]
pub(crate) struct Coordinator {
    shards: RwLock<BTreeMap<i32, Arc<Shard>>>,
    limits: Mutex<Limits>,
    catalogs: Catalogs,
}

impl Default for Coordinator {
    fn default() -> Self {
        let limits = Mutex::new(Limits::of(&BrokerConfigs::default()));
        Self { shards: RwLock::default(), limits, catalogs: Catalogs::default() }
    }
}

impl Coordinator {
    /// What groups are held to at the moment.
    pub(crate) fn limits(&self) -> Limits {
        *self.limits.lock()
    }

    /// What the metadata said at the last heartbeat of a consumer group, or later.
    pub(super) fn catalog(&self, broker: &Broker) -> Arc<Catalog> {
        self.catalogs.last(&broker.controller.image())
    }

    /// Has consumer groups see the metadata of now.
    pub(crate) fn refresh(&self, broker: &Broker) {
        let _newest = self.catalogs.of(&broker.controller.image());
    }

    /// The shard of a group, if its partition runs here.
    ///
    /// # Errors
    /// `COORDINATOR_NOT_AVAILABLE` before there is a topic for groups, else `NOT_COORDINATOR`.
    pub(crate) fn shard(&self, broker: &Broker, group: &str) -> Result<Arc<Shard>, ResponseError> {
        let count = broker.controller.image().topic(OFFSETS_TOPIC).map(|t| t.partitions.len());
        let count = count.ok_or(ResponseError::CoordinatorNotAvailable)?;
        let number = i32::try_from(partition_of(group, count)).unwrap_or(i32::MAX);
        self.shards.read().get(&number).cloned().ok_or(ResponseError::NotCoordinator)
    }

    /// All shards that run here.
    pub(crate) fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards.read().values().cloned().collect()
    }
}

/// What is remembered between looks at the metadata.
#[derive(Default)]
struct Seen {
    /// The topics' and partitions' version.
    layout: Option<u64>,
    topics: BTreeSet<Uuid>,
}

/// Keeps shards and partitions level, and forgets what is not needed any more, until the node drains.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut started = broker.replicas.changes();
    let mut seen = Seen::default();
    let mut cleaned = Instant::now();
    loop {
        level(&broker);
        *broker.groups.limits.lock() = Limits::of(broker.controller.image().own_configs());
        for shard in broker.groups.shards() {
            shard.look_at_leadership();
        }
        if lost_topics(&broker, &mut seen) || cleaned.elapsed() >= check_interval(&broker) {
            cleaned = Instant::now();
            clean(&broker).await;
        }
        tokio::select! {
            () = broker.draining.cancelled() => return,
            changed = started.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Starts shards of partitions that have come, and ends those of partitions that have gone.
fn level(broker: &Arc<Broker>) {
    let topic = broker.topic(OFFSETS_TOPIC);
    let wanted: HashMap<i32, PartitionId> = topic
        .iter()
        .flat_map(|topic| (0..).zip(topic.partitions.iter().map(|placed| placed.group)))
        .collect();
    let mut shards = broker.groups.shards.write();
    shards.retain(|number, shard| {
        let runs = wanted.get(number).and_then(|group| broker.replicas.get(*group));
        let stays = runs.is_some_and(|running| Arc::ptr_eq(&running, &shard.partition));
        if !stays {
            shard.end();
        }
        stays
    });
    for (number, group) in wanted {
        if shards.contains_key(&number) {
            continue;
        }
        let Some(partition) = broker.replicas.get(group) else { continue };
        let shard = Arc::new(Shard::new(partition, Arc::clone(broker)));
        tokio::spawn(tail::run(Arc::clone(&shard)));
        tokio::spawn(queue::write(Arc::clone(&shard)));
        shards.insert(number, shard);
    }
}

/// Whether topics have been deleted since the last look.
fn lost_topics(broker: &Broker, seen: &mut Seen) -> bool {
    let image = broker.controller.image();
    if seen.layout == Some(image.layout) {
        return false;
    }
    let topics: BTreeSet<Uuid> = image.topics().map(|topic| topic.id).collect();
    seen.layout = Some(image.layout);
    let lost = !seen.topics.is_subset(&topics);
    seen.topics = topics;
    lost
}

/// `offsets.retention.check.interval.ms`.
fn check_interval(broker: &Broker) -> Duration {
    let image = broker.controller.image();
    let ms =
        image.own_configs().number::<i64>("offsets.retention.check.interval.ms").unwrap_or(600_000);
    Duration::from_millis(u64::try_from(ms).unwrap_or(600_000).max(1))
}

/// Has every group coordinated here forget offsets that have expired, and those of topics that are no more.
async fn clean(broker: &Broker) {
    // Metadata that lags would take new topics for deleted ones.
    if broker.controller.linearize().await.is_err() {
        return;
    }
    // A copy, so that nothing waits for a shard while it keeps others from the metadata.
    let topics: HashMap<String, Uuid> =
        broker.controller.image().topics().map(|topic| (topic.name.clone(), topic.id)).collect();
    for shard in broker.groups.shards() {
        let is_gone = |topic: &str, committed: &super::Committed| match topics.get(topic) {
            Some(id) => !committed.topic_id.is_nil() && *id != committed.topic_id,
            None => true,
        };
        let cleaned = shard.act(|ask| {
            ask.machine.expire_offsets(ask.table, is_gone, ask.now, ask.limits, ask.fx);
        });
        if let Err(code) = cleaned {
            tracing::trace!(?code, "offsets are looked after elsewhere");
        }
    }
}
