//! A consumer as a member of a group.
//!
//! ```text
//! classic   subscribe ─► Join ─► Joining ─► Adopting ─► Stable
//!                         ▲                    │ gave something up   │ signal: rebalance, lost
//!                         └────────────────────┴─────────────────────┘
//!
//! consumer  subscribe ─► Join ─► Stable ◄──────────────── Adopting: gives up, takes, says what it has
//!                         ▲        │ signal: assigned         ▲
//!                         │        └────────────────────► Resolving
//!                         └── signal: lost, from either
//! ```
//!
//! Not here: the steps (`rebalance.rs`), commits (`commits.rs`), what is said to the coordinator (`member.rs`,
//! `heartbeat.rs`, `offsets.rs`), who gets what (`assignors.rs`).

mod assignors;
mod commits;
mod config;
mod coordinator;
mod heartbeat;
mod member;
mod offsets;
mod protocol;
mod rebalance;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::watch;

use super::Consumer;
use crate::{Client, Error, Result};
pub use assignors::Assignor;
use config::Silent;
pub use config::{GroupConfig, GroupProtocol, ListenerFuture, RebalanceListener};
use coordinator::Coordinator;
use heartbeat::{Assignment, Says};
pub(super) use member::Joined;
use member::{Link, Signal};
pub use offsets::Committer;
use offsets::Identity;
pub(crate) use protocol::{decode_assignment, flat};

#[derive(Debug)]
enum Phase {
    /// Nothing is subscribed to.
    Out,
    Join,
    /// What the coordinator says is being waited for, the attempt of this number.
    Joining(u64),
    /// What was assigned is being looked up.
    Resolving(u64, tokio::task::AbortHandle),
    Adopting(Joined),
    Stable,
}

/// A member's state.
pub(super) struct Membership {
    link: Link,
    phase: Phase,
    listener: Arc<dyn RebalanceListener>,
    signals: watch::Receiver<Option<Signal>>,
    /// What was signalled and not dealt with yet.
    pending: Option<Signal>,
    heartbeat: Option<tokio::task::AbortHandle>,
    /// What a member of the consumer protocol says in its heartbeats.
    says: watch::Sender<Says>,
    /// What its coordinator last wanted it to read.
    target: Option<Assignment>,
    /// Attempts to join or to look up an assignment.
    turn: u64,
    /// When the last of them began.
    began: Instant,
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
            link: Link { committer, config: Arc::new(config), topics, pattern: None, rack },
            phase: Phase::Out,
            listener: Arc::new(Silent),
            signals: watch::channel(None).1,
            pending: None,
            heartbeat: None,
            says: watch::Sender::default(),
            target: None,
            turn: 0,
            began: Instant::now(),
            polled: Arc::new(Mutex::new(Instant::now())),
            next_commit: Instant::now(),
            committing: None,
        }
    }

    fn is_modern(&self) -> bool {
        self.link.config.protocol == GroupProtocol::Consumer
    }

    fn stop_heartbeat(&mut self) {
        if let Some(heartbeat) = self.heartbeat.take() {
            heartbeat.abort();
        }
        self.pending = None;
        self.target = None;
        self.signals = watch::channel(None).1;
    }

    fn start_heartbeat(&mut self, counts: Option<BTreeMap<String, i32>>) {
        let (sender, signals) = watch::channel(None);
        self.signals = signals;
        self.pending = None;
        let (link, polled) = (self.link.clone(), Arc::clone(&self.polled));
        let beating = if self.is_modern() {
            tokio::spawn(link.stay(self.says.subscribe(), polled, sender))
        } else {
            tokio::spawn(link.beat(counts, polled, sender))
        };
        self.heartbeat = Some(beating.abort_handle());
    }

    /// Takes note of what the heartbeat has signalled.
    fn hear(&mut self) {
        let signal = self.signals.borrow_and_update();
        if signal.has_changed() {
            self.pending.clone_from(&signal);
        }
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
        && group.signals.changed().await.is_ok()
    {
        group.pending = group.signals.borrow().clone();
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
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        self.want(topics, None)
    }

    /// The same for all topics whose whole name a regular expression matches, also those that come later. The broker decides
    /// what matches; it takes RE2's syntax.
    ///
    /// ```no_run
    /// # async fn example(client: jangbu_client::Client) -> jangbu_client::Result<()> {
    /// use jangbu_client::{ConsumerConfig, GroupConfig, GroupProtocol};
    ///
    /// let group = GroupConfig { protocol: GroupProtocol::Consumer, ..GroupConfig::new("audit") };
    /// let mut consumer =
    ///     client.consumer(ConsumerConfig { group: Some(group), ..ConsumerConfig::default() });
    /// consumer.subscribe_pattern("orders-.*")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] without a group of [`GroupProtocol::Consumer`]. An expression that the broker refuses is an
    /// error of the next poll.
    pub fn subscribe_pattern(&mut self, pattern: &str) -> Result<()> {
        if !self.group.as_ref().ok_or_else(no_group)?.is_modern() {
            let what = "patterns need a group with `protocol: GroupProtocol::Consumer`";
            return Err(Error::Invalid(what.into()));
        }
        self.want(BTreeSet::new(), Some(Arc::from(pattern)))
    }

    fn want(&mut self, topics: BTreeSet<String>, pattern: Option<Arc<str>>) -> Result<()> {
        let group = self.group.as_mut().ok_or_else(no_group)?;
        (group.link.topics, group.link.pattern) = (Arc::new(topics), pattern);
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
        let Some(group) = &self.group else { return Ok(()) };
        let (by_itself, link) = (group.link.config.auto_commit.is_some(), group.link.clone());
        let listener = Arc::clone(&group.listener);
        let committed = if by_itself { self.commit_at_last().await } else { Ok(()) };
        let all = self.assignment();
        if !all.is_empty() && link.committer.identity().generation >= 0 {
            listener.revoked(&all, &link.committer).await;
        }
        // Until here, since a commit needs an epoch that is the newest.
        self.group.as_mut().into_iter().for_each(Membership::stop_heartbeat);
        link.leave().await;
        committed
    }

    /// The application is there: heartbeats may go on.
    pub(super) fn note_poll(&mut self) {
        if let Some(group) = &self.group {
            *group.polled.lock().expect("nobody panics with this lock") = Instant::now();
        }
    }
}

fn no_group() -> Error {
    Error::Invalid("the consumer has no group: set `group` in its configuration".into())
}
