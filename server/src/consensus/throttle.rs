//! How fast replicas that are being added are sent the log, so that copying leaves room for clients.
//!
//! One bound for the node as a leader, over all groups. Voters are never held back: writes wait for them. Who asks for room
//! first gets it first; a request that is larger than the room is sent when its turn comes and delays those behind it.
//!
//! Not here: which replicas are being added (`health/moves.rs`), where the bound is set (`configs`).

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jangbu_engine::PartitionId;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ReplicaId;

/// What was not sent for so long may be sent at once.
const BURST: Duration = Duration::from_millis(100);

/// What holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Bound {
    /// In bytes a second.
    rate: u64,
    added: HashSet<(PartitionId, ReplicaId)>,
}

/// The bound and what has used it.
#[derive(Debug)]
pub(crate) struct Throttle {
    bound: watch::Sender<Bound>,
    turns: Mutex<Turns>,
    sent_bytes: AtomicU64,
    waited_nanos: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            bound: watch::Sender::default(),
            turns: Mutex::new(Turns { next: Instant::now() }),
            sent_bytes: AtomicU64::new(0),
            waited_nanos: AtomicU64::new(0),
        }
    }
}

impl Throttle {
    /// From now on these replicas are sent `rate` bytes a second, all together, and all others what they lack at once.
    pub(crate) fn set(&self, rate: u64, added: HashSet<(PartitionId, ReplicaId)>) {
        let new = Bound { rate, added };
        let changed = self.bound.send_if_modified(|bound| {
            let changed = *bound != new;
            *bound = new;
            changed
        });
        if changed {
            // Whoever waits asks again.
            self.turns.lock().next = Instant::now();
        }
    }

    /// Bytes sent to replicas that were being added.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Time that they were held back.
    pub(crate) fn waited_nanos(&self) -> u64 {
        self.waited_nanos.load(Ordering::Relaxed)
    }

    /// Waits until so many bytes may be sent to a replica.
    pub(super) async fn room(&self, group: u32, replica: ReplicaId, bytes: usize) {
        let bytes = bytes as u64;
        let id = (PartitionId(group), replica);
        if bytes == 0 || !self.bound.borrow().added.contains(&id) {
            return;
        }
        let mut bound = self.bound.subscribe();
        let begun = Instant::now();
        loop {
            let rate = {
                let bound = bound.borrow_and_update();
                bound.added.contains(&id).then_some(bound.rate)
            };
            let Some(rate) = rate else { break };
            let now = Instant::now();
            let turn = self.turns.lock().take(bytes, rate, now);
            let changed = tokio::select! {
                () = tokio::time::sleep_until(turn), if turn > now => false,
                changed = bound.changed(), if turn > now => changed.is_ok(),
                else => false,
            };
            if !changed {
                self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
                break;
            }
        }
        let waited = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.waited_nanos.fetch_add(waited, Ordering::Relaxed);
    }
}

/// When the next bytes may be sent.
#[derive(Debug)]
struct Turns {
    next: Instant,
}

impl Turns {
    /// Takes a turn for so many bytes at `rate` bytes a second; when it is.
    fn take(&mut self, bytes: u64, rate: u64, now: Instant) -> Instant {
        /// Longer than anybody waits: the bound is likely to be another by then.
        const WAIT_MAX: Duration = Duration::from_secs(3600);
        let turn = self.next.max(now.checked_sub(BURST).unwrap_or(now));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(WAIT_MAX);
        self.next = (turn + takes).min(now + WAIT_MAX);
        turn
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;

    const GROUP: u32 = 7;
    const ADDED: (PartitionId, ReplicaId) = (PartitionId(GROUP), ReplicaId(4));

    #[test]
    fn turns_follow_each_other_as_fast_as_the_rate_says() {
        let start = Instant::now() + Duration::from_secs(10);
        let mut turns = Turns { next: start };
        let mut at = |bytes, ms| turns.take(bytes, 1000, start + Duration::from_millis(ms)) - start;
        assert_eq!(at(500, 0), Duration::ZERO);
        assert_eq!(at(500, 0), Duration::from_millis(500));
        assert_eq!(at(2000, 100), Duration::from_millis(1000));
        assert_eq!(at(1, 3000), Duration::from_millis(3000), "the large one is paid for");
        assert_eq!(at(1, 9000), Duration::from_millis(9000) - BURST, "a pause earns no more");
    }

    #[tokio::test]
    async fn only_replicas_that_are_being_added_wait() {
        let throttle = Throttle::default();
        throttle.set(1, [ADDED].into());
        let at_once = |group, replica| throttle.room(group, replica, 1_000_000).now_or_never();
        assert!(at_once(GROUP, ADDED.1).is_some(), "nothing was sent before it");
        assert!(at_once(GROUP, ADDED.1).is_none(), "a million seconds are not over");
        assert!(at_once(GROUP, ReplicaId(5)).is_some());
        assert!(at_once(GROUP + 1, ADDED.1).is_some());
        assert_eq!(throttle.sent_bytes(), 1_000_000);
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_another_rate_and_of_being_a_voter() {
        for bound in [(u64::MAX, [ADDED].into()), (1, HashSet::new())] {
            let throttle = Arc::new(Throttle::default());
            throttle.set(1, [ADDED].into());
            throttle.room(GROUP, ADDED.1, 1_000_000).await;
            let waiting = throttle.room(GROUP, ADDED.1, 1_000_000);
            tokio::pin!(waiting);
            assert!((&mut waiting).now_or_never().is_none());
            throttle.set(bound.0, bound.1);
            waiting.await;
        }
    }
}
