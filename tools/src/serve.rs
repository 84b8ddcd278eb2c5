//! `jangbu serve`: runs a node until it is told to stop.
//!
//! The banner goes to standard output, where scripts read the bound ports from it; the log goes to
//! standard error.

use std::time::Duration;

use anyhow::{Context, bail};
use jangbu_server::{Config, Node};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ServeArgs;
use crate::output;

/// How long a drain may take, so that the process ends within 5 s of SIGTERM.
const DRAIN: Duration = Duration::from_millis(4500);

/// Runs a node until SIGTERM, SIGINT or a fatal error.
pub(crate) async fn run(args: &ServeArgs, json: bool) -> anyhow::Result<()> {
    let config = configure(args)?;
    let data = std::path::absolute(&config.data).unwrap_or_else(|_| config.data.clone());
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    raise_file_limit(config.connections_max);
    return_memory_when_idle();
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM, draining"),
            _ = interrupt.recv() => tracing::info!("SIGINT, draining"),
        }
    };
    let Some(node) = Node::start_until(config, signalled()).await? else { return Ok(()) };
    banner(&node, &data, json)?;
    tokio::select! {
        () = signalled() => {}
        _ = node.failed() => bail!("the node has stopped because of a fatal error; its log tells which"),
    }
    if tokio::time::timeout(DRAIN, node.shutdown()).await.is_err() {
        tracing::warn!("still busy after {} ms, ending anyway", DRAIN.as_millis());
    }
    Ok(())
}

/// Every connection is a file descriptor, and the limit a shell sets is often 1024: takes all the system
/// allows, as a JVM does, and says so when that is too little.
fn raise_file_limit(connections_max: usize) {
    /// What a node opens beside connections: RocksDB's files and the listeners.
    const OTHER_FILES: u64 = 2048;
    let wanted = connections_max as u64 + OTHER_FILES;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) if limit >= wanted => {}
        Ok(limit) => tracing::warn!(
            "this process may open {limit} files, which is less than connections_max \
             ({connections_max}) needs; raise the limit with `ulimit -n {wanted}`"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

/// jemalloc gives freed memory back when it is called again, which an idle process does not do: a thread
/// of its own does it instead.
fn return_memory_when_idle() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::debug!(%error, "freed memory is given back late: jemalloc has no background thread");
    }
}

/// Flag over environment (both by clap) over file over default.
fn configure(args: &ServeArgs) -> anyhow::Result<Config> {
    let mut config = match &args.config {
        None => Config::default(),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            Config::from_toml(&text).with_context(|| format!("in {}", file.display()))?
        }
    };
    if let Some(data) = &args.data {
        config.data.clone_from(data);
    }
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(advertise) = &args.advertise {
        config.advertise = Some(advertise.clone());
    }
    if let Some(http) = args.http {
        config.http = http;
    }
    if args.memory.is_some() {
        config.memory = args.memory;
    }
    configure_cluster(&mut config, args);
    if args.disk_reserve.is_some() {
        config.disk_reserve_bytes = args.disk_reserve.and_then(|bytes| u64::try_from(bytes).ok());
    }
    config.heal_after_ms = args.heal_after.unwrap_or(config.heal_after_ms);
    config.replica_lag_max_ms = args.replica_lag_max.unwrap_or(config.replica_lag_max_ms);
    if let Some(rate) = args.catch_up_rate.and_then(|bytes| u64::try_from(bytes).ok()) {
        config.catch_up_rate_bytes = rate;
    }
    config.accept_loss = args.accept_loss;
    Ok(config)
}

fn configure_cluster(config: &mut Config, args: &ServeArgs) {
    config.node = args.node.or(config.node);
    config.peer_listen = args.peer_listen.or(config.peer_listen);
    let texts = [
        (&mut config.cluster, &args.cluster),
        (&mut config.join, &args.join),
        (&mut config.peer_advertise, &args.peer_advertise),
    ];
    for (value, given) in texts {
        if given.is_some() {
            value.clone_from(given);
        }
    }
    if let Some(rack) = &args.rack {
        config.rack.clone_from(rack);
    }
}

/// Tells where the node listens. Scripts may rely on the lines that begin with `kafka:` and `http:`.
fn banner(node: &Node, data: &std::path::Path, as_json: bool) -> std::io::Result<()> {
    let (kafka, http) = (node.kafka_addr(), node.http_addr());
    let version = env!("CARGO_PKG_VERSION");
    let data = data.display();
    if as_json {
        return output::json_line(&json!({
            "event": "ready",
            "version": version,
            "pid": std::process::id(),
            "node": node.id(),
            "kafka": kafka.to_string(),
            "http": http.to_string(),
            "data": data.to_string(),
        }));
    }
    let brokers = if kafka.port() == 9092 { String::new() } else { format!(" --brokers {kafka}") };
    output::line(&format!(
        "jangbu {version} is ready\n\
         kafka: {kafka}\n\
         http: http://{http} (/healthz, /readyz, /metrics)\n\
         data: {data}\n\
         \n\
         Try it in another terminal:\n  \
         echo hello | jangbu produce greetings{brokers}\n  \
         jangbu consume greetings --from-beginning{brokers}"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::configure;
    use crate::cli::{Cli, Command};

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "listen = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:2\"\n").unwrap();
        let path = file.path().to_str().unwrap();
        let cli = Cli::parse_from(["jangbu", "serve", "--config", path, "--http", "127.0.0.1:3"]);
        let Command::Serve(args) = cli.command else { panic!("serve was asked for") };
        let config = configure(&args).unwrap();
        assert_eq!(config.listen.port(), 1);
        assert_eq!(config.http.port(), 3);
        assert_eq!(config.data, std::path::Path::new("./jangbu-data"));
    }
}
