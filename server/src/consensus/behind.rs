//! Followers that ask their leader what is committed.
//!
//! openraft says what is committed with the next append, or once with an empty one, and never again: when that message is
//! lost, or the follower is started again afterwards, it hears nothing until something else is written or, where the group
//! has a clock, until the next heartbeat. In a group without a clock that nobody writes to, readers of that follower
//! would never see the end of the log. So a follower that has had entries for a while without knowing whether they are
//! committed asks, for all groups of a leader's node in one message, and each leader sends one heartbeat, which says it.
//!
//! Not here: who looks and asks (`health/followers.rs`), the leader's end (`router.rs`).

use std::time::Duration;

use jangbu_engine::Index;
use parking_lot::Mutex;

use super::{Group, Network, ReplicaId, StateMachine};
use crate::peer::{Lane, Request};
use crate::proto::peer::Behind;

/// Groups that are asked about in one message; those of a node beyond that have their turn later.
pub(crate) const GROUPS_MAX: usize = 10_000;
/// How long a node may take to answer; it only passes the question on.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How far this replica had applied its log when it was looked at last and had more, if it had.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Option<Option<Index>>>);

impl Seen {
    /// Whether the replica has come no further since the last look, and has had more to apply both times.
    fn is_stuck(&self, applied: Option<Index>, last: Option<Index>) -> bool {
        let seen = (applied < last).then_some(applied);
        let before = std::mem::replace(&mut *self.0.lock(), seen);
        seen.is_some() && seen == before
    }
}

impl<M: StateMachine> Group<M> {
    /// The leader to be asked what is committed, if this replica follows one and has had entries since the last call that
    /// it did not apply.
    pub(crate) fn leader_to_ask(&self) -> Option<ReplicaId> {
        let leader = self.leadership().leader.filter(|leader| *leader != self.replica.id)?;
        self.seen.is_stuck(self.applied_index(), self.last_index()).then_some(leader)
    }
}

impl Network {
    /// Has the leaders of these groups on `node` tell their followers what is committed, at most [`GROUPS_MAX`] of them.
    /// Whoever is not told asks again.
    pub(crate) async fn ask_what_is_committed(&self, node: i32, mut groups: Vec<u32>) {
        groups.truncate(GROUPS_MAX);
        let request = Request::Behind(Behind { groups });
        let asked = self.transport.call(node, Lane::Control, request, Vec::new(), TIMEOUT).await;
        if let Err(error) = asked {
            tracing::debug!(%error, node, "a leader does not tell what is committed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_stuck_when_it_has_more_twice_and_came_no_further() {
        let at = |index| Some(Index(index));
        let seen = Seen::default();
        assert!(!seen.is_stuck(at(4), at(5)), "its leader may be about to tell");
        assert!(seen.is_stuck(at(4), at(5)));
        assert!(seen.is_stuck(at(4), at(6)), "it goes on until it is told");
        assert!(!seen.is_stuck(at(5), at(6)));
        assert!(!seen.is_stuck(at(6), at(6)));
        assert!(!seen.is_stuck(at(6), at(7)), "it was level in between");
        let seen = Seen::default();
        assert!(!seen.is_stuck(None, None));
        assert!(!seen.is_stuck(None, at(0)));
        assert!(seen.is_stuck(None, at(0)), "it has applied nothing at all");
    }
}
