//! Who belongs to the metadata group: every broker hears it, and 1, 3 or 5 of them vote, as many as the cluster has grown
//! to.
//!
//! Votes are added only while everybody concerned lives and the new voters have the group's log, so that no change makes
//! the cluster depend on a node that may not come. Deaths take no votes away, since the dead may come back; a removal does.
//! A voter that stays dead leaves its vote to a broker that lives, one at a time.

use std::collections::{BTreeMap, BTreeSet};

use jangbu_engine::Index;

use super::{Broker, Controller};
use crate::config::voter_count;
use crate::consensus::{self, Members, ReplicaId};
use crate::peer::PeerState;
use crate::replicas::replica_id;

/// Entries of the metadata group that a new voter may still lack.
const LAG_MAX: u64 = 1000;

/// One step towards the members there should be.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    AddLearner(ReplicaId),
    ChangeVoters(Vec<ReplicaId>),
    RemoveLearner(ReplicaId),
}

/// What is known of the brokers.
struct Seen<'a> {
    /// The one that leads the group.
    own: i32,
    /// Those that are registered.
    brokers: &'a [&'a Broker],
    removed: &'a BTreeSet<i32>,
    /// Those that are not waited for any more.
    lost: &'a BTreeSet<i32>,
    /// Those that answer.
    alive: BTreeSet<i32>,
    /// Those that have nearly all of the group's log.
    level: BTreeSet<i32>,
}

impl Controller {
    /// Makes the next change of members that is due; `lost` are brokers that stay dead. For the leader.
    ///
    /// # Errors
    /// [`consensus::Error`]; it is to be tried again.
    pub(crate) async fn level_members(
        &self,
        seen: &BTreeMap<i32, PeerState>,
        lost: &BTreeSet<i32>,
    ) -> Result<(), consensus::Error> {
        let members = self.group.members();
        let alive = seen.iter().filter(|(_, state)| state.alive).map(|(id, _)| *id);
        let alive = alive.chain([self.broker]).collect();
        let last = self.group.last_index().unwrap_or_default();
        let level =
            |at: &Option<Index>| at.is_some_and(|at| last.0.saturating_sub(at.0) <= LAG_MAX);
        let replication = self.group.replication();
        let level = replication.iter().filter(|(_, at)| level(at)).map(|(id, _)| id.broker());
        let level = level.collect();
        let step = {
            let image = self.image();
            let brokers: Vec<&Broker> = image.brokers.values().collect();
            let (brokers, removed) = (brokers.as_slice(), &image.removed);
            step(&members, &Seen { own: self.broker, brokers, removed, lost, alive, level })
        };
        match step {
            Some(Step::AddLearner(replica)) => self.group.add_learner(replica).await,
            Some(Step::ChangeVoters(voters)) => {
                let brokers: Vec<i32> = voters.iter().map(|voter| voter.broker()).collect();
                tracing::info!(?brokers, "other brokers vote on the metadata");
                self.group.change_members(&voters).await
            }
            Some(Step::RemoveLearner(replica)) => self.group.remove_learner(replica).await,
            None => Ok(()),
        }
    }
}

fn step(members: &Members, seen: &Seen<'_>) -> Option<Step> {
    let known = |replica: &ReplicaId| {
        members.voters.contains(replica) || members.learners.contains(replica)
    };
    let unheard = seen.brokers.iter().map(|broker| replica_id(broker.id)).find(|id| !known(id));
    if let Some(replica) = unheard {
        return Some(Step::AddLearner(replica));
    }
    let removed = |replica: &&ReplicaId| seen.removed.contains(&replica.broker());
    let voters = voters(members, seen);
    if !voters.is_empty() && (voters != members.voters || members.joint) {
        return Some(Step::ChangeVoters(voters));
    }
    members.learners.iter().find(removed).copied().map(Step::RemoveLearner)
}

/// Who is to vote next.
fn voters(members: &Members, seen: &Seen<'_>) -> Vec<ReplicaId> {
    let mut able = able(members, seen).into_iter();
    let stays = |voter: &&ReplicaId| !seen.removed.contains(&voter.broker());
    let mut voters: Vec<ReplicaId> = members.voters.iter().filter(stays).copied().collect();
    // A change that was broken off leaves the voters of both sides.
    if voters.len() < members.voters.len() || members.joint {
        let wanted = voter_count(seen.brokers.len());
        voters.sort_by_key(|voter| {
            let id = voter.broker();
            (id != seen.own, seen.lost.contains(&id), !seen.alive.contains(&id), id)
        });
        voters.truncate(wanted.max(1));
        voters.extend(able.take(wanted.saturating_sub(voters.len())));
        return voters;
    }
    let alive = seen.brokers.iter().filter(|broker| seen.alive.contains(&broker.id)).count();
    let (wanted, able_count) = (voter_count(alive), able.len());
    let all_live = voters.iter().all(|voter| seen.alive.contains(&voter.broker()));
    if all_live && voters.len() < wanted && voters.len() + able_count >= wanted {
        let more = wanted - voters.len();
        voters.extend(able.take(more));
        return voters;
    }
    let gone = voters.iter().position(|voter| seen.lost.contains(&voter.broker()));
    if let (Some(gone), Some(next)) = (gone, able.next()) {
        voters[gone] = next;
    }
    voters
}

/// Learners that could vote, those first that are not about to be emptied.
fn able(members: &Members, seen: &Seen<'_>) -> Vec<ReplicaId> {
    let fits = |replica: &&ReplicaId| {
        let id = replica.broker();
        seen.alive.contains(&id) && seen.level.contains(&id) && !seen.removed.contains(&id)
    };
    let mut able: Vec<ReplicaId> = members.learners.iter().filter(fits).copied().collect();
    let draining = |id: i32| seen.brokers.iter().any(|broker| broker.id == id && broker.draining);
    able.sort_by_key(|replica| draining(replica.broker()));
    able
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(ids: &[i32]) -> Vec<ReplicaId> {
        ids.iter().map(|id| replica_id(*id)).collect()
    }

    /// Brokers that are registered, removed, dead, and dead for long. Whoever lives has the log; 1 leads.
    #[derive(Default)]
    struct Brokers<'a> {
        registered: &'a [i32],
        removed: &'a [i32],
        dead: &'a [i32],
        lost: &'a [i32],
    }

    fn next(voters: &[i32], learners: &[i32], of: &Brokers<'_>) -> Option<Step> {
        step_of(voters, learners, of, false)
    }

    fn step_of(voters: &[i32], learners: &[i32], of: &Brokers<'_>, joint: bool) -> Option<Step> {
        let members = Members { voters: replicas(voters), learners: replicas(learners), joint };
        let broker = |id: &i32| Broker { id: *id, draining: *id == 8, ..Broker::default() };
        let brokers: Vec<_> = of.registered.iter().map(broker).collect();
        let brokers: Vec<_> = brokers.iter().collect();
        let set = |ids: &[i32]| ids.iter().copied().collect::<BTreeSet<_>>();
        let alive = &set(of.registered) - &set(of.dead);
        let (removed, lost) = (&set(of.removed), &set(of.lost));
        let level = alive.clone();
        step(&members, &Seen { own: 1, brokers: &brokers, removed, lost, alive, level })
    }

    fn all(registered: &[i32]) -> Brokers<'_> {
        Brokers { registered, ..Brokers::default() }
    }

    fn vote(ids: &[i32]) -> Option<Step> {
        Some(Step::ChangeVoters(replicas(ids)))
    }

    #[test]
    fn every_broker_hears_the_metadata() {
        assert_eq!(next(&[1, 2, 3], &[], &all(&[1, 2, 3])), None);
        let learner = Step::AddLearner(replica_id(4));
        assert_eq!(next(&[1, 2, 3], &[], &all(&[1, 2, 3, 4])), Some(learner));
        assert_eq!(next(&[1, 2, 3], &[4], &all(&[1, 2, 3, 4])), None);
    }

    #[test]
    fn votes_grow_with_the_cluster_to_one_three_and_five() {
        assert_eq!(next(&[1], &[2], &all(&[1, 2])), None);
        assert_eq!(next(&[1], &[2, 3], &all(&[1, 2, 3])), vote(&[1, 2, 3]));
        assert_eq!(next(&[1, 2, 3], &[4], &all(&[1, 2, 3, 4])), None);
        assert_eq!(next(&[1, 2, 3], &[4, 5], &all(&[1, 2, 3, 4, 5])), vote(&[1, 2, 3, 4, 5]));
        assert_eq!(next(&[1, 2, 3, 4, 5], &[6], &all(&[1, 2, 3, 4, 5, 6])), None);
        assert_eq!(next(&[1], &[8, 2, 3], &all(&[1, 2, 3, 8])), vote(&[1, 2, 3]), "8 drains");
    }

    #[test]
    fn votes_grow_only_while_everybody_concerned_lives_and_deaths_take_none_away() {
        let dead = |dead| Brokers { registered: &[1, 2, 3, 4, 5], dead, ..Brokers::default() };
        assert_eq!(next(&[1, 2, 3], &[4, 5], &dead(&[3])), None);
        assert_eq!(next(&[1, 2, 3], &[4, 5], &dead(&[5])), None);
        assert_eq!(next(&[1, 2, 3, 4, 5], &[], &dead(&[3, 4, 5])), None);
        let six = Brokers { registered: &[1, 2, 3, 4, 5, 6], dead: &[3], ..Brokers::default() };
        assert_eq!(
            next(&[1, 2, 3], &[4, 5, 6], &six),
            None,
            "with 3 dead, 5 voters need all others"
        );
        let two = Brokers { registered: &[1, 2, 3], dead: &[3], ..Brokers::default() };
        assert_eq!(next(&[1], &[2, 3], &two), None);
    }

    #[test]
    fn a_voter_that_stays_dead_leaves_its_vote_to_a_broker_that_lives() {
        let lost = Brokers {
            registered: &[1, 2, 3, 4, 5],
            dead: &[3, 4],
            lost: &[3, 4],
            ..Brokers::default()
        };
        assert_eq!(next(&[1, 2, 3], &[4, 5], &lost), vote(&[1, 2, 5]));
        assert_eq!(next(&[1, 2, 5], &[3, 4], &lost), None);
        let alone =
            Brokers { registered: &[1, 2, 3], dead: &[3], lost: &[3], ..Brokers::default() };
        assert_eq!(next(&[1, 2, 3], &[], &alone), None, "nobody could take it");
    }

    #[test]
    fn a_voter_that_was_removed_leaves_its_vote_to_a_broker_that_lives() {
        let after = |registered, removed| Brokers { registered, removed, ..Brokers::default() };
        let dead = Brokers { dead: &[9], ..after(&[1, 2, 4, 9], &[3]) };
        assert_eq!(next(&[1, 2, 3], &[9, 4], &dead), vote(&[1, 2, 4]));
        assert_eq!(next(&[1, 2, 3], &[], &after(&[1, 2], &[3])), vote(&[1]), "two need both");
        assert_eq!(next(&[2, 1, 3], &[], &after(&[1, 2], &[3])), vote(&[1]), "the leader stays");
        assert_eq!(next(&[1, 2, 3, 4, 5], &[], &after(&[1, 2, 3, 4], &[5])), vote(&[1, 2, 3]));
        assert_eq!(next(&[1], &[], &after(&[], &[1])), None, "somebody has to vote");
    }

    #[test]
    fn a_change_of_voters_that_was_broken_off_is_brought_to_an_end() {
        let lost =
            Brokers { registered: &[1, 2, 3, 4], dead: &[3], lost: &[3], ..Brokers::default() };
        assert_eq!(step_of(&[1, 2, 3, 4], &[], &lost, true), vote(&[1, 2, 4]));
        assert_eq!(step_of(&[1, 2, 3], &[], &all(&[1, 2, 3]), true), vote(&[1, 2, 3]));
        assert_eq!(step_of(&[1, 2, 3], &[], &all(&[1, 2, 3]), false), None);
    }

    #[test]
    fn a_broker_that_was_removed_hears_the_metadata_no_longer() {
        let gone = Some(Step::RemoveLearner(replica_id(4)));
        let of = Brokers { registered: &[1, 2, 3, 5], removed: &[4], ..Brokers::default() };
        assert_eq!(next(&[1, 2, 3], &[4, 5], &of), gone);
    }
}
