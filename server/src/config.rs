//! What a node is started with: plain data, checked once.
//!
//! Precedence is the caller's (`tools`): flag, environment, file, default.

mod cluster;
mod units;

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

pub(crate) use cluster::{Role, parse_nodes, voter_count, write_nodes};
pub use units::{parse_bytes, parse_duration_ms};

/// A node's configuration. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the data lies. Default `./jangbu-data`.
    pub data: PathBuf,
    /// Where Kafka clients connect. Default `127.0.0.1:9092`; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The `HOST:PORT` clients are told to connect to. Default: where the node listens.
    pub advertise: Option<String>,
    /// The HTTP port: `/healthz`, `/readyz`, `/metrics`. Default `127.0.0.1:9600`.
    pub http: SocketAddr,
    /// This node's id, 1 or more. Never changes for a data directory. Default: the data directory's, 1 for a new one; with
    /// `join` the cluster gives it.
    pub node: Option<i32>,
    /// The nodes that form a cluster, `1@HOST:PORT,2@HOST:PORT,...`: their ids, and where they listen for each other. The
    /// same on every node. Default: a cluster of one.
    pub cluster: Option<String>,
    /// `HOST:PORT` where any node of a cluster listens for other nodes: this one joins it and gets its id there.
    pub join: Option<String>,
    /// Where other nodes connect. Default: with `cluster` this node's entry there; with `join` port 9093 beside
    /// `listen`; else no other node can connect.
    pub peer_listen: Option<SocketAddr>,
    /// The `HOST:PORT` other nodes are told to connect to. Default: with `cluster` this node's entry there, else where
    /// it listens for them.
    pub peer_advertise: Option<String>,
    /// The rack or zone of this node; replicas are spread over racks. Default: none.
    pub rack: String,
    /// Connections accepted at the same time; more are closed at once. Default 20,000.
    pub connections_max: usize,
    /// Largest request in bytes. Default 100 MiB as in Kafka (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// Memory for memtables, queue, newest batches, requests and blocks, in bytes, at least 32 MiB. Default:
    /// one percent of the machine, at least 256 MiB unless that is more than an eighth of it.
    pub memory: Option<usize>,
    /// Bytes of produce requests taken in and not yet answered, over all connections; above it
    /// connections are not read from. Default: an eighth of `memory`.
    pub produce_bytes_max: Option<usize>,
    /// How long a request above 16 KiB may take to arrive, in ms, beside one second for each MiB; the
    /// connection is closed then. Until it has arrived it takes up room of `produce_bytes_max`. In the
    /// same time, at most 5 s, a client must take a mebibyte of an answer while others wait for its room.
    /// Default 30,000.
    pub request_arrival_ms: u64,
    /// A partition that nobody writes to for this long goes to sleep, and a node that nobody writes to gives
    /// back its memory, in ms. Default 60,000.
    pub idle_ms: u64,
    /// Partitions of a topic that is created without saying how many. Default 1.
    pub num_partitions: u32,
    /// Replicas of topics that are created without saying how many, or one on each live broker if those are fewer.
    /// Default 3.
    pub default_replication_factor: u32,
    /// Whether producing to, or asking for, a missing topic creates it. Default true as in Kafka.
    pub auto_create_topics: bool,
    /// Memory for recently written batches, in bytes. Default: an eighth of `memory`.
    pub cache_bytes: Option<usize>,
    /// Memory for what look-ups by key have read of key indexes, beside `memory`, in bytes. Default: an eighth of `memory` if
    /// that is configured, else an eighth of the machine's.
    pub key_cache_bytes: Option<usize>,
    /// How often retention is applied and space given back, in ms. Default 30,000.
    pub retention_check_ms: u64,
    /// Bytes of the file system that stay free: below it new records are refused until room comes back.
    /// Default: 5 %, at most 5 GiB, and at least what the engine may still have to write.
    pub disk_reserve_bytes: Option<u64>,
    /// A broker that stays dead for this long has its replicas rebuilt on others, in ms; 0 rebuilds nothing. The same on
    /// every node, since any of them may come to lead the metadata. Default 600,000.
    pub heal_after_ms: u64,
    /// A replica that has not caught up with its leader for this long is not in sync, in ms. Default 30,000 as in Kafka.
    pub replica_lag_max_ms: u64,
    /// Bytes a second that this node sends, as a leader, to replicas that are being added, over all partitions. Replicas
    /// that vote are sent what they lack at full speed. Default 64 MiB.
    pub catch_up_rate_bytes: u64,
    /// Start although acknowledged records are missing from the data directory. Not a key of the file: it is
    /// for one start.
    #[serde(skip)]
    pub accept_loss: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("./jangbu-data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            advertise: None,
            http: SocketAddr::from(([127, 0, 0, 1], 9600)),
            node: None,
            cluster: None,
            join: None,
            peer_listen: None,
            peer_advertise: None,
            rack: String::new(),
            connections_max: 20_000,
            request_bytes_max: 100 << 20,
            memory: None,
            produce_bytes_max: None,
            request_arrival_ms: 30_000,
            idle_ms: 60_000,
            num_partitions: 1,
            default_replication_factor: 3,
            auto_create_topics: true,
            cache_bytes: None,
            key_cache_bytes: None,
            retention_check_ms: 30_000,
            disk_reserve_bytes: None,
            heal_after_ms: 600_000,
            replica_lag_max_ms: 30_000,
            catch_up_rate_bytes: 64 << 20,
            accept_loss: false,
        }
    }
}

const KEYS: &[&str] = &[
    "data",
    "listen",
    "advertise",
    "http",
    "node",
    "cluster",
    "join",
    "peer_listen",
    "peer_advertise",
    "rack",
    "connections_max",
    "request_bytes_max",
    "memory",
    "produce_bytes_max",
    "request_arrival_ms",
    "idle_ms",
    "num_partitions",
    "default_replication_factor",
    "auto_create_topics",
    "cache_bytes",
    "key_cache_bytes",
    "retention_check_ms",
    "disk_reserve_bytes",
    "heal_after_ms",
    "replica_lag_max_ms",
    "catch_up_rate_bytes",
];

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file has a key that does not exist.
    #[error("unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// The key in the file.
        key: String,
        /// The known key that is spelled most like it.
        nearest: &'static str,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// A value is out of its bounds.
    #[error("`{key}` is {value}, but must be {bounds}")]
    OutOfBounds {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        bounds: &'static str,
    },
    /// What is said about the cluster contradicts itself.
    #[error("{0}")]
    Cluster(String),
}

impl Config {
    /// The least memory a node runs with.
    pub const MEMORY_MIN: usize = 32 << 20;

    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// [`Error::UnknownKey`], [`Error::Syntax`].
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        let table: toml::Table = toml::from_str(text).map_err(|e| Error::Syntax(e.to_string()))?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(Error::UnknownKey { key: key.clone(), nearest: nearest_key(key) });
        }
        toml::from_str(text).map_err(|e| Error::Syntax(e.to_string()))
    }

    /// Checks every value once.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] names the first value that is out of its bounds, [`Error::Cluster`] says what
    /// contradicts itself.
    pub fn validate(&self) -> Result<(), Error> {
        let node = self.node.unwrap_or(1);
        check(node >= 1, "node", &node, "1 or more")?;
        check(self.connections_max >= 1, "connections_max", &self.connections_max, "1 or more")?;
        let request_bytes = (1 << 20)..=(1 << 30);
        check(
            request_bytes.contains(&self.request_bytes_max),
            "request_bytes_max",
            &self.request_bytes_max,
            "between 1 MiB and 1 GiB",
        )?;
        check(
            self.memory.is_none_or(|bytes| (Self::MEMORY_MIN..=(1 << 40)).contains(&bytes)),
            "memory",
            &self.memory.unwrap_or_default(),
            "between 32 MiB and 1 TiB",
        )?;
        check(
            self.produce_bytes_max.is_none_or(|bytes| ((1 << 20)..=(4 << 30)).contains(&bytes)),
            "produce_bytes_max",
            &self.produce_bytes_max.unwrap_or_default(),
            "between 1 MiB and 4 GiB",
        )?;
        check(
            self.key_cache_bytes.is_none_or(|bytes| ((1 << 20)..=(1 << 40)).contains(&bytes)),
            "key_cache_bytes",
            &self.key_cache_bytes.unwrap_or_default(),
            "between 1 MiB and 1 TiB",
        )?;
        check(
            (1..=3_600_000).contains(&self.request_arrival_ms),
            "request_arrival_ms",
            &self.request_arrival_ms,
            "between 1 ms and 1 h",
        )?;
        check(
            (1..=86_400_000).contains(&self.idle_ms),
            "idle_ms",
            &self.idle_ms,
            "between 1 ms and 1 day",
        )?;
        check(
            (1..=100_000).contains(&self.num_partitions),
            "num_partitions",
            &self.num_partitions,
            "between 1 and 100,000",
        )?;
        check(
            (1..=100).contains(&self.default_replication_factor),
            "default_replication_factor",
            &self.default_replication_factor,
            "between 1 and 100",
        )?;
        check(
            (1..=86_400_000).contains(&self.retention_check_ms),
            "retention_check_ms",
            &self.retention_check_ms,
            "between 1 ms and 1 d",
        )?;
        self.validate_moving()?;
        for (key, value) in
            [("advertise", &self.advertise), ("peer_advertise", &self.peer_advertise)]
        {
            let address = value.as_deref().unwrap_or("localhost:1");
            check(parse_host_port(address).is_some(), key, &address, "HOST:PORT")?;
        }
        self.role().map(|_| ())
    }

    /// What concerns replicas that are rebuilt and moved.
    fn validate_moving(&self) -> Result<(), Error> {
        check(
            self.heal_after_ms <= 2_592_000_000,
            "heal_after_ms",
            &self.heal_after_ms,
            "at most 30 days",
        )?;
        check(
            (1..=86_400_000).contains(&self.replica_lag_max_ms),
            "replica_lag_max_ms",
            &self.replica_lag_max_ms,
            "between 1 ms and 1 day",
        )?;
        check(
            (1024..=1 << 40).contains(&self.catch_up_rate_bytes),
            "catch_up_rate_bytes",
            &self.catch_up_rate_bytes,
            "between 1 KiB and 1 TiB",
        )
    }
}

/// Splits `HOST:PORT`; an IPv6 host stands in brackets.
pub(crate) fn parse_host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

fn check(
    ok: bool,
    key: &'static str,
    value: &dyn ToString,
    bounds: &'static str,
) -> Result<(), Error> {
    if ok { Ok(()) } else { Err(Error::OutOfBounds { key, value: value.to_string(), bounds }) }
}

fn nearest_key(key: &str) -> &'static str {
    let by_distance = |known: &&&str| strsim::damerau_levenshtein(key, known);
    KEYS.iter().min_by_key(by_distance).copied().unwrap_or("data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_naming_the_nearest() {
        let error = Config::from_toml("lisen = \"127.0.0.1:1\"").unwrap_err();
        assert_eq!(error, Error::UnknownKey { key: "lisen".into(), nearest: "listen" });
    }

    #[test]
    fn a_file_overrides_defaults_and_leaves_the_rest() {
        let config = Config::from_toml("num_partitions = 4").unwrap();
        assert_eq!(config, Config { num_partitions: 4, ..Config::default() });
    }

    #[test]
    fn every_field_is_a_known_key() {
        let text = "data='d'\nlisten='127.0.0.1:1'\nadvertise='h:1'\nhttp='127.0.0.1:2'\nnode=2\n\
            cluster='2@h:1'\npeer_listen='127.0.0.1:3'\npeer_advertise='h:1'\nrack='r'\n\
            connections_max=1\nrequest_bytes_max=1048576\nproduce_bytes_max=1048576\n\
            request_arrival_ms=1\nmemory=33554432\nidle_ms=1\n\
            num_partitions=1\ndefault_replication_factor=1\nauto_create_topics=false\ncache_bytes=1\n\
            key_cache_bytes=1048576\n\
            retention_check_ms=1\ndisk_reserve_bytes=1\nheal_after_ms=0\nreplica_lag_max_ms=1\ncatch_up_rate_bytes=1024";
        assert!(Config::from_toml(text).unwrap().validate().is_ok());
        let text = format!("{text}\njoin='h:1'");
        assert_eq!(text.lines().count(), KEYS.len());
        assert!(Config::from_toml(&text).is_ok());
    }

    #[test]
    fn the_packaged_file_has_every_key_and_comments_out_what_is_right() {
        let file = include_str!("../../packaging/jangbu.toml");
        let has = |key: &&str| {
            file.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key} = ")))
        };
        assert_eq!(KEYS.iter().filter(|key| !has(key)).count(), 0);
        Config::from_toml(file).unwrap().validate().unwrap();
        // With everything turned on but for one of the two ways into a cluster.
        let options = file
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| rest.contains(" = ")).unwrap_or(line));
        let all: Vec<&str> = options.filter(|line| !line.starts_with("join = ")).collect();
        Config::from_toml(&all.join("\n")).unwrap().validate().unwrap();
    }

    #[test]
    fn values_out_of_bounds_name_their_key() {
        let config = Config { node: Some(0), ..Config::default() };
        assert!(config.validate().unwrap_err().to_string().contains("`node`"));
        let config = Config { advertise: Some("nowhere".into()), ..Config::default() };
        assert!(config.validate().unwrap_err().to_string().contains("`advertise`"));
    }

    #[test]
    fn host_and_port_are_split_at_the_last_colon() {
        assert_eq!(parse_host_port("[::1]:9092"), Some(("::1".into(), 9092)));
        assert_eq!(parse_host_port("broker:9092"), Some(("broker".into(), 9092)));
        assert_eq!(parse_host_port(":9092"), None);
    }
}
