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

mod answers;
mod book;
mod caller;
mod elements;
mod frame;
mod handshake;
mod link;
mod listener;
#[cfg(test)]
pub(crate) mod loopback;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

pub(crate) use self::answers::Reply;
pub(crate) use self::elements::bounded_keys;
pub(crate) use self::listener::serve;

pub(crate) use crate::proto::peer::{request::Body as Request, response::Body as Response};

/// Connections of their own, so that bulk data keeps nothing waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Log entries.
    Append,
    /// Pings and heartbeats.
    Heartbeat,
    /// Votes, snapshots, commands, and what clients of other nodes ask for.
    Control,
}

/// Who this node is. A node that has not joined a cluster has no id and no cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// 0 for none.
    pub(crate) node: i32,
    /// Empty for none.
    pub(crate) cluster_id: String,
    /// Stands for the data directory.
    pub(crate) directory: [u8; 16],
    /// Drawn anew at every start of the process.
    pub(crate) incarnation: u64,
}

/// What is known of another node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PeerState {
    /// It answers pings.
    pub(crate) alive: bool,
    /// Of its process; another one means that it was started again in between.
    pub(crate) incarnation: u64,
    /// It asks the others to lead what it could lead.
    pub(crate) steps_back: bool,
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
    /// It answered that it will not, or the request is one that cannot be sent at all.
    #[error("node {node} refused: {reason}")]
    Refused { node: i32, reason: String },
}

/// Bounds and intervals of the connections between nodes. Tests make them smaller.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// From the answer to one ping to the next ping.
    pub(crate) ping_interval: Duration,
    /// A node that has answered nothing for so long is not alive.
    pub(crate) silence_max: Duration,
    /// Connecting and the handshake, on both sides.
    pub(crate) connect_max: Duration,
    /// How long requests wait for a connection that is just being made.
    pub(crate) patience: Duration,
    /// Between attempts to connect: doubles from the first to the second.
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    /// What one lane has sent and got no answer for.
    pub(crate) flight: link::Bounds,
    /// What one connection of another node has sent and got no answer for.
    pub(crate) held: answers::Bounds,
    /// Connections of other nodes: three for each of them, and those of nodes that join.
    pub(crate) connections_max: usize,
    /// How long a connection for one request may last.
    pub(crate) once_max: Duration,
    /// How long requests taken in are still answered when the node stops.
    pub(crate) drain_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_millis(200),
            silence_max: Duration::from_millis(1200),
            connect_max: Duration::from_secs(1),
            patience: Duration::from_millis(100),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(500),
            flight: link::Bounds { requests: 4096, bytes: 64 << 20, waiting: 16 << 10 },
            held: answers::Bounds { requests: 4096, bytes: 32 << 20 },
            connections_max: 256,
            once_max: Duration::from_secs(60),
            drain_max: Duration::from_secs(1),
        }
    }
}

/// A request of another node.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// 0 when it has no id.
    pub(crate) from: i32,
    pub(crate) request: Request,
    /// The payloads of an Append's entries, in their order.
    pub(crate) payloads: Vec<Bytes>,
    pub(crate) reply: Reply,
}

/// Answers the requests of other nodes.
pub(crate) trait Service: Send + Sync + 'static {
    /// Called for one request after the other of a connection; must not wait: work that waits is spawned or queued.
    fn serve(&self, incoming: Incoming);
    /// The directory that a node id is known to have, if any; a connection with another one is refused.
    fn known_directory(&self, node: i32) -> Option<[u8; 16]>;
    /// Whether others should lead what this node could lead, as the others are told with every answer to a ping.
    fn steps_back(&self) -> bool;
}

/// The ways to the other nodes. Clones share them; the connections are closed with the last one.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    book: Arc<book::Book>,
}

impl Peers {
    /// No ways yet.
    pub(crate) fn new(identity: Identity) -> Self {
        Self::with_settings(identity, Settings::default())
    }

    /// No ways yet, with other bounds and intervals than usual.
    pub(crate) fn with_settings(identity: Identity, settings: Settings) -> Self {
        Self { book: Arc::new(book::Book::new(identity, settings)) }
    }

    fn core(&self) -> &Arc<book::Core> {
        &self.book.core
    }

    /// This node has formed or joined a cluster: connections are made anew with that identity. Must be called on a
    /// runtime.
    pub(crate) fn identify(&self, node: i32, cluster_id: String) {
        self.book.identify(node, cluster_id);
    }

    /// Who this node is to others.
    pub(crate) fn identity(&self) -> Identity {
        self.core().identity()
    }

    /// Where the other nodes are (`host:port`), replacing what was known; connections to new ones are opened and kept
    /// open, those to nodes that are gone are closed. This node's own entry is passed over. Must be called on a runtime.
    pub(crate) fn set_addresses(&self, addresses: BTreeMap<i32, String>) {
        self.book.set_addresses(addresses);
    }

    /// Sends a request and waits for its answer. `payloads` are those of an Append's entries.
    ///
    /// # Errors
    /// [`Error`]. A lane that is not connected fails at once.
    pub(crate) async fn call(
        &self,
        to: i32,
        lane: Lane,
        request: Request,
        payloads: Vec<Bytes>,
        timeout: Duration,
    ) -> Result<Response, Error> {
        let Some(peer) = self.book.peer(to) else {
            let reason = "its address is not known".to_owned();
            return Err(Error::Unreachable { node: to, reason });
        };
        peer.link(lane).call(request, payloads, timeout).await
    }

    /// One request to whoever listens at an address, over a connection of its own: to join, or to form a cluster.
    ///
    /// # Errors
    /// [`Error`], with node 0 as long as nobody has answered.
    pub(crate) async fn ask(
        &self,
        address: &str,
        request: Request,
        timeout: Duration,
    ) -> Result<Response, Error> {
        let answer = tokio::time::timeout(timeout, caller::ask(self.core(), address, request));
        answer.await.unwrap_or(Err(Error::Timeout { node: 0 }))
    }

    /// Asks a node whether it is there.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn ping(&self, node: i32, timeout: Duration) -> Result<(), Error> {
        let ping = Request::Ping(crate::proto::peer::Ping {});
        self.call(node, Lane::Heartbeat, ping, Vec::new(), timeout).await.map(|_| ())
    }

    /// Whether a node is there, by what is known, or was lost no longer ago than `lately`.
    pub(crate) fn was_alive(&self, node: i32, lately: Duration) -> bool {
        let alive = self.states().borrow().get(&node).is_some_and(|state| state.alive);
        alive || self.core().lost_at(node).is_some_and(|at| at.elapsed() < lately)
    }

    /// Whether a node was lost no longer ago than `lately`.
    pub(crate) fn lost_since(&self, lately: Duration) -> bool {
        self.core().last_lost_at().is_some_and(|at| at.elapsed() < lately)
    }

    /// The other nodes by id; changes when one comes, goes or was started again.
    pub(crate) fn states(&self) -> watch::Receiver<Arc<BTreeMap<i32, PeerState>>> {
        self.book.states()
    }
}
