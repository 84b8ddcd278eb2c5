//! A jangbu node: Kafka protocol listener, partitions, consensus and the HTTP port.

mod consensus;
mod producers;
mod proto;
