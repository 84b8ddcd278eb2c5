//! The cluster's metadata: topics, configs, ids, brokers, kept in Raft group 0.
//!
//! Every broker holds the whole image and answers from it; changes are commands of the group.
//!
//! Not here: running the partitions that the image names (`replicas.rs`), Kafka's rules for names and
//! configs (the handlers and `configs.rs`).

mod image;
mod machine;
mod names;
mod placement;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::{EntryKind, PartitionLog};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;
use uuid::Uuid;

pub use names::topic_names;

pub(crate) use image::{Broker, Holder, Image, SharedImage, Topic, TopicPartition};
pub(crate) use placement::place;

use crate::consensus::{self, Clock, Group, Network, ReplicaId};
use crate::proto::metadata::{self as proto, command::Command, outcome};
use machine::MetadataMachine;

/// Producer ids taken from the group at a time, as Kafka's controller does (KIP-730).
const PRODUCER_ID_BLOCK: u32 = 1000;

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A topic of this name exists.
    #[error("a topic of this name already exists")]
    TopicExists,
    /// No such topic (any more).
    #[error("there is no such topic")]
    UnknownTopic,
    /// What the command changes was changed while it was on its way; look again and retry.
    #[error("somebody else changed the same thing at the same time")]
    Stale,
    /// Ids have run out.
    #[error("no ids are left")]
    Exhausted,
    /// The metadata group has no leader here at the moment.
    #[error(transparent)]
    Consensus(#[from] consensus::Error),
}

/// A topic to create.
#[derive(Debug, Clone)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    /// Brokers of each partition.
    pub(crate) partitions: Vec<Vec<i32>>,
    pub(crate) configs: BTreeMap<String, String>,
}

/// The metadata group of this node.
#[derive(Debug)]
pub(crate) struct Controller {
    group: Group<MetadataMachine>,
    image: Arc<SharedImage>,
    producer_ids: Mutex<std::ops::Range<i64>>,
}

impl Controller {
    /// Starts group 0 on its log.
    ///
    /// # Errors
    /// When the stored state does not decode.
    pub(crate) async fn start(
        replica: ReplicaId,
        log: PartitionLog,
        holder: Holder,
        network: &Network,
    ) -> Result<Self, String> {
        let image = Arc::new(SharedImage::new(&holder));
        let machine = MetadataMachine::new(Arc::clone(&image), holder);
        let group = Group::start(replica, log, machine, network, Clock::Own).await?;
        Ok(Self { group, image, producer_ids: Mutex::new(0..0) })
    }

    /// Forms a new cluster with these voters if there is none yet.
    ///
    /// # Errors
    /// [`consensus::Error`].
    pub(crate) async fn bootstrap(&self, voters: &[ReplicaId]) -> Result<(), consensus::Error> {
        self.group.initialize(voters).await
    }

    /// Waits until the group has a leader. False after `timeout`.
    pub(crate) async fn wait_for_leader(&self, timeout: Duration) -> bool {
        self.group.wait_for_leader(timeout).await
    }

    /// The metadata as applied here.
    pub(crate) fn image(&self) -> Image<'_> {
        self.image.read()
    }

    /// Changes with every change of the image.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.image.changes()
    }

    /// Gives a new cluster its id; an existing cluster keeps its own.
    ///
    /// # Errors
    /// [`Error::Consensus`].
    pub(crate) async fn init_cluster(&self, cluster_id: String) -> Result<(), Error> {
        self.submit(Command::InitCluster(proto::InitCluster { cluster_id })).await.map(|_| ())
    }

    /// Records where a broker can be reached.
    ///
    /// # Errors
    /// [`Error::Consensus`].
    pub(crate) async fn register_broker(&self, broker: &Broker) -> Result<(), Error> {
        let broker = Some(broker.to_proto());
        self.submit(Command::RegisterBroker(proto::RegisterBroker { broker })).await.map(|_| ())
    }

    /// Creates a topic and returns its id.
    ///
    /// # Errors
    /// [`Error::TopicExists`], [`Error::Exhausted`], [`Error::Consensus`].
    pub(crate) async fn create_topic(&self, topic: NewTopic) -> Result<Uuid, Error> {
        let id = Uuid::new_v4();
        let command = proto::CreateTopic {
            name: topic.name,
            id: id.as_bytes().to_vec(),
            partitions: to_replicas(topic.partitions),
            configs: topic.configs,
        };
        self.submit(Command::CreateTopic(command)).await.map(|_| id)
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::Consensus`].
    pub(crate) async fn delete_topic(&self, id: Uuid) -> Result<(), Error> {
        let id = id.as_bytes().to_vec();
        self.submit(Command::DeleteTopic(proto::DeleteTopic { id })).await.map(|_| ())
    }

    /// Adds partitions to a topic that has `existing` of them.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::Stale`], [`Error::Exhausted`], [`Error::Consensus`].
    pub(crate) async fn create_partitions(
        &self,
        id: Uuid,
        existing: u32,
        partitions: Vec<Vec<i32>>,
    ) -> Result<(), Error> {
        let id = id.as_bytes().to_vec();
        let partitions = to_replicas(partitions);
        let command = proto::CreatePartitions { id, existing, partitions };
        self.submit(Command::CreatePartitions(command)).await.map(|_| ())
    }

    /// Replaces what is set on a topic, `seen` being set so far.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::Stale`], [`Error::Consensus`].
    pub(crate) async fn set_topic_configs(
        &self,
        id: Uuid,
        seen: BTreeMap<String, String>,
        configs: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let id = id.as_bytes().to_vec();
        let command = proto::SetTopicConfigs { id, seen, configs };
        self.submit(Command::SetTopicConfigs(command)).await.map(|_| ())
    }

    /// Replaces what is set on a broker, or for `None` on every broker, `seen` being set so far.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::Consensus`].
    pub(crate) async fn set_broker_configs(
        &self,
        broker: Option<i32>,
        seen: BTreeMap<String, String>,
        configs: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let command = proto::SetBrokerConfigs { broker, seen, configs };
        self.submit(Command::SetBrokerConfigs(command)).await.map(|_| ())
    }

    /// A producer id that was never given out before.
    ///
    /// # Errors
    /// [`Error::Exhausted`], [`Error::Consensus`].
    pub(crate) async fn next_producer_id(&self) -> Result<i64, Error> {
        loop {
            if let Some(id) = self.producer_ids.lock().next() {
                return Ok(id);
            }
            let count = PRODUCER_ID_BLOCK;
            let command = Command::AllocateProducerIds(proto::AllocateProducerIds { count });
            let first = self.submit(command).await?.first_producer_id;
            let mut block = self.producer_ids.lock();
            // A concurrent caller may have fetched a block too: ids may be skipped, never reused.
            if block.is_empty() {
                *block = first..first + i64::from(count);
            }
        }
    }

    async fn submit(&self, command: Command) -> Result<proto::Outcome, Error> {
        let payload: Bytes = proto::Command { command: Some(command) }.encode_to_vec().into();
        let applied = self.group.propose(EntryKind::Command, payload).await?.await?;
        let outcome = proto::Outcome::decode(applied.reply).unwrap_or_default();
        match outcome.error() {
            outcome::Error::None => Ok(outcome),
            outcome::Error::TopicExists => Err(Error::TopicExists),
            outcome::Error::UnknownTopic => Err(Error::UnknownTopic),
            outcome::Error::Stale => Err(Error::Stale),
            outcome::Error::Exhausted => Err(Error::Exhausted),
        }
    }

    /// Confirms with a majority that the image is as new as any acknowledged change.
    ///
    /// # Errors
    /// [`consensus::Error`].
    pub(crate) async fn linearize(&self) -> Result<(), consensus::Error> {
        self.group.linearize().await
    }

    /// Stops the group.
    pub(crate) async fn shutdown(&self) {
        self.group.shutdown().await;
    }
}

fn to_replicas(partitions: Vec<Vec<i32>>) -> Vec<proto::Replicas> {
    partitions.into_iter().map(|brokers| proto::Replicas { brokers }).collect()
}
