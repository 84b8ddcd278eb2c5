//! Fetch (1), versions 4 to 18: whole batches from many partitions, waiting for more if there are few.
//!
//! Rules that clients depend on: the batch that holds the fetch offset comes whole; the first
//! non-empty partition gives at least one batch, whatever the limits; an error answers at once.
//!
//! Not here: what a session makes of the request (`fetch_sessions.rs`), the bytes (`encode.rs`), what is read before it is asked
//! for (`ahead.rs`), where a partition is read (`source.rs`), how many at the same time (`window.rs`).

mod ahead;
mod encode;
mod source;
mod window;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use jangbu_engine::{Error as LogError, Offset};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_response::{
    FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::leaders::Leaders;
use super::metadata::rack;
use crate::answers::Reserved;
use crate::broker::{Broker, now_ms};
use crate::controller;
use crate::dispatch::{Answer, Call, Refused};
use crate::error::partition_code;
use crate::fetch_sessions::{PartitionFetch, Topic};
use crate::partition::{Error, Partition};
use crate::quotas::{Kind, Quotas, as_number, at_most, throttle_ms};
use source::Source;
use window::{WINDOW_MAX, asked, window};

/// A response holds no more than this. Clients ask for twice that, but while one response is sent the next is read.
const RESPONSE_BYTES_MAX: usize = 24 << 20;
/// A response is full when no more than this part of it is left: what is read for the partitions behind would hardly
/// fit, and be read in vain.
const FULL_PART: usize = 16;
/// It is also full when a batch as large as the largest so far would not fit, but not as long as more than this part
/// of it is left: other partitions may have smaller ones.
const LARGE_PART: usize = 4;
const READ_COMMITTED: i8 = 1;

/// Decodes, reads, waits if need be, and answers.
///
/// # Errors
/// [`Refused`] when the request does not decode.
pub(crate) async fn handle(broker: Arc<Broker>, call: Call) -> Result<Answer, Refused> {
    let mut request: FetchRequest = call.decode()?;
    let quotas = broker.quotas_set();
    if let Some(table) = &quotas {
        let burst = Quotas::burst(table, Kind::Fetch, call.client());
        request.max_bytes =
            burst.map_or(request.max_bytes, |most| at_most(request.max_bytes, most));
    }
    let plan = match broker.sessions.begin(&request, call.version, now_ms()) {
        Ok(plan) => plan,
        Err(error) => return refuse(&call, error.code()),
    };
    let rack = request.rack_id.as_str();
    let sources: Vec<Source> =
        plan.partitions().iter().map(|wanted| Source::find(&broker, wanted, rack)).collect();
    let mut read = read_or_wait(&broker, &request, plan.partitions(), &sources).await;
    ahead::read_ahead(&read, plan.partitions(), &sources, request.session_epoch >= 0);
    let session = match broker.sessions.finish(plan, &mut read.topics, now_ms()) {
        Ok(session) => session,
        Err(error) => return refuse(&call, error.code()),
    };
    broker.metrics.fetched(read.records.iter().map(Vec::len).sum(), read.bytes);
    let pause = quotas.map_or(Duration::ZERO, |table| {
        broker.quotas.charge(&table, Kind::Fetch, call.client(), as_number(read.bytes))
    });
    let endpoints = tell_leaders(&broker, &mut read.topics);
    let response = FetchResponse::default()
        .with_throttle_time_ms(throttle_ms(pause))
        .with_session_id(session)
        .with_responses(read.topics)
        .with_node_endpoints(endpoints);
    let body = encode::encode(&response, read.records, call.version);
    let body = body.map_err(|reason| Refused::Answer {
        key: call.key,
        version: call.version,
        reason: reason.to_string(),
    })?;
    let response = call.respond_raw(body, call.version)?.with_errors_of(&response);
    Ok(Answer::Now(Some(response.holding(read.room).resting(pause))))
}

/// Names the leaders of partitions that are led elsewhere, and where those are.
fn tell_leaders(broker: &Broker, topics: &mut [FetchableTopicResponse]) -> Vec<NodeEndpoint> {
    let mut leaders = Leaders::default();
    for entry in topics {
        if entry.partitions.iter().all(|partition| partition.error_code == 0) {
            continue;
        }
        let by_name = || broker.topic(&entry.topic);
        let topic = broker.topic_by_id(entry.topic_id).or_else(by_name);
        for partition in &mut entry.partitions {
            let (index, code) = (partition.partition_index, partition.error_code);
            if let Some(leader) = leaders.find(broker, topic.as_deref(), index, code) {
                partition.current_leader = LeaderIdAndEpoch::default()
                    .with_leader_id(leader.broker.into())
                    .with_leader_epoch(leader.epoch);
            }
        }
    }
    let endpoint = |broker: controller::Broker| {
        NodeEndpoint::default()
            .with_node_id(broker.id.into())
            .with_rack(rack(&broker))
            .with_port(i32::from(broker.port))
            .with_host(StrBytes::from_string(broker.host))
    };
    leaders.brokers(broker).into_iter().map(endpoint).collect()
}

fn refuse(call: &Call, code: i16) -> Result<Answer, Refused> {
    let response = call.respond(&FetchResponse::default().with_error_code(code))?;
    Ok(Answer::Now(Some(response)))
}

/// What one pass over the partitions has read.
#[derive(Default)]
struct Read {
    topics: Vec<FetchableTopicResponse>,
    /// The batches of the partitions that have any, in the order of `topics`.
    records: Vec<Vec<Bytes>>,
    bytes: usize,
    /// For `records`.
    room: Reserved,
    failed: bool,
    /// Something did not fit any more: whatever else is read would be read in vain.
    full: bool,
    /// The largest batch found: each partition gives one at least, which may be larger than what is asked for.
    largest_batch: usize,
    progress: ahead::Progress,
}

async fn read_or_wait(
    broker: &Broker,
    request: &FetchRequest,
    wanted: &[PartitionFetch],
    sources: &[Source],
) -> Read {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait;
    // Whole batches fill half of what there is room for at least, unless one is larger than that.
    let enough = usize::try_from(request.min_bytes).unwrap_or(0);
    let enough = enough.min(response_bytes_max(broker, request) / 2);
    let done = |read: &Read| read.failed || read.bytes >= enough || wanted.is_empty();
    let read = read_all(broker, request, wanted, sources).await;
    if done(&read) || wait.is_zero() {
        return read;
    }
    drop(read);
    let notify = Arc::new(Notify::new());
    let _waiting: Vec<_> = sources
        .iter()
        .filter_map(|source| match source {
            Source::Here(partition, _) => Some(partition.watch(&notify)),
            Source::Error(_) => None,
        })
        .collect();
    loop {
        // Registered before looking again, so that nothing can slip in between.
        let read = read_all(broker, request, wanted, sources).await;
        if done(&read) {
            return read;
        }
        drop(read);
        let timed_out = tokio::select! {
            () = notify.notified() => false,
            () = tokio::time::sleep_until(deadline) => true,
            () = broker.draining.cancelled() => true,
        };
        if timed_out {
            return read_all(broker, request, wanted, sources).await;
        }
    }
}

/// What the response may hold beyond its first batch.
fn response_bytes_max(broker: &Broker, request: &FetchRequest) -> usize {
    let most = RESPONSE_BYTES_MAX.min(broker.answers.answer_bytes_max());
    usize::try_from(request.max_bytes).unwrap_or(0).min(most)
}

/// Reads the partitions in their order, window by window.
async fn read_all(
    broker: &Broker,
    request: &FetchRequest,
    wanted: &[PartitionFetch],
    sources: &[Source],
) -> Read {
    let mut read = Read::default();
    let response_max = response_bytes_max(broker, request);
    let (mut wanted, mut sources) = (wanted, sources);
    while !wanted.is_empty() {
        let left = response_max.saturating_sub(read.bytes);
        let begun = read.bytes > 0;
        let full = begun && (read.full || left <= read.vain_below(response_max));
        let left = if full { 0 } else { left };
        let batch = match read.largest_batch {
            0 => broker.answers.batch_bytes(),
            largest => largest,
        };
        let count = match full {
            true => wanted.len().min(WINDOW_MAX),
            false => window(wanted, sources, left, batch),
        };
        let (now, later) = wanted.split_at(count);
        let (here, elsewhere) = sources.split_at(now.len());
        let asked = asked(now, here, batch).min(left);
        // Whoever holds room does not wait for more.
        let room = match read.bytes {
            0 => Some(broker.answers.reserve(asked).await),
            _ => broker.answers.reserve_now(asked),
        };
        let (before, left) = (read.bytes, if room.is_some() { asked } else { 0 });
        let plan = Plan { left, begun };
        let reading = now.iter().zip(here).map(|(fetch, source)| source.read(fetch, plan));
        for (fetch, found) in now.iter().zip(join_all(reading).await) {
            let left = (before + left).saturating_sub(read.bytes);
            read.take(request, fetch, found, left);
        }
        let mut room = room.unwrap_or_default();
        room.shrink(read.bytes - before);
        read.room.add(room);
        (wanted, sources) = (later, elsewhere);
    }
    broker.answers.note_batch(read.largest_batch);
    read
}

fn partition_bytes_max(fetch: &PartitionFetch) -> usize {
    usize::try_from(fetch.partition_max_bytes).unwrap_or(0)
}

/// Adds a partition to the topic before it if it is the same.
fn push(topics: &mut Vec<FetchableTopicResponse>, topic: &Topic, data: PartitionData) {
    let entry = match topic {
        Topic::Name(name) => FetchableTopicResponse::default().with_topic(name.clone()),
        Topic::Id(id) => FetchableTopicResponse::default().with_topic_id(*id),
    };
    match topics.last_mut() {
        Some(last) if last.topic == entry.topic && last.topic_id == entry.topic_id => {
            last.partitions.push(data);
        }
        _ => topics.push(entry.with_partitions(vec![data])),
    }
}

/// What was found of one partition: its part of the response, and its batches.
struct Found {
    data: PartitionData,
    batches: Vec<Bytes>,
    /// Where they end.
    end: Option<Offset>,
}

impl From<PartitionData> for Found {
    fn from(data: PartitionData) -> Self {
        Self { data, batches: Vec::new(), end: None }
    }
}

impl Read {
    /// What is read when no more than this is left of the response would hardly fit.
    fn vain_below(&self, response_max: usize) -> usize {
        self.largest_batch.min(response_max / LARGE_PART).max(response_max / FULL_PART)
    }

    /// Adds what was found of one partition, as far as it fits into the `left` bytes.
    fn take(&mut self, request: &FetchRequest, fetch: &PartitionFetch, found: Found, left: usize) {
        let Found { mut data, batches, end } = found;
        self.failed |= data.error_code != 0
            || data.diverging_epoch.epoch >= 0
            || data.preferred_read_replica.0 >= 0;
        if request.isolation_level == READ_COMMITTED {
            data = data.with_aborted_transactions(Some(Vec::new()));
        }
        let bytes: usize = batches.iter().map(Bytes::len).sum();
        let largest = batches.iter().map(Bytes::len).max().unwrap_or(0);
        self.largest_batch = self.largest_batch.max(largest);
        // Beyond the first batch of the whole response the limits are strict.
        let fits = self.bytes == 0 || (bytes <= left && partition_bytes_max(fetch) > 0);
        self.full |= !fits && bytes > 0;
        self.progress.push(fetch, end.filter(|_| fits));
        if let Some(first) = batches.first().filter(|_| fits) {
            // The session sees that there are records; what is written are the batches kept beside.
            data = data.with_records(Some(first.clone()));
            self.bytes += bytes;
            self.records.push(batches);
        }
        push(&mut self.topics, &fetch.topic, data);
    }
}

/// How a partition is read.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Bytes left in the response.
    left: usize,
    /// Whether the response holds records already.
    begun: bool,
}

fn failed(fetch: &PartitionFetch, code: ResponseError) -> PartitionData {
    PartitionData::default()
        .with_partition_index(fetch.partition)
        .with_error_code(code.code())
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_aborted_transactions(None)
        .with_records(Some(Bytes::new()))
}

fn failed_here(fetch: &PartitionFetch, partition: &Partition, error: &Error) -> PartitionData {
    let data = failed(fetch, partition_code(error));
    match error {
        Error::NotLeader | Error::FencedEpoch { .. } | Error::UnknownEpoch { .. } => data,
        // The engine logs damage, once for each place: a consumer asks again and again.
        Error::Log(LogError::OffsetOutOfRange { .. } | LogError::Corrupt { .. }) => data,
        Error::Log(error) => {
            tracing::error!(%error, partition = %partition.id(), "a fetch failed");
            data
        }
        Error::Refused(_) | Error::Stopped | Error::Broken | Error::Timeout | Error::Members(_) => {
            data
        }
    }
}
