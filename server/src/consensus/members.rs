//! Who belongs to a group and who leads it: elections, transfers, changes of members.
//!
//! Not here: who decides that any of this happens (`health.rs`, `replicas.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::{EntryKind, Index};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::TransferLeaderRequest;
use openraft::{ChangeMembers, Instant, ServerState};

use super::instance::Instance;
use super::log::Log;
use super::types::{Payload, StoredMembership, Types};
use super::{Error, Group, Members, ReplicaId, StateMachine};

/// For so long, at most, a write that came while the leadership is handed over is not answered.
const HANDING_MAX: Duration = Duration::from_millis(500);

impl<M: StateMachine> Group<M> {
    /// Asks the other voters whether they would elect this replica, and stands for election if a majority would.
    pub(crate) async fn elect(&self) {
        let Some(raft) = self.running() else { return };
        let elected = raft.call(|core| async move { core.trigger().elect(true).await });
        if elected.await.is_err() {
            tracing::debug!(replica = self.replica.id.0, "no election: the replica has stopped");
        }
    }

    /// Lets others be elected at once although this replica has heard of its leader a moment ago: the leader's node is
    /// gone. Votes are kept back for the length of a lease only so that nobody disturbs a leader that is there.
    pub(crate) async fn let_go(&self) {
        let Some(raft) = self.running() else { return };
        let vote = raft.server_metrics().borrow_watched().vote;
        let leader = vote.leader_id().voted_for;
        if !vote.is_committed() || leader == self.replica.id.0 {
            return;
        }
        // What openraft makes of the word of a leader that hands over to another replica is to end its lease.
        let word = TransferLeaderRequest::new(vote, leader, None);
        let handed = raft.call(|core| async move { core.handle_transfer_leader(word).await });
        if handed.await.is_err() {
            tracing::debug!(replica = self.replica.id.0, "the replica has stopped");
        }
    }

    /// Hands the leadership to another voter; done once that one is seen to lead. When it is not in time, this
    /// replica stands for election again.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Timeout`]; [`Error::Members`] for no voter.
    pub(crate) async fn transfer(&self, to: ReplicaId, timeout: Duration) -> Result<(), Error> {
        let raft = self.awake().await?;
        if !self.leadership().local {
            return Err(Error::NotLeader);
        }
        if to == self.replica.id {
            return Ok(());
        }
        if !self.members().voters.contains(&to) {
            return Err(Error::Members(format!("{:#x} is no voter", to.0)));
        }
        let deadline = tokio::time::Instant::now() + timeout;
        let able = tokio::time::timeout_at(deadline, self.lets_catch_up(to)).await;
        able.map_err(|_| Error::Timeout)??;
        let _handing = self.handing.write().await;
        if !self.leadership().local {
            return Err(Error::NotLeader);
        }
        let begun =
            raft.call(move |core| async move { core.trigger().transfer_leader(to.0).await });
        begun.await.map_err(|_| Error::Stopped)?;
        match tokio::time::timeout_at(deadline, led_by(&raft, to)).await {
            Ok(led) => led,
            Err(_) => {
                // openraft takes no more writes once it was told to hand over, until somebody is elected.
                self.begin_anew().await?;
                self.elect().await;
                Err(Error::Timeout)
            }
        }
    }

    /// Waits until no leadership is being handed over, for as long as that takes a replica that is there: who was refused
    /// a write meanwhile can then be told who leads.
    pub(crate) async fn handed_over(&self) {
        let _ = tokio::time::timeout(HANDING_MAX, self.handing.read()).await;
    }

    /// Waits until another replica can take over: it has all that was in the log when this began. An empty entry comes
    /// last, because openraft takes a replica that was started since for one that has nothing until it has written
    /// something under the current leader.
    async fn lets_catch_up(&self, replica: ReplicaId) -> Result<(), Error> {
        let raft = self.awake().await?;
        self.renew_lease().await?;
        let empty = Payload::new(EntryKind::Blank, Bytes::new());
        let written = raft.call(|core| async move { core.client_write(empty).await });
        written.await.map_err(|error| refused(&error))?;
        let end = self.last_index();
        let (mut server, mut data) = (raft.server_metrics(), raft.data_metrics());
        loop {
            if self.replication().get(&replica).copied().flatten() >= end {
                return Ok(());
            }
            if !self.leadership().local {
                return Err(Error::NotLeader);
            }
            let changed = tokio::select! {
                biased;
                changed = server.changed() => changed,
                changed = data.changed() => changed,
            };
            changed.map_err(|_| Error::Stopped)?;
        }
    }

    /// Lets a replica be sent the log, without waiting for it to catch up.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Members`].
    pub(crate) async fn add_learner(&self, replica: ReplicaId) -> Result<(), Error> {
        let Members { voters, learners, .. } = self.members();
        if voters.contains(&replica) || learners.contains(&replica) {
            return Ok(());
        }
        let raft = self.awake().await?;
        self.renew_lease().await?;
        let added =
            raft.call(move |core| async move { core.add_learner(replica.0, (), false).await });
        added.await.map(|_| ()).map_err(|error| refused(&error))
    }

    /// Makes these the voters, in one joint step; voters that are not among them leave the group. Done once it is
    /// committed.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Members`].
    pub(crate) async fn change_members(&self, voters: &[ReplicaId]) -> Result<(), Error> {
        let voters: BTreeSet<u64> = voters.iter().map(|replica| replica.0).collect();
        let raft = self.awake().await?;
        self.renew_lease().await?;
        change(&raft, ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Lets all learners leave the group.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Members`].
    pub(crate) async fn remove_learners(&self) -> Result<(), Error> {
        let learners: BTreeSet<u64> = self.members().learners.iter().map(|r| r.0).collect();
        if learners.is_empty() {
            return Ok(());
        }
        let raft = self.awake().await?;
        change(&raft, ChangeMembers::RemoveNodes(learners)).await
    }

    /// A learner leaves the group.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Members`].
    pub(crate) async fn remove_learner(&self, replica: ReplicaId) -> Result<(), Error> {
        let raft = self.awake().await?;
        self.renew_lease().await?;
        change(&raft, ChangeMembers::RemoveNodes([replica.0].into())).await
    }

    /// Who belongs to the group.
    pub(crate) fn members(&self) -> Members {
        match self.running() {
            Some(raft) => members(&raft.server_metrics().borrow_watched().membership_config),
            None => members(&self.replica.applier.membership()),
        }
    }

    /// On the leader, how far the log of each other replica is known to match; empty elsewhere.
    pub(crate) fn replication(&self) -> BTreeMap<ReplicaId, Option<Index>> {
        let Some(raft) = self.running() else { return BTreeMap::new() };
        let data = raft.data_metrics();
        let data = data.borrow_watched();
        let matching = data.replication.iter().flatten();
        let others = matching.filter(|(id, _)| **id != self.replica.id.0);
        others.map(|(id, at)| (ReplicaId(*id), at.map(|at| Index(at.index)))).collect()
    }

    /// On the leader, how long ago each other replica last answered; empty elsewhere.
    pub(crate) fn answered(&self) -> BTreeMap<ReplicaId, Duration> {
        let Some(raft) = self.running() else { return BTreeMap::new() };
        let data = raft.data_metrics();
        let data = data.borrow_watched();
        let told = data.heartbeat.iter().flatten();
        let others = told.filter(|(id, _)| **id != self.replica.id.0);
        others.filter_map(|(id, at)| Some((ReplicaId(*id), at.as_ref()?.elapsed()))).collect()
    }

    /// The end of this replica's log.
    pub(crate) fn last_index(&self) -> Option<Index> {
        self.replica.applier.log().state().last.map(|last| last.index)
    }
}

/// Who a stored configuration names.
pub(super) fn members(stored: &StoredMembership) -> Members {
    Members {
        voters: stored.voter_ids().map(ReplicaId).collect(),
        learners: stored.membership().learner_ids().map(ReplicaId).collect(),
        joint: stored.membership().get_joint_config().len() > 1,
    }
}

async fn change<M: StateMachine>(
    raft: &Instance<M>,
    change: ChangeMembers<u64, ()>,
) -> Result<(), Error> {
    let changed = raft.call(|core| async move { core.change_membership(change, false).await });
    changed.await.map(|_| ()).map_err(|error| refused(&error))
}

/// Waits until another replica is seen to lead.
async fn led_by<M: StateMachine>(raft: &Instance<M>, leader: ReplicaId) -> Result<(), Error> {
    let mut metrics = raft.server_metrics();
    loop {
        {
            let seen = metrics.borrow_watched();
            if seen.current_leader == Some(leader.0) && seen.state != ServerState::Leader {
                return Ok(());
            }
        }
        metrics.changed().await.map_err(|_| Error::Stopped)?;
    }
}

fn refused(error: &RaftError<Types, ClientWriteError<Types>>) -> Error {
    match error.api_error() {
        None => Error::Stopped,
        Some(ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_)) => {
            Error::NotLeader
        }
        Some(other) => Error::Members(other.to_string()),
    }
}
