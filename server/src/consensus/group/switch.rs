//! Which Raft instance runs a group: started, put to sleep, woken, begun anew, stopped.
//!
//! Invariants:
//! - At most one instance runs on a log at a time.
//! - What is begun here is done to the end, even when whoever asked for it is gone: else an instance could be left
//!   behind that nobody knows, and another one be started on its log.

use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::Term;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Raft, ServerState};

use super::super::config;
use super::super::instance::Instance;
use super::super::lease::is_sole_voter;
use super::super::log::Log;
use super::super::log_store::{LogStore, durably};
use super::super::members::members;
use super::super::network::Network;
use super::super::replica::{Replica, Seat};
use super::super::state_machine::Applier;
use super::super::transfer::Settled;
use super::super::turns::Turns;
use super::super::{Clock, Error, ReplicaId, StateMachine};

/// How long a group may take to lead again when it wakes; it waits for no disk.
pub(super) const WAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts and stops the instances of one replica.
#[derive(Debug)]
pub(super) struct Switch<M: StateMachine> {
    pub(super) replica: Arc<Replica<M>>,
    /// Held while the group falls asleep, wakes, begins anew or stops.
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) network: Network,
    pub(super) clock: Clock,
    pub(super) turns: Arc<Turns>,
}

impl<M: StateMachine> Switch<M> {
    fn log(&self) -> &M::Log {
        self.replica.applier.log()
    }

    fn failed(&self, what: &'static str, reason: &str) -> Error {
        tracing::error!(log = %self.log().id(), reason, what);
        Error::Stopped
    }

    async fn instance(&self, same_leader: bool) -> Result<Instance<M>, String> {
        let Replica { id, applier, .. } = &*self.replica;
        instance(*id, applier, &self.turns, &self.network, self.clock, same_leader).await
    }

    /// The running instance; a group that sleeps is woken.
    pub(super) async fn awake(self: Arc<Self>) -> Result<Instance<M>, Error> {
        let _changing = self.changing.lock().await;
        let before = match &*self.replica.seat.read() {
            Seat::Awake(raft) => return Ok(raft.clone()),
            Seat::Stopped => return Err(Error::Stopped),
            Seat::Asleep(before) => *before,
        };
        let failed = |reason: &str| self.failed("a group cannot wake", reason);
        let raft = self.instance(true).await.map_err(|e| failed(&e))?;
        // Only a sole voter sleeps. Where it leads already this does nothing.
        let elected = raft.call(|core| async move { core.trigger().elect(false).await });
        elected.await.map_err(|e| failed(&e.to_string()))?;
        if !leads(&raft, WAKE_TIMEOUT).await {
            // It must not stay behind: the next proposal starts another one on the log.
            raft.shutdown().await;
            return Err(failed("it does not lead"));
        }
        let term = raft.server_metrics().borrow_watched().vote.leader_id().term;
        if before.term != Term(term) {
            tracing::warn!(log = %self.log().id(), term, "a group woke in another term");
        }
        *self.replica.seat.write() = Seat::Awake(raft.clone());
        Ok(raft)
    }

    /// Stops the instance and starts another one, which leads only once it was elected anew.
    pub(super) async fn begin_anew(self: Arc<Self>) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let Some(before) = self.replica.running() else { return Ok(()) };
        // Whatever waits for the old one is answered that it has stopped.
        before.shutdown().await;
        let failed = |reason: &str| self.failed("a group cannot begin anew", reason);
        // The new one takes all of the log for durable.
        if let Some(vote) = self.log().vote() {
            let synced = durably(|done| self.log().save_vote(vote, done)).await;
            synced.map_err(|error| failed(&error.to_string()))?;
        }
        let raft = self.instance(false).await.map_err(|e| failed(&e))?;
        *self.replica.seat.write() = Seat::Awake(raft);
        Ok(())
    }

    /// Stops the instance until the next proposal, if nothing is under way and no other replica could be waiting for
    /// this one. Whether the group sleeps now.
    pub(super) async fn sleep(self: Arc<Self>) -> bool {
        let _changing = self.changing.lock().await;
        let Some(raft) = self.replica.running() else { return self.replica.is_asleep() };
        let leadership = self.replica.leadership();
        let applied = self.replica.applier.applied_index();
        let level = applied == self.log().state().last.map(|l| l.index);
        let members = members(&raft.server_metrics().borrow_watched().membership_config);
        let alone = is_sole_voter(&raft) && members.learners.is_empty();
        if !leadership.local || !level || !alone {
            return false;
        }
        *self.replica.seat.write() = Seat::Asleep(leadership);
        if !raft.shutdown().await {
            // The instance has ended by an error of its own, which waking would only hide.
            *self.replica.seat.write() = Seat::Stopped;
            return false;
        }
        self.replica.save_checkpoint();
        true
    }

    /// Stops the replica after storing a checkpoint, so that a restart has nothing to apply again.
    pub(super) async fn shutdown(self: Arc<Self>) {
        let _changing = self.changing.lock().await;
        self.network.router().remove(self.log().id().0, &self.replica);
        let running = self.replica.running();
        *self.replica.seat.write() = Seat::Stopped;
        if let Some(raft) = running
            && !raft.shutdown().await
        {
            tracing::debug!(replica = self.replica.id.0, "raft task had already ended");
        }
        self.replica.save_checkpoint();
    }
}

/// A Raft instance on the applier's log and state.
pub(super) async fn instance<M: StateMachine>(
    replica: ReplicaId,
    applier: &Applier<M>,
    turns: &Arc<Turns>,
    network: &Network,
    clock: Clock,
    same_leader: bool,
) -> Result<Instance<M>, String> {
    let log = applier.log().clone();
    let config = config::config(format!("partition {}", log.id()), clock, same_leader);
    let config = Arc::new(config.validate().map_err(|e| e.to_string())?);
    let source = Settled::new(log.clone(), applier.transfers().clone());
    let ways = network.of(log.id().0, replica, Arc::new(source));
    let store = LogStore::new(log, Arc::clone(turns));
    let raft = Raft::new(replica.0, config, ways, store, applier.clone()).await;
    raft.map(Instance::new).map_err(|e| e.to_string())
}

/// Waits until `raft` leads.
async fn leads<M: StateMachine>(raft: &Instance<M>, timeout: Duration) -> bool {
    let mut metrics = raft.server_metrics();
    let waiting = async {
        while metrics.borrow_watched().state != ServerState::Leader {
            if metrics.changed().await.is_err() {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(timeout, waiting).await.unwrap_or(false)
}
