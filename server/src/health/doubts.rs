//! Asks the nodes that are said to lead whether they do.
//!
//! A group without traffic hears nothing of its leader: its log may say that a replica leads which, on a node that
//! lives, does not run, because what was stored of it is damaged or because everybody was restarted. So every
//! node asks now and then, for all groups in one message a node. A leadership that was denied twice in a row is
//! doubted: it counts as lost until the group says something else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{PartitionId, Term};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::broker::Broker;
use crate::consensus::{Leadership, ReplicaId};
use crate::peer::{Lane, Request, Response};
use crate::proto::peer::Leading;

/// How often is asked.
const ASK: Duration = Duration::from_secs(10);
/// The first time, soon after the start.
const ASK_FIRST: Duration = Duration::from_secs(2);
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Groups asked for in one message.
const BATCH: usize = 10_000;

/// A leadership that is believed in.
type Belief = (ReplicaId, Term);

/// Leaderships that were denied.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    denied: Mutex<HashMap<PartitionId, (Belief, u32)>>,
    /// Notified when there are new ones.
    pub(super) changed: Notify,
}

fn belief(leadership: Leadership) -> Option<Belief> {
    leadership.leader.map(|leader| (leader, leadership.term))
}

impl Doubts {
    /// Whether a leadership was denied twice.
    pub(super) fn is_doubted(&self, id: PartitionId, leadership: Leadership) -> bool {
        let denied = self.denied.lock();
        let Some((of, times)) = denied.get(&id) else { return false };
        *times >= 2 && belief(leadership) == Some(*of)
    }

    /// Takes in an answer: of what was `asked`, the node leads what it has `confirmed`.
    fn answered(&self, asked: &[(PartitionId, Belief)], confirmed: &HashSet<PartitionId>) {
        let mut denied = self.denied.lock();
        let mut doubted = false;
        for (id, belief) in asked {
            if confirmed.contains(id) {
                denied.remove(id);
                continue;
            }
            let entry = denied.entry(*id).or_insert((*belief, 0));
            if entry.0 != *belief {
                *entry = (*belief, 0);
            }
            entry.1 = entry.1.saturating_add(1);
            doubted |= entry.1 == 2;
        }
        if doubted {
            self.changed.notify_one();
        }
    }

    /// Forgets groups that are not asked for any more.
    fn keep(&self, asked: &HashSet<PartitionId>) {
        self.denied.lock().retain(|id, _| asked.contains(id));
    }
}

/// Asks from time to time.
pub(super) async fn run(broker: &Arc<Broker>, doubts: &Doubts) {
    let mut pause = ASK_FIRST;
    loop {
        tokio::time::sleep(pause).await;
        let believed = believed(broker);
        let groups = believed.values().flatten();
        doubts.keep(&groups.map(|(id, _)| *id).collect());
        let mut denied = false;
        for (node, groups) in believed {
            for asked in groups.chunks(BATCH) {
                if let Some(confirmed) = ask(broker, node, asked).await {
                    denied |= confirmed.len() < asked.len();
                    doubts.answered(asked, &confirmed);
                }
            }
        }
        // What was denied once may just have changed.
        pause = if denied { ASK_FIRST } else { ASK };
    }
}

/// What this node believes that others lead, by node.
fn believed(broker: &Broker) -> HashMap<i32, Vec<(PartitionId, Belief)>> {
    let mut believed: HashMap<i32, Vec<_>> = HashMap::new();
    for partition in broker.replicas.all() {
        let Some(belief) = belief(partition.leadership()) else { continue };
        if belief.0.broker() != broker.id() {
            believed.entry(belief.0.broker()).or_default().push((partition.id(), belief));
        }
    }
    believed
}

/// Which of these groups a node leads; `None` when it does not answer.
async fn ask(
    broker: &Broker,
    node: i32,
    asked: &[(PartitionId, Belief)],
) -> Option<HashSet<PartitionId>> {
    let groups = asked.iter().map(|(id, _)| id.0).collect();
    let request = Request::Leading(Leading { groups });
    match broker.peers.call(node, Lane::Control, request, Vec::new(), TIMEOUT).await {
        Ok(Response::Led(led)) => Some(led.groups.into_iter().map(PartitionId).collect()),
        Ok(_) => None,
        Err(error) => {
            tracing::debug!(%error, node, "a node does not tell what it leads");
            None
        }
    }
}

/// Which of these groups this node leads. One that has ended because of damage says to its end that it does.
pub(crate) fn led(broker: &Broker, groups: &[u32]) -> Vec<u32> {
    let leads = |group: &u32| {
        let partition = broker.replicas.get(PartitionId(*group));
        partition.is_some_and(|p| p.leadership().leader == Some(p.replica()) && !p.is_broken())
    };
    groups.iter().copied().filter(leads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leadership_is_doubted_when_it_was_denied_twice_in_a_row() {
        let doubts = Doubts::default();
        let id = PartitionId(3);
        let leader = |term| Leadership {
            term: Term(term),
            leader: Some(ReplicaId::new(2, 0)),
            local: false,
        };
        let answer = |term, confirmed: &[PartitionId]| {
            let asked = [(id, belief(leader(term)).unwrap())];
            doubts.answered(&asked, &confirmed.iter().copied().collect());
        };
        answer(1, &[]);
        assert!(!doubts.is_doubted(id, leader(1)));
        answer(1, &[id]);
        answer(1, &[]);
        assert!(!doubts.is_doubted(id, leader(1)), "it was confirmed in between");
        answer(1, &[]);
        assert!(doubts.is_doubted(id, leader(1)));
        assert!(!doubts.is_doubted(id, leader(2)), "another term is another leadership");
        answer(2, &[]);
        assert!(!doubts.is_doubted(id, leader(2)));
        doubts.keep(&HashSet::new());
        answer(2, &[]);
        assert!(!doubts.is_doubted(id, leader(2)));
    }
}
