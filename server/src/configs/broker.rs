//! Every broker config, and the values that are set for this node: before its start and while it runs.
//!
//! Defaults are Kafka's except where they would be untrue here; `docs/configs.md` and the test
//! `broker_defaults_are_kafkas_except_where_jangbu_differs` list those.
//!
//! Not here: reading flags, environment and files (the caller fills [`BrokerValues`]).

mod cluster;
mod coordination;
mod network;
mod node;
mod storage;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::LazyLock;

use super::describe::Source;
use super::topic::topic_configs;
use super::value::{ConfigDef, Invalid, boolean};
pub(crate) use cluster::{DRAINING, FOLLOWER_RATE, LEADER_RATE};
use storage::{CLEANER_BACKOFF, CLEANER_RATE};

/// Broker configs that a running node takes, beside the defaults of topics.
const DYNAMIC: [&str; 5] = [CLEANER_BACKOFF, CLEANER_RATE, FOLLOWER_RATE, DRAINING, LEADER_RATE];

static SORTED: LazyLock<Vec<&'static ConfigDef>> = LazyLock::new(|| {
    let parts = [cluster::ROWS, coordination::ROWS, network::ROWS, node::ROWS, storage::ROWS];
    let mut all: Vec<_> = parts.into_iter().flatten().collect();
    all.sort_unstable_by_key(|def| def.name);
    all
});

/// Every broker config, ordered by name.
pub fn broker_configs() -> &'static [&'static ConfigDef] {
    &SORTED
}

/// The broker config of that name.
pub fn broker_config(name: &str) -> Option<&'static ConfigDef> {
    SORTED.binary_search_by_key(&name, |def| def.name).ok().map(|at| SORTED[at])
}

/// Whether a running node takes new values of this broker config: those that are a topic config's
/// default, and a few more. The rest is reported as read-only, whatever [`ConfigDef::read_only`] says about Kafka.
pub fn is_dynamic(name: &str) -> bool {
    DYNAMIC.contains(&name)
        || crate::groups::DYNAMIC.contains(&name)
        || topic_configs().iter().any(|def| def.broker_synonym == Some(name))
}

/// The broker configs this node was started with, by name: Kafka's STATIC_BROKER_CONFIG.
///
/// What is true only at run time belongs in here: `listeners`, `advertised.listeners`,
/// `log.dirs`, `node.id`, `broker.id`, `num.partitions`, `auto.create.topics.enable`,
/// `default.replication.factor`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerValues(BTreeMap<&'static str, String>);

impl BrokerValues {
    /// Sets one config, replacing an earlier value.
    ///
    /// # Errors
    /// [`Invalid::UnknownBrokerConfig`], or [`Invalid::Value`] when the value is not allowed.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> Result<(), Invalid> {
        let Some(def) = broker_config(name) else {
            return Err(Invalid::UnknownBrokerConfig { name: name.to_owned() });
        };
        let value = value.into();
        def.check(&value)?;
        self.0.insert(def.name, value);
        Ok(())
    }

    /// The value that was set, not the default.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// What is set for one broker, by the place where it was set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerConfigs {
    /// Set for this broker at run time: Kafka's DYNAMIC_BROKER_CONFIG.
    pub own: BTreeMap<String, String>,
    /// Set for every broker at run time: Kafka's DYNAMIC_DEFAULT_BROKER_CONFIG.
    pub every: BTreeMap<String, String>,
    /// What the node was started with.
    pub started: BrokerValues,
}

/// Whether what is set on a broker says that it is being emptied.
pub(crate) fn says_draining(set: &BTreeMap<String, String>) -> bool {
    set.get(DRAINING).and_then(|value| boolean(value.trim())).unwrap_or(false)
}

impl BrokerConfigs {
    /// The bytes a second that replicas which are being added may be sent.
    pub(crate) fn leader_rate(&self) -> u64 {
        self.number(LEADER_RATE).unwrap_or(u64::MAX)
    }

    /// How long the cleaner rests between its rounds, in ms.
    pub(crate) fn cleaner_backoff_ms(&self) -> u64 {
        self.number(CLEANER_BACKOFF).unwrap_or(15_000)
    }

    /// The bytes a second that the cleaner may read and write.
    pub(crate) fn cleaner_rate(&self) -> f64 {
        self.number(CLEANER_RATE).unwrap_or(f64::MAX)
    }

    /// The value of a config that is a number. Values were checked when they were set.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Option<T> {
        let (value, _) = broker_config(name).and_then(|def| self.places(def).next())?;
        value.trim().parse().ok()
    }

    /// The places that have a value for `def`, the one that wins first. A null is no place.
    pub(super) fn places(&self, def: &ConfigDef) -> impl Iterator<Item = (&str, Source)> {
        let set = [
            (self.own.get(def.name).map(String::as_str), Source::DynamicBroker),
            (self.every.get(def.name).map(String::as_str), Source::DynamicDefault),
            (self.started.get(def.name), Source::StaticBroker),
            (def.default, Source::Default),
        ];
        set.into_iter().filter_map(|(value, source)| Some((value?, source)))
    }
}
