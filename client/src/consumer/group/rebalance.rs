//! The steps of a rebalance: joining or hearing of an assignment, giving up and taking partitions, losing all.
//!
//! Invariant: a step that is dropped in its middle is taken again from its beginning.
//!
//! Not here: what is said to the coordinator (`member.rs`, `heartbeat.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tracing::Instrument;

use super::{Assignment, Identity, Joined, Phase, Says, Signal};
use crate::consumer::{Assigned, Consumer, Event, OffsetReset, Start, TopicPartition};
use crate::metrics::Count;
use crate::{ErrorCode, Position, Result};

impl Consumer {
    /// Files what the attempt of this number to join, or to look up an assignment, has come to.
    pub(in crate::consumer) fn joined(&mut self, turn: u64, result: Result<Joined>) -> Result<()> {
        let Some(group) = &mut self.group else { return Ok(()) };
        match group.phase {
            Phase::Joining(current) | Phase::Resolving(current, _) if current == turn => {}
            _ => return Ok(()),
        }
        match result {
            Ok(joined) => group.phase = Phase::Adopting(joined),
            Err(error) => {
                let target = group.target.clone().filter(|_| group.is_modern());
                group.phase = if target.is_some() { Phase::Stable } else { Phase::Join };
                group.pending = group.pending.take().or_else(|| target.map(Signal::Assigned));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes the next steps of a rebalance, if there is one.
    pub(in crate::consumer) async fn rebalance(&mut self) -> Result<()> {
        loop {
            let Some(group) = &mut self.group else { return Ok(()) };
            group.hear();
            match (&group.phase, &group.pending) {
                (Phase::Stable | Phase::Resolving(..), Some(Signal::Lost(_))) => self.lose().await,
                (Phase::Stable | Phase::Resolving(..), Some(Signal::Refused(error))) => {
                    let error = error.clone();
                    self.lose().await;
                    return Err(error);
                }
                (Phase::Stable | Phase::Resolving(..), Some(Signal::Assigned(target))) => {
                    let target = target.clone();
                    self.begin_to_resolve(target);
                }
                (Phase::Stable, Some(Signal::Rebalance)) => group.phase = Phase::Join,
                (Phase::Join, _) if group.is_modern() => self.begin_to_stay(),
                (Phase::Join, _) => {
                    self.begin_to_join().await;
                    return Ok(());
                }
                (Phase::Adopting(joined), _) => {
                    let joined = joined.clone();
                    let group = &group.link.config.id;
                    let span =
                        tracing::debug_span!("adopt", group, assigned = joined.assigned.len());
                    self.adopt(joined).instrument(span).await;
                }
                _ => return Ok(()),
            }
        }
    }

    async fn begin_to_join(&mut self) {
        let Some(group) = &self.group else { return };
        if !group.link.config.is_cooperative() {
            let all = self.assigned.keys().cloned().collect();
            self.give_up(all).await;
        }
        let owned: BTreeSet<TopicPartition> = self.assigned.keys().cloned().collect();
        let Some(group) = &mut self.group else { return };
        group.stop_heartbeat();
        group.turn += 1;
        let turn = group.turn;
        group.phase = Phase::Joining(turn);
        let link = group.link.clone();
        group.began = Instant::now();
        let span = tracing::debug_span!("join", group = link.config.id);
        let joining = async move { Event::Joined { turn, result: link.join(owned).await } };
        self.tasks.spawn(joining.instrument(span));
    }

    /// Becomes a member of the consumer protocol, or has the heartbeat of one say what it wants now.
    fn begin_to_stay(&mut self) {
        let Some(group) = &mut self.group else { return };
        group.phase = Phase::Stable;
        let (topics, pattern) = (Arc::clone(&group.link.topics), group.link.pattern.clone());
        if group.heartbeat.is_none() {
            let mut identity = group.link.committer.identity();
            if identity.member.is_empty() {
                identity.member = uuid::Uuid::new_v4().to_string();
            }
            identity.generation = -1;
            group.link.committer.become_member(identity);
            group.says.send_replace(Says { topics, pattern, owned: Assignment::new() });
            group.start_heartbeat(None);
            let pause = group.link.config.auto_commit.unwrap_or_default();
            group.next_commit = Instant::now() + pause;
            return;
        }
        group.says.send_modify(|says| (says.topics, says.pattern) = (topics, pattern));
        // What was being taken up when the subscription changed.
        let left = group.target.clone().map(Signal::Assigned);
        group.pending = group.pending.take().or(left);
    }

    /// Looks up what the coordinator wants the member to read, unless that is what it reads.
    fn begin_to_resolve(&mut self, target: Assignment) {
        let owned: BTreeSet<TopicPartition> = self.assigned.keys().cloned().collect();
        let Some(group) = &mut self.group else { return };
        if let Phase::Resolving(_, task) = &group.phase {
            task.abort();
        }
        group.phase = Phase::Stable;
        group.pending = None;
        group.target = Some(target.clone());
        if group.says.borrow().owned == target {
            return;
        }
        group.turn += 1;
        group.began = Instant::now();
        let (turn, link) = (group.turn, group.link.clone());
        let span = tracing::debug_span!("resolve", group = link.config.id);
        let looking =
            async move { Event::Joined { turn, result: link.resolve(target, owned).await } };
        let task = self.tasks.spawn(looking.instrument(span));
        group.phase = Phase::Resolving(turn, task);
    }

    /// Commits what was handed out of partitions, tells the listener, and stops reading them.
    async fn give_up(&mut self, partitions: Vec<TopicPartition>) {
        let Some(group) = &self.group else { return };
        if partitions.is_empty() {
            return;
        }
        let (link, listener) = (group.link.clone(), Arc::clone(&group.listener));
        if link.config.auto_commit.is_some()
            && let Err(error) = self.commit_at_last().await
        {
            tracing::warn!(%error, "cannot commit before partitions are given up");
        }
        listener.revoked(&partitions, &link.committer).await;
        partitions.iter().for_each(|place| self.remove(place));
    }

    async fn adopt(&mut self, joined: Joined) {
        let gone: Vec<TopicPartition> = self
            .assigned
            .keys()
            .filter(|place| !joined.assigned.contains(place))
            .cloned()
            .collect();
        let gave_up = !gone.is_empty();
        self.give_up(gone).await;
        let added: Vec<TopicPartition> = joined
            .assigned
            .iter()
            .filter(|place| !self.assigned.contains_key(place))
            .cloned()
            .collect();
        let Some(group) = &self.group else { return };
        tracing::debug!(group = group.link.config.id, ?added, gave_up, "the group has rebalanced");
        let listener = Arc::clone(&group.listener);
        listener.assigned(&added).await;
        for place in added {
            let assigned = self.begin_at(joined.committed.get(&place).copied());
            self.add(place, assigned);
        }
        let Some(group) = &mut self.group else { return };
        let metrics = &self.client.cluster().config.metrics;
        metrics.count(Count::Rebalances, 1);
        metrics.rebalanced(group.began.elapsed());
        if let Some(owned) = joined.held {
            group.says.send_modify(|says| says.owned = owned);
            group.phase = Phase::Stable;
            return;
        }
        group.start_heartbeat(joined.counts);
        group.next_commit = Instant::now() + group.link.config.auto_commit.unwrap_or_default();
        // Whoever was to get what was given up gets it in another rebalance (KIP-429).
        let again = gave_up && group.link.config.is_cooperative();
        group.phase = if again { Phase::Join } else { Phase::Stable };
    }

    fn begin_at(&self, committed: Option<i64>) -> Assigned {
        match (committed, self.config.offset_reset) {
            (Some(offset), _) => Assigned::new(offset, Start::At),
            (None, OffsetReset::Earliest) => Assigned::new(-1, Start::LookUp(Position::Earliest)),
            (None, _) => Assigned::new(-1, Start::LookUp(Position::Latest)),
        }
    }

    /// The group has gone on without this member: its partitions are somebody else's by now.
    async fn lose(&mut self) {
        let all = self.assignment();
        let Some(group) = &self.group else { return };
        if let Phase::Resolving(_, task) = &group.phase {
            task.abort();
        }
        if let Some(Signal::Lost(error)) = &group.pending {
            self.client.cluster().config.metrics.count(Count::MembershipsLost, 1);
            tracing::warn!(group = group.link.config.id, %error, "out of the group, will join again");
        }
        let listener = Arc::clone(&group.listener);
        if !all.is_empty() {
            listener.lost(&all).await;
        }
        all.iter().for_each(|place| self.remove(place));
        let Some(group) = &mut self.group else { return };
        let mut identity = group.link.committer.identity();
        if let Some(Signal::Lost(error)) = &group.pending
            && error.code() == Some(ErrorCode::UnknownMemberId)
        {
            identity = Identity::nobody(identity.instance);
        }
        identity.generation = -1;
        group.link.committer.become_member(identity);
        group.stop_heartbeat();
        group.phase = Phase::Join;
    }
}
