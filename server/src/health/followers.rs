//! Has replicas that follow ask what is committed when they were not told (`consensus/behind.rs`).
//!
//! Not here: groups that have no leader (`elections.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::broker::Broker;
use crate::consensus::BEHIND_MAX;

/// How often is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at all partitions that others lead, and asks each node for all of its own at once.
pub(super) async fn run(broker: &Arc<Broker>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let mut behind: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        for partition in broker.replicas.all() {
            let Some(leader) = partition.leader_to_ask() else { continue };
            let groups = behind.entry(leader.broker()).or_default();
            if groups.len() < BEHIND_MAX {
                groups.push(partition.id().0);
            }
        }
        let network = broker.replicas.network();
        join_all(behind.into_iter().map(|(node, all)| network.ask_what_is_committed(node, all)))
            .await;
    }
}
