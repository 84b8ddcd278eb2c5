//! Which partition is cleaned next: how dirty it is, a topic's settings and a clock in, a choice out.
//!
//! As Kafka's `LogCleanerManager` does: one whose share of dirty bytes is above `min.cleanable.dirty.ratio`, or that
//! holds a dirty record older than `max.compaction.lag.ms`; the dirtiest first. Beside these one whose tombstones may go,
//! which Kafka leaves until the next time.

use std::sync::Arc;

use jangbu_engine::{Cleanliness, Offset, PartitionId};

use crate::configs::TopicSettings;
use crate::partition::Partition;

/// A log is gone through for its tombstones alone at most this often, ...
const HORIZON_PAUSE_MS: i64 = 60_000;
/// ... or this often in the time that they stay, when that is more.
const HORIZON_PARTS: i64 = 16;

/// How dirty a replica is.
#[derive(Debug)]
pub(crate) struct Dirt {
    pub(crate) name: String,
    pub(crate) partition: Arc<Partition>,
    pub(crate) settings: TopicSettings,
    /// Up to where it may be cleaned.
    pub(crate) until: Offset,
    pub(crate) cleanliness: Cleanliness,
    /// When that was.
    pub(crate) now_ms: i64,
    /// When it was cleaned last, if it was since the node's start.
    pub(crate) last_ms: Option<i64>,
}

/// The share of bytes that are not settled, 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits are enough for a share")]
pub(crate) fn ratio(cleanliness: &Cleanliness) -> f64 {
    let all = cleanliness.settled_bytes.saturating_add(cleanliness.dirty_bytes);
    if all == 0 { 0.0 } else { cleanliness.dirty_bytes as f64 / all as f64 }
}

/// Whether a log is to be cleaned now.
fn is_due(
    cleanliness: &Cleanliness,
    settings: &TopicSettings,
    now_ms: i64,
    last_ms: Option<i64>,
) -> bool {
    let Cleanliness { dirty_bytes, oldest_dirty_ms, next_horizon_ms, .. } = *cleanliness;
    let is_dirty = dirty_bytes > 0 && ratio(cleanliness) > settings.min_cleanable_dirty_ratio;
    let age_ms = now_ms.saturating_sub(oldest_dirty_ms);
    let is_overdue =
        dirty_bytes > 0 && oldest_dirty_ms >= 0 && age_ms > settings.max_compaction_lag_ms;
    let pause_ms = (settings.delete_retention_ms / HORIZON_PARTS).min(HORIZON_PAUSE_MS);
    let has_rested = last_ms.is_none_or(|last| now_ms.saturating_sub(last) >= pause_ms);
    is_dirty || is_overdue || (next_horizon_ms <= now_ms && has_rested)
}

/// The dirtiest of those that are due, without those that are not to be touched now.
pub(crate) fn dirtiest(all: Vec<Dirt>, is_left_out: impl Fn(PartitionId) -> bool) -> Option<Dirt> {
    let due = all.into_iter().filter(|dirt| {
        !is_left_out(dirt.partition.id())
            && is_due(&dirt.cleanliness, &dirt.settings, dirt.now_ms, dirt.last_ms)
    });
    due.max_by(|a, b| ratio(&a.cleanliness).total_cmp(&ratio(&b.cleanliness)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> TopicSettings {
        TopicSettings {
            min_cleanable_dirty_ratio: 0.5,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 160_000,
            ..TopicSettings::defaults()
        }
    }

    fn dirty(settled_bytes: u64, dirty_bytes: u64) -> Cleanliness {
        let (next_horizon_ms, oldest_dirty_ms) = (i64::MAX, 1_000);
        Cleanliness { settled_bytes, dirty_bytes, marked: 0, next_horizon_ms, oldest_dirty_ms }
    }

    #[test]
    fn a_log_is_due_when_its_share_of_dirt_is_above_the_topics() {
        let due = |cleanliness| is_due(&cleanliness, &settings(), 5_000, None);
        assert!(due(dirty(49, 51)));
        assert!(!due(dirty(50, 50)));
        assert!(due(dirty(0, 1)), "nothing of it was ever cleaned");
        assert!(!due(dirty(0, 0)));
        let any = TopicSettings { min_cleanable_dirty_ratio: 0.0, ..settings() };
        assert!(!is_due(&dirty(100, 0), &any, 5_000, None), "nothing is dirty");
    }

    #[test]
    fn dirt_that_is_too_old_is_due_however_little_it_is() {
        let at_most = TopicSettings { max_compaction_lag_ms: 4_000, ..settings() };
        assert!(!is_due(&dirty(100, 1), &at_most, 5_000, None));
        assert!(is_due(&dirty(100, 1), &at_most, 5_001, None));
        assert!(!is_due(&dirty(100, 0), &at_most, 5_001, None));
        let no_time = Cleanliness { oldest_dirty_ms: -1, ..dirty(100, 1) };
        assert!(!is_due(&no_time, &at_most, 5_001, None), "a record without a time is not old");
    }

    #[test]
    fn tombstones_go_in_their_time_and_not_one_by_one() {
        let cleanliness = Cleanliness { next_horizon_ms: 5_000, ..dirty(100, 0) };
        let due = |now_ms, last_ms| is_due(&cleanliness, &settings(), now_ms, last_ms);
        assert!(!due(4_999, None));
        assert!(due(5_000, None));
        assert!(!due(5_000, Some(-4_999)));
        assert!(due(5_001, Some(-4_999)));
    }
}
