//! The brokers of a cluster, and moving partitions between them.
//!
//! Not here: which moves are good ones (`jangbu cluster` plans them); groups (`admin/groups.rs`) and what they have
//! committed (`admin/offsets.rs`).

pub(crate) mod groups;
pub(crate) mod offsets;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_partition_reassignments_response::OngoingPartitionReassignment;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, DescribeClusterRequest, ElectLeadersRequest,
    IncrementalAlterConfigsRequest, ListPartitionReassignmentsRequest, UnregisterBrokerRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::client::{millis, topic_name};
use crate::cluster::BrokerId;
use crate::error::About;
use crate::{Client, Error, Result};

/// A broker as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub id: BrokerId,
    /// `host:port` for clients.
    pub address: String,
    /// Its rack, if it has one.
    pub rack: Option<String>,
    /// Whether it answers its cluster. A dead one is listed only by clusters that tell of them.
    pub alive: bool,
    /// Whether it is being emptied: it gets no new replicas.
    pub draining: bool,
}

/// The brokers of a cluster, and who leads the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The id of the cluster.
    pub cluster_id: String,
    /// The broker that changes topics; none while there is no such.
    pub controller: Option<BrokerId>,
    /// The brokers, by id.
    pub brokers: Vec<Broker>,
}

/// A partition that is to live on other brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Its brokers in the end, the preferred leader first; `None` cancels a move under way.
    pub to: Option<Vec<BrokerId>>,
}

/// A move under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moving {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Its brokers in the end, the preferred leader first.
    pub to: Vec<BrokerId>,
    /// Brokers that are being added.
    pub adding: Vec<BrokerId>,
    /// Brokers that leave.
    pub removing: Vec<BrokerId>,
}

/// A jangbu broker's own tagged field of a broker that is being emptied.
const TAG_DRAINING: i32 = 27_234;
/// Kafka's `ConfigResource.Type` of a broker, and the operation that gives a config a value.
const RESOURCE_BROKER: i8 = 4;
const SET: i8 = 0;

fn move_of(topic: &str, partition: i32) -> About {
    About::from(format!("move of {topic}-{partition}")).place(topic, partition)
}

/// The replicas that a move ends with: all but those that leave.
fn target(partition: &OngoingPartitionReassignment) -> Vec<BrokerId> {
    let leaves = |broker| partition.removing_replicas.contains(broker);
    let stay = partition.replicas.iter().filter(|broker| !leaves(broker));
    stay.map(|broker| BrokerId(broker.0)).collect()
}

impl Client {
    /// The brokers of the cluster, also those that are dead.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        let all = DescribeClusterRequest::default().with_include_fenced_brokers(true);
        let answer = self
            .retry(async || {
                let connection = self.cluster().any().await?;
                // Older brokers tell only of those that are alive.
                let tells_all = connection.version::<DescribeClusterRequest>()? >= 2;
                let request =
                    if tells_all { all.clone() } else { DescribeClusterRequest::default() };
                connection.call(&request).await
            })
            .await?;
        Error::check(answer.error_code, answer.error_message.as_deref(), || "the cluster")?;
        let mut brokers: Vec<Broker> = answer
            .brokers
            .iter()
            .map(|broker| Broker {
                id: BrokerId(broker.broker_id.0),
                address: format!("{}:{}", broker.host, broker.port),
                rack: broker.rack.as_ref().map(ToString::to_string),
                alive: !broker.is_fenced,
                draining: broker.unknown_tagged_fields.contains_key(&TAG_DRAINING),
            })
            .collect();
        brokers.sort_by_key(|broker| broker.id);
        Ok(ClusterDescription {
            cluster_id: answer.cluster_id.to_string(),
            controller: Some(BrokerId(answer.controller_id.0)).filter(|id| id.0 >= 0),
            brokers,
        })
    }

    /// Begins to move partitions, or cancels moves. They go on by themselves; [`Client::moving`] tells how far.
    ///
    /// # Errors
    /// [`Error::Broker`] for the first move that is refused; others may have begun.
    pub async fn move_partitions(&self, moves: &[Move]) -> Result<()> {
        let mut topics: Vec<ReassignableTopic> = Vec::new();
        for wanted in moves {
            let replicas = wanted.to.as_ref();
            let replicas = replicas.map(|to| to.iter().map(|broker| broker.0.into()).collect());
            let partition = ReassignablePartition::default()
                .with_partition_index(wanted.partition)
                .with_replicas(replicas);
            match topics.iter_mut().find(|topic| *topic.name == *wanted.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(
                    ReassignableTopic::default()
                        .with_name(topic_name(&wanted.topic))
                        .with_partitions(vec![partition]),
                ),
            }
        }
        let request = AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(millis(self.cluster().config.request_timeout))
            .with_topics(topics);
        self.retry(async || {
            let answer = self.cluster().controller().await?.call(&request).await?;
            let message = answer.error_message.as_deref();
            Error::check(answer.error_code, message, || "moving partitions")?;
            answer.responses.iter().try_for_each(|topic| {
                topic.partitions.iter().try_for_each(|partition| {
                    let message = partition.error_message.as_deref();
                    let what = || move_of(&topic.name, partition.partition_index);
                    Error::check(partition.error_code, message, what)
                })
            })
        })
        .await
    }

    /// The moves under way, by topic and partition.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn moving(&self) -> Result<Vec<Moving>> {
        let request = ListPartitionReassignmentsRequest::default()
            .with_timeout_ms(millis(self.cluster().config.request_timeout))
            .with_topics(None);
        let answer =
            self.retry(async || self.cluster().controller().await?.call(&request).await).await?;
        let message = answer.error_message.as_deref();
        Error::check(answer.error_code, message, || "moves under way")?;
        let ids = |brokers: &[kafka_protocol::messages::BrokerId]| {
            brokers.iter().map(|broker| BrokerId(broker.0)).collect()
        };
        let of_topic = answer.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| Moving {
                topic: topic.name.to_string(),
                partition: partition.partition_index,
                to: target(partition),
                adding: ids(&partition.adding_replicas),
                removing: ids(&partition.removing_replicas),
            })
        });
        Ok(of_topic.collect())
    }

    /// Gives every partition back to its preferred leader, where that is alive and in sync.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn elect_preferred_leaders(&self) -> Result<()> {
        let request = ElectLeadersRequest::default()
            .with_topic_partitions(None)
            .with_timeout_ms(millis(self.cluster().config.request_timeout));
        let answer =
            self.retry(async || self.cluster().controller().await?.call(&request).await).await?;
        Error::check(answer.error_code, None, || "electing leaders")
    }

    /// Marks a broker as being emptied, or not any more: its config `jangbu.draining`. It gets no new replicas then and hands
    /// over what it leads; what it holds stays until it is moved.
    ///
    /// # Errors
    /// [`Error::Broker`] with the reason.
    pub async fn set_draining(&self, broker: BrokerId, draining: bool) -> Result<()> {
        let config = AlterableConfig::default()
            .with_name(StrBytes::from_static_str("jangbu.draining"))
            .with_config_operation(SET)
            .with_value(Some(StrBytes::from_string(draining.to_string())));
        let resource = AlterConfigsResource::default()
            .with_resource_type(RESOURCE_BROKER)
            .with_resource_name(StrBytes::from_string(broker.0.to_string()))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        self.retry(async || {
            let answer = self.cluster().controller().await?.call(&request).await?;
            answer.responses.iter().try_for_each(|resource| {
                let message = resource.error_message.as_deref();
                Error::check(resource.error_code, message, || format!("broker {}", broker.0))
            })
        })
        .await
    }

    /// Takes a broker that holds nothing and is stopped out of the cluster. Its number is not used again.
    ///
    /// # Errors
    /// [`Error::Broker`] with the reason.
    pub async fn remove_broker(&self, broker: BrokerId) -> Result<()> {
        let request = UnregisterBrokerRequest::default().with_broker_id(broker.0.into());
        self.retry(async || {
            let answer = self.cluster().controller().await?.call(&request).await?;
            let message = answer.error_message.as_deref();
            Error::check(answer.error_code, message, || format!("removing broker {}", broker.0))
        })
        .await
    }
}
