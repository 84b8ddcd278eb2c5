//! A node whose ports are bound and whose engine is open, on its way to serving.
//!
//! A node of a cluster may be on its way for as long as the others are missing. It answers `/healthz` and `/readyz`
//! meanwhile, and whoever stops it stops it in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{Engine, RetentionClass};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::parts::{self, bind, host_port, local, peer_address, told};
use crate::cluster::{Answers, Cluster, Directory, Own, Standing, new_cluster_id};
use crate::config::Config;
use crate::consensus;
use crate::controller::{self, Broker as Address, Controller, Holder};
use crate::disk::Disk;
use crate::error::Error;
use crate::memory::Sizes;
use crate::replicas::{METADATA, replica_id};
use crate::status::Status;
use crate::{http, peer};

/// How long the metadata group of a cluster of one may take to elect its leader.
const METADATA_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a node that waits for others looks who is missing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The parts that are there before the node is part of its cluster.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) config: Config,
    pub(super) sizes: Sizes,
    pub(super) engine: Engine,
    pub(super) cluster: Arc<Cluster>,
    /// What the data directory says the node is already.
    standing: Option<Standing>,
    pub(super) status: Arc<Status>,
    pub(super) kafka_addr: SocketAddr,
    pub(super) http_addr: SocketAddr,
    /// Whether other nodes can connect.
    pub(super) has_peers: bool,
    pub(super) tasks: TaskTracker,
    pub(super) draining: CancellationToken,
    pub(super) failed: CancellationToken,
}

/// What becomes part of the node once it serves.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) kafka: TcpListener,
    pub(super) disk: Disk,
}

impl Opened {
    /// Binds the ports, opens the engine and answers HTTP and other nodes.
    pub(super) async fn open(config: Config) -> Result<(Self, Ports), Error> {
        let failed = CancellationToken::new();
        let kafka = bind(config.listen, "--listen").await?;
        let http = bind(config.http, "--http").await?;
        let sizes = Sizes::of(&config);
        sizes.log();
        let options = parts::engine_options(&config, &sizes)?;
        let engine = parts::open_engine(&config, options.clone(), failed.clone()).await?;
        let disk = parts::open_disk(&config, &options)?;
        let closing = engine.clone();
        let opened = Self::with_engine(config, sizes, engine, (&kafka, http), failed).await;
        if opened.is_err() {
            close(closing).await;
        }
        Ok((opened?, Ports { kafka, disk }))
    }

    async fn with_engine(
        config: Config,
        sizes: Sizes,
        engine: Engine,
        (kafka, http): (&TcpListener, TcpListener),
        failed: CancellationToken,
    ) -> Result<Self, Error> {
        let (kafka_addr, http_addr) = (local(kafka)?, local(&http)?);
        let directory = Directory::open(engine.clone())?;
        let role = config.role()?;
        let node = directory.node_of(&config, &role)?;
        let listener = parts::bind_peers(&config, &role, node).await?;
        let listening = listener.as_ref().map(local).transpose()?;
        let status = Arc::new(Status::default());
        let own = Own {
            node,
            kafka: host_port(&told(config.advertise.as_deref(), kafka_addr)),
            peer: peer_address(&config, &role, node, listening),
            rack: config.rack.clone(),
        };
        let (cluster, standing) = Cluster::open(&config, directory, own, Arc::clone(&status))?;
        let cluster = Arc::new(cluster);
        let (tasks, draining) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(http::run(Arc::clone(&status), http, draining.clone()));
        let has_peers = listener.is_some();
        if let Some(listener) = listener {
            let answers = Arc::new(Answers(Arc::clone(&cluster)));
            let peers = cluster.peers.clone();
            tasks.spawn(peer::serve(listener, peers, answers, draining.clone()));
        }
        Ok(Self {
            config,
            sizes,
            engine,
            cluster,
            standing,
            status,
            kafka_addr,
            http_addr,
            has_peers,
            tasks,
            draining,
            failed,
        })
    }

    /// Becomes part of the cluster and returns once the metadata is here and knows this node.
    pub(super) async fn take_part(&self) -> Result<Arc<Controller>, Error> {
        let mut standing = match &self.standing {
            Some(standing) => standing.clone(),
            None => self.cluster.settle().await?,
        };
        self.cluster.take_part(&standing);
        let address = self.address(standing.node);
        let controller = self.start_controller(&standing, &address).await?;
        self.wait_for_metadata(&controller, &standing).await?;
        let found = self.agree_on_cluster(&controller, &standing).await?;
        if standing.cluster_id.is_empty() {
            self.cluster.directory.set_cluster_id(&found)?;
            standing.cluster_id = found;
            self.cluster.take_part(&standing);
        }
        self.register(&controller, &address).await?;
        Ok(controller)
    }

    /// What the metadata is to know of this node.
    fn address(&self, id: i32) -> Address {
        let (host, port) = told(self.config.advertise.as_deref(), self.kafka_addr);
        let own = self.cluster.own();
        Address {
            id,
            host,
            port,
            rack: own.rack.clone(),
            peer: own.peer.clone(),
            directory: self.cluster.directory.id,
            ..Address::default()
        }
    }

    async fn start_controller(
        &self,
        standing: &Standing,
        address: &Address,
    ) -> Result<Arc<Controller>, Error> {
        let replica = replica_id(standing.node);
        let log = self.engine.log(METADATA, RetentionClass::from_retention_ms(-1))?;
        let started = parts::broker_values(&self.config, self.kafka_addr, address);
        let holder = Holder { broker: standing.node, started };
        let (network, peers) = (&self.cluster.network, self.cluster.peers.clone());
        let controller = Controller::start(replica, log, holder, network, peers).await;
        let controller = Arc::new(controller.map_err(Error::Start)?);
        self.cluster.set_controller(Arc::clone(&controller));
        if !standing.voters.is_empty() {
            let voters: Vec<_> = standing.voters.iter().map(|id| replica_id(*id)).collect();
            controller.bootstrap(&voters).await.map_err(|e| Error::Start(e.to_string()))?;
        }
        Ok(controller)
    }

    /// Waits until this node has all metadata there was when it started: a cluster of one half a minute, others as long
    /// as it takes.
    async fn wait_for_metadata(
        &self,
        controller: &Controller,
        standing: &Standing,
    ) -> Result<(), Error> {
        if standing.nodes.len() < 2 && standing.voters == [standing.node] {
            if controller.wait_for_leader(METADATA_TIMEOUT).await {
                return Ok(());
            }
            let text = format!("the metadata group has no leader after {METADATA_TIMEOUT:?}");
            return Err(Error::Start(text));
        }
        loop {
            if controller.wait_for_leader(LOOK_EVERY).await {
                match controller.linearize().await {
                    Ok(()) => return Ok(()),
                    Err(consensus::Error::Stopped) => return Err(stopped()),
                    Err(_) => {}
                }
            }
            let missing = self.cluster.missing();
            self.status.wait_for(match missing.as_str() {
                "" => "the metadata group to elect its leader".to_owned(),
                _ => missing,
            });
        }
    }

    /// The cluster's id by its metadata; a new one is recorded there.
    async fn agree_on_cluster(
        &self,
        controller: &Controller,
        standing: &Standing,
    ) -> Result<String, Error> {
        let known = || controller.image().cluster_id.clone();
        while known().is_empty() {
            let id = match standing.cluster_id.as_str() {
                "" => new_cluster_id(),
                id => id.to_owned(),
            };
            let last = self.cluster.nodes().into_keys().max().unwrap_or(0).max(standing.node);
            self.retried(controller.init_cluster(id, last).await)?;
        }
        let found = known();
        if !standing.cluster_id.is_empty() && standing.cluster_id != found {
            return Err(Error::OtherCluster { stored: standing.cluster_id.clone(), found });
        }
        Ok(found)
    }

    /// Makes the metadata know where this node is, if it does not.
    async fn register(&self, controller: &Controller, address: &Address) -> Result<(), Error> {
        let is_known = || {
            let image = controller.image();
            let known = image.brokers.get(&address.id);
            known.is_some_and(|known| {
                *known == Address { draining: known.draining, ..address.clone() }
            })
        };
        while !is_known() {
            let registered = controller.register_broker(address).await;
            match &registered {
                Err(controller::Error::OtherDirectory) => {
                    return Err(Error::OtherDirectory { node: address.id });
                }
                Err(controller::Error::UnknownBroker) => {
                    return Err(Error::Removed { node: address.id });
                }
                _ => self.retried(registered.map(|_| ()))?,
            }
        }
        Ok(())
    }

    /// A command of the start that found no leader is given again.
    fn retried(&self, result: Result<(), controller::Error>) -> Result<(), Error> {
        match result {
            Ok(()) => Ok(()),
            Err(controller::Error::Consensus(consensus::Error::Stopped)) => Err(stopped()),
            Err(controller::Error::Consensus(_)) => {
                self.status.wait_for("the metadata group to elect its leader".to_owned());
                Ok(())
            }
            Err(error) => Err(Error::Start(error.to_string())),
        }
    }

    /// Ends a start that came to nothing.
    pub(super) async fn give_up(&self) {
        self.draining.cancel();
        self.tasks.close();
        if tokio::time::timeout(super::DRAIN_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("connections were still busy after {:?}", super::DRAIN_TIMEOUT);
        }
        if let Some(controller) = self.cluster.controller() {
            controller.shutdown().await;
        }
        close(self.engine.clone()).await;
    }
}

fn stopped() -> Error {
    Error::Start("the metadata group has stopped; the log tells why".to_owned())
}

/// Flushes and closes the engine.
pub(super) async fn close(engine: Engine) {
    match tokio::task::spawn_blocking(move || engine.close()).await {
        Ok(Ok(())) => tracing::info!("stopped"),
        Ok(Err(error)) => tracing::error!(%error, "the engine did not close cleanly"),
        Err(error) => tracing::error!(%error, "the engine could not be closed"),
    }
}
