//! How far the members of the metadata group are: only its leader knows, so that one is asked.

use std::time::Duration;

use jangbu_engine::Index;
use tokio::time::Instant;

use super::Controller;
use crate::consensus::ReplicaId;
use crate::peer::{Lane, Request, Response};
use crate::proto::peer::quorum_state::Member;
use crate::proto::peer::{Quorum, QuorumState};

/// How long it may take to find the leader and to be answered.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between attempts.
const PAUSE: Duration = Duration::from_millis(50);

impl Controller {
    /// How far the members are, from whoever leads; `None` when no leader answers in time.
    pub(crate) async fn quorum(&self) -> Option<QuorumState> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ask_leader(deadline).await {
                Some(state) if !state.not_leader => return Some(state),
                _ if Instant::now() + PAUSE >= deadline => return None,
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn ask_leader(&self, deadline: Instant) -> Option<QuorumState> {
        if self.leads() {
            return Some(self.quorum_here());
        }
        let leader = self.leader().filter(|leader| *leader != self.broker)?;
        let timeout = deadline.saturating_duration_since(Instant::now());
        let request = Request::Quorum(Quorum {});
        match self.peers.call(leader, Lane::Control, request, Vec::new(), timeout).await {
            Ok(Response::Quorum(state)) => Some(state),
            _ => None,
        }
    }

    /// How far the members are, if this broker leads.
    pub(crate) fn quorum_here(&self) -> QuorumState {
        let (replication, answered) = (self.group.replication(), self.group.answered());
        let (members, leadership) = (self.group.members(), self.group.leadership());
        if !leadership.local {
            return QuorumState { not_leader: true, ..QuorumState::default() };
        }
        let own_end = self.group.last_index();
        let member = |replica: ReplicaId, voter: bool| {
            let is_leader = leadership.leader == Some(replica);
            let last =
                if is_leader { own_end } else { replication.get(&replica).copied().flatten() };
            let answered = match is_leader {
                true => Some(Duration::ZERO),
                false => answered.get(&replica).copied(),
            };
            let answered_ms =
                answered.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
            Member { broker: replica.broker(), voter, end: end(last), answered_ms }
        };
        let voters = members.voters.iter().map(|replica| member(*replica, true));
        let learners = members.learners.iter().map(|replica| member(*replica, false));
        let mut members: Vec<Member> = voters.chain(learners).collect();
        members.sort_by_key(|member| member.broker);
        QuorumState {
            not_leader: false,
            term: leadership.term.0,
            committed: end(self.group.applied_index()),
            members,
            leader: self.broker,
        }
    }
}

/// The index behind the last one.
fn end(last: Option<Index>) -> u64 {
    last.map_or(0, |last| last.0.saturating_add(1))
}
