//! Carries out the moves that the metadata asks for, where this node leads.
//!
//! Each time it looks, a move is at one of these steps, told by the metadata and the group's members:
//!
//! ```text
//! target in the metadata → new replicas are learners → they have caught up → (the leader is one of the target)
//!   → the target are the voters → the metadata's replicas are the target
//! ```
//! A move that is turned back has the old replicas as its target. The metadata keeps whatever may be a member, so that
//! nobody deletes what is still needed, until the group is seen to have exactly the target's members.
//!
//! Not here: holding back what is sent to learners (`catch_up.rs`).

mod headway;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{Index, PartitionId};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::catch_up;
use crate::broker::Broker;
use crate::consensus::ReplicaId;
use crate::controller::TopicPartition;
use crate::partition::Partition;
use headway::Headway;
pub(crate) use headway::Stalled;

/// How often is looked while something moves. A replica has caught up when it has what was there at the last look.
const LOOK: Duration = Duration::from_millis(500);
/// How often is looked although the metadata has not changed.
const COMPARE: Duration = Duration::from_secs(30);
/// Moves under way at a time on this node as the leader.
const MOVES_MAX: usize = 8;
/// How long a change of members may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long a replica may take to take over. Nothing cuts that short: a leader that has been told to hand over takes no
/// writes until somebody leads, and sees to that itself when the time is over.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

/// Moves that this node is working on.
#[derive(Debug, Default)]
struct Moves {
    /// The end of each log at the last look.
    seen: HashMap<PartitionId, Index>,
    headway: Headway,
    busy: HashSet<PartitionId>,
    tasks: JoinSet<PartitionId>,
}

/// Looks when the metadata changes, and again while anything moves.
pub(super) async fn run(broker: &Arc<Broker>) {
    let mut changes = broker.controller.changes();
    let mut moves = Moves::default();
    loop {
        changes.mark_unchanged();
        let moving = moves.look(broker);
        let pause = if moving { LOOK } else { COMPARE };
        tokio::select! {
            changed = changes.changed(), if !moving => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
            Some(done) = moves.tasks.join_next() => {
                if let Ok(id) = done {
                    moves.busy.remove(&id);
                }
            }
        }
    }
}

impl Moves {
    /// Takes each move on that this node leads. Whether anything moves in the cluster.
    fn look(&mut self, broker: &Arc<Broker>) -> bool {
        let moving: Vec<TopicPartition> = {
            let image = broker.controller.image();
            image.placements().filter(|placed| placed.is_moving()).cloned().collect()
        };
        broker.catch_up.set(catch_up::bounds(broker, &moving));
        let (mut ends, now) = (HashMap::new(), Instant::now());
        for placed in &moving {
            let Some(partition) = broker.replicas.get(placed.group) else { continue };
            if ends.len() >= MOVES_MAX || !partition.leads() {
                continue;
            }
            let Some(end) = partition.last_index() else { continue };
            let before = self.seen.get(&placed.group).copied();
            ends.insert(placed.group, end);
            if self.headway.look(placed.group, placed.reassignment, lacks(&partition, placed), now)
            {
                warn(broker, &partition, placed);
            }
            if self.busy.insert(placed.group) {
                let (broker, placed) = (Arc::clone(broker), placed.clone());
                self.tasks.spawn(async move {
                    step(&broker, &partition, &placed, before).await;
                    placed.group
                });
            }
        }
        self.headway.tell(&ends.keys().copied().collect(), &broker.stalled, now);
        self.seen = ends;
        !moving.is_empty()
    }
}

/// How many entries the new replica lacks that has least; 0 when all are level.
fn lacks(partition: &Partition, placed: &TopicPartition) -> u64 {
    let replication = partition.replication();
    let end = partition.last_index().unwrap_or_default();
    let added = catch_up::added_to(partition, placed).into_iter();
    let matching = |replica| replication.get(&replica).copied().flatten().unwrap_or_default();
    added.map(|replica| end.0.saturating_sub(matching(replica).0)).max().unwrap_or(0)
}

/// Says that a move makes no headway, and what to do.
fn warn(broker: &Broker, partition: &Partition, placed: &TopicPartition) {
    let image = broker.controller.image();
    let name =
        image.partition(placed.group).map(|(topic, number)| format!("{}-{number}", topic.name));
    let dead: Vec<i32> = placed.target.iter().copied().filter(|id| !image.lives(*id)).collect();
    let to_do = match lacks(partition, placed) {
        _ if !dead.is_empty() => format!(
            "brokers {dead:?} do not answer: start them, or turn the move back with kafka-reassign-partitions --cancel"
        ),
        0 => "its members change once most of its replicas answer".to_owned(),
        lacks => format!(
            "its new replicas lack {lacks} entries, and it is written to as fast as it is copied: raise \
             leader.replication.throttled.rate of broker {}, which is {} bytes a second, and \
             follower.replication.throttled.rate of {:?} if it is set, or write less",
            broker.id(),
            image.own_configs().leader_rate(),
            placed.target,
        ),
    };
    tracing::warn!(partition = name, to = ?placed.target, "the move makes no headway: {to_do}");
}

async fn step(
    broker: &Broker,
    partition: &Partition,
    placed: &TopicPartition,
    before: Option<Index>,
) {
    let id = partition.id();
    match go_on(broker, partition, placed, before).await {
        Ok(true) => {
            broker.metrics.moves.add(1);
            tracing::info!(partition = %id, to = ?placed.target, "the partition has moved");
        }
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, partition = %id, "a move is taken on again"),
    }
}

/// Waits for a change, as long as it may take.
async fn in_time<E: std::fmt::Display>(
    change: impl Future<Output = Result<(), E>>,
) -> Result<(), String> {
    match tokio::time::timeout(TIMEOUT, change).await {
        Ok(changed) => changed.map_err(|e| e.to_string()),
        Err(_) => Err("it takes its time".to_owned()),
    }
}

/// Takes a move on by as much as is possible now. Whether it is done.
async fn go_on(
    broker: &Broker,
    partition: &Partition,
    placed: &TopicPartition,
    before: Option<Index>,
) -> Result<bool, String> {
    let target = placed.target_replicas();
    let members = partition.members();
    for replica in &target {
        if !members.voters.contains(replica) && !members.learners.contains(replica) {
            in_time(partition.add_learner(*replica)).await?;
        }
    }
    let replication = partition.replication();
    let matching = |replica: &ReplicaId| replication.get(replica).copied().flatten();
    if !have_caught_up(&target, &members.voters, partition.replica(), before, matching) {
        return Ok(false);
    }
    if !target.contains(&partition.replica()) {
        // Rather one that leads gladly than one that stops or is short of disk.
        let next = {
            let states = broker.peers.states();
            let states = states.borrow();
            let state = |replica: &ReplicaId| states.get(&replica.broker()).filter(|s| s.alive);
            let able = target.iter().filter(|r| state(r).is_some() && matching(r) >= before);
            let image = broker.controller.image();
            let back = |replica: &ReplicaId| {
                image.is_damaged(placed.group, *replica)
                    || state(replica).is_some_and(|state| state.steps_back)
            };
            able.min_by_key(|replica| back(replica)).copied()
        };
        let next = next.ok_or("nobody of the target can lead yet")?;
        return pass_on(partition, &target, next).await.map(|()| false);
    }
    // Also when they are the members already: only an answer says that this is committed.
    in_time(partition.change_members(&target)).await?;
    // Of targets that were given up.
    in_time(partition.remove_learners()).await?;
    let members = partition.members();
    let set = |replicas: &[ReplicaId]| replicas.iter().copied().collect::<BTreeSet<_>>();
    if set(&members.voters) != set(&target) || !members.learners.is_empty() {
        return Err(format!("the group has other members: {members:?}"));
    }
    in_time(broker.controller.finish_reassignment(placed.group, placed.reassignment)).await?;
    Ok(true)
}

/// Hands the leadership to the target first, so that nobody has to notice that the leader has left: whoever leads then
/// goes on.
async fn pass_on(
    partition: &Partition,
    target: &[ReplicaId],
    next: ReplicaId,
) -> Result<(), String> {
    let both: Vec<_> = target.iter().copied().chain([partition.replica()]).collect();
    in_time(partition.change_members(&both)).await?;
    partition.transfer(next, TRANSFER_TIMEOUT).await.map_err(|e| e.to_string())
}

/// Whether every new replica of the target, and a majority of all of it, has what was in the log at the last look. A
/// voter that stays and is dead must not keep its partition from getting replicas that live.
fn have_caught_up(
    target: &[ReplicaId],
    voters: &[ReplicaId],
    me: ReplicaId,
    before: Option<Index>,
    matching: impl Fn(&ReplicaId) -> Option<Index>,
) -> bool {
    let Some(before) = before else { return false };
    let level = |replica: &&ReplicaId| {
        **replica == me || matching(replica).is_some_and(|matching| matching >= before)
    };
    let mut added = target.iter().filter(|replica| !voters.contains(replica));
    added.all(|replica| level(&replica)) && 2 * target.iter().filter(level).count() > target.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_goes_on_once_every_new_replica_has_what_the_last_look_saw() {
        let [one, two, three] = [1, 2, 3].map(|broker| ReplicaId::new(broker, 0));
        let caught_up = |before: Option<u64>, two_has: Option<u64>, three_has: Option<u64>| {
            let matching =
                |replica: &ReplicaId| if *replica == two { two_has } else { three_has }.map(Index);
            have_caught_up(&[one, two, three], &[one], one, before.map(Index), matching)
        };
        assert!(caught_up(Some(10), Some(10), Some(12)));
        assert!(!caught_up(Some(10), Some(9), Some(12)));
        assert!(!caught_up(Some(10), None, Some(12)), "nothing is known of it yet");
        assert!(!caught_up(None, Some(10), Some(12)), "the first look knows of no traffic");
        let has = |replica: &ReplicaId| (*replica == three).then_some(Index(12));
        let before = Some(Index(10));
        assert!(
            have_caught_up(&[one, two, three], &[one, two], one, before, has),
            "a voter that is dead does not keep the new one waiting"
        );
        assert!(!have_caught_up(&[two, three], &[one, two], one, before, has), "no majority");
    }
}
