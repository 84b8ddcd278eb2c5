//! Hands leadership to other replicas: to preferred ones, away from a broker that is emptied or stopped, and away from
//! replicas that are damaged.
//!
//! Only a leader hands over, to a voter whose node lives and whose log is level with its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jangbu_engine::{Index, PartitionId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::nodes::Nodes;
use crate::broker::Broker;
use crate::consensus::ReplicaId;
use crate::partition::Partition;
/// Whether the preferred replica of a partition leads it now.
pub(crate) use crate::proto::peer::preferred::Result as Preference;

/// How often is looked for leaderships to give back.
const LOOK: Duration = Duration::from_secs(2);
/// A preferred replica's node must live for this long before it leads again.
const STABLE: Duration = Duration::from_secs(10);
/// Leaderships given back at a time, and the pause until the next ones.
const GIVEN_MAX: usize = 8;
const GIVEN_PAUSE: Duration = Duration::from_millis(100);
/// One that could not be given is kept for this long.
const RETRY: Duration = Duration::from_secs(60);
/// How long one replica may take to take over.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Leaderships handed over at a time when the node stops.
const PARALLEL_MAX: usize = 64;
/// For so long before it hands over a node that stops tells the others so, with every answer to a ping: none of them
/// makes it the leader of anything again.
const TELL: Duration = Duration::from_millis(300);
/// For so long after it has handed over a node that stops answers clients, which learn from it who leads now. One that
/// finds its connection closed instead may look for a leader only a second later, as librdkafka does.
const LINGER: Duration = Duration::from_secs(1);
/// After so long the other nodes know who leads what this one has handed over. Clients try again later than that.
const HEARD: Duration = Duration::from_millis(50);
/// A log that lacks no more entries than this is level.
const LAG_MAX: u64 = 64;

/// Looks from time to time.
pub(super) async fn run(broker: &Arc<Broker>) {
    let states = broker.peers.states();
    let mut nodes = Nodes::new(broker.id(), Instant::now());
    // Since when each node is the process it is.
    let mut since: HashMap<i32, (u64, Instant)> = HashMap::new();
    let mut refused: HashMap<PartitionId, Instant> = HashMap::new();
    let mut more = false;
    loop {
        tokio::time::sleep(if more { GIVEN_PAUSE } else { LOOK }).await;
        let now = Instant::now();
        let seen = Arc::clone(&states.borrow());
        for (id, state) in seen.iter().filter(|(_, state)| state.alive) {
            let known = since.entry(*id).or_insert((state.incarnation, now));
            if known.0 != state.incarnation {
                *known = (state.incarnation, now);
            }
        }
        since.retain(|id, _| seen.get(id).is_some_and(|state| state.alive));
        nodes.update(seen);
        refused.retain(|_, until| *until > now);
        let stable = |id: i32| since.get(&id).is_some_and(|(_, since)| now - *since >= STABLE);
        more = give_back(broker, &nodes, stable, &mut refused).await;
    }
}

/// Whether there may be more to give back.
async fn give_back(
    broker: &Arc<Broker>,
    nodes: &Nodes,
    stable: impl Fn(i32) -> bool,
    refused: &mut HashMap<PartitionId, Instant>,
) -> bool {
    let empties = broker.controller.image().brokers.get(&broker.id()).is_some_and(|b| b.draining);
    let draining = empties || broker.steps_back();
    let mut tasks = JoinSet::new();
    for partition in broker.replicas.all() {
        if tasks.len() >= GIVEN_MAX {
            break;
        }
        if refused.contains_key(&partition.id()) || !partition.leads() {
            continue;
        }
        // One that is damaged gives up what it leads, if another one is whole.
        let damaged = broker.controller.image().is_damaged(partition.id(), partition.replica());
        let leaves = draining || damaged;
        let to = if leaves {
            successor(broker, &partition, nodes)
        } else {
            preferred(broker, &partition)
        };
        let Some(to) = to.filter(|to| leaves || stable(to.broker())) else { continue };
        let broker = Arc::clone(broker);
        tasks.spawn(async move { (partition.id(), transfer(&broker, &partition, to).await) });
    }
    let more = tasks.len() >= GIVEN_MAX;
    while let Some(done) = tasks.join_next().await {
        if let Ok((id, false)) = done {
            refused.insert(id, Instant::now() + RETRY);
        }
    }
    more
}

async fn transfer(broker: &Broker, partition: &Partition, to: ReplicaId) -> bool {
    match partition.transfer(to, TIMEOUT).await {
        Ok(()) => {
            broker.metrics.transfers.add(1);
            true
        }
        Err(error) => {
            tracing::debug!(%error, partition = %partition.id(), to = to.broker(), "leadership stays");
            false
        }
    }
}

/// The preferred replica, if it is another one and could lead: a voter with a level log, on a live broker that neither
/// drains nor steps back.
fn preferred(broker: &Broker, partition: &Partition) -> Option<ReplicaId> {
    let image = broker.controller.image();
    let placed = image.placement(partition.id()).filter(|placed| !placed.is_moving())?;
    let first = *placed.replicas().first()?;
    let usable = image.brokers.get(&first.broker()).is_some_and(|b| !b.dead && !b.draining)
        && !image.is_damaged(partition.id(), first);
    drop(image);
    let gladly = {
        let states = broker.peers.states();
        let states = states.borrow();
        states.get(&first.broker()).is_some_and(|state| state.alive && !state.steps_back)
    };
    let may = usable && gladly && first != partition.replica() && is_level(partition, first);
    (may && partition.members().voters.contains(&first)).then_some(first)
}

/// Whether the entries that a replica is known to have are all, or nearly.
fn is_level(partition: &Partition, replica: ReplicaId) -> bool {
    let last = partition.last_index().unwrap_or_default();
    let matching = partition.replication().get(&replica).copied().flatten();
    matching.is_some_and(|matching| last.0.saturating_sub(matching.0) <= LAG_MAX)
}

/// Who leads best if this broker does not: the first live voter in the order of the placement that is level; else the
/// one that has most.
fn successor(broker: &Broker, partition: &Partition, nodes: &Nodes) -> Option<ReplicaId> {
    let now = Instant::now();
    let voters = partition.members().voters;
    let image = broker.controller.image();
    let placed = image.placement(partition.id())?;
    let usable = |replica: &ReplicaId| {
        let known = image.brokers.get(&replica.broker());
        known.is_some_and(|b| !b.dead && !b.draining) && nodes.leads_gladly(replica.broker(), now)
    };
    let others = placed.members().map(|(_, replica)| replica).filter(|replica| {
        *replica != partition.replica()
            && voters.contains(replica)
            && usable(replica)
            && !image.is_damaged(partition.id(), *replica)
    });
    let others: Vec<ReplicaId> = others.collect();
    drop(image);
    best(&others, &partition.replication(), partition.last_index().unwrap_or_default())
}

fn best(
    others: &[ReplicaId],
    replication: &std::collections::BTreeMap<ReplicaId, Option<Index>>,
    last: Index,
) -> Option<ReplicaId> {
    let matching = |replica: &ReplicaId| replication.get(replica).copied().flatten();
    let level = |replica: &&ReplicaId| {
        matching(replica).is_some_and(|matching| last.0.saturating_sub(matching.0) <= LAG_MAX)
    };
    let most = || others.iter().filter(|r| matching(r).is_some()).max_by_key(|r| matching(r));
    others.iter().find(level).or_else(most).copied()
}

/// Lets the preferred replica of a partition lead it now, if this node does.
pub(crate) async fn prefer(broker: &Broker, group: PartitionId) -> Preference {
    let Some(partition) = broker.replicas.get(group).filter(|partition| partition.leads()) else {
        return Preference::NotLeader;
    };
    let first =
        broker.controller.image().placement(group).and_then(|p| p.replicas().first().copied());
    if first == Some(partition.replica()) {
        return Preference::Held;
    }
    match preferred(broker, &partition) {
        Some(to) if transfer(broker, &partition, to).await => Preference::Given,
        _ => Preference::Unavailable,
    }
}

/// Hands over whatever this node leads and others could lead, because it stops; then it closes the connections of its
/// clients, and answers those that come again for a moment more. Whoever is not ready within `timeout` will be elected when the node is gone.
pub(crate) async fn hand_over(broker: &Arc<Broker>, timeout: Duration) {
    broker.stopping.store(true, Ordering::Release);
    let states = broker.peers.states();
    let alone = states.borrow().values().all(|state| !state.alive);
    if alone {
        return;
    }
    tokio::time::sleep(TELL).await;
    let mut nodes = Nodes::new(broker.id(), Instant::now());
    nodes.update(Arc::clone(&states.borrow()));
    let able = |id| nodes.leads_gladly(id, Instant::now());
    let handing = async {
        let metadata = broker.controller.hand_over(able, timeout);
        tokio::join!(metadata, hand_over_partitions(broker, &nodes)).1
    };
    match tokio::time::timeout(timeout, handing).await {
        Ok(0) => return,
        Ok(given) => tracing::info!(partitions = given, "other nodes lead what this one has led"),
        Err(_) => {
            tracing::warn!("not everything that this node leads could be handed over in time");
        }
    }
    // Most clients ask at once who leads when they connect, and after a refusal only a quarter of a second later.
    tokio::time::sleep(HEARD).await;
    broker.send_clients_away();
    tokio::time::sleep(LINGER).await;
}

/// How many other nodes have taken.
async fn hand_over_partitions(broker: &Arc<Broker>, nodes: &Nodes) -> usize {
    let mut tasks = JoinSet::new();
    let mut given = 0_usize;
    for partition in broker.replicas.all() {
        if !partition.leads() {
            continue;
        }
        let Some(to) = successor(broker, &partition, nodes) else { continue };
        if tasks.len() >= PARALLEL_MAX {
            given += usize::from(matches!(tasks.join_next().await, Some(Ok(true))));
        }
        let broker = Arc::clone(broker);
        tasks.spawn(async move { transfer(&broker, &partition, to).await });
    }
    given + tasks.join_all().await.into_iter().filter(|given| *given).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_first_level_replica_of_the_placement_succeeds_else_the_one_that_has_most() {
        let (two, three) = (ReplicaId::new(2, 0), ReplicaId::new(3, 0));
        let best = |matching: [Option<u64>; 2]| {
            let known = [two, three].into_iter().zip(matching.map(|m| m.map(Index)));
            best(&[two, three], &BTreeMap::from_iter(known), Index(1000))
        };
        assert_eq!(best([Some(990), Some(1000)]), Some(two));
        assert_eq!(best([Some(100), Some(1000)]), Some(three));
        assert_eq!(best([Some(100), Some(200)]), Some(three));
        assert_eq!(best([Some(100), None]), Some(two));
        assert_eq!(best([None, None]), None);
    }
}
