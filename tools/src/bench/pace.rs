//! Sends records when they are due, from a thread of its own: a timer of the runtime is late by up to a millisecond.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jangbu_client::{Delivery, Producer};
use tokio::sync::mpsc;

use super::payload::Payload;

/// So many records a second are timed; of more, every second one or fewer are.
const TIMED_PER_SECOND: u32 = 10_000;

/// A record whose answer is timed.
#[derive(Debug)]
pub(crate) struct Sent {
    /// When it should have been sent.
    pub due: Instant,
    /// Its answer.
    pub delivery: Delivery,
}

/// One producer among several, which share the rate.
pub(crate) struct Pace {
    pub producer: Producer,
    pub payload: Payload,
    pub topic: String,
    /// Records per second of all producers.
    pub rate: u32,
    /// Which of the producers this is, and how many there are: it sends records `at`, `at + of`, ...
    pub at: u64,
    pub of: u64,
    /// The first record is due at `begin`, none at `until` or later.
    pub begin: Instant,
    pub until: Instant,
    pub stop: Arc<AtomicBool>,
    pub timed: mpsc::Sender<Sent>,
}

impl Pace {
    /// Sends all that is due. Behind time, it sends without pause, and what waits is timed from when it was due.
    ///
    /// # Errors
    /// Those of [`Producer::send_to`].
    pub(crate) fn run(self, runtime: &tokio::runtime::Handle) -> jangbu_client::Result<()> {
        let every = u64::from(self.rate.div_ceil(TIMED_PER_SECOND));
        let mut number = self.at;
        loop {
            let due =
                self.begin + Duration::from_secs(number / u64::from(self.rate)) + self.part(number);
            if due >= self.until || self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let ahead = due.saturating_duration_since(Instant::now());
            if !ahead.is_zero() {
                std::thread::sleep(ahead);
            }
            let (partition, record) = self.payload.record(number, due);
            let sending = self.producer.send_to(&self.topic, partition, record);
            let delivery = runtime.block_on(sending)?;
            if (number / self.of).is_multiple_of(every) {
                // Nobody listens once the run is over.
                let _ = self.timed.blocking_send(Sent { due, delivery });
            }
            number += self.of;
        }
    }

    /// Where in its second a record is due.
    fn part(&self, number: u64) -> Duration {
        let rate = u64::from(self.rate);
        Duration::from_nanos(number % rate * 1_000_000_000 / rate)
    }
}
