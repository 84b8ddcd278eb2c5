//! What the engine's handles and threads share: the database, the queues, the tail cache's bound.
//!
//! Invariants:
//! - The first failure of a write or sync latches: from then on everything answers `Closed`.
//! - RocksDB is dropped in `close`, when no thread and no read holds it any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::bucket::Buckets;
use crate::command::{Command, Done, Op};
use crate::corrupt::CorruptReads;
use crate::db::Db;
use crate::partition::Partition;
use crate::queue::{Queue, Room};
use crate::relaxed::Unsynced;
use crate::state::{Change, State};
use crate::stats::Counters;
use crate::table::newer::Newer;
use crate::table::starts::Starts;
use crate::{Error, Result};

/// What a [`Share`] costs. It counts until it is taken out, so that their number is bounded too.
const SHARE_BYTES: usize = 32;

/// A command's share of the tail cache.
#[derive(Debug)]
struct Share {
    partition: Arc<Partition>,
    seq: u64,
}

/// What handles and threads share.
#[derive(Debug)]
pub(crate) struct Core {
    db: RwLock<Option<Arc<Db>>>,
    pub(crate) commands: Queue<Command>,
    /// Held while syncing and completing, so that completions keep the order of the writes.
    pub(crate) syncing: Mutex<()>,
    pub(crate) unsynced: Unsynced,
    /// Log threads that have not ended.
    pub(crate) running: AtomicUsize,
    pub(crate) room: Room,
    pub(crate) buckets: Mutex<Buckets>,
    pub(crate) counters: Counters,
    pub(crate) corrupt_reads: CorruptReads,
    /// Where logs with a key index begin.
    pub(crate) starts: Starts,
    /// What cleaning knows of the keys of the log that it cleaned last.
    pub(crate) newer: Mutex<Newer>,
    failure: Mutex<Option<Error>>,
    closed: AtomicBool,
    cache_bytes: AtomicUsize,
    cache_bytes_max: usize,
    pub(crate) memtables_bytes_max: usize,
    shares: Mutex<VecDeque<Share>>,
}

/// RocksDB, held open for the time of one read.
pub(crate) struct Reading<'a>(RwLockReadGuard<'a, Option<Arc<Db>>>);

impl std::ops::Deref for Reading<'_> {
    type Target = Db;

    fn deref(&self) -> &Db {
        self.0.as_ref().expect("checked when the guard was taken")
    }
}

impl Core {
    /// A core over an open database.
    pub(crate) fn new(db: Arc<Db>, buckets: Buckets, options: &crate::Options) -> Self {
        let starts = db.starts.clone();
        Self {
            starts,
            newer: Mutex::default(),
            db: RwLock::new(Some(db)),
            commands: Queue::default(),
            syncing: Mutex::new(()),
            unsynced: Unsynced::new(options.queue_bytes_max),
            running: AtomicUsize::new(0),
            room: Room::new(options.queue_bytes_max),
            buckets: Mutex::new(buckets),
            counters: Counters::default(),
            corrupt_reads: CorruptReads::default(),
            failure: Mutex::new(None),
            closed: AtomicBool::new(false),
            cache_bytes: AtomicUsize::new(0),
            cache_bytes_max: options.cache_bytes_max,
            memtables_bytes_max: options.memtables_bytes_max,
            shares: Mutex::new(VecDeque::new()),
        }
    }

    /// The database, for one read.
    pub(crate) fn read(&self) -> Result<Reading<'_>> {
        let guard = self.db.read();
        if guard.is_none() || self.is_closed() {
            return Err(Error::Closed);
        }
        Ok(Reading(guard))
    }

    /// Whether the engine has been closed or has failed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes nothing more. Waiting callers answer `Closed`.
    pub(crate) fn stop_taking(&self) {
        self.closed.store(true, Ordering::Release);
        self.commands.close();
        // What is still answered before its sync is covered by the last sync of the log threads.
        self.unsynced.close();
        self.room.close();
    }

    /// Drops RocksDB once the last read is over.
    pub(crate) fn drop_database(&self) {
        *self.db.write() = None;
    }

    /// Latches `error` if it is the first, and takes nothing more.
    pub(crate) fn fail(&self, error: &Error) {
        self.failure.lock().get_or_insert_with(|| error.clone());
        self.stop_taking();
    }

    /// Whether a write or sync has failed.
    pub(crate) fn is_failed(&self) -> bool {
        self.failure.lock().is_some()
    }

    /// The failure that was latched.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }

    /// Takes room for `bytes`, changes `partition`'s state with `change` and sends what that asks for
    /// to the writer, in one order. `None` from `change` means there is nothing to do.
    pub(crate) fn submit(
        &self,
        partition: &Arc<Partition>,
        bytes: usize,
        done: Option<Done>,
        change: impl FnOnce(&mut State) -> Result<Option<Change>>,
    ) -> Result<()> {
        self.room.take(bytes)?;
        let sent = self.change_and_send(partition, bytes, done, change);
        if !matches!(sent, Ok(true)) {
            self.room.give_back(bytes);
        }
        sent.map(|_| ())
    }

    fn change_and_send(
        &self,
        partition: &Arc<Partition>,
        bytes: usize,
        done: Option<Done>,
        change: impl FnOnce(&mut State) -> Result<Option<Change>>,
    ) -> Result<bool> {
        let mut state = partition.live()?;
        if self.is_closed() {
            return Err(Error::Closed);
        }
        let Some(Change { op, seq, cached, freed }) = change(&mut state)? else {
            drop(state);
            if let Some(done) = done {
                done(Ok(()));
            }
            return Ok(false);
        };
        self.cache_bytes.fetch_sub(freed, Ordering::Relaxed);
        if cached > 0 {
            self.cache_bytes.fetch_add(cached + SHARE_BYTES, Ordering::Relaxed);
            self.shares.lock().push_back(Share { partition: Arc::clone(partition), seq });
        }
        let relaxed = partition.answers.relaxed.load(Ordering::Acquire);
        let partition = Some(Arc::clone(partition));
        self.commands
            .push(Command { partition, seq, op, bytes, done, accepted: Instant::now(), relaxed })
            .map_err(|_| Error::Closed)?;
        Ok(true)
    }

    /// Sends a row of the partition's to the writer.
    pub(crate) fn submit_row(
        &self,
        partition: &Arc<Partition>,
        row: (Vec<u8>, Vec<u8>),
        done: Option<Done>,
        change: impl FnOnce(&mut State, u64),
    ) -> Result<()> {
        let (key, value) = row;
        let bytes = key.len() + value.len();
        self.submit(partition, bytes, done, |state| {
            let seq = state.next_seq();
            change(state, seq);
            Ok(Some(Change { op: Op::Row { key, value }, seq, cached: 0, freed: 0 }))
        })
    }

    /// Bytes in the tail cache.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache_bytes.load(Ordering::Relaxed)
    }

    /// The bound of [`Core::cache_bytes`].
    pub(crate) fn cache_bytes_max(&self) -> usize {
        self.cache_bytes_max
    }

    /// Drops the oldest entries from the tail cache until it is within its bound. Entries RocksDB does
    /// not have yet stay.
    pub(crate) fn evict(&self) {
        self.evict_to(self.cache_bytes_max);
    }

    /// The same with another bound.
    pub(crate) fn evict_to(&self, bytes_max: usize) {
        while self.cache_bytes() > bytes_max {
            let Some(share) = self.shares.lock().pop_front() else { return };
            let mut state = share.partition.state.lock();
            if state.written_seq < share.seq {
                drop(state);
                self.shares.lock().push_front(share);
                return;
            }
            let freed = state.tail.evict(share.seq) + SHARE_BYTES;
            self.cache_bytes.fetch_sub(freed, Ordering::Relaxed);
        }
    }
}
