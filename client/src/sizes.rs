//! How much space topics take, as the brokers that hold them tell (DescribeLogDirs).

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::DescribeLogDirsRequest;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsPartition;

use crate::cluster::BrokerId;
use crate::{Client, Error, Result};

/// A jangbu broker's own tagged field of a partition: the bytes it takes until its space comes back.
const TAG_STORED_BYTES: i32 = 27_234;
/// Another one: for how many seconds the partition's move makes no headway, as its leader tells.
const TAG_STALLED_SECONDS: i32 = 27_235;

/// The space a topic takes, over all its partitions and copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicSize {
    /// Partitions and copies measured.
    pub partitions: usize,
    /// Bytes of batches that can be read.
    pub live_bytes: u64,
    /// Bytes of batches on disk, also of those that wait to be freed.
    pub stored_bytes: u64,
}

/// What a broker has of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplicaSize {
    /// Bytes of batches that can be read.
    pub bytes: u64,
    /// For how many seconds the partition's move makes no headway, if it leads it and that is long.
    pub stalled_seconds: Option<u64>,
}

impl Client {
    /// The space every topic takes, by name, on the brokers that are there. Of a broker that is not jangbu `stored_bytes` is `live_bytes`.
    ///
    /// # Errors
    /// Those of the connection, and the code of a broker that refuses.
    pub async fn topic_sizes(&self) -> Result<BTreeMap<String, TopicSize>> {
        let topics = self.list_topics().await?;
        let replicas = topics.iter().flat_map(|topic| &topic.partitions).flat_map(|p| &p.replicas);
        let brokers: BTreeSet<_> = replicas.copied().collect();
        let mut sizes: BTreeMap<String, TopicSize> =
            topics.iter().map(|topic| (topic.name.clone(), TopicSize::default())).collect();
        for broker in brokers {
            let request = DescribeLogDirsRequest::default().with_topics(None);
            if !self.cluster().lists(broker) {
                continue;
            }
            let answer = self.cluster().connection(broker).await?.call(&request).await?;
            let place = || format!("sizes on broker {}", broker.0);
            Error::check(answer.error_code, None, place)?;
            for dir in answer.results {
                Error::check(dir.error_code, None, place)?;
                for topic in dir.topics {
                    let size = sizes.entry(topic.name.to_string()).or_default();
                    topic.partitions.iter().for_each(|partition| add(size, partition));
                }
            }
        }
        Ok(sizes)
    }

    /// What a broker has of each partition of these topics.
    ///
    /// # Errors
    /// Those of the connection, and the code of a broker that refuses.
    pub async fn replica_sizes(
        &self,
        broker: BrokerId,
        topics: &BTreeSet<String>,
    ) -> Result<BTreeMap<(String, i32), ReplicaSize>> {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let answer = self.cluster().connection(broker).await?.call(&request).await?;
        let place = || format!("sizes on broker {}", broker.0);
        Error::check(answer.error_code, None, place)?;
        let mut sizes = BTreeMap::new();
        for topic in answer.results.iter().flat_map(|dir| &dir.topics) {
            let name = topic.name.to_string();
            for partition in topic.partitions.iter().filter(|_| topics.contains(&name)) {
                let bytes = u64::try_from(partition.partition_size).unwrap_or(0);
                let stalled_seconds = tagged(partition, TAG_STALLED_SECONDS);
                let size = ReplicaSize { bytes, stalled_seconds };
                sizes.insert((name.clone(), partition.partition_index), size);
            }
        }
        Ok(sizes)
    }
}

/// The number of a tagged field.
fn tagged(partition: &DescribeLogDirsPartition, tag: i32) -> Option<u64> {
    let bytes = partition.unknown_tagged_fields.get(&tag)?;
    Some(u64::from_be_bytes(bytes[..].try_into().ok()?))
}

fn add(size: &mut TopicSize, partition: &DescribeLogDirsPartition) {
    let live = u64::try_from(partition.partition_size).unwrap_or(0);
    let stored = tagged(partition, TAG_STORED_BYTES);
    size.partitions += 1;
    size.live_bytes += live;
    size.stored_bytes += stored.unwrap_or(live);
}
