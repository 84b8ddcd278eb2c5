//! What is done to a broker: everything that is the same for both sides.

use std::time::Duration;

use jangbu_client::{NewTopic, ProducerConfig};
use serde_json::{Value, json};

use crate::cli::LoadArgs;

/// Records per second of `latency` when nobody says how many.
const LATENCY_RATE: u32 = 2000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Writing.
    Produce,
    /// Reading what is there.
    Consume,
    /// Both, at a low rate.
    Latency,
    /// Both.
    Mixed,
}

impl Kind {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::Latency => "latency",
            Self::Mixed => "mixed",
        }
    }

    /// Whether records are read while others are written.
    pub(crate) fn follows(self) -> bool {
        matches!(self, Self::Latency | Self::Mixed)
    }
}

/// The load of one run.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub kind: Kind,
    pub partitions: i32,
    pub replication_factor: Option<i16>,
    pub configs: Vec<(String, String)>,
    /// Bytes of a value.
    pub size: usize,
    /// Distinct keys; without any the partitions take turns.
    pub keys: u64,
    pub producers: u32,
    /// Records per second of all producers; as fast as it goes without.
    pub rate: Option<u32>,
    /// What `consume` reads.
    pub bytes: usize,
    pub measured: Duration,
    pub warm_up: Duration,
    pub producer: ProducerConfig,
}

impl Load {
    /// What the command line asks for.
    pub(crate) fn of(kind: Kind, args: &LoadArgs) -> Self {
        let latency = kind == Kind::Latency;
        let linger = args.linger.unwrap_or(if latency { 0 } else { 5 });
        let defaults = ProducerConfig::default();
        Self {
            kind,
            partitions: args.partitions,
            replication_factor: args.replication_factor,
            configs: args.configs.clone(),
            size: args.size,
            keys: args.keys,
            producers: args.producers,
            rate: args.rate.or(latency.then_some(LATENCY_RATE)).filter(|_| kind != Kind::Consume),
            bytes: args.bytes,
            measured: Duration::from_secs(args.seconds),
            warm_up: Duration::from_secs(args.warm_up),
            producer: ProducerConfig {
                linger: Duration::from_millis(linger),
                batch_bytes_max: args.batch.unwrap_or(defaults.batch_bytes_max),
                compression: args.compression,
                ..defaults
            },
        }
    }

    /// The topic of a run, which no other run has.
    pub(crate) fn topic(&self) -> NewTopic {
        let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        NewTopic {
            name: format!("jangbu-bench-{:x}", unique.unwrap_or_default().as_nanos()),
            partitions: Some(self.partitions),
            replication_factor: self.replication_factor,
            configs: self.configs.clone(),
        }
    }

    /// For scripts and for the head of the report.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "what": self.kind.name(),
            "partitions": self.partitions,
            "replication_factor": self.replication_factor,
            "configs": self.configs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
            "value_bytes": self.size,
            "keys": self.keys,
            "producers": self.producers,
            "records_per_second": self.rate,
            "bytes": (self.kind == Kind::Consume).then_some(self.bytes),
            "seconds": self.measured.as_secs(),
            "warm_up_seconds": self.warm_up.as_secs(),
            "linger_ms": self.producer.linger.as_millis(),
            "batch_bytes": self.producer.batch_bytes_max,
            "compression": self.producer.compression.to_string(),
            "acks": "all",
            "idempotent": self.producer.idempotent,
        })
    }
}
