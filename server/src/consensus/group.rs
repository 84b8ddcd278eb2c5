//! The handle of one Raft group: start, propose, who leads, sleep, stop.
//!
//! A group nobody writes to may sleep: its Raft instance is stopped, which gives back most of its memory,
//! and the next proposal starts another one on the same log and the same applied state.
//!
//! Not here: how instances are started and stopped (`group/switch.rs`).
//!
//! Invariants:
//! - Only a sole voter that leads and has applied all of its log sleeps: nobody else can lead meanwhile, and
//!   who leads in which term is the same before, in and after its sleep.

mod applied;
mod switch;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::EntryKind;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::type_config::alias::OneshotReceiverOf;
use parking_lot::{Mutex, RwLock};

use self::switch::Switch;
use super::behind::Seen;
use super::instance::{Instance, to_the_end};
use super::lease::is_sole_voter;
use super::log::Log;
use super::network::Network;
use super::purge::Held;
use super::replica::{Replica, Seat};
use super::staging::Staging;
use super::state_machine::Applier;
use super::transfer::Transfers;
use super::turns::Turns;
use super::types::{Payload, Types};
use super::{Applied, Clock, Error, Leadership, ReplicaId, StateMachine};

/// One replica of one group.
#[derive(Debug)]
pub(crate) struct Group<M: StateMachine> {
    pub(super) replica: Arc<Replica<M>>,
    switch: Arc<Switch<M>>,
    /// Held while it purges.
    pub(super) purging: tokio::sync::Mutex<()>,
    pub(super) held: Mutex<Option<Held>>,
    /// Held for writing while it hands over its leadership.
    pub(super) handing: tokio::sync::RwLock<()>,
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
        let raft = switch::instance(replica, &applier, &turns, network, clock, false).await?;
        let seat = RwLock::new(Seat::Awake(raft.clone()));
        let staging = Staging::default();
        let replica = Arc::new(Replica { id: replica, applier, seat, staging });
        network.router().insert(group, replica.id, Arc::clone(&replica));
        let switch = Switch {
            replica: Arc::clone(&replica),
            changing: tokio::sync::Mutex::default(),
            network: network.clone(),
            clock,
            turns,
        };
        let group = Self {
            replica,
            switch: Arc::new(switch),
            purging: tokio::sync::Mutex::default(),
            held: Mutex::default(),
            handing: tokio::sync::RwLock::default(),
            seen: Seen::default(),
        };
        group.elect_if_sole_voter(&raft).await?;
        Ok(group)
    }

    /// A sole voter need not wait for an election timeout after a restart: nobody else can lead.
    async fn elect_if_sole_voter(&self, raft: &Instance<M>) -> Result<(), String> {
        if is_sole_voter(raft) {
            let elected = raft.call(|core| async move { core.trigger().elect(false).await });
            elected.await.map_err(|e| e.to_string())?;
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

    /// Does something to the settled part of the log; `None` while another replica is sent it.
    pub(crate) fn with_settled<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        let _quiet = self.transfers().keep_off()?;
        Some(act())
    }

    pub(super) fn transfers(&self) -> &Transfers {
        self.replica.applier.transfers()
    }

    /// Whether the group sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        self.replica.is_asleep()
    }

    /// The running instance; a group that sleeps is woken.
    pub(super) async fn awake(&self) -> Result<Instance<M>, Error> {
        if let Some(raft) = self.running() {
            return Ok(raft);
        }
        to_the_end(Arc::clone(&self.switch).awake()).await
    }

    /// Stops the Raft instance and starts another one, which leads only once it was elected anew.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub(super) async fn begin_anew(&self) -> Result<(), Error> {
        to_the_end(Arc::clone(&self.switch).begin_anew()).await
    }

    /// Stops the Raft instance until the next proposal, if nothing is under way and no other replica could
    /// be waiting for this one. The caller lets no proposal in meanwhile. Whether the group sleeps now.
    pub(crate) async fn sleep(&self) -> bool {
        to_the_end(Arc::clone(&self.switch).sleep()).await
    }

    /// Gives a new group its first voters. Does nothing when the group has any already.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub(crate) async fn initialize(&self, voters: &[ReplicaId]) -> Result<(), Error> {
        let members: std::collections::BTreeSet<u64> = voters.iter().map(|r| r.0).collect();
        let raft = self.awake().await?;
        match raft.call(|core| async move { core.is_initialized().await }).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                match raft.call(|core| async move { core.initialize(members).await }).await {
                    Ok(()) => Ok(()),
                    Err(error) if error.fatal().is_some() => Err(Error::Stopped),
                    // Lost a race with another initialization, which is just as good.
                    Err(_) => Ok(()),
                }
            }
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
        let turn = Some(self.switch.turns.take());
        self.write(Payload { turn, ..Payload::new(EntryKind::Batch, batch) }).await
    }

    /// Lets batches in again behind one that came to nothing. None may be on its way: see [`Group::settle`].
    pub(crate) fn begin_turns(&self) {
        self.switch.turns.begin_anew();
    }

    async fn write(&self, write: Payload) -> Result<Proposal, Error> {
        loop {
            let raft = self.awake().await?;
            let (responder, answer) = ProgressResponder::complete_only();
            let write = write.clone();
            let written =
                raft.call(|core| async move { core.client_write_ff(write, Some(responder)).await });
            match written.await {
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
        self.replica.leadership()
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
        to_the_end(Arc::clone(&self.switch).shutdown()).await;
    }

    /// Stores a checkpoint if anything was applied since the last.
    pub(crate) fn save_checkpoint(&self) {
        self.replica.save_checkpoint();
    }
}

impl<M: StateMachine> Drop for Group<M> {
    fn drop(&mut self) {
        self.switch.network.router().remove(self.log().id().0, &self.replica);
    }
}

#[cfg(test)]
mod tests;
