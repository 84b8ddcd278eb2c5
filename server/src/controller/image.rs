//! The metadata as data: what group 0's commands have built so far.
//!
//! Written only by applying commands (`machine.rs`); read by everybody, under a short read lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jangbu_engine::PartitionId;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;
use uuid::Uuid;

use crate::configs::{BrokerConfigs, BrokerValues, TopicSettings};
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
    /// What the configs and their defaults come to on this node. Worked out when one of them changes,
    /// never when it is read.
    pub(crate) settings: TopicSettings,
}

impl Topic {
    fn resolve(&mut self, broker: &BrokerConfigs) {
        // Values were checked when they were set; should a newer version know fewer, defaults hold.
        self.settings =
            TopicSettings::new(&self.configs, broker).unwrap_or_else(|_| TopicSettings::defaults());
    }
}

/// The node that holds the image: its broker id and what it was started with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holder {
    pub(crate) broker: i32,
    pub(crate) started: BrokerValues,
}

/// Everything group 0 knows.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) cluster_id: String,
    pub(crate) next_group: u32,
    pub(crate) next_producer_id: i64,
    pub(crate) brokers: BTreeMap<i32, Broker>,
    /// Configs set on brokers at run time; `None` is every broker.
    pub(super) broker_configs: BTreeMap<Option<i32>, BTreeMap<String, String>>,
    holder: i32,
    /// The configs of the node that holds the image.
    own_configs: BrokerConfigs,
    pub(super) topics: BTreeMap<String, Arc<Topic>>,
    pub(super) names: HashMap<Uuid, String>,
}

impl Data {
    pub(super) fn new(holder: &Holder) -> Self {
        let own_configs =
            BrokerConfigs { started: holder.started.clone(), ..BrokerConfigs::default() };
        Self { holder: holder.broker, own_configs, ..Self::default() }
    }

    /// The configs of this node, by the place where they were set.
    pub(crate) fn own_configs(&self) -> &BrokerConfigs {
        &self.own_configs
    }

    /// What is set at run time on a broker, or for `None` on every broker.
    pub(crate) fn set_on(&self, broker: Option<i32>) -> BTreeMap<String, String> {
        self.broker_configs.get(&broker).cloned().unwrap_or_default()
    }

    /// Replaces what is set on a broker or on every broker. Every topic's settings are worked out again.
    pub(super) fn set_broker_configs(
        &mut self,
        broker: Option<i32>,
        configs: BTreeMap<String, String>,
    ) {
        if configs.is_empty() {
            self.broker_configs.remove(&broker);
        } else {
            self.broker_configs.insert(broker, configs);
        }
        self.own_configs.own = self.set_on(Some(self.holder));
        self.own_configs.every = self.set_on(None);
        for topic in self.topics.values_mut() {
            Arc::make_mut(topic).resolve(&self.own_configs);
        }
    }

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

    /// Adds or replaces a topic; its settings are worked out here.
    pub(super) fn insert(&mut self, mut topic: Topic) {
        topic.resolve(&self.own_configs);
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

impl SharedImage {
    pub(crate) fn new(holder: &Holder) -> Self {
        Self { data: RwLock::new(Data::new(holder)), version: watch::Sender::new(0) }
    }

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
