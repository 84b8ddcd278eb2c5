//! A small Kafka client for Rust: metadata, produce and fetch with typed errors.
