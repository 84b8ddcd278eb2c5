//! A member of a group: start it several times, and the members share the topic's partitions.
//!
//!     cargo run --release -p jangbu-client --example group -- 127.0.0.1:9092 greetings readers 100

#![allow(clippy::print_stdout, reason = "an example shows what it does")]
#![allow(dead_code, reason = "the test that runs every example calls `run`, not `main`")]

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use jangbu_client::{
    Assignor, Client, Committer, Config, ConsumerConfig, GroupConfig, ListenerFuture, OffsetReset,
    RebalanceListener, Result, TopicPartition,
};

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let brokers = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let topic = args.next().unwrap_or_else(|| "greetings".to_owned());
    let group = args.next().unwrap_or_else(|| "readers".to_owned());
    let count = args.next().and_then(|count| count.parse().ok()).unwrap_or(100);
    run(&brokers, &topic, &group, count).await
}

/// Says which partitions come and go.
struct Announce;

impl RebalanceListener for Announce {
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> ListenerFuture<'a> {
        Box::pin(async move { partitions.iter().for_each(|place| println!("+ {place}")) })
    }

    fn revoked<'a>(
        &'a self,
        partitions: &'a [TopicPartition],
        _: &'a Committer,
    ) -> ListenerFuture<'a> {
        Box::pin(async move { partitions.iter().for_each(|place| println!("- {place}")) })
    }
}

/// Reads `count` records as a member of `group`, and commits them.
pub(crate) async fn run(brokers: &str, topic: &str, group: &str, count: usize) -> Result<()> {
    let client = Client::connect(Config::for_brokers(brokers)).await?;
    let mut consumer = client.consumer(ConsumerConfig {
        group: Some(GroupConfig {
            assignors: vec![Assignor::CooperativeSticky],
            auto_commit: None,
            ..GroupConfig::new(group)
        }),
        offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    });
    consumer.listen(Arc::new(Announce))?;
    consumer.subscribe(&[topic])?;
    {
        let mut records = pin!(consumer.records().take(count));
        while let Some(received) = records.next().await {
            let received = received?;
            println!("{} at {}: {:?}", received.partition, received.offset, received.record.value);
        }
    }
    consumer.commit().await?;
    consumer.close().await
}
