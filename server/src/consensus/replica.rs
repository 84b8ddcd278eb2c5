//! What runs a replica, and what it does for the other replicas of its group.

use std::sync::Arc;

use bytes::Bytes;
use jangbu_engine::Term;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::base::{BoxFuture, BoxStream};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use parking_lot::RwLock;

use super::codec;
use super::instance::{Instance, to_the_end};
use super::log::{self, Log};
use super::router::{Answers, Remote};
use super::staging::{self, Piece, StageAnswer, Staging};
use super::state_machine::{Applier, check_snapshot};
use super::types::{SnapshotMeta, Types, Vote};
use super::{Leadership, ReplicaId, StateMachine};

/// What runs the replica.
#[derive(Debug)]
pub(super) enum Seat<M: StateMachine> {
    Awake(Instance<M>),
    /// Nothing; this replica leads in this term.
    Asleep(Leadership),
    Stopped,
}

/// One replica of one group, as its owner and the other replicas share it.
#[derive(Debug)]
pub(super) struct Replica<M: StateMachine> {
    pub(super) id: ReplicaId,
    pub(super) applier: Applier<M>,
    pub(super) seat: RwLock<Seat<M>>,
    /// What it is sent before a snapshot.
    pub(super) staging: Staging,
}

impl<M: StateMachine> Replica<M> {
    /// The running instance, if the group is awake.
    pub(super) fn running(&self) -> Option<Instance<M>> {
        match &*self.seat.read() {
            Seat::Awake(raft) => Some(raft.clone()),
            Seat::Asleep(_) | Seat::Stopped => None,
        }
    }

    /// Whether the group sleeps.
    pub(super) fn is_asleep(&self) -> bool {
        matches!(&*self.seat.read(), Seat::Asleep(_))
    }

    /// See [`super::Group::leadership`].
    pub(super) fn leadership(&self) -> Leadership {
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
            // What it led before it was stopped it does not lead now.
            leader: metrics
                .current_leader
                .map(ReplicaId)
                .filter(|leader| leads || *leader != self.id),
            local: leads && self.applier.applied_term() == Some(Term(term)),
        }
    }

    /// Stores a checkpoint if anything was applied since the last.
    pub(super) fn save_checkpoint(&self) {
        if let Err(error) = self.applier.save_checkpoint() {
            tracing::debug!(%error, "no checkpoint; the next start applies a little more");
        }
    }

    /// A replica that sleeps is the only voter of its group: nobody has anything to ask of it.
    fn asked(&self) -> Result<Instance<M>, String> {
        self.running().ok_or_else(|| format!("replica {:#x} does not run", self.id.0))
    }
}

impl<M: StateMachine> Remote for Replica<M> {
    fn appends(
        &self,
        requests: BoxStream<'static, AppendEntriesRequest<Types>>,
    ) -> Option<Answers> {
        Some(self.running()?.appends(requests))
    }

    fn heartbeat(
        self: Arc<Self>,
        request: AppendEntriesRequest<Types>,
    ) -> BoxFuture<'static, Result<StreamAppendResult<Types>, String>> {
        Box::pin(async move {
            let matching = request.prev_log_id;
            let asked =
                self.asked()?.call(|core| async move { core.append_entries(request).await });
            Ok(asked.await.map_err(|e| e.to_string())?.into_stream_result(matching, matching))
        })
    }

    fn vote(
        self: Arc<Self>,
        request: VoteRequest<Types>,
        pre: bool,
    ) -> BoxFuture<'static, Result<VoteResponse<Types>, String>> {
        Box::pin(async move {
            let asked = self.asked()?.call(|core| async move {
                if pre { core.pre_vote(request).await } else { core.vote(request).await }
            });
            asked.await.map_err(|e| e.to_string())
        })
    }

    /// It goes on to its end once begun, so that nobody takes over in the middle of it.
    fn stage(self: Arc<Self>, piece: Piece) -> BoxFuture<'static, Result<StageAnswer, String>> {
        Box::pin(to_the_end(async move {
            let staging = Arc::clone(&self.staging).lock_owned().await;
            let known = self.asked()?.server_metrics().borrow_watched().vote;
            let vote = if known > piece.vote { known } else { piece.vote };
            let held = log::holds(self.applier.log(), codec::engine_log_id(&piece.last));
            if vote == piece.vote && !held {
                staging::take(staging, self.applier.log(), piece).await?;
            }
            Ok(StageAnswer { vote, held })
        }))
    }

    fn snapshot(
        self: Arc<Self>,
        vote: Vote,
        meta: SnapshotMeta,
        data: Bytes,
        staged: bool,
    ) -> BoxFuture<'static, Result<SnapshotResponse<Types>, String>> {
        Box::pin(async move {
            let next_offset = check_snapshot(&meta, &data)?;
            let staging = Arc::clone(&self.staging).lock_owned().await;
            let log = self.applier.log();
            let held =
                meta.last_log_id.is_some_and(|id| log::holds(log, codec::engine_log_id(&id)));
            if staged && !held && log.staged() != Some(next_offset) {
                return Err(format!("not all is staged up to {next_offset}"));
            }
            let snapshot = Snapshot { meta, snapshot: data };
            let raft = self.asked()?;
            let installed = raft.call(|core| async move {
                let installed = core.install_full_snapshot(vote, snapshot).await;
                drop(staging);
                installed
            });
            installed.await.map_err(|e| e.to_string())
        })
    }

    fn transfer(
        self: Arc<Self>,
        request: TransferLeaderRequest<Types>,
    ) -> BoxFuture<'static, Result<TransferLeaderResponse<Types>, String>> {
        Box::pin(async move {
            let raft = self.asked()?;
            let handed =
                raft.call(|core| async move { core.handle_transfer_leader(request).await });
            handed.await.map_err(|e| e.to_string())
        })
    }

    /// With a heartbeat, which openraft sends only where it leads.
    fn tell(self: Arc<Self>) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async move {
            let told = self.asked()?.call(|core| async move { core.trigger().heartbeat().await });
            told.await.map_err(|e| e.to_string())
        })
    }
}
