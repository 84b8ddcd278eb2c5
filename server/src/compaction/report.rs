//! What the cleaner has done and what it has left, for `/metrics` and `/readyz`.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jangbu_engine::{CleanStep, PartitionId};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::choice::{Dirt, ratio};
use super::{RETRY_MAX, RETRY_MIN};

/// Partitions that are named at most; the rest is counted.
const NAMED_MAX: usize = 10;

/// What the last look saw, over all compacted replicas here.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Seen {
    /// The largest share of dirty bytes.
    pub(crate) dirty_ratio: f64,
    pub(crate) dirty_bytes: u64,
    pub(crate) settled_bytes: u64,
    pub(crate) superseded: u64,
    /// Of the record that has waited longest; `None` when none waits.
    pub(crate) oldest_dirty_ms: Option<i64>,
}

/// A partition that could not be cleaned.
#[derive(Debug)]
struct Failing {
    name: String,
    error: String,
    attempts: u32,
    retry: Instant,
}

/// What the cleaner has done since the node's start.
#[derive(Debug, Default)]
pub(crate) struct Report {
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    removed: AtomicU64,
    passes: AtomicU64,
    errors: AtomicU64,
    building: AtomicU64,
    seen: Mutex<Seen>,
    /// When each partition was cleaned last, ms since the epoch.
    cleaned: Mutex<HashMap<PartitionId, i64>>,
    failing: Mutex<HashMap<PartitionId, Failing>>,
    /// Dirty bytes of partitions, by the last look.
    dirt: Mutex<HashMap<PartitionId, u64>>,
}

/// What the cleaner has counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) removed: u64,
    pub(crate) passes: u64,
    pub(crate) errors: u64,
    /// Partitions whose key index is being built.
    pub(crate) building: u64,
    /// Partitions that could not be cleaned when that was tried last.
    pub(crate) failing: u64,
    /// When a partition was cleaned last, ms since the epoch.
    pub(crate) last_ms: Option<i64>,
}

impl Report {
    pub(super) fn saw(&self, dirt: &[Dirt]) {
        let mut seen = Seen::default();
        for Dirt { cleanliness, .. } in dirt {
            seen.dirty_ratio = seen.dirty_ratio.max(ratio(cleanliness));
            seen.dirty_bytes = seen.dirty_bytes.saturating_add(cleanliness.dirty_bytes);
            seen.settled_bytes = seen.settled_bytes.saturating_add(cleanliness.settled_bytes);
            seen.superseded = seen.superseded.saturating_add(cleanliness.marked);
            let oldest = Some(cleanliness.oldest_dirty_ms).filter(|ms| *ms >= 0);
            seen.oldest_dirty_ms = seen.oldest_dirty_ms.into_iter().chain(oldest).min();
        }
        *self.seen.lock() = seen;
        let bytes = dirt.iter().map(|one| (one.partition.id(), one.cleanliness.dirty_bytes));
        *self.dirt.lock() = bytes.collect();
    }

    pub(super) fn stepped(&self, step: &CleanStep) {
        self.read_bytes.fetch_add(step.read_bytes + step.noted_bytes, Ordering::Relaxed);
        self.written_bytes.fetch_add(step.written_bytes, Ordering::Relaxed);
        self.removed.fetch_add(step.removed, Ordering::Relaxed);
    }

    pub(super) fn building(&self, partitions: usize) {
        self.building.store(partitions as u64, Ordering::Relaxed);
    }

    /// A partition was gone through.
    pub(super) fn cleaned(&self, id: PartitionId, now_ms: i64) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.failing.lock().remove(&id);
        self.cleaned.lock().insert(id, now_ms);
    }

    /// When a partition was cleaned last.
    pub(super) fn last_ms(&self, id: PartitionId) -> Option<i64> {
        self.cleaned.lock().get(&id).copied()
    }

    /// A partition could not be cleaned; how long it is left alone for it.
    pub(super) fn failed(&self, id: PartitionId, name: &str, error: String) -> Duration {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut failing = self.failing.lock();
        let attempts = failing.get(&id).map_or(0, |known| known.attempts);
        let pause = RETRY_MIN.saturating_mul(1 << attempts.min(16)).min(RETRY_MAX);
        let (name, retry) = (name.to_owned(), Instant::now() + pause);
        failing.insert(id, Failing { name, error, attempts: attempts.saturating_add(1), retry });
        pause
    }

    /// Whether a partition is left alone because it could not be cleaned.
    pub(super) fn waits(&self, id: PartitionId) -> bool {
        self.failing.lock().get(&id).is_some_and(|failing| failing.retry > Instant::now())
    }

    /// Forgets partitions that are no longer here, or no longer compacted.
    pub(super) fn retain(&self, is_here: impl Fn(PartitionId) -> bool) {
        self.failing.lock().retain(|id, _| is_here(*id));
        self.cleaned.lock().retain(|id, _| is_here(*id));
    }

    pub(crate) fn seen(&self) -> Seen {
        *self.seen.lock()
    }

    pub(crate) fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            read_bytes: of(&self.read_bytes),
            written_bytes: of(&self.written_bytes),
            removed: of(&self.removed),
            passes: of(&self.passes),
            errors: of(&self.errors),
            building: of(&self.building),
            failing: self.failing.lock().len() as u64,
            last_ms: self.cleaned.lock().values().max().copied(),
        }
    }

    /// What whoever looks after the node is to know; empty when all is well.
    pub(crate) fn warnings(&self) -> String {
        let failing = self.failing.lock();
        let dirt = self.dirt.lock();
        let mut all: Vec<_> = failing.iter().collect();
        all.sort_by_key(|(id, _)| **id);
        let mut text = String::new();
        for (id, Failing { name, error, attempts, .. }) in all.iter().take(NAMED_MAX) {
            let bytes = dirt.get(id).copied().unwrap_or(0);
            // A string takes what is written to it.
            let _ = writeln!(
                text,
                "cleaning {name} failed {attempts} times and keeps {bytes} bytes: {error}"
            );
        }
        if let Some(more) = all.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            let _ = writeln!(text, "cleaning failed for {more} more partitions");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: PartitionId = PartitionId(1);

    #[tokio::test(start_paused = true)]
    async fn a_partition_that_fails_is_left_alone_longer_each_time_and_named() {
        let report = Report::default();
        assert_eq!(report.warnings(), "");
        let fail = || report.failed(ONE, "orders-0", "corrupt row".to_owned()).as_secs();
        assert_eq!((fail(), fail(), fail()), (15, 30, 60));
        assert!(report.waits(ONE));
        let text = report.warnings();
        assert_eq!(text, "cleaning orders-0 failed 3 times and keeps 0 bytes: corrupt row\n");
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert!(!report.waits(ONE));
        assert_eq!((0..20).map(|_| fail()).max(), Some(600));
        assert_eq!(report.counts().errors, 23);
        report.cleaned(ONE, 7);
        assert_eq!((report.warnings(), report.waits(ONE)), (String::new(), false));
        assert_eq!((report.counts().last_ms, report.last_ms(ONE)), (Some(7), Some(7)));
    }

    #[test]
    fn many_failing_partitions_are_counted_and_gone_ones_forgotten() {
        let report = Report::default();
        for id in 0..13 {
            report.failed(PartitionId(id), &format!("t-{id}"), "no".to_owned());
        }
        let text = report.warnings();
        assert_eq!(text.lines().count(), NAMED_MAX + 1);
        assert!(text.ends_with("cleaning failed for 3 more partitions\n"), "{text}");
        report.retain(|id| id == ONE);
        assert_eq!(report.counts().failing, 1);
    }
}
