//! How RocksDB and its column families are opened.
//!
//! Sources of the values: `docs/storage-format.md`.

use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBRecoveryMode, SliceTransform};

use super::{BLOCK_BYTES, COMPACTED, KEYS};
use crate::Options;
use crate::keys::BucketId;
use crate::table::row;
use crate::table::starts::Starts;

/// More level 0 files and memtables than there will ever be: no stall comes from their number.
const NEVER: i32 = 1 << 29;
/// Memtables of the key index that are written to one table.
const KEYS_MEMTABLES: usize = 8;
/// Rows of `meta` in a memtable, at most.
const META_MEMTABLE_BYTES: usize = 32 << 20;
/// Bits of a table's filter for each key of the index: one look-up in a hundred reads a block for nothing.
const KEY_FILTER_BITS: f64 = 10.0;

pub(super) fn database_options(
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
pub(super) struct Kinds {
    pub(super) bucket: rocksdb::Options,
    keys: rocksdb::Options,
    compacted: rocksdb::Options,
    meta: rocksdb::Options,
    pub(super) starts: Starts,
}

impl Kinds {
    pub(super) fn new(options: &Options) -> std::result::Result<Self, rocksdb::Error> {
        let bucket = bucket_options(options)?;
        let hinted = rocksdb::Options::default().get_options_from_string(
            "memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix.8",
        )?;
        let (shared, starts) = (Cache::new_lru_cache(options.block_cache_bytes), Starts::default());
        let own = Cache::new_lru_cache(options.key_cache_bytes);
        let keys = keys_options(hinted, options, &own, &starts);
        let mut compacted = rocksdb::Options::default();
        leveled(&mut compacted, options, &table(&shared, 32 << 10));
        Ok(Self { bucket, keys, compacted, meta: meta_options(options, &shared), starts })
    }

    /// How a column family is opened, by its name.
    pub(super) fn descriptor(&self, name: String) -> ColumnFamilyDescriptor {
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
/// in order; memtables are so small that the processor's cache holds one, and are written to one table together. Filters say which tables
/// have rows of a key, so that a look-up seeks in those only. (Memtables have none: its memory would be taken while a node rests.)
fn keys_options(
    hinted: rocksdb::Options,
    options: &Options,
    cache: &Cache,
    starts: &Starts,
) -> rocksdb::Options {
    let mut out = hinted;
    let mut table = table(cache, 4 << 10);
    table.set_bloom_filter(KEY_FILTER_BITS, false);
    table.set_whole_key_filtering(false);
    leveled(&mut out, options, &table);
    let rows = SliceTransform::create("jangbu-rows-of-one-key", row::rows_in, Some(row::is_row));
    out.set_prefix_extractor(rows);
    // Most keys that are looked up are there: where the last level says no, nothing is left to say yes.
    out.set_optimize_filters_for_hits(true);
    out.set_write_buffer_size(options.memtable_bytes / KEYS_MEMTABLES);
    out.set_min_write_buffer_number_to_merge(i32::try_from(KEYS_MEMTABLES).unwrap_or(1));
    out.set_compression_type(rocksdb::DBCompressionType::Lz4);
    out.set_compaction_filter_factory(starts.clone());
    // So that rows below a log start go although nothing is written over them.
    out.set_periodic_compaction_seconds(7 * 86_400);
    out
}

/// Tables with blocks of so many bytes.
fn table(cache: &Cache, block_bytes: usize) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_size(block_bytes);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_block_cache(cache);
    table
}

/// A family that is compacted in levels; nothing of it ever holds a write back.
fn leveled(out: &mut rocksdb::Options, options: &Options, table: &BlockBasedOptions) {
    out.set_block_based_table_factory(table);
    out.set_level_compaction_dynamic_level_bytes(true);
    out.set_compression_type(rocksdb::DBCompressionType::None);
    out.set_write_buffer_size(options.memtable_bytes);
    unstalled(out);
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
