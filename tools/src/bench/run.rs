//! One run: a topic, a load on it, and what came out.

mod consume;
mod produce;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Side;
use super::latency::Latencies;
use super::load::{Kind, Load};
use super::usage::Usage;

/// Time between two points of the throughput's curve.
const POINT: Duration = Duration::from_millis(500);

/// What one run came to.
#[derive(Debug)]
pub(crate) struct Run {
    /// Records that were acknowledged, or read, while it was measured.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// How long it was measured.
    pub seconds: f64,
    /// Seconds from the beginning, and the MB/s since the point before.
    pub points: Vec<(f64, f64)>,
    /// From the time a record was due until it was acknowledged, if there was a rate.
    pub acknowledged: Option<Latencies>,
    /// From the time a record was due until it was read, if there was a reader.
    pub end_to_end: Option<Latencies>,
    /// What the broker used meanwhile.
    pub broker: Option<Usage>,
    /// What this process used meanwhile.
    pub own: Usage,
}

impl Run {
    /// Millions of bytes a second.
    pub(crate) fn mb_per_second(&self) -> f64 {
        to_f64(self.bytes) / self.seconds / 1e6
    }

    /// Records a second.
    pub(crate) fn records_per_second(&self) -> f64 {
        to_f64(self.records) / self.seconds
    }

    /// CPU seconds of the broker per 10^9 bytes of values.
    pub(crate) fn broker_cpu_per_gb(&self) -> Option<f64> {
        self.broker.map(|used| used.cpu_s / to_f64(self.bytes) * 1e9)
    }

    /// CPU seconds of this process per 10^9 bytes of values.
    pub(crate) fn own_cpu_per_gb(&self) -> f64 {
        self.own.cpu_s / to_f64(self.bytes) * 1e9
    }

    /// For people who wait for the rest.
    pub(crate) fn in_a_line(&self) -> String {
        let mut line =
            format!("{:.1} MB/s, {:.0} records/s", self.mb_per_second(), self.records_per_second());
        for (latencies, what) in [(&self.acknowledged, "acknowledged"), (&self.end_to_end, "read")]
        {
            let Some(latencies) = latencies else { continue };
            if let (Some(p50), Some(p99)) = (latencies.at(50.0), latencies.at(99.0)) {
                line += &format!(", {what} after {p50:.2} ms (p50), {p99:.2} ms (p99)");
            }
        }
        line
    }

    /// For scripts.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "records": self.records,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "mb_per_s": self.mb_per_second(),
            "records_per_s": self.records_per_second(),
            "acknowledged": self.acknowledged.as_ref().map(Latencies::to_json),
            "end_to_end": self.end_to_end.as_ref().map(Latencies::to_json),
            "broker_cpu_s_per_gb": self.broker_cpu_per_gb(),
            "broker_resident_bytes": self.broker.map(|used| used.resident),
            "broker_written_bytes": self.broker.map(|used| used.written),
            "client_cpu_s_per_gb": self.own_cpu_per_gb(),
            "throughput": self.points,
        })
    }
}

/// Counts something that only grows, in windows.
pub(crate) struct Meter<'a> {
    side: &'a Side,
    began: Instant,
    broker: Option<Usage>,
    own: Usage,
    first: u64,
    last: (Instant, u64),
    record_bytes: u64,
    points: Vec<(f64, f64)>,
}

impl<'a> Meter<'a> {
    /// Begins to count, at so many records.
    pub(crate) fn begin(side: &'a Side, load: &Load, records: u64) -> anyhow::Result<Self> {
        let began = Instant::now();
        Ok(Self {
            side,
            began,
            broker: side.pid.map(Usage::of).transpose()?,
            own: Usage::of("self")?,
            first: records,
            last: (began, records),
            record_bytes: load.size as u64,
            points: Vec::new(),
        })
    }

    /// There are so many records now.
    pub(crate) fn look(&mut self, records: u64) {
        let (at, before) = self.last;
        let passed = at.elapsed();
        if passed < POINT {
            return;
        }
        self.last = (Instant::now(), records);
        let bytes = to_f64((records - before) * self.record_bytes);
        self.points.push((self.began.elapsed().as_secs_f64(), bytes / passed.as_secs_f64() / 1e6));
    }

    /// The end, at so many records.
    pub(crate) fn end(self, records: u64) -> anyhow::Result<Run> {
        let seconds = self.began.elapsed().as_secs_f64();
        let records = records - self.first;
        anyhow::ensure!(records > 0, "no record was acknowledged in {seconds:.0} s");
        let broker = match (self.side.pid, self.broker) {
            (Some(pid), Some(before)) => Some(Usage::of(pid)?.since(&before)),
            _ => None,
        };
        Ok(Run {
            records,
            bytes: records * self.record_bytes,
            seconds,
            points: self.points,
            acknowledged: None,
            end_to_end: None,
            broker,
            own: Usage::of("self")?.since(&self.own),
        })
    }
}

/// Does the load once.
pub(crate) async fn measure(load: &Load, side: &Side) -> anyhow::Result<Run> {
    let topic = load.topic();
    side.client.create_topic(&topic).await?;
    let done = match load.kind {
        Kind::Consume => consume::measure(load, side, &topic.name).await,
        Kind::Produce | Kind::Latency | Kind::Mixed => {
            produce::measure(load, side, &topic.name).await
        }
    };
    let deleted = side.client.delete_topic(&topic.name).await;
    let run = done?;
    deleted?;
    Ok(run)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn to_f64(count: u64) -> f64 {
    count as f64
}
