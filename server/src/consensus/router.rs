//! Takes the requests of other nodes to the replicas they are for.

use crate::peer::Incoming;

/// The replicas that run on this node, by group.
#[derive(Debug, Default)]
pub(crate) struct Router {}

impl Router {
    /// Answers Append, Heartbeats, Vote, PreVote, Snapshot and Transfer. Never waits.
    pub(crate) fn serve(&self, incoming: Incoming) {
        todo!("{incoming:?}")
    }
}
