//! Reads all partitions of a topic from the beginning to the end it has now.
//!
//!     cargo run --release -p jangbu-client --example consume -- 127.0.0.1:9092 greetings

#![allow(clippy::print_stdout, reason = "an example shows what it does")]
#![allow(dead_code, reason = "the test that runs every example calls `run`, not `main`")]

use std::time::Duration;

use jangbu_client::{Client, Config, ConsumerConfig, Position, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let brokers = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let topic = args.next().unwrap_or_else(|| "greetings".to_owned());
    println!("{} records read", run(&brokers, &topic).await?);
    Ok(())
}

/// Returns how many records were read.
pub(crate) async fn run(brokers: &str, topic: &str) -> Result<usize> {
    let client = Client::connect(Config::for_brokers(brokers)).await?;
    let mut consumer = client.consumer(ConsumerConfig::default());
    let mut ends = Vec::new();
    for partition in &client.topic(topic).await?.partitions {
        let start = consumer.assign_at(topic, partition.number, Position::Earliest).await?;
        let end = client.offset(topic, partition.number, Position::Latest).await?;
        ends.push((partition.number, end));
        println!("partition {}: offsets {start} to {end}", partition.number);
    }
    let mut count = 0;
    while ends.iter().any(|(number, end)| consumer.position(topic, *number) < Some(*end)) {
        for received in consumer.poll(Duration::from_secs(1)).await? {
            if count < 5 {
                println!(
                    "{} at {}: {:?}",
                    received.partition, received.offset, received.record.value
                );
            }
            count += 1;
        }
    }
    Ok(count)
}
