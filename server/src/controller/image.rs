//! The metadata as data: what group 0's commands have built so far.
//!
//! Who leads and who is behind is kept apart from the topics: reports of ten thousand leaders copy no topic.
//!
//! Written only by applying commands (`machine.rs`); read by everybody, under a short read lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jangbu_engine::{PartitionId, Term};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use super::partition::TopicPartition;
use crate::configs::{BrokerConfigs, BrokerValues, FOLLOWER_RATE, TopicSettings, says_draining};
use crate::consensus::ReplicaId;
use crate::proto::metadata as proto;
use crate::quotas::Table;

/// A broker, and where clients and other nodes reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: String,
    /// `host:port` for other nodes; empty for a node that listens for none.
    pub(crate) peer: String,
    /// Stands for its data directory; zeros when unknown.
    pub(crate) directory: [u8; 16],
    /// It does not answer the leader of group 0.
    pub(crate) dead: bool,
    /// It gets no new replicas and hands over what it leads, as its config `jangbu.draining` says.
    pub(crate) draining: bool,
}

impl Broker {
    pub(crate) fn to_proto(&self) -> proto::Broker {
        let known = self.directory != [0; 16];
        proto::Broker {
            id: self.id,
            host: self.host.clone(),
            port: u32::from(self.port),
            rack: self.rack.clone(),
            peer: self.peer.clone(),
            directory: if known { self.directory.to_vec() } else { Vec::new() },
            dead: self.dead,
            draining: self.draining,
        }
    }

    pub(crate) fn from_proto(broker: proto::Broker) -> Option<Self> {
        let directory = match broker.directory.as_slice() {
            [] => [0; 16],
            bytes => bytes.try_into().ok()?,
        };
        Some(Self {
            id: broker.id,
            host: broker.host,
            port: u16::try_from(broker.port).ok()?,
            rack: broker.rack,
            peer: broker.peer,
            directory,
            dead: broker.dead,
            draining: broker.draining,
        })
    }
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
    /// Configs set for groups of consumers.
    pub(super) group_configs: BTreeMap<String, BTreeMap<String, String>>,
    /// The largest id any broker has had.
    pub(super) last_broker: i32,
    /// Brokers that have left for good.
    pub(crate) removed: BTreeSet<i32>,
    /// The quotas of clients.
    pub(crate) quotas: Arc<Table>,
    /// Changes with topics, placements and configs; not with leaders and liveness.
    pub(crate) layout: u64,
    holder: i32,
    /// The configs of the node that holds the image.
    own_configs: BrokerConfigs,
    pub(super) topics: BTreeMap<String, Arc<Topic>>,
    names: HashMap<Uuid, String>,
    /// The place of each partition: its topic, and its number there.
    groups: HashMap<PartitionId, (Uuid, usize)>,
    /// Who leads in which term, as reported last.
    leaders: HashMap<PartitionId, (i32, Term)>,
    /// Replicas that lack entries, as the leaders have reported, in order; nothing for a partition that has none.
    behind: HashMap<PartitionId, Vec<ReplicaId>>,
    /// Replicas of which something that is stored is damaged, and whether that has stopped them.
    damaged: HashMap<PartitionId, BTreeMap<ReplicaId, bool>>,
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
        if let Some(known) = broker.and_then(|id| self.brokers.get_mut(&id)) {
            known.draining = says_draining(&configs);
        }
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

    /// What is set for a group.
    pub(crate) fn set_for_group(&self, group: &str) -> BTreeMap<String, String> {
        self.group_configs.get(group).cloned().unwrap_or_default()
    }

    /// What is set for groups, by name.
    pub(crate) fn group_configs(&self) -> &BTreeMap<String, BTreeMap<String, String>> {
        &self.group_configs
    }

    /// Replaces what is set for a group.
    pub(super) fn set_group_configs(&mut self, group: String, configs: BTreeMap<String, String>) {
        if configs.is_empty() {
            self.group_configs.remove(&group);
        } else {
            self.group_configs.insert(group, configs);
        }
    }

    /// The bytes a second that replicas which are being added to a broker may get, if that is set.
    pub(crate) fn follower_rate(&self, broker: i32) -> Option<u64> {
        let set =
            |broker| self.broker_configs.get(&broker)?.get(FOLLOWER_RATE)?.trim().parse().ok();
        set(Some(broker)).or_else(|| set(None))
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

    /// The topic of a partition, and the partition's number there.
    pub(crate) fn partition(&self, group: PartitionId) -> Option<(&Arc<Topic>, usize)> {
        let (id, number) = *self.groups.get(&group)?;
        let topic = self.topic_by_id(id)?;
        (number < topic.partitions.len()).then_some((topic, number))
    }

    /// The placement of a partition.
    pub(crate) fn placement(&self, group: PartitionId) -> Option<&TopicPartition> {
        self.partition(group).and_then(|(topic, number)| topic.partitions.get(number))
    }

    /// The placement of a partition, to be changed.
    pub(super) fn placement_mut(&mut self, group: PartitionId) -> Option<&mut TopicPartition> {
        let (id, number) = *self.groups.get(&group)?;
        let topic = self.topics.get_mut(self.names.get(&id)?)?;
        Arc::make_mut(topic).partitions.get_mut(number)
    }

    /// Whether a broker is known and not dead.
    pub(crate) fn lives(&self, broker: i32) -> bool {
        self.brokers.get(&broker).is_some_and(|broker| !broker.dead)
    }

    /// Who leads a partition in which term, as reported; `None` before the first report.
    pub(crate) fn leader(&self, group: PartitionId) -> Option<(i32, Term)> {
        self.leaders.get(&group).copied()
    }

    /// Takes note of a leader, if the partition is known and nobody led it in this term or a later one.
    pub(super) fn set_leader(&mut self, group: PartitionId, broker: i32, term: Term) {
        let newer = self.leader(group).is_none_or(|(_, known)| known < term);
        if newer && self.groups.contains_key(&group) {
            self.leaders.insert(group, (broker, term));
        }
    }

    /// The replicas of a partition that lack entries, as its leader has reported, in order.
    pub(crate) fn behind(&self, group: PartitionId) -> &[ReplicaId] {
        self.behind.get(&group).map_or(&[], Vec::as_slice)
    }

    /// The partitions that have replicas behind.
    pub(crate) fn with_replicas_behind(&self) -> impl Iterator<Item = PartitionId> {
        self.behind.keys().copied()
    }

    /// Takes note of what the leader of a term says about who is behind, unless a later one leads. Only who may be a member
    /// of the group counts.
    pub(super) fn set_behind(&mut self, group: PartitionId, term: Term, told: &[ReplicaId]) {
        let Some(placed) = self.placement(group) else { return };
        if self.leader(group).is_some_and(|(_, known)| known > term) {
            return;
        }
        let mut behind: Vec<ReplicaId> = placed.members().map(|(_, replica)| replica).collect();
        behind.retain(|replica| told.contains(replica));
        behind.sort_unstable();
        behind.dedup();
        if behind.is_empty() {
            self.behind.remove(&group);
        } else {
            self.behind.insert(group, behind);
        }
    }

    /// Whether something that is stored of a replica is damaged.
    pub(crate) fn is_damaged(&self, group: PartitionId, replica: ReplicaId) -> bool {
        self.damaged.get(&group).is_some_and(|damaged| damaged.contains_key(&replica))
    }

    /// Whether damage has stopped a replica.
    pub(crate) fn is_stopped(&self, group: PartitionId, replica: ReplicaId) -> bool {
        self.damaged.get(&group).is_some_and(|damaged| damaged.get(&replica) == Some(&true))
    }

    /// The damaged replicas of a partition, and whether each has stopped.
    pub(crate) fn damaged(&self, group: PartitionId) -> impl Iterator<Item = (ReplicaId, bool)> {
        self.damaged
            .get(&group)
            .into_iter()
            .flatten()
            .map(|(replica, stopped)| (*replica, *stopped))
    }

    /// The partitions that have damaged replicas, in order.
    pub(crate) fn with_damaged_replicas(&self) -> impl Iterator<Item = &TopicPartition> {
        let groups: BTreeSet<_> = self.damaged.keys().copied().collect();
        groups.into_iter().filter_map(move |group| self.placement(group))
    }

    /// Takes note of damage. A replica stays damaged until it is one of the partition's no more.
    pub(super) fn set_damaged(&mut self, group: PartitionId, replica: ReplicaId, stopped: bool) {
        let is_member = |placed: &TopicPartition| placed.members().any(|(_, of)| of == replica);
        if self.placement(group).is_some_and(is_member) {
            let damaged = self.damaged.entry(group).or_default();
            *damaged.entry(replica).or_default() |= stopped;
        }
    }

    /// Forgets what was told of replicas that a partition has no more.
    pub(super) fn forget_departed(&mut self, group: PartitionId) {
        let Some(placed) = self.placement(group) else { return };
        let members: Vec<ReplicaId> = placed.members().map(|(_, replica)| replica).collect();
        if let Some(damaged) = self.damaged.get_mut(&group) {
            damaged.retain(|replica, _| members.contains(replica));
            if damaged.is_empty() {
                self.damaged.remove(&group);
            }
        }
        if let Some(behind) = self.behind.get_mut(&group) {
            behind.retain(|replica| members.contains(replica));
            if behind.is_empty() {
                self.behind.remove(&group);
            }
        }
    }

    /// All partitions.
    pub(crate) fn placements(&self) -> impl Iterator<Item = &TopicPartition> {
        self.topics().flat_map(|topic| topic.partitions.iter())
    }

    /// Adds or replaces a topic; its settings are worked out here.
    pub(super) fn insert(&mut self, mut topic: Topic) {
        topic.resolve(&self.own_configs);
        self.names.insert(topic.id, topic.name.clone());
        for (number, partition) in topic.partitions.iter().enumerate() {
            self.groups.insert(partition.group, (topic.id, number));
        }
        self.topics.insert(topic.name.clone(), Arc::new(topic));
    }

    pub(super) fn remove(&mut self, id: Uuid) -> bool {
        let Some(topic) = self.names.remove(&id).and_then(|name| self.topics.remove(&name)) else {
            return false;
        };
        for partition in &topic.partitions {
            self.groups.remove(&partition.group);
            self.leaders.remove(&partition.group);
            self.behind.remove(&partition.group);
            self.damaged.remove(&partition.group);
        }
        true
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
