//! Which replicas of the partitions that this node leads are in sync, and telling the metadata group who is not.
//!
//! A replica is in sync while it had, at some moment of the last `replica.lag.time.max.ms`, all that was in the leader's
//! log at that moment, as in Kafka. One that is out is in again once it has what was there at the last look. A
//! replica on a broker that the metadata call dead and that lacks anything is out at once: it is in sync again when
//! it has caught up, not when its broker is back.
//!
//! Only who is behind is told, and only what the metadata do not say yet, a thousand partitions with one command: with
//! every replica in sync, or nobody writing, nothing is.
//!
//! Not here: what clients are told (`broker.rs`), what is refused for it (`handlers/produce.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{Index, PartitionId, Term};
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::consensus::ReplicaId;
use crate::controller::Behind;
use crate::partition::Partition;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);
/// Partitions told with one command.
const BATCH: usize = 1000;
/// How long the metadata group may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The replicas that are behind, of partitions that this node leads; nothing for a partition that has none.
#[derive(Debug, Default)]
pub(crate) struct BehindHere(RwLock<HashMap<PartitionId, Vec<ReplicaId>>>);

impl BehindHere {
    /// Whether a replica of a partition that this node leads is behind.
    pub(crate) fn contains(&self, id: PartitionId, replica: ReplicaId) -> bool {
        self.0.read().get(&id).is_some_and(|behind| behind.contains(&replica))
    }
}

/// A replica of a partition that this node leads.
#[derive(Debug)]
struct Follower {
    /// When it last had everything, as far as is known.
    caught_up: Instant,
    /// The end of the log at some look, which it had not reached then.
    mark: Option<(Instant, Index)>,
    behind: bool,
}

/// One look at it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// How far its log is known to match.
    matching: Option<Index>,
    /// Whether its broker is dead.
    dead: bool,
    /// The end of the leader's log now, and at the look before.
    end: Index,
    before: Option<Index>,
}

impl Follower {
    fn new(now: Instant, behind: bool) -> Self {
        Self { caught_up: now, mark: None, behind }
    }

    fn look(&mut self, seen: Seen, now: Instant, lag_max: Duration) {
        let has = |end: Index| seen.matching.is_some_and(|matching| matching >= end);
        let level = has(seen.end);
        match self.mark {
            _ if level => (self.caught_up, self.mark) = (now, None),
            Some((at, end)) if has(end) => {
                (self.caught_up, self.mark) = (at, Some((now, seen.end)));
            }
            Some(_) => {}
            None => self.mark = Some((now, seen.end)),
        }
        self.behind = if self.behind {
            !level && !seen.before.is_some_and(has)
        } else {
            !level && (seen.dead || now - self.caught_up > lag_max)
        };
    }
}

/// Another replica, how far its log is known to match, and whether its broker is dead.
type Other = (ReplicaId, Option<Index>, bool);

/// A partition that this node leads.
#[derive(Debug)]
struct Led {
    term: Term,
    end: Option<Index>,
    /// Whether every other replica had all of the log at the last look. Until something is written, they still do.
    level: bool,
    followers: BTreeMap<ReplicaId, Follower>,
}

impl Led {
    fn new(term: Term) -> Self {
        Self { term, end: None, level: false, followers: BTreeMap::new() }
    }

    /// `told` are those that counted as behind before this node led.
    fn look(
        &mut self,
        end: Index,
        others: &[Other],
        told: &[ReplicaId],
        (now, lag_max): (Instant, Duration),
    ) {
        self.followers.retain(|id, _| others.iter().any(|(other, ..)| other == id));
        self.level = true;
        for (id, matching, dead) in others {
            let follower = self.followers.entry(*id);
            let follower = follower.or_insert_with(|| Follower::new(now, told.contains(id)));
            let seen = Seen { matching: *matching, dead: *dead, end, before: self.end };
            follower.look(seen, now, lag_max);
            self.level &= *matching >= Some(end);
        }
        self.end = Some(end);
    }

    fn behind(&self) -> Vec<ReplicaId> {
        self.followers.iter().filter(|(_, f)| f.behind).map(|(id, _)| *id).collect()
    }
}

/// Looks from time to time.
pub(super) async fn run(broker: &Arc<Broker>) {
    let mut led: HashMap<PartitionId, Led> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        look(broker, &mut led);
        tell(broker, &led).await;
    }
}

fn look(broker: &Broker, led: &mut HashMap<PartitionId, Led>) {
    let at = (Instant::now(), Duration::from_millis(broker.config.replica_lag_max_ms));
    let mut leads = HashSet::new();
    for partition in broker.replicas.all() {
        let leadership = partition.leadership();
        let Some(end) = partition.last_index().filter(|_| leadership.local) else { continue };
        leads.insert(partition.id());
        let known = led.entry(partition.id()).or_insert_with(|| Led::new(leadership.term));
        if known.term != leadership.term {
            *known = Led::new(leadership.term);
        }
        if known.level && known.end == Some(end) {
            continue;
        }
        let (others, told) = others(broker, &partition);
        known.look(end, &others, &told, at);
    }
    led.retain(|id, _| leads.contains(id));
    let behind = led.iter().map(|(id, led)| (*id, led.behind()));
    let behind: HashMap<_, _> = behind.filter(|(_, behind)| !behind.is_empty()).collect();
    for (id, replicas) in &behind {
        if !broker.in_sync.0.read().contains_key(id) {
            let brokers: Vec<i32> = replicas.iter().map(|replica| replica.broker()).collect();
            tracing::warn!(partition = %id, ?brokers, "replicas are behind and not in sync any more");
        }
    }
    *broker.in_sync.0.write() = behind;
}

/// The other voters of a partition, how far each is, and whether its broker is dead; and who is said to be behind.
fn others(broker: &Broker, partition: &Partition) -> (Vec<Other>, Vec<ReplicaId>) {
    let replication = partition.replication();
    let voters = partition.members().voters;
    let image = broker.controller.image();
    let others = voters.into_iter().filter(|voter| *voter != partition.replica());
    let others = others.map(|voter| {
        let matching = replication.get(&voter).copied().flatten();
        (voter, matching, !image.lives(voter.broker()))
    });
    (others.collect(), image.behind(partition.id()).to_vec())
}

/// Tells the metadata group what it does not say. What is not told now is told after the next look.
async fn tell(broker: &Broker, led: &HashMap<PartitionId, Led>) {
    for some in unknown(broker, led).chunks(BATCH) {
        let telling = broker.controller.report_in_sync(some);
        match tokio::time::timeout(TIMEOUT, telling).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "who is in sync is told again");
                return;
            }
            Err(_) => return,
        }
    }
}

fn unknown(broker: &Broker, led: &HashMap<PartitionId, Led>) -> Vec<Behind> {
    let image = broker.controller.image();
    let here = broker.in_sync.0.read();
    let told: Vec<PartitionId> =
        image.with_replicas_behind().filter(|id| !here.contains_key(id)).collect();
    let ids = here.keys().copied().chain(told);
    let differs = ids.filter_map(|id| {
        let led = led.get(&id)?;
        let behind = led.behind();
        let known = image.placement(id).is_some() && image.behind(id) != behind;
        known.then_some((id, led.term, behind))
    });
    differs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG_MAX: Duration = Duration::from_secs(30);

    /// Looks once a second at a replica; `at` tells where it and the end of the log are. When it was behind.
    fn looks(
        mut follower: Follower,
        count: u64,
        at: impl Fn(u64) -> (Option<u64>, bool, u64),
    ) -> Vec<u64> {
        let start = Instant::now();
        let mut before = None;
        let mut behind = Vec::new();
        for second in 0..count {
            let (matching, dead, end) = at(second);
            let end = Index(end);
            let seen = Seen { matching: matching.map(Index), dead, end, before };
            follower.look(seen, start + Duration::from_secs(second), LAG_MAX);
            before = Some(end);
            if follower.behind {
                behind.push(second);
            }
        }
        behind
    }

    fn in_sync() -> Follower {
        Follower::new(Instant::now(), false)
    }

    #[test]
    fn a_replica_that_lags_for_too_long_is_out_until_it_has_what_the_last_look_saw() {
        let stuck = looks(in_sync(), 60, |second| {
            let end = 100 * second;
            let matching = if second < 50 { end.min(500) } else { end - 10 };
            (Some(matching), false, end)
        });
        assert_eq!(stuck, (36..50).collect::<Vec<_>>(), "it had all of it at 5 for the last time");
    }

    #[test]
    fn a_replica_that_lags_by_a_little_all_the_time_stays_in() {
        let late = looks(in_sync(), 300, |second| {
            (Some(100 * second.saturating_sub(10)), false, 100 * second)
        });
        assert_eq!(late, [0_u64; 0]);
        let too_late = looks(in_sync(), 300, |second| {
            (Some(100 * second.saturating_sub(40)), false, 100 * second)
        });
        assert!(too_late.len() > 200, "{too_late:?}");
    }

    #[test]
    fn a_replica_on_a_dead_broker_is_out_once_it_lacks_anything() {
        let idle = looks(in_sync(), 100, |_| (Some(7), true, 7));
        assert_eq!(idle, [0_u64; 0], "it lacks nothing");
        let missed = looks(in_sync(), 20, |second| match second {
            0..=4 => (Some(7), second > 2, 7),
            5..=12 => (Some(7), second < 10, 9),
            _ => (Some(9), false, 9),
        });
        assert_eq!(missed, (5..13).collect::<Vec<_>>(), "also while it is back and catches up");
    }

    #[test]
    fn who_was_behind_under_another_leader_is_behind_until_it_is_seen_to_be_level() {
        let followers = [1, 2].map(|broker| ReplicaId::new(broker, 0));
        let mut led = Led::new(Term(5));
        let now = Instant::now();
        let others = |first: Option<u64>| {
            [(followers[0], first.map(Index), false), (followers[1], None, false)]
        };
        led.look(Index(9), &others(None), &followers[..1], (now, LAG_MAX));
        assert_eq!(led.behind(), followers[..1], "of the other one nothing bad is known");
        led.look(Index(9), &others(Some(9)), &followers[..1], (now, LAG_MAX));
        assert_eq!((led.behind(), led.level), (Vec::new(), false));
        led.look(Index(9), &others(Some(9))[..1], &[], (now + LAG_MAX * 2, LAG_MAX));
        assert!(led.level, "the other one is a member no more");
    }
}
