//! Client quotas: how many bytes a second clients may produce and fetch, and how much of a thread they may take (KIP-13,
//! KIP-55, KIP-124).
//!
//! Who takes more than is allowed is not refused anything: its connection is not read for as long as it takes to come back to
//! its quota, and its answers say so (`throttle_time_ms`, KIP-219). Every node keeps the quotas for itself, as in Kafka.
//!
//! Invariants:
//! - Where no quota is set nothing is measured.
//! - What is kept is bounded: clients that do nothing for a window are forgotten, and beyond [`CLIENTS_MAX`] new ones share one measure.
//!
//! Not here: which quota holds for whom (`quotas/table.rs`), the measure (`quotas/rate.rs`), muting (`connection.rs`).

mod rate;
mod table;

use std::collections::HashMap;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub(crate) use table::{Entity, Name, Scope, Table};

use crate::metrics::Counter;
use rate::Rate;

/// Clients that are measured at the same time.
const CLIENTS_MAX: usize = 10_000;
/// Who connects without saying who he is, as everybody does: there is no authentication.
pub(crate) const ANONYMOUS: &str = "ANONYMOUS";
/// A request that takes too much time mutes its connection for so long at most, as in Kafka.
const REQUEST_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Bytes of produce requests a second.
    Produce,
    /// Bytes of fetched records a second.
    Fetch,
    /// Time of a thread, in percent.
    Request,
}

impl Kind {
    /// All, with the labels of their metrics.
    pub(crate) const ALL: [(Self, &'static str); 3] =
        [(Self::Produce, "produce"), (Self::Fetch, "fetch"), (Self::Request, "request")];

    /// The name of the quota.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Produce => "producer_byte_rate",
            Self::Fetch => "consumer_byte_rate",
            Self::Request => "request_percentage",
        }
    }

    /// The kind of a quota's name.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().map(|(kind, _)| kind).find(|kind| kind.key() == key)
    }
}

/// What clients have taken of late.
#[derive(Debug)]
pub(crate) struct Quotas {
    begun: Instant,
    clients: Mutex<HashMap<(Kind, Scope), Rate>>,
    throttled: [(Counter, Counter); 3],
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            clients: Mutex::default(),
            throttled: std::array::from_fn(|_| Default::default()),
        }
    }
}

impl Quotas {
    /// Notes what a client has taken, and returns for how long its connection is to rest.
    pub(crate) fn charge(&self, table: &Table, kind: Kind, client: &str, amount: f64) -> Duration {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let pause = self.charge_at(table, kind, client, amount, now_ms);
        if !pause.is_zero() {
            let (count, nanos) = &self.throttled[kind as usize];
            count.add(1);
            nanos.add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
        }
        pause
    }

    /// The same at a time in milliseconds since some moment.
    fn charge_at(
        &self,
        table: &Table,
        kind: Kind,
        client: &str,
        amount: f64,
        now_ms: u64,
    ) -> Duration {
        let Some((limit, scope)) = table.find(kind, ANONYMOUS, client) else {
            return Duration::ZERO;
        };
        let mut clients = self.clients.lock();
        let scope = room_for(&mut clients, (kind, scope), now_ms);
        let rate = clients.entry(scope).or_default();
        rate.record(amount, now_ms);
        let pause = Duration::from_millis(rate.pause_ms(limit, now_ms));
        if kind == Kind::Request { pause.min(REQUEST_PAUSE_MAX) } else { pause }
    }

    /// The most that a client may take at once without having to rest, if it has a quota: ten seconds' worth, as in Kafka.
    pub(crate) fn burst(table: &Table, kind: Kind, client: &str) -> Option<f64> {
        table.find(kind, ANONYMOUS, client).map(|(limit, _)| limit * 10.0)
    }

    /// How often, and for how long in nanoseconds, clients were told to rest.
    pub(crate) fn throttled(&self, kind: Kind) -> (u64, u64) {
        let (count, nanos) = &self.throttled[kind as usize];
        (count.get(), nanos.get())
    }
}

/// Runs a future, and tells how long it kept its thread busy.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let mut future = pin!(future);
    let mut spent = Duration::ZERO;
    let done = std::future::poll_fn(|cx| {
        let begun = Instant::now();
        let polled: Poll<T> = future.as_mut().poll(cx);
        spent += begun.elapsed();
        polled
    });
    let done = done.await;
    (done, spent)
}

/// What an answer says about a pause.
pub(crate) fn throttle_ms(pause: Duration) -> i32 {
    i32::try_from(pause.as_millis()).unwrap_or(i32::MAX)
}

/// Bytes, as an amount.
#[expect(
    clippy::cast_precision_loss,
    reason = "a request has fewer bytes than a double tells apart"
)]
pub(crate) fn as_number(bytes: usize) -> f64 {
    bytes as f64
}

/// A number of bytes, or `most` if that is less.
#[expect(clippy::cast_possible_truncation, reason = "it saturates")]
pub(crate) fn at_most(bytes: i32, most: f64) -> i32 {
    bytes.min(most as i32)
}

/// The measure that a client is counted in: its own, unless there is no room for another one.
fn room_for(
    clients: &mut HashMap<(Kind, Scope), Rate>,
    wanted: (Kind, Scope),
    now_ms: u64,
) -> (Kind, Scope) {
    if clients.len() < CLIENTS_MAX || clients.contains_key(&wanted) {
        return wanted;
    }
    clients.retain(|_, rate| !rate.is_idle(now_ms));
    if clients.len() < CLIENTS_MAX { wanted } else { (wanted.0, Scope::default()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CLIENTS_MAX, Entity, Kind, Name, Quotas, Table};

    fn every_client(kind: Kind, limit: f64) -> Table {
        let mut table = Table::default();
        let entity = Entity { user: None, client: Some(Name::Default) };
        table.set(entity, kind, Some(limit));
        table
    }

    #[test]
    fn a_client_within_its_quota_does_not_rest_and_one_beyond_it_does() {
        let (quotas, table) = (Quotas::default(), every_client(Kind::Produce, 1_000.0));
        let charge = |client, bytes| quotas.charge_at(&table, Kind::Produce, client, bytes, 0);
        assert_eq!(
            charge("a", 10_000.0),
            Duration::ZERO,
            "ten seconds of bytes fit a window of ten"
        );
        assert_eq!(charge("a", 5_000.0), Duration::from_secs(5));
        assert_eq!(charge("b", 10_000.0), Duration::ZERO, "each client has its own");
        assert_eq!(quotas.charge_at(&table, Kind::Fetch, "a", 1e9, 0), Duration::ZERO);
    }

    #[test]
    fn a_request_that_takes_long_mutes_for_a_second_at_most() {
        let (quotas, table) = (Quotas::default(), every_client(Kind::Request, 1.0));
        let pause = quotas.charge_at(&table, Kind::Request, "a", 1e6, 0);
        assert_eq!(pause, Duration::from_secs(1));
    }

    #[test]
    fn however_many_clients_come_what_is_kept_is_bounded_and_each_is_held_to_the_quota() {
        let (quotas, table) = (Quotas::default(), every_client(Kind::Produce, 1_000.0));
        for client in 0..2 * CLIENTS_MAX {
            quotas.charge_at(&table, Kind::Produce, &client.to_string(), 10.0, 0);
        }
        assert!(quotas.clients.lock().len() <= CLIENTS_MAX + 1);
        let pause = quotas.charge_at(&table, Kind::Produce, "one more", 1.0, 0);
        assert!(pause > Duration::ZERO, "they share what is left");
        let later = quotas.charge_at(&table, Kind::Produce, "another", 1.0, 60_000);
        assert_eq!((later, quotas.clients.lock().len()), (Duration::ZERO, 1));
    }
}
