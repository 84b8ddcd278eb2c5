//! Every broker config, and the values this node was started with.
//!
//! Defaults are Kafka's except where they would be untrue here; `docs/configs.md` and the test
//! `broker_defaults_are_kafkas_except_where_jangbu_differs` list those.
//!
//! Not here: reading flags, environment and files (the caller fills [`BrokerValues`]).

mod coordination;
mod network;
mod node;
mod storage;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::value::{ConfigDef, Invalid};

/// Whether a running node takes new broker configs. It does not yet, so all of them are reported
/// as read-only, whatever [`ConfigDef::read_only`] says about Kafka.
pub const BROKER_CONFIGS_CHANGE: bool = false;

static SORTED: LazyLock<Vec<&'static ConfigDef>> = LazyLock::new(|| {
    let parts = [coordination::ROWS, network::ROWS, node::ROWS, storage::ROWS];
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
