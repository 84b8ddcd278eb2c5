//! Stands for election in groups whose leader has died, was restarted, or is not there.
//!
//! The first live replica of the placement stands at once, each next one 150 ms later, so that they do not take
//! votes from each other. A voter grants no vote within the lease of the leader it heard last, unless it has seen
//! itself that the leader's node is gone: others see it a little later, so the first tries follow each other quickly.
//!
//! The group of the metadata has a clock of its own; here its election is only brought forward.
//!
//! Not here: votes (`consensus`), who is alive (`peer.rs`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{PartitionId, Term};
use tokio::time::Instant;

use super::doubts::Doubts;
use super::nodes::{Life, Nodes};
use crate::broker::Broker;
use crate::consensus::{Leadership, ReplicaId};
use crate::partition::Partition;

/// How often all groups are looked at, when nothing happens.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks at least.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Between the first tries of two replicas of a partition.
const STAGGER: Duration = Duration::from_millis(150);
/// The first tries follow each other within this time after the leader was lost.
const HURRY: Duration = Duration::from_secs(2);
/// A replica that nobody has told about its group's members gives it the first ones itself after this long.
const INITIALIZE_AFTER: Duration = Duration::from_secs(3);
/// A replica that is no voter looks this often whether it has become one.
const WAIT: Duration = Duration::from_millis(500);
/// Between two tries of a node to lead the metadata when its leader is gone.
const CONTROLLER_PAUSE: Duration = Duration::from_millis(100);
/// Elections started before others get their turn on the cores.
const BATCH: usize = 128;
const BATCH_PAUSE: Duration = Duration::from_millis(5);

/// A group that has lost its leader.
#[derive(Debug, Clone, Copy)]
struct Lost {
    since: Instant,
    /// Whether the leader it had was given up.
    given_up: bool,
    /// Elections this replica has stood for since.
    tries: u32,
    next: Instant,
}

/// A group that another replica leads or led, as seen last.
#[derive(Debug, Default)]
struct Watched {
    leader: Option<(ReplicaId, Term)>,
    /// The process of the leader's node when it was first seen to lead.
    incarnation: Option<u64>,
    lost: Option<Lost>,
}

/// The groups that this node does not lead.
#[derive(Debug, Default)]
struct Elections {
    groups: HashMap<PartitionId, Watched>,
}

impl Elections {
    /// Notes who leads a group; `doubted` when that one has denied it. Since when nobody does, if so.
    fn look(
        &mut self,
        id: PartitionId,
        leadership: Leadership,
        doubted: bool,
        (nodes, now): (&Nodes, Instant),
    ) -> Option<Instant> {
        if leadership.local {
            self.groups.remove(&id);
            return None;
        }
        let watched = self.groups.entry(id).or_default();
        let leader = leadership.leader.map(|leader| (leader, leadership.term));
        if watched.leader != leader {
            *watched = Watched { leader, ..Watched::default() };
        }
        let leads = leader.is_some_and(|(leader, _)| match nodes.life(leader.broker(), now) {
            Life::Alive(incarnation) => {
                *watched.incarnation.get_or_insert(incarnation) == incarnation
            }
            Life::Unknown => true,
            Life::Dead => false,
        });
        if leads && !doubted {
            watched.lost = None;
            return None;
        }
        let lost =
            watched.lost.get_or_insert(Lost { since: now, given_up: false, tries: 0, next: now });
        Some(lost.since)
    }

    /// Whether the leader of a group that has lost it is to be given up now: once, before the first election.
    fn gives_up(&mut self, id: PartitionId) -> bool {
        let lost = self.groups.get_mut(&id).and_then(|watched| watched.lost.as_mut());
        lost.is_some_and(|lost| !std::mem::replace(&mut lost.given_up, true))
    }

    /// Whether the replica that is `rank`th among the live ones stands for election now. Each yes counts as a try.
    fn stands(&mut self, id: PartitionId, rank: u32, now: Instant) -> bool {
        let Some(lost) = self.groups.get_mut(&id).and_then(|watched| watched.lost.as_mut()) else {
            return false;
        };
        if lost.tries == 0 {
            lost.next = lost.since + STAGGER * rank;
        }
        if now < lost.next {
            return false;
        }
        lost.tries += 1;
        lost.next = now + pause(id, rank, lost.tries, now - lost.since);
        true
    }

    /// Lets a replica that cannot stand look again later.
    fn wait(&mut self, id: PartitionId, now: Instant) {
        if let Some(lost) = self.groups.get_mut(&id).and_then(|watched| watched.lost.as_mut()) {
            lost.next = now + WAIT;
        }
    }

    /// When the next replica stands, if any group has lost its leader.
    fn next(&self) -> Option<Instant> {
        self.groups.values().filter_map(|watched| watched.lost).map(|lost| lost.next).min()
    }

    /// Forgets groups that do not run here any more.
    fn keep(&mut self, running: &HashSet<PartitionId>) {
        self.groups.retain(|id, _| running.contains(id));
    }
}

/// How long a replica waits after a try in vain. Replicas and groups wait differently long, so that they do not meet
/// again and again.
fn pause(id: PartitionId, rank: u32, tries: u32, since: Duration) -> Duration {
    let seed = u64::from(id.0) << 32 | u64::from(tries) << 8 | u64::from(rank);
    // The upper bits of a product with the golden ratio are spread evenly (Knuth, TAOCP 6.4).
    let spread = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
    let base = match (rank, tries) {
        _ if since >= HURRY => 1000,
        (0, 1..=3) => 40,
        (0, _) => 100,
        (_, _) => 200,
    };
    Duration::from_millis(base + spread)
}

/// Looks whenever a node comes or goes, a partition is started, or an election is due.
pub(super) async fn run(broker: &Arc<Broker>, doubts: &Doubts) {
    let mut states = broker.peers.states();
    let mut partitions = broker.replicas.changes();
    let mut nodes = Nodes::new(broker.id(), Instant::now());
    let mut elections = Elections::default();
    let mut heard = false;
    loop {
        nodes.update(Arc::clone(&states.borrow_and_update()));
        let hears = hears_voters(broker, &nodes);
        if heard && !hears {
            tracing::warn!(
                "most nodes that vote on the metadata do not answer: clients are sent to look for others"
            );
            broker.send_clients_away();
        }
        heard = hears;
        partitions.mark_unchanged();
        let headless = succeed_controller(broker, &nodes).await;
        look(broker, &mut elections, doubts, &nodes).await;
        let now = Instant::now();
        let again = headless.then_some(now + CONTROLLER_PAUSE);
        let due = elections.next().into_iter().chain(nodes.settled_at(now)).chain(again).min();
        let due = due.map_or(now + LOOK, |due| due.clamp(now + PAUSE_MIN, now + LOOK));
        let stopped = tokio::select! {
            changed = states.changed() => changed.is_err(),
            changed = partitions.changed() => changed.is_err(),
            () = doubts.changed.notified() => false,
            () = tokio::time::sleep_until(due) => false,
        };
        if stopped {
            return;
        }
    }
}

/// Whether most of the nodes answer that vote on the metadata. Where they do not, others may lead by now what this node
/// still knows, and a client that has no other connection would never hear of it.
fn hears_voters(broker: &Broker, nodes: &Nodes) -> bool {
    let (voters, now) = (broker.controller.voters(), Instant::now());
    let heard = voters.iter().filter(|voter| nodes.life(**voter, now) != Life::Dead).count();
    2 * heard > voters.len()
}

/// Brings the election of the metadata's leader forward when the node of the one before is gone: the first of the
/// voters that live stands. Whether there is none yet.
async fn succeed_controller(broker: &Broker, nodes: &Nodes) -> bool {
    let (controller, now) = (&broker.controller, Instant::now());
    let gone = controller.leader().is_some_and(|leader| nodes.life(leader, now) == Life::Dead);
    if !gone {
        return false;
    }
    let voters = controller.voters();
    if !voters.contains(&broker.id()) {
        return false;
    }
    let lives = |voter: &i32| nodes.life(*voter, now) != Life::Dead;
    controller.succeed(voters.into_iter().find(lives) == Some(broker.id())).await;
    true
}

async fn look(broker: &Broker, elections: &mut Elections, doubts: &Doubts, nodes: &Nodes) {
    let running = broker.replicas.all();
    elections.keep(&running.iter().map(|partition| partition.id()).collect());
    let mut begun = 0_usize;
    for partition in running {
        let now = Instant::now();
        let (id, leadership) = (partition.id(), partition.leadership());
        let doubted = doubts.is_doubted(id, leadership);
        let Some(since) = elections.look(id, leadership, doubted, (nodes, now)) else { continue };
        if elections.gives_up(id) {
            partition.let_go().await;
        }
        let Some(rank) = rank(broker, &partition, nodes, since, now).await else {
            elections.wait(partition.id(), now);
            continue;
        };
        if elections.stands(partition.id(), rank, now) {
            broker.metrics.elections.add(1);
            partition.elect().await;
            begun += 1;
            if begun.is_multiple_of(BATCH) {
                tokio::time::sleep(BATCH_PAUSE).await;
            }
        }
    }
}

/// The place of this replica among the voters that may live, in the order of the placement, those that step back or are damaged last;
/// `None` when it is no voter.
async fn rank(
    broker: &Broker,
    partition: &Partition,
    nodes: &Nodes,
    since: Instant,
    now: Instant,
) -> Option<u32> {
    let placed = broker.controller.image().placement(partition.id()).cloned()?;
    let voters = partition.members().voters;
    if voters.is_empty() {
        let waited = now - since >= INITIALIZE_AFTER;
        if waited && let Some(members) = broker.replicas.first_members(&placed) {
            // It stops only with the node or the partition.
            let _ = partition.initialize(&members).await;
        }
        return None;
    }
    let damaged: Vec<_> =
        broker.controller.image().damaged(placed.group).map(|(replica, _)| replica).collect();
    let steps_back = |replica: &ReplicaId| match replica.broker() {
        _ if damaged.contains(replica) => true,
        own if own == broker.id() => broker.steps_back(),
        other => nodes.steps_back(other),
    };
    let stand =
        placed.members().map(|(_, replica)| replica).filter(|replica| voters.contains(replica));
    let live = stand.filter(|replica| nodes.life(replica.broker(), now) != Life::Dead);
    let (last, first): (Vec<_>, Vec<_>) = live.partition(steps_back);
    first
        .into_iter()
        .chain(last)
        .zip(0..)
        .find(|(replica, _)| *replica == partition.replica())
        .map(|(_, rank)| rank)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::peer::PeerState;

    const GROUP: PartitionId = PartitionId(5);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn led_by(broker: u32, term: u64) -> Leadership {
        let leader = Some(ReplicaId::new(broker, 0));
        Leadership { term: Term(term), leader, local: false }
    }

    /// Node 1, which sees node 2 in this state.
    fn nodes(now: Instant, alive: bool, incarnation: u64) -> Nodes {
        let mut nodes = Nodes::new(1, now - Duration::from_secs(60));
        nodes.update(Arc::new(BTreeMap::from([(
            2,
            PeerState { alive, incarnation, steps_back: false },
        )])));
        nodes
    }

    #[test]
    fn a_leader_is_lost_when_its_node_dies_or_was_restarted() {
        let now = Instant::now();
        let mut elections = Elections::default();
        let mut lost = |leader, alive, incarnation| {
            elections.look(GROUP, leader, false, (&nodes(now, alive, incarnation), now)).is_some()
        };
        assert!(!lost(led_by(2, 1), true, 7));
        assert!(lost(led_by(2, 1), true, 8), "the same term of another process");
        assert!(!lost(led_by(2, 2), true, 8), "it was elected since");
        assert!(lost(led_by(2, 2), false, 8));
        assert!(
            lost(Leadership { term: Term(3), ..Leadership::default() }, true, 8),
            "nobody leads"
        );
        assert!(!lost(Leadership { local: true, ..led_by(1, 4) }, false, 8));
    }

    #[test]
    fn a_leader_that_denies_it_is_lost() {
        let now = Instant::now();
        let mut elections = Elections::default();
        let alive = nodes(now, true, 7);
        assert!(elections.look(GROUP, led_by(2, 1), true, (&alive, now)).is_some());
        assert!(elections.look(GROUP, led_by(2, 2), false, (&alive, now)).is_none());
    }

    #[test]
    fn replicas_stand_one_after_the_other_and_then_again_and_again() {
        let now = Instant::now();
        let dead = nodes(now, false, 0);
        let mut elections = Elections::default();
        elections.look(GROUP, led_by(2, 1), false, (&dead, now));
        assert!(!elections.stands(GROUP, 1, now + ms(149)));
        assert!(elections.stands(GROUP, 1, now + ms(150)));
        assert!(!elections.stands(GROUP, 1, now + ms(151)));
        assert!(elections.next().unwrap() < now + ms(150 + 330));
        let mut tries = 0;
        for at in 0..2000 {
            elections.look(GROUP, led_by(2, 1), false, (&dead, now + ms(at)));
            tries += u32::from(elections.stands(GROUP, 0, now + ms(at)));
        }
        assert!((8..=20).contains(&tries), "{tries} tries in the first two seconds");
        elections.look(GROUP, led_by(2, 2), false, (&nodes(now, true, 0), now));
        assert!(!elections.stands(GROUP, 0, now + ms(60_000)), "somebody leads");
        assert_eq!(elections.next(), None);
    }

    #[test]
    fn groups_do_not_all_wait_equally_long() {
        let pauses: HashSet<Duration> =
            (0..100).map(|id| pause(PartitionId(id), 0, 1, ms(0))).collect();
        assert!(pauses.len() > 20, "{} different ones", pauses.len());
        assert!(pauses.iter().all(|pause| (ms(40)..ms(170)).contains(pause)));
    }
}
