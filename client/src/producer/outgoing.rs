//! A batch in the producer: the records, who waits for them, and the bytes on the wire.
//!
//! Its identity and sequence are stamped in when it is first sent, and stay over all attempts.

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Delivered, ProducerConfig};
use crate::batch::{Builder, Identity, Sealed};
use crate::{Error, Record, Result};

/// Who waits for a record.
pub(super) type Waiter = oneshot::Sender<Result<Delivered>>;

/// Records that travel together, and who waits for them.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) id: u64,
    pub(super) created: Instant,
    content: Content,
    waiters: Vec<Waiter>,
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
}

/// A batch to be sent.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) id: u64,
    pub(super) bytes: Bytes,
    pub(super) repeated: bool,
}

impl Batch {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            created: Instant::now(),
            content: Content::Open(Builder::new()),
            waiters: Vec::new(),
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
            Content::Sealed(sealed) => sealed.len(),
        }
    }

    pub(super) fn push(&mut self, record: &Record, reserved: usize, waiter: Waiter) {
        let Content::Open(builder) = &mut self.content else {
            panic!("a closed batch is not open")
        };
        builder.push(record, now_ms());
        self.reserved += reserved;
        self.waiters.push(waiter);
    }

    pub(super) fn count(&self) -> i32 {
        match &self.content {
            Content::Open(builder) => builder.count(),
            Content::Sealed(sealed) => sealed.count,
        }
    }

    /// The batch as it goes on the wire.
    pub(super) fn stamp(
        &mut self,
        identity: Identity,
        sequence: i32,
        config: &ProducerConfig,
    ) -> Result<Bytes> {
        if let Content::Open(builder) = &mut self.content {
            let builder = std::mem::replace(builder, Builder::new());
            self.content = Content::Sealed(builder.seal(config.compression)?);
        }
        let Content::Sealed(sealed) = &mut self.content else { unreachable!("sealed above") };
        Ok(sealed.stamp(identity, sequence))
    }

    /// Tells every waiter where its record is.
    pub(super) fn deliver(self, partition: i32, base: Option<i64>, outcome: &mut Outcome) {
        outcome.batches += 1;
        outcome.bytes += self.bytes();
        outcome.delivered += self.waiters.len();
        outcome.released += self.reserved;
        for (delta, waiter) in (0..).zip(self.waiters) {
            let offset = base.map(|base| base.saturating_add(delta));
            let _ = waiter.send(Ok(Delivered { partition, offset }));
        }
    }

    /// Tells every waiter that its record is given up.
    pub(super) fn fail(self, error: &Error, outcome: &mut Outcome) {
        outcome.failed += self.waiters.len();
        outcome.released += self.reserved;
        for waiter in self.waiters {
            let _ = waiter.send(Err(error.clone()));
        }
    }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
