//! What every handler works with: this node's parts, shared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jangbu_engine::{Engine, PartitionId};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::answers::AnswerRoom;
use crate::compaction;
use crate::config::Config;
use crate::connection::Admission;
use crate::consensus::{ReplicaId, Throttle};
use crate::controller::{self, Controller, Topic, TopicPartition};
use crate::disk::Disk;
use crate::fetch_sessions::FetchSessions;
use crate::groups::Coordinator;
use crate::health::{BehindHere, Stalled};
use crate::metrics::Metrics;
use crate::partition::{Partition, epoch_of};
use crate::peer::Peers;
use crate::quotas::{Quotas, Table};
use crate::replicas::Replicas;

/// For so long a dead broker is still listed, from the first client on that asks.
const LISTED: Duration = Duration::from_secs(10);

/// This node, as the handlers see it.
#[derive(Debug)]
pub(crate) struct Broker {
    /// This node's id.
    pub(crate) node: i32,
    pub(crate) config: Config,
    pub(crate) engine: Engine,
    pub(crate) controller: Arc<Controller>,
    pub(crate) replicas: Arc<Replicas>,
    /// The ways to the other nodes.
    pub(crate) peers: Peers,
    /// Which replicas of what this node leads are not in sync.
    pub(crate) in_sync: BehindHere,
    /// Which of the moves that this node carries out make no headway.
    pub(crate) stalled: Stalled,
    /// What the cleaner does.
    pub(crate) compaction: compaction::Report,
    /// How fast replicas that are being added are sent the log.
    pub(crate) catch_up: Arc<Throttle>,
    pub(crate) disk: Disk,
    pub(crate) sessions: FetchSessions,
    /// The consumer groups that are coordinated here.
    pub(crate) groups: Coordinator,
    /// Room for requests that are taken in and not answered.
    pub(crate) admission: Admission,
    /// Room for records that are read and not taken by their clients.
    pub(crate) answers: AnswerRoom,
    pub(crate) metrics: Arc<Metrics>,
    /// What clients with quotas have taken of late.
    pub(crate) quotas: Quotas,
    /// Bounds how many batches are decompressed at a time.
    pub(crate) recoding: Semaphore,
    /// When a client was first not told a dead broker's death.
    pub(crate) departed: Mutex<BTreeMap<i32, Instant>>,
    /// Cancelled when the connections that clients have now are to be closed.
    pub(crate) clients: Mutex<CancellationToken>,
    /// Whether the node is about to stop: it serves on, and others are to lead.
    pub(crate) stopping: AtomicBool,
    /// Cancelled when the node begins to drain.
    pub(crate) draining: CancellationToken,
}

impl Broker {
    /// This node's id.
    pub(crate) fn id(&self) -> i32 {
        self.node
    }

    /// Ends with the node, or when clients are sent away before.
    pub(crate) fn clients(&self) -> CancellationToken {
        self.clients.lock().clone()
    }

    /// Closes the connections that clients have now. Those that have no other one look for other brokers then.
    pub(crate) fn send_clients_away(&self) {
        let next = self.draining.child_token();
        std::mem::replace(&mut *self.clients.lock(), next).cancel();
    }

    /// Whether others should lead what this node could lead: it is about to stop, or takes no more records because its
    /// disk is nearly full.
    pub(crate) fn steps_back(&self) -> bool {
        self.stopping.load(Ordering::Acquire) || self.disk.is_short()
    }

    /// The quotas of clients, if there are any.
    pub(crate) fn quotas_set(&self) -> Option<Arc<Table>> {
        let image = self.controller.image();
        (!image.quotas.is_empty()).then(|| Arc::clone(&image.quotas))
    }

    /// The topic of this name.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.controller.image().topic(name).cloned()
    }

    /// The topic with this id.
    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.controller.image().topic_by_id(id).cloned()
    }

    /// Who leads a partition, by what its leaders have reported and by what the replica here knows: the larger
    /// term. `None` while nobody is known to lead, or when the one who does is dead.
    pub(crate) fn leader_of(&self, group: PartitionId) -> Option<Leader> {
        let running = self.replicas.get(group);
        let known = running.as_ref().and_then(|partition| {
            let leadership = partition.leadership();
            let broker = leadership.leader?.broker();
            // Whoever was elected and has not applied an entry of its own term yet may not answer.
            let answers = leadership.local || broker != self.id();
            answers.then_some((broker, leadership.term))
        });
        let image = self.controller.image();
        let newest = image.leader(group).into_iter().chain(known).max_by_key(|(_, term)| *term);
        let (broker, term) = newest?;
        let lives = if broker == self.id() {
            running.is_none_or(|partition| self.hears_majority(&partition))
        } else {
            image.lives(broker)
        };
        lives.then_some(Leader { broker, epoch: epoch_of(term) })
    }

    /// Whether enough of a partition's voters answer for this broker to lead it. Where they do not, another one may lead
    /// by now, which this one cannot know: it must neither name itself nor give out what it has as the newest.
    pub(crate) fn hears_majority(&self, partition: &Partition) -> bool {
        let states = self.peers.states();
        let states = states.borrow();
        if states.values().all(|state| state.alive) {
            return true;
        }
        let voters = partition.members().voters;
        let answers = |voter: &&ReplicaId| {
            let broker = voter.broker();
            broker == self.id() || states.get(&broker).is_none_or(|state| state.alive)
        };
        voters.is_empty() || 2 * voters.iter().filter(answers).count() > voters.len()
    }

    /// Whether another broker leads a partition and answers.
    pub(crate) fn hears_leader(&self, partition: &Partition) -> bool {
        let leader = partition.leadership().leader.map(ReplicaId::broker);
        let states = self.peers.states();
        let states = states.borrow();
        leader.and_then(|leader| states.get(&leader)).is_some_and(|state| state.alive)
    }

    /// Which replicas of a partition clients are told, and which of them are in sync: those on live brokers that are not
    /// behind, as the leader has reported. Replicas that are added count once they are members.
    pub(crate) fn replicas_of(&self, placed: &TopicPartition) -> Placed {
        let added = placed.target.iter().filter(|broker| !placed.brokers.contains(broker));
        let image = self.controller.image();
        let lives = |id: &i32| *id == self.id() || image.lives(*id);
        let (behind, leader) = (image.behind(placed.group), image.leader(placed.group));
        // Who has come to lead has all of it and says so a little later; who leads although it is damaged serves what is
        // whole until another one leads.
        let leads =
            |replica: &ReplicaId| leader.is_some_and(|(leader, _)| leader == replica.broker());
        let failed =
            |replica: &ReplicaId| image.is_damaged(placed.group, *replica) && !leads(replica);
        let lags = |replica: &ReplicaId| behind.contains(replica) && !leads(replica);
        let replicas = placed.replicas().into_iter();
        let (broken, sound): (Vec<_>, Vec<_>) = replicas.partition(failed);
        let in_sync = sound.into_iter().filter(|one| lives(&one.broker()) && !lags(one));
        let all: Vec<i32> = placed.brokers.iter().chain(added).copied().collect();
        let is_broken = |id: &i32| broken.iter().any(|replica| replica.broker() == *id);
        Placed {
            in_sync: in_sync.map(ReplicaId::broker).collect(),
            offline: all.iter().filter(|id| !lives(id) || is_broken(id)).copied().collect(),
            all,
        }
    }

    /// How many replicas of a partition that this node leads are in sync, by what this node itself sees.
    pub(crate) fn in_sync_here(&self, placed: &TopicPartition) -> usize {
        let states = self.peers.states();
        let states = states.borrow();
        let image = self.controller.image();
        let behind = image.behind(placed.group);
        let is_in_sync = |replica: &ReplicaId| {
            let id = replica.broker();
            id == self.id()
                || states.get(&id).is_none_or(|state| state.alive)
                    && image.lives(id)
                    && !behind.contains(replica)
                    && !image.is_damaged(placed.group, *replica)
                    && !self.in_sync.contains(placed.group, *replica)
        };
        placed.replicas().into_iter().filter(is_in_sync).count()
    }

    /// The broker that leads the metadata group, to which clients send what changes the cluster. Every broker passes
    /// such requests on, so another one does as well.
    pub(crate) fn controller_id(&self) -> i32 {
        let leader = self.controller.leader().unwrap_or(self.id());
        let image = self.controller.image();
        if image.lives(leader) { leader } else { self.id() }
    }

    /// The brokers that clients are told: those that are alive, and for a moment those that were. librdkafka gives up a
    /// broker that is listed no more, with the partitions it takes to be there, and then needs a second longer to find who
    /// leads them.
    pub(crate) fn listed_brokers(&self) -> Vec<controller::Broker> {
        let image = self.controller.image();
        let now = Instant::now();
        let mut departed = self.departed.lock();
        departed.retain(|id, _| image.brokers.get(id).is_some_and(|broker| broker.dead));
        let mut is_listed = |broker: &&controller::Broker| {
            !broker.dead
                || broker.id == self.id()
                || now - *departed.entry(broker.id).or_insert(now) < LISTED
        };
        image.brokers.values().filter(&mut is_listed).cloned().collect()
    }

    /// The brokers that are alive.
    pub(crate) fn live_brokers(&self) -> Vec<controller::Broker> {
        let image = self.controller.image();
        let lives = |broker: &&controller::Broker| !broker.dead || broker.id == self.id();
        image.brokers.values().filter(lives).cloned().collect()
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

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) broker: i32,
    /// Kafka's leader epoch.
    pub(crate) epoch: i32,
}

/// Brokers of a partition's replicas, as clients are told them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) all: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
    /// Those on brokers that are dead, and those that are damaged, as if their log directory had failed.
    pub(crate) offline: Vec<i32>,
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
