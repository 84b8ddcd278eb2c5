//! The queues of all partitions: which one a record goes to, and what is due to be sent.
//!
//! Not here: the way of a batch through its partition's queue (`queue.rs`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::ProducerConfig;
use super::outgoing::{Batch, Outcome, Taken, Waiter};
use super::queue::{Answer, Due, Lease, Limits, Queue};
use crate::batch::encoded_bytes_max;
use crate::cluster::BrokerId;
use crate::partitioner::partition_for_key;
use crate::{Error, Record, Result};

/// The queues of all partitions.
#[derive(Debug)]
pub(super) struct Queues {
    config: ProducerConfig,
    pub(super) all: Vec<Queue>,
    topics: HashMap<Arc<str>, TopicQueues>,
    next_id: u64,
    outstanding: BTreeSet<u64>,
    flush_before: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct TopicQueues {
    /// Index into `all`, by partition.
    index: Vec<usize>,
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

    /// Appends a record and tells whether the sender should be woken.
    pub(super) fn push(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        record: &Record,
        reserved: usize,
        waiter: Waiter,
    ) -> Result<bool> {
        if self.closed {
            return Err(Error::Closed);
        }
        let index = self.pick(topic, partition, record.key.as_deref())?;
        let queue = &mut self.all[index];
        let room = self.config.batch_bytes.saturating_sub(encoded_bytes_max(record));
        let full = queue.open.as_ref().is_some_and(|open| open.bytes() > room);
        if full {
            queue.seal();
        }
        let fresh = queue.open.is_none();
        if fresh {
            self.outstanding.insert(self.next_id);
            queue.open = Some(Batch::new(self.next_id));
            self.next_id += 1;
        }
        let open = queue.open.as_mut().expect("made above");
        open.push(record, reserved, waiter);
        Ok(full || fresh)
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

    /// Drops everything; whoever waits is told that the producer is closed.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.all.clear();
        self.topics.clear();
        self.outstanding.clear();
    }

    /// When the queue at `index` has something to send.
    pub(super) fn due(&self, index: usize, now: Instant) -> Due {
        let queue = &self.all[index];
        if queue.is_blocked() {
            return Due::Never;
        }
        if let Some(at) = queue.retry_at.filter(|at| *at > now) {
            return Due::At(at);
        }
        let waiting = queue.failed.iter().min_by_key(|batch| batch.id).or(queue.ready.front());
        if let Some(batch) = waiting {
            return Due::Now { bytes: batch.bytes(), generation: queue.generation() };
        }
        let Some(open) = &queue.open else { return Due::Never };
        let at = open.created + self.config.linger;
        if at > now && open.id >= self.flush_before && open.bytes() < self.config.batch_bytes {
            return Due::At(at);
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
            queue.seal();
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
