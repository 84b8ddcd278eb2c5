//! The way to other replicas. A cluster of one has none: every peer is unreachable.
//!
//! The transport between nodes comes with the replicated cluster; it replaces this file and nothing
//! else in `consensus`.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend};

use super::router::Router;
use super::types::{Types, Vote};
use crate::peer::Peers;

/// The ways to the other nodes, and what runs on this one.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    peers: Peers,
    router: Arc<Router>,
}

impl Network {
    /// Sends through `peers`.
    pub(crate) fn new(peers: Peers) -> Self {
        Self { peers, router: Arc::default() }
    }

    /// What runs on this node; requests of other nodes go to [`Router::serve`].
    pub(crate) fn router(&self) -> &Arc<Router> {
        &self.router
    }
}

/// Peers of a cluster of one.
#[derive(Debug, Clone)]
pub(crate) struct NoPeers;

/// A peer that cannot be reached.
#[derive(Debug)]
pub(crate) struct NoPeer {
    target: u64,
}

impl NoPeer {
    fn unreachable(&self) -> Unreachable<Types> {
        Unreachable::new(&AnyError::error(format!(
            "replica {:#x} is not in this node, and a cluster of one has no peers",
            self.target
        )))
    }
}

impl RaftNetworkFactory<Types> for NoPeers {
    type Network = NoPeer;

    async fn new_client(&mut self, target: u64, (): &()) -> NoPeer {
        NoPeer { target }
    }
}

impl RaftNetworkV2<Types> for NoPeer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    /// openraft's default would grant the pre-vote of a peer that was never asked.
    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: openraft::type_config::alias::SnapshotOf<Types, Bytes>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(StreamingError::Unreachable(self.unreachable()))
    }
}
