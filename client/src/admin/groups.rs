//! Consumer groups: which there are, who is in one, and removing it.
//!
//! A group of the consumer protocol (KIP-848) is described by ConsumerGroupDescribe, one of the classic protocol by
//! DescribeGroups. Which one it is only its coordinator knows, so the newer request is tried first, as Kafka's own tools do.
//!
//! Not here: what a group has committed (`offsets.rs`).

use std::sync::Arc;

use kafka_protocol::messages::consumer_group_describe_response as consumer;
use kafka_protocol::messages::describe_groups_response as classic;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, GroupId, ListGroupsRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::TopicPartition;
use crate::cluster::BrokerId;
use crate::connection::Connection;
use crate::consumer::{decode_assignment, flat};
use crate::error::About;
use crate::{Client, Error, ErrorCode, Result};

/// A group as the list of groups has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub id: String,
    /// `classic` or `consumer`; `None` from brokers before Kafka 3.8.
    pub kind: Option<String>,
    /// `Stable`, `Empty` and so on; `None` from brokers before Kafka 2.6.
    pub state: Option<String>,
    /// What its members do together, `consumer` for consumers; empty for a group that only commits.
    pub protocol_type: String,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub id: String,
    /// `classic` or `consumer`.
    pub kind: &'static str,
    /// `Stable`, `Empty` and so on. A group that there is not is `Dead`.
    pub state: String,
    /// How partitions are shared out; empty while that is not settled.
    pub assignor: String,
    /// Its epoch, of groups of the consumer protocol.
    pub epoch: Option<i32>,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
    /// Its members, by name.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The name the coordinator gave it, or that it chose.
    pub id: String,
    /// Its lasting name, if it is a static member (KIP-345).
    pub instance: Option<String>,
    /// The name its client gives itself.
    pub client_id: String,
    /// Where its client is.
    pub host: String,
    /// The partitions it reads.
    pub assigned: Vec<TopicPartition>,
}

impl GroupDescription {
    /// Whether somebody is in it, so that its offsets are not to be changed from outside.
    pub fn is_live(&self) -> bool {
        !matches!(self.state.as_str(), "Empty" | "Dead")
    }

    /// Whether there is no such group.
    pub fn is_missing(&self) -> bool {
        self.state == "Dead"
    }
}

/// FindCoordinator: the key is a group.
const KEY_GROUP: i8 = 0;

impl Client {
    /// All groups, by name. Each broker tells of those that it coordinates.
    ///
    /// # Errors
    /// Those of the connection, and the code of a broker that refuses.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        let brokers = self.describe_cluster().await?.brokers;
        let mut groups = Vec::new();
        for broker in brokers.iter().filter(|broker| broker.alive) {
            groups.extend(self.retry(async || self.groups_of(broker.id).await).await?);
        }
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        // A coordinator may have changed in between.
        groups.dedup_by(|a, b| a.id == b.id);
        Ok(groups)
    }

    async fn groups_of(&self, broker: BrokerId) -> Result<Vec<GroupListing>> {
        let connection = self.cluster().connection(broker).await?;
        let answer = connection.call(&ListGroupsRequest::default()).await?;
        Error::check(answer.error_code, None, || format!("groups of broker {}", broker.0))?;
        let told = |text: &StrBytes| (!text.is_empty()).then(|| text.to_string());
        let listing =
            |group: &kafka_protocol::messages::list_groups_response::ListedGroup| GroupListing {
                id: group.group_id.to_string(),
                kind: told(&group.group_type),
                state: told(&group.group_state),
                protocol_type: group.protocol_type.to_string(),
                coordinator: broker,
            };
        Ok(answer.groups.iter().map(listing).collect())
    }

    /// A group and its members. One that there is not is [`GroupDescription::is_missing`].
    ///
    /// # Errors
    /// Those of the connection, and the code of a coordinator that refuses.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription> {
        self.retry(async || {
            let (broker, connection) = self.coordinator(group).await?;
            if let Some(found) = describe_consumer(&connection, broker, group).await? {
                return Ok(found);
            }
            describe_classic(&connection, broker, group).await
        })
        .await
    }

    /// Deletes a group with all that it has committed.
    ///
    /// # Errors
    /// [`Error::Broker`] with `NonEmptyGroup` or `GroupIdNotFound`.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
        self.retry(async || {
            let (_, connection) = self.coordinator(group).await?;
            let answer = connection.call(&request).await?;
            answer.results.iter().try_for_each(|deleted| {
                Error::check(deleted.error_code, None, || {
                    About::from(format!("delete group {group}")).group(group)
                })
            })
        })
        .await
    }

    /// The broker that coordinates a group, as any broker tells; one attempt.
    pub(crate) async fn coordinator(&self, group: &str) -> Result<(BrokerId, Arc<Connection>)> {
        let request = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_string(group.to_owned()))
            .with_key_type(KEY_GROUP);
        let answer = self.cluster().any().await?.call(&request).await?;
        let message = answer.error_message.as_deref();
        Error::check(answer.error_code, message, || {
            About::from(format!("coordinator of group {group}")).group(group)
        })?;
        let broker = BrokerId(answer.node_id.0);
        Ok((broker, self.cluster().connection(broker).await?))
    }
}

pub(super) fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

/// The group if the coordinator knows it as one of the consumer protocol.
async fn describe_consumer(
    connection: &Connection,
    broker: BrokerId,
    group: &str,
) -> Result<Option<GroupDescription>> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
    let answer = match connection.call(&request).await {
        Err(Error::Unsupported { .. }) => return Ok(None),
        other => other?,
    };
    let Some(found) = answer.groups.into_iter().next() else { return Ok(None) };
    let code = ErrorCode::try_from_code(found.error_code);
    if matches!(code, Some(ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion)) {
        return Ok(None);
    }
    let message = found.error_message.as_deref();
    Error::check(found.error_code, message, || about_group(group))?;
    Ok(Some(GroupDescription {
        id: group.to_owned(),
        kind: "consumer",
        state: found.group_state.to_string(),
        assignor: found.assignor_name.to_string(),
        epoch: Some(found.group_epoch),
        coordinator: broker,
        members: by_name(found.members.iter().map(consumer_member)),
    }))
}

fn consumer_member(member: &consumer::Member) -> GroupMember {
    let assigned = member.assignment.topic_partitions.iter().flat_map(|topic| {
        let partition =
            |partition: &i32| TopicPartition::new(topic.topic_name.to_string(), *partition);
        topic.partitions.iter().map(partition)
    });
    GroupMember {
        id: member.member_id.to_string(),
        instance: member.instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        assigned: assigned.collect(),
    }
}

async fn describe_classic(
    connection: &Connection,
    broker: BrokerId,
    group: &str,
) -> Result<GroupDescription> {
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    let answer = connection.call(&request).await?;
    let found = answer.groups.into_iter().next();
    let found = found.ok_or_else(|| Error::malformed("a response", "it has no group"))?;
    let code = ErrorCode::try_from_code(found.error_code);
    if code != Some(ErrorCode::GroupIdNotFound) {
        let message = found.error_message.as_deref();
        Error::check(found.error_code, message, || about_group(group))?;
    }
    Ok(GroupDescription {
        id: group.to_owned(),
        kind: "classic",
        state: if code.is_some() { "Dead".to_owned() } else { found.group_state.to_string() },
        assignor: found.protocol_data.to_string(),
        epoch: None,
        coordinator: broker,
        members: by_name(found.members.iter().map(classic_member)),
    })
}

fn classic_member(member: &classic::DescribedGroupMember) -> GroupMember {
    // Groups of other kinds have formats of their own.
    let assigned = decode_assignment(&member.member_assignment).unwrap_or_default();
    GroupMember {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.trim_start_matches('/').to_owned(),
        assigned: flat(&assigned).into_iter().collect(),
    }
}

fn about_group(group: &str) -> About {
    About::from(format!("group {group}")).group(group)
}

fn by_name(members: impl Iterator<Item = GroupMember>) -> Vec<GroupMember> {
    let mut members: Vec<GroupMember> = members.collect();
    members.sort_by(|a, b| (&a.client_id, &a.id).cmp(&(&b.client_id, &b.id)));
    members
}
