//! The other nodes: where they are, and whether they are there.
//!
//! Invariant: what the tasks of a peer that was given up still find out changes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::Instant;

use super::caller::Peer;
use super::{Identity, PeerState, Service, Settings};

/// What each node is known to be.
pub(super) type States = Arc<BTreeMap<i32, PeerState>>;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) settings: Settings,
    identity: RwLock<Identity>,
    states: watch::Sender<States>,
    /// When nodes were lost that had been there.
    lost: Mutex<BTreeMap<i32, Instant>>,
    /// Who knows the directories, once requests are served.
    service: Mutex<Option<Weak<dyn Service>>>,
}

impl Core {
    pub(super) fn identity(&self) -> Identity {
        self.identity.read().clone()
    }

    /// Runs with the identity, without a copy of it.
    pub(super) fn with_identity<T>(&self, run: impl FnOnce(&Identity) -> T) -> T {
        run(&self.identity.read())
    }

    pub(super) fn known_directory(&self, node: i32) -> Option<[u8; 16]> {
        let service = self.service.lock().as_ref().and_then(Weak::upgrade);
        service.filter(|_| node != 0)?.known_directory(node)
    }

    /// From now on this service is asked for the directories of nodes.
    pub(super) fn serve(&self, service: &Arc<dyn Service>) {
        *self.service.lock() = Some(Arc::downgrade(service));
    }

    /// A node has answered.
    pub(super) fn found(&self, peer: &Peer, incarnation: u64) {
        if self.change(peer, |_| PeerState { alive: true, incarnation, steps_back: false }) {
            tracing::info!(node = peer.node, incarnation, "the node is there");
        }
    }

    /// A node has said whether others should lead what it could.
    pub(super) fn told(&self, peer: &Peer, steps_back: bool) {
        if self.change(peer, |state| PeerState { steps_back, ..state }) {
            tracing::info!(
                node = peer.node,
                steps_back,
                "the node steps back as a leader, or no more"
            );
        }
    }

    /// A node does not answer any more.
    pub(super) fn lost(&self, peer: &Peer) {
        if self.change(peer, |state| PeerState { alive: false, ..state }) {
            self.lost.lock().insert(peer.node, Instant::now());
            tracing::warn!(node = peer.node, "the node does not answer any more");
        }
    }

    /// When a node was lost last.
    pub(super) fn lost_at(&self, node: i32) -> Option<Instant> {
        self.lost.lock().get(&node).copied()
    }

    /// When a node was lost last, whichever it was.
    pub(super) fn last_lost_at(&self) -> Option<Instant> {
        self.lost.lock().values().max().copied()
    }

    fn change(&self, peer: &Peer, change: impl FnOnce(PeerState) -> PeerState) -> bool {
        self.states.send_if_modified(|states| {
            let Some(before) = states.get(&peer.node).copied() else { return false };
            let after = change(before);
            if after == before || peer.stop.is_cancelled() {
                return false;
            }
            Arc::make_mut(states).insert(peer.node, after);
            true
        })
    }
}

/// The other nodes of the cluster.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) core: Arc<Core>,
    peers: RwLock<BTreeMap<i32, Arc<Peer>>>,
}

impl Book {
    pub(super) fn new(identity: Identity, settings: Settings) -> Self {
        let core = Arc::new(Core {
            settings,
            identity: RwLock::new(identity),
            states: watch::Sender::default(),
            lost: Mutex::default(),
            service: Mutex::default(),
        });
        Self { core, peers: RwLock::default() }
    }

    pub(super) fn peer(&self, node: i32) -> Option<Arc<Peer>> {
        self.peers.read().get(&node).cloned()
    }

    pub(super) fn states(&self) -> watch::Receiver<States> {
        self.core.states.subscribe()
    }

    /// Another identity: all connections are made anew.
    pub(super) fn identify(&self, node: i32, cluster_id: String) {
        let mut peers = self.peers.write();
        let mut identity = self.core.identity.write();
        if identity.node == node && identity.cluster_id == cluster_id {
            return;
        }
        (identity.node, identity.cluster_id) = (node, cluster_id);
        drop(identity);
        let given_up = std::mem::take(&mut *peers);
        let addresses = given_up.values().map(|peer| (peer.node, peer.address.clone())).collect();
        for peer in given_up.values() {
            peer.stop("this node has another identity now");
        }
        self.replace(&mut peers, addresses);
    }

    /// Other addresses: peers that are the same stay connected.
    pub(super) fn set_addresses(&self, addresses: BTreeMap<i32, String>) {
        self.replace(&mut self.peers.write(), addresses);
    }

    fn replace(&self, peers: &mut BTreeMap<i32, Arc<Peer>>, mut addresses: BTreeMap<i32, String>) {
        addresses.remove(&self.core.with_identity(|identity| identity.node));
        peers.retain(|node, peer| {
            let same = addresses.get(node) == Some(&peer.address);
            if same {
                peer.retry();
            } else {
                peer.stop("it is not at this address any more");
            }
            same
        });
        // Before the new ones begin: what they find out has its place then.
        self.core.states.send_if_modified(|states| {
            let known = |node: &i32| states.get(node).copied().unwrap_or_default();
            let after = addresses.keys().map(|node| (*node, known(node))).collect();
            let changed = **states != after;
            if changed {
                *states = Arc::new(after);
            }
            changed
        });
        for (node, address) in addresses {
            let core = &self.core;
            peers.entry(node).or_insert_with(|| Peer::start(core, node, address));
        }
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        for peer in self.peers.get_mut().values() {
            peer.stop("this node stops");
        }
    }
}
