//! The records of one partition on their way to the log. No I/O and no clock: the sender drives it.
//!
//! ```text
//!            seal              take               acknowledged
//!  open ───────────► ready ───────────► in flight ────────────► answered
//!                      ▲                    │ failed, may work later
//!                      └──── settle ◄───────┘  (waits until nothing of the partition is in flight)
//! ```
//!
//! Invariants:
//! - A batch keeps its sequence and bytes over all attempts, so that the broker recognises it.
//! - After a failure nothing of the partition is sent until all its answers are in; then the failed
//!   batches go first, in their order.
//! - Until an identity's first batch is acknowledged there is one in flight: Kafka takes any first
//!   sequence of a producer it does not know, so the second batch could get in before the first.
//! - If a batch is given up, the sequences behind it can never be accepted (KIP-360). The partition
//!   then takes a new identity, and batches that may be in the log under the old one are given up too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ProducerConfig;
use super::outgoing::{Batch, Outcome, Taken};
use crate::Error;
use crate::batch::{Identity, Sealed};
use crate::cluster::BrokerId;

/// What is queued for one partition.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) open: Option<Batch>,
    pub(super) ready: VecDeque<Batch>,
    pub(super) in_flight: Vec<Batch>,
    pub(super) failed: Vec<Batch>,
    pub(super) broker: Option<BrokerId>,
    identity: Option<Lease>,
    burned: u64,
    next_sequence: i32,
    /// The newest batch acknowledged under the present identity.
    acknowledged: Option<u64>,
    gap: Option<Gap>,
    pub(super) retry_at: Option<Instant>,
    failures: u32,
    /// Ids of batches that have been answered for good.
    pub(super) ended: Vec<u64>,
}

/// An identity, and a number that tells it from later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) identity: Identity,
    pub(super) generation: u64,
}

/// A batch was given up, so the sequence has a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// The broker has refused it, so it has refused all that came after it too.
    Refused,
    /// It may be in the log, and so may those after it.
    InDoubt,
}

/// What became of a batch that was sent.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is in the log.
    Acknowledged(Option<i64>),
    /// It is not, but may be later. `in_doubt`: nobody knows whether it is in the log.
    TryAgain { error: Error, in_doubt: bool },
    /// The broker misses an earlier sequence.
    OutOfOrder(Error),
    /// It is not and never will be.
    Refused(Error),
}

/// What bounds another attempt.
pub(super) struct Limits<'a> {
    pub(super) now: Instant,
    pub(super) delivery_timeout: Duration,
    /// The pause after so many failures in a row.
    pub(super) backoff: &'a dyn Fn(u32) -> Duration,
}

/// When a queue has something to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Not before something else happens.
    Never,
    /// At this time.
    At(Instant),
    /// Now, of about so many bytes.
    /// `generation` is the oldest identity it may be sent under.
    Now { bytes: usize, generation: u64 },
}

/// The sequence `count` records later; after the last one comes 0.
fn sequence_after(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

impl Queue {
    pub(super) fn new(topic: Arc<str>, partition: i32) -> Self {
        Self {
            topic,
            partition,
            open: None,
            ready: VecDeque::new(),
            in_flight: Vec::new(),
            failed: Vec::new(),
            broker: None,
            identity: None,
            burned: 0,
            next_sequence: 0,
            acknowledged: None,
            gap: None,
            retry_at: None,
            failures: 0,
            ended: Vec::new(),
        }
    }

    /// Whether answers must come in before anything else is sent.
    pub(super) fn is_blocked(&self) -> bool {
        let is_waiting =
            !self.failed.is_empty() || self.gap.is_some() || self.acknowledged.is_none();
        is_waiting && !self.in_flight.is_empty()
    }

    /// The oldest identity that may be used for what comes next.
    pub(super) fn generation(&self) -> u64 {
        if self.identity.is_some() { 0 } else { self.burned + 1 }
    }

    /// Takes up an identity if there is none. False if this one is used up.
    pub(super) fn adopt(&mut self, lease: Lease) -> bool {
        if self.identity.is_none() {
            if lease.generation <= self.burned {
                return false;
            }
            self.identity = Some(lease);
            self.next_sequence = 0;
            self.acknowledged = None;
        }
        true
    }

    /// Closes the open batch.
    pub(super) fn seal(&mut self) {
        self.ready.extend(self.open.take());
    }

    /// Takes what has been compressed for a batch, or gives it up.
    pub(super) fn sealed(&mut self, id: u64, result: Result<Sealed, Error>, outcome: &mut Outcome) {
        let found = self.ready.iter().position(|batch| batch.id == id);
        let Some(at) = found else { return };
        match result {
            Ok(sealed) => self.ready[at].sealed(sealed),
            Err(error) => {
                if let Some(batch) = self.ready.remove(at) {
                    self.give_up(batch, &error, outcome);
                }
            }
        }
    }

    /// Puts failed batches back in front, in their order. Nothing may be in flight.
    pub(super) fn settle(&mut self) {
        if self.failed.is_empty() {
            return;
        }
        assert!(self.in_flight.is_empty(), "batches are sent again after all answers are in");
        self.failed.sort_by_key(|batch| batch.id);
        for batch in self.failed.drain(..).rev() {
            self.ready.push_front(batch);
        }
    }

    /// Moves the first batch to those in flight.
    pub(super) fn take(&mut self, config: &ProducerConfig, outcome: &mut Outcome) -> Option<Taken> {
        let identity = self.identity?.identity;
        let mut batch = self.ready.pop_front()?;
        let sequence = batch.sequence.unwrap_or(self.next_sequence);
        let on_wire = if identity == Identity::NONE { -1 } else { sequence };
        match batch.stamp(identity, on_wire, config) {
            Ok(stamped) => {
                if batch.sequence.is_none() {
                    self.next_sequence = sequence_after(sequence, batch.count());
                    batch.sequence = Some(sequence);
                }
                batch.attempts += 1;
                let repeated = batch.attempts > 1;
                let taken = Taken { id: batch.id, batch: stamped, repeated };
                self.in_flight.push(batch);
                Some(taken)
            }
            Err(error) => {
                self.ended.push(batch.id);
                batch.fail(&error, outcome);
                None
            }
        }
    }

    /// Files the answer to `batch`, which was in flight.
    pub(super) fn file(
        &mut self,
        mut batch: Batch,
        answer: Answer,
        limits: &Limits,
        outcome: &mut Outcome,
    ) {
        match answer {
            Answer::Acknowledged(base) => {
                self.failures = 0;
                self.acknowledged = self.acknowledged.max(Some(batch.id));
                self.ended.push(batch.id);
                batch.deliver(self.partition, base, outcome);
            }
            Answer::TryAgain { error, in_doubt } => {
                batch.in_doubt |= in_doubt;
                self.try_again(batch, &error, limits, outcome);
            }
            Answer::OutOfOrder(error) if self.misses_one_before(&batch) => {
                self.try_again(batch, &error, limits, outcome);
            }
            // The broker has forgotten this producer. A batch that is surely not in the log can be
            // sent under a new identity. One that may be there could be written twice, and one that
            // has been overtaken would come too late.
            Answer::OutOfOrder(error)
                if !batch.in_doubt && self.acknowledged.is_none_or(|id| id < batch.id) =>
            {
                self.gap.get_or_insert(Gap::Refused);
                self.try_again(batch, &error, limits, outcome);
            }
            Answer::OutOfOrder(error) | Answer::Refused(error) => {
                self.give_up(batch, &error, outcome);
            }
        }
    }

    /// Whether an earlier batch has yet to be accepted, so that `batch` could not be.
    fn misses_one_before(&self, batch: &Batch) -> bool {
        let mut open = self.in_flight.iter().chain(&self.failed);
        self.gap.is_some() || open.any(|other| other.id < batch.id)
    }

    fn try_again(&mut self, batch: Batch, error: &Error, limits: &Limits, outcome: &mut Outcome) {
        if limits.now >= batch.created + limits.delivery_timeout {
            let error = self.undelivered(&batch, limits.delivery_timeout, error);
            self.give_up(batch, &error, outcome);
            return;
        }
        let mut batch = batch;
        batch.refused = Some(error.to_string());
        self.failures += 1;
        self.retry_at = Some(limits.now + (limits.backoff)(self.failures));
        self.failed.push(batch);
    }

    fn give_up(&mut self, batch: Batch, error: &Error, outcome: &mut Outcome) {
        if batch.sequence.is_some() {
            let gap = if batch.in_doubt { Gap::InDoubt } else { Gap::Refused };
            self.gap = Some(if self.gap == Some(Gap::InDoubt) { Gap::InDoubt } else { gap });
        }
        self.ended.push(batch.id);
        batch.fail(error, outcome);
    }

    /// Gives up what has waited longer than allowed and is not in flight.
    pub(super) fn expire(&mut self, limits: &Limits, outcome: &mut Outcome) {
        let late = |batch: &Batch| limits.now >= batch.created + limits.delivery_timeout;
        if self.open.as_ref().is_some_and(late) {
            self.seal();
        }
        let why = Error::Timeout { what: "a place in a request", after: limits.delivery_timeout };
        let mut expired: Vec<Batch> = self.failed.extract_if(.., |batch| late(batch)).collect();
        while let Some(batch) = self.ready.pop_front_if(|batch| late(batch)) {
            expired.push(batch);
        }
        for batch in expired {
            let error = self.undelivered(&batch, limits.delivery_timeout, &why);
            self.give_up(batch, &error, outcome);
        }
    }

    fn undelivered(&self, batch: &Batch, after: Duration, last: &Error) -> Error {
        Error::Undelivered {
            topic: self.topic.to_string(),
            partition: self.partition,
            after,
            in_doubt: batch.in_doubt,
            last: batch.refused.clone().unwrap_or_else(|| last.to_string()),
        }
    }

    /// After a batch was given up and all answers are in: what follows starts again under a new
    /// identity, except what may already be in the log.
    pub(super) fn close_gap(&mut self, after: Duration, outcome: &mut Outcome) {
        let Some(gap) = self.gap.take() else { return };
        self.settle();
        let lost = Error::Invalid("a batch before it was given up".into());
        for mut batch in std::mem::take(&mut self.ready) {
            if batch.in_doubt && gap == Gap::InDoubt {
                let error = self.undelivered(&batch, after, &lost);
                self.ended.push(batch.id);
                batch.fail(&error, outcome);
            } else {
                batch.sequence = None;
                batch.in_doubt = false;
                self.ready.push_back(batch);
            }
        }
        self.burned = self.identity.take().map_or(self.burned, |lease| lease.generation);
    }
}

#[cfg(test)]
mod tests;
