//! One replica of one partition: admit and append batches, tell what may be read, read it.
//!
//! Invariants:
//! - Nothing above the high watermark is ever handed out, and the high watermark only covers what is
//!   durable on a majority.
//! - An idempotent producer's batch is proposed at most once, however often it is sent.
//! - Batches are opaque: only their fixed header is read.
//!
//! Not here: Kafka requests and answers (the handlers), which partitions exist (`replicas.rs`), the disk (`reading.rs`).

mod ahead;
mod cleaning;
mod keys;
mod machine;
mod members;
mod quick;
mod reading;
mod waiters;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jangbu_engine::{
    CleanRules, CleanStep, EntryKind, Epoch, Error as EngineError, Index, LogId, Offset,
    PartitionId, PartitionLog, Term, batch::Header,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::consensus::{self, Clock, Group, Leadership, Log, Network, Proposal, ReplicaId};
use crate::metrics::Metrics;
use crate::producers::{Refused, Seen};
pub(crate) use ahead::ReadAhead;
pub(crate) use keys::Wanted;
use machine::{Judgement, PartitionMachine, Progress};
pub(crate) use quick::Quick;
pub(crate) use waiters::Waiting;

/// How long a batch may be in flight before it is looked whether it still is.
const TWIN_TIMEOUT: Duration = Duration::from_secs(1);
/// For so long batches that were refused for want of a leader are expected to be sent again.
const SETTLING: Duration = Duration::from_secs(5);

/// Why a partition did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What is stored of the partition is damaged where its group needs it.
    #[error("what is stored of the partition is damaged")]
    Broken,
    /// Another replica leads, or none does.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// The caller knows an older leader epoch than this replica.
    #[error("the leader epoch {given} is older than the current one, {current}")]
    FencedEpoch { given: i32, current: i32 },
    /// The caller knows a newer leader epoch than this replica.
    #[error("the leader epoch {given} is newer than the current one, {current}")]
    UnknownEpoch { given: i32, current: i32 },
    /// The producer's batch is not the next one.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The log could not do it.
    #[error(transparent)]
    Log(#[from] EngineError),
    /// The partition is being stopped or deleted.
    #[error("the partition is stopping")]
    Stopped,
    /// Too few of the other replicas answered in time; whether it happens yet is unknown.
    #[error("too few replicas answered in time")]
    Timeout,
    /// Members cannot change that way, or another change is under way.
    #[error("the members cannot change now: {0}")]
    Members(String),
}

impl From<consensus::Error> for Error {
    fn from(error: consensus::Error) -> Self {
        match error {
            consensus::Error::NotLeader => Self::NotLeader,
            consensus::Error::Stopped => Self::Stopped,
            consensus::Error::Timeout => Self::Timeout,
            consensus::Error::Members(why) => Self::Members(why),
        }
    }
}

/// Both ends of what clients may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) log_start: Offset,
    /// The offset after the last record that may be read.
    pub(crate) high_watermark: Offset,
}

/// Where a leader epoch ends (KIP-101).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochEnd {
    pub(crate) epoch: i32,
    pub(crate) end_offset: Offset,
}

/// A batch in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended {
    /// Offset of its first record.
    pub(crate) offset: Offset,
    /// Its largest timestamp, when an earlier request has appended it.
    pub(crate) known_timestamp: Option<i64>,
}

/// A batch on its way into the log.
#[derive(Debug)]
pub(crate) struct Appending<L: Log = PartitionLog> {
    partition: Arc<Partition<L>>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Proposed(Proposal),
    Known(Seen),
    /// The same batch was proposed by an earlier request and is not committed yet.
    InFlight(Header),
}

impl<L: Log> Appending<L> {
    /// Waits until the batch is durable on a majority; where it is.
    ///
    /// # Errors
    /// [`Error::NotLeader`] when leadership was lost on the way: the batch may or may not survive.
    pub(crate) async fn appended(self) -> Result<Appended, Error> {
        let seen = match self.step {
            Step::Proposed(proposal) => {
                let applied = match proposal.await {
                    Ok(applied) => applied,
                    Err(error) => {
                        self.partition.progress.doubt();
                        self.partition.group.handed_over().await;
                        return Err(error.into());
                    }
                };
                return Ok(Appended { offset: applied.base_offset, known_timestamp: None });
            }
            Step::Known(seen) => seen,
            Step::InFlight(header) => self.partition.wait_for_twin(&header).await?,
        };
        Ok(Appended { offset: seen.offset, known_timestamp: Some(seen.timestamp) })
    }
}

/// What bounds reads of the disk, over all partitions.
#[derive(Debug, Clone)]
pub(crate) struct DiskReads {
    /// Reads at a time.
    pub(crate) reads: Arc<Semaphore>,
    /// What is read before it is asked for.
    pub(crate) ahead: Arc<ReadAhead>,
    /// Which are done on the spot.
    pub(crate) quick: Arc<Quick>,
}

/// What the partitions of a node share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) disk: DiskReads,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) network: Network,
    /// Notified when the first entry of a new leader is applied.
    pub(crate) terms: Arc<Notify>,
}

/// One replica of one partition.
#[derive(Debug)]
pub(crate) struct Partition<L: Log = PartitionLog> {
    id: PartitionId,
    replica: ReplicaId,
    log: L,
    group: Group<PartitionMachine<L>>,
    progress: Arc<Progress>,
    /// Held from judging a batch to proposing it, so that sequence order is log order.
    order: tokio::sync::Mutex<()>,
    disk: DiskReads,
    metrics: Arc<Metrics>,
    /// The end of the log and when it was first seen there, by [`Partition::rest`].
    quiet: Mutex<(Option<LogId>, Instant)>,
    /// The newest term in which a batch was out of order, and since when.
    begun: Mutex<(Term, tokio::time::Instant)>,
}

/// Checks the leader epoch that a client has given; -1 is any.
fn check_epoch(given: i32, leadership: Leadership) -> Result<(), Error> {
    let current = epoch_of(leadership.term);
    match given {
        -1 => Ok(()),
        given if given < current => Err(Error::FencedEpoch { given, current }),
        given if given > current => Err(Error::UnknownEpoch { given, current }),
        _ => Ok(()),
    }
}

impl<L: Log> Partition<L> {
    /// Starts the replica on its log.
    ///
    /// # Errors
    /// When the stored state does not decode; the text says which.
    pub(crate) async fn start(replica: ReplicaId, log: L, shared: &Shared) -> Result<Self, String> {
        Self::start_with(replica, log, shared, Clock::Node).await
    }

    /// Like [`Partition::start`], with a clock.
    ///
    /// # Errors
    /// When the stored state does not decode; the text says which.
    pub(crate) async fn start_with(
        replica: ReplicaId,
        log: L,
        shared: &Shared,
        clock: Clock,
    ) -> Result<Self, String> {
        let progress = Arc::new(Progress::default());
        let machine =
            PartitionMachine::new(Arc::clone(&progress), log.clone(), Arc::clone(&shared.terms));
        let group = Group::start(replica, log.clone(), machine, &shared.network, clock).await?;
        let order = tokio::sync::Mutex::new(());
        let quiet = Mutex::new((None, Instant::now()));
        let begun = Mutex::new((Term(0), tokio::time::Instant::now()));
        let (disk, metrics) = (shared.disk.clone(), Arc::clone(&shared.metrics));
        Ok(Self { id: log.id(), replica, log, group, progress, order, disk, metrics, quiet, begun })
    }

    /// Lets the group sleep when nothing was written for `idle`; the next write wakes it, and everything else
    /// is answered meanwhile. To be called now and then.
    pub(crate) async fn rest(&self, idle: Duration) {
        let end = self.log.state().last;
        {
            let mut quiet = self.quiet.lock();
            if quiet.0 != end {
                *quiet = (end, Instant::now());
            }
            if quiet.1.elapsed() < idle || self.is_asleep() {
                return;
            }
        }
        // Whoever holds it is about to write.
        let Ok(_order) = self.order.try_lock() else { return };
        if self.group.sleep().await {
            self.progress.forget_in_flight();
            tracing::debug!(partition = %self.id, "asleep");
        }
    }

    /// Stores what a restart would otherwise have to apply again.
    pub(crate) fn save_checkpoint(&self) {
        self.group.save_checkpoint();
    }

    /// Whether the group sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        self.group.is_asleep()
    }

    /// Waits until somebody leads. False after `timeout`.
    pub(crate) async fn wait_for_leader(&self, timeout: Duration) -> bool {
        self.group.wait_for_leader(timeout).await
    }

    /// The partition's log and group.
    pub(crate) fn id(&self) -> PartitionId {
        self.id
    }

    /// Whether this replica leads and may answer.
    pub(crate) fn leads(&self) -> bool {
        self.group.leadership().local
    }

    /// The current leader epoch.
    pub(crate) fn epoch(&self) -> i32 {
        epoch_of(self.group.leadership().term)
    }

    /// Checks that this replica leads in the epoch the client believes in (KIP-320); -1 is any.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::FencedEpoch`], [`Error::UnknownEpoch`].
    pub(crate) fn check_leader(&self, given: i32) -> Result<(), Error> {
        let leadership = self.group.leadership();
        check_epoch(given, leadership)?;
        if leadership.local { Ok(()) } else { Err(self.not_leading()) }
    }

    /// Checks that this replica leads or follows the leader that the client believes in (KIP-320); -1 is any.
    ///
    /// # Errors
    /// [`Error::NotLeader`] when nobody is known to lead; [`Error::FencedEpoch`], [`Error::UnknownEpoch`].
    pub(crate) fn check_follower(&self, given: i32) -> Result<(), Error> {
        let leadership = self.group.leadership();
        check_epoch(given, leadership)?;
        if leadership.leader.is_some() { Ok(()) } else { Err(self.not_leading()) }
    }

    /// The end of the log here, committed or not.
    pub(crate) fn end(&self) -> Offset {
        self.log.state().end_offset
    }

    /// Whether the group has ended because what is stored of it is damaged.
    pub(crate) fn is_broken(&self) -> bool {
        self.group.broken()
    }

    fn not_leading(&self) -> Error {
        if self.is_broken() { Error::Broken } else { Error::NotLeader }
    }

    /// Hands a batch to the log. `header` is its parsed header; the caller has checked the CRC.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Refused`], [`Error::Stopped`].
    pub(crate) async fn append(
        self: &Arc<Self>,
        batch: Bytes,
        header: &Header,
    ) -> Result<Appending<L>, Error> {
        self.append_in(-1, batch, header).await
    }

    /// The same, if this replica still leads in `epoch`; -1 is any.
    ///
    /// # Errors
    /// As [`Partition::append`]; [`Error::FencedEpoch`], [`Error::UnknownEpoch`].
    pub(crate) async fn append_in(
        self: &Arc<Self>,
        epoch: i32,
        batch: Bytes,
        header: &Header,
    ) -> Result<Appending<L>, Error> {
        let order = self.order.lock().await;
        self.check_leader(epoch)?;
        if self.progress.is_doubtful() {
            self.group.settle().await?;
            self.progress.forget_in_flight();
            self.group.begin_turns();
        }
        // What is judged is in flight from then on, so nothing may be in the way of proposing it.
        self.group.renew_lease().await?;
        let leadership = self.group.leadership();
        check_epoch(epoch, leadership)?;
        if !leadership.local {
            return Err(self.not_leading());
        }
        let judgement = match self.progress.judge(header, leadership.term) {
            Ok(judgement) => judgement,
            Err(refused) => {
                drop(order);
                // What is missing here another replica may have taken, which leads since.
                self.group.linearize().await?;
                if self.follows_refused(&refused, header, leadership.term) {
                    return Err(Error::NotLeader);
                }
                return Err(refused.into());
            }
        };
        let step = match judgement {
            Judgement::Append => {
                let proposed = self.group.propose_in_turn(batch).await;
                Step::Proposed(proposed.inspect_err(|_| self.progress.doubt())?)
            }
            Judgement::Duplicate(seen) => Step::Known(seen),
            Judgement::InFlight => Step::InFlight(*header),
        };
        Ok(Appending { partition: Arc::clone(self), step })
    }

    /// Whether what is missing before a producer's batch may have been refused a moment ago, because nobody led here yet. A
    /// client that is told so of this one too sends all of them again, in order. Told that it is out of order instead,
    /// librdkafka begins a new epoch, and sends as new what an earlier leader may have appended.
    fn follows_refused(&self, refused: &Refused, header: &Header, term: Term) -> bool {
        let Refused::OutOfOrder { producer_id, .. } = *refused else { return false };
        let begun = {
            let mut begun = self.begun.lock();
            if begun.0 != term {
                *begun = (term, tokio::time::Instant::now());
            }
            begun.1
        };
        let start = self.log.epochs().last().map_or(Offset(0), |epoch| epoch.start_offset);
        header.base_sequence > 0
            && begun.elapsed() < SETTLING
            && !self.progress.has_taken_since(producer_id, start)
    }

    async fn wait_for_twin(self: &Arc<Self>, header: &Header) -> Result<Seen, Error> {
        let notify = Arc::new(Notify::new());
        let _waiting = self.watch(&notify);
        loop {
            let committed = notify.notified();
            if let Some(seen) = self.progress.committed(header) {
                return Ok(seen);
            }
            if !self.leads() {
                return Err(Error::NotLeader);
            }
            if tokio::time::timeout(TWIN_TIMEOUT, committed).await.is_err() {
                // Its proposal may have come to nothing without anybody there to see it.
                self.group.settle().await?;
                if self.progress.committed(header).is_none() {
                    self.progress.doubt();
                    return Err(Error::NotLeader);
                }
            }
        }
    }

    /// What clients may read.
    pub(crate) fn bounds(&self) -> Bounds {
        let log_start = self.log.state().log_start_offset;
        let high_watermark = self.progress.high_watermark().max(log_start);
        Bounds { log_start, high_watermark }
    }

    /// Whether clients may read something at `offset` or behind it.
    pub(crate) fn has_after(&self, offset: Offset) -> bool {
        self.progress.high_watermark() > offset
    }

    /// Moves the log start to `offset`, through the group so that every replica does the same, and
    /// returns where it is then. An offset below the log start moves nothing.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`]; [`Error::Log`] for an offset outside the log.
    pub(crate) async fn set_log_start(&self, offset: Offset) -> Result<Offset, Error> {
        self.check_leader(-1)?;
        let Bounds { log_start, high_watermark } = self.bounds();
        if offset < Offset(0) || offset > high_watermark {
            let (start, end) = (log_start, high_watermark);
            let error =
                EngineError::OffsetOutOfRange { partition: self.id, requested: offset, start, end };
            return Err(Error::Log(error));
        }
        if offset > log_start {
            let command = machine::set_log_start(offset);
            let proposal = {
                let _order = self.order.lock().await;
                self.group.propose(EntryKind::Command, command).await?
            };
            proposal.await?;
        }
        Ok(self.bounds().log_start)
    }

    /// Forgets entries up to `upto`, which lie below the log start or are settled, so that their bucket can go; while
    /// space is not short (`pressed`) some may be kept for other replicas.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub(crate) async fn forget(&self, upto: Index, pressed: bool) -> Result<(), Error> {
        Ok(self.group.purge(upto, pressed).await?)
    }

    /// Cleans a little; `None` while another replica is sent what is settled. May read the disk.
    ///
    /// # Errors
    /// As [`PartitionLog::clean`].
    pub(crate) fn clean(&self, rules: &CleanRules) -> jangbu_engine::Result<Option<CleanStep>> {
        self.group.with_settled(|| self.log.clean(rules)).transpose()
    }

    /// The last offsets of the batches that stay when the log is cleaned up to `until`, ascending: of each producer's last
    /// one, so that its sequences can be told from the log, and of the last one of all, so that readers reach the end.
    pub(crate) fn kept(&self, until: Offset) -> Vec<Offset> {
        let mut kept = self.progress.last_offsets();
        let last = Offset(until.0 - 1);
        if let Err(at) = kept.binary_search(&last) {
            kept.insert(at, last);
        }
        kept
    }

    /// Notifies `notify` whenever the high watermark moves, until the result is dropped.
    pub(crate) fn watch(self: &Arc<Self>, notify: &Arc<Notify>) -> Waiting {
        Waiting::new(Arc::clone(&self.progress), notify)
    }

    /// Where the largest epoch that is not above `epoch` ends, if there is one.
    pub(crate) fn epoch_end(&self, epoch: i32) -> Option<EpochEnd> {
        epoch_end(&self.log.epochs(), epoch, self.bounds().high_watermark)
    }

    /// The leader epoch that the record at `offset` has or would have.
    pub(crate) fn epoch_at(&self, offset: Offset) -> i32 {
        let epochs = self.log.epochs();
        let after = epochs.partition_point(|e| e.start_offset <= offset);
        after.checked_sub(1).map_or(-1, |i| epoch_of(epochs[i].term))
    }

    /// Confirms with a majority that the high watermark covers everything acknowledged so far.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Stopped`].
    pub(crate) async fn linearize(&self) -> Result<(), Error> {
        Ok(self.group.linearize().await?)
    }

    /// The producers whose batches are applied here, by their ids.
    pub(crate) fn described_producers(&self) -> Vec<crate::producers::Described> {
        self.progress.described()
    }

    /// What is known of producers by what is applied here.
    #[cfg(test)]
    pub(crate) fn producers(&self) -> crate::producers::Producers {
        self.progress.producers()
    }

    /// Stops the replica.
    pub(crate) async fn shutdown(&self) {
        self.group.shutdown().await;
        tracing::debug!(partition = %self.id, "stopped");
    }
}

/// Kafka carries 31 bits of the term. More elections than that cannot happen: at one a second they
/// would take 68 years.
pub(crate) fn epoch_of(term: Term) -> i32 {
    i32::try_from(term.0).unwrap_or(i32::MAX)
}

fn epoch_end(epochs: &[Epoch], epoch: i32, end_offset: Offset) -> Option<EpochEnd> {
    let asked = Term(u64::try_from(epoch).ok()?);
    if epochs.last().is_none_or(|last| asked > last.term) {
        return None;
    }
    let after = epochs.partition_point(|e| e.term <= asked);
    let next_start = epochs.get(after).map_or(end_offset, |next| next.start_offset.min(end_offset));
    let floor = after.checked_sub(1).map_or(asked, |i| epochs[i].term);
    Some(EpochEnd { epoch: epoch_of(floor), end_offset: next_start })
}

#[cfg(test)]
mod tests {
    use jangbu_engine::Index;

    use super::*;

    fn epochs(starts: &[(u64, i64)]) -> Vec<Epoch> {
        let epoch = |&(term, start): &(u64, i64)| Epoch {
            term: Term(term),
            first_index: Index(0),
            start_offset: Offset(start),
        };
        starts.iter().map(epoch).collect()
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let epochs = epochs(&[(2, 0), (5, 10)]);
        let end = |epoch| epoch_end(&epochs, epoch, Offset(30)).map(|e| (e.epoch, e.end_offset.0));
        assert_eq!(end(2), Some((2, 10)));
        assert_eq!(end(4), Some((2, 10)), "the largest epoch below the one asked for");
        assert_eq!(end(5), Some((5, 30)), "the current epoch ends at the end of the log");
        assert_eq!(end(6), None, "an epoch that does not exist yet");
        assert_eq!(end(1), Some((1, 0)), "an epoch older than the log ends at its start");
        assert_eq!(end(-1), None);
    }
}
