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
//! Every configuration is plain data with defaults, and has a method for each field:
//!
//! ```
//! use std::time::Duration;
//!
//! use jangbu_client::{Compression, Config, ConsumerConfig, GroupConfig, GroupProtocol, ProducerConfig};
//!
//! let config = Config::for_brokers("a:9092,b:9092").with_client_id("billing");
//! let producing = ProducerConfig::default()
//!     .with_linger(Duration::from_millis(20))
//!     .with_compression(Compression::Zstd)
//!     .with_compression_level(3);
//! let group = GroupConfig::new("billing").with_protocol(GroupProtocol::Consumer);
//! let consuming = ConsumerConfig::default().with_group(group).with_rack("east");
//! assert_eq!((config.bootstrap.len(), producing.compression_level), (2, Some(3)));
//! assert_eq!(consuming.rack.as_deref(), Some("east"));
//! ```
//!
//! What the client does is told to [`Metrics`], and by spans of `tracing` at the debug level: `request`, `fetch`, `seal`,
//! `join`, `resolve` and `adopt`.
//!
//! A group's members share the partitions as one of them decides, or as the broker does ([`GroupProtocol`]).
//!
//! What is deliberately not here: transactions, TLS and SASL.

/// The examples of the page are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

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
mod metrics;
mod partitioner;
mod producer;
mod record;
mod setters;
mod sizes;

pub use admin::groups::{GroupDescription, GroupListing, GroupMember};
pub use admin::offsets::Committed;
pub use admin::{Broker, ClusterDescription, Move, Moving};
pub use client::{Client, NewTopic, Position, TopicConfig};
pub use cluster::{BrokerId, Partition, Topic};
pub use compression::Compression;
pub use config::Config;
pub use consumer::{
    Assignor, Committer, Consumer, ConsumerConfig, GroupConfig, GroupProtocol, ListenerFuture,
    OffsetReset, RebalanceListener, RecordBatch, TopicPartition,
};
pub use error::{About, Error, ErrorCode, Result};
pub use keys::{KeyAnswer, KeyQuery};
pub use metrics::{Count, Metrics};
pub use partitioner::{murmur2, partition_for_key};
pub use producer::{BatchDelivery, Delivered, Delivery, Producer, ProducerConfig, Stats, Written};
pub use record::{Header, Received, Record};
pub use sizes::{ReplicaSize, TopicSize};
