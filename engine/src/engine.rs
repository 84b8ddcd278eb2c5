//! The engine of one node: opening, the logs it holds, closing.
//!
//! Invariants:
//! - Logs are opened when they are asked for; a start reads only which ones there are.
//! - When the last [`Engine`] and [`crate::PartitionLog`] is dropped, or `close` is called, the threads
//!   end and RocksDB's lock is released.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Instant;

use parking_lot::Mutex;

use crate::bucket::Buckets;
use crate::command::{Command, Op};
use crate::core::Core;
use crate::db::{Db, failed};
use crate::keys;
use crate::partition::Partition;
use crate::state::State;
use crate::stats::{self, EngineStats, StoreStats};
use crate::{
    Error, Options, PartitionId, PartitionLog, Result, RetentionClass, format, log, recovery,
    relaxed, rows, writer,
};

/// One syncs while the other writes.
const LOG_THREADS: usize = 2;

/// The engine of one node. Clones share it.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) handle: Arc<Handle>,
}

/// A log that exists.
#[derive(Debug)]
struct Known {
    class: RetentionClass,
    /// The number of the replica it was created for.
    replica: u32,
    /// Set once it has been opened.
    partition: Option<Arc<Partition>>,
}

/// What keeps the engine running: dropping the last one closes it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
    logs: Mutex<HashMap<PartitionId, Known>>,
    /// Held while a log is opened, created or deleted, also over the I/O this takes.
    opening: Mutex<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    thread_ids: Vec<ThreadId>,
}

impl Engine {
    /// Opens or creates the engine in `dir`.
    ///
    /// `on_failure` is called once, from an engine thread, after a write or sync has failed and all
    /// waiters have been told; the server ends the process there.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Directory`], [`Error::UnknownFormat`], [`Error::Lost`], [`Error::Damaged`],
    /// [`Error::Storage`].
    pub fn open(
        dir: &Path,
        options: Options,
        on_failure: Arc<dyn Fn(&Error) + Send + Sync>,
    ) -> Result<Self> {
        format::prepare(dir)?;
        let (db, families) = Db::open(dir, &options)?;
        let buckets = Buckets::load(&db, dir, &families, &options)?;
        let logs = recovery::partitions(&db)?
            .into_iter()
            .map(|(id, class, replica)| (id, Known { class, replica, partition: None }))
            .collect();
        let db = Arc::new(db);
        let core = Arc::new(Core::new(Arc::clone(&db), buckets, &options));
        let threads = start_threads(&core, &db, on_failure).map_err(|error| {
            core.stop_taking();
            Error::Directory { dir: dir.to_owned(), reason: error.to_string() }
        })?;
        let handle = Handle {
            core,
            logs: Mutex::new(logs),
            opening: Mutex::new(()),
            thread_ids: threads.iter().map(|thread| thread.thread().id()).collect(),
            threads: Mutex::new(threads),
        };
        Ok(Self { handle: Arc::new(handle) })
    }

    /// The log of `id`, created when it does not exist. The class of an existing log is kept.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when its tail does not decode, [`Error::Storage`], [`Error::Closed`].
    pub fn log(&self, id: PartitionId, class: RetentionClass) -> Result<PartitionLog> {
        self.log_of(id, class, 0)
    }

    /// The log of `id`, created for the replica with this number when it does not exist. The class and
    /// the number of an existing log are kept.
    ///
    /// # Errors
    /// As [`Engine::log`].
    pub fn log_of(
        &self,
        id: PartitionId,
        class: RetentionClass,
        replica: u32,
    ) -> Result<PartitionLog> {
        let _opening = self.handle.opening.lock();
        let partition = match self.handle.existing(id)? {
            Some(partition) => partition,
            None => self.handle.create(id, class, replica)?,
        };
        Ok(PartitionLog::new(Arc::clone(&self.handle), partition))
    }

    /// The number of the replica that a log was created for; `None` when there is no log.
    #[must_use]
    pub fn replica(&self, id: PartitionId) -> Option<u32> {
        self.handle.logs.lock().get(&id).map(|known| known.replica)
    }

    /// All logs, opened.
    pub(crate) fn open_logs(&self) -> Result<Vec<PartitionLog>> {
        let mut logs = Vec::new();
        for id in self.partitions() {
            let _opening = self.handle.opening.lock();
            if let Some(partition) = self.handle.existing(id)? {
                logs.push(PartitionLog::new(Arc::clone(&self.handle), partition));
            }
        }
        Ok(logs)
    }

    /// The logs that exist on disk.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionId> {
        let mut ids: Vec<_> = self.handle.logs.lock().keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The logs in which reads have met damage since the start.
    #[must_use]
    pub fn damaged(&self) -> BTreeSet<PartitionId> {
        self.handle.core.corrupt_reads.partitions()
    }

    /// Deletes a log: its rows are gone at once (durable on return), its bytes go with their
    /// buckets. Later calls on the log answer [`Error::Deleted`]. Deleting what does not exist is done.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Closed`].
    pub fn delete(&self, id: PartitionId) -> Result<()> {
        let opening = self.handle.opening.lock();
        let Some(partition) = self.handle.deletable(id)? else { return Ok(()) };
        let core = &self.handle.core;
        log::wait(|done| {
            core.submit(&partition, 0, Some(done), |state| Ok(Some(state.delete())))?;
            core.corrupt_reads.forget(id);
            core.starts.forget(id);
            self.handle.logs.lock().remove(&id);
            drop(opening);
            Ok(())
        })
    }

    /// A small value of the node itself (cluster id, node id), durable on return.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Closed`].
    pub fn set_node_value(&self, key: &str, value: &[u8]) -> Result<()> {
        let core = &self.handle.core;
        let op = Op::Node { key: keys::node(key), value: rows::opaque(value) };
        core.room.take(value.len())?;
        self.through_writer(op, value.len())
    }

    /// Does what belongs to no partition, durable on return; `bytes` of room have been taken for it.
    pub(crate) fn through_writer(&self, op: Op, bytes: usize) -> Result<()> {
        log::wait(|done| {
            let (done, accepted) = (Some(done), Instant::now());
            let command =
                Command { partition: None, seq: 0, op, bytes, done, accepted, relaxed: false };
            self.handle.core.commands.push(command).map_err(|_| Error::Closed)
        })
    }

    /// What [`Engine::set_node_value`] stored.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Closed`].
    pub fn node_value(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let db = self.handle.core.read()?;
        let value =
            db.raw().get_cf(&db.node(), keys::node(key)).map_err(failed("reading a node value"))?;
        Ok(value.as_deref().and_then(rows::decode_opaque).map(<[u8]>::to_vec))
    }

    /// What the engine holds and has done.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let core = &self.handle.core;
        let mut stats = EngineStats {
            cache_bytes: core.cache_bytes(),
            cache_bytes_max: core.cache_bytes_max(),
            queued_bytes: core.room.taken(),
            queue_bytes_max: core.room.bytes_max(),
            queue_full_nanos: core.room.waited_nanos(),
            memtables_bytes_max: core.memtables_bytes_max,
            buckets: core.buckets.lock().count(),
            corrupt_reads: core.corrupt_reads.count(),
            lost_changes: core.read().map_or(0, |db| db.lost_changes()),
            ..EngineStats::default()
        };
        core.counters.fill(&mut stats);
        stats
    }

    /// What RocksDB holds. Asks RocksDB and the file system, so it may block.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Closed`].
    pub fn store_stats(&self) -> Result<StoreStats> {
        let core = &self.handle.core;
        let buckets = core.buckets.lock().ids();
        stats::store(&*core.read()?, &buckets)
    }

    /// Gives back memory that a quiet engine has no use for: begins to flush what lies in memtables, and drops
    /// the tail cache. May block.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Closed`].
    pub fn rest(&self) -> Result<()> {
        let core = &self.handle.core;
        let buckets = core.buckets.lock().ids();
        core.read()?.flush_all(&buckets)?;
        core.evict_to(0);
        Ok(())
    }

    /// Makes everything accepted durable, stops the threads and closes RocksDB. Idempotent. Logs that
    /// are still held answer [`Error::Closed`].
    ///
    /// # Errors
    /// [`Error::Storage`] when the last write or sync failed.
    pub fn close(&self) -> Result<()> {
        self.handle.close();
        self.handle.core.failure().map_or(Ok(()), Err)
    }
}

impl Handle {
    fn existing(&self, id: PartitionId) -> Result<Option<Arc<Partition>>> {
        let kind = match self.logs.lock().get(&id) {
            None => return Ok(None),
            Some(Known { partition: Some(partition), .. }) => {
                return Ok(Some(Arc::clone(partition)));
            }
            Some(Known { class, replica, .. }) => (*class, *replica),
        };
        let mut found = recovery::find(&*self.core.read()?, id)
            .inspect_err(|error| self.core.corrupt_reads.note(error))?;
        let segments = std::mem::take(&mut found.segments);
        let state = State::recovered(found);
        if state.table.keyed {
            self.core.starts.set(id, state.log_start);
        }
        let partition = Arc::new(Partition::new(id, kind, state, segments));
        self.remember(&partition);
        Ok(Some(partition))
    }

    /// As [`Handle::existing`], but damage is no reason to keep a log: what is known of its place is deleted.
    fn deletable(&self, id: PartitionId) -> Result<Option<Arc<Partition>>> {
        match self.existing(id) {
            Err(Error::Corrupt { .. }) => {}
            other => return other,
        }
        let Some(kind) = self.logs.lock().get(&id).map(|known| (known.class, known.replica)) else {
            return Ok(None);
        };
        let segments = recovery::segments(&*self.core.read()?, id).unwrap_or_default();
        // It may have been a table, too: all rows of one go.
        let mut state = State::new();
        state.table.keyed = true;
        Ok(Some(Arc::new(Partition::new(id, kind, state, segments))))
    }

    fn create(
        &self,
        id: PartitionId,
        class: RetentionClass,
        replica: u32,
    ) -> Result<Arc<Partition>> {
        let partition = Arc::new(Partition::new(id, (class, replica), State::new(), Vec::new()));
        self.core.submit_row(&partition, partition.row(), None, |_, _| ())?;
        self.remember(&partition);
        Ok(partition)
    }

    fn remember(&self, partition: &Arc<Partition>) {
        let (class, replica) = (partition.class(), partition.replica);
        let known = Known { class, replica, partition: Some(Arc::clone(partition)) };
        self.logs.lock().insert(partition.id, known);
    }

    fn close(&self) {
        self.core.stop_taking();
        if self.thread_ids.contains(&thread::current().id()) {
            // From a completion: the threads end by themselves, and RocksDB with the last of them.
            return;
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                self.core.fail(&Error::Closed);
            }
        }
        self.core.drop_database();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

fn start_threads(
    core: &Arc<Core>,
    db: &Arc<Db>,
    on_failure: Arc<dyn Fn(&Error) + Send + Sync>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let spawn = |number: usize| {
        let (core, db) = (Arc::clone(core), Arc::clone(db));
        let on_failure = Arc::clone(&on_failure);
        core.running.fetch_add(1, Ordering::AcqRel);
        thread::Builder::new()
            .name(format!("engine-log-{number}"))
            .spawn(move || writer::run(&core, &db, &*on_failure))
    };
    let mut threads: Vec<_> = (1..=LOG_THREADS).map(spawn).collect::<std::io::Result<_>>()?;
    let (core, db) = (Arc::clone(core), Arc::clone(db));
    let relaxed = thread::Builder::new().name("engine-relaxed".to_owned());
    threads.push(relaxed.spawn(move || relaxed::run(&core, &db))?);
    Ok(threads)
}
