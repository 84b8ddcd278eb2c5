//! The handle applications hold: admin calls, and the way to producers and consumers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, ListOffsetsRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::{Cluster, Scope, Topic};
use crate::config::Config;
use crate::error::About;
use crate::{Consumer, ConsumerConfig, Error, ErrorCode, Producer, ProducerConfig, Result};

/// A client of one cluster. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    cluster: Arc<Cluster>,
}

/// A topic to be created.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; `None` leaves it to the broker.
    pub partitions: Option<i32>,
    /// Number of copies; `None` leaves it to the broker.
    pub replication_factor: Option<i16>,
    /// Settings that differ from the broker's.
    pub configs: Vec<(String, String)>,
}

/// A setting of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// Its name.
    pub name: String,
    /// Its value; secrets have none.
    pub value: Option<String>,
    /// Whether nobody has set it.
    pub is_default: bool,
}

/// A place in a partition that the broker looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The first record there still is.
    Earliest,
    /// After the last record.
    Latest,
    /// The first record stamped at this time (milliseconds since 1970, UTC) or later.
    Timestamp(i64),
}

impl Position {
    /// As ListOffsets writes it.
    pub(crate) fn timestamp(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::Timestamp(ms) => ms.max(0),
        }
    }
}

impl Client {
    /// Connects to one of the bootstrap brokers and learns of the others.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if none of them answers.
    pub async fn connect(config: Config) -> Result<Self> {
        let cluster = Arc::new(Cluster::new(config));
        cluster.refresh(Scope::All).await?;
        Ok(Self { cluster })
    }

    /// A producer on this client's connections.
    pub fn producer(&self, config: ProducerConfig) -> Producer {
        Producer::start(Arc::clone(&self.cluster), config)
    }

    /// A consumer on this client's connections, with nothing assigned to it yet.
    pub fn consumer(&self, config: ConsumerConfig) -> Consumer {
        Consumer::new(self.clone(), config)
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn list_topics(&self) -> Result<Vec<Arc<Topic>>> {
        self.retry(async || self.cluster.refresh(Scope::All).await).await?;
        Ok(self.cluster.topics())
    }

    /// One topic as it is now.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], and those of the connection.
    pub async fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        self.retry(async || self.cluster.refresh(Scope::Existing(name)).await).await?;
        let topic = self.cluster.cached(name);
        topic.ok_or_else(|| Error::UnknownTopic { topic: name.to_owned() })
    }

    /// Creates a topic and waits until its partitions have leaders.
    ///
    /// # Errors
    /// [`Error::Broker`] with the broker's reason, for instance `TopicAlreadyExists`.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        let request = create_request(topic, self.cluster.config.request_timeout);
        self.retry(async || {
            let answer = self.cluster.controller().await?.call(&request).await?;
            answer.topics.iter().try_for_each(|created| {
                let message = created.error_message.as_deref();
                Error::check(created.error_code, message, || {
                    About::from(format!("create topic {}", topic.name)).topic(&topic.name)
                })
            })
        })
        .await?;
        self.await_leaders(&topic.name).await
    }

    /// A new topic takes a moment to reach every broker, in which it looks unknown or has no leader.
    async fn await_leaders(&self, name: &str) -> Result<()> {
        self.retry(async || {
            let not_yet = || {
                let about = About::from(format!("leaders of {name}")).topic(name);
                Error::refused(about, ErrorCode::LeaderNotAvailable)
            };
            match self.cluster.refresh(Scope::Existing(name)).await {
                Err(Error::UnknownTopic { .. }) => return Err(not_yet()),
                other => other?,
            }
            let topic = self.cluster.cached(name).ok_or_else(not_yet)?;
            let led = topic.partitions.iter().all(|partition| partition.leader.is_some());
            if led { Ok(()) } else { Err(not_yet()) }
        })
        .await
    }

    /// Deletes a topic and all its records.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], and the broker's reason if it refuses.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![topic_name(name)])
            .with_timeout_ms(millis(self.cluster.config.request_timeout));
        let answer =
            self.retry(async || self.cluster.controller().await?.call(&request).await).await?;
        self.cluster.forget(name);
        answer.responses.iter().try_for_each(|deleted| {
            let code = ErrorCode::try_from_code(deleted.error_code);
            if code == Some(ErrorCode::UnknownTopicOrPartition) {
                return Err(Error::UnknownTopic { topic: name.to_owned() });
            }
            let message = deleted.error_message.as_deref();
            Error::check(deleted.error_code, message, || {
                About::from(format!("delete topic {name}")).topic(name)
            })
        })
    }

    /// The settings of a topic, defaults included.
    ///
    /// # Errors
    /// The broker's reason if it refuses, and those of the connection.
    pub async fn topic_configs(&self, name: &str) -> Result<Vec<TopicConfig>> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(RESOURCE_TOPIC)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.retry(async || self.cluster.any().await?.call(&request).await).await?;
        let mut configs = Vec::new();
        for result in answer.results {
            let message = result.error_message.as_deref();
            Error::check(result.error_code, message, || {
                About::from(format!("configs of {name}")).topic(name)
            })?;
            configs.extend(result.configs.into_iter().map(|config| TopicConfig {
                name: config.name.to_string(),
                value: config.value.map(|value| value.to_string()),
                is_default: config.config_source != SOURCE_TOPIC,
            }));
        }
        Ok(configs)
    }

    /// The offset at a position of a partition.
    ///
    /// For a timestamp after every record this is the end offset.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownPartition`], and those of the connection.
    pub async fn offset(&self, topic: &str, partition: i32, at: Position) -> Result<i64> {
        let found = self.retry(async || self.offset_once(topic, partition, at).await).await?;
        match found {
            -1 => Box::pin(self.offset(topic, partition, Position::Latest)).await,
            offset => Ok(offset),
        }
    }

    async fn offset_once(&self, topic: &str, partition: i32, at: Position) -> Result<i64> {
        let known = self.cluster.topic(Scope::Existing(topic)).await?;
        let place =
            || About::from(format!("offsets of {topic}-{partition}")).place(topic, partition);
        let leader = match usize::try_from(partition).ok().and_then(|at| known.partitions.get(at)) {
            Some(known) => known.leader,
            None => {
                let (topic, count) = (topic.to_owned(), known.partitions.len());
                return Err(Error::UnknownPartition { topic, partition, count });
            }
        };
        let leader =
            leader.ok_or_else(|| Error::refused(place(), ErrorCode::LeaderNotAvailable))?;
        let connection = self.cluster.connection(leader).await?;
        let answer = connection.call(&offsets_request(topic, partition, at)).await?;
        let found = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
        let found =
            found.ok_or_else(|| Error::malformed("a response", format!("{} is empty", place())))?;
        Error::check(found.error_code, None, place)?;
        Ok(found.offset)
    }

    /// Tries until it works, a refusal is final, or the request timeout has passed.
    pub(crate) async fn retry<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let config = &self.cluster.config;
        let deadline = Instant::now() + config.request_timeout;
        for failures in 1.. {
            match attempt().await {
                Err(error) if error.is_retriable() => {
                    let pause = config.backoff(failures);
                    if Instant::now() + pause >= deadline {
                        return Err(error);
                    }
                    tracing::debug!(%error, ?pause, "trying again");
                    tokio::time::sleep(pause).await;
                    // Another broker may have taken over from one that is gone; without any there is no hope.
                    if let Err(Error::Unreachable { .. }) = self.cluster.refresh(Scope::All).await {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
        unreachable!("the loop ends by returning")
    }
}

/// DescribeConfigs: the resource is a topic.
const RESOURCE_TOPIC: i8 = 2;
/// DescribeConfigs: the value was set on the topic itself.
const SOURCE_TOPIC: i8 = 1;

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// Milliseconds as the protocol has them; longer ones than it can say become its longest.
pub(crate) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn create_request(topic: &NewTopic, timeout: Duration) -> CreateTopicsRequest {
    let config = |(name, value): &(String, String)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_value(Some(StrBytes::from_string(value.clone())))
    };
    let creatable = CreatableTopic::default()
        .with_name(topic_name(&topic.name))
        .with_num_partitions(topic.partitions.unwrap_or(-1))
        .with_replication_factor(topic.replication_factor.unwrap_or(-1))
        .with_configs(topic.configs.iter().map(config).collect());
    CreateTopicsRequest::default().with_topics(vec![creatable]).with_timeout_ms(millis(timeout))
}

fn offsets_request(topic: &str, partition: i32, at: Position) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(at.timestamp());
    let topic =
        ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic])
}
