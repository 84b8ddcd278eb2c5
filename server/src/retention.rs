//! What retention takes away: a topic's settings and a clock in, limits out.
//!
//! Kafka deletes whole segments, the active one included once all of it has expired. Here a log begins at a row
//! of the sparse index, about every 128 KiB, or at its end: never earlier than Kafka would let it.
//!
//! Not here: finding the offset (the engine's `size.rs`), moving the log start (`partition.rs`), and doing
//! it from time to time (`housekeeping.rs`).

use jangbu_engine::RetentionClass;

use crate::configs::TopicSettings;

/// How much a partition may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Batches all of whose timestamps lie before this, in ms, have expired.
    pub(crate) expired_before_ms: Option<i64>,
    /// As many bytes as are kept at least.
    pub(crate) kept_bytes: Option<u64>,
}

/// What a partition of a topic may keep at `now_ms`; `None` when nothing is ever taken away.
pub(crate) fn limits(settings: &TopicSettings, now_ms: i64) -> Option<Limits> {
    if !settings.deletes_old_records {
        return None;
    }
    let expired_before_ms =
        (settings.retention_ms >= 0).then(|| now_ms.saturating_sub(settings.retention_ms));
    let kept_bytes = u64::try_from(settings.retention_bytes).ok();
    let limits = Limits { expired_before_ms, kept_bytes };
    (expired_before_ms.is_some() || kept_bytes.is_some()).then_some(limits)
}

/// How long what is written to a compacted topic stays in a bucket, about: until it is cleaned.
const CLEANED_MS: i64 = 3_600_000;

/// The class of a topic's partitions: those share buckets whose space comes back at about the same time.
pub(crate) fn class(settings: &TopicSettings) -> RetentionClass {
    if settings.compact {
        return RetentionClass::from_retention_ms(CLEANED_MS);
    }
    let keeps = if settings.deletes_old_records { settings.retention_ms } else { -1 };
    RetentionClass::from_retention_ms(keeps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(
        deletes_old_records: bool,
        retention_ms: i64,
        retention_bytes: i64,
    ) -> TopicSettings {
        let defaults = TopicSettings::defaults();
        TopicSettings { deletes_old_records, retention_ms, retention_bytes, ..defaults }
    }

    #[test]
    fn a_topic_that_keeps_everything_has_no_limits() {
        assert_eq!(limits(&settings(true, -1, -1), 5_000), None);
        assert_eq!(limits(&settings(false, 1, 1), 5_000), None);
        assert_eq!(class(&settings(false, 1, 1)), RetentionClass::from_retention_ms(-1));
    }

    #[test]
    fn records_expire_when_they_are_older_than_the_topic_keeps_them() {
        let limits = limits(&settings(true, 1_000, -1), 5_000).unwrap();
        assert_eq!(limits, Limits { expired_before_ms: Some(4_000), kept_bytes: None });
        assert_eq!(class(&settings(true, 1_000, -1)), RetentionClass::from_retention_ms(1_000));
    }

    #[test]
    fn what_is_compacted_lies_with_what_goes_soon_and_its_log_start_stays() {
        let compacted = TopicSettings { compact: true, ..settings(false, 1, 1) };
        assert_eq!(limits(&compacted, 5_000), None);
        assert_ne!(class(&compacted), class(&settings(false, 1, 1)));
        let both = TopicSettings { compact: true, ..settings(true, 1_000, -1) };
        assert!(limits(&both, 5_000).is_some(), "with delete as well it moves");
    }

    #[test]
    fn time_and_size_hold_together_and_zero_keeps_nothing() {
        let limits = limits(&settings(true, i64::MAX, 0), 5_000).unwrap();
        assert_eq!(limits.kept_bytes, Some(0));
        assert!(limits.expired_before_ms.is_some_and(|before| before < 0), "nothing is that old");
    }
}
