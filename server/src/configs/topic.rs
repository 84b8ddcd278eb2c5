//! Every topic config, and which of its values jangbu takes.
//!
//! A config has one line in [`CONFIGS`] (what Kafka knows about it) and one in [`POLICIES`] (what
//! it does here). To add one of jangbu's own, add both lines and its row in `docs/configs.md`.
//!
//! Invariants: both tables are ordered by name and hold the same names.
//!
//! Not here: the values of a given topic (`settings.rs`, `describe.rs`).

use super::broker::broker_config;
use super::table::rows;
use super::value::{ConfigDef, Invalid, Kind, Valid};

static CONFIGS: &[ConfigDef] = rows! {
    "cleanup.policy" List "delete" (list "compact" "delete") rw "What happens to old records: delete removes them after the retention limits, compact keeps the last record of every key; empty keeps everything." => "log.cleanup.policy";
    "compression.gzip.level" Int "-1" (-1 or 1, 9) rw "Level used when the broker itself compresses with gzip." => "compression.gzip.level";
    "compression.lz4.level" Int "9" (1, 17) rw "Level used when the broker itself compresses with lz4." => "compression.lz4.level";
    "compression.type" String "producer" (one "uncompressed" "zstd" "lz4" "snappy" "gzip" "producer") rw "Codec of stored batches; producer keeps whatever the producer chose." => "compression.type";
    "compression.zstd.level" Int "3" (-131072, 22) rw "Level used when the broker itself compresses with zstd." => "compression.zstd.level";
    "delete.retention.ms" Long "86400000" (min 0) rw "Time tombstones are kept in a compacted topic, in ms." => "log.cleaner.delete.retention.ms";
    "file.delete.delay.ms" Long "60000" (min 0) rw "Wait before the file of a deleted segment is removed, in ms." => "log.segment.delete.delay.ms";
    "flush.messages" Long "9223372036854775807" (min 1) rw "Messages after which the partition is synced to disk." => "log.flush.interval.messages";
    "flush.ms" Long "9223372036854775807" (min 0) rw "Longest time a message stays unsynced, in ms." => "log.flush.interval.ms";
    "follower.replication.throttled.replicas" List "" (replicas) rw "Follower replicas whose replication is throttled: partition:broker pairs or *.";
    "index.interval.bytes" Int "4096" (min 0) rw "Bytes between two entries of the offset index." => "log.index.interval.bytes";
    "jangbu.durability" String "strict" (one "strict" "relaxed") rw "When a record is acknowledged: once it is synced on a majority (strict), or once a majority has written it, to be synced within 50 ms (relaxed).";
    "jangbu.key.index" Boolean "false" () rw "Whether the topic can be asked for keys; a compacted topic always can.";
    "leader.replication.throttled.replicas" List "" (replicas) rw "Leader replicas whose replication is throttled: partition:broker pairs or *.";
    "local.retention.bytes" Long "-2" (min -2) rw "Bytes kept locally when there is remote storage; -2 means as retention.bytes." => "log.local.retention.bytes";
    "local.retention.ms" Long "-2" (min -2) rw "Time kept locally when there is remote storage, in ms; -2 means as retention.ms." => "log.local.retention.ms";
    "max.compaction.lag.ms" Long "9223372036854775807" (min 1) rw "Longest time a record may stay uncompacted, in ms." => "log.cleaner.max.compaction.lag.ms";
    "max.message.bytes" Int "1048588" (min 0) rw "Largest record batch that is accepted." => "message.max.bytes";
    "message.timestamp.after.max.ms" Long "3600000" (min 0) rw "How far a timestamp may lie in the broker's future, in ms." => "log.message.timestamp.after.max.ms";
    "message.timestamp.before.max.ms" Long "9223372036854775807" (min 0) rw "How far a timestamp may lie in the broker's past, in ms." => "log.message.timestamp.before.max.ms";
    "message.timestamp.type" String "CreateTime" (one "CreateTime" "LogAppendTime") rw "Whether records carry the producer's time (CreateTime) or the broker's (LogAppendTime)." => "log.message.timestamp.type";
    "min.cleanable.dirty.ratio" Double "0.5" (0, 1) rw "Share of uncompacted data at which compaction starts." => "log.cleaner.min.cleanable.ratio";
    "min.compaction.lag.ms" Long "0" (min 0) rw "Shortest time a record stays uncompacted, in ms." => "log.cleaner.min.compaction.lag.ms";
    "min.insync.replicas" Int "1" (min 1) rw "Replicas that must hold a write before acks=all succeeds." => "min.insync.replicas";
    "preallocate" Boolean "false" () rw "Whether segment files are allocated in advance." => "log.preallocate";
    "remote.log.copy.disable" Boolean "false" () rw "Whether copying to remote storage is stopped.";
    "remote.log.delete.on.disable" Boolean "false" () rw "Whether remote data is deleted when remote storage is switched off.";
    "remote.storage.enable" Boolean "false" () rw "Whether old segments move to remote storage.";
    "retention.bytes" Long "-1" () rw "Bytes kept per partition; -1 means no limit." => "log.retention.bytes";
    "retention.ms" Long "604800000" (min -1) rw "Time records are kept, in ms; -1 means for ever." => "log.retention.ms";
    "segment.bytes" Int "1073741824" (min 1048576) rw "Size at which a segment is closed." => "log.segment.bytes";
    "segment.index.bytes" Int "10485760" (min 4) rw "Largest offset index of a segment." => "log.index.size.max.bytes";
    "segment.jitter.ms" Long "0" (min 0) rw "Random part taken off the segment age, in ms." => "log.roll.jitter.ms";
    "segment.ms" Long "604800000" (min 1) rw "Age at which a segment is closed, in ms." => "log.roll.ms";
    "unclean.leader.election.enable" Boolean "false" () rw "Whether a replica that misses writes may become leader and lose them." => "unclean.leader.election.enable";
};

/// What a topic config does in this version of jangbu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The value has its effect.
    Acts,
    /// The value is stored and reported; its effect is still to come.
    Stored,
    /// The value is stored and reported; it is about something jangbu is built without.
    NoMeaning,
}

/// Which of the values that Kafka allows jangbu takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// All.
    Any,
    /// Only these.
    Only(&'static [&'static str]),
}

/// What one topic config does here and what may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The config's name.
    pub name: &'static str,
    /// What it does.
    pub standing: Standing,
    /// What may be set.
    pub accept: Accept,
    /// Why: part of the message when a value is refused.
    pub reason: &'static str,
}

/// One line per policy, kept on one line by the braces.
macro_rules! policies {
    ($($name:literal $standing:ident $accept:expr, $reason:literal;)*) => {
        &[$(Policy { name: $name, standing: Standing::$standing, accept: $accept, reason: $reason }),*]
    };
}

static POLICIES: &[Policy] = policies! {
    "cleanup.policy" Acts Accept::Any, "old records are deleted, or superseded ones are taken away, or both";
    "compression.gzip.level" Acts Accept::Any, "used where the broker itself compresses";
    "compression.lz4.level" Acts Accept::Any, "used where the broker itself compresses";
    "compression.type" Acts Accept::Any, "batches in another codec are compressed anew";
    "compression.zstd.level" Acts Accept::Any, "used where the broker itself compresses";
    "delete.retention.ms" Acts Accept::Any, "tombstones stay so long in a compacted topic";
    "file.delete.delay.ms" NoMeaning Accept::Any, "there are no segment files";
    "flush.messages" NoMeaning Accept::Any, "a record is synced before it is acknowledged";
    "flush.ms" NoMeaning Accept::Any, "a record is synced before it is acknowledged";
    "follower.replication.throttled.replicas" Acts Accept::Any, "which replicas that are being added the rate holds back; without a list, all of them";
    "index.interval.bytes" NoMeaning Accept::Any, "the index is the storage engine's";
    "jangbu.durability" Acts Accept::Any, "records are acknowledged before they are synced";
    "jangbu.key.index" Acts Accept::Any, "every record is entered in an index by its key";
    "leader.replication.throttled.replicas" Acts Accept::Any, "which replicas that are being added the rate holds back; without a list, all of them";
    "local.retention.bytes" Stored Accept::Any, "used only with remote storage, which does not exist yet";
    "local.retention.ms" Stored Accept::Any, "used only with remote storage, which does not exist yet";
    "max.compaction.lag.ms" Acts Accept::Any, "records are compacted at that age, however few they are";
    "max.message.bytes" Acts Accept::Any, "larger batches are refused";
    "message.timestamp.after.max.ms" Acts Accept::Any, "later timestamps are refused";
    "message.timestamp.before.max.ms" Acts Accept::Any, "earlier timestamps are refused";
    "message.timestamp.type" Acts Accept::Any, "the producer's time is kept, or the broker's is stamped";
    "min.cleanable.dirty.ratio" Acts Accept::Any, "compaction starts at that share of data that is not compacted";
    "min.compaction.lag.ms" Acts Accept::Any, "younger records are not compacted";
    "min.insync.replicas" Acts Accept::Any, "a majority is always needed; a larger number must be in sync when the request comes";
    "preallocate" NoMeaning Accept::Any, "there are no segment files";
    "remote.log.copy.disable" Stored Accept::Only(&["false"]), "remote storage does not exist yet";
    "remote.log.delete.on.disable" Stored Accept::Only(&["false"]), "remote storage does not exist yet";
    "remote.storage.enable" Stored Accept::Only(&["false"]), "remote storage does not exist yet";
    "retention.bytes" Acts Accept::Any, "the oldest records of a partition go while at least so many bytes stay";
    "retention.ms" Acts Accept::Any, "records go when they are older, and all before them are";
    "segment.bytes" NoMeaning Accept::Any, "there are no segments: all partitions share the storage engine's buckets";
    "segment.index.bytes" NoMeaning Accept::Any, "there are no segments: all partitions share the storage engine's buckets";
    "segment.jitter.ms" NoMeaning Accept::Any, "there are no segments: all partitions share the storage engine's buckets";
    "segment.ms" NoMeaning Accept::Any, "there are no segments: all partitions share the storage engine's buckets";
    "unclean.leader.election.enable" NoMeaning Accept::Any, "a replica that misses acknowledged records is never elected";
};

/// A topic's lists of whom the rates of catching up hold back: by who sends, and by who gets.
pub(crate) const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
pub(crate) const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";

/// Every topic config, ordered by name.
pub fn topic_configs() -> &'static [ConfigDef] {
    CONFIGS
}

/// The topic config of that name.
pub fn topic_config(name: &str) -> Option<&'static ConfigDef> {
    CONFIGS.binary_search_by_key(&name, |def| def.name).ok().map(|at| &CONFIGS[at])
}

/// What every topic config does here, ordered by name.
pub fn topic_policies() -> &'static [Policy] {
    POLICIES
}

/// Checks one topic config that a client wants to set.
///
/// # Errors
/// [`Invalid`]: an unknown name, a value Kafka would refuse, or one jangbu cannot honour.
pub fn validate_topic_config(name: &str, value: &str) -> Result<(), Invalid> {
    let Some(def) = topic_config(name) else {
        return Err(Invalid::UnknownTopicConfig { name: name.to_owned() });
    };
    def.check(value)?;
    policy(name).map_or(Ok(()), |policy| policy.check(name, def.kind, value))
}

/// Checks one broker config that a client wants to set at run time: what a topic may not say, no
/// default may say either.
///
/// # Errors
/// As [`validate_topic_config`].
pub fn validate_broker_config(name: &str, value: &str) -> Result<(), Invalid> {
    let Some(def) = broker_config(name) else {
        return Err(Invalid::UnknownBrokerConfig { name: name.to_owned() });
    };
    def.check(value)?;
    let topic = CONFIGS.iter().find(|config| config.broker_synonym == Some(name));
    let policy = topic.and_then(|config| policy(config.name));
    policy.map_or(Ok(()), |policy| policy.check(name, def.kind, value))
}

fn policy(name: &str) -> Option<&'static Policy> {
    POLICIES.binary_search_by_key(&name, |policy| policy.name).ok().map(|at| &POLICIES[at])
}

/// Checks all configs of one topic, alone and against each other. `None` is a null value.
///
/// # Errors
/// [`Invalid`] for the first config that is refused.
pub fn validate_topic_configs<'a>(
    configs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<(), Invalid> {
    const LOW: &str = "min.compaction.lag.ms";
    const HIGH: &str = "max.compaction.lag.ms";
    let (mut low, mut high) = (0, i64::MAX);
    for (name, value) in configs {
        let Some(value) = value else {
            return Err(Invalid::NullValue { name: name.to_owned() });
        };
        validate_topic_config(name, value)?;
        match name {
            LOW => low = value.trim().parse().unwrap_or(low),
            HIGH => high = value.trim().parse().unwrap_or(high),
            _ => {}
        }
    }
    if low > high {
        return Err(Invalid::Conflict { low: LOW, low_value: low, high: HIGH, high_value: high });
    }
    Ok(())
}

impl Policy {
    /// Checks a value of the config `name`, the topic's or the broker's.
    fn check(&self, name: &str, kind: Kind, value: &str) -> Result<(), Invalid> {
        let text = value.trim();
        let (taken, allowed) = match self.accept {
            Accept::Any => (true, String::new()),
            // Kafka reads `FALSE` as false, but knows only one spelling of other words.
            Accept::Only(words) if kind == Kind::Boolean => {
                (words.iter().any(|word| word.eq_ignore_ascii_case(text)), words.join(", "))
            }
            Accept::Only(words) => (words.contains(&text), words.join(", ")),
        };
        if taken {
            return Ok(());
        }
        Err(Invalid::NotSupported {
            name: name.to_owned(),
            value: value.to_owned(),
            reason: self.reason,
            allowed,
        })
    }
}
