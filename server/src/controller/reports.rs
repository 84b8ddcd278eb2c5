//! What brokers tell the metadata group about partitions: who leads, who is behind, where replicas move.
//!
//! Not here: what becomes of it (`machine/moves.rs`), when it is told (`health.rs`).

use jangbu_engine::{PartitionId, Term};

use super::{Controller, Error};
use crate::consensus::ReplicaId;
use crate::proto::metadata::{
    self as proto, command::Command, report_damaged as damage, report_in_sync as in_sync,
    report_leaders::Led,
};

/// A partition, the term of its leader, and its replicas that lack entries.
pub(crate) type Behind = (PartitionId, Term, Vec<ReplicaId>);

/// A partition, a replica of it that is damaged, and whether that has stopped it.
pub(crate) type Damaged = (PartitionId, ReplicaId, bool);

impl Controller {
    /// Tells which partitions this broker leads, and in which term.
    ///
    /// # Errors
    /// [`Error::UnknownBroker`], [`Error::Consensus`].
    pub(crate) async fn report_leaders(&self, led: Vec<(PartitionId, Term)>) -> Result<(), Error> {
        let led = led.into_iter().map(|(group, term)| Led { group: group.0, term: term.0 });
        let command = proto::ReportLeaders { broker: self.broker, groups: led.collect() };
        self.submit(Command::ReportLeaders(command)).await.map(|_| ())
    }

    /// Tells which replicas are behind of partitions that this broker leads in these terms.
    ///
    /// # Errors
    /// [`Error::Consensus`].
    pub(crate) async fn report_in_sync(&self, led: &[Behind]) -> Result<(), Error> {
        let groups = led.iter().map(|(id, term, behind)| in_sync::Led {
            group: id.0,
            term: term.0,
            behind: behind.iter().map(|replica| replica.0).collect(),
        });
        let command = proto::ReportInSync { groups: groups.collect() };
        self.submit(Command::ReportInSync(command)).await.map(|_| ())
    }

    /// Tells which replicas are damaged, and whether that has stopped them.
    ///
    /// # Errors
    /// [`Error::Consensus`].
    pub(crate) async fn report_damaged(&self, damaged: &[Damaged]) -> Result<(), Error> {
        let replicas = damaged.iter().map(|(id, replica, stopped)| damage::Damaged {
            group: id.0,
            replica: replica.0,
            stopped: *stopped,
        });
        let command = proto::ReportDamaged { replicas: replicas.collect() };
        self.submit(Command::ReportDamaged(command)).await.map(|_| ())
    }

    /// Moves a partition from the brokers `seen` to `target`; an empty target moves it back.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::UnknownBroker`], [`Error::Stale`], [`Error::NotReassigning`],
    /// [`Error::Consensus`].
    pub(crate) async fn reassign(
        &self,
        group: PartitionId,
        seen: Vec<i32>,
        target: Vec<i32>,
    ) -> Result<(), Error> {
        self.reassign_on(group, seen, target, Vec::new()).await
    }

    /// The same, and from there to `then`, if that is not empty: brokers that are in both and not in the target get new
    /// replicas.
    ///
    /// # Errors
    /// Those of [`Controller::reassign`].
    pub(crate) async fn reassign_on(
        &self,
        group: PartitionId,
        seen: Vec<i32>,
        target: Vec<i32>,
        then: Vec<i32>,
    ) -> Result<(), Error> {
        let command = proto::Reassign { group: group.0, seen, target, then };
        self.submit(Command::Reassign(command)).await.map(|_| ())
    }

    /// Tells that a partition's group has exactly the members of the target of its `reassignment`.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::NotReassigning`] when the target is another one now, [`Error::Consensus`].
    pub(crate) async fn finish_reassignment(
        &self,
        group: PartitionId,
        reassignment: u32,
    ) -> Result<(), Error> {
        let command = proto::FinishReassignment { group: group.0, reassignment };
        self.submit(Command::FinishReassignment(command)).await.map(|_| ())
    }
}
