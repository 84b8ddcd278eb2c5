//! The flags of `jangbu bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jangbu_client::Compression;

use super::{Brokers, key_value};

const EXAMPLES: &str = "\
Every run has a topic of its own, which is deleted afterwards. With --against, two brokers are measured in turns in one
run, and what is told is the ratio: on a busy machine it says more than a rate does.

Examples:
  jangbu bench produce
  jangbu bench produce --partitions 100 --against 127.0.0.1:9192 --names jangbu,kafka --report produce.html
  jangbu bench latency --rate 2000 --partitions 100 --pid $(pidof jangbu)
  jangbu bench consume --bytes 1GiB --rounds 5 --json
  jangbu bench mixed --rate 50000 --compression lz4
  jangbu bench engine /var/tmp --partitions 1000 --batch 16KiB";

/// Measure any broker of the Kafka protocol, two of them against each other, or the storage engine alone.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum BenchCommand {
    /// Write as fast as it goes, or at a rate; the time is that until records are acknowledged.
    #[command(after_help = "\
Examples:
  jangbu bench produce --size 100 --seconds 30
  jangbu bench produce --partitions 100 --against 127.0.0.1:9192 --rounds 5")]
    Produce(LoadArgs),
    /// Fill a topic, then read all of it.
    #[command(after_help = "\
Examples:
  jangbu bench consume --bytes 1GiB --partitions 100")]
    Consume(LoadArgs),
    /// Write at a rate far below what is possible, without linger, and read it at once: the latencies.
    ///
    /// A record's time begins when it was due, not when it was sent: waiting behind others counts (no coordinated
    /// omission).
    #[command(after_help = "\
Examples:
  jangbu bench latency --rate 2000 --partitions 100
  jangbu bench latency --rate 20000 --against 127.0.0.1:9192 --report latency.html")]
    Latency(LoadArgs),
    /// Write and read at the same time.
    #[command(after_help = "\
Examples:
  jangbu bench mixed --rate 50000 --seconds 60")]
    Mixed(LoadArgs),
    /// Append to the storage engine in this process, synced, and read it back: no network, no replication.
    #[command(after_help = "\
Examples:
  jangbu bench engine
  jangbu bench engine /mnt/disk --partitions 1000 --batch 64KiB --bytes 10GiB --rounds 5 --json")]
    Engine(EngineArgs),
}

/// A load on a broker.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub brokers: Brokers,
    /// A second cluster that gets the same load, in turns with the first
    #[arg(long, value_name = "HOST:PORT,...")]
    pub against: Option<String>,
    /// What the sides are called [default: their addresses]
    #[arg(long, value_name = "NAME[,NAME]", value_delimiter = ',', num_args = 1..=2)]
    pub names: Vec<String>,
    /// The process id of the broker, if it runs on this machine: its CPU, memory and writes are told too
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// The process id of the second broker
    #[arg(long, value_name = "PID", requires = "against")]
    pub against_pid: Option<u32>,
    /// Partitions of the topic
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// Copies of each partition [default: the broker's]
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
    pub replication_factor: Option<i16>,
    /// A setting of the topic; may be repeated
    #[arg(long = "config", value_name = "KEY=VALUE", value_parser = key_value)]
    pub configs: Vec<(String, String)>,
    /// Bytes of each value, at least 16
    #[arg(long, default_value = "1KiB", value_name = "BYTES", value_parser = value_size)]
    pub size: usize,
    /// Distinct keys; 0 writes records without key to the partitions in turn
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub keys: u64,
    /// How batches are compressed: none, gzip, snappy, lz4 or zstd; values compress to about half
    #[arg(long, default_value_t = Compression::None)]
    pub compression: Compression,
    /// Producers at once, each with its own connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub producers: u32,
    /// Records per second of all producers [default: as fast as it goes; latency: 2000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// How long a producer waits for more records [default: 5ms; latency: 0]
    #[arg(long, value_name = "DURATION", value_parser = jangbu_server::config::parse_duration_ms)]
    pub linger: Option<u64>,
    /// Largest batch [default: 512KiB]
    #[arg(long, value_name = "BYTES", value_parser = jangbu_server::config::parse_bytes)]
    pub batch: Option<usize>,
    /// How much `consume` reads
    #[arg(long, default_value = "512MiB", value_name = "BYTES", value_parser = jangbu_server::config::parse_bytes)]
    pub bytes: usize,
    /// How long each run is measured, in seconds
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// How long each run goes on before it is measured, in seconds
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    pub warm_up: u64,
    /// Runs per side
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Write a page with tables and charts, which needs nothing beside it
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
}

/// A load on the engine.
#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// Where a directory is made for it, which is deleted afterwards: the disk that is measured
    #[arg(default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Partitions, which get a batch each in turn
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub partitions: u32,
    /// Bytes of each batch
    #[arg(long, default_value = "16KiB", value_name = "BYTES", value_parser = batch_size)]
    pub batch: usize,
    /// Bytes that are appended in each round
    #[arg(long, default_value = "1GiB", value_name = "BYTES", value_parser = jangbu_server::config::parse_bytes)]
    pub bytes: usize,
    /// How often
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Answer before the sync, as `jangbu.durability=relaxed` does
    #[arg(long)]
    pub relaxed: bool,
    /// Write tables through the page cache instead of past it
    #[arg(long)]
    pub buffered: bool,
}

fn bytes_within(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let bytes = jangbu_server::config::parse_bytes(text)?;
    let fits = (least..=most).contains(&bytes);
    fits.then_some(bytes).ok_or_else(|| format!("{least} to {most} bytes are possible"))
}

/// The first bytes of a value say when it was due.
fn value_size(text: &str) -> Result<usize, String> {
    bytes_within(text, 16, 900 << 10)
}

fn batch_size(text: &str) -> Result<usize, String> {
    bytes_within(text, 128, 8 << 20)
}
