//! What the node that leads the metadata group does beside answering: it tells which brokers live, has the replicas of
//! those rebuilt that stay dead, and lets every broker that is registered hear the metadata.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Cluster;
use super::heal::Healing;
use crate::broker;
use crate::controller::{Broker, Controller};
use crate::peer::PeerState;

/// How often it is looked whether this node leads now.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long one change of members may take.
const CHANGE_MAX: Duration = Duration::from_secs(10);
/// A node that has just started gives the others this long to be heard before it calls them dead.
const GRACE: Duration = Duration::from_secs(2);

/// Runs until the node drains.
pub(crate) async fn run(
    cluster: Arc<Cluster>,
    broker: Arc<broker::Broker>,
    draining: CancellationToken,
) {
    let controller = &broker.controller;
    let mut healing = Healing::new(broker.config.heal_after_ms, Instant::now());
    let mut states = cluster.peers.states();
    let mut changes = controller.changes();
    let started = Instant::now();
    loop {
        let leads = controller.leads();
        if leads {
            let seen = states.borrow_and_update().clone();
            changes.mark_unchanged();
            tell_liveness(controller, &seen, started.elapsed() >= GRACE).await;
            let now = Instant::now();
            healing.look(&controller.image(), now);
            healing.go_on(&broker, now).await;
            let lost = healing.lost(now);
            match tokio::time::timeout(CHANGE_MAX, controller.level_members(&seen, &lost)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the metadata's members change later"),
                Err(_) => tracing::debug!("the metadata's members change later: no majority"),
            }
        } else {
            healing.look(&controller.image(), Instant::now());
        }
        tokio::select! {
            () = draining.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
            Ok(()) = states.changed(), if leads => {}
            Ok(()) = changes.changed(), if leads => {}
        }
    }
}

async fn tell_liveness(
    controller: &Controller,
    seen: &BTreeMap<i32, PeerState>,
    may_tell_dead: bool,
) {
    let changed = {
        let image = controller.image();
        changed(image.brokers.values(), seen, controller.broker())
    };
    for (broker, dead) in changed {
        if dead && !may_tell_dead {
            continue;
        }
        match controller.set_liveness(broker, dead).await {
            Ok(()) if dead => tracing::warn!(broker, "a broker does not answer; it counts as dead"),
            Ok(()) => tracing::info!(broker, "a broker answers again"),
            Err(error) => {
                tracing::debug!(%error, broker, "whether a broker lives is told later");
                return;
            }
        }
    }
}

/// Brokers that the metadata says are dead and are alive, or the other way round.
fn changed<'a>(
    brokers: impl Iterator<Item = &'a Broker>,
    seen: &BTreeMap<i32, PeerState>,
    own: i32,
) -> Vec<(i32, bool)> {
    let dead = |broker: &Broker| match seen.get(&broker.id) {
        _ if broker.id == own => false,
        Some(state) => !state.alive,
        // Nobody can tell of one that has no address.
        None => !broker.peer.is_empty(),
    };
    let changed = brokers.filter(|broker| broker.dead != dead(broker));
    changed.map(|broker| (broker.id, !broker.dead)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_differs_from_what_is_known() {
        let broker = |id, dead| Broker { id, dead, peer: "h:1".into(), ..Broker::default() };
        let brokers = [broker(1, true), broker(2, false), broker(3, true), broker(4, false)];
        let state = |alive| PeerState { alive, incarnation: 7, steps_back: false };
        let seen = [(2, state(false)), (3, state(true))].into();
        let told = changed(brokers.iter(), &seen, 1);
        assert_eq!(told, [(1, false), (2, true), (3, false), (4, true)]);
        let brokers = [broker(1, false), broker(2, true), broker(3, false)];
        assert_eq!(changed(brokers.iter(), &seen, 1), []);
    }
}
