//! The queues of all partitions: which one a record goes to, and what is due to be sent.
//!
//! Not here: the way of a batch through its partition's queue (`queue.rs`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::ProducerConfig;
use super::delivery::Promise;
use super::outgoing::{Batch, Outcome, Taken, now_ms};
use super::queue::{Answer, Due, Lease, Limits, Queue};
use crate::batch::{Builder, Sealed, encoded_bytes_max};
use crate::cluster::BrokerId;
use crate::partitioner::partition_for_key;
use crate::{Compression, Error, Record, Result};

/// Memory for a topic's first batch.
const FIRST_BYTES: usize = 4096;

/// The queues of all partitions.
#[derive(Debug)]
pub(super) struct Queues {
    config: ProducerConfig,
    pub(super) all: Vec<Queue>,
    topics: HashMap<Arc<str>, TopicQueues>,
    next_id: u64,
    outstanding: BTreeSet<u64>,
    flush_before: u64,
    /// Batches that are closed and have yet to be compressed.
    to_seal: Vec<Job>,
    closing: bool,
    closed: bool,
}

/// A batch to be compressed where nobody waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) index: usize,
    pub(super) id: u64,
    pub(super) builder: Builder,
}

#[derive(Debug, Default)]
struct TopicQueues {
    /// Index into `all`, by partition.
    index: Vec<usize>,
    /// The size of the batch closed last, which is how large the next one may become.
    bytes: usize,
    /// Where records without a key go until a batch is closed.
    sticky: usize,
}

impl Queues {
    pub(super) fn new(config: ProducerConfig) -> Self {
        Self {
            config,
            all: Vec::new(),
            topics: HashMap::new(),
            next_id: 0,
            outstanding: BTreeSet::new(),
            flush_before: 0,
            to_seal: Vec::new(),
            closing: false,
            closed: false,
        }
    }

    pub(super) fn knows(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// Makes queues for all partitions of a topic; partitions are only ever added.
    pub(super) fn learn(&mut self, topic: &str, count: usize) {
        let name: Arc<str> = Arc::from(topic);
        let queues = self.topics.entry(Arc::clone(&name)).or_default();
        while queues.index.len() < count {
            let partition = i32::try_from(queues.index.len()).expect("partition counts are i32");
            queues.index.push(self.all.len());
            self.all.push(Queue::new(Arc::clone(&name), partition));
        }
    }

    /// Appends a record; `take` is handed who answers for it, and its place. Tells whether the sender should be woken.
    pub(super) fn push(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        record: &Record,
        reserved: usize,
        take: impl FnOnce(&Promise, i32),
    ) -> Result<bool> {
        if self.closing || self.closed {
            return Err(Error::Closed);
        }
        let mut index = self.pick(topic, partition, record.key.as_deref())?;
        let room = self.config.batch_bytes_max.saturating_sub(encoded_bytes_max(record));
        let full = self.all[index].open.as_ref().is_some_and(|open| open.bytes() > room);
        if full {
            self.seal(index);
            index = self.pick(topic, partition, record.key.as_deref())?;
        }
        let fresh = self.all[index].open.is_none();
        if fresh {
            self.outstanding.insert(self.next_id);
            let bytes = self.topics.get(topic).map_or(0, |queues| queues.bytes);
            self.all[index].open = Some(Batch::new(self.next_id, bytes.max(FIRST_BYTES)));
            self.next_id += 1;
        }
        let open = self.all[index].open.as_mut().expect("made above");
        let now_ms = if record.timestamp_ms.is_some() { 0 } else { now_ms() };
        let (promise, place) = open.push(record, reserved, now_ms);
        take(promise, place);
        Ok(full || fresh)
    }

    /// Closes the open batch of the queue at `index`. One to be compressed cannot be sent before it is.
    fn seal(&mut self, index: usize) {
        let queue = &mut self.all[index];
        let Some(open) = &mut queue.open else { return };
        if let Some(queues) = self.topics.get_mut(&queue.topic) {
            queues.bytes = open.bytes();
        }
        if self.config.compression != Compression::None {
            let id = open.id;
            let builder = open.begin_sealing();
            self.to_seal.extend(builder.map(|builder| Job { index, id, builder }));
        }
        queue.seal();
    }

    /// What is to be compressed now.
    pub(super) fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.to_seal)
    }

    /// Takes what has been compressed.
    pub(super) fn sealed(
        &mut self,
        index: usize,
        id: u64,
        result: Result<Sealed>,
        outcome: &mut Outcome,
    ) {
        let Some(queue) = self.all.get_mut(index) else { return };
        queue.sealed(id, result, outcome);
        self.finish(index, outcome);
    }

    fn pick(&mut self, topic: &str, partition: Option<i32>, key: Option<&[u8]>) -> Result<usize> {
        let unknown = || Error::UnknownTopic { topic: topic.to_owned() };
        let queues = self.topics.get_mut(topic).ok_or_else(unknown)?;
        let count = queues.index.len();
        let position = match (partition, key) {
            (Some(partition), _) => usize::try_from(partition).unwrap_or(usize::MAX),
            (None, Some(key)) => {
                let count = u32::try_from(count).expect("partition counts are i32");
                usize::try_from(partition_for_key(key, count)).expect("it is positive")
            }
            (None, None) => {
                let current = queues.index.get(queues.sticky).ok_or_else(unknown)?;
                if self.all[*current].open.is_none() {
                    queues.sticky = (queues.sticky + 1) % count;
                }
                queues.sticky
            }
        };
        queues.index.get(position).copied().ok_or_else(|| Error::UnknownPartition {
            topic: topic.to_owned(),
            partition: partition.unwrap_or_default(),
            count,
        })
    }

    /// The names of all topics that have queues.
    pub(super) fn topics(&self) -> Vec<Arc<str>> {
        self.topics.keys().cloned().collect()
    }

    /// Asks for everything taken so far to be sent at once; [`Queues::settled`] tells when it is.
    pub(super) fn flush(&mut self) -> u64 {
        self.flush_before = self.next_id;
        self.next_id
    }

    /// Whether every batch older than `target` has been answered.
    pub(super) fn settled(&self, target: u64) -> bool {
        self.closed || self.outstanding.first().is_none_or(|oldest| *oldest >= target)
    }

    /// Takes no more records, and sends those that are here at once. Returns as [`Queues::flush`].
    pub(super) fn begin_closing(&mut self) -> u64 {
        self.closing = true;
        self.flush()
    }

    /// Whether no more records are taken and none is left.
    pub(super) fn is_drained(&self) -> bool {
        self.closing && self.outstanding.is_empty()
    }

    /// How many records have not been answered.
    pub(super) fn unanswered(&self) -> usize {
        let batches = |queue: &Queue| {
            let sent = queue.in_flight.iter().chain(&queue.failed);
            sent.chain(&queue.ready).chain(&queue.open).map(Batch::records).sum::<usize>()
        };
        self.all.iter().map(batches).sum()
    }

    /// Drops everything; whoever waits is told that the producer is closed.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.all.clear();
        self.topics.clear();
        self.outstanding.clear();
        self.to_seal.clear();
    }

    /// When the queue at `index` has something to send.
    pub(super) fn due(&mut self, index: usize, now: Instant) -> Due {
        let due = self.due_now(index, now);
        let is_open = self.all[index].open.is_some() && self.all[index].ready.is_empty();
        if is_open && self.config.compression != Compression::None {
            // A batch is compressed also while the partition waits for answers.
            let open = self.all[index].open.as_ref();
            if open.is_some_and(|open| self.is_ripe(open, now)) {
                self.seal(index);
                return Due::Never;
            }
        }
        due
    }

    /// Whether an open batch is not to wait for more records.
    fn is_ripe(&self, open: &Batch, now: Instant) -> bool {
        open.created + self.config.linger <= now
            || open.id < self.flush_before
            || open.bytes() >= self.config.batch_bytes_max
    }

    fn due_now(&self, index: usize, now: Instant) -> Due {
        let queue = &self.all[index];
        if queue.is_blocked() {
            return Due::Never;
        }
        if let Some(at) = queue.retry_at.filter(|at| *at > now) {
            return Due::At(at);
        }
        let waiting = queue.failed.iter().min_by_key(|batch| batch.id).or(queue.ready.front());
        if let Some(batch) = waiting {
            if batch.is_sealing() {
                return Due::Never;
            }
            return Due::Now { bytes: batch.bytes(), generation: queue.generation() };
        }
        let Some(open) = &queue.open else { return Due::Never };
        if !self.is_ripe(open, now) {
            return Due::At(open.created + self.config.linger);
        }
        Due::Now { bytes: open.bytes(), generation: queue.generation() }
    }

    /// Takes the next batch of the queue at `index`, which is due, to be sent to `broker`.
    pub(super) fn take(
        &mut self,
        index: usize,
        broker: BrokerId,
        lease: Lease,
        outcome: &mut Outcome,
    ) -> Option<Taken> {
        let queue = &mut self.all[index];
        if !queue.in_flight.is_empty() && queue.broker != Some(broker) {
            return None;
        }
        queue.settle();
        if !queue.adopt(lease) {
            return None;
        }
        if queue.ready.is_empty() {
            self.seal(index);
        }
        let queue = &mut self.all[index];
        if queue.ready.front().is_none_or(Batch::is_sealing) {
            return None;
        }
        queue.broker = Some(broker);
        let taken = queue.take(&self.config, outcome);
        self.finish(index, outcome);
        taken
    }

    /// Files the answer to a batch of the queue at `index`.
    pub(super) fn answer(
        &mut self,
        index: usize,
        id: u64,
        answer: Answer,
        limits: &Limits,
        outcome: &mut Outcome,
    ) {
        let Some(queue) = self.all.get_mut(index) else { return };
        let Some(position) = queue.in_flight.iter().position(|batch| batch.id == id) else {
            return;
        };
        let batch = queue.in_flight.remove(position);
        queue.file(batch, answer, limits, outcome);
        self.finish(index, outcome);
    }

    /// Gives up what has waited too long. Returns when to look again.
    pub(super) fn expire(&mut self, limits: &Limits, outcome: &mut Outcome) -> Option<Instant> {
        let mut next = None::<Instant>;
        for index in 0..self.all.len() {
            let queue = &mut self.all[index];
            queue.expire(limits, outcome);
            let oldest = queue.failed.iter().chain(&queue.ready).chain(&queue.open);
            let at = oldest.map(|batch| batch.created + self.config.delivery_timeout).min();
            next = [next, at].into_iter().flatten().min();
            self.finish(index, outcome);
        }
        next
    }

    /// Ends what the queue at `index` has given up because of a gap, and removes the ended from the
    /// outstanding ones.
    fn finish(&mut self, index: usize, outcome: &mut Outcome) {
        let queue = &mut self.all[index];
        if queue.in_flight.is_empty() {
            queue.close_gap(self.config.delivery_timeout, outcome);
        }
        for id in queue.ended.drain(..) {
            self.outstanding.remove(&id);
        }
    }
}
