//! What a topic and a broker can be configured with: names, kinds, defaults, bounds, meaning.
//!
//! The set is that of Apache Kafka 4.3.0, so that every tool finds the names it asks for.
//!
//! Invariants:
//! - Data and pure functions: no I/O, no clock, no state.
//! - A value that promises behaviour jangbu does not have is refused, never stored in silence.
//!
//! Not here: where topic values are stored (group 0), the node's own settings file, error codes.

mod broker;
mod change;
mod describe;
mod group;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod topic;
mod value;

pub use broker::{BrokerConfigs, BrokerValues, broker_config, broker_configs, is_dynamic};
pub(crate) use broker::{DRAINING, FOLLOWER_RATE, LEADER_RATE, says_draining};
pub use change::{Change, Edit, Operation, Rejected, Scope};
pub use describe::{
    Ask, Row, Source, Synonym, describe_broker, describe_every_broker, describe_topic,
};
pub(crate) use group::{HEARTBEAT_INTERVAL, SESSION_TIMEOUT, describe_group};
pub use jangbu_engine::records::codec::Compression;
pub use settings::{Durability, TimestampType, TopicSettings};
pub use topic::{
    Accept, Policy, Standing, topic_config, topic_configs, topic_policies, validate_broker_config,
    validate_topic_config, validate_topic_configs,
};
pub(crate) use topic::{FOLLOWER_REPLICAS, LEADER_REPLICAS};
pub(crate) use value::names_replica;
pub use value::{ConfigDef, Invalid, Kind, Valid};
