//! Keeps where the other nodes are level with the metadata.
//!
//! What the operator gave counts for nodes that the metadata does not know yet, and at a start until the metadata is
//! there; afterwards the metadata wins. What is known is stored, so that a node finds the others without any flag.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Cluster;
use crate::controller::{Controller, Data};

/// Runs until the node drains. A node that was removed from its cluster fails.
pub(crate) async fn keep(
    cluster: Arc<Cluster>,
    controller: Arc<Controller>,
    draining: CancellationToken,
    failed: CancellationToken,
) {
    let own = cluster.peers.identity().node;
    let mut changes = controller.changes();
    let mut known = cluster.nodes();
    loop {
        changes.mark_unchanged();
        let (nodes, removed) = {
            let image = controller.image();
            (merged(&known, &image), image.removed.contains(&own))
        };
        if removed {
            tracing::error!("this node was removed from its cluster; the node ends");
            failed.cancel();
            return;
        }
        if nodes != known {
            cluster.nodes.lock().clone_from(&nodes);
            cluster.peers.set_addresses(nodes.clone());
            if let Err(error) = store(&cluster, nodes.clone()).await {
                tracing::warn!(%error, "where the other nodes are could not be stored");
            }
            known = nodes;
        }
        tokio::select! {
            () = draining.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// A cluster of one stores nothing: it may still be started without a listener.
async fn store(cluster: &Arc<Cluster>, nodes: BTreeMap<i32, String>) -> Result<(), String> {
    if nodes.len() < 2 {
        return Ok(());
    }
    let directory = cluster.directory.clone();
    let storing = tokio::task::spawn_blocking(move || directory.set_nodes(&nodes));
    storing.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// What is known, with what the metadata says.
fn merged(known: &BTreeMap<i32, String>, image: &Data) -> BTreeMap<i32, String> {
    let mut nodes = known.clone();
    nodes.retain(|id, _| !image.removed.contains(id));
    let told = image.brokers.values().filter(|broker| !broker.peer.is_empty());
    nodes.extend(told.map(|broker| (broker.id, broker.peer.clone())));
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Broker;

    #[test]
    fn the_metadata_wins_and_nodes_it_does_not_know_keep_their_address() {
        let known = [1, 2, 3, 9].map(|id| (id, format!("list:{id}"))).into();
        let mut image = Data::default();
        image.removed.insert(9);
        for (id, peer) in [(2, "metadata:2"), (3, ""), (4, "metadata:4")] {
            let broker = Broker { id, peer: peer.into(), ..Broker::default() };
            image.brokers.insert(id, broker);
        }
        let nodes: Vec<_> = merged(&known, &image).into_values().collect();
        assert_eq!(nodes, ["list:1", "metadata:2", "list:3", "metadata:4"]);
    }
}
