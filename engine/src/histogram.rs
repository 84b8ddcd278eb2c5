//! Counting what took how long, or how much, in fixed buckets: two atomic additions an observation.
//!
//! Invariants:
//! - Bounds grow, and are the same for the histogram's whole life, as Prometheus wants them.
//! - Memory is that of the buckets, however much is observed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A histogram that any thread may add to. Units are the caller's; durations count as nanoseconds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is above the last.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// The largest value that each bucket but the last counts.
    pub bounds: &'static [u64],
    /// How many values fell into each bucket: one for each bound, and one for what is above the last.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Histogram {
    /// A histogram with these upper bounds, which must grow.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        debug_assert!(bounds.is_sorted(), "bounds grow");
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts `value` into the first bucket whose bound is not below it.
    pub fn observe(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a duration, in nanoseconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(nanos(duration));
    }

    /// What has been counted.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl HistogramSnapshot {
    /// How many values were observed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A duration's nanoseconds; 584 years are the most that fits.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Histogram;

    #[test]
    fn a_value_on_a_bound_counts_below_it_and_one_above_all_in_the_last() {
        let histogram = Histogram::new(&[10, 100]);
        for value in [0, 10, 11, 100, 101, 5_000] {
            histogram.observe(value);
        }
        let seen = histogram.snapshot();
        assert_eq!(seen.counts, [2, 2, 2]);
        assert_eq!((seen.count(), seen.sum), (6, 5_222));
    }

    #[test]
    fn durations_count_as_nanoseconds() {
        let histogram = Histogram::new(&[1_000_000]);
        histogram.observe_duration(Duration::from_millis(1));
        histogram.observe_duration(Duration::from_millis(2));
        assert_eq!(histogram.snapshot().counts, [1, 1]);
        assert_eq!(histogram.snapshot().sum, 3_000_000);
    }
}
