//! The cluster's metadata: topics, configs, ids, brokers, kept in Raft group 0.
//!
//! Every broker holds the whole image and answers from it; changes are commands of the group.
//!
//! Not here: running the partitions that the image names (`replicas.rs`), Kafka's rules for names and
//! configs (the handlers and `configs.rs`).

mod healing;
mod image;
mod machine;
mod members;
mod names;
mod partition;
mod placement;
mod quorum;
mod reports;
mod submit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jangbu_engine::PartitionLog;
use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

pub use names::topic_names;

pub(crate) use healing::{Plan as HealingPlan, plan as healing_plan};
pub(crate) use image::{Broker, Data, Holder, Image, SharedImage, Topic, TopicPartition};
pub(crate) use placement::{Candidate, candidates, place};
pub(crate) use reports::{Behind, Damaged};

use crate::consensus::{self, Clock, Group, Network, ReplicaId};
use crate::peer::Peers;
use crate::proto::metadata::{self as proto, command::Command, outcome};
use crate::quotas::{Entity, Kind};
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
    /// No such broker (any more).
    #[error("there is no such broker")]
    UnknownBroker,
    /// The broker holds replicas, or is to hold some.
    #[error("the broker still holds replicas; move them to other brokers first")]
    InUse,
    /// The broker id stands for another data directory.
    #[error("the broker id belongs to another data directory")]
    OtherDirectory,
    /// The partition is not being reassigned, or not by that reassignment.
    #[error("the partition is not being reassigned")]
    NotReassigning,
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
    /// The broker this runs on.
    broker: i32,
    /// The way to the node that leads the group.
    peers: Peers,
    producer_ids: Mutex<std::ops::Range<i64>>,
    stopping: AtomicBool,
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
        peers: Peers,
    ) -> Result<Self, String> {
        let image = Arc::new(SharedImage::new(&holder));
        let broker = holder.broker;
        let machine = MetadataMachine::new(Arc::clone(&image), holder);
        let group = Group::start(replica, log, machine, network, Clock::Own).await?;
        Ok(Self {
            group,
            image,
            broker,
            peers,
            producer_ids: Mutex::new(0..0),
            stopping: AtomicBool::new(false),
        })
    }

    /// Forms a new cluster with these voters if there is none yet.
    ///
    /// # Errors
    /// [`consensus::Error`].
    pub(crate) async fn bootstrap(&self, voters: &[ReplicaId]) -> Result<(), consensus::Error> {
        self.group.initialize(voters).await
    }

    /// The broker that leads the group, as far as this one knows.
    pub(crate) fn leader(&self) -> Option<i32> {
        self.group.leadership().leader.map(ReplicaId::broker)
    }

    /// Whether this broker leads the group.
    pub(crate) fn leads(&self) -> bool {
        self.group.leadership().local
    }

    /// The broker this runs on.
    pub(crate) fn broker(&self) -> i32 {
        self.broker
    }

    /// Whether a broker votes in the group.
    pub(crate) fn is_voter(&self, broker: i32) -> bool {
        self.group.members().voters.iter().any(|voter| voter.broker() == broker)
    }

    /// The brokers that vote in the group, in their order.
    pub(crate) fn voters(&self) -> Vec<i32> {
        let mut voters: Vec<i32> =
            self.group.members().voters.iter().map(|voter| voter.broker()).collect();
        voters.sort_unstable();
        voters
    }

    /// Gives up the leader of the group, whose node is gone; with `stand` asks the others to elect this replica.
    pub(crate) async fn succeed(&self, stand: bool) {
        self.group.let_go().await;
        if stand {
            self.group.elect().await;
        }
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

    /// Gives a new cluster its id; an existing cluster keeps its own. Ids up to `last_broker` are not given to nodes
    /// that join.
    ///
    /// # Errors
    /// [`Error::Consensus`].
    pub(crate) async fn init_cluster(
        &self,
        cluster_id: String,
        last_broker: i32,
    ) -> Result<(), Error> {
        let command = proto::InitCluster { cluster_id, last_broker };
        self.submit(Command::InitCluster(command)).await.map(|_| ())
    }

    /// Records where a broker can be reached, and returns its id. A broker with the id 0 gets one, the same one
    /// for the same directory.
    ///
    /// # Errors
    /// [`Error::OtherDirectory`], [`Error::UnknownBroker`] for one that was removed, [`Error::Exhausted`],
    /// [`Error::Consensus`].
    pub(crate) async fn register_broker(&self, broker: &Broker) -> Result<i32, Error> {
        let broker = Some(broker.to_proto());
        let command = Command::RegisterBroker(proto::RegisterBroker { broker });
        self.submit(command).await.map(|outcome| outcome.broker)
    }

    /// Records whether a broker answers.
    ///
    /// # Errors
    /// [`Error::UnknownBroker`], [`Error::Consensus`].
    pub(crate) async fn set_liveness(&self, broker: i32, dead: bool) -> Result<(), Error> {
        let command = proto::SetLiveness { broker, dead: Some(dead) };
        self.submit(Command::SetLiveness(command)).await.map(|_| ())
    }

    /// Lets a broker that holds nothing leave for ever.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::UnknownBroker`], [`Error::Consensus`].
    pub(crate) async fn remove_broker(&self, broker: i32) -> Result<(), Error> {
        let command = proto::RemoveBroker { broker };
        self.submit(Command::RemoveBroker(command)).await.map(|_| ())
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
        let answer = self.submit_once(Command::DeleteTopic(proto::DeleteTopic { id })).await;
        match answer.outcome {
            // It was the first attempt that deleted it.
            Err(Error::UnknownTopic) if answer.given_twice => Ok(()),
            outcome => outcome.map(|_| ()),
        }
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
        let id_bytes = id.as_bytes().to_vec();
        let wanted = partitions.len() + existing as usize;
        let partitions = to_replicas(partitions);
        let command = proto::CreatePartitions { id: id_bytes, existing, partitions };
        let answer = self.submit_once(Command::CreatePartitions(command)).await;
        let count = self.image().topic_by_id(id).map(|topic| topic.partitions.len());
        match answer.outcome {
            // It was the first attempt that added them.
            Err(Error::Stale) if answer.given_twice && count == Some(wanted) => Ok(()),
            outcome => outcome.map(|_| ()),
        }
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

    /// Replaces what is set for a group, if it still is what the caller saw.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::Consensus`].
    pub(crate) async fn set_group_configs(
        &self,
        group: String,
        seen: BTreeMap<String, String>,
        configs: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let command = proto::SetGroupConfigs { group, seen, configs };
        self.submit(Command::SetGroupConfigs(command)).await.map(|_| ())
    }

    /// Sets quotas of an entity, or takes those without a limit away.
    ///
    /// # Errors
    /// [`Error::Consensus`].
    pub(crate) async fn alter_quotas(
        &self,
        of: &Entity,
        changes: &[(Kind, Option<f64>)],
    ) -> Result<(), Error> {
        let to_proto =
            |(kind, limit): &(Kind, Option<f64>)| machine::quotas::to_proto(of, *kind, *limit);
        let changes = changes.iter().map(to_proto).collect();
        let command = proto::AlterQuotas { changes };
        self.submit(Command::AlterQuotas(command)).await.map(|_| ())
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

    /// Hands the leadership of the group to another voter, if this broker leads and one `lives`.
    pub(crate) async fn hand_over(&self, lives: impl Fn(i32) -> bool, timeout: Duration) {
        if !self.leads() {
            return;
        }
        let replication = self.group.replication();
        let voters = self.group.members().voters.into_iter();
        let able = voters.filter(|v| v.broker() != self.broker && lives(v.broker()));
        let Some(to) = able.max_by_key(|v| replication.get(v).copied().flatten()) else { return };
        if let Err(error) = self.group.transfer(to, timeout).await {
            tracing::debug!(%error, to = to.broker(), "the metadata group was not handed over");
        }
    }

    /// Stops the group.
    pub(crate) async fn shutdown(&self) {
        self.stopping.store(true, Ordering::Release);
        self.group.shutdown().await;
    }
}

fn to_replicas(partitions: Vec<Vec<i32>>) -> Vec<proto::Replicas> {
    partitions.into_iter().map(|brokers| proto::Replicas { brokers }).collect()
}
