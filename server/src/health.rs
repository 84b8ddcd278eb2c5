//! Who leads the partitions of this node, and where their replicas move (`docs/decisions/0008-the-cluster.md`).
//!
//! Groups of partitions have no clock of their own. One task a node watches which nodes live and stands for election
//! where a leader is gone; it reports what this node leads, gives leadership back to preferred replicas, and carries
//! out the moves that the metadata asks for. What it is about to do follows from the metadata and the groups each
//! time it looks, so that it goes on wherever another leader or another start of the node left off.
//!
//! Nothing here is needed for safety: that is Raft's. Without it nobody would lead.
//!
//! Not here: the failure detector (`peer.rs`), marking brokers dead in the metadata (`controller`).

mod catch_up;
mod damage;
mod doubts;
mod elections;
mod followers;
mod in_sync;
mod leaders;
mod moves;
mod nodes;
mod reports;

use std::sync::Arc;

pub(crate) use doubts::led;
pub(crate) use in_sync::BehindHere;
pub(crate) use leaders::{Preference, hand_over, prefer};
pub(crate) use moves::Stalled;

use crate::broker::Broker;

/// Runs until the node drains.
pub(crate) async fn run(broker: Arc<Broker>) {
    let doubts = doubts::Doubts::default();
    let working = async {
        tokio::join!(
            doubts::run(&broker, &doubts),
            elections::run(&broker, &doubts),
            followers::run(&broker),
            reports::run(&broker),
            in_sync::run(&broker),
            damage::run(&broker),
            leaders::run(&broker),
            moves::run(&broker),
        )
    };
    tokio::select! {
        () = broker.draining.cancelled() => {}
        _ = working => {}
    }
}
