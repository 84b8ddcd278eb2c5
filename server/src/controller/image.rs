//! The metadata as data: what group 0's commands have built so far.
//!
//! Written only by applying commands (`machine.rs`); read by everybody, under a short read lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jangbu_engine::PartitionId;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;
use uuid::Uuid;

use crate::configs::{BrokerValues, TopicSettings};
use crate::proto::metadata as proto;

/// A broker and where clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: String,
}

impl Broker {
    pub(crate) fn to_proto(&self) -> proto::Broker {
        proto::Broker {
            id: self.id,
            host: self.host.clone(),
            port: u32::from(self.port),
            rack: self.rack.clone(),
        }
    }

    pub(crate) fn from_proto(broker: proto::Broker) -> Option<Self> {
        let port = u16::try_from(broker.port).ok()?;
        Some(Self { id: broker.id, host: broker.host, port, rack: broker.rack })
    }
}

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicPartition {
    /// Its log and Raft group.
    pub(crate) group: PartitionId,
    /// Brokers that hold a replica; the first is preferred as leader.
    pub(crate) brokers: Vec<i32>,
}

/// A topic.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<TopicPartition>,
    /// Configs set on the topic, as given.
    pub(crate) configs: BTreeMap<String, String>,
    /// What the configs and their defaults come to.
    pub(crate) settings: TopicSettings,
}

impl Topic {
    pub(crate) fn new(
        name: String,
        id: Uuid,
        partitions: Vec<TopicPartition>,
        configs: BTreeMap<String, String>,
    ) -> Self {
        // Values were checked when they were set; should a newer version know fewer, defaults hold.
        let settings = TopicSettings::new(&configs, &BrokerValues::default())
            .unwrap_or_else(|_| TopicSettings::defaults());
        Self { name, id, partitions, configs, settings }
    }
}

/// Everything group 0 knows.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) cluster_id: String,
    pub(crate) next_group: u32,
    pub(crate) next_producer_id: i64,
    pub(crate) brokers: BTreeMap<i32, Broker>,
    pub(super) topics: BTreeMap<String, Arc<Topic>>,
    pub(super) names: HashMap<Uuid, String>,
}

impl Data {
    /// All topics, by name.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    pub(super) fn insert(&mut self, topic: Topic) {
        self.names.insert(topic.id, topic.name.clone());
        self.topics.insert(topic.name.clone(), Arc::new(topic));
    }

    pub(super) fn remove(&mut self, id: Uuid) -> bool {
        self.names.remove(&id).is_some_and(|name| self.topics.remove(&name).is_some())
    }
}

/// A consistent view of the image; keep it only for a moment.
pub(crate) type Image<'a> = RwLockReadGuard<'a, Data>;

/// The image with a version that tells that it has changed.
#[derive(Debug)]
pub(crate) struct SharedImage {
    data: RwLock<Data>,
    version: watch::Sender<u64>,
}

impl Default for SharedImage {
    fn default() -> Self {
        Self { data: RwLock::default(), version: watch::Sender::new(0) }
    }
}

impl SharedImage {
    pub(crate) fn read(&self) -> Image<'_> {
        self.data.read()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Changes the image and tells the watchers.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Data) -> T) -> T {
        let result = change(&mut self.data.write());
        self.version.send_modify(|version| *version += 1);
        result
    }
}
