//! The way of a command: proposed here when this node leads the metadata group, else sent to the one that does.
//!
//! A command whose answer is lost is given again, so it may be applied twice. Each command bears that:
//!
//! | Command | Given twice |
//! |---|---|
//! | InitCluster, RegisterBroker, RemoveBroker, SetLiveness, AlterQuotas, ReportLeaders, ReportInSync, ReportDamaged | changes nothing more |
//! | CreateTopic, SetTopicConfigs, SetBrokerConfigs, SetGroupConfigs, Reassign, FinishReassignment | is recognized by what it has done |
//! | DeleteTopic, CreatePartitions | is refused; whoever gave it looks whether that is why (`controller.rs`) |
//! | AllocateProducerIds | skips ids |
//!
//! Whoever gets an answer has applied the command too, so that it reads what it wrote.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::{EntryKind, Index};
use prost::Message;
use tokio::time::Instant;

use super::{Command, Controller, Error, outcome, proto};
use crate::consensus;
use crate::peer::{self, Lane, Request, Response};
use crate::proto::peer::{Forward, Forwarded};

/// How long a command may take, elections included.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the leader may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Between attempts, doubling from the first to the second.
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(10)..Duration::from_millis(200);

/// Why an attempt gave no answer.
enum Missed {
    /// Nothing was carried out.
    NotDone,
    /// The command may be carried out, or may have been.
    Unknown,
    /// This node is stopping.
    Stopped,
}

/// What a command was answered.
pub(super) struct Answer {
    pub(super) outcome: Result<proto::Outcome, Error>,
    /// An earlier attempt may have been carried out, so that this one was refused for what that one did.
    pub(super) given_twice: bool,
}

impl Controller {
    /// Has the group carry out a command.
    pub(super) async fn submit(&self, command: Command) -> Result<proto::Outcome, Error> {
        self.submit_once(command).await.outcome
    }

    /// The same for commands that are refused when they are given twice.
    pub(super) async fn submit_once(&self, command: Command) -> Answer {
        let payload: Bytes = proto::Command { command: Some(command) }.encode_to_vec().into();
        let (answer, given_twice) = self.carry_out(&payload).await;
        let outcome = answer.map_err(Error::from).and_then(judge);
        Answer { outcome, given_twice }
    }

    /// Waits until this node has applied whatever any node was told to be done before the call.
    ///
    /// # Errors
    /// [`consensus::Error`], after about ten seconds without a leader.
    pub(crate) async fn linearize(&self) -> Result<(), consensus::Error> {
        self.carry_out(&Bytes::new()).await.0.map(|_| ())
    }

    /// Tries until there is an answer. An empty command only waits for what was done before.
    async fn carry_out(&self, command: &Bytes) -> (Result<Bytes, consensus::Error>, bool) {
        let deadline = Instant::now() + PATIENCE;
        let (mut pause, mut given_twice) = (PAUSE.start, false);
        loop {
            match self.attempt(command, deadline).await {
                Ok(reply) => return (Ok(reply), given_twice),
                Err(Missed::Stopped) => return (Err(consensus::Error::Stopped), given_twice),
                Err(Missed::NotDone) => {}
                Err(Missed::Unknown) => given_twice = true,
            }
            if Instant::now() + pause >= deadline {
                return (Err(consensus::Error::NotLeader), given_twice);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.end);
        }
    }

    async fn attempt(&self, command: &Bytes, deadline: Instant) -> Result<Bytes, Missed> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(Missed::Stopped);
        }
        if self.leads() {
            let here = tokio::time::timeout_at(deadline, self.carry_out_here(command.clone()));
            return here.await.unwrap_or(Err(Missed::Unknown));
        }
        let leader = self.leader().filter(|leader| *leader != self.broker);
        let Some(leader) = leader else { return Err(Missed::NotDone) };
        let timeout = deadline.saturating_duration_since(Instant::now()).min(ANSWER_MAX);
        let request = Request::Forward(Forward { command: command.clone() });
        match self.peers.call(leader, Lane::Control, request, Vec::new(), timeout).await {
            Ok(Response::Forwarded(answer)) if answer.not_leader => Err(Missed::NotDone),
            Ok(Response::Forwarded(answer)) => {
                // Should it take longer, the command is carried out all the same.
                let applied = self.group.wait_for_applied(Index(answer.index));
                let _ = tokio::time::timeout_at(deadline, applied).await;
                Ok(answer.outcome)
            }
            Ok(_) => Err(Missed::Unknown),
            Err(peer::Error::Unreachable { .. } | peer::Error::Timeout { .. }) => {
                Err(Missed::Unknown)
            }
            Err(peer::Error::Refused { reason, .. }) => {
                tracing::debug!(leader, reason, "the leader of the metadata group refuses");
                Err(Missed::Unknown)
            }
        }
    }

    /// Proposes a command here.
    async fn carry_out_here(&self, command: Bytes) -> Result<Bytes, Missed> {
        let missed = |error| match error {
            consensus::Error::Stopped => Missed::Stopped,
            _ => Missed::Unknown,
        };
        if command.is_empty() {
            return self.group.linearize().await.map(|()| Bytes::new()).map_err(missed);
        }
        let proposed = self.group.propose(EntryKind::Command, command).await.map_err(missed)?;
        proposed.await.map(|applied| applied.reply).map_err(missed)
    }

    /// Carries out a command of another node, if this one leads.
    ///
    /// # Errors
    /// When it is not known whether the command is carried out.
    pub(crate) async fn serve_forward(&self, forward: Forward) -> Result<Forwarded, String> {
        if !self.leads() {
            return Ok(Forwarded { not_leader: true, ..Forwarded::default() });
        }
        if !forward.command.is_empty() {
            proto::Command::decode(forward.command.clone()).map_err(|e| e.to_string())?;
        }
        let answer = tokio::time::timeout(ANSWER_MAX, self.carry_out_here(forward.command)).await;
        match answer {
            Ok(Ok(outcome)) => {
                // At least the command's own.
                let index = self.group.applied_index().map_or(0, |index| index.0);
                Ok(Forwarded { not_leader: false, outcome, index })
            }
            Ok(Err(Missed::NotDone)) => Ok(Forwarded { not_leader: true, ..Forwarded::default() }),
            Ok(Err(Missed::Unknown | Missed::Stopped)) | Err(_) => {
                Err("whether the command is carried out is not known".to_owned())
            }
        }
    }
}

/// What a command's answer means.
fn judge(reply: Bytes) -> Result<proto::Outcome, Error> {
    let outcome = proto::Outcome::decode(reply).unwrap_or_default();
    match outcome.error() {
        outcome::Error::None => Ok(outcome),
        outcome::Error::TopicExists => Err(Error::TopicExists),
        outcome::Error::UnknownTopic => Err(Error::UnknownTopic),
        outcome::Error::Stale => Err(Error::Stale),
        outcome::Error::Exhausted => Err(Error::Exhausted),
        outcome::Error::UnknownBroker => Err(Error::UnknownBroker),
        outcome::Error::InUse => Err(Error::InUse),
        outcome::Error::OtherDirectory => Err(Error::OtherDirectory),
        outcome::Error::NotReassigning => Err(Error::NotReassigning),
    }
}
