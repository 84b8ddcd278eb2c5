//! A small Kafka client for Rust: metadata, produce and fetch with typed errors.
//!
//! It speaks the Kafka protocol, so it works with jangbu and with Apache Kafka; only asking for keys
//! ([`Client::get`]) is jangbu's own.
//!
//! ```no_run
//! use jangbu_client::{Client, Config, Position, ProducerConfig, ConsumerConfig, Record};
//!
//! # async fn example() -> jangbu_client::Result<()> {
//! let client = Client::connect(Config::for_brokers("127.0.0.1:9092")).await?;
//! let producer = client.producer(ProducerConfig::default());
//! let delivery = producer.send("greetings", Record::new(Some("en"), "hello")).await?;
//! println!("at offset {:?}", delivery.await?.offset);
//!
//! let mut consumer = client.consumer(ConsumerConfig::default());
//! consumer.assign_at("greetings", 0, Position::Earliest).await?;
//! for received in consumer.poll(std::time::Duration::from_secs(1)).await? {
//!     println!("{}: {:?}", received.offset, received.record.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Rust 1.95 or newer. `examples/` shows how to produce, consume, share a topic in a group, transform, and administrate.
//!
//! What is deliberately not here: transactions, TLS and SASL.

mod admin;
mod api;
mod batch;
mod claims;
mod client;
mod cluster;
mod compression;
mod config;
mod connection;
mod consumer;
mod error;
mod frame;
mod keys;
mod partitioner;
mod producer;
mod record;
mod sizes;

pub use admin::groups::{GroupDescription, GroupListing, GroupMember};
pub use admin::offsets::Committed;
pub use admin::{Broker, ClusterDescription, Move, Moving};
pub use client::{Client, NewTopic, Position, TopicConfig};
pub use cluster::{BrokerId, Partition, Topic};
pub use compression::Compression;
pub use config::Config;
pub use consumer::{
    Assignor, Committer, Consumer, ConsumerConfig, GroupConfig, ListenerFuture, OffsetReset,
    RebalanceListener, RecordBatch, TopicPartition,
};
pub use error::{Error, ErrorCode, Result};
pub use keys::{KeyAnswer, KeyQuery};
pub use partitioner::{murmur2, partition_for_key};
pub use producer::{BatchDelivery, Delivered, Delivery, Producer, ProducerConfig, Stats, Written};
pub use record::{Header, Received, Record};
pub use sizes::{ReplicaSize, TopicSize};
