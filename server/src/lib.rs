//! A jangbu node: Kafka protocol listener, partitions, consensus and the HTTP port.

#[allow(dead_code, reason = "the fetch handler is the user")]
mod fetch_sessions;
#[allow(dead_code, reason = "the connection decodes with it")]
mod legacy;
