//! The handle of one Raft group: start, propose, who leads, stop.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::{EntryKind, PartitionLog, Term};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::type_config::alias::OneshotReceiverOf;
use openraft::{Raft, ReadPolicy, ServerState, SnapshotPolicy};

use super::log_store::LogStore;
use super::network::NoPeers;
use super::state_machine::Applier;
use super::types::{Payload, Types};
use super::{Applied, Error, Leadership, ReplicaId, StateMachine};

/// Leaders send heartbeats this often.
const HEARTBEAT_MS: u64 = 500;
/// A follower that hears nothing for a time in this range stands for election.
const ELECTION_TIMEOUT_MS: std::ops::Range<u64> = 1500..3000;
/// Proposals waiting for one group's core.
const PROPOSALS_MAX: u64 = 4096;

/// One replica of one group. Clones share it.
#[derive(Debug)]
pub(crate) struct Group<M: StateMachine> {
    raft: Raft<Types, Applier<M>>,
    applier: Applier<M>,
    replica: ReplicaId,
}

impl<M: StateMachine> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self { raft: self.raft.clone(), applier: self.applier.clone(), replica: self.replica }
    }
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

fn config(name: String) -> openraft::Config {
    openraft::Config {
        cluster_name: name,
        heartbeat_interval: HEARTBEAT_MS,
        heartbeat_min_interval: Some(HEARTBEAT_MS * 4 / 5),
        election_timeout_min: ELECTION_TIMEOUT_MS.start,
        election_timeout_max: ELECTION_TIMEOUT_MS.end,
        enable_pre_vote: Some(true),
        // A leader that restarts has lost the part of its state that was not checkpointed.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
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
        let config = config(format!("partition {}", log.id()));
        let config = Arc::new(config.validate().map_err(|e| e.to_string())?);
        let applier = Applier::recover(machine, log.clone()).map_err(|e| e.to_string())?;
        let store = LogStore::new(log);
        let raft = Raft::new(replica.0, config, NoPeers, store, applier.clone())
            .await
            .map_err(|e| e.to_string())?;
        let group = Self { raft, applier, replica };
        group.elect_if_sole_voter().await?;
        Ok(group)
    }

    /// A sole voter need not wait for an election timeout after a restart: nobody else can lead.
    async fn elect_if_sole_voter(&self) -> Result<(), String> {
        let voters: Vec<u64> = self.raft.voter_ids().collect();
        if voters == [self.replica.0] {
            self.raft.trigger().elect(false).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Gives a new group its first voters. Does nothing when the group has any already.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub(crate) async fn initialize(&self, voters: &[ReplicaId]) -> Result<(), Error> {
        let members: std::collections::BTreeSet<u64> = voters.iter().map(|r| r.0).collect();
        match self.raft.is_initialized().await {
            Ok(true) => Ok(()),
            Ok(false) => match self.raft.initialize(members).await {
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
        let (responder, answer) = ProgressResponder::complete_only();
        self.raft
            .client_write_ff(Payload::new(kind, payload), Some(responder))
            .await
            .map_err(|_| Error::Stopped)?;
        Ok(Proposal { answer })
    }

    /// Who leads. `local` only once this replica has applied an entry of its own term, since only
    /// then does it know everything that was ever acknowledged (Raft paper, section 8).
    pub(crate) fn leadership(&self) -> Leadership {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let term = metrics.vote.leader_id().term;
        let leads = metrics.state == ServerState::Leader;
        Leadership {
            term: Term(term),
            leader: metrics.current_leader.map(ReplicaId),
            local: leads && self.applier.applied_term() == Some(Term(term)),
        }
    }

    /// Waits until some replica leads and, if it is this one, may answer. False after `timeout`.
    pub(crate) async fn wait_for_leader(&self, timeout: Duration) -> bool {
        let ready = || {
            let leadership = self.leadership();
            leadership.local || leadership.leader.is_some_and(|leader| leader != self.replica)
        };
        let changed = async {
            let mut server = self.raft.server_metrics();
            let mut data = self.raft.data_metrics();
            while !ready() {
                let stopped = tokio::select! {
                    changed = server.changed() => changed.is_err(),
                    changed = data.changed() => changed.is_err(),
                };
                if stopped {
                    return false;
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
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(error) if error.fatal().is_some() => Err(Error::Stopped),
            Err(_) => Err(Error::NotLeader),
        }
    }

    /// Stops the replica after storing a checkpoint, so that a restart has nothing to apply again.
    pub(crate) async fn shutdown(&self) {
        if self.raft.shutdown().await.is_err() {
            tracing::debug!(replica = self.replica.0, "raft task had already ended");
        }
        if let Err(error) = self.applier.save_checkpoint() {
            tracing::debug!(%error, "no checkpoint at shutdown; the next start applies a little more");
        }
    }
}
