//! Gives back what a quiet node holds: groups go to sleep, memtables are flushed, the newest batches leave
//! memory.
//!
//! Nothing here is needed for correctness: whoever writes or reads finds everything as it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::Broker;

/// How often is looked, as a part of the time that makes idle.
const LOOKS: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// When the engine was last seen to write, and whether it has given its memory back since.
struct Quiet {
    write_groups: u64,
    since: Instant,
    rested: bool,
}

/// Looks again and again until the node drains.
pub(crate) async fn run(broker: Arc<Broker>) {
    let idle = Duration::from_millis(broker.config.idle_ms);
    let pause = (idle / LOOKS).clamp(PAUSE_MIN, PAUSE_MAX);
    let mut quiet = Quiet { write_groups: 0, since: Instant::now(), rested: true };
    loop {
        tokio::select! {
            () = broker.draining.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        for partition in broker.replicas.all() {
            partition.rest(idle).await;
        }
        rest(&broker, &mut quiet, idle).await;
    }
}

async fn rest(broker: &Arc<Broker>, quiet: &mut Quiet, idle: Duration) {
    let write_groups = broker.engine.stats().write_groups;
    if write_groups != quiet.write_groups {
        *quiet = Quiet { write_groups, since: Instant::now(), rested: false };
    }
    if quiet.rested || quiet.since.elapsed() < idle {
        return;
    }
    let engine = broker.engine.clone();
    match tokio::task::spawn_blocking(move || engine.rest()).await {
        Ok(Ok(())) => tracing::debug!("the engine has given its memory back"),
        Ok(Err(error)) => tracing::debug!(%error, "the engine keeps its memory"),
        Err(error) => tracing::warn!(%error, "the engine could not give its memory back"),
    }
    quiet.rested = true;
}
