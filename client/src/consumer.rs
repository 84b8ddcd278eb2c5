//! Reads assigned partitions from given offsets, through moved leaders and restarted brokers.
//!
//! At most one Fetch per broker is under way; the next is sent as soon as one is answered, so the
//! broker works while the application does.
//!
//! Invariants:
//! - Records of a partition come in the order of their offsets, each once. Brokers answer with whole
//!   batches, so those below the position are skipped.
//! - A position moves only past records that have been handed out (or are none, such as markers).
//!
//! Not here: groups and committed offsets; uncommitted records of transactions are not filtered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::task::JoinSet;

use crate::batch::next_batch;
use crate::client::{millis, topic_name};
use crate::cluster::{BrokerId, Cluster, Scope};
use crate::{Client, Error, ErrorCode, Position, Received, Result};

/// How a consumer asks.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// How long a broker may wait for new records before it answers. Default: 500 ms.
    pub wait_max: Duration,
    /// Bytes for which a broker waits. Default: 1.
    pub bytes_min: i32,
    /// Most bytes in one answer, except that one batch is always whole. Default: 16 MiB.
    pub bytes_max: i32,
    /// Most bytes of one partition in one answer. Default: 4 MiB.
    pub partition_bytes_max: i32,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            wait_max: Duration::from_millis(500),
            bytes_min: 1,
            bytes_max: 16 << 20,
            partition_bytes_max: 4 << 20,
        }
    }
}

type Key = (Arc<str>, i32);

/// Where one partition stands.
#[derive(Debug)]
struct Assigned {
    /// The next offset to hand out.
    position: i64,
    /// The end of what may be read, as of the last answer.
    high_watermark: Option<i64>,
    failures: u32,
    not_before: Option<Instant>,
}

/// Reads assigned partitions.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    config: ConsumerConfig,
    assigned: BTreeMap<Key, Assigned>,
    busy: HashSet<BrokerId>,
    fetches: JoinSet<Answer>,
    stale: HashSet<Arc<str>>,
    refresh_failures: u32,
}

#[derive(Debug)]
struct Answer {
    broker: BrokerId,
    asked: Vec<Key>,
    result: Result<FetchResponse>,
}

impl Consumer {
    pub(crate) fn new(client: Client, config: ConsumerConfig) -> Self {
        Self {
            client,
            config,
            assigned: BTreeMap::new(),
            busy: HashSet::new(),
            fetches: JoinSet::new(),
            stale: HashSet::new(),
            refresh_failures: 0,
        }
    }

    /// Adds a partition, to be read from `offset`; one that is assigned already is moved there.
    pub fn assign(&mut self, topic: &str, partition: i32, offset: i64) {
        let assigned =
            Assigned { position: offset, high_watermark: None, failures: 0, not_before: None };
        self.assigned.insert((Arc::from(topic), partition), assigned);
    }

    /// Adds a partition, to be read from a position the broker looks up. Returns the offset.
    ///
    /// # Errors
    /// Those of [`Client::offset`].
    pub async fn assign_at(&mut self, topic: &str, partition: i32, at: Position) -> Result<i64> {
        let offset = self.client.offset(topic, partition, at).await?;
        self.assign(topic, partition, offset);
        Ok(offset)
    }

    /// Removes a partition.
    pub fn unassign(&mut self, topic: &str, partition: i32) {
        self.assigned.remove(&(Arc::from(topic), partition));
    }

    /// The next offset of a partition that [`Consumer::poll`] would hand out.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.assigned.get(&(Arc::from(topic), partition)).map(|assigned| assigned.position)
    }

    /// How many records of a partition were known to be ahead when it was last read.
    pub fn lag(&self, topic: &str, partition: i32) -> Option<i64> {
        let assigned = self.assigned.get(&(Arc::from(topic), partition))?;
        Some((assigned.high_watermark? - assigned.position).max(0))
    }

    /// The next records, or none if there are none within `timeout`. Lost connections, moved leaders
    /// and restarting brokers are waited out. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`], [`Error::Corrupt`], [`Error::UnknownTopic`], and refusals that
    /// asking again does not change. Positions stay where they are.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<Received>> {
        let deadline = Instant::now() + timeout;
        loop {
            self.refresh_stale().await?;
            let wake = self.fetch(Instant::now()).map_or(deadline, |wake| wake.min(deadline));
            let answer = tokio::select! {
                Some(answer) = self.fetches.join_next() => answer,
                () = tokio::time::sleep_until(wake.into()) => {
                    if Instant::now() >= deadline {
                        return Ok(Vec::new());
                    }
                    continue;
                }
            };
            let answer = answer.map_err(|error| Error::malformed("a response", error))?;
            let records = self.file(answer)?;
            if !records.is_empty() {
                self.fetch(Instant::now());
                return Ok(records);
            }
        }
    }

    /// Asks every leader that is not being asked. Returns when a partition may be tried again.
    fn fetch(&mut self, now: Instant) -> Option<Instant> {
        let mut wake = None::<Instant>;
        let mut asks: HashMap<BrokerId, Vec<(Key, i64)>> = HashMap::new();
        let cluster = Arc::clone(self.client.cluster());
        for (key, assigned) in &self.assigned {
            if let Some(at) = assigned.not_before.filter(|at| *at > now) {
                wake = Some(wake.map_or(at, |wake| wake.min(at)));
                continue;
            }
            match cluster.leader(&key.0, key.1) {
                Some(leader) if self.busy.contains(&leader) => {}
                Some(leader) => {
                    asks.entry(leader).or_default().push((key.clone(), assigned.position));
                }
                None => {
                    self.stale.insert(Arc::clone(&key.0));
                    wake = Some(now + cluster.config.backoff_min);
                }
            }
        }
        for (broker, mut asked) in asks {
            // Brokers fill their answer in the order asked, so the order must not be always the same.
            let rotation = usize::try_from(now.elapsed().as_nanos() % 7919).unwrap_or(0);
            let turns = rotation % asked.len();
            asked.rotate_left(turns);
            let request = self.request(&asked);
            let asked = asked.into_iter().map(|(key, _)| key).collect();
            let (cluster, extra) = (Arc::clone(&cluster), self.config.wait_max);
            self.busy.insert(broker);
            self.fetches.spawn(async move {
                let result = ask(&cluster, broker, &request, extra).await;
                Answer { broker, asked, result }
            });
        }
        wake
    }

    fn request(&self, asked: &[(Key, i64)]) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for ((topic, partition), offset) in asked {
            let data = FetchPartition::default()
                .with_partition(*partition)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(self.config.partition_bytes_max);
            match topics.iter_mut().find(|known| known.topic.as_str() == &**topic) {
                Some(known) => known.partitions.push(data),
                None => topics.push(
                    FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![data]),
                ),
            }
        }
        FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(millis(self.config.wait_max))
            .with_min_bytes(self.config.bytes_min)
            .with_max_bytes(self.config.bytes_max)
            .with_session_epoch(-1)
            .with_topics(topics)
    }

    /// Moves positions past what the answer holds, and returns it.
    fn file(&mut self, answer: Answer) -> Result<Vec<Received>> {
        self.busy.remove(&answer.broker);
        let what = || format!("fetch from broker {}", answer.broker.0);
        let response = answer.result.and_then(|response| {
            Error::check(response.error_code, None, what)?;
            Ok(response)
        });
        let response = match response {
            Ok(response) => response,
            Err(error) if error.is_retriable() => {
                tracing::warn!(broker = answer.broker.0, %error, "cannot fetch, will try again");
                for key in &answer.asked {
                    self.try_later(key);
                }
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let mut all = Vec::new();
        for topic in response.responses {
            let name: Arc<str> = Arc::from(topic.topic.as_str());
            for partition in topic.partitions {
                let key = (Arc::clone(&name), partition.partition_index);
                match self.file_partition(&key, partition, &mut all) {
                    // What came before is handed out first; the error comes again with the next poll.
                    Err(_) if !all.is_empty() => return Ok(all),
                    other => other?,
                }
            }
        }
        Ok(all)
    }

    fn file_partition(
        &mut self,
        key: &Key,
        data: PartitionData,
        all: &mut Vec<Received>,
    ) -> Result<()> {
        let Some(assigned) = self.assigned.get_mut(key) else { return Ok(()) };
        let (topic, partition) = (key.0.to_string(), key.1);
        match ErrorCode::try_from_code(data.error_code) {
            None => {}
            Some(ErrorCode::OffsetOutOfRange) => {
                return Err(Error::OffsetOutOfRange {
                    topic,
                    partition,
                    offset: assigned.position,
                });
            }
            Some(code) if code.is_retriable() => {
                tracing::debug!(topic, partition, %code, "cannot fetch, will try again");
                self.try_later(key);
                return Ok(());
            }
            Some(code) => {
                let what = format!("fetch from {topic}-{partition}");
                return Err(Error::Broker { what, code, message: None });
            }
        }
        assigned.failures = 0;
        assigned.not_before = None;
        assigned.high_watermark = Some(data.high_watermark);
        let records = data.records.unwrap_or_default();
        let offset = assigned.position;
        read_batches(key, records, &mut assigned.position, all).map_err(|reason| Error::Corrupt {
            topic,
            partition,
            offset,
            reason,
        })
    }

    fn try_later(&mut self, key: &Key) {
        let Some(assigned) = self.assigned.get_mut(key) else { return };
        assigned.failures += 1;
        let pause = self.client.cluster().config.backoff(assigned.failures);
        assigned.not_before = Some(Instant::now() + pause);
        self.stale.insert(Arc::clone(&key.0));
    }

    /// Asks where the leaders of troubled topics are. Nobody to ask is no error: it is tried again.
    async fn refresh_stale(&mut self) -> Result<()> {
        let stale: Vec<Arc<str>> = self.stale.iter().cloned().collect();
        let cluster = Arc::clone(self.client.cluster());
        for topic in stale {
            match cluster.refresh(Scope::Existing(&topic)).await {
                Err(error) if error.is_retriable() => {
                    self.refresh_failures += 1;
                    let pause = cluster.config.backoff(self.refresh_failures);
                    tracing::debug!(%error, ?pause, "no metadata, will try again");
                    for (_, assigned) in self.assigned.iter_mut().filter(|(key, _)| key.0 == topic)
                    {
                        assigned.not_before = Some(Instant::now() + pause);
                    }
                    return Ok(());
                }
                done => done?,
            }
            self.refresh_failures = 0;
            self.stale.remove(&topic);
        }
        Ok(())
    }
}

async fn ask(
    cluster: &Cluster,
    broker: BrokerId,
    request: &FetchRequest,
    extra: Duration,
) -> Result<FetchResponse> {
    cluster.connection(broker).await?.submit(request, extra)?.answer().await
}

/// Reads batches from `position` on, which moves along.
fn read_batches(
    key: &Key,
    mut bytes: Bytes,
    position: &mut i64,
    all: &mut Vec<Received>,
) -> std::result::Result<(), String> {
    while let Some(batch) = next_batch(&mut bytes)? {
        let end = batch.end_offset;
        if end <= *position {
            continue;
        }
        for (offset, record) in batch.records()? {
            if offset >= *position {
                let (topic, partition) = (Arc::clone(&key.0), key.1);
                all.push(Received { topic, partition, offset, record });
            }
        }
        *position = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::{Bytes, BytesMut};

    use super::{Key, read_batches};
    use crate::batch::{Builder, Identity};
    use crate::{Compression, Record};

    /// A batch of `count` records that the broker has put at `base`.
    fn batch(base: i64, count: u8) -> Bytes {
        let mut builder = Builder::new();
        for number in 0..count {
            builder.push(&Record::new(None::<Bytes>, vec![number]), 0);
        }
        let sealed =
            builder.seal(Compression::Lz4, None).unwrap().stamp(Identity::NONE, -1).into_bytes();
        let mut bytes = BytesMut::from(&sealed[..]);
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes.freeze()
    }

    fn read(from: i64, bytes: Bytes) -> (i64, Vec<i64>) {
        let key: Key = (Arc::from("t"), 0);
        let (mut position, mut all) = (from, Vec::new());
        read_batches(&key, bytes, &mut position, &mut all).unwrap();
        (position, all.iter().map(|received| received.offset).collect())
    }

    #[test]
    fn records_below_the_position_are_skipped() {
        assert_eq!(read(12, batch(10, 5)), (15, vec![12, 13, 14]));
        assert_eq!(read(15, batch(10, 5)), (15, vec![]));
    }

    #[test]
    fn a_batch_cut_off_at_the_end_moves_nothing() {
        let second = batch(15, 5);
        let cut = [&batch(10, 5)[..], &second[..second.len() - 1]].concat();
        assert_eq!(read(10, cut.into()), (15, vec![10, 11, 12, 13, 14]));
    }
}
