//! Joining a cluster that exists: a node asks for a place, and the leader of the metadata group registers it.
//!
//! Asking again, since an answer was lost or the node stopped before it had stored it, gets the same id: the directory
//! says who asks.

use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, Standing};
use crate::config::parse_host_port;
use crate::controller::Broker;
use crate::error::Error;
use crate::peer::{Request, Response};
use crate::proto::peer::{Join, Joined};

/// Between two rounds of asking.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one node may take to answer; it may have to wait for an election.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Addresses that are asked.
const ADDRESSES_MAX: usize = 64;
/// Longest address of a node that joins.
const ADDRESS_BYTES_MAX: usize = 300;

impl Cluster {
    /// Asks the nodes at these addresses, and those they name, until the one that leads has given this node a place.
    pub(super) async fn join(&self, mut addresses: Vec<String>) -> Result<Standing, Error> {
        let mut next = 0;
        loop {
            let address = addresses[next % addresses.len()].clone();
            next += 1;
            let problem = match self.ask_to_join(&address).await {
                Ok(Asked::Joined(standing)) => {
                    tracing::info!(node = standing.node, "joined cluster {}", standing.cluster_id);
                    self.directory.settle(&standing)?;
                    return Ok(standing);
                }
                Ok(Asked::Elsewhere(others)) => {
                    let new = others.into_iter().filter(|other| !addresses.contains(other));
                    let new: Vec<_> = new.take(ADDRESSES_MAX - addresses.len()).collect();
                    addresses.extend(new);
                    "the cluster has no leader that answers".to_owned()
                }
                Err(problem) => problem,
            };
            if next % addresses.len() == 0 {
                self.status
                    .wait_for(format!("a place in the cluster, asked for at {address}: {problem}"));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn ask_to_join(&self, address: &str) -> Result<Asked, String> {
        let join = Join {
            listen: self.own.kafka.clone(),
            peer_listen: self.own.peer.clone(),
            rack: self.own.rack.clone(),
            directory: self.directory.id.to_vec().into(),
            node: self.own.node,
        };
        let answer = self.peers.ask(address, Request::Join(join), ANSWER_MAX).await;
        let joined = match answer.map_err(|error| error.to_string())? {
            Response::Joined(joined) => joined,
            _ => return Err("its answer is none".to_owned()),
        };
        if joined.not_leader {
            return Ok(Asked::Elsewhere(joined.peers.into_values().collect()));
        }
        let own = self.own.node;
        if joined.node < 1 || (own != 0 && joined.node != own) || joined.cluster_id.is_empty() {
            return Err(format!(
                "it says that this is node {} of {:?}",
                joined.node, joined.cluster_id
            ));
        }
        let valid = |entry: &(i32, String)| entry.0 >= 1 && parse_host_port(&entry.1).is_some();
        let mut nodes: std::collections::BTreeMap<_, _> =
            joined.peers.into_iter().filter(valid).collect();
        nodes.insert(joined.node, self.own.peer.clone());
        let (node, cluster_id) = (joined.node, joined.cluster_id);
        Ok(Asked::Joined(Standing { node, cluster_id, voters: Vec::new(), nodes }))
    }

    /// Answers a node that wants to join: with its place if this node leads the metadata group, else with who may.
    pub(super) async fn answer_join(self: Arc<Self>, join: Join) -> Result<Joined, String> {
        let not_leader = Joined { not_leader: true, peers: self.nodes(), ..Joined::default() };
        let Some(controller) = self.controller.get().filter(|controller| controller.leads()) else {
            return Ok(not_leader);
        };
        let cluster_id = controller.image().cluster_id.clone();
        if cluster_id.is_empty() {
            return Ok(not_leader);
        }
        if controller.is_voter(join.node) {
            return Err(format!(
                "node {} votes on the cluster's metadata and cannot come with an empty data directory: start it with \
                 --join, without --node and --cluster",
                join.node
            ));
        }
        let broker = broker(join)?;
        let node = controller.register_broker(&broker).await.map_err(|error| error.to_string())?;
        tracing::info!(node, peer = broker.peer, "a node joins");
        let mut peers = self.nodes();
        peers.insert(node, broker.peer);
        Ok(Joined { not_leader: false, node, cluster_id, peers })
    }
}

/// What asking came to.
enum Asked {
    Joined(Standing),
    /// Others to ask.
    Elsewhere(Vec<String>),
}

/// The broker that asks; what it says is checked.
fn broker(join: Join) -> Result<Broker, String> {
    let wrong = |what: &str| format!("a node cannot join with the {what} it says");
    let too_long = |text: &String| text.len() > ADDRESS_BYTES_MAX;
    if [&join.listen, &join.peer_listen, &join.rack].into_iter().any(too_long) {
        return Err(wrong("addresses"));
    }
    let (host, port) = parse_host_port(&join.listen).ok_or_else(|| wrong("address for clients"))?;
    parse_host_port(&join.peer_listen).ok_or_else(|| wrong("address for other nodes"))?;
    let directory = join.directory.as_ref().try_into().map_err(|_| wrong("directory id"))?;
    if join.node < 0 || directory == [0; 16] {
        return Err(wrong("id"));
    }
    let (id, peer, rack) = (join.node, join.peer_listen, join.rack);
    Ok(Broker { id, host, port, rack, peer, directory, ..Broker::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_when_it_joins_is_checked() {
        let join = Join {
            listen: "h:9092".into(),
            peer_listen: "h:9093".into(),
            rack: "r".into(),
            directory: vec![7; 16].into(),
            node: 0,
        };
        let joined = broker(join.clone()).unwrap();
        assert_eq!((joined.host.as_str(), joined.port, joined.directory), ("h", 9092, [7; 16]));
        for wrong in [
            Join { listen: "h".into(), ..join.clone() },
            Join { peer_listen: String::new(), ..join.clone() },
            Join { directory: vec![7; 15].into(), ..join.clone() },
            Join { directory: vec![0; 16].into(), ..join.clone() },
            Join { node: -1, ..join.clone() },
            Join { rack: "r".repeat(1000), ..join.clone() },
        ] {
            assert!(broker(wrong.clone()).is_err(), "{wrong:?}");
        }
    }
}
