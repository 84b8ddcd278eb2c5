//! What the client knows of the cluster, and its connections: one per broker, made when needed.
//!
//! Invariants:
//! - What is cached may be old. Whoever is told so by a broker calls [`Cluster::refresh`].
//! - No lock is held while waiting for the network.
//!
//! Not here: trying again over and over (`retry` in `client.rs`, and the producer's and consumer's loops).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::config::Config;
use crate::connection::Connection;
use crate::error::About;
use crate::{Error, ErrorCode, Result};

/// The number of a broker in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

/// A topic as the brokers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Another one when it is deleted and made again; nil from brokers before Kafka 2.8.
    pub(crate) id: Uuid,
    /// Whether it belongs to the brokers themselves.
    pub internal: bool,
    /// Its partitions, in the order of their numbers.
    pub partitions: Vec<Partition>,
}

/// A partition as the brokers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, counted from 0.
    pub number: i32,
    /// The broker that takes its reads and writes; none during an election.
    pub leader: Option<BrokerId>,
    /// The brokers that hold a copy.
    pub replicas: Vec<BrokerId>,
    /// Those of them that are up to date.
    pub in_sync: Vec<BrokerId>,
}

/// Which topics to ask about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// Every topic there is.
    All,
    /// One topic; the broker may create it if that is its way.
    OrCreate(&'a str),
    /// One topic, if it exists.
    Existing(&'a str),
    /// Those of these ids that exist.
    Ids(&'a [Uuid]),
}

/// What a connection is for. A broker answers in order, so nothing else waits behind a Fetch that it holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Requests that are answered at once.
    Quick,
    /// Fetch.
    Fetch,
}

/// The cluster as this client sees it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: Config,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    addresses: HashMap<BrokerId, String>,
    connections: HashMap<(BrokerId, Lane), Arc<Connection>>,
    bootstrap: Option<Arc<Connection>>,
    controller: Option<BrokerId>,
    topics: HashMap<String, Arc<Topic>>,
    /// The names of `topics` by id.
    names: HashMap<Uuid, Arc<str>>,
}

impl State {
    fn learn(&mut self, topic: Topic) {
        self.forget(&topic.name);
        if !topic.id.is_nil() {
            self.names.insert(topic.id, Arc::from(topic.name.as_str()));
        }
        self.topics.insert(topic.name.clone(), Arc::new(topic));
    }

    fn forget(&mut self, name: &str) {
        if let Some(known) = self.topics.remove(name) {
            self.names.remove(&known.id);
        }
    }
}

impl Cluster {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    /// What was last heard of a topic.
    pub(crate) fn cached(&self, topic: &str) -> Option<Arc<Topic>> {
        self.state().topics.get(topic).cloned()
    }

    /// The name of the topic with an id, as last heard.
    pub(crate) fn name(&self, id: Uuid) -> Option<Arc<str>> {
        self.state().names.get(&id).cloned()
    }

    /// The leader of a partition, as far as known.
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> Option<BrokerId> {
        let index = usize::try_from(partition).ok()?;
        self.state().topics.get(topic)?.partitions.get(index)?.leader
    }

    /// The topic, from the cache or from a broker.
    pub(crate) async fn topic(&self, scope: Scope<'_>) -> Result<Arc<Topic>> {
        let (Scope::OrCreate(name) | Scope::Existing(name)) = scope else {
            return Err(Error::Invalid("a topic must be named".into()));
        };
        if let Some(topic) = self.cached(name) {
            return Ok(topic);
        }
        self.refresh(scope).await?;
        self.cached(name).ok_or_else(|| Error::UnknownTopic { topic: name.to_owned() })
    }

    /// Asks any broker about brokers and topics and remembers the answer.
    ///
    /// # Errors
    /// Those of the connection, and the error code of the one topic asked for.
    pub(crate) async fn refresh(&self, scope: Scope<'_>) -> Result<()> {
        let connection = self.any().await?;
        let answer = connection.call(&metadata_request(scope)).await?;
        self.remember(answer, scope)
    }

    fn remember(&self, answer: MetadataResponse, scope: Scope<'_>) -> Result<()> {
        let mut state = self.state();
        state.addresses = answer
            .brokers
            .iter()
            .map(|broker| (BrokerId(broker.node_id.0), format_address(&broker.host, broker.port)))
            .collect();
        state.controller = Some(BrokerId(answer.controller_id.0));
        if matches!(scope, Scope::All) {
            state.topics.clear();
            state.names.clear();
        }
        let mut outcome = Ok(());
        for topic in answer.topics {
            let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
            match read_topic(topic) {
                Ok(topic) => state.learn(topic),
                Err(error) => {
                    state.forget(&name);
                    outcome = Err(error);
                }
            }
        }
        if matches!(scope, Scope::All | Scope::Ids(_)) { Ok(()) } else { outcome }
    }

    /// All topics of the last [`Scope::All`] refresh, by name.
    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        let mut topics: Vec<_> = self.state().topics.values().cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// Forgets a topic that was deleted.
    pub(crate) fn forget(&self, topic: &str) {
        self.state().forget(topic);
    }

    /// Whether the broker was among those that are there, when last asked.
    pub(crate) fn lists(&self, broker: BrokerId) -> bool {
        self.state().addresses.contains_key(&broker)
    }

    /// The open connection to a broker, if there is one.
    pub(crate) fn open_connection(&self, broker: BrokerId, lane: Lane) -> Option<Arc<Connection>> {
        let state = self.state();
        state.connections.get(&(broker, lane)).filter(|found| found.is_alive()).cloned()
    }

    /// A connection to a broker for requests that are answered at once, opened if need be.
    pub(crate) async fn connection(&self, broker: BrokerId) -> Result<Arc<Connection>> {
        self.connection_for(broker, Lane::Quick).await
    }

    /// A connection to a broker, opened if need be.
    pub(crate) async fn connection_for(
        &self,
        broker: BrokerId,
        lane: Lane,
    ) -> Result<Arc<Connection>> {
        if let Some(connection) = self.open_connection(broker, lane) {
            return Ok(connection);
        }
        let opened = Arc::new(self.open_own(broker).await?);
        let mut state = self.state();
        let known = state.connections.get(&(broker, lane)).filter(|known| known.is_alive());
        Ok(known.cloned().unwrap_or_else(|| {
            state.connections.insert((broker, lane), Arc::clone(&opened));
            opened
        }))
    }

    /// A connection that is shared with nobody.
    pub(crate) async fn open_own(&self, broker: BrokerId) -> Result<Connection> {
        let address = self.state().addresses.get(&broker).cloned();
        let address = address.ok_or_else(|| Error::Unreachable {
            brokers: format!("broker {}", broker.0),
            reason: "the cluster does not list it".into(),
        })?;
        Connection::open(&address, &self.config).await
    }

    /// A connection to the broker that changes topics, or to any if none is named.
    pub(crate) async fn controller(&self) -> Result<Arc<Connection>> {
        let controller = self.state().controller;
        match controller.filter(|broker| broker.0 >= 0) {
            Some(broker) => self.connection(broker).await,
            None => self.any().await,
        }
    }

    /// A connection to any broker: an open one, else a known one, else one of the bootstrap list.
    pub(crate) async fn any(&self) -> Result<Arc<Connection>> {
        if let Some(open) = self.any_open() {
            return Ok(open);
        }
        let known: Vec<BrokerId> = self.state().addresses.keys().copied().collect();
        for broker in known {
            if let Ok(connection) = self.connection(broker).await {
                return Ok(connection);
            }
        }
        self.bootstrap().await
    }

    fn any_open(&self) -> Option<Arc<Connection>> {
        let state = self.state();
        let quick = state.connections.iter().filter(|((_, lane), _)| *lane == Lane::Quick);
        let mut all = quick.map(|(_, connection)| connection).chain(&state.bootstrap);
        all.find(|connection| connection.is_alive()).cloned()
    }

    async fn bootstrap(&self) -> Result<Arc<Connection>> {
        let mut reason = "no address was given".to_owned();
        for address in &self.config.bootstrap {
            match Connection::open(address, &self.config).await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    self.state().bootstrap = Some(Arc::clone(&connection));
                    return Ok(connection);
                }
                Err(Error::Unreachable { reason: why, .. }) => reason = why,
                Err(error) => reason = error.to_string(),
            }
        }
        Err(Error::Unreachable { brokers: self.config.bootstrap.join(", "), reason })
    }
}

fn metadata_request(scope: Scope<'_>) -> MetadataRequest {
    let one = |name: &str| {
        let name = TopicName(StrBytes::from_string(name.to_owned()));
        Some(vec![MetadataRequestTopic::default().with_name(Some(name))])
    };
    let by_id = |ids: &[Uuid]| {
        let each = ids.iter().map(|id| MetadataRequestTopic::default().with_topic_id(*id));
        Some(each.map(|topic| topic.with_name(None)).collect())
    };
    let (topics, create) = match scope {
        Scope::All => (None, false),
        Scope::OrCreate(name) => (one(name), true),
        Scope::Existing(name) => (one(name), false),
        Scope::Ids(ids) => (by_id(ids), false),
    };
    MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(create)
}

fn read_topic(topic: MetadataResponseTopic) -> Result<Topic> {
    let (name, id) = (topic.name.map(|name| name.to_string()).unwrap_or_default(), topic.topic_id);
    if ErrorCode::try_from_code(topic.error_code) == Some(ErrorCode::UnknownTopicOrPartition) {
        return Err(Error::UnknownTopic { topic: name });
    }
    Error::check(topic.error_code, None, || {
        About::from(format!("metadata of {name}")).topic(&name)
    })?;
    let ids = |brokers: &[kafka_protocol::messages::BrokerId]| {
        brokers.iter().map(|broker| BrokerId(broker.0)).collect()
    };
    let mut partitions: Vec<Partition> = topic
        .partitions
        .iter()
        .map(|partition| Partition {
            number: partition.partition_index,
            leader: Some(BrokerId(partition.leader_id.0)).filter(|leader| leader.0 >= 0),
            replicas: ids(&partition.replica_nodes),
            in_sync: ids(&partition.isr_nodes),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.number);
    let complete = (0..).zip(&partitions).all(|(number, partition)| partition.number == number);
    if !complete || partitions.is_empty() {
        return Err(Error::malformed("metadata", format!("{name} lacks partitions")));
    }
    Ok(Topic { name, id, internal: topic.is_internal, partitions })
}

/// `host:port`, with brackets around an IPv6 address.
fn format_address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_response::{
        MetadataResponsePartition, MetadataResponseTopic,
    };

    use super::{BrokerId, format_address, read_topic};
    use crate::Error;

    fn partition(number: i32, leader: i32) -> MetadataResponsePartition {
        MetadataResponsePartition::default()
            .with_partition_index(number)
            .with_leader_id(leader.into())
    }

    #[test]
    fn partitions_are_put_in_order_and_a_missing_leader_is_none() {
        let answer = MetadataResponseTopic::default()
            .with_partitions(vec![partition(1, -1), partition(0, 7)]);
        let topic = read_topic(answer).unwrap();
        let leaders: Vec<_> = topic.partitions.iter().map(|partition| partition.leader).collect();
        assert_eq!(leaders, [Some(BrokerId(7)), None]);
    }

    #[test]
    fn a_gap_in_the_partitions_is_refused() {
        let answer = MetadataResponseTopic::default().with_partitions(vec![partition(1, 0)]);
        assert!(matches!(read_topic(answer), Err(Error::Malformed { .. })));
    }

    #[test]
    fn an_ipv6_address_gets_brackets() {
        assert_eq!(format_address("::1", 9092), "[::1]:9092");
        assert_eq!(format_address("node", 9092), "node:9092");
    }
}
