//! The wire between the nodes of a cluster, and whether the other nodes are there.
//!
//! Each node keeps three connections to each other node, one per [`Lane`], for its own requests; the other node's
//! requests come over connections of its own. Requests of one lane are answered in any order.
//!
//! Invariants:
//! - Nothing is sent to, or taken from, a node of another cluster, protocol version or data directory.
//! - Frames are bounded and checksummed; bytes in flight per lane are bounded.
//! - Requests of one lane reach [`Service::serve`] in the order in which [`Peers::call`] was first polled.
//!
//! Not here: what the messages mean (`consensus`, `controller`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use crate::proto::peer::{request::Body as Request, response::Body as Response};

/// Connections of their own, so that bulk data keeps nothing waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Log entries.
    Append,
    /// Pings and heartbeats.
    Heartbeat,
    /// Votes, snapshots, commands.
    Control,
}

/// Who this node is. A node that has not joined a cluster has no id and no cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) node: i32,
    pub(crate) cluster_id: String,
    pub(crate) directory: [u8; 16],
    pub(crate) incarnation: u64,
}

/// What is known of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerState {
    /// It answers pings.
    pub(crate) alive: bool,
    /// Of its process; another one means that it was started again in between.
    pub(crate) incarnation: u64,
}

/// Why a call got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing was carried out, or nobody knows whether it was.
    #[error("node {node} cannot be reached: {reason}")]
    Unreachable { node: i32, reason: String },
    /// It did not answer in time; whether it will is unknown.
    #[error("node {node} did not answer in time")]
    Timeout { node: i32 },
    /// It answered that it will not.
    #[error("node {node} refused: {reason}")]
    Refused { node: i32, reason: String },
}

/// A request of another node.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) from: i32,
    pub(crate) request: Request,
    /// The payloads of an Append's entries, in their order.
    pub(crate) payloads: Vec<Bytes>,
    pub(crate) reply: Reply,
}

/// Answers one request; dropping it answers with an error.
#[derive(Debug)]
pub(crate) struct Reply {/* P: fill in */}

impl Reply {
    pub(crate) fn send(self, response: Result<Response, String>) {
        todo!()
    }
}

/// Answers the requests of other nodes.
pub(crate) trait Service: Send + Sync + 'static {
    /// Called for one request after the other of a connection; must not wait: work that waits is spawned or queued.
    fn serve(&self, incoming: Incoming);
    /// The directory that a node id is known to have, if any; a connection with another one is refused.
    fn known_directory(&self, node: i32) -> Option<[u8; 16]>;
}

/// The ways to the other nodes. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Peers {/* P: fill in, an Arc */}

impl Peers {
    pub(crate) fn new(identity: Identity) -> Self {
        todo!()
    }

    /// This node has formed or joined a cluster: connections are made anew with that identity.
    pub(crate) fn identify(&self, node: i32, cluster_id: String) {
        todo!()
    }

    pub(crate) fn identity(&self) -> Identity {
        todo!()
    }

    /// Where the other nodes are (`host:port`), replacing what was known; connections to new ones are opened and kept
    /// open, those to nodes that are gone are closed. This node's own entry is passed over.
    pub(crate) fn set_addresses(&self, addresses: BTreeMap<i32, String>) {
        todo!()
    }

    /// Sends a request and waits for its answer. `payloads` are those of an Append's entries.
    pub(crate) async fn call(
        &self,
        to: i32,
        lane: Lane,
        request: Request,
        payloads: Vec<Bytes>,
        timeout: Duration,
    ) -> Result<Response, Error> {
        todo!()
    }

    /// One request to whoever listens at an address, over a connection of its own: to join, or to form a cluster.
    pub(crate) async fn ask(
        &self,
        address: &str,
        request: Request,
        timeout: Duration,
    ) -> Result<Response, Error> {
        todo!()
    }

    /// The other nodes by id; changes when one comes, goes or was started again.
    pub(crate) fn states(&self) -> watch::Receiver<Arc<BTreeMap<i32, PeerState>>> {
        todo!()
    }
}

/// Takes connections of other nodes until `draining`.
pub(crate) async fn serve(
    listener: TcpListener,
    peers: Peers,
    service: Arc<dyn Service>,
    draining: CancellationToken,
) {
    todo!()
}
