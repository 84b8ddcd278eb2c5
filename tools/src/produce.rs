//! `jangbu produce`: writes lines, CSV rows or JSON lines, and says what became of them.

mod input;

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use jangbu_client::{Delivery, Producer, ProducerConfig, Record, Stats};
use serde_json::json;

pub(crate) use input::BadRow;
use input::{Rows, Source};

use crate::cli::{InputFormat, ProduceArgs};
use crate::output;
use crate::progress::{Progress, Unit, per_second};
use crate::topic::connect;

/// Answers that are kept until they are looked at; the producer's buffer bounds the records behind.
const DELIVERIES_MAX: usize = 1 << 16;

/// A run of `produce` so far.
struct Run {
    producer: Producer,
    deliveries: VecDeque<Delivery>,
    progress: Option<Progress>,
    started: Instant,
    sent: u64,
}

/// Writes all rows. A bad row ends the run, after everything before it is written.
pub(crate) async fn run(args: &ProduceArgs, json: bool) -> anyhow::Result<()> {
    let source = Source::open(&args.file)?;
    let (read, total) = (source.counter(), source.total());
    let format = args.format.unwrap_or_else(|| guess_format(&args.file));
    let rows = Rows::new(source, format, args.key.clone(), args.key_separator.clone())?;
    let client = connect(&args.brokers).await?;
    let config = ProducerConfig { compression: args.compression, ..ProducerConfig::default() };
    let mut run = Run {
        producer: client.producer(config),
        deliveries: VecDeque::new(),
        progress: total.map(|total| Progress::new(total, Unit::Bytes)),
        started: Instant::now(),
        sent: 0,
    };
    let outcome = run.send_all(args, rows, || read.get()).await;
    run.producer.flush().await;
    let settled = run.settle(0).await;
    if let Some(progress) = &run.progress {
        progress.finish();
    }
    summary(&args.topic, run.producer.stats(), read.get(), run.started.elapsed(), json)?;
    outcome.and(settled)
}

impl Run {
    async fn send_all(
        &mut self,
        args: &ProduceArgs,
        rows: Rows,
        read: impl Fn() -> u64,
    ) -> anyhow::Result<()> {
        for row in rows {
            let row = row?;
            self.keep_rate(args.rate).await;
            let record = Record { key: row.key, value: Some(row.value), ..Record::default() };
            let sending = self.producer.send_to(&args.topic, args.partition, record).await;
            let delivery = sending.map_err(|error| {
                anyhow::Error::from(error).context(format!("{}:{}", args.file, row.line))
            })?;
            self.deliveries.push_back(delivery);
            self.sent += 1;
            if self.sent.is_multiple_of(256) {
                self.check(&read).await?;
            }
        }
        Ok(())
    }

    /// Looks at answers now and then, so that a refusal is noticed early.
    async fn check(&mut self, read: &impl Fn() -> u64) -> anyhow::Result<()> {
        if let Some(progress) = self.progress.as_mut().filter(|progress| progress.is_due()) {
            progress.show(read(), self.producer.stats().records);
        }
        let keep = if self.producer.stats().failed > 0 { 0 } else { DELIVERIES_MAX };
        self.settle(keep).await
    }

    /// Awaits the oldest answers until only `keep` are left.
    async fn settle(&mut self, keep: usize) -> anyhow::Result<()> {
        while self.deliveries.len() > keep {
            if let Some(delivery) = self.deliveries.pop_front() {
                delivery.await?;
            }
        }
        Ok(())
    }

    async fn keep_rate(&self, rate: Option<u32>) {
        let Some(rate) = rate else { return };
        let due = Duration::from_secs(1).mul_f64(to_f64(self.sent) / f64::from(rate));
        let ahead = due.saturating_sub(self.started.elapsed());
        if ahead > Duration::from_millis(1) {
            tokio::time::sleep(ahead).await;
        }
    }
}

/// Exact up to 2^53, more records than one run has.
#[expect(clippy::cast_precision_loss, reason = "a rate needs no exact count")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

/// What a file's ending says.
fn guess_format(file: &str) -> InputFormat {
    let ending = Path::new(file).extension().and_then(|ending| ending.to_str());
    match ending.map(str::to_ascii_lowercase).as_deref() {
        Some("csv") => InputFormat::Csv,
        Some("json" | "jsonl" | "ndjson") => InputFormat::Json,
        _ => InputFormat::Lines,
    }
}

fn summary(
    topic: &str,
    stats: Stats,
    input_bytes: u64,
    elapsed: Duration,
    as_json: bool,
) -> anyhow::Result<()> {
    let rate = per_second(stats.records, elapsed);
    let seconds = elapsed.as_secs_f64();
    if as_json {
        output::json_line(&json!({
            "topic": topic,
            "records": stats.records,
            "failed": stats.failed,
            "input_bytes": input_bytes,
            "wire_bytes": stats.bytes,
            "batches": stats.batches,
            "retries": stats.retries,
            "seconds": (seconds * 1000.0).round() / 1000.0,
            "records_per_second": rate,
        }))?;
        return Ok(());
    }
    output::note(&format!(
        "{} records written to {topic} in {seconds:.1} s ({} records/s, {} read, {} sent, {} batches, {} retries{})",
        output::grouped(stats.records),
        output::grouped(rate),
        output::human_bytes(input_bytes),
        output::human_bytes(stats.bytes),
        output::grouped(stats.batches),
        stats.retries,
        if stats.failed > 0 {
            format!(", {} FAILED", output::grouped(stats.failed))
        } else {
            String::new()
        },
    ));
    Ok(())
}
