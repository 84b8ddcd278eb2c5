//! Makes a topic, looks at it and at the cluster, and deletes it.
//!
//!     cargo run --release -p jangbu-client --example admin -- 127.0.0.1:9092 scratch

#![allow(clippy::print_stdout, reason = "an example shows what it does")]
#![allow(dead_code, reason = "the test that runs every example calls `run`, not `main`")]

use jangbu_client::{Client, Config, NewTopic, Position, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let brokers = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let topic = args.next().unwrap_or_else(|| "scratch".to_owned());
    run(&brokers, &topic).await
}

/// Leaves nothing behind.
pub(crate) async fn run(brokers: &str, topic: &str) -> Result<()> {
    let client = Client::connect(Config::for_brokers(brokers)).await?;
    let new = NewTopic {
        name: topic.to_owned(),
        partitions: Some(3),
        configs: vec![("retention.ms".to_owned(), "60000".to_owned())],
        ..NewTopic::default()
    };
    client.create_topic(&new).await?;
    for partition in &client.topic(topic).await?.partitions {
        let end = client.offset(topic, partition.number, Position::Latest).await?;
        println!("partition {}: leader {:?}, end {end}", partition.number, partition.leader);
    }
    for config in client.topic_configs(topic).await?.iter().filter(|config| !config.is_default) {
        println!("{} = {:?}", config.name, config.value);
    }
    println!("{} topics", client.list_topics().await?.len());
    client.delete_topic(topic).await
}
