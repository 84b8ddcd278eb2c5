//! Who belongs to a group and who leads it: elections, transfers, changes of members.
//!
//! Not here: who decides that any of this happens (`health.rs`, `replicas.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use jangbu_engine::Index;

use super::{Error, Group, Members, ReplicaId, StateMachine};

impl<M: StateMachine> Group<M> {
    /// Asks the other voters whether they would elect this replica, and stands for election if a majority would.
    pub(crate) async fn elect(&self) {
        todo!()
    }

    /// Hands the leadership to another voter; done once that one is seen to lead.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Timeout`].
    pub(crate) async fn transfer(&self, to: ReplicaId, timeout: Duration) -> Result<(), Error> {
        todo!("{to:?} {timeout:?}")
    }

    /// Lets a replica be sent the log, without waiting for it to catch up.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Members`].
    pub(crate) async fn add_learner(&self, replica: ReplicaId) -> Result<(), Error> {
        todo!("{replica:?}")
    }

    /// Makes these the voters, in one joint step; who is not among them leaves the group.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Members`].
    pub(crate) async fn change_members(&self, voters: &[ReplicaId]) -> Result<(), Error> {
        todo!("{voters:?}")
    }

    /// Who belongs to the group.
    pub(crate) fn members(&self) -> Members {
        todo!()
    }

    /// On the leader, how far the log of each other replica is known to match; empty elsewhere.
    pub(crate) fn replication(&self) -> BTreeMap<ReplicaId, Option<Index>> {
        todo!()
    }

    /// The end of this replica's log.
    pub(crate) fn last_index(&self) -> Option<Index> {
        todo!()
    }
}
