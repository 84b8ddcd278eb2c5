//! What a node does from time to time: move log starts as retention says, and give space back.
//!
//! One pass after the other, each: retention → purges that let buckets go → dropping buckets → copying
//! what little is alive in old ones. A pass that fails is tried again at the next.
//!
//! Not here: how much is kept (`retention.rs`), which buckets can go (the engine's `space.rs`).

use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{Engine, Offset};
use tokio::task::JoinSet;

use crate::broker::{Broker, now_ms};
use crate::partition::Partition;
use crate::retention::{self, Limits};

/// Partitions worked on at the same time.
const PARALLEL_MAX: usize = 16;
/// Bytes copied to other buckets in a pass, so that clients keep most of the disk.
const COPIED_BYTES_MAX: u64 = 256 << 20;
/// The time between passes while space is short.
const PRESSED_PERIOD: Duration = Duration::from_secs(1);

/// Runs until the node drains.
pub(crate) async fn run(broker: Arc<Broker>) {
    let period = Duration::from_millis(broker.config.retention_check_ms);
    loop {
        let pause = if broker.disk.is_short() { period.min(PRESSED_PERIOD) } else { period };
        tokio::select! {
            () = broker.draining.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        tokio::select! {
            () = broker.draining.cancelled() => return,
            () = pass(&broker) => {}
        }
    }
}

async fn pass(broker: &Broker) {
    expire(broker).await;
    if let Err(error) = reclaim(broker).await {
        tracing::warn!(%error, "space could not be given back; the next pass tries again");
    }
    broker.disk.look();
}

/// Moves the log start of every partition that holds more than it may.
async fn expire(broker: &Broker) {
    let topics: Vec<_> = broker.controller.image().topics().cloned().collect();
    let mut tasks = JoinSet::new();
    for topic in topics {
        let limits = retention::limits(&topic.settings, now_ms());
        for partition in &topic.partitions {
            let Some(partition) = broker.replicas.get(partition.group) else { continue };
            partition.set_class(retention::class(&topic.settings));
            let Some(limits) = limits.filter(|_| partition.leads()) else { continue };
            if tasks.len() >= PARALLEL_MAX {
                tasks.join_next().await;
            }
            tasks.spawn(async move { expire_partition(&partition, limits).await });
        }
    }
    tasks.join_all().await;
}

async fn expire_partition(partition: &Partition, limits: Limits) {
    let moved: Result<Option<Offset>, _> = async {
        match partition.expired(limits).await? {
            Some(start) => partition.set_log_start(start).await.map(Some),
            None => Ok(None),
        }
    }
    .await;
    match moved {
        Ok(Some(start)) => {
            tracing::debug!(partition = %partition.id(), %start, "retention moved the log start");
        }
        Ok(None) => {}
        Err(error) => {
            tracing::debug!(partition = %partition.id(), %error, "retention is tried again");
        }
    }
}

/// Lets the space of what lies below log starts, and of deleted topics, come back.
async fn reclaim(broker: &Broker) -> Result<(), jangbu_engine::Error> {
    let pressed = broker.disk.is_short();
    let forgettable = blocking(broker, move |engine| engine.forgettable(pressed)).await?;
    let mut tasks = JoinSet::new();
    for (id, upto) in forgettable {
        let Some(partition) = broker.replicas.get(id) else { continue };
        if tasks.len() >= PARALLEL_MAX {
            tasks.join_next().await;
        }
        tasks.spawn(async move {
            if let Err(error) = partition.forget(upto, pressed).await {
                tracing::debug!(partition = %id, %error, "purging is tried again");
            }
        });
    }
    tasks.join_all().await;
    blocking(broker, Engine::drop_dead_buckets).await?;
    let copied = blocking(broker, move |engine| engine.relocate(COPIED_BYTES_MAX, pressed)).await?;
    if copied > 0 {
        tracing::debug!(bytes = copied, "copied entries out of old buckets");
        blocking(broker, Engine::drop_dead_buckets).await?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    broker: &Broker,
    work: impl FnOnce(&Engine) -> jangbu_engine::Result<T> + Send + 'static,
) -> jangbu_engine::Result<T> {
    let engine = broker.engine.clone();
    let working = tokio::task::spawn_blocking(move || work(&engine));
    working.await.unwrap_or(Err(jangbu_engine::Error::Closed))
}
