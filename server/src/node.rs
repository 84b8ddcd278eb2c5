//! One node: opens the engine, starts consensus, listens, and ends in order.
//!
//! Start: engine → metadata group → partitions → listeners. Stop: listeners → connections (answering what
//! they have taken in) → partitions (checkpoints) → metadata → engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use jangbu_engine::{Engine, Options, RetentionClass};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::answers::AnswerRoom;
use crate::broker::Broker;
use crate::config::{Config, parse_host_port};
use crate::configs::BrokerValues;
use crate::connection::Admission;
use crate::controller::{Broker as Address, Controller, Holder};
use crate::disk::Disk;
use crate::error::Error;
use crate::fetch_sessions::{FetchSessions, Limits};
use crate::memory::Sizes;
use crate::metrics::Metrics;
use crate::replicas::{METADATA, Replicas, replica_id};
use crate::{disk, housekeeping, http, idle, listener};

/// How long the metadata group may take to elect its leader.
const METADATA_TIMEOUT: Duration = Duration::from_secs(30);
/// How long connections may take to be answered at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// The node value that says whose data directory it is.
const NODE_ID: &str = "node.id";

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
    /// Starts a node and returns once it listens.
    ///
    /// # Errors
    /// [`Error`], each with what to do about it.
    pub async fn start(config: Config) -> Result<Self, Error> {
        config.validate()?;
        let failed = CancellationToken::new();
        let kafka = bind(config.listen, "--listen").await?;
        let http = bind(config.http, "--http").await?;
        let (kafka_addr, http_addr) = (local(&kafka)?, local(&http)?);
        let sizes = Sizes::of(&config);
        sizes.log();
        let options = engine_options(&config, &sizes)?;
        let engine = open_engine(&config, options.clone(), failed.clone()).await?;
        let disk = open_disk(&config, &options)?;
        check_owner(&engine, config.node)?;
        let address = address(&config, kafka_addr);
        let started = broker_values(&config, kafka_addr, &address);
        let controller = start_controller(&engine, &address, started).await?;
        let controller = Arc::new(controller);
        let metrics = Arc::new(Metrics::default());
        let replicas = Arc::new(Replicas::new(
            config.node,
            engine.clone(),
            Arc::clone(&controller),
            Arc::clone(&metrics),
        ));
        let broker = Arc::new(Broker {
            admission: Admission::new(sizes.requests),
            answers: AnswerRoom::new(sizes.answers),
            metrics,
            config,
            engine,
            controller,
            replicas,
            disk,
            sessions: FetchSessions::new(Limits::default()),
            recoding: Semaphore::new(thread::available_parallelism().map_or(1, usize::from)),
            draining: CancellationToken::new(),
        });
        broker.replicas.reconcile().await.map_err(Error::Start)?;
        let node = Self { broker, tasks: TaskTracker::new(), kafka_addr, http_addr, failed };
        node.spawn(kafka, http);
        Ok(node)
    }

    fn spawn(&self, kafka: TcpListener, http: TcpListener) {
        let ready = Arc::new(AtomicBool::new(false));
        let broker = &self.broker;
        self.tasks.spawn(listener::run(Arc::clone(broker), kafka, self.tasks.clone()));
        self.tasks.spawn(http::run(Arc::clone(broker), Arc::clone(&ready), http));
        self.tasks.spawn(idle::run(Arc::clone(broker)));
        self.tasks.spawn(housekeeping::run(Arc::clone(broker)));
        let watching = Arc::clone(broker);
        self.tasks.spawn(async move { watching.disk.watch(&watching.draining).await });
        self.tasks.spawn(keep_level(Arc::clone(broker), self.failed.clone()));
        let broker = Arc::clone(broker);
        self.tasks.spawn(async move {
            let led = broker.replicas.wait_for_leaders(METADATA_TIMEOUT);
            tokio::select! {
                led = led => ready.store(led, Ordering::Release),
                () = broker.draining.cancelled() => {}
            }
        });
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

    /// Stops taking requests, answers what was taken in, stores checkpoints and closes the engine.
    pub async fn shutdown(self) {
        self.broker.draining.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("connections were still busy after {DRAIN_TIMEOUT:?}");
        }
        self.broker.replicas.shutdown().await;
        self.broker.controller.shutdown().await;
        let engine = self.broker.engine.clone();
        match tokio::task::spawn_blocking(move || engine.close()).await {
            Ok(Ok(())) => tracing::info!("stopped"),
            Ok(Err(error)) => tracing::error!(%error, "the engine did not close cleanly"),
            Err(error) => tracing::error!(%error, "the engine could not be closed"),
        }
    }
}

/// Starts and stops partitions whenever the metadata changes.
async fn keep_level(broker: Arc<Broker>, failed: CancellationToken) {
    let mut changes = broker.controller.changes();
    loop {
        changes.mark_unchanged();
        if let Err(error) = broker.replicas.reconcile().await {
            if broker.draining.is_cancelled() {
                return;
            }
            tracing::error!(%error, "the node cannot go on");
            failed.cancel();
            return;
        }
        tokio::select! {
            () = broker.draining.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, flag, source })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|e| Error::Start(e.to_string()))
}

/// The engine's sizes, smaller on a small volume.
fn engine_options(config: &Config, sizes: &Sizes) -> Result<Options, Error> {
    let unusable = |error: std::io::Error| {
        let text = format!("the data directory {} cannot be used: {error}", config.data.display());
        Error::Start(text)
    };
    std::fs::create_dir_all(&config.data).map_err(unusable)?;
    let (total_bytes, _) = disk::volume(&config.data).map_err(unusable)?;
    let options = Options { accept_loss: config.accept_loss, ..sizes.engine().fit(total_bytes) };
    options.validate().map_err(Error::Start)?;
    Ok(options)
}

fn open_disk(config: &Config, options: &Options) -> Result<Disk, Error> {
    let (total_bytes, _) =
        disk::volume(&config.data).map_err(|error| Error::Start(error.to_string()))?;
    let reserve = config.disk_reserve_bytes;
    let reserve = reserve.unwrap_or_else(|| disk::default_reserve(total_bytes, options));
    Ok(Disk::new(config.data.clone(), reserve))
}

async fn open_engine(
    config: &Config,
    options: Options,
    failed: CancellationToken,
) -> Result<Engine, Error> {
    let dir = config.data.clone();
    let on_failure = Arc::new(move |error: &jangbu_engine::Error| {
        tracing::error!(%error, "the disk has failed; the node ends");
        failed.cancel();
    });
    let opening = tokio::task::spawn_blocking(move || Engine::open(&dir, options, on_failure));
    Ok(opening.await.map_err(|e| Error::Start(e.to_string()))??)
}

/// A data directory belongs to one node for ever: its votes are that node's.
fn check_owner(engine: &Engine, node: i32) -> Result<(), Error> {
    let given = node.to_string();
    match engine.node_value(NODE_ID)? {
        None => Ok(engine.set_node_value(NODE_ID, given.as_bytes())?),
        Some(stored) if stored == given.as_bytes() => Ok(()),
        Some(stored) => {
            let stored = String::from_utf8_lossy(&stored).into_owned();
            Err(Error::OtherNode { stored, given: node })
        }
    }
}

/// What clients are told to connect to: as configured, else where the node listens; an address that
/// means every interface is told as the loopback address.
fn address(config: &Config, listening: SocketAddr) -> Address {
    let told = config.advertise.as_deref().and_then(parse_host_port);
    let (host, port) = told.unwrap_or_else(|| {
        let ip = listening.ip();
        let host = if ip.is_unspecified() { "127.0.0.1".to_owned() } else { ip.to_string() };
        (host, listening.port())
    });
    Address { id: config.node, host, port, rack: String::new() }
}

async fn start_controller(
    engine: &Engine,
    address: &Address,
    started: BrokerValues,
) -> Result<Controller, Error> {
    let replica = replica_id(address.id);
    let log = engine.log(METADATA, RetentionClass::from_retention_ms(-1))?;
    let holder = Holder { broker: address.id, started };
    let controller = Controller::start(replica, log, holder).await.map_err(Error::Start)?;
    let start = |e: &dyn ToString| Error::Start(e.to_string());
    controller.bootstrap(&[replica]).await.map_err(|e| start(&e))?;
    if !controller.wait_for_leader(METADATA_TIMEOUT).await {
        let text = format!("the metadata group has no leader after {METADATA_TIMEOUT:?}");
        return Err(Error::Start(text));
    }
    if controller.image().cluster_id.is_empty() {
        controller.init_cluster(new_cluster_id()).await.map_err(|e| start(&e))?;
    }
    let known = controller.image().brokers.get(&address.id) == Some(address);
    if !known {
        controller.register_broker(address).await.map_err(|e| start(&e))?;
    }
    Ok(controller)
}

/// 16 random bytes in URL-safe base64 without padding, as Kafka writes its ids.
fn new_cluster_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = Uuid::new_v4().as_u128();
    // 128 bits are 21 digits of 6 bits and one of 2, which stand at the top of the last digit.
    let digit = |i: u32| if i < 21 { bits >> (122 - 6 * i) } else { bits << 4 };
    (0..22).map(|i| char::from(ALPHABET[(digit(i) & 0x3f) as usize])).collect()
}

fn broker_values(config: &Config, listening: SocketAddr, address: &Address) -> BrokerValues {
    let mut values = BrokerValues::default();
    let node = config.node.to_string();
    let listeners = format!("PLAINTEXT://{listening}");
    let advertised = format!("PLAINTEXT://{}:{}", address.host, address.port);
    let pairs = [
        ("node.id", node.clone()),
        ("broker.id", node),
        ("process.roles", "broker,controller".to_owned()),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("listeners", listeners),
        ("advertised.listeners", advertised),
        ("log.dirs", config.data.display().to_string()),
        ("num.partitions", config.num_partitions.to_string()),
        ("log.retention.check.interval.ms", config.retention_check_ms.to_string()),
        ("auto.create.topics.enable", config.auto_create_topics.to_string()),
        ("default.replication.factor", "1".to_owned()),
        ("socket.request.max.bytes", config.request_bytes_max.to_string()),
        ("max.connections", config.connections_max.to_string()),
    ];
    for (name, value) in pairs {
        if let Err(error) = values.set(name, value) {
            tracing::warn!(%error, "a broker config cannot be shown by DescribeConfigs");
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_22_characters_of_url_safe_base64() {
        let id = new_cluster_id();
        assert_eq!(id.len(), 22);
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_ne!(id, new_cluster_id());
    }

    #[test]
    fn clients_are_never_told_an_address_that_means_every_interface() {
        let listening = "0.0.0.0:9092".parse().unwrap();
        let told = address(&Config::default(), listening);
        assert_eq!((told.host.as_str(), told.port), ("127.0.0.1", 9092));
        let config = Config { advertise: Some("broker.example:1".into()), ..Config::default() };
        assert_eq!(address(&config, listening).host, "broker.example");
    }
}
