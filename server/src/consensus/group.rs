//! The handle of one Raft group: start, propose, who leads, sleep, stop.
//!
//! A group nobody writes to may sleep: its Raft instance is stopped, which gives back most of its memory,
//! and the next proposal starts another one on the same log and the same applied state.
//!
//! Invariants:
//! - At most one Raft instance runs on a log at a time.
//! - Only a sole voter that leads and has applied all of its log sleeps: nobody else can lead meanwhile, and
//!   who leads in which term is the same before, in and after its sleep.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::{EntryKind, Index, PartitionLog, Term};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::type_config::alias::OneshotReceiverOf;
use openraft::{Raft, ReadPolicy, ServerState, SnapshotPolicy};
use parking_lot::RwLock;

use super::log_store::LogStore;
use super::network::NoPeers;
use super::state_machine::Applier;
use super::types::{LogId, Payload, Types};
use super::{Applied, Error, Leadership, ReplicaId, StateMachine};

/// Leaders send heartbeats this often.
const HEARTBEAT_MS: u64 = 500;
/// A follower that hears nothing for a time in this range stands for election.
const ELECTION_TIMEOUT_MS: std::ops::Range<u64> = 1500..3000;
/// How long a purge may take, its snapshot included.
const PURGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Proposals waiting for one group's core.
const PROPOSALS_MAX: u64 = 4096;
/// How long a group may take to lead again when it wakes; it waits for no disk.
const WAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// One replica of one group.
#[derive(Debug)]
pub(crate) struct Group<M: StateMachine> {
    seat: RwLock<Seat<M>>,
    /// Held while the group falls asleep, wakes or stops.
    changing: tokio::sync::Mutex<()>,
    applier: Applier<M>,
    replica: ReplicaId,
}

type Instance<M> = Raft<Types, Applier<M>>;

/// What runs the group.
#[derive(Debug)]
enum Seat<M: StateMachine> {
    Awake(Instance<M>),
    /// Nothing; this replica leads in this term.
    Asleep(Leadership),
    Stopped,
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
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(_)) => Err(Error::NotLeader),
            Err(_) => Err(Error::Stopped),
        })
    }
}

/// `same_leader` goes on in the term in which this replica led. Else it stands for election, since a leader
/// that restarts has lost the part of its state that was not checkpointed.
fn config(name: String, same_leader: bool) -> openraft::Config {
    openraft::Config {
        cluster_name: name,
        heartbeat_interval: HEARTBEAT_MS,
        heartbeat_min_interval: Some(HEARTBEAT_MS * 4 / 5),
        election_timeout_min: ELECTION_TIMEOUT_MS.start,
        election_timeout_max: ELECTION_TIMEOUT_MS.end,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(same_leader),
        snapshot_policy: SnapshotPolicy::Never,
        // The entries are the partition's records: a snapshot of what they came to must not take them away.
        // Only `Group::purge` does.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: 200,
        max_payload_entries: 1024,
        api_channel_size: Some(PROPOSALS_MAX),
        notification_channel_size: Some(PROPOSALS_MAX),
        ..openraft::Config::default()
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
        log: PartitionLog,
        machine: M,
    ) -> Result<Self, String> {
        let applier = Applier::recover(machine, log).map_err(|e| e.to_string())?;
        let raft = instance(replica, &applier, false).await?;
        let group = Self {
            seat: RwLock::new(Seat::Awake(raft.clone())),
            changing: tokio::sync::Mutex::new(()),
            applier,
            replica,
        };
        group.elect_if_sole_voter(&raft).await?;
        Ok(group)
    }

    /// A sole voter need not wait for an election timeout after a restart: nobody else can lead.
    async fn elect_if_sole_voter(&self, raft: &Instance<M>) -> Result<(), String> {
        if self.is_sole_voter(raft) {
            raft.trigger().elect(false).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Stops the clock by which heartbeats are sent and elections held, once nobody else could lead: it would
    /// cost ten wake-ups a second and group. Whoever leads alone leads until it stops.
    pub(crate) fn stop_clock(&self) {
        let Some(raft) = self.running() else { return };
        if self.leadership().local && self.is_sole_voter(&raft) {
            raft.runtime_config().tick(false);
        }
    }

    fn is_sole_voter(&self, raft: &Instance<M>) -> bool {
        raft.voter_ids().eq([self.replica.0])
    }

    /// The running instance, if the group is awake.
    fn running(&self) -> Option<Instance<M>> {
        match &*self.seat.read() {
            Seat::Awake(raft) => Some(raft.clone()),
            Seat::Asleep(_) | Seat::Stopped => None,
        }
    }

    /// Whether the group sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        matches!(&*self.seat.read(), Seat::Asleep(_))
    }

    /// The running instance; a group that sleeps is woken.
    async fn awake(&self) -> Result<Instance<M>, Error> {
        if let Some(raft) = self.running() {
            return Ok(raft);
        }
        let _changing = self.changing.lock().await;
        let before = match &*self.seat.read() {
            Seat::Awake(raft) => return Ok(raft.clone()),
            Seat::Stopped => return Err(Error::Stopped),
            Seat::Asleep(before) => *before,
        };
        let failed = |reason: String| {
            tracing::error!(log = %self.applier.log().id(), reason, "a group cannot wake");
            Error::Stopped
        };
        let raft = instance(self.replica, &self.applier, true).await.map_err(failed)?;
        // Only a sole voter sleeps. Where it leads already this does nothing.
        raft.trigger().elect(false).await.map_err(|e| failed(e.to_string()))?;
        if !leads(&raft, WAKE_TIMEOUT).await {
            // It must not stay behind: the next proposal starts another one on the log.
            let _ = raft.shutdown().await;
            return Err(failed("it does not lead".to_owned()));
        }
        let term = raft.server_metrics().borrow_watched().vote.leader_id().term;
        if before.term != Term(term) {
            tracing::warn!(log = %self.applier.log().id(), term, "a group woke in another term");
        }
        raft.runtime_config().tick(false);
        *self.seat.write() = Seat::Awake(raft.clone());
        Ok(raft)
    }

    /// Stops the Raft instance until the next proposal, if nothing is under way and no other replica could
    /// be waiting for this one. The caller lets no proposal in meanwhile. Whether the group sleeps now.
    pub(crate) async fn sleep(&self) -> bool {
        let _changing = self.changing.lock().await;
        let Some(raft) = self.running() else { return self.is_asleep() };
        let leadership = self.leadership();
        let level =
            self.applier.applied_index() == self.applier.log().state().last.map(|l| l.index);
        if !leadership.local || !level || !self.is_sole_voter(&raft) {
            return false;
        }
        *self.seat.write() = Seat::Asleep(leadership);
        if raft.shutdown().await.is_err() {
            // The instance has ended by an error of its own, which waking would only hide.
            *self.seat.write() = Seat::Stopped;
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
    /// [`Error::Stopped`]. That another replica leads is told by the proposal itself.
    pub(crate) async fn propose(&self, kind: EntryKind, payload: Bytes) -> Result<Proposal, Error> {
        loop {
            let raft = self.awake().await?;
            let (responder, answer) = ProgressResponder::complete_only();
            let write = Payload::new(kind, payload.clone());
            match raft.client_write_ff(write, Some(responder)).await {
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
        let metrics = match &*self.seat.read() {
            Seat::Awake(raft) => raft.server_metrics(),
            Seat::Asleep(leadership) => return *leadership,
            Seat::Stopped => return Leadership::default(),
        };
        let metrics = metrics.borrow_watched();
        let term = metrics.vote.leader_id().term;
        let leads = metrics.state == ServerState::Leader;
        Leadership {
            term: Term(term),
            leader: metrics.current_leader.map(ReplicaId),
            local: leads && self.applier.applied_term() == Some(Term(term)),
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
            leadership.local || leadership.leader.is_some_and(|leader| leader != self.replica)
        };
        let changed = async {
            let Some(raft) = self.running() else { return ready() };
            let mut server = raft.server_metrics();
            let mut data = raft.data_metrics();
            while !ready() {
                let stopped = tokio::select! {
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

    /// Confirms with a majority that this replica still leads and has applied everything committed
    /// before the call (ReadIndex, Raft paper section 6.4 of the dissertation).
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`].
    pub(crate) async fn linearize(&self) -> Result<(), Error> {
        // A group that sleeps has one voter, which leads and has applied all there is.
        let Some(raft) = self.running() else {
            return if self.is_asleep() { Ok(()) } else { Err(Error::Stopped) };
        };
        match raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(_) if self.is_asleep() => Ok(()),
            Err(error) if error.fatal().is_some() => Err(Error::Stopped),
            Err(_) => Err(Error::NotLeader),
        }
    }

    /// Forgets the entries up to and including `upto`, as far as they are applied, after a snapshot of what
    /// they came to.
    ///
    /// # Errors
    /// [`Error::Stopped`], also when it takes longer than [`PURGE_TIMEOUT`].
    pub(crate) async fn purge(&self, upto: Index) -> Result<(), Error> {
        let purging = async {
            let stopped = |_| Error::Stopped;
            let raft = self.awake().await?;
            let mut data = raft.data_metrics();
            let applied = data.borrow_watched().last_applied.map_or(0, |id| id.index);
            let upto = upto.0.min(applied);
            let is_behind = |id: Option<LogId>| id.is_none_or(|id| id.index < upto);
            if is_behind(data.borrow_watched().snapshot) {
                raft.trigger().snapshot().await.map_err(stopped)?;
            }
            while is_behind(data.borrow_watched().snapshot) {
                data.changed().await.map_err(|_| Error::Stopped)?;
            }
            raft.trigger().purge_log(upto).await.map_err(stopped)?;
            while is_behind(data.borrow_watched().purged) {
                data.changed().await.map_err(|_| Error::Stopped)?;
            }
            Ok(())
        };
        tokio::time::timeout(PURGE_TIMEOUT, purging).await.map_err(|_| Error::Stopped)?
    }

    /// Stops the replica after storing a checkpoint, so that a restart has nothing to apply again.
    pub(crate) async fn shutdown(&self) {
        let _changing = self.changing.lock().await;
        let running = self.running();
        *self.seat.write() = Seat::Stopped;
        if let Some(raft) = running
            && raft.shutdown().await.is_err()
        {
            tracing::debug!(replica = self.replica.0, "raft task had already ended");
        }
        self.save_checkpoint();
    }

    /// Stores a checkpoint if anything was applied since the last.
    pub(crate) fn save_checkpoint(&self) {
        if let Err(error) = self.applier.save_checkpoint() {
            tracing::debug!(%error, "no checkpoint; the next start applies a little more");
        }
    }
}

/// A Raft instance on the applier's log and state.
async fn instance<M: StateMachine>(
    replica: ReplicaId,
    applier: &Applier<M>,
    same_leader: bool,
) -> Result<Instance<M>, String> {
    let log = applier.log().clone();
    let config = config(format!("partition {}", log.id()), same_leader);
    let config = Arc::new(config.validate().map_err(|e| e.to_string())?);
    Raft::new(replica.0, config, NoPeers, LogStore::new(log), applier.clone())
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
