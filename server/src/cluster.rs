//! This node among the others of its cluster: how it becomes part of one, and what it answers them.
//!
//! Invariants:
//! - A node says that it belongs to a cluster only once that is stored durably.
//! - A node with an empty data directory never votes in a cluster that exists: its votes may be what it has lost.
//!
//! Not here: the wire (`peer.rs`), Raft's messages (`consensus`), commands (`controller`).

mod addresses;
mod form;
mod heal;
mod identity;
mod join;
mod lead;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, OnceLock, Weak};

use jangbu_engine::PartitionId;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

pub(crate) use addresses::keep as keep_addresses;
pub(crate) use identity::{Directory, Standing, new_cluster_id};
pub(crate) use lead::run as lead;

use crate::broker::Broker;
use crate::config::{Config, Role};
use crate::consensus::Network;
use crate::controller::Controller;
use crate::error::Error;
use crate::health;
use crate::lookup;
use crate::peer::{Identity, Incoming, Peers, Request, Response, Service};
use crate::proto::peer::{Get, Got, Leading, Led, Prefer, Preferred};
use crate::status::Status;

/// Requests of other nodes that are carried out at the same time, beside Raft's.
const REQUESTS_MAX: usize = 1024;
/// Requests for keys that are carried out for clients of other nodes at the same time. Each may hold a mebibyte.
const LOOKUPS_MAX: usize = 64;

/// Where this node can be reached.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    /// Its id as it was started; 0 for one that the cluster is to give.
    pub(crate) node: i32,
    /// `host:port` for clients.
    pub(crate) kafka: String,
    /// `host:port` for other nodes; empty when it listens for none.
    pub(crate) peer: String,
    pub(crate) rack: String,
}

/// This node's part in its cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) peers: Peers,
    pub(crate) network: Network,
    pub(crate) directory: Directory,
    role: Role,
    own: Own,
    status: Arc<Status>,
    /// Where the nodes listen for each other, as far as this one knows.
    nodes: Mutex<BTreeMap<i32, String>>,
    /// What another node has made this one a part of.
    formed: watch::Sender<Option<Standing>>,
    /// Held while the directory becomes part of a cluster.
    forming: Mutex<()>,
    /// Once the metadata group runs here.
    controller: OnceLock<Arc<Controller>>,
    /// Once partitions run here.
    broker: OnceLock<Weak<Broker>>,
    requests: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
}

impl Cluster {
    /// What the data directory and the configuration make of this node. The standing is what the directory is already.
    ///
    /// # Errors
    /// [`Directory::standing`].
    pub(crate) fn open(
        config: &Config,
        directory: Directory,
        own: Own,
        status: Arc<Status>,
    ) -> Result<(Self, Option<Standing>), Error> {
        let role = config.role()?;
        let standing = directory.standing(config, &role)?;
        let (node, cluster_id) = match &standing {
            Some(standing) => (standing.node, standing.cluster_id.clone()),
            None => (own.node, String::new()),
        };
        let (incarnation, _) = Uuid::new_v4().as_u64_pair();
        let peers = Peers::new(Identity { node, cluster_id, directory: directory.id, incarnation });
        let nodes = role.nodes();
        let cluster = Self {
            network: Network::new(peers.clone()),
            peers,
            directory,
            role,
            own,
            status,
            nodes: Mutex::new(nodes),
            formed: watch::Sender::new(None),
            forming: Mutex::new(()),
            controller: OnceLock::new(),
            broker: OnceLock::new(),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
        };
        Ok((cluster, standing))
    }

    /// Makes this node part of a cluster, as long as that takes.
    ///
    /// # Errors
    /// [`Error::Engine`].
    pub(crate) async fn settle(self: &Arc<Self>) -> Result<Standing, Error> {
        let node = self.own.node;
        match &self.role {
            Role::Joiner(address) => self.join(vec![address.clone()]).await,
            Role::Member(nodes) => match self.role.voters() {
                voters if voters.first() == Some(&node) => self.form(nodes, voters).await,
                voters if voters.contains(&node) => self.wait_to_be_formed(nodes).await,
                _ => self.join(nodes.values().cloned().collect()).await,
            },
            // Its directory says all there is to say.
            Role::Alone => Err(Error::Start("a node that is alone forms no cluster".to_owned())),
        }
    }

    /// This node has this standing from now on, and talks to the others.
    pub(crate) fn take_part(&self, standing: &Standing) {
        let identity = self.peers.identity();
        if (identity.node, &identity.cluster_id) != (standing.node, &standing.cluster_id) {
            self.peers.identify(standing.node, standing.cluster_id.clone());
        }
        self.nodes.lock().clone_from(&standing.nodes);
        self.peers.set_addresses(standing.nodes.clone());
    }

    /// The metadata group runs here: commands of other nodes can be answered.
    pub(crate) fn set_controller(&self, controller: Arc<Controller>) {
        // A node starts once.
        let _ = self.controller.set(controller);
    }

    /// Partitions run here: what concerns them can be answered.
    pub(crate) fn set_broker(&self, broker: &Arc<Broker>) {
        // A node starts once.
        let _ = self.broker.set(Arc::downgrade(broker));
    }

    fn answer_leading(&self, leading: &Leading) -> Result<Led, String> {
        let broker = self.broker.get().and_then(Weak::upgrade).ok_or("the node is starting")?;
        Ok(Led { groups: health::led(&broker, &leading.groups) })
    }

    async fn answer_prefer(&self, prefer: Prefer) -> Result<Preferred, String> {
        let broker = self.broker.get().and_then(Weak::upgrade).ok_or("the node is starting")?;
        let result = health::prefer(&broker, PartitionId(prefer.group)).await;
        Ok(Preferred { result: result.into() })
    }

    async fn answer_get(&self, get: Get) -> Result<Got, String> {
        let broker = self.broker.get().and_then(Weak::upgrade).ok_or("the node is starting")?;
        lookup::serve(&broker, get).await
    }

    /// The metadata group, once it runs here.
    pub(crate) fn controller(&self) -> Option<&Arc<Controller>> {
        self.controller.get()
    }

    /// Where this node can be reached.
    pub(crate) fn own(&self) -> &Own {
        &self.own
    }

    /// Where the nodes listen for each other, as far as this one knows.
    pub(crate) fn nodes(&self) -> BTreeMap<i32, String> {
        self.nodes.lock().clone()
    }

    /// The other nodes that do not answer, for people.
    pub(crate) fn missing(&self) -> String {
        let own = self.peers.identity().node;
        let states = self.peers.states().borrow().clone();
        let nodes = self.nodes.lock();
        let answers = |id: &i32| states.get(id).is_some_and(|state| state.alive);
        let missing: Vec<_> = nodes.iter().filter(|(id, _)| **id != own && !answers(id)).collect();
        names(&missing)
    }

    /// Answers a request by a task of its own.
    fn spawn<F>(self: &Arc<Self>, incoming: Incoming, answer: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = Result<Response, String>> + Send + 'static,
    {
        self.spawn_within(&self.requests, incoming, answer);
    }

    /// The same, as many at a time as there are permits.
    fn spawn_within<F>(
        self: &Arc<Self>,
        permits: &Arc<Semaphore>,
        incoming: Incoming,
        answer: impl FnOnce(Arc<Self>) -> F,
    ) where
        F: Future<Output = Result<Response, String>> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            incoming.reply.send(Err("as many requests as it takes are under way".to_owned()));
            return;
        };
        let answer = answer(Arc::clone(self));
        tokio::spawn(async move {
            incoming.reply.send(answer.await);
            drop(permit);
        });
    }
}

/// Answers other nodes.
#[derive(Debug)]
pub(crate) struct Answers(pub(crate) Arc<Cluster>);

impl Service for Answers {
    fn serve(&self, mut incoming: Incoming) {
        let cluster = &self.0;
        match std::mem::replace(&mut incoming.request, Request::Ping(Default::default())) {
            Request::Forward(forward) => cluster.spawn(incoming, async move |cluster| {
                let controller = cluster.controller.get().ok_or("the node is starting")?;
                controller.serve_forward(forward).await.map(Response::Forwarded)
            }),
            Request::Join(join) => cluster.spawn(incoming, async move |cluster| {
                cluster.answer_join(join).await.map(Response::Joined)
            }),
            Request::Form(form) => {
                let from = incoming.from;
                cluster.spawn(incoming, async move |cluster| {
                    cluster.answer_form(from, form).await.map(Response::Formed)
                });
            }
            Request::Prefer(prefer) => cluster.spawn(incoming, async move |cluster| {
                cluster.answer_prefer(prefer).await.map(Response::Preferred)
            }),
            Request::Get(get) => {
                cluster.spawn_within(&cluster.lookups, incoming, async move |cluster| {
                    cluster.answer_get(get).await.map(Response::Got)
                });
            }
            Request::Leading(leading) => cluster.spawn(incoming, async move |cluster| {
                cluster.answer_leading(&leading).map(Response::Led)
            }),
            Request::Quorum(_) => {
                let controller = cluster.controller.get().ok_or("the node is starting".to_owned());
                let state = controller.map(|controller| controller.quorum_here());
                incoming.reply.send(state.map(Response::Quorum));
            }
            Request::Ping(_) => incoming.reply.send(Ok(Response::Pong(Default::default()))),
            raft => {
                incoming.request = raft;
                cluster.network.router().serve(incoming);
            }
        }
    }

    fn known_directory(&self, node: i32) -> Option<[u8; 16]> {
        let image = self.0.controller.get()?.image();
        image.brokers.get(&node).map(|broker| broker.directory).filter(|id| *id != [0; 16])
    }

    fn steps_back(&self) -> bool {
        let broker = self.0.broker.get().and_then(Weak::upgrade);
        broker.is_some_and(|broker| broker.steps_back())
    }
}

/// Nodes with their addresses: `node 2 (a:1)`, `nodes 2 (a:1), 3 (b:1)`; empty for none.
fn names(nodes: &[(&i32, &String)]) -> String {
    let list: Vec<_> = nodes.iter().map(|(id, address)| format!("{id} ({address})")).collect();
    match list.len() {
        0 => String::new(),
        1 => format!("node {}", list.concat()),
        _ => format!("nodes {}", list.join(", ")),
    }
}
