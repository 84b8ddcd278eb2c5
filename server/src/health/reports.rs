//! Tells the metadata group what this node leads.
//!
//! What is to be told is what the metadata does not say yet, so that nothing is lost when a report fails, and
//! nothing is told twice.

use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{PartitionId, Term};

use crate::broker::Broker;

/// Leaders that come within this time are told together.
const COLLECT: Duration = Duration::from_millis(20);
/// Partitions told with one command.
const BATCH: usize = 1000;
/// How often is compared although nothing has happened.
const COMPARE: Duration = Duration::from_secs(30);
/// How long the metadata group may take, and how long is waited when it does not answer.
const TIMEOUT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(200);

/// Reports whenever a leader begins to answer.
pub(super) async fn run(broker: &Arc<Broker>) {
    let mut partitions = broker.replicas.changes();
    loop {
        while !report(broker).await {
            tokio::time::sleep(RETRY).await;
        }
        tokio::select! {
            () = broker.replicas.terms().notified() => {}
            changed = partitions.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(COMPARE) => {}
        }
        tokio::time::sleep(COLLECT).await;
    }
}

/// Whether all that this node leads is known.
async fn report(broker: &Broker) -> bool {
    for led in unknown(broker).chunks(BATCH) {
        let count = led.len();
        let told =
            tokio::time::timeout(TIMEOUT, broker.controller.report_leaders(led.to_vec())).await;
        match told {
            Ok(Ok(())) => tracing::debug!(count, "told the metadata which partitions are led here"),
            Ok(Err(error)) => {
                tracing::debug!(%error, count, "which partitions are led here is told again");
                return false;
            }
            Err(_) => return false,
        }
    }
    true
}

/// What this node leads and the metadata does not say.
fn unknown(broker: &Broker) -> Vec<(PartitionId, Term)> {
    let led = broker.replicas.all().into_iter().filter_map(|partition| {
        let leadership = partition.leadership();
        leadership.local.then_some((partition.id(), leadership.term))
    });
    let led: Vec<_> = led.collect();
    let image = broker.controller.image();
    let is_unknown = |(id, term): &(PartitionId, Term)| {
        image.placement(*id).is_some() && image.leader(*id).is_none_or(|(_, known)| known < *term)
    };
    led.into_iter().filter(is_unknown).collect()
}
