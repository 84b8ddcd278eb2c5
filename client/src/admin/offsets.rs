//! What groups have committed: reading, setting and forgetting it; and the offsets of many partitions at once.
//!
//! Not here: the groups themselves (`groups.rs`).

use std::collections::BTreeMap;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request as commit;
use kafka_protocol::messages::offset_delete_request as delete;
use kafka_protocol::messages::{
    ListOffsetsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::groups::group_id;
use crate::client::topic_name;
use crate::cluster::{BrokerId, Scope};
use crate::error::About;
use crate::{Client, Error, ErrorCode, Position, Result, TopicPartition};

/// What a group has committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the next record to be read.
    pub offset: i64,
    /// What the member that committed wanted kept beside it.
    pub metadata: String,
}

/// The generation of a commit from outside the group, which is taken only while nobody is in it.
const OUTSIDE: i32 = -1;
const UNKNOWN_EPOCH: i32 = -1;

impl Client {
    /// What a group has committed; nothing for one that there is not.
    ///
    /// # Errors
    /// Those of the connection, and the code of a coordinator that refuses.
    pub async fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>> {
        let request =
            OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(None);
        let what = || About::from(format!("offsets of group {group}")).group(group);
        let answer = self
            .retry(async || {
                let answer = self.coordinator(group).await?.1.call(&request).await?;
                Error::check(answer.error_code, None, what).map(|()| answer)
            })
            .await?;
        let mut committed = BTreeMap::new();
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let what = || commit_of(group, &topic.name, partition.partition_index);
                Error::check(partition.error_code, None, what)?;
                if partition.committed_offset < 0 {
                    continue;
                }
                let at = TopicPartition::new(topic.name.to_string(), partition.partition_index);
                let metadata = partition.metadata.as_ref().map(ToString::to_string);
                let metadata = metadata.unwrap_or_default();
                let offset = partition.committed_offset;
                committed.insert(at, Committed { offset, metadata });
            }
        }
        Ok(committed)
    }

    /// Commits offsets for a group in which nobody is; one that there is not comes to be.
    ///
    /// # Errors
    /// [`Error::Broker`] with `UnknownMemberId` while somebody is in the group, and the reason if a partition is refused;
    /// others may have been committed.
    pub async fn commit_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<()> {
        let mut topics: Vec<commit::OffsetCommitRequestTopic> = Vec::new();
        for (at, offset) in offsets {
            let partition = commit::OffsetCommitRequestPartition::default()
                .with_partition_index(at.partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(UNKNOWN_EPOCH)
                .with_committed_metadata(Some(StrBytes::default()));
            match topics.last_mut().filter(|topic| *topic.name == *at.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(
                    commit::OffsetCommitRequestTopic::default()
                        .with_name(topic_name(&at.topic))
                        .with_partitions(vec![partition]),
                ),
            }
        }
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(OUTSIDE)
            .with_topics(topics);
        self.retry(async || {
            let answer = self.coordinator(group).await?.1.call(&request).await?;
            answer.topics.iter().try_for_each(|topic| {
                topic.partitions.iter().try_for_each(|partition| {
                    let what = || commit_of(group, &topic.name, partition.partition_index);
                    Error::check(partition.error_code, None, what)
                })
            })
        })
        .await
    }

    /// Has a group forget what it has committed of these partitions.
    ///
    /// # Errors
    /// [`Error::Broker`] with `GroupIdNotFound`, or `GroupSubscribedToTopic` while a member reads the topic.
    pub async fn delete_offsets(&self, group: &str, of: &[TopicPartition]) -> Result<()> {
        let mut topics: Vec<delete::OffsetDeleteRequestTopic> = Vec::new();
        for at in of {
            let partition =
                delete::OffsetDeleteRequestPartition::default().with_partition_index(at.partition);
            match topics.iter_mut().find(|topic| *topic.name == *at.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(
                    delete::OffsetDeleteRequestTopic::default()
                        .with_name(topic_name(&at.topic))
                        .with_partitions(vec![partition]),
                ),
            }
        }
        let request =
            OffsetDeleteRequest::default().with_group_id(group_id(group)).with_topics(topics);
        self.retry(async || {
            let answer = self.coordinator(group).await?.1.call(&request).await?;
            Error::check(answer.error_code, None, || {
                About::from(format!("offsets of group {group}")).group(group)
            })?;
            answer.topics.iter().try_for_each(|topic| {
                topic.partitions.iter().try_for_each(|partition| {
                    let what = || commit_of(group, &topic.name, partition.partition_index);
                    Error::check(partition.error_code, None, what)
                })
            })
        })
        .await
    }

    /// The offsets at a position of many partitions, with one request to each leader. A partition that there is not, or that
    /// has no leader now, is left out. For a timestamp after every record it is the end offset.
    ///
    /// # Errors
    /// Those of the connection, and the code of a leader that refuses.
    pub async fn offsets(
        &self,
        of: &[TopicPartition],
        at: Position,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let mut found = self.retry(async || self.offsets_once(of, at).await).await?;
        let late: Vec<_> =
            found.iter().filter(|(_, offset)| **offset < 0).map(|(at, _)| at.clone()).collect();
        if !late.is_empty() && at != Position::Latest {
            found.extend(
                self.retry(async || self.offsets_once(&late, Position::Latest).await).await?,
            );
        }
        Ok(found)
    }

    async fn offsets_once(
        &self,
        of: &[TopicPartition],
        at: Position,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.cluster().refresh(Scope::All).await?;
        let mut by_leader: BTreeMap<BrokerId, Vec<&TopicPartition>> = BTreeMap::new();
        for wanted in of {
            if let Some(leader) = self.cluster().leader(&wanted.topic, wanted.partition) {
                by_leader.entry(leader).or_default().push(wanted);
            }
        }
        let mut found = BTreeMap::new();
        for (leader, wanted) in by_leader {
            let connection = self.cluster().connection(leader).await?;
            let answer = connection.call(&list_request(&wanted, at)).await?;
            for topic in &answer.topics {
                for partition in &topic.partitions {
                    let at = TopicPartition::new(topic.name.to_string(), partition.partition_index);
                    match ErrorCode::try_from_code(partition.error_code) {
                        // It was deleted just now.
                        Some(ErrorCode::UnknownTopicOrPartition) => {}
                        _ => {
                            let what = || {
                                About::from(format!("offsets of {at}"))
                                    .place(&at.topic, at.partition)
                            };
                            Error::check(partition.error_code, None, what)?;
                            found.insert(at, partition.offset);
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

fn commit_of(group: &str, topic: &str, partition: i32) -> About {
    let what = format!("offset of group {group} in {topic}-{partition}");
    About::from(what).place(topic, partition).group(group)
}

fn list_request(wanted: &[&TopicPartition], at: Position) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for wanted in wanted {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(wanted.partition)
            .with_current_leader_epoch(UNKNOWN_EPOCH)
            .with_timestamp(at.timestamp());
        topics.entry(&wanted.topic).or_default().push(partition);
    }
    let topic = |(name, partitions): (&str, Vec<ListOffsetsPartition>)| {
        ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    };
    ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(topics.into_iter().map(topic).collect())
}
