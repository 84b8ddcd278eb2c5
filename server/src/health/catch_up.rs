//! Which replicas are being added to what this node leads, and how fast they may be sent the log.
//!
//! As in Kafka, the lists `leader.replication.throttled.replicas` and `follower.replication.throttled.replicas` of a topic
//! say whom the two rates hold back; unlike there, a topic without a list has all of its new replicas held
//! back, and one that has all it needs to vote is never held back, whatever a list says.
//!
//! What a broker may get (`follower.replication.throttled.rate`) is shared out evenly among the leaders that send to it:
//! each knows from the metadata how many they are.
//!
//! Not here: waiting for one's turn (`consensus/throttle.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::broker::Broker;
use crate::configs::{FOLLOWER_REPLICAS, LEADER_REPLICAS, names_replica};
use crate::consensus::{Bounds, Held, ReplicaId};
use crate::controller::{Data, TopicPartition};
use crate::partition::Partition;

/// The replicas that a move adds to a partition and that do not vote yet.
pub(super) fn added_to(partition: &Partition, placed: &TopicPartition) -> Vec<ReplicaId> {
    let voters = partition.members().voters;
    placed.target_replicas().into_iter().filter(|replica| !voters.contains(replica)).collect()
}

/// What holds for the moves that are under way.
pub(super) fn bounds(broker: &Broker, moving: &[TopicPartition]) -> Bounds {
    let led = moving.iter().filter_map(|placed| {
        let partition = broker.replicas.get(placed.group).filter(|partition| partition.leads())?;
        Some((placed, added_to(&partition, placed)))
    });
    let led: Vec<_> = led.collect();
    let image = broker.controller.image();
    let mut added = HashMap::new();
    let mut getting = BTreeSet::new();
    for (placed, replicas) in led {
        for replica in replicas {
            getting.insert(replica.broker());
            let holds = holds(&image, placed, (broker.id(), replica.broker()));
            added.insert((placed.group, replica), holds);
        }
    }
    let senders = senders(&image, moving);
    let share = |to: &i32| {
        let rate = image.follower_rate(*to)?;
        let among = senders.get(to).map_or(1, |leaders| leaders.len().max(1)) as u64;
        Some((*to, (rate / among).max(1)))
    };
    Bounds {
        leader: image.own_configs().leader_rate(),
        followers: getting.iter().filter_map(share).collect(),
        added,
    }
}

/// Which rates hold for a replica on `to`, which `from` sends to.
fn holds(image: &Data, placed: &TopicPartition, (from, to): (i32, i32)) -> Held {
    let Some((topic, number)) = image.partition(placed.group) else {
        return Held { by_leader: true, by_follower: true };
    };
    let names = |list: &str, broker| {
        topic.configs.get(list).is_none_or(|list| names_replica(list, number, broker))
    };
    Held { by_leader: names(LEADER_REPLICAS, from), by_follower: names(FOLLOWER_REPLICAS, to) }
}

/// The leaders that send to each broker which gets replicas.
fn senders(image: &Data, moving: &[TopicPartition]) -> BTreeMap<i32, BTreeSet<i32>> {
    let mut senders: BTreeMap<i32, BTreeSet<i32>> = BTreeMap::new();
    for placed in moving {
        let Some((leader, _)) = image.leader(placed.group) else { continue };
        let replicas = placed.replicas();
        for added in placed.target_replicas().iter().filter(|replica| !replicas.contains(replica)) {
            senders.entry(added.broker()).or_default().insert(leader);
        }
    }
    senders
}
