//! When a broker counts as lost, and having its replicas rebuilt elsewhere.
//!
//! Every node notes since when the metadata say that a broker is dead, by its own clock. So the time goes on when another
//! node comes to lead the metadata, and begins anew only on a node that has itself just started.
//!
//! Not here: which replicas go where (`controller/healing.rs`), carrying it out (`health/moves.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::Broker;
use crate::controller::{Data, HealingPlan, healing_plan};

/// How often it is looked what is to be healed.
const LOOK: Duration = Duration::from_millis(500);
/// Partitions healed at a time in the whole cluster.
const HEALS_MAX: usize = 8;

/// Since when brokers are dead.
#[derive(Debug)]
pub(super) struct Healing {
    /// `None` when nothing is rebuilt.
    after: Option<Duration>,
    since: BTreeMap<i32, Instant>,
    next: Instant,
    /// What was said last, so that it is said once.
    said: (BTreeSet<i32>, usize, usize),
}

impl Healing {
    /// Heals brokers that are dead for `after_ms`; none when that is 0.
    pub(super) fn new(after_ms: u64, now: Instant) -> Self {
        let after = (after_ms > 0).then(|| Duration::from_millis(after_ms));
        Self { after, since: BTreeMap::new(), next: now, said: Default::default() }
    }

    /// Takes in what the metadata say. On every node, whether it leads or not.
    pub(super) fn look(&mut self, image: &Data, now: Instant) {
        let is_dead = |id: &i32| image.brokers.get(id).is_some_and(|broker| broker.dead);
        self.since.retain(|id, _| is_dead(id));
        for broker in image.brokers.values().filter(|broker| broker.dead) {
            self.since.entry(broker.id).or_insert(now);
        }
    }

    /// Brokers that have been dead for so long that they are not waited for any more.
    pub(super) fn lost(&self, now: Instant) -> BTreeSet<i32> {
        let Some(after) = self.after else { return BTreeSet::new() };
        let lost = self.since.iter().filter(|(_, since)| now - **since >= after);
        lost.map(|(id, _)| *id).collect()
    }

    /// Begins what is to be begun now. For the leader.
    pub(super) async fn go_on(&mut self, broker: &Broker, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + LOOK;
        let lost = self.lost(now);
        // Their disk is nearly full, or they stop.
        let mut spared: BTreeSet<i32> = {
            let states = broker.peers.states();
            let states = states.borrow();
            let back = states.iter().filter(|(_, state)| state.steps_back);
            back.map(|(id, _)| *id).collect()
        };
        if broker.steps_back() {
            spared.insert(broker.id());
        }
        let at_a_time = if self.after.is_some() { HEALS_MAX } else { 0 };
        let plan = healing_plan(&broker.controller.image(), &lost, &spared, at_a_time);
        self.say(lost, &plan);
        for heal in plan.begin {
            let (group, target) = (heal.group, heal.target.clone());
            let then = heal.then.clone();
            let reassigned =
                broker.controller.reassign_on(heal.group, heal.seen, heal.target, heal.then).await;
            match reassigned {
                Ok(()) => {
                    broker.metrics.heals.add(1);
                    tracing::info!(
                        partition = %group, to = ?target, ?then,
                        "lost or damaged replicas are rebuilt"
                    );
                }
                Err(error) => {
                    tracing::debug!(%error, partition = %group, "lost or damaged replicas are rebuilt later");
                }
            }
        }
    }

    fn say(&mut self, lost: BTreeSet<i32>, plan: &HealingPlan) {
        let said = (lost, plan.without_majority, plan.without_room);
        if said == self.said {
            return;
        }
        let (lost, before) = (&said.0, &self.said.0);
        let after = self.after.unwrap_or_default();
        for id in lost.difference(before) {
            tracing::warn!(broker = id, "dead for {after:?}: its replicas are rebuilt on others");
        }
        if plan.without_room > 0 && plan.without_room != self.said.2 {
            tracing::warn!(
                partitions = plan.without_room,
                "no live broker is free for lost or damaged replicas, so that they are not rebuilt: start the dead \
                 brokers {lost:?}, or let another node join"
            );
        }
        if plan.without_majority > 0 && plan.without_majority != self.said.1 {
            tracing::error!(
                partitions = plan.without_majority,
                "partitions have lost most of their replicas and can do nothing before these are \
                 back: start the dead brokers"
            );
        }
        self.said = said;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Broker;

    fn image(dead: &[i32]) -> Data {
        let mut data = Data::default();
        for id in 1..=3 {
            let broker = Broker { id, dead: dead.contains(&id), ..Broker::default() };
            data.brokers.insert(id, broker);
        }
        data
    }

    #[test]
    fn a_broker_is_lost_once_it_was_dead_for_long_enough_without_a_break() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut healing = Healing::new(10_000, start);
        healing.look(&image(&[2]), at(0));
        healing.look(&image(&[2, 3]), at(5));
        assert_eq!(healing.lost(at(9)), BTreeSet::new());
        assert_eq!(healing.lost(at(10)), [2].into());
        healing.look(&image(&[3]), at(11));
        healing.look(&image(&[2, 3]), at(12));
        assert_eq!(healing.lost(at(21)), [3].into(), "2 was back in between");
    }

    #[test]
    fn with_a_time_of_zero_nobody_is_lost() {
        let start = Instant::now();
        let mut healing = Healing::new(0, start);
        healing.look(&image(&[2]), start);
        assert_eq!(healing.lost(start + Duration::from_secs(1_000_000)), BTreeSet::new());
    }
}
