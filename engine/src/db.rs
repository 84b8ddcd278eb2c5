//! RocksDB: its options, its column families, and nothing about logs.
//!
//! Sources of the option values: `docs/storage-format.md`. In short: buckets are never compacted
//! (level 0 only), and every trigger of RocksDB's own write stalls is out of reach: what holds the
//! writer back is its own wait for memtables (`writer.rs`). WAL files are recycled so that a sync
//! writes no inode; recovery stops at the first torn record of the WAL's unsynced end.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, BoundColumnFamily, Cache, ColumnFamilyDescriptor, DB, DBRecoveryMode,
    ErrorKind, FlushOptions, WriteBatch, WriteBufferManager, WriteOptions,
};

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
/// More level 0 files and memtables than there will ever be: no stall comes from their number.
const NEVER: i32 = 1 << 29;
/// Memtables of the key index that are written to one table.
const KEYS_MEMTABLES: usize = 8;
/// Rows of `meta` in a memtable, at most.
const META_MEMTABLE_BYTES: usize = 32 << 20;

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

fn database_options(
    direct_io: bool,
    options: &Options,
) -> std::result::Result<rocksdb::Options, rocksdb::Error> {
    // Flush and compaction threads are set apart: the sum setting would give flushes one of four.
    // The rate of delayed writes is out of reach: only full memtables may hold the writer back.
    let mut out = rocksdb::Options::default().get_options_from_string(
        "max_background_flushes=2;max_background_compactions=1;strict_bytes_per_sync=true;\
         delayed_write_rate=68719476736",
    )?;
    out.create_if_missing(true);
    out.create_missing_column_families(true);
    out.set_max_open_files(-1);
    out.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    out.set_track_and_verify_wals_in_manifest(true);
    out.set_manual_wal_flush(false);
    out.set_atomic_flush(false);
    out.set_paranoid_checks(true);
    out.set_avoid_unnecessary_blocking_io(true);
    // What a restart has to read again, at most; a family that is hardly written is flushed for it.
    let wal_bytes_max = options.memtables_bytes_max.saturating_mul(2);
    out.set_max_total_wal_size(wal_bytes_max as u64);
    // As many as can become obsolete at once: a new file costs an allocation for each of its pages.
    out.set_recycle_log_file_num(wal_bytes_max / options.memtable_bytes.max(1) + 2);
    out.set_bytes_per_sync(1 << 20);
    out.set_use_direct_io_for_flush_and_compaction(direct_io);
    out.set_use_direct_reads(direct_io);
    out.set_max_manifest_file_size(16 << 20);
    out.set_keep_log_file_num(10);
    #[cfg(feature = "failpoints")]
    if fail::eval("engine-flush-slowly", |_| ()).is_some() {
        out.set_ratelimiter(8 << 20, 10_000, 10);
    }
    Ok(out)
}

fn bucket_options(options: &Options) -> std::result::Result<rocksdb::Options, rocksdb::Error> {
    // The first key of every block lies in the index, so that a seek reads one block and not one of
    // each file. Insertion hints are kept per partition: runs of one partition insert in O(1). Most of the
    // cache is for index blocks, without which a read begins with one from each table of its bucket; few
    // shards, so that a block with a large batch in it drives out no index.
    let mut out = rocksdb::Options::default().get_options_from_string(format!(
        "memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix.4;\
         block_based_table_factory={{index_type=kBinarySearchWithFirstKey;\
         index_shortening=kNoShortening;block_size={BLOCK_BYTES};filter_policy=bloomfilter:10:false;\
         whole_key_filtering=false;num_file_reads_for_auto_readahead=2;\
         initial_auto_readahead_size=262144;max_auto_readahead_size=1048576;cache_index_and_filter_blocks=true;\
         cache_index_and_filter_blocks_with_high_priority=true;\
         block_cache={{capacity={};num_shard_bits=2;high_pri_pool_ratio=0.8}}}}",
        options.block_cache_bytes
    ))?;
    out.set_disable_auto_compactions(true);
    out.set_level_zero_file_num_compaction_trigger(NEVER);
    out.set_level_zero_slowdown_writes_trigger(NEVER);
    out.set_level_zero_stop_writes_trigger(NEVER);
    out.set_num_levels(2);
    out.set_compression_type(rocksdb::DBCompressionType::None);
    out.set_write_buffer_size(options.memtable_bytes);
    out.set_max_write_buffer_number(NEVER);
    out.set_min_write_buffer_number_to_merge(1);
    out.set_prefix_extractor(rocksdb::SliceTransform::create_fixed_prefix(4));
    out.set_memtable_prefix_bloom_ratio(0.02);
    Ok(out)
}

/// How each kind of column family is opened.
struct Kinds {
    bucket: rocksdb::Options,
    keys: rocksdb::Options,
    compacted: rocksdb::Options,
    meta: rocksdb::Options,
    starts: Starts,
}

impl Kinds {
    fn new(options: &Options) -> std::result::Result<Self, rocksdb::Error> {
        let bucket = bucket_options(options)?;
        let hinted = rocksdb::Options::default().get_options_from_string(
            "memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix.8",
        )?;
        let (shared, starts) = (Cache::new_lru_cache(options.block_cache_bytes), Starts::default());
        let own = Cache::new_lru_cache(options.key_cache_bytes);
        let keys = keys_options(hinted, options, &own, &starts);
        let compacted = leveled(rocksdb::Options::default(), options, &shared, 32 << 10);
        Ok(Self { bucket, keys, compacted, meta: meta_options(options, &shared), starts })
    }

    /// How a column family is opened, by its name.
    fn descriptor(&self, name: String) -> ColumnFamilyDescriptor {
        let kind = match name.as_str() {
            KEYS => &self.keys,
            COMPACTED => &self.compacted,
            _ if BucketId::from_family(&name).is_some() => &self.bucket,
            _ => &self.meta,
        };
        ColumnFamilyDescriptor::new(name, kind.clone())
    }
}

/// Rows of the key index come in any order and are looked up one by one: small blocks, so that a look-up reads little, and a cache
/// of their own, which nothing else can empty. A row goes into the memtable from where the last one went, as those of a batch come
/// in order; memtables are so small that the processor's cache holds one, and are written to one table together.
fn keys_options(
    hinted: rocksdb::Options,
    options: &Options,
    cache: &Cache,
    starts: &Starts,
) -> rocksdb::Options {
    let mut out = leveled(hinted, options, cache, 4 << 10);
    out.set_write_buffer_size(options.memtable_bytes / KEYS_MEMTABLES);
    out.set_min_write_buffer_number_to_merge(i32::try_from(KEYS_MEMTABLES).unwrap_or(1));
    out.set_compression_type(rocksdb::DBCompressionType::Lz4);
    out.set_compaction_filter_factory(starts.clone());
    // So that rows below a log start go although nothing is written over them.
    out.set_periodic_compaction_seconds(7 * 86_400);
    out
}

/// A family that is compacted in levels; nothing of it ever holds a write back.
fn leveled(
    mut out: rocksdb::Options,
    options: &Options,
    cache: &Cache,
    block_bytes: usize,
) -> rocksdb::Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_size(block_bytes);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_block_cache(cache);
    out.set_block_based_table_factory(&table);
    out.set_level_compaction_dynamic_level_bytes(true);
    out.set_compression_type(rocksdb::DBCompressionType::None);
    out.set_write_buffer_size(options.memtable_bytes);
    unstalled(&mut out);
    out
}

/// Takes every trigger of RocksDB's own write stalls out of reach.
fn unstalled(out: &mut rocksdb::Options) {
    out.set_max_write_buffer_number(NEVER);
    out.set_level_zero_slowdown_writes_trigger(NEVER);
    out.set_level_zero_stop_writes_trigger(NEVER);
    // 0 is none.
    out.set_soft_pending_compaction_bytes_limit(0);
    out.set_hard_pending_compaction_bytes_limit(0);
}

fn meta_options(options: &Options, cache: &Cache) -> rocksdb::Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_size(8 << 10);
    table.set_bloom_filter(10.0, false);
    table.set_block_cache(cache);
    let mut out = rocksdb::Options::default();
    out.set_block_based_table_factory(&table);
    out.set_num_levels(3);
    out.set_compression_type(rocksdb::DBCompressionType::None);
    out.set_write_buffer_size(META_MEMTABLE_BYTES.min(options.memtable_bytes));
    unstalled(&mut out);
    out.add_compact_on_deletion_collector_factory(1000, 500, 0.0);
    out
}
