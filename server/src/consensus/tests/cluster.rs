//! Nodes of a cluster in one process: real engines, real connections over loopback, one group.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::{
    Engine, Entry, EntryKind, Index, LogState, Offset, Options, PartitionId, PartitionLog,
    PayloadPart, RetentionClass,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::batch;
use crate::consensus::{
    Applied, Clock, Committed, Error, Group, Log, Network, ReplicaId, StateMachine, router::Router,
};
use crate::peer::{self, Identity, Incoming, Peers, Service};

/// The group of the tests.
pub(super) const GROUP: PartitionId = PartitionId(9);
/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What was applied: base offset and CRC of each batch, in the order of offsets. Applying one again changes nothing.
pub(super) type Applications = BTreeMap<i64, u32>;

/// A state machine that remembers all it was given.
#[derive(Debug, Default)]
pub(super) struct Journal {
    applied: Arc<Mutex<Applications>>,
}

impl StateMachine for Journal {
    type Log = PartitionLog;

    const IDEMPOTENT: bool = true;

    fn apply(&mut self, entry: &Committed) -> Bytes {
        if entry.kind == EntryKind::Batch {
            let header = jangbu_engine::batch::Header::parse_prefix(&entry.payload).unwrap();
            self.applied.lock().insert(entry.base_offset.0, header.crc);
        }
        Bytes::new()
    }

    fn checkpoint(&self) -> Bytes {
        let applied = self.applied.lock();
        let pairs = applied.iter().flat_map(|(offset, crc)| [*offset, i64::from(*crc)]);
        pairs.flat_map(i64::to_be_bytes).collect()
    }

    fn restore(&mut self, checkpoint: &[u8], _next_offset: Offset) -> Result<(), String> {
        let mut numbers = checkpoint.chunks(8).map(|n| i64::from_be_bytes(n.try_into().unwrap()));
        let mut applied = BTreeMap::new();
        while let (Some(offset), Some(crc)) = (numbers.next(), numbers.next()) {
            applied.insert(offset, u32::try_from(crc).unwrap());
        }
        *self.applied.lock() = applied;
        Ok(())
    }
}

/// Takes requests to the replicas of one node.
struct Host(Arc<Router>);

impl Service for Host {
    fn serve(&self, incoming: Incoming) {
        self.0.serve(incoming);
    }

    fn known_directory(&self, node: i32) -> Option<[u8; 16]> {
        u8::try_from(node).ok().map(|node| [node; 16])
    }

    fn steps_back(&self) -> bool {
        false
    }
}

/// A listener that runs.
pub(super) struct Listening {
    address: SocketAddr,
    draining: CancellationToken,
    task: JoinHandle<()>,
}

/// One node.
pub(super) struct Node {
    pub(super) id: i32,
    engine: Engine,
    pub(super) peers: Peers,
    pub(super) network: Network,
    listening: Option<Listening>,
    group: Option<(Group<Journal>, Arc<Mutex<Applications>>)>,
    dir: TempDir,
}

/// A cluster.
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    clock: Clock,
}

pub(super) fn replica(node: i32) -> ReplicaId {
    ReplicaId::new(u32::try_from(node).unwrap(), 0)
}

/// Waits until `ready` holds.
pub(super) async fn eventually(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !ready() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Node {
    fn new(id: i32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(&dir);
        let identity = Identity {
            node: id,
            cluster_id: "tests".to_owned(),
            directory: [u8::try_from(id).unwrap(); 16],
            incarnation: 1,
        };
        let peers = Peers::new(identity);
        let network = Network::new(peers.clone());
        Self { id, engine, peers, network, listening: None, group: None, dir }
    }

    async fn listen(&mut self, address: Option<SocketAddr>) {
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = TcpListener::bind(address.unwrap_or(any)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let draining = CancellationToken::new();
        let host = Arc::new(Host(Arc::clone(self.network.router())));
        let serving = peer::serve(listener, self.peers.clone(), host, draining.clone());
        self.listening = Some(Listening { address, draining, task: tokio::spawn(serving) });
    }

    pub(super) async fn start_group(&mut self, clock: Clock) {
        let log = self.log();
        let journal = Journal::default();
        let applied = Arc::clone(&journal.applied);
        let group = Group::start(replica(self.id), log, journal, &self.network, clock).await;
        self.group = Some((group.unwrap(), applied));
    }

    pub(super) fn log(&self) -> PartitionLog {
        self.engine.log(GROUP, RetentionClass::from_retention_ms(-1)).unwrap()
    }

    pub(super) fn group(&self) -> &Group<Journal> {
        &self.group.as_ref().expect("the group runs").0
    }

    /// Lets the log begin behind an entry, and forgets everything up to it.
    pub(super) async fn forget(&self, upto: Index) {
        let next = Index(upto.0 + 1);
        let entries = self.log().entries(upto, next, 1, PayloadPart::Header).unwrap();
        self.log().set_log_start(entries[0].next_offset()).unwrap();
        self.group().purge(upto, false).await.unwrap();
    }

    /// What the state machine was given.
    pub(super) fn applied(&self) -> Applications {
        self.group.as_ref().expect("the group runs").1.lock().clone()
    }

    /// All entries that are left in the log.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.log().entries(Index(0), Index(u64::MAX), usize::MAX, PayloadPart::Full).unwrap()
    }

    pub(super) fn state(&self) -> LogState {
        self.log().state()
    }

    /// Stops the process, as far as anybody can see, and starts it again; with the checkpoint that it had `before`, if
    /// one is given, as after a crash.
    pub(super) async fn restart(&mut self, clock: Clock, before: Option<Bytes>) {
        if let Some((group, _)) = self.group.take() {
            group.shutdown().await;
        }
        if let Some(checkpoint) = before {
            Log::save_checkpoint(&self.log(), checkpoint, None).unwrap();
        }
        self.engine.close().unwrap();
        self.engine = open(&self.dir);
        self.start_group(clock).await;
    }
}

fn open(dir: &TempDir) -> Engine {
    let failed = Arc::new(|error: &jangbu_engine::Error| panic!("{error}"));
    Engine::open(dir.path(), Options::default(), failed).unwrap()
}

impl Cluster {
    /// Nodes 1 to `count`, each with a replica that belongs to nothing yet.
    pub(super) async fn new(count: i32, clock: Clock) -> Self {
        let mut nodes = Vec::new();
        for id in 1..=count {
            let mut node = Node::new(id);
            node.listen(None).await;
            node.start_group(clock).await;
            nodes.push(node);
        }
        let cluster = Self { nodes, clock };
        for node in &cluster.nodes {
            node.peers.set_addresses(cluster.addresses());
        }
        cluster
    }

    /// Three nodes, of which the first leads.
    pub(super) async fn of_three() -> Self {
        let cluster = Self::new(3, Clock::Node).await;
        cluster.form(&[1, 2, 3]).await;
        cluster
    }

    /// Makes the replicas of these nodes a group that the first of them leads.
    pub(super) async fn form(&self, nodes: &[i32]) {
        for node in &self.nodes {
            let states = node.peers.states();
            eventually("the nodes see each other", || states.borrow().values().all(|s| s.alive))
                .await;
        }
        let voters: Vec<_> = nodes.iter().map(|node| replica(*node)).collect();
        let first = self.node(nodes[0]).group();
        first.initialize(&voters).await.unwrap();
        eventually("the first node leads", || first.leadership().local).await;
    }

    fn addresses(&self) -> BTreeMap<i32, String> {
        let listening = self.nodes.iter().map(|node| (node.id, node.listening.as_ref()));
        listening.filter_map(|(id, l)| Some((id, l?.address.to_string()))).collect()
    }

    pub(super) fn node(&self, id: i32) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("there is such a node")
    }

    pub(super) fn node_mut(&mut self, id: i32) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("there is such a node")
    }

    /// Stops the process of a node, as far as anybody can see, and starts it again.
    pub(super) async fn restart(&mut self, id: i32) {
        let clock = self.clock;
        self.node_mut(id).restart(clock, None).await;
    }

    /// Nobody reaches this node any more, and it reaches nobody.
    pub(super) fn cut(&mut self, id: i32) -> Listening {
        let node = self.node_mut(id);
        let listening = node.listening.take().expect("the node listens");
        node.peers.set_addresses(BTreeMap::new());
        listening.draining.cancel();
        listening
    }

    /// Undoes [`Cluster::cut`].
    pub(super) async fn heal(&mut self, id: i32, cut: Listening) {
        cut.task.await.unwrap();
        self.node_mut(id).listen(Some(cut.address)).await;
        let addresses = self.addresses();
        self.node(id).peers.set_addresses(addresses);
    }

    /// Lets this node's replica stand for election until it leads. No other one may have a longer log.
    pub(super) async fn elect(&self, id: i32) {
        self.elect_one(&[id]).await;
    }

    /// Lets one of these stand for election after the other until one of them leads, and returns it.
    pub(super) async fn elect_one(&self, ids: &[i32]) -> i32 {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let leads = |id: &&i32| self.node(**id).group().leadership().local;
        for next in ids.iter().cycle() {
            assert!(tokio::time::Instant::now() < deadline, "none of {ids:?} is elected");
            if let Some(leader) = ids.iter().find(leads) {
                return *leader;
            }
            self.node(*next).group().elect().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        unreachable!("a cycle of some nodes does not end")
    }

    /// Proposes batches one by one and waits for each.
    pub(super) async fn write(&self, id: i32, batches: u8) -> Vec<Applied> {
        let mut applied = Vec::new();
        for fill in 0..batches {
            applied.push(propose(self.node(id), batch(2, fill)).await.unwrap());
        }
        applied
    }

    /// Waits until these nodes hold the same log as `like` and have applied all of it; entry for entry.
    pub(super) async fn level(&self, like: i32, nodes: &[i32]) {
        let (end, applied) = (self.node(like).state(), self.node(like).applied());
        for id in nodes {
            let node = self.node(*id);
            eventually(&format!("node {id} is level with {like}"), || {
                node.state().last == end.last && node.applied() == applied
            })
            .await;
            let (own, other) = (node.entries(), self.node(like).entries());
            let first = own.first().unwrap().index.max(other.first().unwrap().index);
            let from = |entries: Vec<Entry>| {
                entries.into_iter().filter(|entry| entry.index >= first).collect::<Vec<_>>()
            };
            assert_eq!(from(own), from(other), "the logs of {id} and {like}");
            assert_eq!(node.state().end_offset, end.end_offset);
        }
    }
}

/// Proposes a batch and waits until it is applied.
pub(super) async fn propose(node: &Node, batch: Bytes) -> Result<Applied, Error> {
    node.group().propose(EntryKind::Batch, batch).await?.await
}
