//! What a start is made of: ports, the engine, addresses.

use std::net::SocketAddr;
use std::sync::Arc;

use jangbu_engine::{Engine, Options};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Role, parse_host_port};
use crate::configs::{BrokerValues, LEADER_RATE};
use crate::controller::Broker;
use crate::disk::{self, Disk};
use crate::error::Error;
use crate::memory::Sizes;

/// Where a node that joins listens for other nodes unless told otherwise, beside where it listens for clients.
const PEER_PORT: u16 = 9093;

pub(super) async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, Error> {
    bind_named(&address.to_string(), flag).await
}

async fn bind_named(address: &str, flag: &'static str) -> Result<TcpListener, Error> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| Error::Listen { address: address.to_owned(), flag, source })
}

/// The listener for other nodes, if there is to be one.
///
/// # Errors
/// [`Error::Listen`].
pub(super) async fn bind_peers(
    config: &Config,
    role: &Role,
    node: i32,
) -> Result<Option<TcpListener>, Error> {
    let flag = "--peer-listen";
    if let Some(address) = config.peer_listen {
        return bind(address, flag).await.map(Some);
    }
    match role {
        Role::Alone => Ok(None),
        Role::Joiner(_) => {
            bind(SocketAddr::new(config.listen.ip(), PEER_PORT), flag).await.map(Some)
        }
        Role::Member(nodes) => match nodes.get(&node) {
            Some(address) => bind_named(address, flag).await.map(Some),
            None => Ok(None),
        },
    }
}

pub(super) fn local(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(|e| Error::Start(e.to_string()))
}

/// The engine's sizes, smaller on a small volume.
pub(super) fn engine_options(config: &Config, sizes: &Sizes) -> Result<Options, Error> {
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

pub(super) fn open_disk(config: &Config, options: &Options) -> Result<Disk, Error> {
    let (total_bytes, _) =
        disk::volume(&config.data).map_err(|error| Error::Start(error.to_string()))?;
    let reserve = config.disk_reserve_bytes;
    let reserve = reserve.unwrap_or_else(|| disk::default_reserve(total_bytes, options));
    Ok(Disk::new(config.data.clone(), reserve))
}

pub(super) async fn open_engine(
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

/// What others are told to connect to: as configured, else where the node listens; an address that means every
/// interface is told as the loopback address.
pub(super) fn told(configured: Option<&str>, listening: SocketAddr) -> (String, u16) {
    configured.and_then(parse_host_port).unwrap_or_else(|| {
        let ip = listening.ip();
        let host = if ip.is_unspecified() { "127.0.0.1".to_owned() } else { ip.to_string() };
        (host, listening.port())
    })
}

/// `HOST:PORT`; an IPv6 host stands in brackets.
pub(super) fn host_port((host, port): &(String, u16)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Where other nodes reach this one; empty when it does not listen for them.
pub(super) fn peer_address(
    config: &Config,
    role: &Role,
    node: i32,
    listening: Option<SocketAddr>,
) -> String {
    let Some(listening) = listening else { return String::new() };
    let entry = match role {
        Role::Member(nodes) => nodes.get(&node),
        Role::Alone | Role::Joiner(_) => None,
    };
    match config.peer_advertise.as_ref().or(entry) {
        Some(address) => address.clone(),
        None => host_port(&told(None, listening)),
    }
}

/// What DescribeConfigs shows of how the node was started.
pub(super) fn broker_values(
    config: &Config,
    listening: SocketAddr,
    address: &Broker,
) -> BrokerValues {
    let mut values = BrokerValues::default();
    let node = address.id.to_string();
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
        ("default.replication.factor", config.default_replication_factor.to_string()),
        ("socket.request.max.bytes", config.request_bytes_max.to_string()),
        ("broker.rack", config.rack.clone()),
        ("max.connections", config.connections_max.to_string()),
        ("jangbu.heal.after.ms", config.heal_after_ms.to_string()),
        ("replica.lag.time.max.ms", config.replica_lag_max_ms.to_string()),
        (LEADER_RATE, config.catch_up_rate_bytes.to_string()),
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
    fn clients_are_never_told_an_address_that_means_every_interface() {
        let listening = "0.0.0.0:9092".parse().unwrap();
        assert_eq!(told(None, listening), ("127.0.0.1".to_owned(), 9092));
        assert_eq!(told(Some("broker.example:1"), listening).0, "broker.example");
        assert_eq!(host_port(&told(Some("[::1]:1"), listening)), "[::1]:1");
    }

    #[test]
    fn other_nodes_are_told_what_the_list_says_unless_the_node_says_otherwise() {
        let listening = "0.0.0.0:7".parse().ok();
        let address = |config: &Config| peer_address(config, &config.role().unwrap(), 2, listening);
        assert_eq!(address(&Config::default()), "127.0.0.1:7");
        let listed = Config { cluster: Some("1@a:1,2@b:2".into()), ..Config::default() };
        assert_eq!(address(&listed), "b:2");
        let told = Config { peer_advertise: Some("c:3".into()), ..listed };
        assert_eq!(address(&told), "c:3");
        assert_eq!(peer_address(&told, &Role::Alone, 2, None), "", "nobody can connect");
    }
}
