//! RocksDB: its column families, and nothing about logs.
//!
//! The options are in `options.rs`. In short: buckets are never compacted
//! (level 0 only), and every trigger of RocksDB's own write stalls is out of reach: what holds the
//! writer back is its own wait for memtables (`writer.rs`). WAL files are recycled so that a sync
//! writes no inode; recovery stops at the first torn record of the WAL's unsynced end.

mod options;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BoundColumnFamily, DB, DBRawIterator, DBRecoveryMode, ErrorKind, FlushOptions, ReadOptions,
    WriteBatch, WriteBufferManager, WriteOptions,
};

use self::options::{Kinds, database_options};

use crate::keys::{self, BucketId};
use crate::table::starts::Starts;
use crate::watermark::{self, Stated, Watermark};
use crate::{Error, Index, Options, PartitionId, Result, format, rows};

/// A block of a bucket's table ends behind the entry that makes it this large.
pub(crate) const BLOCK_BYTES: u64 = 32 << 10;

const META: &str = "meta";
const KEYS: &str = "keys";
const COMPACTED: &str = "compacted";
/// The node value that every opening writes: the number of the last change it found.
const OPENED: &str = "opened";

/// An open RocksDB.
pub(crate) struct Db {
    inner: DB,
    bucket_options: rocksdb::Options,
    /// Counts the memory of all memtables.
    memtables: WriteBufferManager,
    /// None when open read only.
    watermark: Option<Watermark>,
    lost_changes: u64,
    /// Where logs with a key index begin, for compaction to drop rows below that.
    pub(crate) starts: Starts,
}

/// A column family of an open RocksDB.
pub(crate) type Family<'db> = Arc<BoundColumnFamily<'db>>;

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("path", &self.inner.path()).finish_non_exhaustive()
    }
}

/// Wraps what RocksDB said into the engine's error.
pub(crate) fn failed(operation: &'static str) -> impl FnOnce(rocksdb::Error) -> Error {
    move |source| Error::Storage { operation, source }
}

/// Wraps what RocksDB said about entries from `index` on: blocks that fail RocksDB's checksum are as
/// corrupt as entries that fail ours.
pub(crate) fn unreadable(
    partition: PartitionId,
    index: Index,
) -> impl FnOnce(rocksdb::Error) -> Error {
    move |source| {
        if source.kind() != ErrorKind::Corruption {
            return Error::Storage { operation: "reading entries", source };
        }
        Error::Corrupt { partition, index, what: format!("block ({source})").into() }
    }
}

/// Whether RocksDB refuses to open a store, and why.
pub(crate) enum Refused {
    No,
    Yes(String),
}

impl Db {
    /// Opens or creates RocksDB in the data directory `dir`; returns the buckets found too.
    pub(crate) fn open(dir: &Path, options: &Options) -> Result<(Self, Vec<BucketId>)> {
        let store = format::store(dir);
        let direct_io = options.direct_io && supports_direct_io(dir);
        let kinds = Kinds::new(options).map_err(failed("reading options"))?;
        let mut database_options =
            database_options(direct_io, options).map_err(failed("reading options"))?;
        let memtables =
            WriteBufferManager::new_write_buffer_manager(options.memtables_bytes_max, false);
        database_options.set_write_buffer_manager(&memtables);
        let existing = if store.join("CURRENT").exists() {
            DB::list_cf(&database_options, &store).map_err(|error| refused(dir, error))?
        } else {
            Vec::new()
        };
        let buckets: Vec<_> =
            existing.iter().filter_map(|name| BucketId::from_family(name)).collect();
        let others = ["default", META, KEYS, COMPACTED].map(str::to_owned);
        let names = buckets.iter().map(|id| id.family()).chain(others);
        let families = names.map(|name| kinds.descriptor(name));
        let inner = DB::open_cf_descriptors(&database_options, &store, families)
            .map_err(|error| refused(dir, error))?;
        fail::fail_point!("engine-open-after-store", |_| Err(Error::Closed));
        let (watermark, lost_changes) = keep_watermark(dir, &inner, options.accept_loss)?;
        let watermark = Some(watermark);
        let Kinds { bucket: bucket_options, starts, .. } = kinds;
        let db = Self { inner, bucket_options, memtables, watermark, lost_changes, starts };
        Ok((db, buckets))
    }

    /// Opens RocksDB in `dir` as far as it opens, so that its log is written to tables. Whether a node would be refused.
    pub(crate) fn flush_log(dir: &Path) -> Result<Refused> {
        let (store, options) = (format::store(dir), Options::default());
        let open = |paranoid| {
            let mut database = database_options(false, &options)?;
            database.create_if_missing(false);
            database.set_paranoid_checks(paranoid);
            let names = DB::list_cf(&database, &store)?.into_iter();
            let kinds = Kinds::new(&options)?;
            let families = names.map(|name| kinds.descriptor(name));
            DB::open_cf_descriptors(&database, &store, families)
        };
        let Err(error) = open(true) else { return Ok(Refused::No) };
        if error.kind() != ErrorKind::Corruption {
            return Err(refused(dir, error));
        }
        let reason = error.to_string();
        if let Err(error) = open(false) {
            tracing::warn!(%error, "the log is repaired with the rest");
        }
        Ok(Refused::Yes(reason))
    }

    /// Has RocksDB make a new manifest of the tables that it can read; the others go to `lost`.
    pub(crate) fn repair(dir: &Path) -> Result<()> {
        let database = database_options(false, &Options::default());
        let database = database.map_err(failed("reading options"))?;
        let repaired = DB::repair(&database, format::store(dir));
        repaired.map_err(|source| Error::Storage { operation: "repairing the store", source })
    }

    /// Opens RocksDB in `dir` to look at it: nothing is written, and a damaged file is no reason not to open.
    pub(crate) fn open_read_only(dir: &Path) -> Result<(Self, Vec<BucketId>)> {
        let (store, options) = (format::store(dir), Options::default());
        let kinds = Kinds::new(&options).map_err(failed("reading options"))?;
        let bytes = options.memtables_bytes_max;
        let memtables = WriteBufferManager::new_write_buffer_manager(bytes, false);
        let list = || DB::list_cf(&rocksdb::Options::default(), &store);
        let existing = list().map_err(|error| refused(dir, error))?;
        let buckets = existing.iter().filter_map(|name| BucketId::from_family(name)).collect();
        let open = |paranoid| {
            let mut database = rocksdb::Options::default();
            database.set_paranoid_checks(paranoid);
            database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
            // The manifest has them, and RocksDB crashes when it recovers such a store without being told.
            database.set_track_and_verify_wals_in_manifest(true);
            database.set_max_open_files(-1);
            let names = existing.iter().cloned();
            let families = names.map(|name| kinds.descriptor(name));
            DB::open_cf_descriptors_read_only(&database, &store, families, false)
        };
        // As a node would, which stops at the first bad record of the log; if not even that goes, whatever can be read.
        let opened = open(true).or_else(|_| open(false));
        let inner = opened.map_err(|error| refused(dir, error))?;
        let (watermark, lost_changes) = (None, 0);
        let Kinds { bucket: bucket_options, starts, .. } = kinds;
        let db = Self { inner, bucket_options, memtables, watermark, lost_changes, starts };
        Ok((db, buckets))
    }

    /// Changes that were acknowledged and are not there, as far as the watermark knew when the store was opened.
    pub(crate) fn lost_changes(&self) -> u64 {
        self.lost_changes
    }

    /// RocksDB itself, for iterators.
    pub(crate) fn raw(&self) -> &DB {
        &self.inner
    }

    /// The family of node values.
    pub(crate) fn node(&self) -> Family<'_> {
        self.inner.cf_handle("default").expect("RocksDB always has it")
    }

    /// The family of everything that is no entry.
    pub(crate) fn meta(&self) -> Family<'_> {
        self.inner.cf_handle(META).expect("the database was opened with it")
    }

    /// The family of the key indexes.
    pub(crate) fn keys(&self) -> Family<'_> {
        self.inner.cf_handle(KEYS).expect("the database was opened with it")
    }

    /// The family of settled batches.
    pub(crate) fn compacted(&self) -> Family<'_> {
        self.inner.cf_handle(COMPACTED).expect("the database was opened with it")
    }

    /// The families that are no buckets.
    pub(crate) fn others(&self) -> [Family<'_>; 4] {
        [self.meta(), self.keys(), self.compacted(), self.node()]
    }

    /// The family of a bucket, if the bucket exists.
    pub(crate) fn bucket(&self, id: BucketId) -> Option<Family<'_>> {
        self.inner.cf_handle(&id.family())
    }

    /// Creates a bucket's family.
    pub(crate) fn create_bucket(&self, id: BucketId) -> Result<()> {
        fail::fail_point!("engine-roll-before-create", |_| Err(Error::Closed));
        self.inner.create_cf(id.family(), &self.bucket_options).map_err(failed("creating a bucket"))
    }

    /// Drops a bucket's family.
    pub(crate) fn drop_bucket(&self, id: BucketId) -> Result<()> {
        fail::fail_point!("engine-drop-before", |_| Err(injected("dropping a bucket")));
        self.inner.drop_cf(&id.family()).map_err(failed("dropping a bucket"))
    }

    /// Starts writing a closed bucket's memtable to disk.
    pub(crate) fn flush_bucket(&self, id: BucketId) -> Result<()> {
        fail::fail_point!("engine-flush-before", |_| Err(injected("flushing a bucket")));
        let Some(family) = self.bucket(id) else { return Ok(()) };
        let mut options = FlushOptions::default();
        options.set_wait(false);
        self.inner.flush_cf_opt(&family, &options).map_err(failed("flushing a bucket"))
    }

    /// Memory of all memtables, those that are being flushed included.
    pub(crate) fn memtables_bytes(&self) -> usize {
        self.memtables.get_usage()
    }

    /// Whether memtables of `buckets` or of the other families are on their way to disk. (Full ones of the key index may wait for
    /// more of them.)
    pub(crate) fn is_flushing(&self, buckets: &[BucketId]) -> bool {
        let buckets = buckets.iter().filter_map(|id| self.bucket(*id));
        let pending =
            |family: Family<'_>| self.property(&family, "rocksdb.mem-table-flush-pending") > 0;
        buckets.chain(self.others()).any(pending)
            || self.property(&self.node(), "rocksdb.num-running-flushes") > 0
    }

    /// Errors of flushes and compactions since the start.
    pub(crate) fn background_errors(&self) -> u64 {
        self.property(&self.node(), "rocksdb.background-errors")
    }

    /// Starts writing every memtable that holds anything to disk.
    pub(crate) fn flush_all(&self, buckets: &[BucketId]) -> Result<()> {
        let mut options = FlushOptions::default();
        options.set_wait(false);
        let buckets = buckets.iter().filter_map(|id| self.bucket(*id));
        for family in buckets.chain(self.others()) {
            let holds = |name| self.property(&family, name) > 0;
            if holds("rocksdb.num-entries-active-mem-table")
                || holds("rocksdb.num-immutable-mem-table")
            {
                self.inner.flush_cf_opt(&family, &options).map_err(failed("flushing"))?;
            }
        }
        Ok(())
    }

    /// Bytes of a bucket on disk and in memory.
    pub(crate) fn bucket_bytes(&self, id: BucketId) -> u64 {
        self.bucket(id).map_or(0, |family| self.family_bytes(&family))
    }

    /// Bytes of a family on disk and in memory.
    pub(crate) fn family_bytes(&self, family: &Family<'_>) -> u64 {
        ["rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables"]
            .iter()
            .map(|name| self.property(family, name))
            .sum()
    }

    /// A number that RocksDB keeps of a family; 0 when it has none of that name.
    pub(crate) fn property(&self, family: &Family<'_>, name: &str) -> u64 {
        self.inner.property_int_value_cf(family, name).ok().flatten().unwrap_or(0)
    }

    /// Goes through rows of the key index up to `end`, of any number of keys.
    pub(crate) fn key_rows(&self, end: Vec<u8>) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        self.rows_of_keys(end, options)
    }

    /// Goes through rows of the key index, which all are of the one key that is sought, up to `end`: tables that have none
    /// are left out.
    pub(crate) fn rows_of_one_key(&self, end: Vec<u8>) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        self.rows_of_keys(end, options)
    }

    fn rows_of_keys(&self, end: Vec<u8>, mut options: ReadOptions) -> DBRawIterator<'_> {
        options.set_iterate_upper_bound(end);
        options.set_background_purge_on_iterator_cleanup(true);
        self.inner.raw_iterator_cf_opt(&self.keys(), options)
    }

    /// Reads a row of `meta`.
    pub(crate) fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.inner.get_cf(&self.meta(), key).map_err(failed("reading a row"))
    }

    /// Writes a batch, without a sync.
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<()> {
        fail::fail_point!("engine-write-before", |_| Err(injected("writing")));
        if let Some(watermark) = &self.watermark {
            watermark.written(batch.size_in_bytes());
        }
        self.inner.write_opt(batch, &WriteOptions::default()).map_err(failed("writing"))?;
        fail::fail_point!("engine-write-after", |_| Err(injected("writing")));
        Ok(())
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&self) -> Result<()> {
        fail::fail_point!("engine-sync-before", |_| Err(injected("syncing the log")));
        let sequence = self.inner.latest_sequence_number();
        self.inner.flush_wal(true).map_err(failed("syncing the log"))?;
        if let Some(watermark) = &self.watermark {
            watermark.synced(sequence);
        }
        fail::fail_point!("engine-sync-after", |_| Err(injected("syncing the log")));
        Ok(())
    }
}

/// Checks that the store holds what the watermark says it held, and keeps the watermark from now on. Returns
/// how many changes are missing, if that is accepted.
fn keep_watermark(dir: &Path, db: &DB, accept_loss: bool) -> Result<(Watermark, u64)> {
    let unusable = |error: std::io::Error| Error::Directory {
        dir: dir.to_owned(),
        reason: format!("{}: {error}", watermark::path(dir).display()),
    };
    let identity = db.get_db_identity().map_err(failed("reading the store's identity"))?;
    let (store, latest) = (watermark::store_id(&identity), db.latest_sequence_number());
    let mut lost = 0;
    match watermark::read(dir).map_err(unusable)? {
        Stated::Mark(mark) => {
            if let Some(reason) = watermark::loss(&mark, store, latest) {
                tracing::error!(dir = %dir.display(), reason, accept_loss, "acknowledged records are missing");
                if !accept_loss {
                    return Err(Error::Lost { dir: dir.to_owned(), reason });
                }
                lost = mark.sequence.saturating_sub(latest).max(1);
            }
        }
        Stated::Unreadable => tracing::error!(
            dir = %dir.display(),
            "the watermark does not decode; whether the write-ahead log came back whole cannot be told"
        ),
        Stated::Nothing if latest > 0 => tracing::warn!(
            dir = %dir.display(),
            "there is no watermark; whether the write-ahead log came back whole cannot be told"
        ),
        Stated::Nothing => {}
    }
    // What recovery found in the log RocksDB has written to tables by now, and synced them; but a number whose change
    // left nothing behind (a family that was dropped since) is remembered nowhere. A row that stays makes it last.
    db.put(keys::node(OPENED), rows::opaque(&latest.to_be_bytes())).map_err(failed("writing"))?;
    db.flush_wal(true).map_err(failed("syncing the log"))?;
    let watermark = Watermark::start(dir, store, db.latest_sequence_number()).map_err(unusable)?;
    Ok((watermark, lost))
}

/// An error as RocksDB gives it, for fault points: opening what is not there.
#[cfg(feature = "failpoints")]
fn injected(operation: &'static str) -> Error {
    match DB::list_cf(&rocksdb::Options::default(), "/dev/null/jangbu") {
        Err(source) => Error::Storage { operation, source },
        Ok(_) => Error::Closed,
    }
}

fn refused(dir: &Path, source: rocksdb::Error) -> Error {
    let text = source.to_string();
    let dir = dir.to_owned();
    if text.contains("lock file") || text.contains("lock hold by") {
        return Error::Locked { dir };
    }
    let denied = ["Permission denied", "Read-only file system", "Not a directory", "While mkdir"];
    if source.kind() == ErrorKind::IOError && denied.iter().any(|part| text.contains(part)) {
        return Error::Directory { dir, reason: text };
    }
    if source.kind() == ErrorKind::Corruption {
        return Error::Damaged { dir, reason: text };
    }
    Error::Storage { operation: "opening the data directory", source }
}

/// Whether files in `dir` can be opened past the page cache. Some file systems in memory cannot.
fn supports_direct_io(dir: &Path) -> bool {
    let path = dir.join("direct-io-probe");
    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let opened =
        File::options().write(true).create(true).truncate(true).custom_flags(flags).open(&path);
    let _ = std::fs::remove_file(&path);
    opened.is_ok()
}
