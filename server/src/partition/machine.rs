//! A partition's state machine: committed batches move the high watermark and the producers' state,
//! commands move the log start.
//!
//! Beside the committed producer state stands a tentative one, with the batches that are proposed and
//! not yet committed. It is a guess of this leader in this term only, and is thrown away with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use jangbu_engine::{EntryKind, Offset, Term, batch::Header};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Notify;

use super::waiters::Waiters;
use crate::consensus::{Committed, Log, StateMachine};
use crate::producers::{Described, Producers, Refused, Seen, Verdict};
use crate::proto::partition as proto;

/// What to do with a batch, given also what is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    Append,
    Duplicate(Seen),
    InFlight,
}

#[derive(Debug, Default)]
struct Tables {
    committed: Producers,
    tentative: Producers,
    tentative_term: Term,
}

/// What applying has reached; shared with the partition.
#[derive(Debug, Default)]
pub(super) struct Progress {
    high_watermark: AtomicI64,
    tables: Mutex<Tables>,
    doubtful: AtomicBool,
    pub(super) waiters: Waiters,
}

impl Progress {
    pub(super) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Judges a batch and, if it is to be appended, remembers it as in flight.
    pub(super) fn judge(&self, batch: &Header, term: Term) -> Result<Judgement, Refused> {
        if batch.producer_id < 0 {
            return Ok(Judgement::Append);
        }
        let mut tables = self.tables.lock();
        if tables.tentative_term != term {
            tables.tentative.clear();
            tables.tentative_term = term;
        }
        if let Verdict::Duplicate(seen) = tables.committed.check_duplicate(batch) {
            return Ok(Judgement::Duplicate(seen));
        }
        let id = batch.producer_id;
        if tables.tentative.get(id).is_none()
            && let Some(known) = tables.committed.get(id).cloned()
        {
            tables.tentative.insert(id, known);
        }
        let verdict = tables.tentative.check(batch);
        match verdict {
            Ok(Verdict::Append) => {
                tables.tentative.expect(batch);
                Ok(Judgement::Append)
            }
            Ok(Verdict::Duplicate(_)) => Ok(Judgement::InFlight),
            Err(refused) => {
                tables.forget_settled(id);
                Err(refused)
            }
        }
    }

    /// Whether a batch of this producer is in flight, or committed at `offset` or behind it.
    pub(super) fn has_taken_since(&self, producer_id: i64, offset: Offset) -> bool {
        let tables = self.tables.lock();
        tables.tentative.get(producer_id).is_some()
            || tables.committed.has_written_since(producer_id, offset)
    }

    /// Notes that a proposal came to nothing while its leader may still lead: what is remembered as in flight is
    /// not to be relied on.
    pub(super) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Release);
    }

    /// Whether what is in flight is in doubt.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Acquire)
    }

    /// Forgets what was in flight when nothing is any more: what is not in the log by now never will be.
    pub(super) fn forget_in_flight(&self) {
        self.tables.lock().tentative.clear();
        self.doubtful.store(false, Ordering::Release);
    }

    /// Where a batch is that was sent before, once it is committed.
    pub(super) fn committed(&self, batch: &Header) -> Option<Seen> {
        match self.tables.lock().committed.check_duplicate(batch) {
            Verdict::Duplicate(seen) => Some(seen),
            Verdict::Append => None,
        }
    }

    /// The producers whose batches are applied, by their ids.
    pub(super) fn described(&self) -> Vec<Described> {
        self.tables.lock().committed.described()
    }

    /// What is known of producers by what is applied.
    #[cfg(test)]
    pub(super) fn producers(&self) -> Producers {
        self.tables.lock().committed.clone()
    }

    /// The last offset of each producer's last committed batch, ascending.
    pub(super) fn last_offsets(&self) -> Vec<Offset> {
        self.tables.lock().committed.last_offsets()
    }

    fn advance(&self, next_offset: Offset) {
        self.high_watermark.store(next_offset.0, Ordering::Release);
        self.waiters.notify_all();
    }
}

impl Tables {
    /// Drops a producer's tentative state when nothing of it is in flight any more.
    fn forget_settled(&mut self, producer_id: i64) {
        let settled = match (self.tentative.get(producer_id), self.committed.get(producer_id)) {
            (Some(tentative), Some(committed)) => tentative.is_level_with(committed),
            _ => false,
        };
        if settled {
            self.tentative.remove(producer_id);
        }
    }
}

/// Applies a partition's entries.
#[derive(Debug)]
pub(crate) struct PartitionMachine<L> {
    progress: Arc<Progress>,
    log: L,
    /// Notified when the first entry of a new leader is applied.
    terms: Arc<Notify>,
    /// Where the log is to begin once it is long enough: a snapshot said so.
    owed_start: Option<Offset>,
}

/// The command that moves the log start to `offset`.
pub(super) fn set_log_start(offset: Offset) -> Bytes {
    let command = proto::command::Command::SetLogStart(proto::SetLogStart { offset: offset.0 });
    proto::Command { command: Some(command) }.encode_to_vec().into()
}

impl<L: Log> PartitionMachine<L> {
    pub(super) fn new(progress: Arc<Progress>, log: L, terms: Arc<Notify>) -> Self {
        Self { progress, log, terms, owed_start: None }
    }

    /// Carries out a command that stands at `next_offset` of the log. Applied again after a restart it
    /// does the same, or nothing.
    fn command(&mut self, payload: &[u8], next_offset: Offset) {
        match proto::Command::decode(payload).map(|command| command.command) {
            Ok(Some(proto::command::Command::SetLogStart(asked))) => {
                self.move_start(Offset(asked.offset).min(next_offset));
            }
            Ok(None) => tracing::warn!("a command of a newer version was passed over"),
            Err(error) => tracing::error!(%error, "a committed command does not decode"),
        }
    }

    fn move_start(&self, start: Offset) {
        // A log that is closed or deleted meanwhile has nobody left to see its start.
        if let Err(error) = self.log.set_log_start(start) {
            tracing::debug!(%error, "the log start did not move");
        }
        self.progress.waiters.notify_all();
    }

    fn move_owed_start(&mut self, next_offset: Offset) {
        if let Some(start) = self.owed_start.take_if(|start| *start <= next_offset) {
            self.move_start(start);
        }
    }
}

impl<L: Log> StateMachine for PartitionMachine<L> {
    type Log = L;

    /// Recording a batch again, and moving the log start where it is, change nothing.
    const IDEMPOTENT: bool = true;

    fn new_term(&mut self) {
        self.terms.notify_one();
        // Whoever waits here for what another replica gives now.
        self.progress.waiters.notify_all();
    }

    fn apply(&mut self, entry: &Committed) -> Bytes {
        if entry.kind == EntryKind::Command {
            self.command(&entry.payload, entry.next_offset);
        }
        if entry.kind != EntryKind::Batch {
            return Bytes::new();
        }
        match Header::parse_prefix(&entry.payload) {
            Ok(header) if header.producer_id >= 0 => {
                let mut tables = self.progress.tables.lock();
                tables.committed.record(&header, entry.base_offset);
                tables.forget_settled(header.producer_id);
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "a committed batch has no readable header"),
        }
        self.move_owed_start(entry.next_offset);
        self.progress.advance(entry.next_offset);
        Bytes::new()
    }

    fn checkpoint(&self) -> Bytes {
        let log_start = self.log.state().log_start_offset.max(self.owed_start.unwrap_or_default());
        let producers = self.progress.tables.lock().committed.encode();
        proto::Checkpoint { producers, log_start: log_start.0 }.encode_to_vec().into()
    }

    fn restore(&mut self, checkpoint: &[u8], next_offset: Offset) -> Result<(), String> {
        let stored = proto::Checkpoint::decode(checkpoint).map_err(|e| e.to_string())?;
        let committed = Producers::decode(stored.producers)?;
        self.owed_start = Some(Offset(stored.log_start));
        self.move_owed_start(next_offset);
        *self.progress.tables.lock() = Tables { committed, ..Tables::default() };
        self.progress.advance(next_offset);
        Ok(())
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(base_sequence: i32) -> Header {
        Header {
            base_offset: Offset(0),
            batch_bytes: 61,
            leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 7,
            producer_epoch: 0,
            base_sequence,
            record_count: 1,
        }
    }

    #[test]
    fn a_batch_whose_proposal_came_to_nothing_is_appended_when_it_is_sent_again() {
        let progress = Progress::default();
        let judge = |sequence| progress.judge(&header(sequence), Term(1));
        assert_eq!(judge(0), Ok(Judgement::Append));
        assert_eq!(judge(0), Ok(Judgement::InFlight));
        progress.doubt();
        assert!(progress.is_doubtful());
        progress.forget_in_flight();
        assert!(!progress.is_doubtful());
        assert_eq!(judge(0), Ok(Judgement::Append));
        assert_eq!(judge(1), Ok(Judgement::Append), "in flight right behind it");
    }

    #[test]
    fn what_is_in_flight_is_forgotten_with_its_term() {
        let progress = Progress::default();
        assert_eq!(progress.judge(&header(0), Term(1)), Ok(Judgement::Append));
        assert_eq!(progress.judge(&header(0), Term(2)), Ok(Judgement::Append));
    }
}
