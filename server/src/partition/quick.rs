//! Reads done on the spot, on the thread that asks, while such reads are quick: waking another thread for one costs
//! more than the read itself when that is in memory, which nobody can know before.
//!
//! Invariants:
//! - One thread of the runtime at least is never in such a read.
//! - While they take long on average, because of the disk or of writes that are waited for, only one in
//!   [`PROBE_EVERY`] is tried, to learn whether they still do.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Reads count as quick up to this on average.
const QUICK: Duration = Duration::from_micros(50);
/// What one read counts at most: one that is very late does not decide about the next thousand.
const COUNTED_MAX: Duration = Duration::from_millis(1);
const PROBE_EVERY: u64 = 64;
/// The weight of one read is one part in so many.
const PARTS: u64 = 16;

/// Whether reads are quick, over all partitions.
#[derive(Debug)]
pub(crate) struct Quick {
    reading: AtomicUsize,
    reading_max: usize,
    mean_nanos: AtomicU64,
    asked: AtomicU64,
}

/// A read under way.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Quick {
    /// For a runtime of so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            reading: AtomicUsize::new(0),
            reading_max: threads.saturating_sub(1),
            mean_nanos: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        }
    }

    /// Reads on the spot, or gives the read back to be done elsewhere.
    pub(super) fn read<T, F: FnOnce() -> T>(&self, read: F) -> Result<T, F> {
        let Some(_place) = self.place() else { return Err(read) };
        let begun = Instant::now();
        let result = read();
        self.took(begun.elapsed());
        Ok(result)
    }

    fn place(&self) -> Option<Place<'_>> {
        let is_probe = self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(PROBE_EVERY);
        if !is_probe && self.mean_nanos.load(Ordering::Relaxed) > nanos(QUICK) {
            return None;
        }
        let before = self.reading.fetch_add(1, Ordering::Acquire);
        let place = Place(&self.reading);
        (before < self.reading_max).then_some(place)
    }

    fn took(&self, took: Duration) {
        let mean = self.mean_nanos.load(Ordering::Relaxed);
        let counted = nanos(took.min(COUNTED_MAX));
        // Two at the same time may lose one of them, which changes little.
        self.mean_nanos.store(mean - mean / PARTS + counted / PARTS, Ordering::Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_is_never_in_a_read() {
        let quick = Quick::new(3);
        let nested = quick.read(|| quick.read(|| quick.read(|| ()).is_err()).ok()).ok();
        assert_eq!(nested, Some(Some(true)), "the third of three threads reads elsewhere");
        assert!(quick.read(|| ()).is_ok(), "both places are free again");
        assert!(Quick::new(1).read(|| ()).is_err());
    }

    #[test]
    fn slow_reads_go_elsewhere_until_probes_are_quick_again() {
        let quick = Quick::new(2);
        assert!(quick.read(|| ()).is_ok());
        quick.took(Duration::from_secs(9));
        assert_eq!(quick.mean_nanos.load(Ordering::Relaxed) / 1_000, 62, "one part of the most");
        let here = |count: u64| (0..count).filter(|_| quick.place().is_some()).count();
        assert_eq!(here(PROBE_EVERY), 1, "a probe");
        for _ in 0..9 {
            quick.took(Duration::from_micros(5));
        }
        assert_eq!(here(PROBE_EVERY), 64);
    }
}
