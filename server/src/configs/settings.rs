//! The topic configs the hot path needs, parsed once.
//!
//! Not here: the text form and who set it (`describe.rs`), the meaning of each (`topic.rs`).

use std::collections::BTreeMap;
use std::str::FromStr;

use jangbu_engine::records::codec::Compression;

use super::broker::{BrokerConfigs, broker_config};
use super::describe::Source;
use super::topic::topic_config;
use super::value::{ConfigDef, Invalid, boolean, elements};

/// Whose clock a record's timestamp comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's.
    LogAppendTime,
}

/// When a batch is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once a majority of the replicas has synced it.
    Strict,
    /// Once a majority of the replicas has written it; the sync begins at most 50 ms later.
    Relaxed,
}

/// The typed settings of one topic. Small and `Copy`: every partition keeps one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopicSettings {
    /// Whether old records are deleted at all (`cleanup.policy` holds `delete`).
    pub deletes_old_records: bool,
    /// Whether superseded records are taken away (`cleanup.policy` holds `compact`).
    pub compact: bool,
    /// Age below which a record is not compacted, in ms.
    pub min_compaction_lag_ms: i64,
    /// Age at which a record is compacted however little there is to compact, in ms; `i64::MAX` is never.
    pub max_compaction_lag_ms: i64,
    /// Share of data that is not compacted at which compaction starts, 0 to 1.
    pub min_cleanable_dirty_ratio: f64,
    /// How long tombstones stay in a compacted topic, in ms.
    pub delete_retention_ms: i64,
    /// Whether the topic has a key index although it may not be compacted.
    pub key_index: bool,
    /// Age at which records may be deleted, in ms; -1 is never.
    pub retention_ms: i64,
    /// Size above which a partition's oldest records may be deleted, in bytes; -1 is no limit.
    pub retention_bytes: i64,
    /// Largest record batch that is accepted, in bytes.
    pub max_message_bytes: i32,
    /// Replicas that must hold a write before `acks=all` succeeds.
    pub min_insync_replicas: i32,
    /// Whose clock timestamps come from.
    pub timestamp_type: TimestampType,
    /// How far a record's timestamp may lie in the past, in ms.
    pub timestamp_before_max_ms: i64,
    /// How far a record's timestamp may lie in the future, in ms.
    pub timestamp_after_max_ms: i64,
    /// In which codec batches are stored.
    pub compression: Compression,
    /// When batches are acknowledged.
    pub durability: Durability,
}

impl TopicSettings {
    /// The settings of a topic on which nothing is set.
    #[must_use]
    pub fn defaults() -> Self {
        Self::new(&BTreeMap::new(), &BrokerConfigs::default())
            .expect("every default satisfies its own rule, which a test checks")
    }

    /// The settings of a topic with these stored values on a broker with those.
    ///
    /// # Errors
    /// [`Invalid::Value`] when a stored value cannot be read, which only a different version of
    /// jangbu could have stored.
    pub fn new(topic: &BTreeMap<String, String>, broker: &BrokerConfigs) -> Result<Self, Invalid> {
        let text = |name| text(name, topic, broker);
        let level = |name| number(name, text(name)?);
        let of = |name| number::<i64>(name, text(name)?);
        let policy = text("cleanup.policy")?;
        let has = |word| elements(policy).any(|element| element == word);
        Ok(Self {
            deletes_old_records: has("delete"),
            compact: has("compact"),
            min_compaction_lag_ms: of("min.compaction.lag.ms")?,
            max_compaction_lag_ms: of("max.compaction.lag.ms")?,
            min_cleanable_dirty_ratio: {
                let name = "min.cleanable.dirty.ratio";
                number(name, text(name)?)?
            },
            delete_retention_ms: of("delete.retention.ms")?,
            key_index: boolean(text("jangbu.key.index")?).unwrap_or(false),
            retention_ms: of("retention.ms")?,
            retention_bytes: of("retention.bytes")?,
            max_message_bytes: number("max.message.bytes", text("max.message.bytes")?)?,
            min_insync_replicas: number("min.insync.replicas", text("min.insync.replicas")?)?,
            timestamp_type: match text("message.timestamp.type")? {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: of("message.timestamp.before.max.ms")?,
            timestamp_after_max_ms: of("message.timestamp.after.max.ms")?,
            durability: match text("jangbu.durability")? {
                "relaxed" => Durability::Relaxed,
                _ => Durability::Strict,
            },
            compression: match text("compression.type")? {
                "uncompressed" => Compression::Uncompressed,
                "gzip" => Compression::Gzip { level: level("compression.gzip.level")? },
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4 { level: level("compression.lz4.level")? },
                "zstd" => Compression::Zstd { level: level("compression.zstd.level")? },
                _ => Compression::Producer,
            },
        })
    }

    /// Whether the topic can be asked for keys, and its partitions keep an index of them.
    #[must_use]
    pub fn keyed(&self) -> bool {
        self.compact || self.key_index
    }
}

/// The checked value of a topic config, trimmed.
fn text<'a>(
    name: &str,
    topic: &'a BTreeMap<String, String>,
    broker: &'a BrokerConfigs,
) -> Result<&'a str, Invalid> {
    let def =
        topic_config(name).ok_or_else(|| Invalid::UnknownTopicConfig { name: name.to_owned() })?;
    let value = effective(def, topic, broker).0.unwrap_or_default();
    def.check(value)?;
    Ok(value.trim())
}

fn number<T: FromStr>(name: &str, text: &str) -> Result<T, Invalid> {
    text.parse().map_err(|_| Invalid::Value {
        name: name.to_owned(),
        value: text.to_owned(),
        rule: "Not a number".to_owned(),
    })
}

/// A topic config's value and where it comes from: the topic, else the broker, else the default.
pub(super) fn effective<'a>(
    def: &ConfigDef,
    topic: &'a BTreeMap<String, String>,
    broker: &'a BrokerConfigs,
) -> (Option<&'a str>, Source) {
    if let Some(value) = topic.get(def.name) {
        return (Some(value), Source::Topic);
    }
    let of_broker = def.broker_synonym.and_then(broker_config);
    match of_broker.and_then(|def| broker.places(def).find(|(_, at)| *at != Source::Default)) {
        Some((value, source)) => (Some(value), source),
        None => (def.default, Source::Default),
    }
}
