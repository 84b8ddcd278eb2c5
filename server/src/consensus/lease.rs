//! Whether this replica still leads: asked of the others when it is not known.
//!
//! Followers that hear of their leader let nobody else be elected for a while, and openraft takes writes only for as
//! long. A group without traffic sends no heartbeats, so its leader asks before the first write after a pause.
//!
//! Not here: elections (`members.rs`).

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::Linearizer;
use openraft::{Instant, ReadPolicy};

use super::config;
use super::instance::{Core, Instance};
use super::types::Types;
use super::{Error, Group, StateMachine};

/// How long everything proposed so far may take to be applied.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(1);

impl<M: StateMachine> Group<M> {
    /// Makes sure that a proposal that follows at once finds a leader that may write.
    ///
    /// # Errors
    /// [`Error::NotLeader`] also when too few of the other replicas answer; [`Error::Stopped`].
    pub(crate) async fn renew_lease(&self) -> Result<(), Error> {
        match self.running() {
            Some(raft) => renew_lease(&raft).await,
            None => Ok(()),
        }
    }

    /// Waits until everything proposed so far is either applied or will never be.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`], [`Error::Timeout`].
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        let Some(raft) = self.running() else { return Ok(()) };
        // It goes to openraft behind the proposals: when it is answered, those are in the log or refused.
        let read = raft.call(read_index);
        let _ = read.await.map_err(|e| not_read(&e))?;
        let end = self.last_index();
        let mut data = raft.data_metrics();
        let applied = async {
            while self.replica.applier.applied_index() < end {
                data.changed().await.map_err(|_| Error::Stopped)?;
            }
            Ok::<_, Error>(())
        };
        tokio::time::timeout(BARRIER_TIMEOUT, applied).await.map_err(|_| Error::Timeout)?
    }

    /// Confirms with a majority that this replica still leads and has applied everything acknowledged
    /// before the call (ReadIndex, section 6.4 of the Raft dissertation). Calls at the same time share rounds of
    /// heartbeats: openraft sends the next when the last is answered, for all who came meanwhile.
    ///
    /// A sole voter answers by itself, asleep or awake: what it has acknowledged it has applied, and nobody is elected
    /// without its vote before its own members are others (openraft changes them through a joint configuration).
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`].
    pub(crate) async fn linearize(&self) -> Result<(), Error> {
        // A group that sleeps has one voter, which leads and has applied all there is.
        let Some(raft) = self.running() else {
            return if self.is_asleep() { Ok(()) } else { Err(Error::Stopped) };
        };
        if is_sole_voter(&raft) && self.leadership().local {
            return Ok(());
        }
        let read =
            raft.call(|core| async move { core.ensure_linearizable(ReadPolicy::ReadIndex).await });
        match read.await {
            Ok(_) => Ok(()),
            Err(_) if self.is_asleep() => Ok(()),
            Err(error) => Err(not_read(&error)),
        }
    }
}

/// Asks the other replicas whether this one still leads when none has said so for a while: a group without traffic
/// sends no heartbeats, and openraft takes writes only while it knows. Asked for at half of that time, so that the
/// proposal after it is not late.
async fn renew_lease<M: StateMachine>(raft: &Instance<M>) -> Result<(), Error> {
    let acknowledged = raft.data_metrics().borrow_watched().last_quorum_acked;
    let fresh = acknowledged.is_some_and(|at| at.elapsed() < config::LEASE / 2);
    if fresh || is_sole_voter(raft) {
        return Ok(());
    }
    match raft.call(read_index).await {
        Ok(_) => Ok(()),
        Err(error) => Err(not_read(&error)),
    }
}

/// Asks a majority.
async fn read_index<M: StateMachine>(
    core: Core<M>,
) -> Result<Linearizer<Types>, RaftError<Types, LinearizableReadError<Types>>> {
    core.get_read_linearizer(ReadPolicy::ReadIndex).await
}

/// What a read that could not be confirmed means.
fn not_read(error: &RaftError<Types, LinearizableReadError<Types>>) -> Error {
    if error.fatal().is_some() { Error::Stopped } else { Error::NotLeader }
}

/// Whether nobody else can lead.
pub(super) fn is_sole_voter<M: StateMachine>(raft: &Instance<M>) -> bool {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow_watched();
    let configs = metrics.membership_config.membership().get_joint_config();
    matches!(&configs[..], [voters] if voters.len() == 1 && voters.contains(&raft.id()))
}
