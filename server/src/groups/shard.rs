//! The groups of one partition of `__consumer_offsets` on one replica.
//!
//! Every replica reads what is committed into its table. The one that leads coordinates, once its table holds everything
//! that was ever acknowledged: it answers clients, and what it must keep goes through the queue into the log.
//!
//! Invariants:
//! - A request is answered from a state that belongs to one term of leadership; when that ends, whoever waits is sent to
//!   look for the coordinator, and what is queued is dropped.
//! - Whatever is told to be stored is in the table by then.
//!
//! Not here: the reading and the clock (`tail.rs`), the writing (`queue.rs`).

use std::collections::HashMap;
use std::sync::Arc;

use jangbu_engine::Offset;
use kafka_protocol::ResponseError;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::consumer::Catalog;
use super::effects::{Effects, Reply};
use super::queue::Queue;
use super::{Limits, Machine, Now, Table, Token};
use crate::broker::{Broker, now_ms};
use crate::partition::Partition;

/// What a shard knows.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) table: Table,
    /// The groups, and the leader epoch in which they are coordinated here.
    pub(super) leading: Option<(i32, Machine)>,
    waiting: HashMap<Token, oneshot::Sender<Reply>>,
    last_token: Token,
    pub(super) queue: Queue,
    /// Until when the clock sleeps, unless it is woken.
    pub(super) sleeps_until: Option<u64>,
}

/// One partition's groups.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(super) partition: Arc<Partition>,
    pub(super) broker: Arc<Broker>,
    pub(super) state: Mutex<State>,
    /// Up to where the table holds the log.
    pub(super) applied: watch::Sender<Offset>,
    /// Wakes the tail and the clock.
    pub(super) wake: Arc<Notify>,
    /// Wakes the writer.
    pub(super) queued: Notify,
    pub(super) ended: CancellationToken,
    started: Instant,
}

/// What a request works on, under the shard's lock.
pub(crate) struct Ask<'a> {
    pub(crate) machine: &'a mut Machine,
    pub(crate) table: &'a Table,
    pub(crate) token: Token,
    pub(crate) now: Now,
    pub(crate) limits: &'a Limits,
    pub(crate) fx: &'a mut Effects,
}

impl Shard {
    /// The groups of a partition, of which nothing is read yet.
    pub(super) fn new(partition: Arc<Partition>, broker: Arc<Broker>) -> Self {
        Self {
            partition,
            ended: broker.draining.child_token(),
            broker,
            state: Mutex::default(),
            applied: watch::Sender::new(Offset(0)),
            wake: Arc::default(),
            queued: Notify::new(),
            started: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> Now {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { ms, wall_ms: now_ms() }
    }

    pub(super) fn instant(&self, ms: u64) -> Instant {
        self.started + std::time::Duration::from_millis(ms)
    }

    pub(super) fn limits(&self) -> Limits {
        self.broker.groups.limits()
    }

    /// What consumer groups know of the metadata.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        self.broker.groups.catalog(&self.broker)
    }

    /// Has a request worked on that is answered later: through the receiver, which fails when this node ceases to
    /// coordinate.
    ///
    /// # Errors
    /// What `work` refuses; `NOT_COORDINATOR`; `COORDINATOR_LOAD_IN_PROGRESS` while the table lacks something;
    /// `COORDINATOR_NOT_AVAILABLE` when too much waits to be stored.
    pub(crate) fn ask(
        &self,
        work: impl FnOnce(Ask<'_>) -> Result<(), ResponseError>,
    ) -> Result<oneshot::Receiver<Reply>, ResponseError> {
        let (limits, now, topics) = (self.limits(), self.now(), self.catalog());
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.queue.is_full() {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        let machine = self.machine(&mut state.leading)?;
        machine.learn(topics);
        state.last_token += 1;
        let token = state.last_token;
        let mut fx = Effects::default();
        let ask = Ask { machine, table: &state.table, token, now, limits: &limits, fx: &mut fx };
        let worked = work(ask);
        let (sender, receiver) = oneshot::channel();
        if worked.is_ok() {
            state.waiting.insert(token, sender);
        }
        self.carry_out(state, fx);
        worked.map(|()| receiver)
    }

    /// Has a request worked on that is answered at once.
    ///
    /// # Errors
    /// `NOT_COORDINATOR`, `COORDINATOR_LOAD_IN_PROGRESS`.
    pub(crate) fn act<R>(&self, work: impl FnOnce(Ask<'_>) -> R) -> Result<R, ResponseError> {
        let (limits, now, topics) = (self.limits(), self.now(), self.catalog());
        let mut state = self.state.lock();
        let state = &mut *state;
        let machine = self.machine(&mut state.leading)?;
        machine.learn(topics);
        let mut fx = Effects::default();
        let token = state.last_token;
        let ask = Ask { machine, table: &state.table, token, now, limits: &limits, fx: &mut fx };
        let answer = work(ask);
        self.carry_out(state, fx);
        Ok(answer)
    }

    /// The groups, if they are coordinated here.
    fn machine<'a>(
        &self,
        leading: &'a mut Option<(i32, Machine)>,
    ) -> Result<&'a mut Machine, ResponseError> {
        if !self.partition.leads() {
            return Err(ResponseError::NotCoordinator);
        }
        let epoch = self.partition.epoch();
        match leading {
            Some((led, machine)) if *led == epoch => Ok(machine),
            _ => {
                self.wake.notify_one();
                Err(ResponseError::CoordinatorLoadInProgress)
            }
        }
    }

    /// Ends what runs for it.
    pub(super) fn end(&self) {
        self.ended.cancel();
        self.state.lock().waiting.clear();
    }

    /// Wakes the tail when leadership is not what the groups take it to be.
    pub(super) fn look_at_leadership(&self) {
        let epoch = self.partition.leads().then(|| self.partition.epoch());
        if self.state.lock().leading.as_ref().map(|(epoch, _)| *epoch) != epoch {
            self.wake.notify_one();
        }
    }

    /// Answers, queues and sets the clock.
    pub(super) fn carry_out(&self, state: &mut State, fx: Effects) {
        for (token, reply) in fx.replies {
            if let Some(waiter) = state.waiting.remove(&token) {
                // Somebody who has gone needs no answer.
                let _ = waiter.send(reply);
            }
        }
        if !fx.writes.is_empty() {
            state.queue.push(fx.writes);
            self.queued.notify_one();
        }
        let next = state.leading.as_ref().and_then(|(_, machine)| machine.next_deadline());
        if let Some(next) = next
            && state.sleeps_until.is_none_or(|until| next < until)
        {
            self.wake.notify_one();
        }
    }

    /// Begins or ceases to coordinate, as the partition's leadership is. `level` says that the table holds all that the
    /// partition's high watermark covered when this replica led already.
    pub(super) fn look_at_role(&self, level: Option<i32>) {
        let epoch = self.partition.leads().then(|| self.partition.epoch());
        let mut state = self.state.lock();
        let state = &mut *state;
        let led = state.leading.as_ref().map(|(epoch, _)| *epoch);
        if led == epoch {
            return;
        }
        if led.is_some() {
            state.leading = None;
            state.queue.clear();
            // Dropping them tells them.
            state.waiting.clear();
            tracing::debug!(partition = %self.partition.id(), "groups are coordinated elsewhere");
        }
        if let Some(epoch) = epoch.filter(|epoch| Some(*epoch) == level) {
            let (limits, now) = (self.limits(), self.now());
            let mut fx = Effects::default();
            let machine = Machine::load(&state.table, now, &limits, &mut fx);
            let groups = machine.iter().count();
            state.leading = Some((epoch, machine));
            self.carry_out(state, fx);
            tracing::debug!(partition = %self.partition.id(), groups, "groups are coordinated here");
        }
    }

    /// Waits until the table holds everything that any node has acknowledged before the call.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` when another node may lead; `COORDINATOR_NOT_AVAILABLE` when too few answer.
    pub(crate) async fn linearize(&self) -> Result<(), ResponseError> {
        use crate::partition::Error;
        match self.partition.linearize().await {
            Ok(()) => {}
            Err(Error::Timeout) => return Err(ResponseError::CoordinatorNotAvailable),
            Err(_) => return Err(ResponseError::NotCoordinator),
        }
        self.wait_for(self.partition.bounds().high_watermark).await
    }

    /// Waits until the table holds the log up to `offset`.
    ///
    /// # Errors
    /// `NOT_COORDINATOR` when the partition ends.
    pub(super) async fn wait_for(&self, offset: Offset) -> Result<(), ResponseError> {
        let mut applied = self.applied.subscribe();
        tokio::select! {
            level = applied.wait_for(|applied| *applied >= offset) => {
                level.map(|_| ()).map_err(|_| ResponseError::NotCoordinator)
            }
            () = self.ended.cancelled() => Err(ResponseError::NotCoordinator),
        }
    }
}
