//! A jangbu node: Kafka protocol listener, partitions, consensus and the HTTP port.
//!
//! [`Node::start`] runs one; `ARCHITECTURE.md` shows how the parts stand to each other.

mod answers;
mod broker;
pub mod bytes_in_json;
mod cluster;
mod codes;
mod compaction;
pub mod config;
pub mod configs;
mod connection;
mod consensus;
mod controller;
mod disk;
mod dispatch;
mod error;
mod fetch_sessions;
mod frame;
mod groups;
mod handlers;
mod health;
mod housekeeping;
mod http;
mod idle;
mod legacy;
mod listener;
mod lookup;
mod memory;
mod metrics;
mod node;
mod partition;
mod peer;
mod producers;
mod proto;
mod quotas;
mod replicas;
mod retention;
mod schema;
mod status;

pub use config::Config;
pub use controller::topic_names;
pub use error::Error;
pub use node::Node;
