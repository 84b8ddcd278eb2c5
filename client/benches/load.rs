//! The load generator of `benches/side-by-side/load.c` on this crate, to measure the two clients beside each other.
//!
//!     cargo build --release -p jangbu-client --bench load
//!     load produce BROKER TOPIC PARTITIONS SIZE COUNT BATCH [codec=NAME] [one-by-one]
//!     load consume BROKER TOPIC PARTITIONS COUNT [batches]
//!
//! Each prints one line of JSON. Record i goes to partition i % PARTITIONS, in groups of a thousand; acks=all, idempotent.
//! `one-by-one` sends every record by itself; `batches` leaves records packed.

#![expect(clippy::print_stdout, reason = "the result goes to standard output")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jangbu_client::{
    Client, Config, ConsumerConfig, Error, ProducerConfig, Record, Result, TopicPartition,
};

/// Records of one `send_batch`.
const GROUP: usize = 1000;
/// Answers that are not looked at yet.
const PENDING: usize = 4096;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |args: &mut Vec<String>, name: &str| {
        let at = args.iter().position(|arg| arg.starts_with(name))?;
        Some(args.remove(at)[name.len()..].to_owned())
    };
    let codec = flag(&mut args, "codec=").unwrap_or_else(|| "none".to_owned());
    let one_by_one = flag(&mut args, "one-by-one").is_some();
    let batches = flag(&mut args, "batches").is_some();
    let args: Vec<&str> = args.iter().map(String::as_str).filter(|arg| *arg != "--bench").collect();
    match args[..] {
        ["produce", broker, topic, partitions, size, count, batch] => {
            let load = Load {
                topic,
                partitions: number(partitions)?,
                size: number(size)?,
                count: number(count)?,
            };
            let config = ProducerConfig {
                batch_bytes_max: number(batch)?,
                buffer_bytes: 256 << 20,
                compression: codec.parse()?,
                ..ProducerConfig::default()
            };
            produce(broker, &load, config, one_by_one).await
        }
        ["consume", broker, topic, partitions, count] => {
            let load =
                Load { topic, partitions: number(partitions)?, size: 0, count: number(count)? };
            consume(broker, &load, batches).await
        }
        _ => {
            println!("usage: see the head of load.rs");
            Ok(())
        }
    }
}

/// What is to be done.
struct Load<'a> {
    topic: &'a str,
    partitions: i32,
    size: usize,
    count: usize,
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::Invalid(format!("{text} is no number")))
}

async fn produce(
    broker: &str,
    load: &Load<'_>,
    config: ProducerConfig,
    one_by_one: bool,
) -> Result<()> {
    let client = Client::connect(Config::for_brokers(broker)).await?;
    client.topic(load.topic).await?;
    let producer = client.producer(config);
    let mut state = 1_u32;
    let value: Vec<u8> = (0..load.size)
        .map(|_| {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            (state >> 16).to_le_bytes()[0] & 0x7f
        })
        .collect();
    let record = Record::new(None::<&str>, value);
    let clock = Clock::start();
    if one_by_one {
        let mut pending = VecDeque::new();
        for at in 0..load.count {
            let partition = i32::try_from(at).unwrap_or(0) % load.partitions;
            pending.push_back(producer.send_to(load.topic, Some(partition), record.clone()).await?);
            if pending.len() > PENDING * 64
                && let Some(oldest) = pending.pop_front()
            {
                oldest.await?;
            }
        }
    } else {
        let group = vec![record; GROUP];
        let mut pending = VecDeque::new();
        for at in 0..load.count / GROUP {
            let partition = i32::try_from(at).unwrap_or(0) % load.partitions;
            pending.push_back(producer.send_batch(load.topic, Some(partition), &group).await?);
            if pending.len() > PENDING
                && let Some(oldest) = pending.pop_front()
            {
                oldest.await?;
            }
        }
    }
    let stats = producer.close().await;
    let records = usize::try_from(stats.records).unwrap_or(0);
    clock.print(records, records * load.size);
    Ok(())
}

async fn consume(broker: &str, load: &Load<'_>, batches: bool) -> Result<()> {
    let client = Client::connect(Config::for_brokers(broker)).await?;
    let mut consumer = client.consumer(ConsumerConfig::default());
    for partition in 0..load.partitions {
        let place = TopicPartition::new(load.topic, partition);
        consumer.assign(&place.topic, place.partition, 0);
    }
    let clock = Clock::start();
    let (mut records, mut bytes) = (0, 0);
    while records < load.count {
        if batches {
            if let Some(batch) = consumer.poll_batch(Duration::from_secs(10)).await? {
                records += batch.count();
                bytes += batch.bytes().len();
            }
            continue;
        }
        for received in consumer.poll(Duration::from_secs(10)).await? {
            records += 1;
            bytes += received.record.value.map_or(0, |value| value.len());
        }
    }
    clock.print(records, bytes);
    Ok(())
}

/// Time and processor time from a moment on.
struct Clock(Instant, f64);

impl Clock {
    fn start() -> Self {
        Self(Instant::now(), cpu_seconds())
    }

    #[expect(clippy::cast_precision_loss, reason = "rates are shown rounded")]
    fn print(&self, records: usize, bytes: usize) {
        let seconds = self.0.elapsed().as_secs_f64();
        println!(
            "{{\"seconds\": {seconds:.3}, \"records\": {records}, \"records_per_s\": {:.0}, \"mb_per_s\": {:.2}, \"client_cpu_s\": {:.3}}}",
            records as f64 / seconds,
            bytes as f64 / seconds / 1e6,
            cpu_seconds() - self.1
        );
    }
}

/// User and system time of this process, in hundredths of a second as Linux counts it.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
