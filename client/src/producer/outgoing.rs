//! A batch in the producer: the records, who waits for them, and the bytes on the wire.
//!
//! Its identity and sequence are stamped in when it is first sent, and stay over all attempts.

use std::time::Instant;

use super::ProducerConfig;
use super::delivery::Promise;
use crate::batch::{Builder, Identity, Sealed, Stamped};
use crate::{Error, Record, Result};

/// Records that travel together, and who waits for them.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) id: u64,
    pub(super) created: Instant,
    content: Content,
    promise: Promise,
    reserved: usize,
    /// The sequence of its first record, once it has been sent.
    pub(super) sequence: Option<i32>,
    pub(super) attempts: u32,
    /// Whether an attempt ended without an answer.
    pub(super) in_doubt: bool,
    /// Why the last attempt that was answered failed.
    pub(super) refused: Option<String>,
}

#[derive(Debug)]
enum Content {
    Open(Builder),
    /// Being compressed elsewhere.
    Sealing {
        bytes: usize,
        count: i32,
    },
    Sealed(Sealed),
}

/// A batch whose time has ended, for the sender to count and to give its bytes back.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) delivered: usize,
    pub(super) failed: usize,
    pub(super) batches: usize,
    pub(super) bytes: usize,
    pub(super) released: usize,
    /// How long each batch that was acknowledged took.
    pub(super) took: Vec<std::time::Duration>,
}

/// A batch to be sent.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) id: u64,
    pub(super) batch: Stamped,
    pub(super) repeated: bool,
}

impl Batch {
    /// An empty batch that is expected to grow to so many bytes.
    pub(super) fn new(id: u64, bytes: usize) -> Self {
        Self {
            id,
            created: Instant::now(),
            content: Content::Open(Builder::with_capacity(bytes)),
            promise: Promise::default(),
            reserved: 0,
            sequence: None,
            attempts: 0,
            in_doubt: false,
            refused: None,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.content {
            Content::Open(builder) => builder.len(),
            Content::Sealing { bytes, .. } => *bytes,
            Content::Sealed(sealed) => sealed.len(),
        }
    }

    /// Appends a record. Returns who answers for it, and its place.
    pub(super) fn push(
        &mut self,
        record: &Record,
        reserved: usize,
        now_ms: i64,
    ) -> (&Promise, i32) {
        let Content::Open(builder) = &mut self.content else {
            panic!("a closed batch is not open")
        };
        let index = builder.count();
        builder.push(record, now_ms);
        self.reserved += reserved;
        (&self.promise, index)
    }

    pub(super) fn count(&self) -> i32 {
        match &self.content {
            Content::Open(builder) => builder.count(),
            Content::Sealing { count, .. } => *count,
            Content::Sealed(sealed) => sealed.count,
        }
    }

    /// Gives away what is to be compressed. Until [`Batch::sealed`] the batch cannot be sent.
    pub(super) fn begin_sealing(&mut self) -> Option<Builder> {
        let (bytes, count) = (self.bytes(), self.count());
        match std::mem::replace(&mut self.content, Content::Sealing { bytes, count }) {
            Content::Open(builder) => Some(builder),
            other => {
                self.content = other;
                None
            }
        }
    }

    pub(super) fn is_sealing(&self) -> bool {
        matches!(self.content, Content::Sealing { .. })
    }

    /// Takes what has been compressed.
    pub(super) fn sealed(&mut self, sealed: Sealed) {
        self.content = Content::Sealed(sealed);
    }

    /// The batch as it goes on the wire.
    pub(super) fn stamp(
        &mut self,
        identity: Identity,
        sequence: i32,
        config: &ProducerConfig,
    ) -> Result<Stamped> {
        if let Some(builder) = self.begin_sealing() {
            let sealed = builder.seal(config.compression, config.compression_level)?;
            self.content = Content::Sealed(sealed);
        }
        match &self.content {
            Content::Sealed(sealed) => Ok(sealed.stamp(identity, sequence)),
            _ => Err(Error::Invalid("a batch that is being compressed cannot be sent".into())),
        }
    }

    /// Tells every waiter where its record is.
    pub(super) fn deliver(self, partition: i32, base: Option<i64>, outcome: &mut Outcome) {
        outcome.batches += 1;
        outcome.took.push(self.created.elapsed());
        outcome.bytes += self.bytes();
        outcome.delivered += self.records();
        outcome.released += self.reserved;
        self.promise.deliver(partition, base);
    }

    /// Tells every waiter that its record is given up.
    pub(super) fn fail(self, error: &Error, outcome: &mut Outcome) {
        outcome.failed += self.records();
        outcome.released += self.reserved;
        self.promise.fail(error);
    }

    /// How many records it holds.
    pub(super) fn records(&self) -> usize {
        usize::try_from(self.count()).unwrap_or(0)
    }
}

/// The time that records get.
pub(super) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
