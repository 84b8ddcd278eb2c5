//! Produce (0), versions 3 to 13: one batch per partition, each judged by itself.
//!
//! Two steps: [`begin`] checks the batches and proposes them, in the order of the connection's requests;
//! the answer comes once all of them are durable on a majority. acks=1 waits as long as acks=all: nothing
//! is acknowledged that a power cut could take back.
//!
//! ApiVersions says 0 as the smallest version, though requests below 3 are refused: librdkafka before
//! 2.11.1 turns compression off when it sees 3 (KAFKA-18659).

mod admit;
mod check;
mod compression;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use super::leaders::Leaders;
use super::metadata::rack;
use super::topics::Refusal;
use admit::Admitted;
use check::{Rejection, Rules};

use crate::broker::{Broker, Lookup, now_ms};
use crate::controller::{self, Topic};
use crate::dispatch::{Answer, Call, Refused, Response};
use crate::error::partition_code;
use crate::groups::topic::is_internal;
use crate::partition::{Appending, Partition};
use crate::quotas::{Kind, as_number, throttle_ms};

/// A topic is named by id from this version on (KIP-516).
const VERSION_TOPIC_IDS: i16 = 13;

/// One partition's batch, proposed or refused.
struct Begun {
    index: i32,
    outcome: Result<Proposed, Rejection>,
}

/// A batch on its way into its partition's log.
struct Proposed {
    partition: Arc<Partition>,
    appending: Appending,
    /// The time stamped on it, in a topic with LogAppendTime.
    append_time: Option<i64>,
}

/// One topic of the request with its partitions begun.
struct BegunTopic {
    topic: Option<Arc<Topic>>,
    response: TopicProduceResponse,
    partitions: Vec<Begun>,
}

/// Checks and proposes every batch; the answer follows when they are durable.
///
/// # Errors
/// [`Refused`] when the request does not decode.
pub(crate) async fn begin(broker: Arc<Broker>, call: Call) -> Result<Answer, Refused> {
    let request: ProduceRequest = call.decode()?;
    let acks = request.acks;
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let whole = check_request(&request);
    let quotas = broker.quotas_set();
    let bytes = as_number(call.body.len());
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        topics.push(begin_topic(&broker, call.version, acks, data, whole.as_ref()).await);
    }
    Ok(Answer::Later(Box::pin(async move {
        let response = finish(&broker, topics, timeout).await;
        let pause = quotas.map_or(Duration::ZERO, |table| {
            broker.quotas.charge(&table, Kind::Produce, call.client(), bytes)
        });
        if acks == 0 {
            return (!pause.is_zero()).then(|| Response::silent(pause));
        }
        let response = response.with_throttle_time_ms(throttle_ms(pause));
        // Encoding our own answer fails only on lengths that no request of bounded size leads to.
        let encoded = call.respond(&response).inspect_err(|error| tracing::error!(%error)).ok();
        encoded.map(|response| response.resting(pause))
    })))
}

/// What is wrong with the request as a whole; every partition is then answered with it.
fn check_request(request: &ProduceRequest) -> Option<Refusal> {
    if !matches!(request.acks, -1..=1) {
        return Some(Refusal::new(ResponseError::InvalidRequiredAcks, "acks must be 0, 1 or -1"));
    }
    if request.transactional_id.as_ref().is_some_and(|id| !id.is_empty()) {
        let text = "transactions are not supported yet";
        return Some(Refusal::new(ResponseError::InvalidTxnState, text));
    }
    None
}

async fn begin_topic(
    broker: &Broker,
    version: i16,
    acks: i16,
    data: TopicProduceData,
    whole: Option<&Refusal>,
) -> BegunTopic {
    let (topic, missing) = if version >= VERSION_TOPIC_IDS {
        (broker.topic_by_id(data.topic_id), ResponseError::UnknownTopicId)
    } else {
        (broker.topic(&data.name), ResponseError::UnknownTopicOrPartition)
    };
    let mut partitions = Vec::with_capacity(data.partition_data.len());
    for part in data.partition_data {
        let outcome = match (whole, &topic) {
            (Some(refusal), _) => Err(refusal.clone().into()),
            (None, None) => Err(Rejection::new(missing, "")),
            (None, Some(topic)) if is_internal(&topic.name) => {
                let text = format!("Cannot append to internal topic {}", topic.name);
                Err(Rejection::new(ResponseError::InvalidTopicException, text))
            }
            (None, Some(topic)) => {
                let records = part.records.unwrap_or_default();
                begin_partition(broker, topic, part.index, records, version, acks).await
            }
        };
        partitions.push(Begun { index: part.index, outcome });
    }
    let response =
        TopicProduceResponse::default().with_name(data.name).with_topic_id(data.topic_id);
    BegunTopic { topic, response, partitions }
}

async fn begin_partition(
    broker: &Broker,
    topic: &Topic,
    index: i32,
    records: Bytes,
    version: i16,
    acks: i16,
) -> Result<Proposed, Rejection> {
    let partition = match broker.partition(topic, index) {
        Lookup::Here(partition) => partition,
        Lookup::Fenced => return Err(Rejection::new(ResponseError::KafkaStorageError, "")),
        Lookup::Elsewhere => return Err(Rejection::new(ResponseError::NotLeaderOrFollower, "")),
        Lookup::Unknown => return Err(Rejection::new(ResponseError::UnknownTopicOrPartition, "")),
    };
    // Whoever does not lead says so instead.
    if acks == -1 && partition.leads() {
        check_in_sync(broker, topic, index)?;
    }
    let settings = &topic.settings;
    let rules = Rules { version, settings, now_ms: now_ms(), topic: &topic.name, index };
    let admitted = admit::admit(records, rules, &broker.recoding).await?;
    let Admitted { batch, header, append_time } = admitted;
    broker.metrics.produced(&header, batch.len());
    let full = |text| Rejection::new(ResponseError::KafkaStorageError, text);
    broker.disk.admit(batch.len()).map_err(full)?;
    let appending = partition.append(batch, &header).await;
    let appending = appending.map_err(|e| Rejection::new(partition_code(&e), e.to_string()))?;
    Ok(Proposed { partition, appending, append_time })
}

/// Whether as many replicas are in sync as the topic wants for acks=all.
fn check_in_sync(broker: &Broker, topic: &Topic, index: i32) -> Result<(), Rejection> {
    let wanted = usize::try_from(topic.settings.min_insync_replicas).unwrap_or(1);
    // There is one at least: this one.
    if wanted <= 1 {
        return Ok(());
    }
    let placed = usize::try_from(index).ok().and_then(|i| topic.partitions.get(i));
    let in_sync = placed.map_or(0, |placed| broker.in_sync_here(placed));
    if wanted <= in_sync {
        return Ok(());
    }
    let text = format!("min.insync.replicas is {wanted}, but {in_sync} replica(s) are in sync");
    Err(Rejection::new(ResponseError::NotEnoughReplicas, text))
}

async fn finish(broker: &Broker, topics: Vec<BegunTopic>, timeout: Duration) -> ProduceResponse {
    let deadline = tokio::time::Instant::now() + timeout;
    let mut responses = Vec::with_capacity(topics.len());
    let mut leaders = Leaders::default();
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for begun in topic.partitions {
            let mut response = finish_partition(begun, deadline).await;
            let code = response.error_code;
            if let Some(leader) = leaders.find(broker, topic.topic.as_deref(), response.index, code)
            {
                response.current_leader = LeaderIdAndEpoch::default()
                    .with_leader_id(leader.broker.into())
                    .with_leader_epoch(leader.epoch);
            }
            partitions.push(response);
        }
        responses.push(topic.response.with_partition_responses(partitions));
    }
    let endpoint = |broker: controller::Broker| {
        NodeEndpoint::default()
            .with_node_id(broker.id.into())
            .with_rack(rack(&broker))
            .with_port(i32::from(broker.port))
            .with_host(StrBytes::from_string(broker.host))
    };
    let endpoints = leaders.brokers(broker).into_iter().map(endpoint).collect();
    ProduceResponse::default().with_responses(responses).with_node_endpoints(endpoints)
}

async fn finish_partition(
    begun: Begun,
    deadline: tokio::time::Instant,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default()
        .with_index(begun.index)
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1);
    let Proposed { partition, appending, append_time } = match begun.outcome {
        Ok(proposed) => proposed,
        Err(rejection) => return refuse(response, rejection),
    };
    match tokio::time::timeout_at(deadline, appending.appended()).await {
        Ok(Ok(appended)) => response
            .with_base_offset(appended.offset.0)
            // A batch sent again has the time it was first stamped with.
            .with_log_append_time_ms(
                append_time.map_or(-1, |now| appended.known_timestamp.unwrap_or(now)),
            )
            .with_log_start_offset(partition.bounds().log_start.0),
        Ok(Err(error)) => {
            refuse(response, Rejection::new(partition_code(&error), error.to_string()))
        }
        Err(_) => {
            let text = "the batch was not durable on a majority in time; it may still become so";
            refuse(response, Rejection::new(ResponseError::RequestTimedOut, text))
        }
    }
}

fn refuse(response: PartitionProduceResponse, rejection: Rejection) -> PartitionProduceResponse {
    let Rejection { refusal, records } = rejection;
    let message = (!refusal.message.is_empty()).then(|| StrBytes::from_string(refusal.message));
    let record = |(index, text): (i32, String)| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(index)
            .with_batch_index_error_message(Some(StrBytes::from_string(text)))
    };
    response
        .with_error_code(refusal.code.code())
        .with_error_message(message)
        .with_record_errors(records.into_iter().map(record).collect())
}
