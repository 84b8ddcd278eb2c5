//! Reading a topic that was filled before.

use std::time::{Duration, Instant};

use jangbu_client::{ConsumerConfig, Position};

use super::super::Side;
use super::super::load::Load;
use super::super::payload::Payload;
use super::{Meter, Run};

/// Longest wait for the next records. All of them are there.
const POLL: Duration = Duration::from_secs(30);

/// One run: fills the topic, which is not measured, and reads all of it.
pub(super) async fn measure(load: &Load, side: &Side, topic: &str) -> anyhow::Result<Run> {
    let total = (load.bytes / load.size).max(1) as u64;
    fill(load, side, topic, total).await?;
    let mut consumer = Side::connect(&side.brokers).await?.consumer(ConsumerConfig::default());
    for partition in 0..load.partitions {
        consumer.assign_at(topic, partition, Position::Earliest).await?;
    }
    let mut meter = Meter::begin(side, load, 0)?;
    let mut read = 0;
    while read < total {
        let records = consumer.poll(POLL).await?;
        anyhow::ensure!(
            !records.is_empty(),
            "{read} of {total} records were read, and no more came in {POLL:?}"
        );
        read += records.len() as u64;
        meter.look(read);
    }
    meter.end(read)
}

async fn fill(load: &Load, side: &Side, topic: &str, total: u64) -> anyhow::Result<()> {
    let producer = Side::connect(&side.brokers).await?.producer(load.producer.clone());
    let payload = Payload::new(load, Instant::now());
    for number in 0..total {
        let (partition, record) = payload.record(number, Instant::now());
        drop(producer.send_to(topic, partition, record).await?);
    }
    producer.flush().await;
    let stats = producer.stats();
    anyhow::ensure!(stats.failed == 0, "{} records were not acknowledged", stats.failed);
    Ok(())
}
