//! Writes records: batched per partition, acknowledged by a majority, exactly once and in order.
//!
//! ```text
//! send ─► queue per partition ─► sender task ─► one Produce per broker, up to 5 unanswered
//!  ▲        (queues.rs)           (sender.rs)                 │
//!  └─ waits while buffer is full        ◄── answers, retries ─┘
//! ```
//!
//! Invariants:
//! - Records of one partition are written in the order of their `send`, also through lost connections
//!   and restarted brokers: each batch has a sequence number, by which the broker recognises repeats.
//! - Every record that `send` took gets exactly one answer: its offset or an error.

mod delivery;
mod outgoing;
mod queue;
mod queues;
mod request;
mod sender;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit, TryAcquireError};

use crate::batch::encoded_bytes_max;
use crate::cluster::{Cluster, Scope};
use crate::setters::setters;
use crate::{Compression, Error, Record, Result};

pub use delivery::{BatchDelivery, Delivered, Delivery, Written};
use queues::Queues;
use sender::Sender;

/// A broker that creates a topic because it was asked about it still calls it unknown for a while.
const CREATION_WAIT: Duration = Duration::from_secs(5);

/// Bytes of records that are taken under one lock.
const CHUNK_BYTES: usize = 64 << 10;

/// How a producer batches and how long it tries.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// How long a batch waits for more records. Default: 5 ms.
    pub linger: Duration,
    /// A batch is closed at this size before compression. Default: 512 KiB. Brokers refuse batches
    /// larger than their `max.message.bytes`, by default 1 MiB.
    pub batch_bytes_max: usize,
    /// Largest record that is taken. Default: 1 MiB.
    pub record_bytes_max: usize,
    /// Most bytes in one request. Default: 8 MiB.
    pub request_bytes_max: usize,
    /// Bytes of unacknowledged records at which `send` begins to wait. Default: 32 MiB.
    pub buffer_bytes: usize,
    /// Most requests to one broker that are not answered yet. Default and largest: 5.
    pub in_flight_max: usize,
    /// How batches are compressed. Default: not at all.
    pub compression: Compression,
    /// How hard the codec tries, on its own scale: gzip 1 to 9 (6 by default), lz4 0 to 12 (0), zstd -7 to 22 (3);
    /// a number outside is brought inside. Default: the codec's.
    pub compression_level: Option<i32>,
    /// Whether brokers are to recognise repeated batches. Default: true.
    pub idempotent: bool,
    /// Time from `send` until a record that is still not acknowledged is given up. Default: 120 s.
    pub delivery_timeout: Duration,
}

setters! { ProducerConfig:
    field with_linger linger: Duration,
    field with_batch_bytes_max batch_bytes_max: usize,
    field with_record_bytes_max record_bytes_max: usize,
    field with_request_bytes_max request_bytes_max: usize,
    field with_buffer_bytes buffer_bytes: usize,
    field with_in_flight_max in_flight_max: usize,
    field with_compression compression: Compression,
    some with_compression_level compression_level: i32,
    field with_idempotent idempotent: bool,
    field with_delivery_timeout delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(5),
            batch_bytes_max: 512 << 10,
            record_bytes_max: 1 << 20,
            request_bytes_max: 8 << 20,
            buffer_bytes: 32 << 20,
            in_flight_max: 5,
            compression: Compression::None,
            compression_level: None,
            idempotent: true,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// What a producer has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Records acknowledged.
    pub records: u64,
    /// Batches acknowledged.
    pub batches: u64,
    /// Bytes of acknowledged batches on the wire.
    pub bytes: u64,
    /// Batches sent again.
    pub retries: u64,
    /// Records given up.
    pub failed: u64,
}

/// Writes records. Clones share its queues.
///
/// When the last clone is dropped, what was taken is still sent, as long as the runtime lives;
/// [`Producer::close`] waits for that.
#[derive(Debug, Clone)]
pub struct Producer {
    shared: Arc<Shared>,
    _last: Arc<Last>,
}

/// Closes the producer with its last clone.
#[derive(Debug)]
struct Last(Arc<Shared>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.queues().begin_closing();
        self.0.wake.notify_one();
    }
}

#[derive(Debug)]
struct Shared {
    cluster: Arc<Cluster>,
    config: ProducerConfig,
    queues: Mutex<Queues>,
    /// Wakes the sender.
    wake: Notify,
    /// Wakes whoever flushes.
    settled: Notify,
    /// Bytes that may still be taken.
    budget: Semaphore,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    records: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
    retries: AtomicU64,
    failed: AtomicU64,
}

fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().expect("no code panics while it holds this lock")
    }
}

impl Producer {
    pub(crate) fn start(cluster: Arc<Cluster>, mut config: ProducerConfig) -> Self {
        config.in_flight_max = config.in_flight_max.clamp(1, 5);
        config.buffer_bytes = config.buffer_bytes.min(u32::MAX as usize);
        let budget = Semaphore::new(config.buffer_bytes);
        let shared = Arc::new(Shared {
            cluster,
            queues: Mutex::new(Queues::new(config.clone())),
            wake: Notify::new(),
            settled: Notify::new(),
            budget,
            counters: Counters::default(),
            config,
        });
        tokio::spawn(Sender::new(Arc::clone(&shared)).run());
        Self { _last: Arc::new(Last(Arc::clone(&shared))), shared }
    }

    /// Takes a record for the partition of its key, or for any partition if it has none. Waits while
    /// the buffer is full. The record is on its way when this returns; await the [`Delivery`] to know
    /// that it is written.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`]; [`Error::UnknownTopic`] if the brokers neither have nor create it.
    pub async fn send(&self, topic: &str, record: Record) -> Result<Delivery> {
        self.send_to(topic, None, record).await
    }

    /// Like [`Producer::send`], to a partition of the caller's choice.
    ///
    /// # Errors
    /// Those of [`Producer::send`], and [`Error::UnknownPartition`].
    pub async fn send_to(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: Record,
    ) -> Result<Delivery> {
        let bytes = self.judge(&record)?;
        self.learn(topic).await?;
        let permit = self.reserve(bytes).await?;
        let mut delivery = None;
        let wake = self.shared.queues().push(topic, partition, &record, bytes, |promise, at| {
            delivery = Some(promise.delivery(at));
        })?;
        permit.forget();
        if wake {
            self.shared.wake.notify_one();
        }
        delivery.ok_or(Error::Closed)
    }

    /// Takes many records at a fraction of the cost of sending each: those without a partition or key
    /// travel together. Waits while the buffer is full.
    ///
    /// ```no_run
    /// # async fn example(producer: jangbu_client::Producer) -> jangbu_client::Result<()> {
    /// use jangbu_client::Record;
    ///
    /// let lines = ["one", "two", "three"].map(|line| Record::new(None::<&str>, line));
    /// for part in producer.send_batch("lines", None, &lines).await?.await? {
    ///     println!("{} in partition {} from {:?}", part.count, part.partition, part.first_offset);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Producer::send_to`]. None of the records is taken if one is too large, or the topic or
    /// partition unknown.
    pub async fn send_batch(
        &self,
        topic: &str,
        partition: Option<i32>,
        records: &[Record],
    ) -> Result<BatchDelivery> {
        for record in records {
            self.judge(record)?;
        }
        self.learn(topic).await?;
        let mut all = BatchDelivery::default();
        let mut rest = records;
        while !rest.is_empty() {
            let (chunk, bytes) = self.chunk(rest);
            rest = &rest[chunk.len()..];
            let permit = self.reserve(bytes).await?;
            let (mut wake, mut unused) = (false, bytes);
            let mut queues = self.shared.queues();
            for record in chunk {
                // Records share what is reserved, so a single one may be larger than what is left.
                let reserved = encoded_bytes_max(record).min(unused);
                let push = queues.push(topic, partition, record, reserved, |promise, at| {
                    all.add(promise, at);
                });
                wake |= push?;
                unused -= reserved;
            }
            drop(queues);
            permit.forget();
            if wake {
                self.shared.wake.notify_one();
            }
        }
        Ok(all)
    }

    /// The first of `records`, which are taken under one lock, and what they may take.
    fn chunk<'a>(&self, records: &'a [Record]) -> (&'a [Record], usize) {
        let limit = CHUNK_BYTES.min(self.shared.config.buffer_bytes);
        let mut bytes = 0;
        for (count, record) in records.iter().enumerate() {
            let more = encoded_bytes_max(record);
            if count > 0 && bytes + more > limit {
                return (&records[..count], bytes);
            }
            bytes += more;
        }
        (records, bytes.min(self.shared.config.buffer_bytes))
    }

    /// The most bytes a record may take, which is what is reserved for it.
    fn judge(&self, record: &Record) -> Result<usize> {
        let bytes = encoded_bytes_max(record);
        let limit = self.shared.config.record_bytes_max;
        if bytes > limit {
            return Err(Error::RecordTooLarge { bytes, limit });
        }
        Ok(bytes.min(self.shared.config.buffer_bytes))
    }

    /// Waits for room in the buffer.
    async fn reserve(&self, bytes: usize) -> Result<SemaphorePermit<'_>> {
        let permits = u32::try_from(bytes).expect("the buffer is at most u32::MAX");
        let budget = &self.shared.budget;
        match budget.try_acquire_many(permits) {
            Err(TryAcquireError::NoPermits) => {
                budget.acquire_many(permits).await.map_err(|_| Error::Closed)
            }
            taken => taken.map_err(|_| Error::Closed),
        }
    }

    /// Makes sure that the topic's queues exist.
    async fn learn(&self, topic: &str) -> Result<()> {
        if self.shared.queues().knows(topic) {
            return Ok(());
        }
        let cluster = &self.shared.cluster;
        let asked = tokio::time::Instant::now();
        let mut failures = 0;
        let known = loop {
            let error = match cluster.topic(Scope::OrCreate(topic)).await {
                Ok(known) => break known,
                Err(error) => error,
            };
            let patience = match error {
                Error::UnknownTopic { .. } => CREATION_WAIT,
                _ if error.is_retriable() => cluster.config.request_timeout,
                _ => return Err(error),
            };
            if asked.elapsed() >= patience {
                return Err(error);
            }
            failures += 1;
            tokio::time::sleep(cluster.config.backoff(failures)).await;
        };
        self.shared.queues().learn(topic, known.partitions.len());
        Ok(())
    }

    /// Waits until every record taken before this call is acknowledged or given up.
    pub async fn flush(&self) {
        let target = self.shared.queues().flush();
        self.wait(target).await;
    }

    /// Takes no more records, here and in all clones, and waits until every record is acknowledged or
    /// given up. What became of each is in its [`Delivery`], and all together in the result.
    pub async fn close(&self) -> Stats {
        let target = self.shared.queues().begin_closing();
        self.wait(target).await;
        self.stats()
    }

    /// Waits until every batch older than `target` is answered.
    async fn wait(&self, target: u64) {
        self.shared.wake.notify_one();
        loop {
            let settled = self.shared.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.shared.queues().settled(target) {
                return;
            }
            settled.await;
        }
    }

    /// What has been done so far.
    pub fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        Stats {
            records: read(&counters.records),
            batches: read(&counters.batches),
            bytes: read(&counters.bytes),
            retries: read(&counters.retries),
            failed: read(&counters.failed),
        }
    }
}
