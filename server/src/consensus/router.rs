//! Takes the requests of other nodes to the replicas they are for.
//!
//! Invariants:
//! - A request reaches a replica only if it names that replica: one that was sent to an earlier replica of the same
//!   group on this node is refused, because what that one had promised is gone.
//! - Appends to a group are taken in the order in which they came (`appends.rs`).
//! - Taking a request in never waits.
//!
//! Not here: what the messages are (`wire.rs`), who sends them (`network.rs`).

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::ptr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::Fatal;
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use parking_lot::RwLock;

use super::ReplicaId;
use super::appends::Appends;
use super::behind::GROUPS_MAX;
use super::staging::{Piece, StageAnswer};
use super::types::{SnapshotMeta, Types, Vote};
use super::wire;
use crate::peer::{Incoming, Reply, Request, Response};
use crate::proto::peer as proto;

/// The answers of a replica to appends, in their order.
pub(super) type Answers = BoxStream<'static, Result<StreamAppendResult<Types>, Fatal<Types>>>;

/// Why a replica did not do what another one asked.
type Outcome<T> = Result<T, String>;

/// What a replica does for the others of its group.
pub(super) trait Remote: fmt::Debug + Send + Sync {
    /// Takes in what a leader sends, until the first that cannot be taken in; `None` while nothing runs.
    fn appends(&self, requests: BoxStream<'static, AppendEntriesRequest<Types>>)
    -> Option<Answers>;

    /// Takes in a heartbeat.
    fn heartbeat(
        self: Arc<Self>,
        request: AppendEntriesRequest<Types>,
    ) -> BoxFuture<'static, Outcome<StreamAppendResult<Types>>>;

    /// Votes, or with `pre` tells how it would.
    fn vote(
        self: Arc<Self>,
        request: VoteRequest<Types>,
        pre: bool,
    ) -> BoxFuture<'static, Outcome<VoteResponse<Types>>>;

    /// Takes in a part of what was settled below a snapshot.
    fn stage(self: Arc<Self>, piece: Piece) -> BoxFuture<'static, Outcome<StageAnswer>>;

    /// Begins anew behind a snapshot; with `staged` only on top of what was staged for it.
    fn snapshot(
        self: Arc<Self>,
        vote: Vote,
        meta: SnapshotMeta,
        data: Bytes,
        staged: bool,
    ) -> BoxFuture<'static, Outcome<SnapshotResponse<Types>>>;

    /// Makes way for another leader, or becomes it.
    fn transfer(
        self: Arc<Self>,
        request: TransferLeaderRequest<Types>,
    ) -> BoxFuture<'static, Outcome<TransferLeaderResponse<Types>>>;

    /// Tells its followers what is committed, if it leads.
    fn tell(self: Arc<Self>) -> BoxFuture<'static, Outcome<()>>;
}

/// A replica that takes requests.
#[derive(Debug, Clone)]
struct Running {
    replica: ReplicaId,
    remote: Arc<dyn Remote>,
    appends: Appends,
}

/// The replicas that run on this node, by group.
#[derive(Debug, Default)]
pub(crate) struct Router {
    running: RwLock<HashMap<u32, Running>>,
}

impl Router {
    /// Lets a replica take requests.
    pub(super) fn insert<R: Remote + 'static>(
        &self,
        group: u32,
        replica: ReplicaId,
        remote: Arc<R>,
    ) {
        let remote: Arc<dyn Remote> = remote;
        let appends = Appends::start(group, Arc::clone(&remote));
        self.running.write().insert(group, Running { replica, remote, appends });
    }

    /// Takes no more requests for a replica; another one of the group is left alone.
    pub(super) fn remove<R: Remote>(&self, group: u32, remote: &Arc<R>) {
        let mut running = self.running.write();
        let it = Arc::as_ptr(remote);
        if running.get(&group).is_some_and(|known| ptr::addr_eq(Arc::as_ptr(&known.remote), it)) {
            running.remove(&group);
        }
    }

    fn find(&self, group: u32, replica: u64) -> Result<Running, String> {
        match self.running.read().get(&group) {
            Some(running) if running.replica == ReplicaId(replica) => Ok(running.clone()),
            Some(running) => {
                let own = running.replica.0;
                Err(format!("this node's replica of group {group} is {own:#x}, not {replica:#x}"))
            }
            None => Err(format!("group {group} does not run on this node")),
        }
    }

    /// Answers Append, Heartbeats, Vote, PreVote, Stage, Snapshot, Transfer and Behind. Never waits.
    pub(crate) fn serve(&self, incoming: Incoming) {
        let Incoming { request, payloads, reply, .. } = incoming;
        match request {
            Request::Append(append) => self.append(append, payloads, reply),
            Request::Heartbeats(beats) => self.heartbeats(beats, reply),
            Request::Vote(vote) => self.vote(vote, false, reply),
            Request::PreVote(vote) => self.vote(vote, true, reply),
            Request::Stage(stage) => self.stage(stage, payloads, reply),
            Request::Snapshot(snapshot) => self.snapshot(snapshot, reply),
            Request::Transfer(transfer) => self.transfer(transfer, reply),
            Request::Behind(behind) => self.behind(&behind, reply),
            _ => reply.send(Err("this is no request of a replica".to_owned())),
        }
    }

    fn append(&self, append: proto::Append, payloads: Vec<Bytes>, reply: Reply) {
        let found = self.find(append.group, append.replica);
        let understood = found
            .and_then(|running| wire::append(append, payloads).map(|request| (running, request)));
        match understood {
            Ok((running, request)) => running.appends.put(request, reply),
            Err(why) => reply.send(Err(why)),
        }
    }

    fn heartbeats(&self, beats: proto::Heartbeats, reply: Reply) {
        let answers = beats.appends.into_iter().map(|beat| self.heartbeat(beat));
        let answers: Vec<_> = answers.collect();
        tokio::spawn(async move {
            let results = join_all(answers).await;
            reply.send(Ok(Response::Heartbeats(proto::HeartbeatResults { results })));
        });
    }

    fn heartbeat(
        &self,
        beat: proto::Append,
    ) -> impl Future<Output = proto::heartbeat_results::Result> + use<> {
        let found = self.find(beat.group, beat.replica);
        let understood = found.and_then(|running| {
            if !beat.entries.is_empty() {
                return Err("a heartbeat with entries".to_owned());
            }
            wire::append(beat, Vec::new()).map(|request| (running.remote, request))
        });
        async move {
            let result = match understood {
                Ok((remote, request)) => remote.heartbeat(request).await,
                Err(why) => Err(why),
            };
            match result {
                Ok(result) => {
                    let appended = Some(wire::to_appended(result));
                    proto::heartbeat_results::Result { error: String::new(), appended }
                }
                Err(error) => proto::heartbeat_results::Result { error, appended: None },
            }
        }
    }

    fn vote(&self, vote: proto::Vote, pre: bool, reply: Reply) {
        let asked = self
            .find(vote.group, vote.replica)
            .and_then(|running| Ok(running.remote.vote(wire::vote_request(vote)?, pre)));
        answer(asked, reply, |response| Response::Voted(wire::to_voted(&response)));
    }

    fn stage(&self, stage: proto::Stage, payloads: Vec<Bytes>, reply: Reply) {
        let asked = self
            .find(stage.group, stage.replica)
            .and_then(|running| Ok(running.remote.stage(wire::piece(&stage, payloads)?)));
        answer(asked, reply, |answer| Response::Staged(wire::to_staged(&answer)));
    }

    fn snapshot(&self, snapshot: proto::Snapshot, reply: Reply) {
        let asked = self.find(snapshot.group, snapshot.replica).and_then(|running| {
            let staged = snapshot.staged;
            let (vote, meta, data) = wire::snapshot(snapshot)?;
            Ok(running.remote.snapshot(vote, meta, data, staged))
        });
        answer(asked, reply, |response| {
            let vote = Some(wire::to_vote(&response.vote));
            Response::Installed(proto::Installed { vote })
        });
    }

    fn transfer(&self, transfer: proto::Transfer, reply: Reply) {
        let asked = self
            .find(transfer.group, transfer.replica)
            .and_then(|running| Ok(running.remote.transfer(wire::transfer(transfer)?)));
        answer(asked, reply, |response| {
            Response::Transferred(proto::Transferred { accepted: response.is_ok() })
        });
    }

    /// Groups that do not run here are passed over: whoever asks will hear who leads them.
    fn behind(&self, behind: &proto::Behind, reply: Reply) {
        if behind.groups.len() > GROUPS_MAX {
            return reply.send(Err(format!("more than {GROUPS_MAX} groups: ask in parts")));
        }
        let running = self.running.read();
        let asked = behind.groups.iter().filter_map(|group| running.get(group));
        let remotes: Vec<_> = asked.map(|running| Arc::clone(&running.remote)).collect();
        drop(running);
        tokio::spawn(async move {
            for remote in remotes {
                if let Err(why) = remote.tell().await {
                    tracing::debug!(why, "a group does not tell what is committed");
                }
            }
            reply.send(Ok(Response::Told(proto::Told {})));
        });
    }
}

/// Answers when the replica does, on a task of its own: how many there are the senders bound.
fn answer<T: Send + 'static>(
    asked: Result<BoxFuture<'static, Outcome<T>>, String>,
    reply: Reply,
    response: impl FnOnce(T) -> Response + Send + 'static,
) {
    match asked {
        Ok(asked) => {
            tokio::spawn(async move { reply.send(asked.await.map(response)) });
        }
        Err(why) => reply.send(Err(why)),
    }
}
