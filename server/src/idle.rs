//! What a node does beside its requests: checkpoints for all partitions, and giving back what a quiet node
//! holds: groups go to sleep, memtables are flushed, the newest batches leave memory.
//!
//! Nothing here is needed for correctness: whoever writes or reads finds everything as it was. Without the
//! checkpoints a restart would read all that was written to partitions that are too small to make their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::Broker;

/// How often is looked, as a part of the time that makes idle.
const LOOKS: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Partitions make checkpoints each time this much was appended over all of them: what a restart applies
/// again, at most, beside what one second brings.
const CHECKPOINT_BYTES: u64 = 256 << 20;

/// When the engine was last seen to write, and what has been done since.
struct Seen {
    appended_bytes: u64,
    write_groups: u64,
    since: Instant,
    rested: bool,
}

/// Looks again and again until the node drains.
pub(crate) async fn run(broker: Arc<Broker>) {
    let idle = Duration::from_millis(broker.config.idle_ms);
    let pause = (idle / LOOKS).clamp(PAUSE_MIN, PAUSE_MAX);
    let since = Instant::now();
    let mut seen = Seen { appended_bytes: 0, write_groups: 0, since, rested: true };
    loop {
        tokio::select! {
            () = broker.draining.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        save_checkpoints(&broker, &mut seen).await;
        for partition in broker.replicas.all() {
            partition.rest(idle).await;
        }
        rest(&broker, &mut seen, idle).await;
    }
}

async fn save_checkpoints(broker: &Arc<Broker>, seen: &mut Seen) {
    let appended_bytes = broker.engine.stats().appended_bytes;
    if appended_bytes < seen.appended_bytes + CHECKPOINT_BYTES {
        return;
    }
    seen.appended_bytes = appended_bytes;
    let partitions = broker.replicas.all();
    // The engine's queue may be full, and then this waits for room.
    let saving = tokio::task::spawn_blocking(move || {
        partitions.iter().for_each(|partition| partition.save_checkpoint());
    });
    if let Err(error) = saving.await {
        tracing::error!(%error, "no checkpoints; the next start applies more");
    }
}

async fn rest(broker: &Arc<Broker>, seen: &mut Seen, idle: Duration) {
    let write_groups = broker.engine.stats().write_groups;
    if write_groups != seen.write_groups {
        seen.write_groups = write_groups;
        (seen.since, seen.rested) = (Instant::now(), false);
    }
    if seen.rested || seen.since.elapsed() < idle {
        return;
    }
    let engine = broker.engine.clone();
    match tokio::task::spawn_blocking(move || engine.rest()).await {
        Ok(Ok(())) => tracing::debug!("the engine has given its memory back"),
        Ok(Err(error)) => tracing::debug!(%error, "the engine keeps its memory"),
        Err(error) => tracing::warn!(%error, "the engine could not give its memory back"),
    }
    seen.rested = true;
}
