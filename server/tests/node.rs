//! A whole node in this process, driven over its sockets with hand-made requests.
//!
//! Real clients say whether jangbu is a Kafka broker (`clients/`); these say what such clients cannot:
//! what exactly is answered, in which order, and what is still there after a restart.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "node/administration.rs"]
mod administration;
#[path = "node/compaction.rs"]
mod compaction;
#[path = "node/compression.rs"]
mod compression;
#[path = "node/configs.rs"]
mod configs;
#[path = "node/consumer_groups.rs"]
mod consumer_groups;
#[path = "node/damage.rs"]
mod damage;
#[path = "node/fairness.rs"]
mod fairness;
#[path = "node/fetch.rs"]
mod fetch;
#[path = "node/forming.rs"]
mod forming;
#[path = "node/groups.rs"]
mod groups;
#[path = "node/harness.rs"]
mod harness;
#[path = "node/healing.rs"]
mod healing;
#[path = "node/idle.rs"]
mod idle;
#[path = "node/in_sync.rs"]
mod in_sync;
#[path = "node/key_clients.rs"]
mod key_clients;
#[path = "node/keys.rs"]
mod keys;
#[path = "node/limits.rs"]
mod limits;
#[path = "node/metrics.rs"]
mod metrics;
#[path = "node/migration.rs"]
mod migration;
#[path = "node/overload.rs"]
mod overload;
#[path = "node/ports.rs"]
mod ports;
#[path = "node/produce.rs"]
mod produce;
#[path = "node/quotas.rs"]
mod quotas;
#[path = "node/racks.rs"]
mod racks;
#[path = "node/replication.rs"]
mod replication;
#[path = "node/restart.rs"]
mod restart;
#[path = "node/retention.rs"]
mod retention;
#[path = "node/time.rs"]
mod time;
