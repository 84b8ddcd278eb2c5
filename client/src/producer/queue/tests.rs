//! The way of batches through a queue, step by step: order, sequences, gaps and deadlines.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use kafka_protocol::records::RecordBatchDecoder;
use proptest::prelude::{Strategy, any, proptest};

use super::{Answer, Gap, Lease, Limits, Queue};
use crate::batch::Identity;
use crate::producer::outgoing::{Batch, Outcome, Taken};
use crate::producer::{Delivered, Delivery, ProducerConfig};
use crate::{Error, ErrorCode, Record, Result};

const TIMEOUT: Duration = Duration::from_secs(120);

fn lease(generation: u64) -> Lease {
    let producer_id = i64::try_from(generation).unwrap() * 100;
    Lease { identity: Identity { producer_id, epoch: 0 }, generation }
}

fn refusal(code: ErrorCode) -> Error {
    Error::refused("produce", code)
}

fn lost(in_doubt: bool) -> Answer {
    Answer::TryAgain { error: refusal(ErrorCode::NetworkException), in_doubt }
}

fn out_of_order() -> Answer {
    Answer::OutOfOrder(refusal(ErrorCode::OutOfOrderSequenceNumber))
}

/// A queue, driven as the sender drives it.
struct Driver {
    queue: Queue,
    waiters: Vec<Delivery>,
    outcome: Outcome,
    now: Instant,
    generation: u64,
}

impl Driver {
    /// A queue with `batches` of one record each.
    fn new(batches: u64) -> Self {
        let mut queue = Queue::new(Arc::from("t"), 0);
        let mut waiters = Vec::new();
        for id in 0..batches {
            let mut batch = Batch::new(id, 100);
            let record = Record::new(None::<&str>, id.to_string());
            let (promise, index) = batch.push(&record, 10, 0);
            waiters.push(promise.delivery(index));
            queue.open = Some(batch);
            queue.seal();
        }
        let now = Instant::now();
        Self { queue, waiters, outcome: Outcome::default(), now, generation: 1 }
    }

    /// A queue whose first batch, of one more than `batches`, has been acknowledged.
    fn proven(batches: u64) -> Self {
        let mut driver = Self::new(batches + 1);
        assert_eq!(driver.take().unwrap().sequence, 0);
        assert_eq!(driver.take(), None, "the first batch goes alone");
        driver.answer(0, Answer::Acknowledged(Some(69)));
        driver
    }

    fn take(&mut self) -> Option<Sent> {
        if self.queue.is_blocked() {
            return None;
        }
        self.queue.settle();
        while !self.queue.adopt(lease(self.generation)) {
            self.generation += 1;
        }
        let taken = self.queue.take(&ProducerConfig::default(), &mut self.outcome)?;
        Some(Sent::read(taken))
    }

    fn answer(&mut self, id: u64, answer: Answer) {
        let at = self.queue.in_flight.iter().position(|batch| batch.id == id).unwrap();
        let batch = self.queue.in_flight.remove(at);
        let backoff = |_| Duration::ZERO;
        let limits = Limits { now: self.now, delivery_timeout: TIMEOUT, backoff: &backoff };
        self.queue.file(batch, answer, &limits, &mut self.outcome);
        if self.queue.in_flight.is_empty() {
            self.queue.close_gap(TIMEOUT, &mut self.outcome);
        }
    }

    fn result(&mut self, id: usize) -> Option<Result<Delivered>> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.waiters[id]).poll(&mut context) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }
}

/// A batch as the broker sees it.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Sent {
    id: u64,
    producer_id: i64,
    sequence: i32,
}

impl Sent {
    fn read(taken: Taken) -> Self {
        let Taken { id, batch, .. } = taken;
        let set = RecordBatchDecoder::decode(&mut batch.into_bytes()).unwrap();
        let first = &set.records[0];
        Self { id, producer_id: first.producer_id, sequence: first.sequence }
    }
}

#[test]
fn a_failed_batch_and_those_behind_it_are_sent_again_in_order_with_their_sequences() {
    let mut driver = Driver::proven(3);
    let first: Vec<Sent> = (0..3).map(|_| driver.take().unwrap()).collect();
    driver.answer(1, lost(true));
    assert_eq!(driver.take(), None, "two answers are still to come");
    driver.answer(3, out_of_order());
    driver.answer(2, out_of_order());
    let again: Vec<Sent> = (0..3).map(|_| driver.take().unwrap()).collect();
    assert_eq!(first, again);
    for id in 1..4 {
        driver.answer(id, Answer::Acknowledged(Some(69 + i64::try_from(id).unwrap())));
    }
    assert_eq!(driver.result(3).unwrap().unwrap(), Delivered { partition: 0, offset: Some(72) });
    assert_eq!((driver.outcome.delivered, driver.outcome.released), (4, 40));
}

#[test]
fn after_a_refused_batch_the_rest_starts_again_under_a_new_identity() {
    let mut driver = Driver::proven(3);
    driver.take().unwrap();
    driver.take().unwrap();
    driver.answer(1, Answer::Refused(refusal(ErrorCode::MessageTooLarge)));
    assert_eq!(driver.take(), None, "batch 2 has to be answered first");
    driver.answer(2, out_of_order());
    assert!(driver.result(1).unwrap().is_err());
    assert_eq!(driver.take(), Some(Sent { id: 2, producer_id: 200, sequence: 0 }));
    driver.answer(2, Answer::Acknowledged(Some(70)));
    assert_eq!(driver.take(), Some(Sent { id: 3, producer_id: 200, sequence: 1 }));
}

#[test]
fn a_batch_that_may_be_in_the_log_is_never_sent_under_another_identity() {
    let mut driver = Driver::proven(3);
    for _ in 0..2 {
        driver.take().unwrap();
    }
    driver.answer(2, lost(true));
    driver.now += TIMEOUT;
    driver.answer(1, lost(true));
    for id in 1..3 {
        let error = driver.result(id).unwrap().unwrap_err();
        assert!(matches!(error, Error::Undelivered { in_doubt: true, .. }), "{error}");
    }
    assert_eq!(driver.take(), Some(Sent { id: 3, producer_id: 200, sequence: 0 }));
}

#[test]
fn a_batch_that_was_overtaken_is_given_up_rather_than_written_too_late() {
    let mut driver = Driver::proven(2);
    driver.take().unwrap();
    driver.take().unwrap();
    driver.answer(1, lost(false));
    driver.answer(2, Answer::Acknowledged(Some(70)));
    driver.take().unwrap();
    driver.answer(1, out_of_order());
    assert!(driver.result(1).unwrap().is_err());
}

#[test]
fn a_broker_that_forgot_the_producer_gets_a_new_identity_unless_a_repeat_is_possible() {
    let mut driver = Driver::new(1);
    driver.take().unwrap();
    driver.answer(0, out_of_order());
    assert_eq!(driver.take(), Some(Sent { id: 0, producer_id: 200, sequence: 0 }));
    driver.answer(0, lost(true));
    driver.take().unwrap();
    driver.answer(0, out_of_order());
    assert!(driver.result(0).unwrap().is_err(), "it may be in the log already");
}

#[test]
fn what_was_never_sent_is_given_up_at_its_deadline_without_a_gap() {
    let mut driver = Driver::new(2);
    let now = driver.now + TIMEOUT + Duration::from_secs(1);
    let backoff = |_| Duration::ZERO;
    let limits = Limits { now, delivery_timeout: TIMEOUT, backoff: &backoff };
    driver.queue.expire(&limits, &mut driver.outcome);
    let error = driver.result(0).unwrap().unwrap_err();
    assert!(matches!(error, Error::Undelivered { in_doubt: false, .. }), "{error}");
    assert_eq!(driver.queue.gap, None::<Gap>);
    assert_eq!(driver.outcome.failed, 2);
}

/// A broker that keeps Kafka's rule for sequences, and a network that loses requests and answers.
#[derive(Default)]
struct Model {
    log: Vec<u64>,
    next: std::collections::HashMap<i64, i32>,
}

impl Model {
    fn append(&mut self, sent: Sent) -> Answer {
        // Kafka takes any first sequence of a producer it does not know.
        let next = self.next.entry(sent.producer_id).or_insert(sent.sequence);
        if sent.sequence < *next {
            let at = self.log.iter().position(|id| *id == sent.id).expect("a repeat is in the log");
            return Answer::Acknowledged(Some(i64::try_from(at).unwrap()));
        }
        if sent.sequence > *next {
            return out_of_order();
        }
        *next += 1;
        self.log.push(sent.id);
        Answer::Acknowledged(Some(i64::try_from(self.log.len() - 1).unwrap()))
    }
}

/// What the network does to one request.
fn fate() -> impl Strategy<Value = u8> {
    any::<u8>().prop_map(|byte| byte % 8)
}

proptest! {
    #[test]
    fn whatever_is_lost_every_batch_is_in_the_log_once_and_in_order(
        batches in 1_u64..12,
        window in 1_usize..6,
        fates in proptest::collection::vec(fate(), 0..60),
    ) {
        let mut driver = Driver::new(batches);
        let mut model = Model::default();
        let mut fates = fates.into_iter().chain(std::iter::repeat(7));
        while driver.outcome.delivered < usize::try_from(batches).unwrap() {
            let mut answers = Vec::new();
            while answers.len() < window {
                let Some(sent) = driver.take() else { break };
                answers.push((sent.id, match fates.next().unwrap() {
                    0 => lost(true),
                    1 => { model.append(sent); lost(true) }
                    2 => Answer::TryAgain { error: refusal(ErrorCode::NotLeaderOrFollower), in_doubt: false },
                    _ => model.append(sent),
                }));
            }
            assert!(!answers.is_empty(), "the queue is stuck");
            for (id, answer) in answers {
                driver.answer(id, answer);
            }
        }
        assert_eq!(model.log, (0..batches).collect::<Vec<_>>());
    }
}
