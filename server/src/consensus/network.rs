//! The way to the other replicas of a group: openraft's requests as messages to other nodes.
//!
//! Invariants:
//! - Appends to one replica are sent in the order in which openraft yields them, a bounded number at a time, and
//!   their answers are given to openraft in that order.
//! - Heartbeats to one node go together in few frames, whatever groups they are of (`beats.rs`).
//! - A replica that cannot be asked grants nothing.
//! - Replicas that are being added are sent entries no faster than allowed (`throttle.rs`), which keeps their order.
//!
//! Not here: what comes before a snapshot (`network/settled.rs`), what the messages are (`wire.rs`), the other end (`router.rs`), connections (`peer`).

mod settled;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, OptionalSend, RPCTypes};

use super::ReplicaId;
use super::beats::Beats;
use super::router::Router;
use super::throttle::Throttle;
use super::transfer::Source;
use super::transport::Transport;
use super::types::{Entry, LogId, Types, Vote};
use super::wire::{self, To};
use crate::peer::{self, Lane, Peers, Request, Response};

/// Appends to one replica that are not answered yet. What comes up meanwhile goes into one request.
const APPENDS_MAX: usize = 32;
/// How long an append may take. Longer than any disk is busy: a node that is gone is known to be gone before that.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

type Refused = RPCError<Types>;

/// The ways to the other nodes, and what runs on this one. Clones share both.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(super) transport: Transport,
    router: Arc<Router>,
    beats: Arc<Beats>,
    throttle: Arc<Throttle>,
    /// Counts the streams of settled batches that are sent from here.
    streams: Arc<AtomicU64>,
    /// Bytes of settled batches sent to replicas that lacked them.
    settled_bytes: Arc<AtomicU64>,
}

impl Network {
    /// Sends through `peers`.
    pub(crate) fn new(peers: Peers) -> Self {
        Self::over(Transport::Peers(peers))
    }

    /// Sends through `transport`.
    pub(super) fn over(transport: Transport) -> Self {
        let beats = Arc::new(Beats::new(transport.clone()));
        let (router, throttle, streams, settled_bytes) = Default::default();
        Self { transport, router, beats, throttle, streams, settled_bytes }
    }

    /// What runs on this node; requests of other nodes go to [`Router::serve`].
    pub(crate) fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// How fast replicas that are being added are sent the log.
    pub(crate) fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }

    /// Bytes of settled batches sent to replicas that lacked them.
    pub(crate) fn settled_bytes(&self) -> u64 {
        self.settled_bytes.load(Ordering::Relaxed)
    }

    /// The ways from one replica of a group.
    pub(super) fn of(&self, group: u32, replica: ReplicaId, source: Arc<dyn Source>) -> Ways {
        Ways { network: self.clone(), group, replica, source }
    }
}

/// The ways from one replica to the others of its group.
#[derive(Debug)]
pub(super) struct Ways {
    network: Network,
    group: u32,
    replica: ReplicaId,
    source: Arc<dyn Source>,
}

impl Ways {
    fn way(&self, target: u64, beats: bool) -> Way {
        let to = To { group: self.group, replica: ReplicaId(target) };
        let (network, source) = (self.network.clone(), Arc::clone(&self.source));
        Way { network, to, from: self.replica, beats, source }
    }
}

impl RaftNetworkFactory<Types> for Ways {
    type Network = Way;

    async fn new_client(&mut self, target: u64, (): &()) -> Way {
        self.way(target, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, (): &()) -> Way {
        self.way(target, true)
    }
}

/// The way to one replica.
#[derive(Debug, Clone)]
pub(super) struct Way {
    network: Network,
    to: To,
    from: ReplicaId,
    /// Whether appends without entries may wait for others.
    beats: bool,
    source: Arc<dyn Source>,
}

impl Way {
    async fn call(
        &self,
        lane: Lane,
        request: Request,
        payloads: Vec<Bytes>,
        timeout: Duration,
    ) -> Result<Response, peer::Error> {
        let to = self.to.replica.broker();
        self.network.transport.call(to, lane, request, payloads, timeout).await
    }

    async fn control(
        &self,
        action: RPCTypes,
        request: Request,
        timeout: Duration,
    ) -> Result<Response, Refused> {
        let answer = self.call(Lane::Control, request, Vec::new(), timeout).await;
        answer.map_err(|error| self.refused(&error, action, timeout))
    }

    /// What openraft makes of a call that failed: it waits before it tries one again that nobody took.
    fn refused(&self, error: &peer::Error, action: RPCTypes, timeout: Duration) -> Refused {
        match error {
            peer::Error::Timeout { .. } => {
                let (id, target) = (self.from.0, self.to.replica.0);
                RPCError::Timeout(Timeout { action, id, target, timeout })
            }
            peer::Error::Unreachable { .. } | peer::Error::Refused { .. } => {
                RPCError::Unreachable(Unreachable::new(error))
            }
        }
    }

    /// A request, once it may be sent.
    async fn in_turn(self, request: AppendEntriesRequest<Types>) -> AppendEntriesRequest<Types> {
        self.network.throttle.room(self.to.group, self.to.replica, payload_bytes(&request)).await;
        request
    }

    /// One of several appends on their way.
    async fn append_of_many(
        self,
        request: AppendEntriesRequest<Types>,
    ) -> Result<StreamAppendResult<Types>, Refused> {
        let (to, network, bytes) = (self.to, self.network.clone(), payload_bytes(&request));
        let answer = self.append(request, APPEND_TIMEOUT).await;
        if matches!(answer, Err(RPCError::Unreachable(_))) {
            network.throttle.give_back(to.group, to.replica, bytes);
        }
        answer
    }

    /// One append, or with `beats` one heartbeat.
    async fn append(
        self,
        request: AppendEntriesRequest<Types>,
        timeout: Duration,
    ) -> Result<StreamAppendResult<Types>, Refused> {
        let previous = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(previous);
        let lone = self.beats && request.entries.is_empty();
        let (append, payloads) = wire::to_append(self.to, request);
        let answer = if lone {
            self.network.beats.send(self.to.replica.broker(), append).await
        } else {
            let request = Request::Append(append);
            self.call(Lane::Append, request, payloads, timeout).await.map(|answer| match answer {
                Response::Appended(appended) => Some(appended),
                _ => None,
            })
        };
        let answer =
            answer.map_err(|error| self.refused(&error, RPCTypes::AppendEntries, timeout))?;
        read(answer, |appended| wire::appended(appended, previous, last))
    }
}

/// The bytes of the records in a request.
fn payload_bytes(request: &AppendEntriesRequest<Types>) -> usize {
    let size = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(payload) => payload.bytes.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    request.entries.iter().map(size).sum()
}

/// Reads an answer that must be of one kind and make sense.
fn read<A, T>(answer: Option<A>, read: impl FnOnce(A) -> Result<T, String>) -> Result<T, Refused> {
    let answer = answer.ok_or_else(|| "the answer is one to something else".to_owned());
    let understood = answer.and_then(read);
    understood.map_err(|why| RPCError::Network(NetworkError::from_string(why)))
}

/// openraft's answer to a single append.
fn unary(result: StreamAppendResult<Types>, last: Option<LogId>) -> AppendEntriesResponse<Types> {
    match result {
        Ok(matching) if matching == last => AppendEntriesResponse::Success,
        Ok(matching) => AppendEntriesResponse::PartialSuccess(matching),
        Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
        Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
    }
}

impl RaftNetworkV2<Types> for Way {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, Refused> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let result = self.clone().append(request, option.soft_ttl()).await?;
        Ok(unary(result, last))
    }

    /// Several requests on their way at once. The connection keeps their order, and the other end does too.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, Refused>>, Refused>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let (throttled, way) = (self.clone(), self.clone());
        let answers = input
            .then(move |request| throttled.clone().in_turn(request))
            .map(move |request| way.clone().append_of_many(request))
            .buffered(APPENDS_MAX);
        let answers: BoxStream<'s, _> = Box::pin(answers);
        Box::pin(async move { Ok(answers) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Refused> {
        let request = Request::Vote(wire::to_vote_request(self.to, &request));
        match self.control(RPCTypes::Vote, request, option.soft_ttl()).await? {
            Response::Voted(voted) => read(Some(voted), wire::voted),
            _ => read(None, wire::voted),
        }
    }

    /// openraft's default would grant the pre-vote of a replica that was never asked.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Refused> {
        let request = Request::PreVote(wire::to_vote_request(self.to, &request));
        match self.control(RPCTypes::Vote, request, option.soft_ttl()).await? {
            Response::Voted(voted) => read(Some(voted), wire::voted),
            _ => read(None, wire::voted),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<Types, Bytes>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = self.send(vote, snapshot, option.soft_ttl());
        tokio::select! {
            biased;
            sent = sending => Ok(sent?),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, Refused> {
        let expected = request.last_log_id().copied();
        let request = Request::Transfer(wire::to_transfer(self.to, &request));
        match self.control(RPCTypes::TransferLeader, request, option.soft_ttl()).await? {
            Response::Transferred(transferred) if transferred.accepted => Ok(Ok(())),
            Response::Transferred(_) => {
                Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual: None }))
            }
            _ => read(None::<()>, |()| Ok(Ok(()))),
        }
    }
}
