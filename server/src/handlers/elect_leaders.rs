//! ElectLeaders (43), versions 0 to 2: lets preferred replicas lead (KIP-183, KIP-460).
//!
//! An election that may lose records (type 1) never happens: a Raft group without a leader has no majority, and
//! elects one by itself as soon as it has.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::topics::Refusal;
use crate::broker::Broker;
use crate::controller::{Topic, TopicPartition};
use crate::dispatch::Call;
use crate::health::{self, Preference};
use crate::peer::{Lane, Request, Response};
use crate::proto::peer::Prefer;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// The first version that tells which kind of election.
const VERSION_TYPES: i16 = 1;
/// Partitions worked on at the same time.
const PARALLEL_MAX: usize = 64;
/// How long the leader of a partition may take at most.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let kind = if call.version >= VERSION_TYPES { request.election_type } else { PREFERRED };
    if !matches!(kind, PREFERRED | UNCLEAN) {
        return ElectLeadersResponse::default()
            .with_error_code(ResponseError::InvalidRequest.code());
    }
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let timeout = timeout.min(TIMEOUT);
    // Of all partitions, only those with something to tell are told.
    let all = request.topic_partitions.is_none();
    let asked: Vec<(String, Vec<i32>)> = match request.topic_partitions {
        Some(topics) => topics.into_iter().map(|t| (t.topic.to_string(), t.partitions)).collect(),
        None => broker.controller.image().topics().map(|t| (t.name.clone(), indexes(t))).collect(),
    };
    let mut results = Vec::with_capacity(asked.len());
    for (name, partitions) in asked {
        let topic = broker.topic(&name);
        let electing = partitions.into_iter().map(|index| {
            let topic = topic.clone();
            let name = &name;
            async move {
                let elected = elect(broker, name, topic, index, kind, timeout).await;
                (index, elected)
            }
        });
        let elected: Vec<_> = stream::iter(electing).buffered(PARALLEL_MAX).collect().await;
        let needed = |result: &Result<(), Refusal>| {
            !all || !matches!(result, Err(refusal) if refusal.code == ResponseError::ElectionNotNeeded)
        };
        let told = elected.into_iter().filter(|(_, result)| needed(result)).map(result);
        let told: Vec<PartitionResult> = told.collect();
        if !told.is_empty() {
            let entry = ReplicaElectionResult::default();
            let name = TopicName(StrBytes::from_string(name));
            results.push(entry.with_topic(name).with_partition_result(told));
        }
    }
    ElectLeadersResponse::default().with_replica_election_results(results)
}

fn indexes(topic: &Arc<Topic>) -> Vec<i32> {
    (0..topic.partitions.len()).filter_map(|index| i32::try_from(index).ok()).collect()
}

fn result((index, elected): (i32, Result<(), Refusal>)) -> PartitionResult {
    let entry = PartitionResult::default().with_partition_id(index);
    match elected {
        Ok(()) => entry.with_error_message(None),
        Err(refusal) => entry
            .with_error_code(refusal.code.code())
            .with_error_message(Some(StrBytes::from_string(refusal.message))),
    }
}

async fn elect(
    broker: &Broker,
    name: &str,
    topic: Option<Arc<Topic>>,
    index: i32,
    kind: i8,
    timeout: Duration,
) -> Result<(), Refusal> {
    let missing = |what: String| Refusal::new(ResponseError::UnknownTopicOrPartition, what);
    let topic = topic.ok_or_else(|| missing(format!("No such topic as {name}")))?;
    let placed = usize::try_from(index).ok().and_then(|i| topic.partitions.get(i));
    let placed = placed.ok_or_else(|| missing(format!("No such partition as {name}-{index}")))?;
    let leader = broker.leader_of(placed.group);
    let not_needed = || {
        let text = "Leader election not needed for topic partition.";
        Refusal::new(ResponseError::ElectionNotNeeded, text)
    };
    match (kind, leader) {
        (UNCLEAN, Some(_)) => Err(not_needed()),
        (UNCLEAN, None) => {
            let text = "a majority of the replicas must be alive; the partition then elects a leader by itself";
            Err(Refusal::new(ResponseError::EligibleLeadersNotAvailable, text))
        }
        (_, Some(leader)) if placed.brokers.first() == Some(&leader.broker) => Err(not_needed()),
        (_, leader) => match prefer(broker, placed, leader.map(|l| l.broker), timeout).await {
            Preference::Held => Err(not_needed()),
            Preference::Given => Ok(()),
            Preference::Unavailable | Preference::NotLeader => {
                let text = "The preferred leader was not available.";
                Err(Refusal::new(ResponseError::PreferredLeaderNotAvailable, text))
            }
        },
    }
}

/// Asks whoever leads a partition to let the preferred replica lead.
async fn prefer(
    broker: &Broker,
    placed: &TopicPartition,
    leader: Option<i32>,
    timeout: Duration,
) -> Preference {
    let Some(leader) = leader else { return Preference::NotLeader };
    if leader == broker.id() {
        return health::prefer(broker, placed.group).await;
    }
    let request = Request::Prefer(Prefer { group: placed.group.0 });
    let answer = broker.peers.call(leader, Lane::Control, request, Vec::new(), timeout).await;
    match answer {
        Ok(Response::Preferred(preferred)) => preferred.result(),
        Ok(_) => Preference::NotLeader,
        Err(error) => {
            tracing::debug!(%error, partition = %placed.group, "the leader could not be asked to hand over");
            Preference::NotLeader
        }
    }
}
