//! Reads partitions: assigned ones, or its share of the topics that a group subscribes to.
//!
//! ```text
//! assign ──────────────► assigned ──► Fetch, one per broker ──► buffer ──► poll, records, batches
//! subscribe ─► group ────┘  (drive)       (fetch.rs)          (bounded)        positions move
//! ```
//!
//! Everything moves while a method is awaited; only heartbeats go on by themselves. Dropping the future of any
//! method loses nothing.
//!
//! Invariants:
//! - Records of a partition come in the order of their offsets, each once. Brokers answer with whole
//!   batches, so those below the position are skipped.
//! - A position moves only past records that have been handed out (or are none, such as markers), and only
//!   such records are committed.
//!
//! Not here: uncommitted records of transactions are not filtered.

mod batch;
mod fetch;
mod group;
mod position;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, Stream};
use tokio::task::JoinSet;

use crate::cluster::BrokerId;
use crate::setters::setters;
use crate::{Client, Error, Position, Received, Result};

pub use batch::{RecordBatch, TopicPartition};
use fetch::Fetched;
pub use group::{
    Assignor, Committer, GroupConfig, GroupProtocol, ListenerFuture, RebalanceListener,
};
use group::{Joined, Membership};
pub(crate) use group::{decode_assignment, flat};

/// Bytes of batches that one [`Consumer::poll`] hands out, except that one batch is always whole.
const POLL_BYTES: usize = 4 << 20;

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
    /// Bytes fetched ahead of the application at which no more is asked for; an answer of each broker may come on
    /// top. Default: 32 MiB.
    pub prefetch_bytes_max: usize,
    /// Where to go on when the group has committed nothing, or the offset asked for is not there. Default:
    /// [`OffsetReset::Error`]; a group without commits then begins with the latest.
    pub offset_reset: OffsetReset,
    /// The rack of this client: leaders then name a replica in it to be read instead. Default: none.
    pub rack: Option<String>,
    /// The group for [`Consumer::subscribe`] and for commits. Default: none.
    pub group: Option<GroupConfig>,
}

/// Where a partition is read from when there is no offset to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OffsetReset {
    /// Nowhere: [`Error::OffsetOutOfRange`] is returned.
    #[default]
    Error,
    /// The first record there still is.
    Earliest,
    /// Behind the last record.
    Latest,
}

setters! { ConsumerConfig:
    field with_wait_max wait_max: Duration,
    field with_bytes_min bytes_min: i32,
    field with_bytes_max bytes_max: i32,
    field with_partition_bytes_max partition_bytes_max: i32,
    field with_prefetch_bytes_max prefetch_bytes_max: usize,
    field with_offset_reset offset_reset: OffsetReset,
    some with_rack rack: String,
    some with_group group: GroupConfig,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            wait_max: Duration::from_millis(500),
            bytes_min: 1,
            bytes_max: 16 << 20,
            partition_bytes_max: 4 << 20,
            prefetch_bytes_max: 32 << 20,
            offset_reset: OffsetReset::Error,
            rack: None,
            group: None,
        }
    }
}

/// How it is known where to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// At the offset that is next.
    At,
    /// A broker has to be asked.
    LookUp(Position),
    /// It is being asked.
    LookingUp(Position),
}

/// Where one partition stands.
#[derive(Debug)]
struct Assigned {
    /// The next offset to hand out.
    position: i64,
    /// The next offset to fetch.
    next: i64,
    start: Start,
    paused: bool,
    /// The position that was last given to a commit.
    committed: i64,
    /// The end of what may be read, as of the last answer.
    high_watermark: Option<i64>,
    /// The offset of the Fetch that is under way.
    in_flight: Option<i64>,
    /// A replica that the leader named, and until when it is read.
    follower: Option<(BrokerId, Instant)>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Assigned {
    fn new(offset: i64, start: Start) -> Self {
        Self {
            position: offset,
            next: offset,
            start,
            paused: false,
            committed: offset,
            high_watermark: None,
            in_flight: None,
            follower: None,
            failures: 0,
            not_before: None,
        }
    }

    fn seek(&mut self, offset: i64) {
        self.start = Start::At;
        (self.position, self.next) = (offset, offset);
        self.not_before = None;
    }
}

/// Something that was started and is done.
#[derive(Debug)]
enum Event {
    Fetched(Fetched),
    Found { place: TopicPartition, at: Position, result: Result<i64> },
    Refreshed { topic: Arc<str>, result: Result<()> },
    Joined { turn: u64, result: Result<Joined> },
}

/// Reads partitions, alone or in a group.
///
/// ```no_run
/// # async fn example(client: jangbu_client::Client) -> jangbu_client::Result<()> {
/// use futures_util::StreamExt;
/// use jangbu_client::{ConsumerConfig, GroupConfig, OffsetReset};
///
/// let mut consumer = client.consumer(ConsumerConfig {
///     group: Some(GroupConfig::new("billing")),
///     offset_reset: OffsetReset::Earliest,
///     ..ConsumerConfig::default()
/// });
/// consumer.subscribe(&["orders"])?;
/// {
///     let mut records = std::pin::pin!(consumer.records());
///     while let Some(received) = records.next().await {
///         println!("{:?}", received?.record.value);
///     }
/// }
/// consumer.close().await
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    config: ConsumerConfig,
    assigned: BTreeMap<TopicPartition, Assigned>,
    group: Option<Membership>,
    tasks: JoinSet<Event>,
    busy: HashSet<BrokerId>,
    stale: HashSet<Arc<str>>,
    refreshing: HashSet<Arc<str>>,
    refresh_failures: u32,
    turn: usize,
    buffer: VecDeque<RecordBatch>,
    buffered_bytes: usize,
    /// Records of the batch that is being handed out one by one, and where the batch ends.
    current: VecDeque<Received>,
    current_end: Option<(TopicPartition, i64)>,
    errors: VecDeque<Error>,
}

impl Consumer {
    pub(crate) fn new(client: Client, config: ConsumerConfig) -> Self {
        let group = config.group.clone();
        let group = group.map(|group| Membership::new(&client, group, config.rack.clone()));
        Self {
            client,
            config,
            assigned: BTreeMap::new(),
            group,
            tasks: JoinSet::new(),
            busy: HashSet::new(),
            stale: HashSet::new(),
            refreshing: HashSet::new(),
            refresh_failures: 0,
            turn: 0,
            buffer: VecDeque::new(),
            buffered_bytes: 0,
            current: VecDeque::new(),
            current_end: None,
            errors: VecDeque::new(),
        }
    }

    /// The next records, or none if there are none within `timeout`. Lost connections, moved leaders,
    /// restarting brokers and rebalances are waited out. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Error::OffsetOutOfRange`], [`Error::Corrupt`], [`Error::UnknownTopic`], and refusals that
    /// asking again does not change. Positions stay where they are.
    pub async fn poll(&mut self, timeout: Duration) -> Result<Vec<Received>> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut all = Vec::from(std::mem::take(&mut self.current));
            self.finish_current();
            if !all.is_empty() {
                return Ok(all);
            }
            if !self.wait(deadline).await? {
                return Ok(all);
            }
            let mut bytes = 0;
            while let Some(batch) = self.buffer.front().filter(|_| bytes < POLL_BYTES) {
                let mut records = match batch.records() {
                    // What came before is handed out first; the error comes again with the next poll.
                    Err(_) if !all.is_empty() => break,
                    decoded => decoded?,
                };
                bytes += batch.bytes().len();
                all.append(&mut records);
                self.take_front();
            }
            self.drive(Instant::now());
            if !all.is_empty() {
                return Ok(all);
            }
        }
    }

    /// The next batch, or none if there is none within `timeout`, otherwise as [`Consumer::poll`].
    ///
    /// # Errors
    /// Those of [`Consumer::poll`], except that records are not looked at.
    pub async fn poll_batch(&mut self, timeout: Duration) -> Result<Option<RecordBatch>> {
        // What is left of a batch that was handed out record by record comes again as a whole.
        if let Some((place, _)) = self.current_end.clone() {
            self.forget(&place);
            if let Some(assigned) = self.assigned.get_mut(&place) {
                assigned.next = assigned.position;
            }
        }
        let found = self.wait(Instant::now() + timeout).await?;
        let batch = if found { self.take_front() } else { None };
        self.drive(Instant::now());
        Ok(batch)
    }

    /// The next record, however long that takes, otherwise as [`Consumer::poll`].
    ///
    /// # Errors
    /// Those of [`Consumer::poll`].
    pub async fn next_record(&mut self) -> Result<Received> {
        loop {
            self.note_poll();
            if let Some(received) = self.current.pop_front() {
                let place = TopicPartition {
                    topic: Arc::clone(&received.topic),
                    partition: received.partition,
                };
                if let Some(assigned) = self.assigned.get_mut(&place) {
                    assigned.position = received.offset + 1;
                }
                return Ok(received);
            }
            self.finish_current();
            if !self.wait(Instant::now() + LONG).await? {
                continue;
            }
            let Some(batch) = self.buffer.front() else { continue };
            self.current = batch.records()?.into();
            if let Some(batch) = self.pop_front() {
                self.current_end = Some((batch.place.clone(), batch.end_offset()));
            }
            self.drive(Instant::now());
        }
    }

    /// The records, one by one, without an end. Between two of them the stream can be dropped, the consumer used, and
    /// another one be made.
    pub fn records(&mut self) -> impl Stream<Item = Result<Received>> + '_ {
        stream::unfold(self, async |consumer| Some((consumer.next_record().await, consumer)))
    }

    /// The batches, one by one, without an end; otherwise as [`Consumer::records`].
    pub fn batches(&mut self) -> impl Stream<Item = Result<RecordBatch>> + '_ {
        stream::unfold(self, async |consumer| {
            loop {
                match consumer.poll_batch(LONG).await {
                    Ok(None) => {}
                    Ok(Some(batch)) => return Some((Ok(batch), consumer)),
                    Err(error) => return Some((Err(error), consumer)),
                }
            }
        })
    }

    /// Waits until a batch is buffered. False if there is none by `deadline`.
    async fn wait(&mut self, deadline: Instant) -> Result<bool> {
        loop {
            self.note_poll();
            self.commit_by_itself().await;
            while let Some(done) = self.tasks.try_join_next() {
                self.handle(done)?;
            }
            self.rebalance().await?;
            let wake = self.drive(Instant::now());
            if !self.buffer.is_empty() {
                return Ok(true);
            }
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            let wakes = [wake, self.next_turn(Instant::now()), Some(deadline)];
            let until = wakes.into_iter().flatten().min().unwrap_or(deadline);
            tokio::select! {
                Some(done) = self.tasks.join_next() => self.handle(done)?,
                () = group::signalled(&mut self.group) => {}
                () = tokio::time::sleep_until(until.into()) => {
                    if Instant::now() >= deadline {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn handle(&mut self, done: std::result::Result<Event, tokio::task::JoinError>) -> Result<()> {
        let done = match done {
            // What an assignment that counts no more was looked up for.
            Err(error) if error.is_cancelled() => return Ok(()),
            done => {
                done.map_err(|error| Error::Invalid(format!("a task of the consumer: {error}")))?
            }
        };
        match done {
            Event::Fetched(answer) => self.fetched(answer),
            Event::Found { place, at, result } => self.found(&place, at, result),
            Event::Refreshed { topic, result } => self.refreshed(&topic, result),
            Event::Joined { turn, result } => self.joined(turn, result)?,
        }
        Ok(())
    }

    /// Takes the first batch off the buffer.
    fn pop_front(&mut self) -> Option<RecordBatch> {
        let batch = self.buffer.pop_front()?;
        self.buffered_bytes -= batch.bytes().len();
        Some(batch)
    }

    /// The same, and moves the position behind it.
    fn take_front(&mut self) -> Option<RecordBatch> {
        let batch = self.pop_front()?;
        if let Some(assigned) = self.assigned.get_mut(&batch.place) {
            assigned.position = batch.end_offset();
        }
        Some(batch)
    }

    /// Moves the position behind the batch whose records have all been handed out.
    fn finish_current(&mut self) {
        let Some((place, end)) = self.current_end.take() else { return };
        if let Some(assigned) = self.assigned.get_mut(&place) {
            assigned.position = end;
        }
    }

    /// Drops what is buffered of a partition.
    fn forget(&mut self, place: &TopicPartition) {
        self.buffer.retain(|batch| batch.place != *place);
        self.buffered_bytes = self.buffer.iter().map(|batch| batch.bytes().len()).sum();
        if self.current_end.as_ref().is_some_and(|(current, _)| current == place) {
            self.current.clear();
            self.current_end = None;
        }
    }
}

/// One wait of those that have no end.
const LONG: Duration = Duration::from_secs(3600);
