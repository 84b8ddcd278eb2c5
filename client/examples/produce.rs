//! Writes records, alone and in bulk, and says where they are.
//!
//!     cargo run --release -p jangbu-client --example produce -- 127.0.0.1:9092 greetings

#![allow(clippy::print_stdout, reason = "an example shows what it does")]
#![allow(dead_code, reason = "the test that runs every example calls `run`, not `main`")]

use jangbu_client::{Client, Compression, Config, ProducerConfig, Record, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let brokers = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let topic = args.next().unwrap_or_else(|| "greetings".to_owned());
    println!("{} records acknowledged", run(&brokers, &topic).await?);
    Ok(())
}

/// Returns how many records were acknowledged.
pub(crate) async fn run(brokers: &str, topic: &str) -> Result<u64> {
    let client = Client::connect(Config::for_brokers(brokers)).await?;
    let producer = client.producer(ProducerConfig {
        compression: Compression::Zstd,
        compression_level: Some(1),
        ..ProducerConfig::default()
    });

    // One record, and where it went.
    let delivery = producer.send(topic, Record::new(Some("en"), "hello")).await?.await?;
    println!("hello: partition {}, offset {:?}", delivery.partition, delivery.offset);

    // Many records under one lock, with one answer.
    let numbers: Vec<Record> =
        (0..1000).map(|number| Record::new(None::<&str>, number.to_string())).collect();
    for part in producer.send_batch(topic, None, &numbers).await?.await? {
        println!(
            "{} records: partition {}, from {:?}",
            part.count, part.partition, part.first_offset
        );
    }

    // Nothing is lost: whatever was taken is acknowledged or given up when this returns.
    Ok(producer.close().await.records)
}
