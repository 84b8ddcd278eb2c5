//! The handle of one Raft group: start, propose, who leads, sleep, stop.
//!
//! A group nobody writes to may sleep: its Raft instance is stopped, which gives back most of its memory,
//! and the next proposal starts another one on the same log and the same applied state.
//!
//! Invariants:
//! - At most one Raft instance runs on a log at a time.
//! - Only a sole voter that leads and has applied all of its log sleeps: nobody else can lead meanwhile, and
//!   who leads in which term is the same before, in and after its sleep.

mod applied;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::{EntryKind, Term};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::type_config::alias::OneshotReceiverOf;
use openraft::{Raft, ServerState};
use parking_lot::RwLock;

use super::behind::Seen;
use super::config;
use super::lease::is_sole_voter;
use super::log::Log;
use super::log_store::{LogStore, durably};
use super::network::Network;
use super::replica::{Instance, Replica, Seat};
use super::state_machine::Applier;
use super::turns::Turns;
use super::types::{Payload, Types};
use super::{Applied, Clock, Error, Leadership, ReplicaId, StateMachine};

/// How long a group may take to lead again when it wakes; it waits for no disk.
const WAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// One replica of one group.
#[derive(Debug)]
pub(crate) struct Group<M: StateMachine> {
    pub(super) replica: Arc<Replica<M>>,
    /// Held while the group falls asleep, wakes, begins anew or stops.
    changing: tokio::sync::Mutex<()>,
    /// Held while it purges.
    pub(super) purging: tokio::sync::Mutex<()>,
    /// Held for writing while it hands over its leadership.
    pub(super) handing: tokio::sync::RwLock<()>,
    network: Network,
    clock: Clock,
    turns: Arc<Turns>,
    pub(super) seen: Seen,
}

/// A proposal on its way: resolves once it is durable on a majority and applied here.
#[derive(Debug)]
pub(crate) struct Proposal {
    answer: OneshotReceiverOf<Types, ClientWriteResult<Types>>,
}

impl Future for Proposal {
    type Output = Result<Applied, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map(|answer| match answer {
            // It came to the log out of turn.
            Ok(Ok(response)) if response.data.is_nothing() => Err(Error::NotLeader),
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(_)) => Err(Error::NotLeader),
            Err(_) => Err(Error::Stopped),
        })
    }
}

impl<M: StateMachine> Group<M> {
    /// Starts this replica on `log`. A group that was never initialized waits for
    /// [`Group::initialize`] or for its leader.
    ///
    /// # Errors
    /// When the stored state does not decode or contradicts itself; the text says how.
    pub(crate) async fn start(
        replica: ReplicaId,
        log: M::Log,
        machine: M,
        network: &Network,
        clock: Clock,
    ) -> Result<Self, String> {
        let applier = Applier::recover(machine, log).map_err(|e| e.to_string())?;
        let group = applier.log().id().0;
        let turns = Arc::<Turns>::default();
        let raft = instance(replica, &applier, &turns, network, clock, false).await?;
        let seat = RwLock::new(Seat::Awake(raft.clone()));
        let replica = Arc::new(Replica { id: replica, applier, seat });
        network.router().insert(group, replica.id, Arc::clone(&replica));
        let group = Self {
            replica,
            changing: tokio::sync::Mutex::default(),
            purging: tokio::sync::Mutex::default(),
            handing: tokio::sync::RwLock::default(),
            network: network.clone(),
            clock,
            turns,
            seen: Seen::default(),
        };
        group.elect_if_sole_voter(&raft).await?;
        Ok(group)
    }

    /// A sole voter need not wait for an election timeout after a restart: nobody else can lead.
    async fn elect_if_sole_voter(&self, raft: &Instance<M>) -> Result<(), String> {
        if is_sole_voter(raft) {
            raft.trigger().elect(false).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The running instance, if the group is awake.
    pub(super) fn running(&self) -> Option<Instance<M>> {
        self.replica.running()
    }

    pub(super) fn log(&self) -> &M::Log {
        self.replica.applier.log()
    }

    /// Whether the group sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        matches!(&*self.replica.seat.read(), Seat::Asleep(_))
    }

    /// The running instance; a group that sleeps is woken.
    pub(super) async fn awake(&self) -> Result<Instance<M>, Error> {
        if let Some(raft) = self.running() {
            return Ok(raft);
        }
        let _changing = self.changing.lock().await;
        let before = match &*self.replica.seat.read() {
            Seat::Awake(raft) => return Ok(raft.clone()),
            Seat::Stopped => return Err(Error::Stopped),
            Seat::Asleep(before) => *before,
        };
        let failed = |reason: String| {
            tracing::error!(log = %self.log().id(), reason, "a group cannot wake");
            Error::Stopped
        };
        let raft = self.instance(true).await.map_err(failed)?;
        // Only a sole voter sleeps. Where it leads already this does nothing.
        raft.trigger().elect(false).await.map_err(|e| failed(e.to_string()))?;
        if !leads(&raft, WAKE_TIMEOUT).await {
            // It must not stay behind: the next proposal starts another one on the log.
            let _ = raft.shutdown().await;
            return Err(failed("it does not lead".to_owned()));
        }
        let term = raft.server_metrics().borrow_watched().vote.leader_id().term;
        if before.term != Term(term) {
            tracing::warn!(log = %self.log().id(), term, "a group woke in another term");
        }
        *self.replica.seat.write() = Seat::Awake(raft.clone());
        Ok(raft)
    }

    async fn instance(&self, same_leader: bool) -> Result<Instance<M>, String> {
        let Replica { id, applier, .. } = &*self.replica;
        instance(*id, applier, &self.turns, &self.network, self.clock, same_leader).await
    }

    /// Stops the Raft instance and starts another one, which leads only once it was elected anew.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub(super) async fn begin_anew(&self) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let Some(before) = self.running() else { return Ok(()) };
        // Whatever waits for the old one is answered that it has stopped.
        let _ = before.shutdown().await;
        let failed = |reason: String| {
            tracing::error!(log = %self.log().id(), reason, "a group cannot begin anew");
            Error::Stopped
        };
        // The new one takes all of the log for durable.
        if let Some(vote) = self.log().vote() {
            let synced = durably(|done| self.log().save_vote(vote, done)).await;
            synced.map_err(|error| failed(error.to_string()))?;
        }
        let raft = self.instance(false).await.map_err(failed)?;
        *self.replica.seat.write() = Seat::Awake(raft);
        Ok(())
    }

    /// Stops the Raft instance until the next proposal, if nothing is under way and no other replica could
    /// be waiting for this one. The caller lets no proposal in meanwhile. Whether the group sleeps now.
    pub(crate) async fn sleep(&self) -> bool {
        let _changing = self.changing.lock().await;
        let Some(raft) = self.running() else { return self.is_asleep() };
        let leadership = self.leadership();
        let applied = self.replica.applier.applied_index();
        let level = applied == self.log().state().last.map(|l| l.index);
        let alone = is_sole_voter(&raft) && self.members().learners.is_empty();
        if !leadership.local || !level || !alone {
            return false;
        }
        *self.replica.seat.write() = Seat::Asleep(leadership);
        if raft.shutdown().await.is_err() {
            // The instance has ended by an error of its own, which waking would only hide.
            *self.replica.seat.write() = Seat::Stopped;
            return false;
        }
        self.save_checkpoint();
        true
    }

    /// Gives a new group its first voters. Does nothing when the group has any already.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub(crate) async fn initialize(&self, voters: &[ReplicaId]) -> Result<(), Error> {
        let members: std::collections::BTreeSet<u64> = voters.iter().map(|r| r.0).collect();
        let raft = self.awake().await?;
        match raft.is_initialized().await {
            Ok(true) => Ok(()),
            Ok(false) => match raft.initialize(members).await {
                Ok(()) => Ok(()),
                Err(error) if error.fatal().is_some() => Err(Error::Stopped),
                // Lost a race with another initialization, which is just as good.
                Err(_) => Ok(()),
            },
            Err(_) => Err(Error::Stopped),
        }
    }

    /// Hands a batch or command to the group. Calls that return in an order are appended in it.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`]. That another replica leads may also be told by the proposal itself.
    pub(crate) async fn propose(&self, kind: EntryKind, payload: Bytes) -> Result<Proposal, Error> {
        self.renew_lease().await?;
        self.write(Payload::new(kind, payload)).await
    }

    /// Hands a batch to the group, right after [`Group::renew_lease`]. When one comes to nothing, so do all behind it,
    /// until [`Group::begin_turns`]. One call at a time.
    ///
    /// # Errors
    /// [`Error::Stopped`]. That another replica leads is told by the proposal itself.
    pub(crate) async fn propose_in_turn(&self, batch: Bytes) -> Result<Proposal, Error> {
        let turn = Some(self.turns.take());
        self.write(Payload { turn, ..Payload::new(EntryKind::Batch, batch) }).await
    }

    /// Lets batches in again behind one that came to nothing. None may be on its way: see [`Group::settle`].
    pub(crate) fn begin_turns(&self) {
        self.turns.begin_anew();
    }

    async fn write(&self, write: Payload) -> Result<Proposal, Error> {
        loop {
            let raft = self.awake().await?;
            let (responder, answer) = ProgressResponder::complete_only();
            match raft.client_write_ff(write.clone(), Some(responder)).await {
                Ok(()) => return Ok(Proposal { answer }),
                // It fell asleep since: wake it.
                Err(_) if self.is_asleep() => {}
                Err(_) => return Err(Error::Stopped),
            }
        }
    }

    /// Who leads. `local` only once this replica has applied an entry of its own term, since only
    /// then does it know everything that was ever acknowledged (Raft paper, section 8).
    pub(crate) fn leadership(&self) -> Leadership {
        let metrics = match &*self.replica.seat.read() {
            Seat::Awake(raft) => raft.server_metrics(),
            Seat::Asleep(leadership) => return *leadership,
            Seat::Stopped => return Leadership::default(),
        };
        let metrics = metrics.borrow_watched();
        let term = metrics.vote.leader_id().term;
        let leads = metrics.state == ServerState::Leader;
        Leadership {
            term: Term(term),
            // What it led before it was stopped it does not lead now.
            leader: metrics
                .current_leader
                .map(ReplicaId)
                .filter(|leader| leads || *leader != self.replica.id),
            local: leads && self.replica.applier.applied_term() == Some(Term(term)),
        }
    }

    /// Whether the group has ended because what is stored of it is damaged.
    pub(crate) fn broken(&self) -> bool {
        let Some(raft) = self.running() else { return false };
        let metrics = raft.metrics();
        let ended = &metrics.borrow_watched().running_state;
        matches!(ended, Err(Fatal::StorageError(_) | Fatal::Panicked))
    }

    /// Waits until some replica leads and, if it is this one, may answer. False after `timeout`.
    pub(crate) async fn wait_for_leader(&self, timeout: Duration) -> bool {
        let ready = || {
            let leadership = self.leadership();
            leadership.local || leadership.leader.is_some_and(|leader| leader != self.replica.id)
        };
        let changed = async {
            let Some(raft) = self.running() else { return ready() };
            let mut server = raft.server_metrics();
            let mut data = raft.data_metrics();
            while !ready() {
                let stopped = tokio::select! {
                    biased;
                    changed = server.changed() => changed.is_err(),
                    changed = data.changed() => changed.is_err(),
                };
                if stopped {
                    // It may have gone to sleep.
                    return ready();
                }
            }
            true
        };
        tokio::time::timeout(timeout, changed).await.unwrap_or(false)
    }

    /// Stops the replica after storing a checkpoint, so that a restart has nothing to apply again.
    pub(crate) async fn shutdown(&self) {
        let _changing = self.changing.lock().await;
        self.network.router().remove(self.log().id().0, &self.replica);
        let running = self.running();
        *self.replica.seat.write() = Seat::Stopped;
        if let Some(raft) = running
            && raft.shutdown().await.is_err()
        {
            tracing::debug!(replica = self.replica.id.0, "raft task had already ended");
        }
        self.save_checkpoint();
    }

    /// Stores a checkpoint if anything was applied since the last.
    pub(crate) fn save_checkpoint(&self) {
        if let Err(error) = self.replica.applier.save_checkpoint() {
            tracing::debug!(%error, "no checkpoint; the next start applies a little more");
        }
    }
}

impl<M: StateMachine> Drop for Group<M> {
    fn drop(&mut self) {
        self.network.router().remove(self.log().id().0, &self.replica);
    }
}

/// A Raft instance on the applier's log and state.
async fn instance<M: StateMachine>(
    replica: ReplicaId,
    applier: &Applier<M>,
    turns: &Arc<Turns>,
    network: &Network,
    clock: Clock,
    same_leader: bool,
) -> Result<Instance<M>, String> {
    let log = applier.log().clone();
    let config = config::config(format!("partition {}", log.id()), clock, same_leader);
    let config = Arc::new(config.validate().map_err(|e| e.to_string())?);
    let ways = network.of(log.id().0, replica);
    Raft::new(replica.0, config, ways, LogStore::new(log, Arc::clone(turns)), applier.clone())
        .await
        .map_err(|e| e.to_string())
}

/// Waits until `raft` leads.
async fn leads<M: StateMachine>(raft: &Instance<M>, timeout: Duration) -> bool {
    let mut metrics = raft.server_metrics();
    let waiting = async {
        while metrics.borrow_watched().state != ServerState::Leader {
            if metrics.changed().await.is_err() {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(timeout, waiting).await.unwrap_or(false)
}

#[cfg(test)]
mod tests;
