//! The command line: every flag with its default, its environment variable, and examples.
//!
//! Not here: the arguments of `jangbu group` (`cli/group.rs`).

pub(crate) mod group;

mod bench;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jangbu_client::Compression;

use crate::timestamp::Timestamp;

pub(crate) use bench::{BenchCommand, EngineArgs, LoadArgs};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a broker refused, or something failed
  2  the command line is wrong
  3  no broker answers
  4  the input has a bad row

Examples:
  jangbu serve
  jangbu topic create flights --partitions 4
  jangbu produce flights flights.csv --key tailnum
  jangbu consume flights --from-beginning --count 10
  jangbu get state N14228
  jangbu group describe billing --watch";

/// A durable, distributed commit log that speaks the Kafka protocol.
#[derive(Debug, Parser)]
#[command(name = "jangbu", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Print JSON, for scripts.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node.
    Serve(Box<ServeArgs>),
    /// Create, list, describe and delete topics.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// See who is in the cluster, and move partitions between brokers.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// See how far consumer groups are, and change that.
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Write records from a file or from standard input.
    Produce(ProduceArgs),
    /// Read records to standard output.
    Consume(ConsumeArgs),
    /// Print the value of a key.
    Get(GetArgs),
    /// Measure a broker, two brokers beside each other, or the storage engine alone.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print what a shell needs to complete commands and flags.
    #[command(after_help = "\
Examples:
  jangbu completions bash > /etc/bash_completion.d/jangbu
  jangbu completions zsh > ~/.zfunc/_jangbu")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of all commands into a directory.
    #[command(after_help = "Examples:\n  jangbu man /usr/local/share/man/man1")]
    Man {
        /// The directory
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Look into the data directory of a node that is stopped.
    #[command(subcommand)]
    Inspect(InspectCommand),
}

const SERVE_EXAMPLES: &str = "\
A flag wins over its environment variable, that over the file, and that over the default.

Examples:
  jangbu serve
  jangbu serve --data /var/lib/jangbu --listen 0.0.0.0:9092 --advertise node1.example:9092
  jangbu serve --listen 127.0.0.1:0 --http 127.0.0.1:0 --json     (free ports, printed as JSON)
  jangbu serve --config node.toml --log json

A cluster of three, the same list on each node; each listens for the others at its own entry:
  jangbu serve --node 1 --cluster 1@a.example:9093,2@b.example:9093,3@c.example:9093 --listen 0.0.0.0:9092 --advertise a.example:9092
  jangbu serve --node 2 --cluster 1@a.example:9093,2@b.example:9093,3@c.example:9093 --listen 0.0.0.0:9092 --advertise b.example:9092
  jangbu serve --node 3 --cluster 1@a.example:9093,2@b.example:9093,3@c.example:9093 --listen 0.0.0.0:9092 --advertise c.example:9092

One more, which gets its id from the cluster:
  jangbu serve --join a.example:9093 --peer-listen 0.0.0.0:9093 --peer-advertise d.example:9093 --listen 0.0.0.0:9092 --advertise d.example:9092";

/// Run a node.
#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Where the data lies [default: ./jangbu-data]
    #[arg(long, env = "JANGBU_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where Kafka clients connect [default: 127.0.0.1:9092]
    #[arg(long, env = "JANGBU_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// The address clients are told to use [default: the one it listens on]
    #[arg(long, env = "JANGBU_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Where health, metrics and the values of keys are served [default: 127.0.0.1:9600]
    #[arg(long, env = "JANGBU_HTTP", value_name = "IP:PORT")]
    pub http: Option<SocketAddr>,
    /// This node's id, 1 or more; never changes for a data directory [default: the directory's, 1 for a new one]
    #[arg(long, env = "JANGBU_NODE", value_name = "ID")]
    pub node: Option<i32>,
    /// The nodes that form a cluster: their ids, and where they listen for each other; the same on every node [default:
    /// a cluster of one]
    #[arg(long, env = "JANGBU_CLUSTER", value_name = "ID@HOST:PORT,...")]
    pub cluster: Option<String>,
    /// Join the cluster of the node that listens there for other nodes, and get an id from it
    #[arg(long, env = "JANGBU_JOIN", value_name = "HOST:PORT")]
    pub join: Option<String>,
    /// Where other nodes connect [default: with --cluster this node's entry, with --join port 9093, else nowhere]
    #[arg(long, env = "JANGBU_PEER_LISTEN", value_name = "IP:PORT")]
    pub peer_listen: Option<SocketAddr>,
    /// The address other nodes are told to use [default: with --cluster this node's entry, else where it listens for them]
    #[arg(long, env = "JANGBU_PEER_ADVERTISE", value_name = "HOST:PORT")]
    pub peer_advertise: Option<String>,
    /// The rack or zone of this node; replicas are spread over them [default: none]
    #[arg(long, env = "JANGBU_RACK", value_name = "NAME")]
    pub rack: Option<String>,
    /// Memory for what is on its way and for the newest records, for instance 512MiB or 2GiB [default: 1 % of the
    /// machine's, at least 256 MiB]
    #[arg(long, env = "JANGBU_MEMORY", value_name = "BYTES", value_parser = jangbu_server::config::parse_bytes)]
    pub memory: Option<usize>,
    /// Bytes of the disk that stay free; below it new records are refused [default: 5 %, see docs/operations.md]
    #[arg(long, env = "JANGBU_DISK_RESERVE", value_name = "BYTES", value_parser = jangbu_server::config::parse_bytes)]
    pub disk_reserve: Option<usize>,
    /// Rebuild the replicas of a broker that stays dead for this long on others, for instance 30s, 10m or 2h; 0 never
    /// [default: 10m]
    #[arg(long, env = "JANGBU_HEAL_AFTER", value_name = "DURATION", value_parser = jangbu_server::config::parse_duration_ms)]
    pub heal_after: Option<u64>,
    /// A replica that has not caught up with its leader for this long is not in sync [default: 30s]
    #[arg(long, env = "JANGBU_REPLICA_LAG_MAX", value_name = "DURATION", value_parser = jangbu_server::config::parse_duration_ms)]
    pub replica_lag_max: Option<u64>,
    /// Bytes a second that this node sends to replicas which are being added [default: 64MiB]
    #[arg(long, env = "JANGBU_CATCH_UP_RATE", value_name = "BYTES", value_parser = jangbu_server::config::parse_bytes)]
    pub catch_up_rate: Option<usize>,
    /// Start although acknowledged records are missing from the data directory, without them
    #[arg(long)]
    pub accept_loss: bool,
    /// Settings in TOML
    #[arg(long, env = "JANGBU_CONFIG", value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// How the log on standard error looks
    #[arg(long, env = "JANGBU_LOG", value_enum, default_value_t = LogStyle::Human)]
    pub log: LogStyle,
    /// What is logged, for instance `info` or `jangbu_server=debug`
    #[arg(
        long,
        env = "JANGBU_LOG_FILTER",
        default_value = "info,openraft=error",
        value_name = "FILTER"
    )]
    pub log_filter: String,
}

/// Look into the data directory of a node that is stopped; only `repair` changes anything in it.
#[derive(Debug, Subcommand)]
pub(crate) enum InspectCommand {
    /// Check every checksum, chain, index and row; exit code 1 when something does not agree.
    #[command(
        after_help = "Examples:\n  jangbu inspect verify /var/lib/jangbu\n  jangbu inspect verify ./jangbu-data --json"
    )]
    Verify(DirArg),
    /// List the partitions.
    Partitions(DirArg),
    /// List the buckets.
    Buckets(DirArg),
    /// Show a partition's entries, a line each: indexes, offsets, the headers of batches.
    #[command(after_help = "\
Examples:
  jangbu inspect dump ./jangbu-data --topic flights --partition 0 --from 5000 --count 10
  jangbu inspect dump ./jangbu-data --id 0      (the metadata group)")]
    Dump(DumpArgs),
    /// Make a directory usable again that a start refuses as damaged: tables that cannot be opened are set aside.
    ///
    /// What lay in them is missing afterwards, and answers KAFKA_STORAGE_ERROR. Nothing is deleted: they are kept in
    /// DIR/store/lost. Copy the directory first. Every table is read, which takes as long as reading the directory.
    #[command(after_help = "\
Examples:
  cp -a ./jangbu-data ./copy
  jangbu inspect repair ./jangbu-data
  jangbu serve --data ./jangbu-data --accept-loss")]
    Repair(DirArg),
}

/// The data directory.
#[derive(Debug, Args)]
pub(crate) struct DirArg {
    /// The data directory of a stopped node
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Which entries to show.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The data directory of a stopped node
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The topic
    #[arg(long, value_name = "NAME")]
    pub topic: Option<String>,
    /// The number of its partition
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub partition: usize,
    /// The id of a partition, as `jangbu inspect partitions` shows it, instead of topic and number
    #[arg(long, value_name = "ID", conflicts_with = "topic")]
    pub id: Option<u32>,
    /// Begin with the entry that holds this offset
    #[arg(long, default_value_t = 0, value_name = "OFFSET")]
    pub from: i64,
    /// Stop after this many entries
    #[arg(long, value_name = "NUMBER")]
    pub count: Option<u64>,
}

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogStyle {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// The brokers a client command talks to.
#[derive(Debug, Args)]
pub(crate) struct Brokers {
    /// Brokers to start from, separated by commas
    #[arg(
        long,
        env = "JANGBU_BROKERS",
        default_value = "127.0.0.1:9092",
        value_name = "HOST:PORT,..."
    )]
    pub brokers: String,
}

/// Create, list, describe and delete topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create a topic.
    #[command(after_help = "\
Examples:
  jangbu topic create flights --partitions 4
  jangbu topic create state --config cleanup.policy=compact --config retention.ms=3600000")]
    Create(CreateArgs),
    /// List all topics.
    #[command(after_help = "Examples:\n  jangbu topic list\n  jangbu topic list --json")]
    List(Brokers),
    /// Show a topic's partitions, offsets and settings that are not the default.
    #[command(after_help = "Examples:\n  jangbu topic describe flights")]
    Describe(NamedTopic),
    /// Show how much space every topic takes, and how much of it waits to be freed.
    #[command(after_help = "Examples:\n  jangbu topic sizes\n  jangbu topic sizes --json")]
    Sizes(Brokers),
    /// Delete a topic and all its records.
    #[command(after_help = "Examples:\n  jangbu topic delete flights")]
    Delete(NamedTopic),
}

/// See who is in the cluster, and move partitions between brokers.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// List the brokers, what each holds and leads, and what is not as it should be.
    #[command(after_help = "Examples:\n  jangbu cluster status\n  jangbu cluster status --json")]
    Status(Brokers),
    /// Give a broker that has joined its share of the replicas; it is not being emptied any more.
    #[command(after_help = "\
Examples:
  jangbu serve --join 10.0.0.1:9093 --peer-listen 10.0.0.4:9093 --listen 10.0.0.4:9092     (on the new machine)
  jangbu cluster add 4")]
    Add(BrokerArgs),
    /// Move everything off a broker and give it nothing new; it can then be stopped and removed.
    #[command(
        after_help = "Examples:\n  jangbu cluster drain 2\n  jangbu cluster drain 2 --cancel"
    )]
    Drain(DrainArgs),
    /// Take a broker that is stopped out of the cluster, for ever. Replicas of a dead one are rebuilt on others first.
    #[command(after_help = "Examples:\n  jangbu cluster remove 2")]
    Remove(BrokerArgs),
    /// Level the number of replicas per broker, and let preferred leaders lead.
    #[command(after_help = "Examples:\n  jangbu cluster rebalance")]
    Rebalance(Brokers),
}

/// A broker of the cluster.
#[derive(Debug, Args)]
pub(crate) struct BrokerArgs {
    /// Its id
    #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(1..))]
    pub broker: i32,
    #[command(flatten)]
    pub brokers: Brokers,
}

/// A broker to be emptied.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub broker: BrokerArgs,
    /// Let it have replicas and lead again; what has moved stays where it is
    #[arg(long)]
    pub cancel: bool,
}

/// A topic to be created.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name
    pub name: String,
    /// Number of partitions [default: the broker's]
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: Option<i32>,
    /// Number of copies [default: the broker's]
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
    pub replication_factor: Option<i16>,
    /// A setting; may be repeated
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    pub configs: Vec<(String, String)>,
    #[command(flatten)]
    pub brokers: Brokers,
}

/// A topic by name.
#[derive(Debug, Args)]
pub(crate) struct NamedTopic {
    /// Its name
    pub name: String,
    #[command(flatten)]
    pub brokers: Brokers,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, for instance retention.ms=60000".into()),
    }
}

const PRODUCE_EXAMPLES: &str = "\
Formats:
  lines  each line is a value; with --key-separator, what stands before it is the key
  csv    the first row names the columns; each row becomes a JSON object of strings
  json   each line is a JSON object, sent as it is

Records of one key go to one partition, in their order, each exactly once even if brokers restart.

Examples:
  echo hello | jangbu produce greetings
  jangbu produce flights flights.csv --key tailnum --compression lz4
  jangbu produce events events.jsonl --key user --rate 1000
  printf 'en:hello\\nde:hallo\\n' | jangbu produce greetings - --key-separator :";

/// Write records from a file or from standard input.
#[derive(Debug, Args)]
#[command(after_help = PRODUCE_EXAMPLES)]
pub(crate) struct ProduceArgs {
    /// The topic to write to
    pub topic: String,
    /// The file to read, `-` for standard input
    #[arg(default_value = "-", value_name = "FILE|-")]
    pub file: String,
    /// What the input is [default: by the file's ending: .csv, .json, .jsonl, .ndjson, else lines]
    #[arg(long, value_enum)]
    pub format: Option<InputFormat>,
    /// The column whose value is the key (csv and json)
    #[arg(long, value_name = "COLUMN", conflicts_with = "key_separator")]
    pub key: Option<String>,
    /// What divides key and value (lines)
    #[arg(long, value_name = "TEXT")]
    pub key_separator: Option<String>,
    /// How batches are compressed: none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value_t = Compression::None)]
    pub compression: Compression,
    /// Write to this partition only [default: by key]
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// Records per second at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    #[command(flatten)]
    pub brokers: Brokers,
}

/// What the input of `produce` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// Each line is a value.
    Lines,
    /// Comma separated, with a header.
    Csv,
    /// One JSON object a line.
    Json,
}

const CONSUME_EXAMPLES: &str = "\
Without --follow it stops at the end the topic had when it started.

Formats:
  value      the value and a line end
  key-value  key, tab, value and a line end
  json       an object a line: topic, partition, offset, timestamp, key, value, headers;
             keys and values that are not UTF-8 are {\"base64\": \"...\"}, missing ones are null

Examples:
  jangbu consume flights --from-beginning --count 10
  jangbu consume flights --follow --format key-value
  jangbu consume flights --timestamp 2026-01-31T12:00:00Z --format json > flights.jsonl
  jangbu consume flights --partition 0 --partition 2 --offset 1000
  jangbu consume flights --group billing --follow
  jangbu consume flights --group billing --group-protocol consumer --follow";

/// Read records to standard output.
#[derive(Debug, Args)]
#[command(after_help = CONSUME_EXAMPLES)]
pub(crate) struct ConsumeArgs {
    /// The topic to read
    pub topic: String,
    /// Start at the first record there is [default: at the end]
    #[arg(long, group = "start")]
    pub from_beginning: bool,
    /// Start at this offset of each partition
    #[arg(long, group = "start", value_parser = clap::value_parser!(i64).range(0..))]
    pub offset: Option<i64>,
    /// Start at this time: milliseconds since 1970, or like 2026-01-31T12:00:00Z
    #[arg(long, group = "start", value_name = "MS|RFC3339")]
    pub timestamp: Option<Timestamp>,
    /// Read this partition only; may be repeated [default: all]
    #[arg(long = "partition", value_parser = clap::value_parser!(i32).range(0..))]
    pub partitions: Vec<i32>,
    /// Read as a member of this group: its share of the partitions, on from what the group has committed, or from where the
    /// other flags say if it has committed nothing; what was printed is committed
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["offset", "timestamp", "partitions"])]
    pub group: Option<String>,
    /// How the members of the group share the partitions: as one of them decides, or as the broker does (KIP-848)
    #[arg(long, value_enum, value_name = "PROTOCOL", default_value_t, requires = "group")]
    pub group_protocol: MemberProtocol,
    /// Keep waiting for new records
    #[arg(long)]
    pub follow: bool,
    /// Stop after so many records
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// How records are printed [default: value, or json with --json]
    #[arg(long, value_enum)]
    pub format: Option<OutputFormat>,
    #[command(flatten)]
    pub brokers: Brokers,
}

/// The protocol of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum MemberProtocol {
    /// One of the members shares out the partitions.
    #[default]
    Classic,
    /// The broker shares out the partitions; a change stops nobody else. Kafka 4.0 or newer, or jangbu.
    Consumer,
}

/// How records are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// The value.
    Value,
    /// Key, tab, value.
    KeyValue,
    /// An object a line.
    Json,
}

const GET_EXAMPLES: &str = "\
The topic must be compacted (cleanup.policy=compact), or have jangbu.key.index=true. The key is looked for in the partition in
which `jangbu produce` and Kafka's Java producer put it; if another partitioner did, say --partition.

The value is printed as it is; on a terminal a line end follows. When the key is not there, or was deleted, the exit code is 1.
With --history a line for each record: offset, time (ms), value. With --prefix a line for each key: key, value.

Examples:
  jangbu get state N14228
  jangbu get state N14228 --json
  jangbu get state N14228 --at-time 2026-01-31T12:00:00Z
  jangbu get state N14228 --history 5
  jangbu get state N1 --prefix --count 20";

/// Print the value of a key.
#[derive(Debug, Args)]
#[command(after_help = GET_EXAMPLES)]
pub(crate) struct GetArgs {
    /// The topic
    pub topic: String,
    /// The key
    pub key: String,
    /// As it was when the record at this offset was the partition's last
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    pub at_offset: Option<i64>,
    /// The newest record of this time or before: milliseconds since 1970, or like 2026-01-31T12:00:00Z
    #[arg(long, value_name = "MS|RFC3339", conflicts_with = "prefix")]
    pub at_time: Option<Timestamp>,
    /// The records of the key that are still there, newest first, at most so many [default: 100]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "100", conflicts_with = "prefix",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub history: Option<u32>,
    /// All keys that begin with KEY, in the order of their bytes, partition by partition
    #[arg(long)]
    pub prefix: bool,
    /// With --prefix, stop after so many keys
    #[arg(long, value_name = "N", requires = "prefix", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Look in this partition [default: by key; with --prefix all]
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
    /// Let any replica answer, which may lack the latest records
    #[arg(long)]
    pub stale_ok: bool,
    #[command(flatten)]
    pub brokers: Brokers,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
