//! Consumes, transforms and produces: upper case of one topic into another. Whatever fails, every record gets there
//! at least once, because what was read is committed after what was made of it is acknowledged.
//!
//!     cargo run --release -p jangbu-client --example transform -- 127.0.0.1:9092 greetings loud shouters 1001

#![allow(clippy::print_stdout, reason = "an example shows what it does")]
#![allow(dead_code, reason = "the test that runs every example calls `run`, not `main`")]

use std::time::Duration;

use jangbu_client::{
    Client, Config, ConsumerConfig, GroupConfig, OffsetReset, ProducerConfig, Record, Result,
};

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let brokers = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let from = args.next().unwrap_or_else(|| "greetings".to_owned());
    let to = args.next().unwrap_or_else(|| "loud".to_owned());
    let group = args.next().unwrap_or_else(|| "shouters".to_owned());
    let count = args.next().and_then(|count| count.parse().ok()).unwrap_or(1001);
    println!("{} records", run(&brokers, &from, &to, &group, count).await?);
    Ok(())
}

/// Goes on until `count` records or more have been written.
pub(crate) async fn run(
    brokers: &str,
    from: &str,
    to: &str,
    group: &str,
    count: usize,
) -> Result<usize> {
    let client = Client::connect(Config::for_brokers(brokers)).await?;
    let producer = client.producer(ProducerConfig::default());
    let mut consumer = client.consumer(ConsumerConfig {
        group: Some(GroupConfig { auto_commit: None, ..GroupConfig::new(group) }),
        offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    });
    consumer.subscribe(&[from])?;
    let mut written = 0;
    while written < count {
        let records = consumer.poll(Duration::from_secs(1)).await?;
        let loud: Vec<Record> = records
            .into_iter()
            .map(|received| Record {
                value: received.record.value.map(|value| value.to_ascii_uppercase().into()),
                ..received.record
            })
            .collect();
        producer.send_batch(to, None, &loud).await?.await?;
        consumer.commit().await?;
        written += loud.len();
    }
    producer.close().await;
    consumer.close().await?;
    Ok(written)
}
