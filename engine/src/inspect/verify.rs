//! Reads every row, block and entry of a stopped store and says what does not agree.
//!
//! Two passes: the rows of `meta`, then every bucket from end to end, dead entries included, so that every block of
//! every table is read and its checksum compared. The live entries of a partition must follow each other without a gap
//! over all its buckets, in index, offset and term, and be where the sparse index says. Then what logs are as tables
//! (`verify/table.rs`).
//!
//! Invariant: one damaged place is one problem; reading goes on behind it.

mod table;

use std::collections::{BTreeMap, HashMap};

use rocksdb::{DBRawIterator, IteratorMode, ReadOptions};

use super::Store;
use crate::keys::{self, BucketId, DATA_KEY_BYTES, Tag};
use crate::record::{self, Head, RECORD_HEADER_BYTES};
use crate::rows::{self, PurgedRow, Segment, TableRow};
use crate::{EntryKind, Epoch, Index, Offset, PartitionId, Result, Term, batch};

/// Problems that are told one by one; more are only counted.
const PROBLEMS_MAX: usize = 200;
/// What an entry costs beside its value, for the progress.
const KEY_BYTES: u64 = DATA_KEY_BYTES as u64 + 8;

/// Something that does not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: a partition and index, a row, a file.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// What a look at everything has found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Rows of `meta` and `default`.
    pub rows: u64,
    /// Partitions that exist.
    pub partitions: u64,
    /// Buckets that exist.
    pub buckets: u64,
    /// Entries in them, dead ones included.
    pub entries: u64,
    /// Bytes of entries.
    pub bytes: u64,
    /// Settled batches of compacted topics.
    pub settled: u64,
    /// Rows of key indexes, marks included.
    pub keys: u64,
    /// How many problems there are.
    pub problem_count: u64,
    /// The first of them.
    pub problems: Vec<Problem>,
}

impl Report {
    fn add(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { place: place.into(), what: what.into() });
        }
    }
}

/// The live entries of one segment of a partition.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: Head,
    last: Head,
    /// Damage was skipped in it, so that a gap is no finding of its own.
    broken: bool,
}

/// What `meta` says of a partition.
#[derive(Debug, Default)]
struct Rows {
    exists: bool,
    segments: Vec<Segment>,
    epochs: Vec<Epoch>,
    purged: Option<PurgedRow>,
    /// Base offset by index.
    sparse: BTreeMap<Index, i64>,
    log_start: Offset,
    table: TableRow,
    /// Records that were found to have their row in the key index.
    entered: u64,
}

struct Verify<'a, P> {
    store: &'a Store,
    report: Report,
    rows: HashMap<PartitionId, Rows>,
    /// By the first index of the segment.
    runs: HashMap<(PartitionId, Index), Run>,
    progress: P,
}

impl Store {
    /// Checks everything; `progress` is told bytes done and about how many there are.
    ///
    /// # Errors
    /// [`crate::Error::Storage`] when RocksDB cannot even be iterated. Damage is in the report.
    pub fn verify(&self, progress: impl FnMut(u64, u64)) -> Result<Report> {
        let (report, rows, runs) = (Report::default(), HashMap::new(), HashMap::new());
        let mut verify = Verify { store: self, report, rows, runs, progress };
        if let Some(lost) = self.lost()? {
            verify.report.add("jangbu-watermark", lost);
        }
        verify.node_rows();
        verify.meta_rows();
        verify.bucket_rows()?;
        let total = self.families.iter().map(|id| self.db.bucket_bytes(*id)).sum();
        let mut families = self.families.clone();
        families.sort_unstable();
        for bucket in families {
            verify.bucket(bucket, total)?;
        }
        verify.settled();
        verify.key_rows();
        verify.chains();
        (verify.progress)(total, total);
        Ok(verify.report)
    }
}

impl<P: FnMut(u64, u64)> Verify<'_, P> {
    fn node_rows(&mut self) {
        let family = self.store.db.node();
        for item in self.store.db.raw().iterator_cf(&family, IteratorMode::Start) {
            self.report.rows += 1;
            match item {
                Ok((key, value)) => {
                    let known = key.first() == Some(&(Tag::Node as u8));
                    if !known || rows::decode_opaque(&value).is_none() {
                        self.report.add(row_name("default", &key), "does not decode");
                    }
                }
                Err(error) => self.report.add("default", error.to_string()),
            }
        }
    }

    fn meta_rows(&mut self) {
        let family = self.store.db.meta();
        for item in self.store.db.raw().iterator_cf(&family, IteratorMode::Start) {
            self.report.rows += 1;
            match item {
                Ok((key, value)) => {
                    if self.meta_row(&key, &value).is_none() {
                        self.report.add(row_name("meta", &key), "does not decode");
                    }
                }
                Err(error) => self.report.add("meta", error.to_string()),
            }
        }
        self.report.partitions = self.rows.values().filter(|rows| rows.exists).count() as u64;
        let orphans: Vec<_> =
            self.rows.iter().filter(|(_, rows)| !rows.exists).map(|(id, _)| *id).collect();
        for id in orphans {
            self.report.add(format!("partition {id}"), "has rows but does not exist");
        }
    }

    /// Notes a row; `None` when it does not decode.
    fn meta_row(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let tag = Tag::from_byte(*key.first()?)?;
        if tag == Tag::Bucket {
            return keys::bucket_id(key).and(rows::decode_bucket(value)).map(|_| ());
        }
        let rows = self.rows.entry(keys::partition(key)?).or_default();
        match tag {
            Tag::Bucket => {}
            Tag::Node => return None,
            Tag::Partition => {
                rows::decode_partition(value)?;
                rows.exists = true;
            }
            Tag::Directory => {
                rows.segments.push(rows::decode_segment(Index(keys::position(key)?), value)?);
            }
            Tag::Epoch => {
                rows.epochs.push(rows::decode_epoch(Term(keys::position(key)?), value)?);
            }
            Tag::Sparse => {
                let row = rows::decode_sparse(keys::position(key)?, value)?;
                rows.sparse.insert(row.index, row.offset.0);
            }
            Tag::Purged => rows.purged = Some(rows::decode_purged(value)?),
            Tag::LogStart => rows.log_start = rows::decode_offset(value)?,
            Tag::Table => rows.table = rows::decode_table(value)?,
            Tag::Committed | Tag::Checkpoint | Tag::Vote => drop(rows::decode_opaque(value)?),
        }
        Some(())
    }

    fn bucket_rows(&mut self) -> Result<()> {
        let rows = self.store.bucket_rows()?;
        self.report.buckets = self.store.families.len() as u64;
        for (id, row) in &rows {
            let dropping = row.is_some_and(|row| row.state == rows::BucketState::Dropping);
            if !dropping && !self.store.families.contains(id) {
                self.report.add(id.family(), "has a row but no column family");
            }
        }
        let named: Vec<_> = self
            .rows
            .iter()
            .flat_map(|(id, rows)| rows.segments.iter().map(|segment| (*id, *segment)))
            .filter(|(_, segment)| !self.store.families.contains(&segment.bucket))
            .collect();
        for (id, segment) in named {
            let place = format!("partition {id}, from index {}", segment.first);
            self.report.add(place, format!("{} is missing", segment.bucket.family()));
        }
        Ok(())
    }

    fn bucket(&mut self, bucket: BucketId, total: u64) -> Result<()> {
        let Some(family) = self.store.db.bucket(bucket) else { return Ok(()) };
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.set_verify_checksums(true);
        options.fill_cache(false);
        options.set_readahead_size(4 << 20);
        let mut iterator = self.store.db.raw().raw_iterator_cf_opt(&family, options);
        iterator.seek_to_first();
        let mut at: Option<(PartitionId, Index)> = None;
        loop {
            if let Some((key, value)) = iterator.item() {
                self.report.entries += 1;
                self.report.bytes += value.len() as u64 + KEY_BYTES;
                at = self.entry(bucket, key, value).or(at);
                if self.report.entries.is_multiple_of(256) {
                    (self.progress)(self.report.bytes, total);
                }
                iterator.next();
                continue;
            }
            let Err(error) = iterator.status() else { return Ok(()) };
            let place = at.map_or(bucket.family(), |(id, index)| {
                format!("{}, behind partition {id}, index {index}", bucket.family())
            });
            self.report.add(place, error.to_string());
            if !self.skip(bucket, &mut at, &mut iterator) {
                return Ok(());
            }
        }
    }

    /// Goes on behind damage: at the next row of the sparse index, or at the next partition.
    fn skip(
        &mut self,
        bucket: BucketId,
        at: &mut Option<(PartitionId, Index)>,
        iterator: &mut DBRawIterator<'_>,
    ) -> bool {
        let (id, index) = at.unwrap_or((PartitionId(0), Index(0)));
        self.break_run(id, bucket, index);
        let behind = Index(index.0.saturating_add(1));
        let sparse = self.rows.get(&id).and_then(|rows| rows.sparse.range(behind..).next());
        let next = match (sparse, id.0.checked_add(1)) {
            (Some((next, _)), _) => (id, *next),
            (None, Some(next)) => (PartitionId(next), Index(0)),
            (None, None) => return false,
        };
        *at = Some(next);
        iterator.seek(keys::data(next.0, next.1));
        true
    }

    /// Checks an entry; where it is, if its key says.
    fn entry(
        &mut self,
        bucket: BucketId,
        key: &[u8],
        value: &[u8],
    ) -> Option<(PartitionId, Index)> {
        let Some((id, index)) = split(key) else {
            self.report.add(row_name(&bucket.family(), key), "is no key of an entry");
            return None;
        };
        let place = || format!("partition {id}, index {index}, {}", bucket.family());
        let head = match record::decode(id, index, value) {
            Ok(head) => head,
            Err(what) => {
                self.report.add(place(), what);
                self.break_run(id, bucket, index);
                return Some((id, index));
            }
        };
        let payload = value.get(RECORD_HEADER_BYTES..).unwrap_or_default();
        if head.kind == EntryKind::Batch
            && let Err(invalid) = batch::verify(payload)
        {
            self.report.add(place(), format!("batch: {invalid}"));
        }
        if let Some(segment) = self.segment(id, bucket, index) {
            self.live((id, segment), head, &place());
            self.keys_of_entry(id, &head, payload);
        }
        Some((id, index))
    }

    /// The segment that a live entry belongs to; none when the directory says that another bucket holds it, or when
    /// it has been purged.
    fn segment(&self, id: PartitionId, bucket: BucketId, index: Index) -> Option<Index> {
        let rows = self.rows.get(&id)?;
        let begun = rows.segments.partition_point(|segment| segment.first <= index);
        let segment = begun.checked_sub(1).and_then(|at| rows.segments.get(at))?;
        let kept = rows.purged.is_none_or(|row| row.purged.index < index);
        (kept && segment.bucket == bucket).then_some(segment.first)
    }

    fn break_run(&mut self, id: PartitionId, bucket: BucketId, index: Index) {
        let segment = self.segment(id, bucket, index);
        if let Some(run) = segment.and_then(|segment| self.runs.get_mut(&(id, segment))) {
            run.broken = true;
        }
    }

    fn live(&mut self, (id, segment): (PartitionId, Index), head: Head, place: &str) {
        if let Some(rows) = self.rows.get_mut(&id)
            && let Some(offset) = rows.sparse.remove(&head.index)
            && offset != head.base_offset.0
        {
            let what = format!("offset {}, the sparse index says {offset}", head.base_offset);
            self.report.add(place, what);
        }
        let run = Run { first: head, last: head, broken: false };
        let run = self.runs.entry((id, segment)).or_insert(run);
        let follows = run.last.index != head.index && !std::mem::take(&mut run.broken);
        if follows && let Some(what) = broken_chain(&run.last, &head) {
            self.report.add(place, what);
        }
        run.last = head;
    }

    /// Checks that the parts of each partition follow each other, and what the rows say of them.
    fn chains(&mut self) {
        let mut ids: Vec<_> = self.rows.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Some(rows) = self.rows.get(&id) else { continue };
            let place = |index: Index| format!("partition {id}, index {index}");
            let mut last: Option<Run> = None;
            for segment in &rows.segments {
                let Some(run) = self.runs.get(&(id, segment.first)) else { continue };
                if let Some(before) = last.filter(|before| !before.broken)
                    && let Some(what) = broken_chain(&before.last, &run.first)
                {
                    self.report.add(place(run.first.index), what);
                }
                last = Some(*run);
            }
            let first = rows.segments.iter().find_map(|s| self.runs.get(&(id, s.first)));
            if let (Some(purged), Some(run)) = (rows.purged, first)
                && run.first.index.0 != purged.purged.index.0 + 1
            {
                let what =
                    format!("the log begins here, but is purged up to {}", purged.purged.index);
                self.report.add(place(run.first.index), what);
            }
            // Rows that no entry took away: below the first entry they may stay, behind it they lead nowhere.
            for (index, offset) in &rows.sparse {
                // Cleaning leaves one for the entry that comes next.
                let next = last.is_some_and(|run| run.last.index.0 + 1 == index.0);
                if first.is_some_and(|run| !run.broken && run.first.index < *index) && !next {
                    let what =
                        format!("the sparse index names offset {offset} here, no entry does");
                    self.report.add(place(*index), what);
                }
            }
            for pair in rows.epochs.windows(2) {
                if pair[0].first_index >= pair[1].first_index {
                    self.report.add(place(pair[1].first_index), "the epochs are out of order");
                }
            }
        }
    }
}

fn broken_chain(before: &Head, next: &Head) -> Option<String> {
    if next.index.0 != before.index.0 + 1 {
        return Some(format!("follows index {}", before.index));
    }
    if next.base_offset != before.next_offset() {
        return Some(format!("offset {} follows {}", next.base_offset, before.next_offset()));
    }
    (next.term < before.term).then(|| format!("term {} follows term {}", next.term, before.term))
}

fn split(key: &[u8]) -> Option<(PartitionId, Index)> {
    let id = PartitionId(u32::from_be_bytes(key.get(..4)?.try_into().ok()?));
    Some((id, keys::data_index(id, key)?))
}

fn row_name(family: &str, key: &[u8]) -> String {
    format!("{family}, row {}", key.escape_ascii())
}
