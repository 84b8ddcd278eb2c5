//! The log of one replica in a simulation: an engine without a disk, with the engine's contract.
//!
//! Changes are seen at once and become durable in their order, group by group, after a delay; whoever waits for one is
//! told then. A crash takes the last changes that are not durable, as many as chance will have it, and whatever the old
//! process still asks for comes to nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jangbu_engine::{
    Entry, EntryKind, Epoch, Error, Index, LogId, LogState, NewEntry, Offset, PartitionId,
    PayloadPart, Result, batch,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::GROUP;
use super::image::{Change, Image};
use super::random::Random;
use super::world::World;
use crate::consensus::log::{Done, Log};
use crate::consensus::{ReplicaId, codec};

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

impl Log for DiskLog {
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
}
