//! Latencies: histograms of microseconds (HdrHistogram, three digits), and the points of them that are told.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longer ones count as this: ten minutes.
const LONGEST_US: u64 = 600_000_000;

/// What is told of a histogram, in percent.
pub(crate) const POINTS: [f64; 4] = [50.0, 90.0, 99.0, 99.9];

/// Latencies of what was due within a window.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    window: (Instant, Instant),
    histogram: Histogram<u64>,
}

impl Latencies {
    /// None yet. What was due before `from` or not before `until` will not count.
    pub(crate) fn within(from: Instant, until: Instant) -> Self {
        let histogram =
            Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are in order");
        Self { window: (from, until), histogram }
    }

    /// Something that was due then is done now.
    pub(crate) fn done(&mut self, due: Instant) {
        if due >= self.window.0 && due < self.window.1 {
            let us = Duration::as_micros(&due.elapsed());
            self.histogram.saturating_record(u64::try_from(us).unwrap_or(LONGEST_US));
        }
    }

    /// The milliseconds within which so many percent were done; `None` of nothing.
    pub(crate) fn at(&self, percent: f64) -> Option<f64> {
        (!self.histogram.is_empty()).then(|| ms(self.histogram.value_at_percentile(percent)))
    }

    /// The longest, in milliseconds.
    pub(crate) fn longest(&self) -> f64 {
        ms(self.histogram.max())
    }

    /// Points of the curve, for a chart: nines on the x axis (1 is 90 %, 2 is 99 %), milliseconds on the y axis.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        let count = to_f64(self.histogram.len());
        let most = count.log10();
        let nines =
            (0..=60_u32).map(|step| f64::from(step) / 12.0).take_while(|nines| *nines <= most);
        nines
            .filter_map(|nines| Some((nines, self.at(100.0 * (1.0 - 10_f64.powf(-nines)))?)))
            .collect()
    }

    /// For scripts.
    pub(crate) fn to_json(&self) -> Value {
        let [p50, p90, p99, p999] = POINTS.map(|percent| self.at(percent));
        json!({
            "count": self.histogram.len(), "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "p99_9_ms": p999,
            "max_ms": self.longest(),
        })
    }
}

fn ms(us: u64) -> f64 {
    to_f64(us) / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "counts and times are far below 2^53")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_due_in_the_window_counts() {
        let now = Instant::now();
        let mut latencies = Latencies::within(now, now + Duration::from_secs(1));
        assert_eq!(latencies.at(50.0), None);
        latencies.done(now.checked_sub(Duration::from_secs(1)).unwrap());
        latencies.done(now + Duration::from_secs(2));
        latencies.done(now);
        assert_eq!(latencies.to_json()["count"], 1);
    }
}
