//! openraft's log storage on a partition log of the engine.
//!
//! Vote and log writes of a group go through the engine's one queue and so keep one order; entries are
//! readable when `append` returns and reported flushed only after the sync.
//!
//! Not here: what the entries mean (`state_machine.rs`), how they are stored (the engine).

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::sync::Arc;

use futures_util::{Stream, stream};
use jangbu_engine::{
    Entry as EngineEntry, EntryKind, Error as EngineError, Index, LogId as EngineLogId, NewEntry,
    PayloadPart, Term,
};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::oneshot;

use super::codec;
use super::log::{Done, Log};
use super::turns::Turns;
use super::types::{Entry, LogId, Payload, Types, Vote, log_id};

/// Payload bytes handed to one follower at a time.
const REPLICATION_BYTES_MAX: usize = 1 << 20;
/// Payload bytes read at a time for applying.
const APPLY_BYTES_MAX: usize = 4 << 20;

/// A group's log. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct LogStore<L> {
    log: L,
    turns: Arc<Turns>,
}

impl<L: Log> LogStore<L> {
    pub(super) fn new(log: L, turns: Arc<Turns>) -> Self {
        Self { log, turns }
    }

    /// All entries in `[start, end)`; from memory when they are there, else on a thread for blocking
    /// work.
    async fn read(&self, start: u64, end: u64, part: PayloadPart) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut next = start;
        while next < end {
            let found = self.read_some(next, end, APPLY_BYTES_MAX, part).await?;
            let Some(last) = found.last() else { break };
            next = last.log_id.index + 1;
            entries.extend(found);
        }
        Ok(entries)
    }

    async fn read_some(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
        part: PayloadPart,
    ) -> io::Result<Vec<Entry>> {
        let log = self.log.clone();
        let read = move || log.entries(Index(start), Index(end), bytes_max, part);
        let found = if self.log.is_index_cached(Index(start)) {
            read()
        } else {
            tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
        };
        found.map_err(to_io)?.into_iter().map(from_engine).collect()
    }

    /// How much of what openraft lets go may go: no batch above the log start that is not settled. A replica that was sent
    /// a snapshot of what it has in its log keeps that, and has not settled it yet.
    async fn purgeable(&self, upto: EngineLogId) -> io::Result<Option<EngineLogId>> {
        let settled = self.log.settled().map(|settled| settled.upto);
        if settled.is_some_and(|settled| settled.index >= upto.index) {
            return Ok(Some(upto));
        }
        let (log, index) = (self.log.clone(), upto.index);
        let read = move || log.entries(index, Index(index.0 + 1), 1, PayloadPart::Header);
        let found = if self.log.is_index_cached(index) {
            read()
        } else {
            tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
        };
        let start = self.log.state().log_start_offset;
        let is_above = |entry: &EngineEntry| entry.next_offset() > start;
        Ok(if found.map_err(to_io)?.first().is_some_and(is_above) { settled } else { Some(upto) })
    }

    /// The half-open range of stored indexes that `range` covers.
    fn clamp(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let state = self.log.state();
        let first = state.purged.map_or(0, |id| id.index.0 + 1);
        let end = state.last.map_or(0, |id| id.index.0 + 1);
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let stop = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        (start.max(first), stop.min(end))
    }
}

/// Errors of the engine as openraft takes them; the engine itself ends the process on a failed write.
pub(crate) fn to_io(error: EngineError) -> io::Error {
    io::Error::other(error)
}

/// Hands something to the engine and waits until it is durable.
pub(crate) async fn durably(
    hand_over: impl FnOnce(Done) -> Result<(), EngineError>,
) -> io::Result<()> {
    let (done, durable) = oneshot::channel();
    let done = Box::new(move |result| {
        // The receiver is gone only when the group is being dropped.
        let _ = done.send(result);
    });
    hand_over(done).map_err(to_io)?;
    durable.await.map_err(io::Error::other)?.map_err(to_io)
}

/// The last log id of each term within `range`, from the engine's epoch table instead of a binary
/// search over the log.
fn key_log_ids(epochs: &[jangbu_engine::Epoch], range: &RangeInclusive<LogId>) -> Vec<LogId> {
    let (start, end) = (range.start().index, range.end().index);
    let next_firsts = epochs.iter().skip(1).map(|e| e.first_index.0).chain([end + 1]);
    epochs
        .iter()
        .zip(next_firsts)
        .map(|(epoch, next_first)| (epoch.term.0, next_first.saturating_sub(1).min(end)))
        .zip(epochs)
        .filter(|((_, last), epoch)| *last >= start && epoch.first_index.0 <= end)
        .map(|((term, last), _)| LogId::new_term_index(term, last))
        .collect()
}

fn from_engine(entry: EngineEntry) -> io::Result<Entry> {
    let next_offset = entry.next_offset();
    let id = log_id(jangbu_engine::LogId { term: entry.term, index: entry.index });
    let payload = match entry.kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Membership => {
            EntryPayload::Membership(codec::decode_membership(&entry.payload)?)
        }
        EntryKind::Batch | EntryKind::Command => EntryPayload::Normal(Payload {
            kind: entry.kind,
            bytes: entry.payload,
            base_offset: entry.base_offset,
            next_offset,
            turn: None,
        }),
    };
    Ok(Entry { log_id: id, payload })
}

fn to_engine(entry: Entry) -> NewEntry {
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, bytes::Bytes::new()),
        EntryPayload::Normal(payload) => (payload.kind, payload.bytes),
        EntryPayload::Membership(m) => (EntryKind::Membership, codec::encode_membership(&m)),
    };
    NewEntry {
        index: Index(entry.log_id.index),
        term: Term(entry.log_id.committed_leader_id().term),
        kind,
        payload,
    }
}

impl<L: Log> RaftLogReader<Types> for LogStore<L> {
    /// Only a start reads this, to find memberships and to apply again what is behind the checkpoint:
    /// neither needs more than a batch's header.
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = self.clamp(&range);
        self.read(start, end, PayloadPart::Header).await
    }

    /// Only applying reads this stream, and applying needs no more than a batch's header.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.clamp(&range);
        let entries = self.read(start, end, PayloadPart::Header).await;
        let items = match entries {
            Ok(entries) => entries.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(items)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.log.vote().map(|bytes| codec::decode_vote(&bytes)).transpose()
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read_some(start, end, REPLICATION_BYTES_MAX, PayloadPart::Full).await
    }

    async fn get_key_log_ids(
        &mut self,
        range: RangeInclusive<LogId>,
    ) -> Result<Vec<LogId>, io::Error> {
        Ok(key_log_ids(&self.log.epochs(), &range))
    }
}

impl<L: Log> RaftLogStorage<Types> for LogStore<L> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = self.log.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(log_id),
            last_log_id: state.last.map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        durably(|done| self.log.save_vote(codec::encode_vote(vote), done)).await
    }

    /// Lazy by design: a lost value only means that a little more is applied again at start.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        match committed {
            Some(id) => self.log.save_committed(codec::encode_log_id(&id)).map_err(to_io),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.log.committed().map(|bytes| codec::decode_log_id(&bytes)).transpose()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(|entry| to_engine(self.turns.admit(entry))).collect();
        let done = Box::new(move |result: Result<(), EngineError>| {
            callback.io_completed(result.map_err(to_io));
        });
        self.log.append(entries, done).map_err(to_io)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(last.map(|id| Index(id.index))).map_err(to_io)
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        match self.purgeable(codec::engine_log_id(&id)).await? {
            Some(upto) => self.log.purge(upto).map_err(to_io),
            None => Ok(()),
        }
    }
}
