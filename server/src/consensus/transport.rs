//! How requests get to other nodes: over connections, or in a simulation.

use std::time::Duration;

use bytes::Bytes;

#[cfg(test)]
use super::simulation::Link;
use crate::peer::{self, Lane, Peers, Request, Response};

/// The way to the other nodes. Clones share it.
#[derive(Debug, Clone)]
pub(super) enum Transport {
    /// Connections.
    Peers(Peers),
    /// Links of a simulation.
    #[cfg(test)]
    Simulated(Link),
}

impl Transport {
    /// See [`Peers::call`].
    pub(super) async fn call(
        &self,
        to: i32,
        lane: Lane,
        request: Request,
        payloads: Vec<Bytes>,
        timeout: Duration,
    ) -> Result<Response, peer::Error> {
        match self {
            Self::Peers(peers) => peers.call(to, lane, request, payloads, timeout).await,
            #[cfg(test)]
            Self::Simulated(link) => link.call(to, lane, request, payloads, timeout).await,
        }
    }
}
