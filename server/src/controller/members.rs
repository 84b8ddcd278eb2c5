//! Who belongs to the metadata group: every broker hears it, and those the cluster was formed by vote.
//!
//! A voter that is removed from the cluster leaves its vote to another broker, if there is one that lives.

use std::collections::BTreeMap;

use super::{Broker, Controller};
use crate::consensus::{self, Members, ReplicaId};
use crate::peer::PeerState;
use crate::replicas::replica_id;

/// One step towards the members there should be.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    AddLearner(ReplicaId),
    ChangeVoters(Vec<ReplicaId>),
    RemoveLearner(ReplicaId),
}

impl Controller {
    /// Makes the next change of members that is due. For the leader.
    ///
    /// # Errors
    /// [`consensus::Error`]; it is to be tried again.
    pub(crate) async fn level_members(
        &self,
        seen: &BTreeMap<i32, PeerState>,
    ) -> Result<(), consensus::Error> {
        let members = self.group.members();
        let step = {
            let image = self.image();
            let brokers: Vec<&Broker> = image.brokers.values().collect();
            let removed = |broker| image.removed.contains(&broker);
            let lives = |broker| seen.get(&broker).is_some_and(|state| state.alive);
            step(&members, &brokers, removed, lives)
        };
        match step {
            Some(Step::AddLearner(replica)) => self.group.add_learner(replica).await,
            Some(Step::ChangeVoters(voters)) => self.group.change_members(&voters).await,
            Some(Step::RemoveLearner(replica)) => self.group.remove_learner(replica).await,
            None => Ok(()),
        }
    }
}

fn step(
    members: &Members,
    brokers: &[&Broker],
    removed: impl Fn(i32) -> bool,
    lives: impl Fn(i32) -> bool,
) -> Option<Step> {
    let known = |replica: &ReplicaId| {
        members.voters.contains(replica) || members.learners.contains(replica)
    };
    let unheard = brokers.iter().map(|broker| replica_id(broker.id)).find(|id| !known(id));
    if let Some(replica) = unheard {
        return Some(Step::AddLearner(replica));
    }
    let (gone, mut voters): (Vec<ReplicaId>, Vec<_>) =
        members.voters.iter().copied().partition(|voter| removed(voter.broker()));
    if gone.is_empty() {
        let gone = members.learners.iter().find(|learner| removed(learner.broker()));
        return gone.copied().map(Step::RemoveLearner);
    }
    let able = |replica: &&ReplicaId| lives(replica.broker()) && !removed(replica.broker());
    voters.extend(members.learners.iter().filter(able).take(gone.len()));
    (!voters.is_empty()).then_some(Step::ChangeVoters(voters))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(ids: &[i32]) -> Vec<ReplicaId> {
        ids.iter().map(|id| replica_id(*id)).collect()
    }

    fn next(voters: &[i32], learners: &[i32], brokers: &[i32], removed: &[i32]) -> Option<Step> {
        let members = Members { voters: replicas(voters), learners: replicas(learners) };
        let brokers: Vec<_> =
            brokers.iter().map(|id| Broker { id: *id, ..Broker::default() }).collect();
        let brokers: Vec<_> = brokers.iter().collect();
        step(&members, &brokers, |id| removed.contains(&id), |id| id != 9)
    }

    #[test]
    fn every_broker_hears_the_metadata() {
        assert_eq!(next(&[1, 2, 3], &[], &[1, 2, 3], &[]), None);
        let learner = Step::AddLearner(replica_id(4));
        assert_eq!(next(&[1, 2, 3], &[], &[1, 2, 3, 4], &[]), Some(learner));
        assert_eq!(next(&[1, 2, 3], &[4], &[1, 2, 3, 4], &[]), None);
    }

    #[test]
    fn a_voter_that_was_removed_leaves_its_vote_to_a_broker_that_lives() {
        let voters = |ids: &[i32]| Some(Step::ChangeVoters(replicas(ids)));
        assert_eq!(next(&[1, 2, 3], &[9, 4], &[1, 2, 4, 9], &[3]), voters(&[1, 2, 4]));
        assert_eq!(next(&[1, 2, 3], &[], &[1, 2], &[3]), voters(&[1, 2]));
        assert_eq!(next(&[1], &[], &[], &[1]), None, "somebody has to vote");
    }

    #[test]
    fn a_broker_that_was_removed_hears_the_metadata_no_longer() {
        let gone = Some(Step::RemoveLearner(replica_id(4)));
        assert_eq!(next(&[1, 2, 3], &[4, 5], &[1, 2, 3, 5], &[4]), gone);
    }
}
