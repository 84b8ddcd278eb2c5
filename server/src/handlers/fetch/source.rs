//! Where one partition of a fetch is read: here, where this replica leads or the client is nearer than to the leader
//! (KIP-392), or not here.
//!
//! A consumer that names its rack is sent by the leader to a replica in that rack, and reads there what this replica
//! knows to be committed. Only a client of this node's rack reads from a follower: any other has an old leader in mind.

use std::sync::Arc;

use bytes::Bytes;
use jangbu_engine::{Entry, Error as LogError, Offset};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_response::{EpochEndOffset, PartitionData};

use super::{Found, Plan, failed, failed_here, partition_bytes_max};
use crate::broker::{Broker, Lookup};
use crate::fetch_sessions::{PartitionFetch, Topic};
use crate::partition::{Error, Partition};

/// A replica that lacks more entries than this is not read from: its reader would wait for it.
const LAG_MAX: u64 = 1000;

/// Where one partition of the fetch is read from.
pub(super) enum Source {
    Here(Arc<Partition>, Role),
    Error(ResponseError),
}

/// As what this replica answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Leader,
    /// For a client in this node's rack.
    Follower,
    /// It leads, and names another broker that is in the client's rack.
    Guide(i32),
}

impl Source {
    pub(super) fn find(broker: &Broker, wanted: &PartitionFetch, rack: &str) -> Self {
        let (topic, missing) = match &wanted.topic {
            Topic::Name(name) => (broker.topic(name), ResponseError::UnknownTopicOrPartition),
            Topic::Id(id) => (broker.topic_by_id(*id), ResponseError::UnknownTopicId),
        };
        let Some(topic) = topic else { return Self::Error(missing) };
        match broker.partition(&topic, wanted.partition) {
            Lookup::Here(partition) if !broker.hears_majority(&partition) && partition.leads() => {
                Self::Error(ResponseError::NotLeaderOrFollower)
            }
            Lookup::Here(partition) => {
                let role = role(broker, &partition, wanted, rack);
                Self::Here(partition, role)
            }
            Lookup::Fenced => Self::Error(ResponseError::KafkaStorageError),
            Lookup::Elsewhere => Self::Error(ResponseError::NotLeaderOrFollower),
            Lookup::Unknown => Self::Error(ResponseError::UnknownTopicOrPartition),
        }
    }

    pub(super) async fn read(&self, fetch: &PartitionFetch, plan: Plan) -> Found {
        match self {
            Self::Error(code) => failed(fetch, *code).into(),
            Self::Here(partition, role) => match read(partition, *role, fetch, plan).await {
                Ok(found) => found,
                Err(error) => failed_here(fetch, partition, &error).into(),
            },
        }
    }
}

fn role(broker: &Broker, partition: &Partition, wanted: &PartitionFetch, rack: &str) -> Role {
    if rack.is_empty() {
        return Role::Leader;
    }
    let own = broker.config.rack.as_str();
    match (rack == own, partition.leads()) {
        (true, false) if broker.hears_leader(partition) => Role::Follower,
        (false, true) => nearer(broker, partition, wanted, rack).map_or(Role::Leader, Role::Guide),
        _ => Role::Leader,
    }
}

/// The broker in the client's rack that has most of the partition, if any has nearly all of it.
fn nearer(
    broker: &Broker,
    partition: &Partition,
    wanted: &PartitionFetch,
    rack: &str,
) -> Option<i32> {
    let bounds = partition.bounds();
    if !(bounds.log_start.0..=bounds.high_watermark.0).contains(&wanted.fetch_offset) {
        return None;
    }
    let end = partition.last_index()?;
    let voters = partition.members().voters;
    let replication = partition.replication();
    let image = broker.controller.image();
    let is_near = |id: i32| image.brokers.get(&id).is_some_and(|b| !b.dead && b.rack == rack);
    let near = replication.iter().filter_map(|(replica, matching)| {
        let lag = end.0.saturating_sub(matching.as_ref()?.0);
        let may = lag <= LAG_MAX && voters.contains(replica) && is_near(replica.broker());
        may.then_some((lag, replica.broker()))
    });
    near.min().map(|(_, broker)| broker)
}

async fn read(
    partition: &Partition,
    role: Role,
    fetch: &PartitionFetch,
    plan: Plan,
) -> Result<Found, Error> {
    match role {
        Role::Leader | Role::Guide(_) => partition.check_leader(fetch.current_leader_epoch)?,
        Role::Follower => partition.check_follower(fetch.current_leader_epoch)?,
    }
    let bounds = partition.bounds();
    let data = PartitionData::default()
        .with_partition_index(fetch.partition)
        .with_high_watermark(bounds.high_watermark.0)
        .with_last_stable_offset(bounds.high_watermark.0)
        .with_log_start_offset(bounds.log_start.0)
        .with_aborted_transactions(None)
        .with_records(Some(Bytes::new()));
    if let Role::Guide(broker) = role {
        return Ok(data.with_preferred_read_replica(broker.into()).into());
    }
    // A follower may not have the leader's latest epochs yet.
    if role == Role::Leader
        && let Some(diverging) = diverging(partition, fetch)
    {
        return Ok(data.with_diverging_epoch(diverging).into());
    }
    let from = Offset(fetch.fetch_offset);
    // What a follower has not yet heard to be committed may have been read from the leader.
    let end = if role == Role::Follower { partition.end() } else { bounds.high_watermark };
    if from < bounds.log_start || from > end.max(bounds.high_watermark) {
        let (start, end) = (bounds.log_start, bounds.high_watermark);
        let partition = partition.id();
        return Err(LogError::OffsetOutOfRange { partition, requested: from, start, end }.into());
    }
    let bytes_max = partition_bytes_max(fetch).min(plan.left);
    if from >= bounds.high_watermark || (bytes_max == 0 && plan.begun) {
        return Ok(data.into());
    }
    let entries = partition.read(from, bytes_max).await?;
    let end = entries.last().map(Entry::next_offset);
    Ok(Found { data, batches: entries.into_iter().map(|entry| entry.payload).collect(), end })
}

/// Whether what the client read last was replaced by another leader's records (KIP-320): then where its
/// log and ours part.
fn diverging(partition: &Partition, fetch: &PartitionFetch) -> Option<EpochEndOffset> {
    if fetch.last_fetched_epoch < 0 {
        return None;
    }
    let end = partition.epoch_end(fetch.last_fetched_epoch)?;
    let parted = end.epoch < fetch.last_fetched_epoch || end.end_offset.0 < fetch.fetch_offset;
    parted
        .then(|| EpochEndOffset::default().with_epoch(end.epoch).with_end_offset(end.end_offset.0))
}
