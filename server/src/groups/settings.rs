//! What the broker configs say about groups.
//!
//! A running node takes new values of all of them, for itself or for every broker (`configs/broker.rs`).

use super::Limits;
use super::consumer::{Assignor, Bounded, ConsumerLimits, Policy};
use crate::configs::BrokerConfigs;

/// Broker configs about groups that a running node takes.
pub(crate) const DYNAMIC: [&str; 16] = [
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.max.heartbeat.interval.ms",
    "group.consumer.max.session.timeout.ms",
    "group.consumer.max.size",
    "group.consumer.min.heartbeat.interval.ms",
    "group.consumer.min.session.timeout.ms",
    "group.consumer.session.timeout.ms",
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
            consumer: ConsumerLimits::of(configs),
        }
    }
}

impl ConsumerLimits {
    /// As the node's configs say now.
    fn of(configs: &BrokerConfigs) -> Self {
        let unset = Self::default();
        let int = |name: &str, unset| configs.number::<i32>(name).unwrap_or(unset);
        let bounded = |what: &str, unset: Bounded| {
            let (min, max) = (int(&format!("group.consumer.min.{what}"), unset.min), unset.max);
            let max = int(&format!("group.consumer.max.{what}"), max);
            Bounded { value: int(&format!("group.consumer.{what}"), unset.value), min, max }
        };
        let text = |name: &str| configs.number::<String>(name).unwrap_or_default();
        let assignors = text("group.consumer.assignors");
        let named = |name: &str| assignors.split(',').any(|given| given.trim() == name);
        let first = assignors.split(',').find_map(|given| Assignor::find(given.trim()));
        Self {
            members_max: usize::try_from(int("group.consumer.max.size", i32::MAX)).unwrap_or(0),
            session_timeout_ms: bounded("session.timeout.ms", unset.session_timeout_ms),
            heartbeat_interval_ms: bounded("heartbeat.interval.ms", unset.heartbeat_interval_ms),
            assignor: first.unwrap_or(unset.assignor),
            assignors: (named("uniform"), named("range")),
            migration: Policy::find(&text("group.consumer.migration.policy")).unwrap_or_default(),
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
        assert_eq!(limits.consumer, ConsumerLimits::default());
        assert_eq!(limits.members_max, i32::MAX.unsigned_abs() as usize);
    }

    #[test]
    fn every_config_about_groups_that_a_running_node_takes_is_known() {
        for name in DYNAMIC {
            assert!(BrokerConfigs::default().number::<i64>(name).is_some(), "{name}");
        }
    }
}
