//! A consumer as a member of a group: rebalances, and the commits that go with them.
//!
//! ```text
//!        subscribe         join task             adopt: give up, take, tell the listener
//!  out ───────────► Join ───────────► Joining ───────────► Adopting ───────────► Stable
//!                    ▲                                          │ gave something up  │ signal
//!                    └──────────────────────────────────────────┴────────────────────┘
//! ```
//!
//! Invariant: a step that is dropped in its middle is taken again from its beginning.
//!
//! Not here: what is said to the coordinator (`member.rs`, `offsets.rs`), who gets what (`assignors.rs`).

mod assignors;
mod config;
mod coordinator;
mod member;
mod offsets;
mod protocol;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Assigned, Consumer, Event, OffsetReset, Start, TopicPartition};
use crate::{Client, Error, ErrorCode, Position, Result};
pub use assignors::Assignor;
use config::Silent;
pub use config::{GroupConfig, ListenerFuture, RebalanceListener};
use coordinator::Coordinator;
pub(super) use member::Joined;
use member::{Link, Signal};
pub use offsets::Committer;
use offsets::Identity;

/// The least time until it is looked again whether a commit is done.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
enum Phase {
    /// Nothing is subscribed to.
    Out,
    Join,
    Joining,
    Adopting(Joined),
    Stable,
}

/// A member's state.
pub(super) struct Membership {
    link: Link,
    phase: Phase,
    listener: Arc<dyn RebalanceListener>,
    signals: mpsc::UnboundedReceiver<Signal>,
    /// What was signalled and not dealt with yet.
    pending: Option<Signal>,
    heartbeat: Option<tokio::task::AbortHandle>,
    polled: Arc<Mutex<Instant>>,
    next_commit: Instant,
    /// The commit that was started by itself. There is one at a time, so that none overtakes another.
    committing: Option<tokio::task::JoinHandle<Result<()>>>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("link", &self.link).field("phase", &self.phase).finish()
    }
}

impl Membership {
    pub(super) fn new(client: &Client, config: GroupConfig, rack: Option<String>) -> Self {
        let coordinator = Coordinator::new(Arc::clone(client.cluster()), config.id.clone());
        let committer = Committer::new(Arc::new(coordinator), config.instance_id.clone());
        let topics = Arc::new(BTreeSet::new());
        Self {
            link: Link { committer, config: Arc::new(config), topics, rack },
            phase: Phase::Out,
            listener: Arc::new(Silent),
            signals: mpsc::unbounded_channel().1,
            pending: None,
            heartbeat: None,
            polled: Arc::new(Mutex::new(Instant::now())),
            next_commit: Instant::now(),
            committing: None,
        }
    }

    fn stop_heartbeat(&mut self) {
        if let Some(heartbeat) = self.heartbeat.take() {
            heartbeat.abort();
        }
        self.pending = None;
        self.signals = mpsc::unbounded_channel().1;
    }

    fn start_heartbeat(&mut self, counts: Option<BTreeMap<String, i32>>) {
        let (sender, signals) = mpsc::unbounded_channel();
        self.signals = signals;
        self.pending = None;
        let beating = self.link.clone().beat(counts, Arc::clone(&self.polled), sender);
        self.heartbeat = Some(tokio::spawn(beating).abort_handle());
    }
}

impl Drop for Membership {
    /// Leaves the group in the background, if there still is a runtime.
    fn drop(&mut self) {
        self.stop_heartbeat();
        let link = self.link.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { link.leave().await });
        }
    }
}

/// Waits until the heartbeat has something to tell; for ever without a group.
pub(super) async fn signalled(group: &mut Option<Membership>) {
    if let Some(group) = group
        && let Some(signal) = group.signals.recv().await
    {
        group.pending = Some(signal);
        return;
    }
    std::future::pending().await
}

impl Consumer {
    /// Reads the group's share of these topics from now on, instead of what was subscribed to before. Partitions are
    /// assigned by polling.
    ///
    /// # Errors
    /// [`Error::Invalid`] without [`super::ConsumerConfig::group`].
    pub fn subscribe(&mut self, topics: &[&str]) -> Result<()> {
        let group = self.group.as_mut().ok_or_else(no_group)?;
        group.link.topics = Arc::new(topics.iter().map(|topic| (*topic).to_owned()).collect());
        group.phase = Phase::Join;
        Ok(())
    }

    /// Has `listener` told of partitions that come and go.
    ///
    /// # Errors
    /// As [`Consumer::subscribe`].
    pub fn listen(&mut self, listener: Arc<dyn RebalanceListener>) -> Result<()> {
        self.group.as_mut().ok_or_else(no_group)?.listener = listener;
        Ok(())
    }

    /// Commits the positions of all partitions: everything that has been handed out.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a group, and those of [`Committer::commit`].
    pub async fn commit(&mut self) -> Result<()> {
        let committer = self.committer()?;
        self.await_commit().await;
        let offsets = self.moved();
        committer.commit(&offsets).await?;
        self.note_committed(&offsets);
        Ok(())
    }

    /// Commits and reads offsets of the group, also while records are being read.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a group.
    pub fn committer(&self) -> Result<Committer> {
        Ok(self.group.as_ref().ok_or_else(no_group)?.link.committer.clone())
    }

    /// Commits, if that is done by itself, gives up all partitions and leaves the group.
    ///
    /// # Errors
    /// Those of the commit; the group is left all the same.
    pub async fn close(mut self) -> Result<()> {
        let Some(group) = &mut self.group else { return Ok(()) };
        group.stop_heartbeat();
        let (by_itself, link) = (group.link.config.auto_commit.is_some(), group.link.clone());
        let listener = Arc::clone(&group.listener);
        let committed = if by_itself { self.commit().await } else { Ok(()) };
        let all = self.assignment();
        if !all.is_empty() && link.committer.identity().generation >= 0 {
            listener.revoked(&all, &link.committer).await;
        }
        link.leave().await;
        committed
    }

    /// Positions that differ from what was last committed.
    fn moved(&self) -> BTreeMap<TopicPartition, i64> {
        let moved = self.assigned.iter().filter(|(_, assigned)| {
            assigned.start == Start::At && assigned.position != assigned.committed
        });
        moved.map(|(place, assigned)| (place.clone(), assigned.position)).collect()
    }

    fn note_committed(&mut self, offsets: &BTreeMap<TopicPartition, i64>) {
        for (place, offset) in offsets {
            if let Some(assigned) = self.assigned.get_mut(place) {
                assigned.committed = *offset;
            }
        }
    }

    /// The application is there: heartbeats may go on.
    pub(super) fn note_poll(&mut self) {
        if let Some(group) = &self.group {
            *group.polled.lock().expect("nobody panics with this lock") = Instant::now();
        }
    }

    /// Starts a commit of what earlier polls handed out, if it is time.
    pub(super) async fn commit_by_itself(&mut self) {
        let Some(group) = &self.group else { return };
        let Some(interval) = group.link.config.auto_commit else { return };
        let now = Instant::now();
        let is_running = group.committing.as_ref().is_some_and(|running| !running.is_finished());
        if !matches!(group.phase, Phase::Stable) || now < group.next_commit || is_running {
            return;
        }
        self.await_commit().await;
        let offsets = self.moved();
        self.note_committed(&offsets);
        let Some(group) = &mut self.group else { return };
        group.next_commit = now + interval;
        if !offsets.is_empty() {
            let committer = group.link.committer.clone();
            let committing = async move { committer.commit(&offsets).await };
            group.committing = Some(tokio::spawn(committing));
        }
    }

    /// When a member that waits for records has to commit, or to show that the application is there.
    pub(super) fn next_turn(&self, now: Instant) -> Option<Instant> {
        let group = self.group.as_ref()?;
        let seen = now + group.link.config.rebalance_timeout / 3;
        let commits =
            matches!(group.phase, Phase::Stable) && group.link.config.auto_commit.is_some();
        Some(if commits { seen.min(group.next_commit.max(now + COMMIT_PAUSE)) } else { seen })
    }

    /// Waits for the commit that was started by itself.
    async fn await_commit(&mut self) {
        let Some(group) = &mut self.group else { return };
        let Some(running) = &mut group.committing else { return };
        let ended = running.await;
        group.committing = None;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "cannot commit, will try again");
            self.assigned.values_mut().for_each(|assigned| assigned.committed = -1);
        }
    }

    pub(super) fn joined(&mut self, result: Result<Joined>) -> Result<()> {
        let Some(group) = &mut self.group else { return Ok(()) };
        if !matches!(group.phase, Phase::Joining) {
            return Ok(());
        }
        match result {
            Ok(joined) => group.phase = Phase::Adopting(joined),
            Err(error) => {
                group.phase = Phase::Join;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes the next steps of a rebalance, if there is one.
    pub(super) async fn rebalance(&mut self) -> Result<()> {
        loop {
            let Some(group) = &mut self.group else { return Ok(()) };
            if let Ok(signal) = group.signals.try_recv() {
                group.pending = Some(signal);
            }
            match (&group.phase, &group.pending) {
                (Phase::Stable, Some(Signal::Lost(_))) => self.lose().await,
                (Phase::Stable, Some(Signal::Rebalance)) => group.phase = Phase::Join,
                (Phase::Join, _) => {
                    self.begin_to_join().await;
                    return Ok(());
                }
                (Phase::Adopting(joined), _) => {
                    let joined = joined.clone();
                    self.adopt(joined).await;
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
        group.phase = Phase::Joining;
        let link = group.link.clone();
        self.tasks.spawn(async move { Event::Joined(link.join(owned).await) });
    }

    /// Commits what was handed out of partitions, tells the listener, and stops reading them.
    async fn give_up(&mut self, partitions: Vec<TopicPartition>) {
        let Some(group) = &self.group else { return };
        if partitions.is_empty() {
            return;
        }
        let (link, listener) = (group.link.clone(), Arc::clone(&group.listener));
        if link.config.auto_commit.is_some()
            && let Err(error) = self.commit().await
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
        if let Some(Signal::Lost(error)) = &group.pending {
            tracing::warn!(group = group.link.config.id, %error, "out of the group, will join again");
        }
        let listener = Arc::clone(&group.listener);
        listener.lost(&all).await;
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

fn no_group() -> Error {
    Error::Invalid("the consumer has no group: set `group` in its configuration".into())
}
