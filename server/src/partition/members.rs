//! A partition's replicas: who they are, who of them leads, and how that changes.
//!
//! Not here: who decides it (`health.rs`, `replicas.rs`), how it is done (`consensus`).

use std::collections::BTreeMap;
use std::time::Duration;

use jangbu_engine::Index;

use super::{Error, Partition};
use crate::consensus::{Leadership, Log, Members, ReplicaId};

impl<L: Log> Partition<L> {
    /// This replica of it.
    pub(crate) fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// The last entry of the log here.
    pub(crate) fn last_index(&self) -> Option<Index> {
        self.log.state().last.map(|last| last.index)
    }

    /// Gives a new partition its replicas; does nothing when it has some.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub(crate) async fn initialize(&self, replicas: &[ReplicaId]) -> Result<(), Error> {
        Ok(self.group.initialize(replicas).await?)
    }

    /// The leader to be asked what is committed; see [`crate::consensus::Group::leader_to_ask`].
    pub(crate) fn leader_to_ask(&self) -> Option<ReplicaId> {
        self.group.leader_to_ask()
    }

    /// Asks the other voters to elect this replica.
    pub(crate) async fn elect(&self) {
        self.group.elect().await;
    }

    /// Gives up the leader it has heard of last: its node is gone.
    pub(crate) async fn let_go(&self) {
        self.group.let_go().await;
    }

    /// Hands the leadership to another voter; done once that one is seen to lead.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Timeout`].
    pub(crate) async fn transfer(&self, to: ReplicaId, timeout: Duration) -> Result<(), Error> {
        Ok(self.group.transfer(to, timeout).await?)
    }

    /// Lets a replica be sent the log, without waiting for it to catch up.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Members`].
    pub(crate) async fn add_learner(&self, replica: ReplicaId) -> Result<(), Error> {
        Ok(self.group.add_learner(replica).await?)
    }

    /// Makes these the voters; voters that are not among them leave.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Members`].
    pub(crate) async fn change_members(&self, voters: &[ReplicaId]) -> Result<(), Error> {
        Ok(self.group.change_members(voters).await?)
    }

    /// Lets all learners leave the group.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Members`].
    pub(crate) async fn remove_learners(&self) -> Result<(), Error> {
        Ok(self.group.remove_learners().await?)
    }

    /// Who has a replica.
    pub(crate) fn members(&self) -> Members {
        self.group.members()
    }

    /// On the leader, how far the log of each other replica is known to match; empty elsewhere.
    pub(crate) fn replication(&self) -> BTreeMap<ReplicaId, Option<Index>> {
        self.group.replication()
    }

    /// Who leads, as this replica sees it.
    pub(crate) fn leadership(&self) -> Leadership {
        self.group.leadership()
    }
}
