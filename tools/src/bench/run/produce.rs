//! Writing, at a rate or as fast as it goes, and with or without somebody who reads it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jangbu_client::{Consumer, ConsumerConfig, Position, Producer};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::Side;
use super::super::latency::Latencies;
use super::super::load::Load;
use super::super::pace::{Pace, Sent};
use super::super::payload::Payload;
use super::{Meter, Run};

/// Time between two looks at what the producers have done.
const LOOK: Duration = Duration::from_millis(50);
/// Timed records that are on their way to whoever waits for them.
const TIMED_MAX: usize = 1 << 16;
/// Longest wait for the records that were due, but not sent, when a run ended.
const REST: Duration = Duration::from_secs(60);
/// Longest wait for the next records; the reader looks after it whether the run is over.
const POLL: Duration = Duration::from_millis(100);

/// One run that writes.
pub(super) async fn measure(load: &Load, side: &Side, topic: &str) -> anyhow::Result<Run> {
    let reader = match load.kind.follows() {
        true => Some(reader(load, side, topic).await?),
        false => None,
    };
    let mut producers = Vec::new();
    for _ in 0..load.producers {
        producers.push(Side::connect(&side.brokers).await?.producer(load.producer.clone()));
    }
    let begin = Instant::now();
    let window =
        Window { begin, from: begin + load.warm_up, until: begin + load.warm_up + load.measured };
    let latencies = Latencies::within(window.from, window.until);
    let payload = Payload::new(load, begin);
    let over = Arc::new(AtomicBool::new(false));
    let reader = reader.map(|consumer| {
        tokio::spawn(read(consumer, payload.clone(), latencies.clone(), Arc::clone(&over)))
    });
    let mut writers = Writers::start(load, producers, topic, &payload, window)?;
    let collector = writers.timed.take().map(|timed| tokio::spawn(collect(timed, latencies)));

    let measured = writers.measure(load, side, window).await;
    writers.end().await?;
    let mut run = measured?;
    if let Some(collector) = collector {
        run.acknowledged = Some(collector.await??);
    }
    // What is written is read soon after; the reader ends when nothing more comes.
    over.store(true, Ordering::Relaxed);
    if let Some(reader) = reader {
        run.end_to_end = Some(reader.await??);
    }
    Ok(run)
}

/// When a run begins, and what of it is measured.
#[derive(Debug, Clone, Copy)]
struct Window {
    begin: Instant,
    from: Instant,
    until: Instant,
}

/// All producers of a run.
struct Writers {
    producers: Vec<Producer>,
    stop: Arc<AtomicBool>,
    flat_out: JoinSet<jangbu_client::Result<()>>,
    paced: Vec<std::thread::JoinHandle<jangbu_client::Result<()>>>,
    timed: Option<mpsc::Receiver<Sent>>,
}

impl Writers {
    fn start(
        load: &Load,
        producers: Vec<Producer>,
        topic: &str,
        payload: &Payload,
        window: Window,
    ) -> anyhow::Result<Self> {
        let (timed, answers) = mpsc::channel(TIMED_MAX);
        let mut all = Self {
            producers,
            stop: Arc::new(AtomicBool::new(false)),
            flat_out: JoinSet::new(),
            paced: Vec::new(),
            timed: load.rate.is_some().then_some(answers),
        };
        for (at, producer) in (0..).zip(&all.producers) {
            let (producer, payload, topic) = (producer.clone(), payload.clone(), topic.to_owned());
            let (of, stop, timed) =
                (u64::from(load.producers), Arc::clone(&all.stop), timed.clone());
            if let Some(rate) = load.rate {
                let (begin, until) = (window.begin, window.until);
                let pace =
                    Pace { producer, payload, topic, rate, at, of, begin, until, stop, timed };
                let runtime = tokio::runtime::Handle::current();
                let thread = std::thread::Builder::new().name(format!("pace-{at}"));
                all.paced.push(thread.spawn(move || pace.run(&runtime))?);
            } else {
                all.flat_out.spawn(flat_out(producer, payload, topic, (at, of), stop));
            }
        }
        Ok(all)
    }

    /// Records acknowledged.
    ///
    /// # Errors
    /// When one was given up: then there is no result.
    fn records(&self) -> anyhow::Result<u64> {
        let stats = self.producers.iter().map(Producer::stats);
        let (records, failed) = stats.fold((0, 0), |(records, failed), stats| {
            (records + stats.records, failed + stats.failed)
        });
        anyhow::ensure!(failed == 0, "{failed} records were not acknowledged");
        Ok(records)
    }

    async fn measure(&mut self, load: &Load, side: &Side, window: Window) -> anyhow::Result<Run> {
        self.wait(window.from, |_| ()).await?;
        let mut meter = Meter::begin(side, load, self.records()?)?;
        self.wait(window.until, |records| meter.look(records)).await?;
        meter.end(self.records()?)
    }

    async fn wait(&mut self, until: Instant, mut look: impl FnMut(u64)) -> anyhow::Result<()> {
        while Instant::now() < until {
            tokio::time::sleep(LOOK.min(until.saturating_duration_since(Instant::now()))).await;
            look(self.records()?);
            if let Some(ended) = self.flat_out.try_join_next() {
                ended??;
            }
        }
        Ok(())
    }

    /// Returns when all that was due is acknowledged.
    ///
    /// # Errors
    /// When that takes more than [`REST`]: then the rate has no latencies.
    async fn end(self) -> anyhow::Result<()> {
        let Self { producers, stop, mut flat_out, mut paced, timed: _ } = self;
        let late = Instant::now() + REST;
        while paced.iter().any(|thread| !thread.is_finished()) && Instant::now() < late {
            tokio::time::sleep(LOOK).await;
        }
        let in_time = Instant::now() < late;
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = flat_out.join_next().await {
            ended??;
        }
        for thread in paced.drain(..) {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await?;
            ended.map_err(|_| anyhow::anyhow!("a thread that writes has panicked"))??;
        }
        for producer in &producers {
            producer.flush().await;
        }
        anyhow::ensure!(
            in_time,
            "the broker does not keep up with this rate: {REST:?} later not all was sent; try a lower --rate"
        );
        Ok(())
    }
}

/// Writes as fast as the producer takes records.
async fn flat_out(
    producer: Producer,
    payload: Payload,
    topic: String,
    (mut number, of): (u64, u64),
    stop: Arc<AtomicBool>,
) -> jangbu_client::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let (partition, record) = payload.record(number, Instant::now());
        // Its answer is counted by the producer.
        drop(producer.send_to(&topic, partition, record).await?);
        number += of;
    }
    Ok(())
}

/// Times answers until all that were sent have one.
async fn collect(
    mut sent: mpsc::Receiver<Sent>,
    mut latencies: Latencies,
) -> jangbu_client::Result<Latencies> {
    let mut waiting = JoinSet::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        tokio::select! {
            next = sent.recv(), if open => match next {
                Some(Sent { due, delivery }) => {
                    waiting.spawn(async move { delivery.await.map(|_| due) });
                }
                None => open = false,
            },
            Some(done) = waiting.join_next() => {
                latencies.done(done.expect("waiting for an answer does not panic")?);
            }
        }
    }
    Ok(latencies)
}

/// Somebody who reads all partitions.
async fn reader(load: &Load, side: &Side, topic: &str) -> anyhow::Result<Consumer> {
    let config = ConsumerConfig { wait_max: POLL, ..ConsumerConfig::default() };
    let mut consumer = Side::connect(&side.brokers).await?.consumer(config);
    for partition in 0..load.partitions {
        consumer.assign_at(topic, partition, Position::Earliest).await?;
    }
    Ok(consumer)
}

/// Reads until the run is over and nothing more comes.
async fn read(
    mut consumer: Consumer,
    payload: Payload,
    mut latencies: Latencies,
    over: Arc<AtomicBool>,
) -> jangbu_client::Result<Latencies> {
    loop {
        let last = over.load(Ordering::Relaxed);
        let read = consumer.poll(POLL).await?;
        if read.is_empty() && last {
            return Ok(latencies);
        }
        for received in &read {
            let value = received.record.value.as_deref().unwrap_or_default();
            if let Some(due) = payload.due(value) {
                latencies.done(due);
            }
        }
    }
}
