//! Waits, for a moment, until the leaders that clients are about to be told are there.
//!
//! A client whose connection to a leader breaks asks another broker within a millisecond, when that one may not have noticed
//! yet, let alone found the next leader. Told the dead one again, some clients ask only seconds later (franz-go: five).
//! So whoever is to be named is pinged first, which costs an answer one round trip between nodes.
//!
//! Invariant: an answer waits for [`WAIT_MAX`] at most, and not at all for what has been without a leader for longer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::controller::Topic;
use crate::peer;

/// An election takes about a tenth of a second. The requests behind this one on its connection wait too.
const WAIT_MAX: Duration = Duration::from_millis(300);
/// How often it is looked again.
const LOOK: Duration = Duration::from_millis(20);
/// How long one ping may take.
const PING_MAX: Duration = Duration::from_millis(100);
/// What was lost longer ago than this is not waited for.
const LATELY: Duration = Duration::from_secs(2);

/// Leaders of `topics` that were lost a moment ago and have not been replaced: nobody should be sent to them.
pub(super) async fn lost_leaders(broker: &Broker, topics: &[Arc<Topic>]) -> BTreeSet<i32> {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let (named, all_led) = leaders(broker, topics);
        let silent = silent(broker, named).await;
        let settled = silent.is_empty() && (all_led || !broker.peers.lost_since(LATELY));
        if settled || Instant::now() >= deadline {
            return silent.into_iter().filter(|(_, gone)| *gone).map(|(node, _)| node).collect();
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The other brokers that lead partitions of `topics`, and whether each partition has a leader.
fn leaders(broker: &Broker, topics: &[Arc<Topic>]) -> (BTreeSet<i32>, bool) {
    let (mut named, mut all_led) = (BTreeSet::new(), true);
    for placed in topics.iter().flat_map(|topic| &topic.partitions) {
        match broker.leader_of(placed.group) {
            Some(leader) if leader.broker == broker.id() => {}
            Some(leader) => {
                named.insert(leader.broker);
            }
            None => all_led = false,
        }
    }
    (named, all_led)
}

/// Those of `nodes` that do not answer a ping now and did a moment ago, and whether there is no connection to them any more.
async fn silent(broker: &Broker, nodes: BTreeSet<i32>) -> Vec<(i32, bool)> {
    let pings = nodes.into_iter().map(|node| async move {
        match broker.peers.ping(node, PING_MAX).await {
            Err(peer::Error::Unreachable { .. }) if broker.peers.was_alive(node, LATELY) => {
                Some((node, true))
            }
            Err(peer::Error::Timeout { .. }) => Some((node, false)),
            _ => None,
        }
    });
    join_all(pings).await.into_iter().flatten().collect()
}
