//! The rows of a DescribeConfigs answer (versions 1 to 4).
//!
//! A topic's value hides this broker's, which hides that of every broker, which hides what the broker was
//! started with, which hides the default; the synonyms list all of them in that order. Rows come ordered
//! by name.
//!
//! Not here: whether the topic or broker exists and who may ask (`handlers`).

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsSynonym,
};
use kafka_protocol::protocol::StrBytes;

use super::broker::{BrokerConfigs, broker_config, broker_configs, is_dynamic};
use super::settings::effective;
use super::topic::topic_configs;
use super::value::{ConfigDef, Kind};

/// Who set a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The topic's own value.
    Topic,
    /// Set for the broker while it runs.
    DynamicBroker,
    /// Set for every broker while they run.
    DynamicDefault,
    /// The broker was started with it.
    StaticBroker,
    /// The group's own value.
    Group,
    /// Nobody: it is the default.
    Default,
}

impl Source {
    /// The number DescribeConfigs uses for this source (field `ConfigSource`).
    pub fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicBroker => 2,
            Self::DynamicDefault => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
            Self::Group => 8,
        }
    }
}

/// What a client asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// The names wanted; `None` or an empty list is all of them. Unknown names are left out.
    pub keys: Option<&'a [StrBytes]>,
    /// Whether synonyms are wanted.
    pub synonyms: bool,
    /// Whether documentation is wanted.
    pub documentation: bool,
}

impl Ask<'_> {
    pub(super) fn wants(&self, name: &str) -> bool {
        self.keys.is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| &**key == name))
    }
}

/// One of the places a value could come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// The config's name in that place.
    pub name: &'static str,
    /// Its value there.
    pub value: Option<String>,
    /// The place.
    pub source: Source,
}

/// One config in the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The config's name.
    pub name: &'static str,
    /// Its value; `None` is null, also for what is sensitive.
    pub value: Option<String>,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Whether its value is hidden.
    pub sensitive: bool,
    /// Who set it.
    pub source: Source,
    /// The places it could come from, the winning one first; empty unless asked for.
    pub synonyms: Vec<Synonym>,
    /// Its type.
    pub kind: Kind,
    /// Its meaning; `None` unless asked for.
    pub documentation: Option<&'static str>,
}

impl Row {
    /// Whether nobody set it (version 0 has this instead of a source).
    pub fn is_default(&self) -> bool {
        self.source == Source::Default
    }
}

/// The configs of a topic with these stored values on a broker with those.
pub fn describe_topic(
    topic: &BTreeMap<String, String>,
    broker: &BrokerConfigs,
    ask: &Ask<'_>,
) -> Vec<Row> {
    let wanted = topic_configs().iter().filter(|def| ask.wants(def.name));
    wanted
        .map(|def| {
            let value = effective(def, topic, broker);
            let own = topic.get(def.name).map(|value| (def.name, value.as_str(), Source::Topic));
            let inherited = def.broker_synonym.and_then(broker_config);
            let inherited = inherited.into_iter().flat_map(|def| named_places(def, broker));
            row(def, value, def.read_only, own.into_iter().chain(inherited), ask)
        })
        .collect()
}

/// The configs of a broker with these values.
pub fn describe_broker(broker: &BrokerConfigs, ask: &Ask<'_>) -> Vec<Row> {
    let wanted = broker_configs().iter().filter(|def| ask.wants(def.name));
    wanted
        .map(|def| {
            let first = broker.places(def).next();
            let value = first.map_or((None, Source::Default), |(value, at)| (Some(value), at));
            row(def, value, !is_dynamic(def.name), named_places(def, broker), ask)
        })
        .collect()
}

/// What is set for every broker at run time, and nothing else.
pub fn describe_every_broker(broker: &BrokerConfigs, ask: &Ask<'_>) -> Vec<Row> {
    let wanted = broker_configs().iter().filter(|def| ask.wants(def.name));
    wanted
        .filter_map(|def| {
            let value = broker.every.get(def.name)?.as_str();
            let source = Source::DynamicDefault;
            let place = std::iter::once((def.name, value, source));
            Some(row(def, (Some(value), source), !is_dynamic(def.name), place, ask))
        })
        .collect()
}

/// Where a broker config has a value, each under its name.
pub(super) fn named_places<'a>(
    def: &'static ConfigDef,
    broker: &'a BrokerConfigs,
) -> impl Iterator<Item = (&'static str, &'a str, Source)> {
    broker.places(def).map(|(value, source)| (def.name, value, source))
}

pub(super) fn row<'a>(
    def: &'static ConfigDef,
    (value, source): (Option<&str>, Source),
    read_only: bool,
    places: impl Iterator<Item = (&'static str, &'a str, Source)>,
    ask: &Ask<'_>,
) -> Row {
    let shown = |value: &str| (!def.sensitive).then(|| value.to_owned());
    let synonyms = match ask.synonyms {
        true => places
            .map(|(name, value, source)| Synonym { name, value: shown(value), source })
            .collect(),
        false => Vec::new(),
    };
    Row {
        name: def.name,
        value: value.and_then(shown),
        read_only,
        sensitive: def.sensitive,
        source,
        synonyms,
        kind: def.kind,
        documentation: ask.documentation.then_some(def.doc),
    }
}

impl From<Row> for DescribeConfigsResourceResult {
    fn from(row: Row) -> Self {
        let synonyms = row.synonyms.into_iter().map(|synonym| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_static_str(synonym.name))
                .with_value(synonym.value.map(StrBytes::from_string))
                .with_source(synonym.source.code())
        });
        Self::default()
            .with_name(StrBytes::from_static_str(row.name))
            .with_value(row.value.map(StrBytes::from_string))
            .with_read_only(row.read_only)
            .with_config_source(row.source.code())
            .with_is_sensitive(row.sensitive)
            .with_synonyms(synonyms.collect())
            .with_config_type(row.kind.code())
            .with_documentation(row.documentation.map(StrBytes::from_static_str))
    }
}
