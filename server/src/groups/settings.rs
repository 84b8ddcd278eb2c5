//! What the broker configs say about groups.
//!
//! A running node takes new values of all of them, for itself or for every broker (`configs/broker.rs`).

use super::Limits;
use crate::configs::BrokerConfigs;

/// Broker configs about groups that a running node takes.
pub(crate) const DYNAMIC: [&str; 9] = [
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "offset.metadata.max.bytes",
    "offsets.retention.check.interval.ms",
    "offsets.retention.minutes",
    "offsets.topic.num.partitions",
    "offsets.topic.replication.factor",
];

impl Limits {
    /// As the node's configs say now.
    pub(crate) fn of(configs: &BrokerConfigs) -> Self {
        let number = |name| configs.number::<i64>(name).unwrap_or(0);
        let int = |name| i32::try_from(number(name)).unwrap_or(i32::MAX);
        let size = |name| usize::try_from(number(name)).unwrap_or(0);
        Self {
            members_max: size("group.max.size"),
            initial_delay_ms: u64::try_from(number("group.initial.rebalance.delay.ms"))
                .unwrap_or(0),
            session_timeout_ms: (
                int("group.min.session.timeout.ms"),
                int("group.max.session.timeout.ms"),
            ),
            metadata_bytes_max: size("offset.metadata.max.bytes"),
            retention_ms: number("offsets.retention.minutes").saturating_mul(60_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unless_told_otherwise_the_limits_are_kafkas() {
        let limits = Limits::of(&BrokerConfigs::default());
        assert_eq!(limits.initial_delay_ms, 3_000);
        assert_eq!(limits.session_timeout_ms, (6_000, 1_800_000));
        assert_eq!(limits.metadata_bytes_max, 4_096);
        assert_eq!(limits.retention_ms, 7 * 24 * 3_600_000);
        assert_eq!(limits.members_max, i32::MAX.unsigned_abs() as usize);
    }

    #[test]
    fn every_config_about_groups_that_a_running_node_takes_is_known() {
        for name in DYNAMIC {
            assert!(BrokerConfigs::default().number::<i64>(name).is_some(), "{name}");
        }
    }
}
