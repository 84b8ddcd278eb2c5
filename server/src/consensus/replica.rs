//! What runs a replica, and what it does for the other replicas of its group.

use std::sync::Arc;

use bytes::Bytes;
use openraft::Raft;
use openraft::base::{BoxFuture, BoxStream};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use parking_lot::RwLock;

use super::router::{Answers, Remote};
use super::state_machine::{Applier, check_snapshot};
use super::types::{SnapshotMeta, Types, Vote};
use super::{Leadership, ReplicaId, StateMachine};

pub(super) type Instance<M> = Raft<Types, Applier<M>>;

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
}

impl<M: StateMachine> Replica<M> {
    /// The running instance, if the group is awake.
    pub(super) fn running(&self) -> Option<Instance<M>> {
        match &*self.seat.read() {
            Seat::Awake(raft) => Some(raft.clone()),
            Seat::Asleep(_) | Seat::Stopped => None,
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
        let answers: Answers = Box::pin(self.running()?.stream_append(requests));
        Some(answers)
    }

    fn heartbeat(
        self: Arc<Self>,
        request: AppendEntriesRequest<Types>,
    ) -> BoxFuture<'static, Result<StreamAppendResult<Types>, String>> {
        Box::pin(async move {
            let matching = request.prev_log_id;
            let response = self.asked()?.append_entries(request).await;
            Ok(response.map_err(|e| e.to_string())?.into_stream_result(matching, matching))
        })
    }

    fn vote(
        self: Arc<Self>,
        request: VoteRequest<Types>,
        pre: bool,
    ) -> BoxFuture<'static, Result<VoteResponse<Types>, String>> {
        Box::pin(async move {
            let raft = self.asked()?;
            let voted = if pre { raft.pre_vote(request).await } else { raft.vote(request).await };
            voted.map_err(|e| e.to_string())
        })
    }

    fn snapshot(
        self: Arc<Self>,
        vote: Vote,
        meta: SnapshotMeta,
        data: Bytes,
    ) -> BoxFuture<'static, Result<SnapshotResponse<Types>, String>> {
        Box::pin(async move {
            check_snapshot(&meta, &data)?;
            let snapshot = Snapshot { meta, snapshot: data };
            let installed = self.asked()?.install_full_snapshot(vote, snapshot).await;
            installed.map_err(|e| e.to_string())
        })
    }

    fn transfer(
        self: Arc<Self>,
        request: TransferLeaderRequest<Types>,
    ) -> BoxFuture<'static, Result<TransferLeaderResponse<Types>, String>> {
        Box::pin(async move {
            let handed = self.asked()?.handle_transfer_leader(request).await;
            handed.map_err(|e| e.to_string())
        })
    }

    /// With a heartbeat, which openraft sends only where it leads.
    fn tell(self: Arc<Self>) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(
            async move { self.asked()?.trigger().heartbeat().await.map_err(|e| e.to_string()) },
        )
    }
}
