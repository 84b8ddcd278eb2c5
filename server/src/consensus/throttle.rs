//! How fast replicas that are being added are sent the log, so that copying leaves room for clients.
//!
//! Two bounds, both kept where entries are sent: what this node sends as a leader, over all groups, and what each other node
//! gets of it. Voters are never held back: writes wait for them. Who asks for room first gets it first; a request that is
//! larger than the room is sent when its turn comes and delays those behind it.
//!
//! Invariant: room is used up only by what is sent. Who gives up waiting, or reaches nobody, has used none.
//!
//! Not here: which replicas are being added (`health/moves.rs`), where the bounds are set (`configs`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jangbu_engine::PartitionId;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ReplicaId;

/// What was not sent for so long may be sent at once.
const BURST: Duration = Duration::from_millis(100);
/// Longer than anybody waits: the bound is likely to be another by then.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Which bounds hold for a replica that is being added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// What this node sends.
    pub(crate) by_leader: bool,
    /// What the replica's node gets.
    pub(crate) by_follower: bool,
}

/// What holds now, in bytes a second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// What this node sends to all of them together.
    pub(crate) leader: u64,
    /// What it sends to those on one node; no bound for nodes that are not named.
    pub(crate) followers: BTreeMap<i32, u64>,
    /// The replicas that are being added.
    pub(crate) added: HashMap<(PartitionId, ReplicaId), Held>,
}

impl Bounds {
    fn leader(&self, id: (PartitionId, ReplicaId)) -> Option<u64> {
        self.added.get(&id).filter(|held| held.by_leader).map(|_| self.leader)
    }

    fn follower(&self, id: (PartitionId, ReplicaId)) -> Option<u64> {
        self.added.get(&id).filter(|held| held.by_follower)?;
        self.followers.get(&id.1.broker()).copied()
    }
}

/// The bounds and what has used them.
#[derive(Debug)]
pub(crate) struct Throttle {
    bounds: watch::Sender<Bounds>,
    leader: Gate,
    followers: Mutex<HashMap<i32, Arc<Gate>>>,
    sent_bytes: AtomicU64,
    waited_nanos: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            bounds: watch::Sender::default(),
            leader: Gate::new(),
            followers: Mutex::default(),
            sent_bytes: AtomicU64::new(0),
            waited_nanos: AtomicU64::new(0),
        }
    }
}

impl Throttle {
    /// From now on these bounds hold; all replicas that they do not name are sent what they lack at once.
    pub(crate) fn set(&self, new: Bounds) {
        self.followers.lock().retain(|node, _| new.followers.contains_key(node));
        self.bounds.send_if_modified(|bounds| {
            let rates = (bounds.leader, &bounds.followers) != (new.leader, &new.followers);
            if rates {
                self.leader.open();
                self.followers.lock().values().for_each(|gate| gate.open());
            }
            let changed = *bounds != new;
            // Whoever waits asks again.
            *bounds = new;
            changed
        });
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
        if bytes == 0 || !self.bounds.borrow().added.contains_key(&id) {
            return;
        }
        let begun = Instant::now();
        let follower = self.follower(id);
        if let Some(follower) = &follower {
            follower.pass(bytes, self.bounds.subscribe(), |bounds| bounds.follower(id)).await;
        }
        self.leader.pass(bytes, self.bounds.subscribe(), |bounds| bounds.leader(id)).await;
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        let waited = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.waited_nanos.fetch_add(waited, Ordering::Relaxed);
    }

    /// What was let through reached nobody.
    pub(super) fn give_back(&self, group: u32, replica: ReplicaId, bytes: usize) {
        let bytes = bytes as u64;
        let id = (PartitionId(group), replica);
        let bounds = self.bounds.borrow();
        if bytes == 0 || !bounds.added.contains_key(&id) {
            return;
        }
        if let Some(rate) = bounds.leader(id) {
            self.leader.give_back(bytes, rate);
        }
        if let Some((rate, gate)) = bounds.follower(id).zip(self.follower(id)) {
            gate.give_back(bytes, rate);
        }
        let less = |sent: u64| Some(sent.saturating_sub(bytes));
        let _ = self.sent_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// What a node gets, if that is bounded.
    fn follower(&self, id: (PartitionId, ReplicaId)) -> Option<Arc<Gate>> {
        self.bounds.borrow().follower(id)?;
        let mut gates = self.followers.lock();
        let gate = gates.entry(id.1.broker()).or_insert_with(|| Arc::new(Gate::new()));
        Some(Arc::clone(gate))
    }
}

/// One bound: whoever is first in the queue passes when the next turn comes.
#[derive(Debug)]
struct Gate {
    queue: tokio::sync::Mutex<()>,
    next: Mutex<Instant>,
}

impl Gate {
    fn new() -> Self {
        Self { queue: tokio::sync::Mutex::default(), next: Mutex::new(Instant::now()) }
    }

    fn open(&self) {
        *self.next.lock() = Instant::now();
    }

    /// Waits for a turn at the rate that holds, if one does.
    async fn pass(
        &self,
        bytes: u64,
        mut bounds: watch::Receiver<Bounds>,
        rate: impl Fn(&Bounds) -> Option<u64>,
    ) {
        loop {
            let held = rate(&bounds.borrow_and_update());
            let Some(held) = held else { return };
            let turn = async {
                let first = self.queue.lock().await;
                // What is given back meanwhile brings it forward for the next one.
                let next = *self.next.lock();
                tokio::time::sleep_until(next).await;
                first
            };
            tokio::select! {
                biased;
                _first = turn => {
                    self.take(bytes, held, Instant::now());
                    return;
                }
                Ok(()) = bounds.changed() => {}
            }
        }
    }

    fn take(&self, bytes: u64, rate: u64, now: Instant) {
        let mut next = self.next.lock();
        let turn = (*next).max(now.checked_sub(BURST).unwrap_or(now));
        *next = (turn + takes(bytes, rate)).min(now + WAIT_MAX);
    }

    fn give_back(&self, bytes: u64, rate: u64) {
        let mut next = self.next.lock();
        *next = next.checked_sub(takes(bytes, rate)).unwrap_or(*next);
    }
}

/// How long so many bytes take at `rate` bytes a second.
fn takes(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const GROUP: u32 = 7;
    const ADDED: (PartitionId, ReplicaId) = (PartitionId(GROUP), ReplicaId(4));
    const BY_LEADER: Held = Held { by_leader: true, by_follower: false };

    fn bounds(leader: u64) -> Bounds {
        Bounds { leader, added: [(ADDED, BY_LEADER)].into(), ..Bounds::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn turns_follow_each_other_as_fast_as_the_rate_says() {
        let gate = Gate::new();
        let (_keep, bounds) = watch::channel(bounds(1000));
        let start = Instant::now();
        let pass = async |bytes| {
            gate.pass(bytes, bounds.clone(), |bounds| Some(bounds.leader)).await;
            start.elapsed().as_millis()
        };
        assert_eq!(pass(500).await, 0);
        assert_eq!(pass(500).await, 500);
        assert_eq!(pass(2000).await, 1000);
        assert_eq!(pass(1).await, 3000, "the large one is paid for");
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!((pass(100).await, pass(1).await), (9000, 9000), "what a pause has earned");
        assert_eq!(pass(1).await, 9001, "and no more");
    }

    #[tokio::test(start_paused = true)]
    async fn only_replicas_that_are_being_added_wait() {
        let throttle = Throttle::default();
        throttle.set(bounds(1));
        let at_once = |group, replica| throttle.room(group, replica, 1_000_000).now_or_never();
        assert!(at_once(GROUP, ADDED.1).is_some(), "nothing was sent before it");
        assert!(at_once(GROUP, ADDED.1).is_none(), "a million seconds are not over");
        assert!(at_once(GROUP, ReplicaId(5)).is_some());
        assert!(at_once(GROUP + 1, ADDED.1).is_some());
        assert_eq!(throttle.sent_bytes(), 1_000_000);
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_another_rate_and_of_being_a_voter() {
        for bounds in [self::bounds(u64::MAX), Bounds { leader: 1, ..Bounds::default() }] {
            let throttle = Throttle::default();
            throttle.set(self::bounds(1));
            throttle.room(GROUP, ADDED.1, 1_000_000).await;
            let waiting = throttle.room(GROUP, ADDED.1, 1_000_000);
            tokio::pin!(waiting);
            assert!((&mut waiting).now_or_never().is_none());
            throttle.set(bounds);
            waiting.await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_or_reaches_nobody_has_used_nothing() {
        let throttle = Throttle::default();
        throttle.set(bounds(1000));
        throttle.room(GROUP, ADDED.1, 1000).await;
        for _ in 0..10 {
            assert!(throttle.room(GROUP, ADDED.1, 100_000).now_or_never().is_none());
        }
        let start = Instant::now();
        throttle.room(GROUP, ADDED.1, 5000).await;
        assert_eq!(start.elapsed().as_millis(), 1000);
        throttle.give_back(GROUP, ADDED.1, 5000);
        throttle.room(GROUP, ADDED.1, 1).await;
        assert_eq!(start.elapsed().as_millis(), 1000);
        assert_eq!(throttle.sent_bytes(), 1001);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_gets_no_more_than_its_own_bound_and_others_are_not_kept_waiting() {
        let throttle = Throttle::default();
        let [slow, fast, free] = [4, 5, 5].map(|broker| ReplicaId::new(broker, 1));
        let groups = [1, 2, 3].map(PartitionId);
        let both = Held { by_leader: true, by_follower: true };
        let added =
            [((groups[0], slow), both), ((groups[1], fast), both), ((groups[2], free), BY_LEADER)];
        throttle.set(Bounds {
            leader: 1_000_000,
            followers: [(4, 1000), (5, 10_000)].into(),
            added: added.into(),
        });
        for (group, replica, ms) in [(1, slow, 4000), (2, fast, 400), (3, free, 0)] {
            let start = Instant::now();
            for _ in 0..5 {
                throttle.room(group, replica, 1000).await;
            }
            let waited = u64::try_from(start.elapsed().as_millis()).unwrap();
            assert!((ms..ms + 10).contains(&waited), "{waited} ms at {replica:?}");
        }
    }
}
