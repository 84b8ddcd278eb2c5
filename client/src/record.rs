//! A record: what applications send and receive.

use std::sync::Arc;

use bytes::Bytes;

/// One message, before it has a place in a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Records of one key go to one partition, in order. `None` spreads over all partitions.
    pub key: Option<Bytes>,
    /// The payload. `None` is a tombstone: a compacted topic then forgets the key.
    pub value: Option<Bytes>,
    /// Names and values beside the payload, in order; a name may occur twice.
    pub headers: Vec<Header>,
    /// Milliseconds since 1970 (UTC). `None` lets the producer take the current time.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record without headers, stamped when it is sent.
    pub fn new(key: Option<impl Into<Bytes>>, value: impl Into<Bytes>) -> Self {
        Self { key: key.map(Into::into), value: Some(value.into()), ..Self::default() }
    }
}

/// A name and a value beside a record's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: String,
    /// The value; Kafka allows none.
    pub value: Option<Bytes>,
}

/// A record read from a log, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// The record; its timestamp is always set.
    pub record: Record,
}
