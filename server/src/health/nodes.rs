//! Which nodes live, as this one sees it.
//!
//! A node that was never seen counts as unknown at first: connections take a moment after a start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::peer::PeerState;

/// For so long after the start a node that was never seen is not taken for dead.
const GRACE: Duration = Duration::from_millis(1500);

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It answers; the number is its process'.
    Alive(u64),
    /// It does not answer.
    Dead,
    /// It has not answered yet.
    Unknown,
}

/// The nodes of the cluster.
#[derive(Debug)]
pub(super) struct Nodes {
    me: i32,
    since: Instant,
    states: Arc<BTreeMap<i32, PeerState>>,
    /// Nodes that have been seen alive.
    met: BTreeSet<i32>,
}

impl Nodes {
    pub(super) fn new(me: i32, now: Instant) -> Self {
        Self { me, since: now, states: Arc::default(), met: BTreeSet::new() }
    }

    /// Takes in what the failure detector says.
    pub(super) fn update(&mut self, states: Arc<BTreeMap<i32, PeerState>>) {
        let alive = states.iter().filter(|(_, state)| state.alive);
        self.met.extend(alive.map(|(id, _)| *id));
        self.states = states;
    }

    /// What is known of a node that is not this one; this one lives.
    pub(super) fn life(&self, broker: i32, now: Instant) -> Life {
        if broker == self.me {
            return Life::Alive(0);
        }
        match self.states.get(&broker) {
            Some(state) if state.alive => Life::Alive(state.incarnation),
            _ if !self.met.contains(&broker) && now < self.since + GRACE => Life::Unknown,
            _ => Life::Dead,
        }
    }

    /// Whether another node lives and does not ask the others to lead.
    pub(super) fn leads_gladly(&self, broker: i32, now: Instant) -> bool {
        matches!(self.life(broker, now), Life::Alive(_)) && !self.steps_back(broker)
    }

    /// Whether a node that is not this one asks the others to lead.
    pub(super) fn steps_back(&self, broker: i32) -> bool {
        self.states.get(&broker).is_some_and(|state| state.steps_back)
    }

    /// When what is unknown now is known: the end of the grace, while it lasts.
    pub(super) fn settled_at(&self, now: Instant) -> Option<Instant> {
        let end = self.since + GRACE;
        (now < end).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_dead_once_it_was_seen_or_had_its_time_to_appear() {
        let now = Instant::now();
        let state = |alive| {
            Arc::new(BTreeMap::from([(2, PeerState { alive, incarnation: 7, steps_back: false })]))
        };
        let mut nodes = Nodes::new(1, now);
        assert_eq!((nodes.life(1, now), nodes.life(2, now)), (Life::Alive(0), Life::Unknown));
        assert_eq!(nodes.life(2, now + GRACE), Life::Dead);
        nodes.update(state(true));
        assert_eq!(nodes.life(2, now), Life::Alive(7));
        nodes.update(state(false));
        assert_eq!(nodes.life(2, now), Life::Dead);
    }
}
