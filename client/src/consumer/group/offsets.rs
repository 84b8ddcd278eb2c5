//! What a group has committed: written and read at its coordinator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

use super::coordinator::Coordinator;
use crate::client::topic_name;
use crate::{Error, Result, TopicPartition};

/// Who commits: a member in a generation, or nobody (-1), as long as the group has no members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) member: String,
    pub(crate) generation: i32,
    pub(crate) instance: Option<String>,
}

impl Identity {
    pub(crate) fn nobody(instance: Option<String>) -> Self {
        Self { member: String::new(), generation: -1, instance }
    }
}

/// Commits offsets of a group and reads them. Clones are the same member.
#[derive(Debug, Clone)]
pub struct Committer {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) identity: Arc<Mutex<Identity>>,
}

impl Committer {
    pub(crate) fn new(coordinator: Arc<Coordinator>, instance: Option<String>) -> Self {
        let identity = Arc::new(Mutex::new(Identity::nobody(instance)));
        Self { coordinator, identity }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity.lock().expect("no code panics while it holds this lock").clone()
    }

    pub(crate) fn become_member(&self, identity: Identity) {
        *self.identity.lock().expect("no code panics while it holds this lock") = identity;
    }

    /// Commits the offsets of the next records to be read.
    ///
    /// # Errors
    /// [`Error::Broker`], for instance with `UnknownMemberId`, `IllegalGeneration` or `FencedMemberEpoch` when the group has
    /// gone on without this member; those of the connection when the request timeout is over.
    pub async fn commit(&self, offsets: &BTreeMap<TopicPartition, i64>) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        self.retry(is_worth_it, async || self.commit_once(offsets).await).await
    }

    /// The same, but does not wait for a topic that may be gone for good.
    pub(crate) async fn commit_of_what_exists(
        &self,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let is_worth_it = |error: &Error| {
            is_worth_it(error) && error.code() != Some(crate::ErrorCode::UnknownTopicOrPartition)
        };
        self.retry(is_worth_it, async || self.commit_once(offsets).await).await
    }

    async fn commit_once(&self, offsets: &BTreeMap<TopicPartition, i64>) -> Result<()> {
        let identity = self.identity();
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (place, offset) in offsets {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(place.partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(StrBytes::default()));
            match topics.last_mut().filter(|last| last.name.as_str() == &*place.topic) {
                Some(last) => last.partitions.push(partition),
                None => topics.push(
                    OffsetCommitRequestTopic::default()
                        .with_name(topic_name(&place.topic))
                        .with_partitions(vec![partition]),
                ),
            }
        }
        let request = OffsetCommitRequest::default()
            .with_group_id(self.coordinator.group_id())
            .with_member_id(StrBytes::from_string(identity.member))
            .with_group_instance_id(identity.instance.map(StrBytes::from_string))
            .with_generation_id_or_member_epoch(identity.generation)
            .with_topics(topics);
        let answer = self.coordinator.call(&request, Duration::ZERO).await?;
        answer.topics.iter().try_for_each(|topic| {
            topic.partitions.iter().try_for_each(|partition| {
                let place = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                let offset = offsets.get(&place).copied();
                let (code, place) = (partition.error_code, (&*place.topic, place.partition));
                self.coordinator.check_place(code, "commit of", place, offset)
            })
        })
    }

    /// What the group has committed of these partitions; those without a commit are missing.
    ///
    /// # Errors
    /// As [`Committer::commit`].
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.retry(is_worth_it, async || self.committed_once(partitions).await).await
    }

    async fn committed_once(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for place in partitions {
            by_topic.entry(&place.topic).or_default().push(place.partition);
        }
        let topics = by_topic.into_iter().map(|(topic, partitions)| {
            let name = topic_name(topic);
            OffsetFetchRequestTopic::default().with_name(name).with_partition_indexes(partitions)
        });
        let request = OffsetFetchRequest::default()
            .with_group_id(self.coordinator.group_id())
            .with_topics(Some(topics.collect()));
        let answer = self.coordinator.call(&request, Duration::ZERO).await?;
        self.coordinator.check(answer.error_code, "offsets")?;
        let mut found = BTreeMap::new();
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let (code, place) =
                    (partition.error_code, (&**topic.name, partition.partition_index));
                self.coordinator.check_place(code, "offset of", place, None)?;
                let place = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                if partition.committed_offset >= 0 {
                    found.insert(place, partition.committed_offset);
                }
            }
        }
        Ok(found)
    }

    /// Tries until it works, a refusal is final, or the request timeout has passed.
    async fn retry<T, F>(
        &self,
        is_worth_it: impl Fn(&Error) -> bool,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let config = &self.coordinator.cluster.config;
        let deadline = Instant::now() + config.request_timeout;
        let mut failures = 0;
        loop {
            let error = match attempt().await {
                Err(error) if is_worth_it(&error) => error,
                done => return done,
            };
            self.coordinator.doubt(&error);
            failures += 1;
            let pause = config.backoff(failures);
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether trying again can help: also when the epoch has gone on, which the next heartbeat's answer tells.
fn is_worth_it(error: &Error) -> bool {
    let is_stale = error.code() == Some(crate::ErrorCode::StaleMemberEpoch);
    is_stale || (error.is_retriable() && !is_rebalance(error))
}

/// Whether the group is between two generations, in which trying again is no help.
pub(crate) fn is_rebalance(error: &Error) -> bool {
    error.code() == Some(crate::ErrorCode::RebalanceInProgress)
}
