//! Tells the metadata group which replicas here are damaged, so that others lead and they are rebuilt.
//!
//! Damage is what a read has met, a partition that could not be started, and a group that has ended because of what is
//! stored of it. The only replica of a partition is never told of: what is whole of it goes on answering.
//!
//! Not here: who leads then (`leaders.rs`), what is rebuilt when (`controller/healing.rs`).

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::controller::Damaged;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);
/// Each so manieth time it is also looked which groups have ended.
const ENDED_EVERY: u64 = 5;
/// Replicas told with one command.
const BATCH: usize = 1000;
/// How long the metadata group may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Looks from time to time.
pub(super) async fn run(broker: &Arc<Broker>) {
    for look in 1_u64.. {
        tokio::time::sleep(LOOK).await;
        for some in unknown(broker, look.is_multiple_of(ENDED_EVERY)).chunks(BATCH) {
            for (id, replica, stopped) in some {
                tracing::warn!(
                    partition = %id, %stopped, epoch = replica.epoch(),
                    "the replica here is damaged: it is out of sync until it is rebuilt from another one"
                );
            }
            let telling = broker.controller.report_damaged(some);
            match tokio::time::timeout(TIMEOUT, telling).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "what is damaged is told again"),
                Err(_) => tracing::debug!("what is damaged is told again"),
            }
        }
    }
}

/// What is damaged here and the metadata do not say.
fn unknown(broker: &Broker, look_for_ended: bool) -> Vec<Damaged> {
    let fenced = broker.replicas.fenced().into_iter().map(|(id, replica)| (id, replica, true));
    let read = broker.replicas.damaged();
    let met = read.iter().map(|partition| (partition.id(), partition.replica(), false));
    let running = if look_for_ended { broker.replicas.all() } else { Vec::new() };
    let broken = running.iter().filter(|partition| partition.is_broken());
    let ended = broken.map(|partition| (partition.id(), partition.replica(), true));
    let found: Vec<_> = fenced.chain(met).chain(ended).collect();
    if found.is_empty() {
        return found;
    }
    let image = broker.controller.image();
    let is_news = |(id, replica, stopped): &Damaged| {
        let placed = image.placement(*id).filter(|placed| placed.members().count() > 1);
        placed.is_some_and(|placed| placed.members().any(|(_, of)| of == *replica))
            && !(image.is_stopped(*id, *replica) || !stopped && image.is_damaged(*id, *replica))
    };
    found.into_iter().filter(is_news).collect()
}
