//! Group configs: what is set for a single group of the consumer protocol (KIP-848).
//!
//! Names, kinds and defaults are those of Apache Kafka 4.3.0; configs of share and streams groups are not known yet.
//!
//! Not here: the bounds that brokers set for them (`groups/consumer.rs`, `handlers/config_resources.rs`).

use std::collections::BTreeMap;

use super::broker::{BrokerConfigs, broker_config};
use super::describe::{Ask, Row, Source, named_places, row};
use super::table::rows;
use super::value::{ConfigDef, Invalid, Kind, Valid};

/// How often a member is heard.
pub(crate) const HEARTBEAT_INTERVAL: &str = "consumer.heartbeat.interval.ms";
/// After which silence a member is out.
pub(crate) const SESSION_TIMEOUT: &str = "consumer.session.timeout.ms";

static ROWS: &[ConfigDef] = rows! {
    "consumer.heartbeat.interval.ms" Int "5000" (min 1) rw "Time between heartbeats of a member, in ms." => "group.consumer.heartbeat.interval.ms";
    "consumer.session.timeout.ms" Int "45000" (min 1) rw "Silence after which a member is removed, in ms." => "group.consumer.session.timeout.ms";
};

/// The group config of that name.
pub(super) fn group_config(name: &str) -> Option<&'static ConfigDef> {
    ROWS.iter().find(|def| def.name == name)
}

/// Checks one group config by itself.
///
/// # Errors
/// [`Invalid::UnknownGroupConfig`], [`Invalid::Value`].
pub(super) fn validate_group_config(name: &str, value: &str) -> Result<(), Invalid> {
    let Some(def) = group_config(name) else {
        return Err(Invalid::UnknownGroupConfig { name: name.to_owned() });
    };
    def.check(value)
}

/// The configs of a group with these values on a broker with those.
pub(crate) fn describe_group(
    group: &BTreeMap<String, String>,
    broker: &BrokerConfigs,
    ask: &Ask<'_>,
) -> Vec<Row> {
    let wanted = ROWS.iter().filter(|def| ask.wants(def.name));
    wanted
        .map(|def| {
            let own = group.get(def.name).map(|value| (def.name, value.as_str(), Source::Group));
            let inherited = def.broker_synonym.and_then(broker_config);
            let inherited = inherited.into_iter().flat_map(|def| named_places(def, broker));
            let mut places = own.into_iter().chain(inherited);
            let first = places.next();
            let value =
                first.map_or((def.default, Source::Default), |(_, value, at)| (Some(value), at));
            row(def, value, def.read_only, first.into_iter().chain(places), ask)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_its_own_values_and_else_those_of_the_broker() {
        let own = BTreeMap::from([(SESSION_TIMEOUT.to_owned(), "50000".to_owned())]);
        let rows = describe_group(&own, &BrokerConfigs::default(), &Ask::default());
        let told: Vec<_> =
            rows.iter().map(|row| (row.name, row.value.as_deref(), row.source)).collect();
        assert_eq!(
            told,
            [
                (HEARTBEAT_INTERVAL, Some("5000"), Source::Default),
                (SESSION_TIMEOUT, Some("50000"), Source::Group)
            ]
        );
        assert!(validate_group_config("retention.ms", "5").is_err());
        assert!(validate_group_config(SESSION_TIMEOUT, "0").is_err());
    }
}
