//! Fetches what is assigned ahead of the application, from all leaders at once, until enough is buffered.
//!
//! Invariants:
//! - At most one Fetch per broker is under way, and at most one per partition whose answer counts.
//! - Batches of a partition enter the buffer in the order of their offsets, each once: an answer counts only
//!   for the offset that is to be fetched next.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use kafka_protocol::protocol::StrBytes;
use tracing::Instrument;

use super::batch::{RecordBatch, TopicPartition};
use super::{Assigned, Consumer, Event, OffsetReset, Start};
use crate::batch::{Batch, next_batch};
use crate::client::{millis, topic_name};
use crate::cluster::{BrokerId, Cluster, Lane, Scope};
use crate::error::About;
use crate::metrics::Count;
use crate::{Error, ErrorCode, Position, Result};

/// How long a follower is read that the leader named (KIP-392).
const FOLLOWER_TIME: Duration = Duration::from_secs(300);

/// A broker's answer for one partition.
#[derive(Debug)]
pub(super) struct Part {
    place: TopicPartition,
    code: i16,
    high_watermark: i64,
    follower: i32,
    batches: Vec<Batch>,
    /// What is wrong with the bytes behind the batches.
    corrupt: Option<String>,
}

/// A broker's answer to a Fetch.
#[derive(Debug)]
pub(super) struct Fetched {
    broker: BrokerId,
    asked: Vec<(TopicPartition, i64)>,
    result: Result<Vec<Part>>,
}

impl Consumer {
    /// Starts whatever can be started. Returns when to come back if nothing happens before.
    pub(super) fn drive(&mut self, now: Instant) -> Option<Instant> {
        let mut wake = None::<Instant>;
        let mut asks: HashMap<BrokerId, Vec<(TopicPartition, i64)>> = HashMap::new();
        let cluster = Arc::clone(self.client.cluster());
        let is_full = self.buffered_bytes >= self.config.prefetch_bytes_max;
        for (place, assigned) in &mut self.assigned {
            if let Some(at) = assigned.not_before.filter(|at| *at > now) {
                wake = Some(wake.map_or(at, |wake| wake.min(at)));
                continue;
            }
            match assigned.start {
                Start::LookUp(at) => {
                    assigned.start = Start::LookingUp(at);
                    let (client, place) = (self.client.clone(), place.clone());
                    self.tasks.spawn(async move {
                        let result = client.offset(&place.topic, place.partition, at).await;
                        Event::Found { place, at, result }
                    });
                }
                Start::At if !is_full && !assigned.paused && assigned.in_flight.is_none() => {
                    match assigned.source(&cluster, place, now) {
                        Some(broker) if self.busy.contains(&broker) => {}
                        Some(broker) => {
                            asks.entry(broker).or_default().push((place.clone(), assigned.next));
                        }
                        None => {
                            self.stale.insert(Arc::clone(&place.topic));
                            assigned.not_before = Some(now + cluster.config.backoff_min);
                            wake = Some(now + cluster.config.backoff_min);
                        }
                    }
                }
                _ => {}
            }
        }
        for (broker, asked) in asks {
            self.ask(broker, asked);
        }
        self.refresh_stale(&cluster);
        wake
    }

    fn ask(&mut self, broker: BrokerId, mut asked: Vec<(TopicPartition, i64)>) {
        // Brokers fill their answer in the order asked, so the order must not be always the same.
        self.turn = self.turn.wrapping_add(1);
        let turns = self.turn % asked.len();
        asked.rotate_left(turns);
        for (place, offset) in &asked {
            if let Some(assigned) = self.assigned.get_mut(place) {
                assigned.in_flight = Some(*offset);
            }
        }
        let request = self.request(&asked);
        let (cluster, extra) = (Arc::clone(self.client.cluster()), self.config.wait_max);
        self.busy.insert(broker);
        let span = tracing::debug_span!("fetch", broker = broker.0, partitions = asked.len());
        let fetching = async move {
            let answer = fetch(&cluster, broker, &request, extra).await;
            let result = answer.and_then(|answer| read(answer, broker, &asked));
            Event::Fetched(Fetched { broker, asked, result })
        };
        self.tasks.spawn(fetching.instrument(span));
    }

    fn request(&self, asked: &[(TopicPartition, i64)]) -> FetchRequest {
        let mut topics: BTreeMap<&str, Vec<FetchPartition>> = BTreeMap::new();
        let mut order: Vec<&str> = Vec::new();
        for (place, offset) in asked {
            let data = FetchPartition::default()
                .with_partition(place.partition)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(self.config.partition_bytes_max);
            let partitions = topics.entry(&place.topic).or_insert_with(|| {
                order.push(&place.topic);
                Vec::new()
            });
            partitions.push(data);
        }
        let in_order = order.into_iter().map(|topic| {
            let partitions = topics.remove(topic).unwrap_or_default();
            FetchTopic::default().with_topic(topic_name(topic)).with_partitions(partitions)
        });
        let room = self.config.prefetch_bytes_max.saturating_sub(self.buffered_bytes).max(1);
        let bytes_max = self.config.bytes_max.min(i32::try_from(room).unwrap_or(i32::MAX));
        FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(millis(self.config.wait_max))
            .with_min_bytes(self.config.bytes_min)
            .with_max_bytes(bytes_max)
            .with_session_epoch(-1)
            .with_rack_id(StrBytes::from_string(self.config.rack.clone().unwrap_or_default()))
            .with_topics(in_order.collect())
    }

    /// Asks where the leaders of troubled topics are.
    fn refresh_stale(&mut self, cluster: &Arc<Cluster>) {
        for topic in std::mem::take(&mut self.stale) {
            if self.refreshing.insert(Arc::clone(&topic)) {
                let cluster = Arc::clone(cluster);
                self.tasks.spawn(async move {
                    let result = cluster.refresh(Scope::Existing(&topic)).await;
                    Event::Refreshed { topic, result }
                });
            }
        }
    }

    /// Files what is known of a topic now. Nobody to ask is no error: it is tried again.
    pub(super) fn refreshed(&mut self, topic: &Arc<str>, result: Result<()>) {
        self.refreshing.remove(topic);
        let Err(error) = result else {
            self.refresh_failures = 0;
            return;
        };
        // Of a group's topics one may be gone; the group goes on with the others.
        if !error.is_retriable() && self.group.is_none() {
            self.errors.push_back(error);
            return;
        }
        self.refresh_failures += 1;
        let pause = self.client.cluster().config.backoff(self.refresh_failures);
        tracing::debug!(%topic, %error, ?pause, "no metadata, will try again");
        for (_, assigned) in self.assigned.iter_mut().filter(|(place, _)| place.topic == *topic) {
            assigned.not_before = Some(Instant::now() + pause);
        }
    }

    /// Buffers what a broker answered.
    pub(super) fn fetched(&mut self, answer: Fetched) {
        self.busy.remove(&answer.broker);
        for (place, offset) in &answer.asked {
            if let Some(assigned) = self.assigned.get_mut(place) {
                assigned.in_flight = assigned.in_flight.filter(|asked| asked != offset);
            }
        }
        let parts = match answer.result {
            Ok(parts) => parts,
            Err(error) => {
                tracing::warn!(broker = answer.broker.0, %error, "cannot fetch, will try again");
                answer.asked.iter().for_each(|(place, _)| self.try_later(place));
                if !error.is_retriable() {
                    self.errors.push_back(error);
                }
                return;
            }
        };
        for part in parts {
            let asked = answer.asked.iter().find(|(place, _)| *place == part.place);
            let current = self.assigned.get(&part.place).is_some_and(|assigned| {
                matches!(assigned.start, Start::At)
                    && asked.is_some_and(|(_, offset)| *offset == assigned.next)
            });
            if current {
                self.file(part, answer.broker);
            }
        }
    }

    fn file(&mut self, part: Part, broker: BrokerId) {
        let place = part.place;
        if let Some(code) = ErrorCode::try_from_code(part.code) {
            return self.refused(&place, code);
        }
        let Some(assigned) = self.assigned.get_mut(&place) else { return };
        assigned.failures = 0;
        assigned.not_before = None;
        assigned.high_watermark = Some(part.high_watermark);
        if part.follower >= 0 && part.follower != broker.0 {
            tracing::debug!(%place, broker = part.follower, "the leader names a nearer replica");
            assigned.follower = Some((BrokerId(part.follower), Instant::now() + FOLLOWER_TIME));
        }
        let metrics = &self.client.cluster().config.metrics;
        if !part.batches.is_empty() {
            let records =
                part.batches.iter().map(|batch| u64::try_from(batch.count()).unwrap_or(0));
            metrics.count(Count::RecordsFetched, records.sum());
            metrics.count(Count::BatchesFetched, part.batches.len() as u64);
            let bytes = part.batches.iter().map(|batch| batch.bytes.len() as u64);
            metrics.count(Count::BytesFetched, bytes.sum());
        }
        for batch in part.batches {
            let from = assigned.next;
            assigned.next = batch.end_offset;
            let batch = RecordBatch { place: place.clone(), from, batch };
            self.buffered_bytes += batch.bytes().len();
            self.buffer.push_back(batch);
        }
        if let Some(reason) = part.corrupt {
            let offset = assigned.next;
            self.try_later(&place);
            let (topic, partition) = (place.topic.to_string(), place.partition);
            self.errors.push_back(Error::Corrupt { topic, partition, offset, reason });
        }
    }

    fn refused(&mut self, place: &TopicPartition, code: ErrorCode) {
        let Some(assigned) = self.assigned.get_mut(place) else { return };
        let (topic, partition) = (place.topic.to_string(), place.partition);
        let assigned_next = assigned.next;
        let was_follower = assigned.follower.take().is_some();
        match code {
            // A follower may lag behind what the leader has handed out; the leader decides.
            _ if was_follower => self.try_later(place),
            ErrorCode::OffsetOutOfRange => {
                let offset = assigned.next;
                match self.config.offset_reset {
                    OffsetReset::Error => {
                        self.try_later(place);
                        self.errors.push_back(Error::OffsetOutOfRange { topic, partition, offset });
                    }
                    OffsetReset::Earliest => assigned.start = Start::LookUp(Position::Earliest),
                    OffsetReset::Latest => assigned.start = Start::LookUp(Position::Latest),
                }
            }
            code if code.is_retriable() => {
                tracing::debug!(%place, %code, "cannot fetch, will try again");
                self.try_later(place);
            }
            code => {
                self.try_later(place);
                let what = About::from(format!("fetch from {topic}-{partition}"));
                let what = what.place(&topic, partition).offset(assigned_next);
                self.errors.push_back(Error::refused(what, code));
            }
        }
    }

    pub(super) fn try_later(&mut self, place: &TopicPartition) {
        let Some(assigned) = self.assigned.get_mut(place) else { return };
        assigned.failures += 1;
        assigned.follower = None;
        let pause = self.client.cluster().config.backoff(assigned.failures);
        assigned.not_before = Some(Instant::now() + pause);
        self.stale.insert(Arc::clone(&place.topic));
    }

    /// Goes on at an offset that was looked up.
    pub(super) fn found(&mut self, place: &TopicPartition, at: Position, result: Result<i64>) {
        let Some(assigned) = self.assigned.get_mut(place) else { return };
        if assigned.start != Start::LookingUp(at) {
            return;
        }
        match result {
            Ok(offset) => assigned.seek(offset),
            Err(error) => {
                assigned.start = Start::LookUp(at);
                self.try_later(place);
                if !error.is_retriable() {
                    self.errors.push_back(error);
                }
            }
        }
    }
}

impl Assigned {
    /// The broker to be read: a follower that the leader named, or the leader.
    fn source(
        &mut self,
        cluster: &Cluster,
        place: &TopicPartition,
        now: Instant,
    ) -> Option<BrokerId> {
        self.follower =
            self.follower.filter(|(broker, until)| *until > now && cluster.lists(*broker));
        let follower = self.follower.map(|(broker, _)| broker);
        follower.or_else(|| cluster.leader(&place.topic, place.partition))
    }
}

async fn fetch(
    cluster: &Cluster,
    broker: BrokerId,
    request: &FetchRequest,
    extra: Duration,
) -> Result<FetchResponse> {
    let connection = cluster.connection_for(broker, Lane::Fetch).await?;
    connection.submit(request, extra)?.answer().await
}

/// Takes an answer apart into batches, and checks each one.
fn read(
    answer: FetchResponse,
    broker: BrokerId,
    asked: &[(TopicPartition, i64)],
) -> Result<Vec<Part>> {
    Error::check(answer.error_code, None, || format!("fetch from broker {}", broker.0))?;
    let mut parts = Vec::new();
    for topic in answer.responses {
        for data in topic.partitions {
            let wanted = asked.iter().find(|(place, _)| {
                place.partition == data.partition_index && *place.topic == *topic.topic.as_str()
            });
            if let Some((place, offset)) = wanted {
                parts.push(read_part(place.clone(), *offset, data));
            }
        }
    }
    Ok(parts)
}

fn read_part(place: TopicPartition, offset: i64, data: PartitionData) -> Part {
    let mut part = Part {
        place,
        code: data.error_code,
        high_watermark: data.high_watermark,
        follower: data.preferred_read_replica.0,
        batches: Vec::new(),
        corrupt: None,
    };
    let mut bytes = data.records.unwrap_or_default();
    let mut next = offset;
    loop {
        match next_batch(&mut bytes) {
            Ok(Some(batch)) if batch.end_offset <= next => {}
            Ok(Some(batch)) => {
                next = batch.end_offset;
                part.batches.push(batch);
            }
            Ok(None) => return part,
            Err(reason) => {
                part.corrupt = Some(reason);
                return part;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::fetch_response::PartitionData;

    use super::read_part;
    use crate::batch::{Builder, Identity};
    use crate::{Compression, Record, TopicPartition};

    fn batch(base: i64, count: u8) -> BytesMut {
        let mut builder = Builder::new();
        for number in 0..count {
            builder.push(&Record::new(None::<Bytes>, vec![number]), 0);
        }
        let sealed = builder.seal(Compression::None, None).unwrap().stamp(Identity::NONE, -1);
        let mut bytes = BytesMut::from(&sealed.into_bytes()[..]);
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes
    }

    fn ends(from: i64, bytes: BytesMut) -> (Vec<i64>, bool) {
        let data = PartitionData::default().with_records(Some(bytes.freeze()));
        let part = read_part(TopicPartition::new("t", 0), from, data);
        (part.batches.iter().map(|batch| batch.end_offset).collect(), part.corrupt.is_some())
    }

    #[test]
    fn whole_batches_below_the_offset_are_skipped_and_one_around_it_is_kept() {
        let both = || BytesMut::from(&[batch(10, 5), batch(15, 5)].concat()[..]);
        assert_eq!(ends(12, both()), (vec![15, 20], false));
        assert_eq!(ends(15, both()), (vec![20], false));
    }

    #[test]
    fn a_batch_cut_off_at_the_end_is_left_for_the_next_fetch() {
        let mut bytes = BytesMut::from(&[batch(0, 3), batch(3, 3)].concat()[..]);
        bytes.truncate(bytes.len() - 1);
        assert_eq!(ends(0, bytes), (vec![3], false));
    }

    #[test]
    fn what_stands_before_a_corrupt_batch_is_kept() {
        let mut bytes = BytesMut::from(&[batch(0, 3), batch(3, 3)].concat()[..]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(ends(0, bytes), (vec![3], true));
    }
}
