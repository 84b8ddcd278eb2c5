//! A jangbu node: Kafka protocol listener, partitions, consensus and the HTTP port.

pub mod configs;
