//! Where one partition's replicas are, and where they are moving.
//!
//! A replica is a broker with an epoch, a number that no earlier replica of the partition had: a broker that returns
//! has lost its votes and is a new Raft node.
//!
//! Invariant: whatever may be a member of the group is among replicas, target and leaving, so that no broker deletes
//! what a member holds. Leaving ends only when the group has been seen to have exactly the target's members.
//!
//! Not here: moving (`moves.rs`), who leads (`image.rs`).

use jangbu_engine::PartitionId;

use crate::consensus::ReplicaId;
use crate::proto::metadata as proto;

/// One partition of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TopicPartition {
    /// Its log and Raft group.
    pub(crate) group: PartitionId,
    /// Brokers that hold a replica; the first is preferred as leader.
    pub(crate) brokers: Vec<i32>,
    /// The epoch of each of `brokers`.
    pub(crate) epochs: Vec<u32>,
    /// The next epoch that no replica has had.
    pub(crate) next_epoch: u32,
    /// Where the replicas are moving; empty when they are not.
    pub(crate) target: Vec<i32>,
    /// The epoch of each of `target`.
    pub(crate) target_epochs: Vec<u32>,
    /// Where it moves on to from the target, so that a broker gets a new replica in the place of the one it has; empty when
    /// the target is where it stays.
    pub(crate) then: Vec<i32>,
    /// Replicas of targets given up, which may be members of the group until the target is reached.
    pub(crate) leaving: Vec<(i32, u32)>,
    /// How many reassignments there were.
    pub(crate) reassignment: u32,
}

/// The replica of a broker with an epoch.
fn replica((broker, epoch): (i32, u32)) -> ReplicaId {
    // Broker ids are positive: they are given out or checked where they enter.
    ReplicaId::new(u32::try_from(broker).unwrap_or_default(), epoch)
}

impl TopicPartition {
    /// A partition that never moved.
    pub(crate) fn new(group: PartitionId, brokers: Vec<i32>) -> Self {
        let epochs = vec![0; brokers.len()];
        Self { group, brokers, epochs, next_epoch: 1, ..Self::default() }
    }

    fn current(&self) -> impl Iterator<Item = (i32, u32)> {
        self.brokers.iter().copied().zip(self.epochs.iter().copied())
    }

    fn next(&self) -> impl Iterator<Item = (i32, u32)> {
        self.target.iter().copied().zip(self.target_epochs.iter().copied())
    }

    /// The replicas, the preferred leader first.
    pub(crate) fn replicas(&self) -> Vec<ReplicaId> {
        self.current().map(replica).collect()
    }

    /// Where the replicas are moving; empty when they are not.
    pub(crate) fn target_replicas(&self) -> Vec<ReplicaId> {
        self.next().map(replica).collect()
    }

    /// Whatever may be a member of the group.
    pub(crate) fn members(&self) -> impl Iterator<Item = (i32, ReplicaId)> {
        let all = self.current().chain(self.next()).chain(self.leaving.iter().copied());
        all.map(|(broker, epoch)| (broker, replica((broker, epoch))))
    }

    /// The replica that a broker holds or is to hold.
    pub(crate) fn replica_of(&self, broker: i32) -> Option<ReplicaId> {
        self.members().find(|(of, _)| *of == broker).map(|(_, replica)| replica)
    }

    /// Whether the replicas are those that the partition was created with.
    pub(crate) fn is_new(&self) -> bool {
        self.reassignment == 0 && self.epochs.iter().all(|epoch| *epoch == 0)
    }

    /// Whether the replicas are moving.
    pub(crate) fn is_moving(&self) -> bool {
        !self.target.is_empty()
    }

    /// Where the replicas are in the end.
    pub(crate) fn heading(&self) -> &[i32] {
        let steps = [&self.then, &self.target, &self.brokers];
        steps.into_iter().find(|step| !step.is_empty()).map_or(&[], Vec::as_slice)
    }

    /// Starts moving to `target`, and from there to `then`, from wherever an earlier move has come to.
    pub(super) fn move_on(&mut self, target: Vec<i32>, then: Vec<i32>) {
        self.move_to(target);
        self.then = then;
    }

    /// Starts moving to `target`, from wherever an earlier move has come to.
    pub(super) fn move_to(&mut self, target: Vec<i32>) {
        self.then.clear();
        let mut epochs = Vec::with_capacity(target.len());
        for broker in &target {
            let held = self.current().chain(self.next()).chain(self.leaving.iter().copied());
            let epoch = held.into_iter().find(|(of, _)| of == broker).map(|(_, epoch)| epoch);
            epochs.push(epoch.unwrap_or_else(|| {
                let epoch = self.next_epoch;
                self.next_epoch = epoch.saturating_add(1);
                epoch
            }));
        }
        let given_up: Vec<_> =
            self.next().filter(|(broker, _)| !self.brokers.contains(broker)).collect();
        self.leaving.extend(given_up);
        self.leaving.retain(|(broker, _)| !target.contains(broker));
        (self.target, self.target_epochs) = (target, epochs);
        self.reassignment = self.reassignment.saturating_add(1);
    }

    /// The group has the target's members, and no others. Those that are to be moved on are.
    pub(super) fn arrive(&mut self) {
        self.brokers = std::mem::take(&mut self.target);
        self.epochs = std::mem::take(&mut self.target_epochs);
        self.leaving.clear();
        let then = std::mem::take(&mut self.then);
        if !then.is_empty() && then != self.brokers {
            self.move_on(then.clone(), then);
        }
    }

    /// Without what is kept apart: who is behind, and who is damaged.
    pub(super) fn to_proto(&self, leader: Option<(i32, u64)>) -> proto::Partition {
        let (leader, leader_term) = leader.unwrap_or_default();
        proto::Partition {
            group: self.group.0,
            brokers: self.brokers.clone(),
            epochs: self.epochs.clone(),
            next_epoch: self.next_epoch,
            leader,
            leader_term,
            target: self.target.clone(),
            target_epochs: self.target_epochs.clone(),
            leaving: self.leaving.iter().map(|(broker, _)| *broker).collect(),
            leaving_epochs: self.leaving.iter().map(|(_, epoch)| *epoch).collect(),
            reassignment: self.reassignment,
            then: self.then.clone(),
            behind: Vec::new(),
            damaged: Vec::new(),
            stopped: Vec::new(),
        }
    }

    /// What is missing is as it was before partitions could move.
    pub(super) fn from_proto(partition: proto::Partition) -> Self {
        let padded = |mut epochs: Vec<u32>, len| {
            epochs.resize(len, 0);
            epochs
        };
        let leaving = padded(partition.leaving_epochs, partition.leaving.len());
        Self {
            group: PartitionId(partition.group),
            epochs: padded(partition.epochs, partition.brokers.len()),
            brokers: partition.brokers,
            next_epoch: partition.next_epoch.max(1),
            target_epochs: padded(partition.target_epochs, partition.target.len()),
            target: partition.target,
            then: partition.then,
            leaving: partition.leaving.into_iter().zip(leaving).collect(),
            reassignment: partition.reassignment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition::new(PartitionId(7), vec![1, 2, 3])
    }

    #[test]
    fn replicas_that_stay_keep_their_epoch_and_new_ones_get_one_that_nobody_had() {
        let mut moved = partition();
        moved.move_to(vec![2, 4]);
        assert_eq!((&moved.target, &moved.target_epochs), (&vec![2, 4], &vec![0, 1]));
        moved.arrive();
        assert_eq!((&moved.brokers, &moved.epochs), (&vec![2, 4], &vec![0, 1]));
        moved.move_to(vec![1, 2]);
        assert_eq!(moved.target_epochs, [2, 0], "1 comes back as another Raft node");
    }

    #[test]
    fn whoever_may_be_a_member_keeps_its_replica_until_the_move_ends() {
        let mut moved = partition();
        moved.move_to(vec![4, 5]);
        let four = moved.replica_of(4);
        moved.move_to(vec![1, 6]);
        assert_eq!((moved.replica_of(4), moved.leaving.len()), (four, 2));
        moved.move_to(vec![1, 2, 3]);
        assert_eq!(moved.target_epochs, [0, 0, 0]);
        assert!((1..=6).all(|broker| moved.replica_of(broker).is_some()));
        moved.arrive();
        assert_eq!((4..=6).find_map(|broker| moved.replica_of(broker)), None);
        assert!(!moved.is_new(), "its members may have changed in between");
    }

    #[test]
    fn a_broker_gets_a_new_replica_by_leaving_and_coming_back() {
        let mut renewed = partition();
        renewed.move_on(vec![2, 3], vec![1, 2, 3]);
        let first = renewed.reassignment;
        assert_eq!(
            (renewed.heading(), renewed.replica_of(1)),
            (&[1, 2, 3][..], Some(replica((1, 0))))
        );
        renewed.arrive();
        assert_eq!((&renewed.brokers, &renewed.target), (&vec![2, 3], &vec![1, 2, 3]));
        assert_eq!((&renewed.target_epochs, &renewed.then), (&vec![1, 0, 0], &vec![1, 2, 3]));
        assert!(renewed.reassignment > first, "what ended the first move does not end this one");
        renewed.arrive();
        assert_eq!((&renewed.brokers, &renewed.epochs), (&vec![1, 2, 3], &vec![1, 0, 0]));
        assert!(!renewed.is_moving() && renewed.then.is_empty());
        renewed.move_on(vec![2, 3], vec![1, 2, 3]);
        renewed.move_to(vec![1, 2]);
        renewed.arrive();
        assert!(!renewed.is_moving(), "another move was asked for in between");
    }

    #[test]
    fn a_partition_stored_before_replicas_had_epochs_loads_as_new() {
        let stored =
            proto::Partition { group: 7, brokers: vec![1, 2, 3], ..proto::Partition::default() };
        assert_eq!(TopicPartition::from_proto(stored), partition());
        assert!(partition().is_new());
    }
}
