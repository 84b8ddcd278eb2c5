//! The log of one replica in a simulation: an engine without a disk, with the engine's contract.
//!
//! Changes are seen at once and become durable in their order, group by group, after a delay; whoever waits for one is
//! told then. A crash takes the last changes that are not durable, as many as chance will have it, and whatever the old
//! process still asks for comes to nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jangbu_engine::{
    CleanRules, CleanStep, Entry, EntryKind, Epoch, Error, Index, LogId, LogState, NewEntry,
    Offset, PartitionId, PayloadPart, Result, Settled, Term, batch,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::GROUP;
use super::image::{self, Change, Image};
use super::random::Random;
use super::records::{records, retain};
use super::world::World;
use crate::consensus::log::{Done, Log};
use crate::consensus::{ReplicaId, codec};

/// Batches that one read gives at most: what is sent of a settled part takes several pieces.
const READ_MAX: usize = 3;

/// The disk of one replica.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) replica: ReplicaId,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Which process may use it: counts them.
    process: u64,
    /// What the process sees.
    memory: Image,
    durable: Image,
    queue: VecDeque<(Change, Option<Done>)>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Disk {
    /// An empty one.
    pub(super) fn new(replica: ReplicaId) -> Arc<Self> {
        Arc::new(Self { replica, inner: Mutex::default() })
    }

    /// The log as a process finds it that starts now.
    pub(super) fn open(self: &Arc<Self>, world: &Arc<World>) -> DiskLog {
        let mut inner = self.inner.lock();
        inner.process += 1;
        inner.memory = inner.durable.clone();
        let (disk, process) = (Arc::clone(self), inner.process);
        let (world, queued) = (Arc::clone(world), Arc::default());
        let log = DiskLog { disk, process, world, queued };
        tokio::spawn(log.clone().sync());
        log
    }

    /// Ends the process that uses it: of what is queued, so many changes have reached the disk, from the first on.
    pub(super) fn crash(&self, random: &mut Random) -> usize {
        let mut inner = self.inner.lock();
        inner.process += 1;
        let queued = std::mem::take(&mut inner.queue);
        let kept = random.within(0..queued.len() as u64 + 1);
        let kept = usize::try_from(kept).unwrap();
        for (change, _) in queued.iter().take(kept) {
            inner.durable.change(change);
        }
        drop(inner);
        // The waiters are dropped with no lock held: whoever sees them go may ask for something.
        queued.len() - kept
    }

    /// Looks at what is durable.
    pub(super) fn durable<T>(&self, look: impl FnOnce(&Image) -> T) -> T {
        look(&self.inner.lock().durable)
    }

    /// Looks at what the process sees.
    pub(super) fn memory<T>(&self, look: impl FnOnce(&Image) -> T) -> T {
        look(&self.inner.lock().memory)
    }
}

/// A process's view of its log.
#[derive(Debug, Clone)]
pub(crate) struct DiskLog {
    disk: Arc<Disk>,
    process: u64,
    world: Arc<World>,
    queued: Arc<Notify>,
}

impl DiskLog {
    /// Makes changes durable while the process runs.
    async fn sync(self) {
        loop {
            self.queued.notified().await;
            let Some(count) = self.awaited() else { return };
            if count == 0 {
                continue;
            }
            tokio::time::sleep(self.world.sync_delay(self.disk.replica.broker())).await;
            let mut inner = self.disk.inner.lock();
            if inner.process != self.process {
                return;
            }
            let group: Vec<_> = inner.queue.drain(..count).collect();
            for (change, _) in &group {
                inner.durable.change(change);
            }
            drop(inner);
            for done in group.into_iter().filter_map(|(_, done)| done) {
                done(Ok(()));
            }
            self.queued.notify_one();
        }
    }

    /// How many changes wait for a sync; none while nobody waits for one. `None` when the process has ended.
    fn awaited(&self) -> Option<usize> {
        let inner = self.disk.inner.lock();
        let awaited = inner.queue.iter().any(|(_, done)| done.is_some());
        (inner.process == self.process).then(|| if awaited { inner.queue.len() } else { 0 })
    }

    /// Makes the change that `change` finds to be made, if any, and hands it to the disk.
    fn submit(
        &self,
        done: Option<Done>,
        change: impl FnOnce(&Image) -> Result<Option<Change>>,
    ) -> Result<()> {
        let mut inner = self.disk.inner.lock();
        if inner.process != self.process {
            return Err(Error::Closed);
        }
        let Some(change) = change(&inner.memory)? else {
            drop(inner);
            done.into_iter().for_each(|done| done(Ok(())));
            return Ok(());
        };
        inner.memory.change(&change);
        let replica = self.disk.replica;
        match &change {
            Change::Append { entries, .. } => {
                self.world.judge(|oracle| oracle.appended(replica, &inner.memory, entries));
            }
            Change::Vote(vote) => {
                let vote = codec::decode_vote(vote).expect("it was encoded just now");
                self.world.judge(|oracle| oracle.votes(replica, &vote, &inner.memory));
            }
            _ => {}
        }
        inner.queue.push_back((change, done));
        drop(inner);
        self.queued.notify_one();
        Ok(())
    }

    fn invalid(&self, reason: String) -> Error {
        Error::InvalidAppend { partition: self.id(), reason }
    }
}

/// An entry as it is stored: with its offsets.
fn placed(new: NewEntry, base_offset: Offset) -> Entry {
    let NewEntry { index, term, kind, payload } = new;
    let (record_count, max_timestamp, payload) = if kind == EntryKind::Batch {
        let header = batch::Header::parse(&payload).expect("whoever proposed it has checked it");
        let epoch = i32::try_from(term.0).expect("terms are few");
        let mut bytes = BytesMut::from(&payload[..]);
        bytes[..8].copy_from_slice(&base_offset.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
        (header.offset_count(), header.max_timestamp, bytes.freeze())
    } else {
        (0, -1, payload)
    };
    Entry { index, term, kind, base_offset, record_count, max_timestamp, payload }
}

/// A batch as another replica sent it: which entry it was nobody knows any more.
fn staged(payload: Bytes) -> Entry {
    let header = batch::Header::parse_stored(&payload).expect("whoever took it in has checked it");
    Entry {
        index: Index(0),
        term: Term(0),
        kind: EntryKind::Batch,
        base_offset: header.base_offset,
        record_count: header.offset_count(),
        max_timestamp: header.max_timestamp,
        payload,
    }
}

/// The log with everything below `rules.until` settled, and how many records go for it; `None` when nothing changes.
/// A tombstone goes at the earliest when it is cleaned for the second time.
fn clean(image: &Image, rules: &CleanRules) -> Option<(image::Settled, u64)> {
    let settled = image.settled.end();
    let behind = image.entries.values().filter(|entry| entry.kind == EntryKind::Batch);
    let new = behind.filter(|e| e.base_offset >= settled && e.next_offset() <= rules.until);
    let upto =
        new.last().map(|last| (LogId { term: last.term, index: last.index }, last.next_offset()));
    let end = upto.map_or(settled, |(_, end)| end);
    let mut newest = BTreeMap::new();
    for record in image.records(rules.until) {
        newest.insert(record.key, record.offset);
    }
    let mut cleaned =
        image::Settled { upto: upto.or(image.settled.upto), ..image::Settled::default() };
    let mut removed = 0;
    for batch in image.batches(image.log_start, end) {
        let payload = retain(&batch.payload, |record| {
            let last = newest.get(&record.key).is_none_or(|newest| *newest <= record.offset);
            let expired = rules.delete_retention_ms == 0 && record.offset < settled;
            last && !(record.is_tombstone && expired)
        });
        let left = records(&payload).len();
        removed += (records(&batch.payload).len() - left) as u64;
        let last = Offset(batch.next_offset().0 - 1);
        if left > 0 || rules.kept.binary_search(&last).is_ok() {
            let batch = Entry { payload, ..batch.clone() };
            cleaned.batches.insert(batch.base_offset.0, batch);
        }
    }
    (removed > 0 || upto.is_some()).then_some((cleaned, removed))
}

impl Log for DiskLog {
    const IN_MEMORY: bool = true;

    fn id(&self) -> PartitionId {
        GROUP
    }

    fn state(&self) -> LogState {
        self.disk.inner.lock().memory.state()
    }

    fn epochs(&self) -> Vec<Epoch> {
        self.disk.inner.lock().memory.epochs.clone()
    }

    fn entries(
        &self,
        start: Index,
        end: Index,
        bytes_max: usize,
        part: PayloadPart,
    ) -> Result<Vec<Entry>> {
        let inner = self.disk.inner.lock();
        if inner.process != self.process {
            return Err(Error::Closed);
        }
        let mut left = bytes_max;
        let mut taken = Vec::new();
        for entry in inner.memory.entries.range(start.0..end.0).map(|(_, entry)| entry) {
            if entry.payload.len() > left && !taken.is_empty() {
                break;
            }
            left = left.saturating_sub(entry.payload.len());
            let mut entry = entry.clone();
            if part == PayloadPart::Header && entry.kind == EntryKind::Batch {
                entry.payload.truncate(batch::HEADER_BYTES);
            }
            taken.push(entry);
        }
        Ok(taken)
    }

    fn is_index_cached(&self, _index: Index) -> bool {
        true
    }

    fn append(&self, entries: Vec<NewEntry>, done: Done) -> Result<()> {
        self.submit(Some(done), |image| {
            let last = image.state().last;
            let mut next = last.map(|last| last.index.0 + 1);
            let mut term = last.map(|last| last.term);
            let mut end = image.end();
            let mut stored = Vec::with_capacity(entries.len());
            for new in entries {
                if next.is_some_and(|next| next != new.index.0) || Some(new.term) < term {
                    let reason = format!("{}-{} after {last:?}", new.term, new.index);
                    return Err(self.invalid(reason));
                }
                (next, term) = (Some(new.index.0 + 1), Some(new.term));
                let entry = placed(new, end);
                end = entry.next_offset();
                stored.push(entry);
            }
            Ok(Some(Change::Append { entries: stored, committed: image.committed.clone() }))
        })
    }

    fn truncate_after(&self, last: Option<Index>) -> Result<()> {
        self.submit(None, |image| match (image.purged, last) {
            (Some((purged, _)), Some(last)) if last < purged.index => {
                Err(self.invalid(format!("{last} has been purged")))
            }
            _ => Ok(Some(Change::Truncate(last))),
        })
    }

    fn purge(&self, upto: LogId) -> Result<()> {
        self.submit(None, |image| Ok(Some(Change::Purge(upto, image.next_offset(upto.index)))))
    }

    fn reset(&self, boundary: LogId, next_offset: Offset, done: Done) -> Result<()> {
        self.submit(Some(done), |_| Ok(Some(Change::Reset(boundary, next_offset))))
    }

    fn save_vote(&self, vote: Bytes, done: Done) -> Result<()> {
        self.submit(Some(done), |_| Ok(Some(Change::Vote(vote))))
    }

    fn vote(&self) -> Option<Bytes> {
        self.disk.inner.lock().memory.vote.clone()
    }

    /// Goes to the disk with the next append, and openraft applies what it covers right behind this.
    fn save_committed(&self, committed: Bytes) -> Result<()> {
        let mut inner = self.disk.inner.lock();
        if inner.process != self.process {
            return Err(Error::Closed);
        }
        let id = codec::decode_log_id(&committed).expect("it was encoded just now");
        inner.memory.committed = Some(committed);
        let Inner { memory, durable, .. } = &*inner;
        self.world.committed(self.disk.replica, memory, durable, codec::engine_log_id(&id));
        Ok(())
    }

    fn committed(&self) -> Option<Bytes> {
        self.disk.inner.lock().memory.committed.clone()
    }

    fn save_checkpoint(&self, checkpoint: Bytes, done: Option<Done>) -> Result<()> {
        self.submit(done, |_| Ok(Some(Change::Checkpoint(checkpoint))))
    }

    fn checkpoint(&self) -> Result<Option<Bytes>> {
        Ok(self.disk.inner.lock().memory.checkpoint.clone())
    }

    fn set_log_start(&self, start: Offset) -> Result<()> {
        self.submit(None, |image| {
            let (log_start, end) = (image.log_start, image.end());
            if start > end {
                let (partition, requested) = (self.id(), start);
                let start = log_start;
                return Err(Error::OffsetOutOfRange { partition, requested, start, end });
            }
            Ok((start > log_start).then_some(Change::LogStart(start)))
        })
    }

    fn read(&self, from: Offset, until: Offset, _bytes_max: usize) -> Result<Vec<Entry>> {
        let inner = self.disk.inner.lock();
        let found = inner.memory.batches(from, until).take(READ_MAX);
        Ok(found.cloned().collect())
    }

    fn clean(&self, rules: &CleanRules) -> Result<CleanStep> {
        let mut step = CleanStep { is_finished: true, ..CleanStep::default() };
        self.submit(None, |image| {
            let cleaned = clean(image, rules);
            step.removed = cleaned.as_ref().map_or(0, |(_, removed)| *removed);
            Ok(cleaned.map(|(settled, _)| Change::Settle(settled)))
        })?;
        Ok(step)
    }

    fn settled(&self) -> Option<Settled> {
        let inner = self.disk.inner.lock();
        let (upto, next_offset) = inner.memory.settled.upto?;
        Some(Settled { upto, next_offset, bytes: 0 })
    }

    fn settled_batches(&self, from: Offset, until: Offset, bytes: usize) -> Result<Vec<Entry>> {
        let end = self.disk.inner.lock().memory.settled.end();
        self.read(from, until.min(end), bytes)
    }

    fn stage(
        &self,
        begin: bool,
        batches: Vec<Bytes>,
        complete: Option<Offset>,
        done: Done,
    ) -> Result<()> {
        let batches = batches.into_iter().map(staged).collect();
        self.submit(Some(done), |_| Ok(Some(Change::Stage { begin, batches, complete })))
    }

    fn staged(&self) -> Option<Offset> {
        self.disk.inner.lock().memory.staged_below
    }
}
