//! One node: opens the engine, takes part in its cluster, listens, and ends in order.
//!
//! Start: ports and engine (`node/opened.rs`) → cluster (`cluster.rs`) → metadata group → partitions → clients. Stop:
//! listeners → connections (answering what they have taken in) → partitions (checkpoints) → metadata → engine.

mod opened;
mod parts;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answers::AnswerRoom;
use crate::broker::Broker;
use crate::cluster;
use crate::config::Config;
use crate::connection::Admission;
use crate::controller::Controller;
use crate::error::Error;
use crate::fetch_sessions::{FetchSessions, Limits};
use crate::groups::{self, Coordinator};
use crate::metrics::Metrics;
use crate::replicas::Replicas;
use crate::{compaction, health, housekeeping, idle, listener};
use opened::{Opened, Ports};

/// How long it takes until the log says again which partitions have no leader.
const LEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long leaderships may take to be handed over and connections to be answered at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// How much of that is for handing over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);
/// When the metadata group does not answer, what waits for it is tried again after this.
const LEVEL_RETRY: Duration = Duration::from_secs(1);

/// A running node.
#[derive(Debug)]
pub struct Node {
    broker: Arc<Broker>,
    tasks: TaskTracker,
    kafka_addr: SocketAddr,
    http_addr: SocketAddr,
    failed: CancellationToken,
}

impl Node {
    /// Starts a node and returns once it serves clients. A node of a cluster waits for the others as long as it takes,
    /// and answers on its HTTP port meanwhile.
    ///
    /// # Errors
    /// [`Error`], each with what to do about it.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let started = Self::start_until(config, std::future::pending()).await?;
        started.ok_or_else(|| Error::Start("the node was stopped while it started".to_owned()))
    }

    /// Starts a node unless `stop` resolves before it serves clients; then it ends in order, and there is none.
    ///
    /// # Errors
    /// [`Error`], each with what to do about it.
    pub async fn start_until(
        config: Config,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<Option<Self>, Error> {
        config.validate()?;
        let (opened, ports) = Opened::open(config).await?;
        let started = tokio::select! {
            started = Self::serve(&opened, ports) => started.map(Some),
            () = stop => Ok(None),
            () = opened.failed.cancelled() => {
                Err(Error::Start("the disk has failed; the log tells how".to_owned()))
            }
        };
        if !matches!(started, Ok(Some(_))) {
            opened.give_up().await;
        }
        started
    }

    async fn serve(opened: &Opened, ports: Ports) -> Result<Self, Error> {
        let controller = opened.take_part().await?;
        let metrics = Arc::new(Metrics::default());
        let replicas = Arc::new(Replicas::new(
            controller.broker(),
            opened.engine.clone(),
            Arc::clone(&controller),
            Arc::clone(&metrics),
            opened.cluster.network.clone(),
        ));
        let broker = Arc::new(Broker {
            node: controller.broker(),
            admission: Admission::new(opened.sizes.requests),
            answers: AnswerRoom::new(opened.sizes.answers),
            metrics,
            config: opened.config.clone(),
            engine: opened.engine.clone(),
            controller: Arc::clone(&controller),
            replicas,
            peers: opened.cluster.peers.clone(),
            in_sync: Default::default(),
            stalled: Default::default(),
            compaction: Default::default(),
            catch_up: Arc::clone(opened.cluster.network.throttle()),
            disk: ports.disk,
            sessions: FetchSessions::new(Limits::default()),
            groups: Coordinator::default(),
            recoding: Semaphore::new(thread::available_parallelism().map_or(1, usize::from)),
            quotas: crate::quotas::Quotas::default(),
            departed: parking_lot::Mutex::default(),
            clients: parking_lot::Mutex::new(opened.draining.child_token()),
            stopping: AtomicBool::new(false),
            draining: opened.draining.clone(),
        });
        broker.replicas.reconcile().await.map_err(Error::Start)?;
        opened.status.set_broker(Arc::clone(&broker));
        opened.cluster.set_broker(&broker);
        let node = Self {
            broker,
            tasks: opened.tasks.clone(),
            kafka_addr: opened.kafka_addr,
            http_addr: opened.http_addr,
            failed: opened.failed.clone(),
        };
        node.spawn(ports.kafka, opened);
        node.spawn_cluster(&controller, opened);
        Ok(node)
    }

    fn spawn(&self, kafka: TcpListener, opened: &Opened) {
        let broker = &self.broker;
        self.tasks.spawn(listener::run(Arc::clone(broker), kafka, self.tasks.clone()));
        self.tasks.spawn(idle::run(Arc::clone(broker)));
        self.tasks.spawn(housekeeping::run(Arc::clone(broker)));
        self.tasks.spawn(compaction::background::run(Arc::clone(broker)));
        self.tasks.spawn(health::run(Arc::clone(broker)));
        self.tasks.spawn(groups::coordinator::run(Arc::clone(broker)));
        let watching = Arc::clone(broker);
        self.tasks.spawn(async move { watching.disk.watch(&watching.draining).await });
        self.tasks.spawn(keep_level(Arc::clone(broker), self.failed.clone()));
        let (broker, status) = (Arc::clone(broker), Arc::clone(&opened.status));
        status.proceed("partitions to elect their leaders");
        self.tasks.spawn(async move {
            let leaders = async {
                while !broker.replicas.wait_for_leaders(LEADERS_TIMEOUT).await {
                    status.wait_for("partitions to elect their leaders".to_owned());
                }
            };
            tokio::select! {
                () = leaders => status.ready(),
                () = broker.draining.cancelled() => {}
            }
        });
    }

    fn spawn_cluster(&self, controller: &Arc<Controller>, opened: &Opened) {
        let (cluster, draining) = (&opened.cluster, &opened.draining);
        let keeping = cluster::keep_addresses(
            Arc::clone(cluster),
            Arc::clone(controller),
            draining.clone(),
            self.failed.clone(),
        );
        self.tasks.spawn(keeping);
        if opened.has_peers {
            let leading =
                cluster::lead(Arc::clone(cluster), Arc::clone(&self.broker), draining.clone());
            self.tasks.spawn(leading);
        }
    }

    /// This node's id.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.broker.id()
    }

    /// Where Kafka clients connect; the port is the real one when 0 was asked for.
    #[must_use]
    pub fn kafka_addr(&self) -> SocketAddr {
        self.kafka_addr
    }

    /// Where the HTTP port listens.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Resolves when the node must end: a write or sync has failed, or a partition cannot run.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Hands over what it leads, stops taking requests, answers what was taken in, stores checkpoints and closes the
    /// engine.
    pub async fn shutdown(self) {
        health::hand_over(&self.broker, HAND_OVER_TIMEOUT).await;
        let deadline = tokio::time::Instant::now() + DRAIN_TIMEOUT;
        self.broker.draining.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!("connections were still busy after {DRAIN_TIMEOUT:?}");
        }
        self.broker.replicas.shutdown().await;
        self.broker.controller.shutdown().await;
        opened::close(self.broker.engine.clone()).await;
    }
}

/// Starts and stops partitions whenever the metadata changes.
async fn keep_level(broker: Arc<Broker>, failed: CancellationToken) {
    let mut changes = broker.controller.changes();
    loop {
        changes.mark_unchanged();
        let done = match broker.replicas.reconcile().await {
            Ok(done) => done,
            Err(_) if broker.draining.is_cancelled() => return,
            Err(error) => {
                tracing::error!(%error, "the node cannot go on");
                failed.cancel();
                return;
            }
        };
        tokio::select! {
            () = broker.draining.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LEVEL_RETRY), if !done => {}
        }
    }
}
