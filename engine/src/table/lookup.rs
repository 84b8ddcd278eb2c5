//! Asking a log for keys.
//!
//! Invariants:
//! - What is found is the newest below the offset that was asked for, also when it has only just been appended.
//! - A row whose record is gone meanwhile is looked at again, never given out.
//!
//! Not here: what the rows are (`row.rs`).

use rocksdb::DBRawIterator;

use super::row::{self, RowKey, RowValue};
use super::{KeyIndex, KeyRecord};
use crate::batch::{HEADER_BYTES, Header};
use crate::db::failed;
use crate::keys::{Area, behind};
use crate::log::PartitionLog;
use crate::read::Want;
use crate::records::{self, codec};
use crate::rows::TableRow;
use crate::{Entry, EntryKind, Error, Index, Offset, PayloadPart, Result};

/// How often a record is looked for that its row says is there, while cleaning may be taking it away.
const TRIES: usize = 100;

/// Whether every record is entered.
pub(crate) fn readiness(table: &TableRow, log_start: Offset) -> KeyIndex {
    if !table.keyed {
        KeyIndex::Off
    } else if table.built_to.max(log_start) >= table.index_from {
        KeyIndex::Ready
    } else {
        KeyIndex::Building
    }
}

/// A table as a look-up finds it.
#[derive(Debug, Clone, Copy)]
struct View {
    area: Area,
    epoch: u64,
    log_start: Offset,
    settled: Offset,
    /// What is asked for lies below it.
    below: Offset,
}

/// What to do with a row.
enum Found {
    Record(KeyRecord),
    /// The record was taken away after its row was read.
    Gone,
}

impl PartitionLog {
    /// Whether the log can be asked for keys.
    #[must_use]
    pub fn key_index(&self) -> KeyIndex {
        let state = self.partition.state.lock();
        readiness(&state.table, state.log_start)
    }

    /// The newest record of `key` below `below` (exclusive; at most the high watermark), tombstones included. May read
    /// the disk.
    ///
    /// # Errors
    /// [`crate::Error::NotKeyed`] unless [`KeyIndex::Ready`]; as [`PartitionLog::read`].
    pub fn get(&self, key: &[u8], below: Offset) -> Result<Option<KeyRecord>> {
        self.history(key, below, 1, usize::MAX).map(|found| found.into_iter().next())
    }

    /// The records of `key` below `below`, newest first: at most `count_max`, and about `bytes_max` bytes but at least one.
    /// What cleaning took away is not among them.
    ///
    /// # Errors
    /// As [`PartitionLog::get`].
    pub fn history(
        &self,
        key: &[u8],
        below: Offset,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<KeyRecord>> {
        self.in_one_view(below, |view| self.history_once(view, key, count_max, bytes_max))
    }

    /// What `look` finds in a table that does not change under it; it gives `None` when it sees that it has.
    fn in_one_view(
        &self,
        below: Offset,
        look: impl Fn(&View) -> Result<Option<Vec<KeyRecord>>>,
    ) -> Result<Vec<KeyRecord>> {
        for _ in 0..TRIES {
            let view = self.key_view(below)?;
            if view.below <= Offset(0) {
                return Ok(Vec::new());
            }
            if let Some(found) = look(&view)?.filter(|_| !self.has_other_table(&view)) {
                return Ok(found);
            }
        }
        Err(self.partition.corrupt(Index(0), "key index: its records are not there"))
    }

    /// `None` when the log changed under it.
    fn history_once(
        &self,
        view: &View,
        key: &[u8],
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Vec<KeyRecord>>> {
        let db = self.handle.core.read()?;
        let rows = row::rows_of(view.area, key);
        let start = row::row_key(view.area, key, Offset(view.below.0 - 1));
        let mut iterator = db.rows_of_one_key(behind(rows));
        iterator.seek(start);
        let (mut found, mut bytes) = (Vec::new(), 0);
        while let Some((at, value)) = current(&iterator)? {
            let Some(at) = RowKey::decode(at) else { return Err(self.bad_row(at)) };
            if at.offset < view.log_start || found.len() >= count_max {
                break;
            }
            match self.record(view, key, at.offset, value)? {
                Found::Gone => return Ok(None),
                Found::Record(record) => {
                    bytes += size(&record);
                    if bytes > bytes_max && !found.is_empty() {
                        break;
                    }
                    found.push(record);
                }
            }
            if found.len() < count_max {
                iterator.next();
            }
        }
        Ok(Some(found))
    }

    /// The newest record below `below` of each key that begins with `prefix` and comes after `after` in byte order, tombstones included: at
    /// most `count_max`, and about `bytes_max` bytes but at least one. (Keys beyond 1 KiB are ordered by their first 1 KiB
    /// only.)
    ///
    /// # Errors
    /// As [`PartitionLog::get`].
    pub fn keys_with_prefix(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        below: Offset,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<KeyRecord>> {
        self.in_one_view(below, |view| self.keys_once(view, prefix, after, (count_max, bytes_max)))
    }

    fn keys_once(
        &self,
        view: &View,
        prefix: &[u8],
        after: Option<&[u8]>,
        (count_max, bytes_max): (usize, usize),
    ) -> Result<Option<Vec<KeyRecord>>> {
        let db = self.handle.core.read()?;
        let (start, end) = row::rows_with(view.area, prefix);
        let start = match after {
            Some(after) => behind(row::rows_of(view.area, after)).max(start),
            None => start,
        };
        let newest = Offset(view.below.0 - 1);
        let mut iterator = db.key_rows(end);
        iterator.seek(start);
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < count_max {
            let Some((at, value)) = current(&iterator)? else { break };
            let Some(at) = RowKey::decode(at) else { return Err(self.bad_row(at)) };
            let rows = at.rows.to_vec();
            if at.offset >= view.below {
                // Newer than what is asked for: on to the first that is not.
                iterator.seek([rows.as_slice(), &row::newest_first(newest)].concat());
                continue;
            }
            if !self.take(view, &at, value, prefix, (&mut found, &mut bytes), bytes_max)? {
                return Ok((bytes > bytes_max).then_some(found));
            }
            iterator.seek(behind(rows));
        }
        Ok(Some(found))
    }

    /// Adds the record of a row to what was found; false when there is no room for it (`bytes` is over), or when it is
    /// gone.
    fn take(
        &self,
        view: &View,
        at: &RowKey<'_>,
        value: &[u8],
        prefix: &[u8],
        (found, bytes): (&mut Vec<KeyRecord>, &mut usize),
        bytes_max: usize,
    ) -> Result<bool> {
        if at.offset < view.log_start {
            return Ok(true);
        }
        let key = match at.key() {
            Some(key) => key,
            None => match self.key_at(view, at.offset, value)? {
                Some(key) => key,
                None => return Ok(false),
            },
        };
        if !key.starts_with(prefix) {
            return Ok(true);
        }
        let Found::Record(record) = self.record(view, &key, at.offset, value)? else {
            return Ok(false);
        };
        *bytes += size(&record);
        if *bytes > bytes_max && !found.is_empty() {
            return Ok(false);
        }
        found.push(record);
        Ok(true)
    }

    /// Takes a look at the table, once everything below `below` has its rows.
    fn key_view(&self, below: Offset) -> Result<View> {
        self.check_open()?;
        loop {
            let state = self.partition.live()?;
            if readiness(&state.table, state.log_start) != KeyIndex::Ready {
                return Err(Error::NotKeyed(self.id()));
            }
            let unwritten = state.tail.first_offset_behind(state.written_seq);
            if unwritten.is_none_or(|unwritten| below <= unwritten) {
                return Ok(View {
                    area: state.area(self.id()),
                    epoch: state.table_epoch,
                    log_start: state.log_start,
                    settled: state.table.settled,
                    below: below.min(state.end),
                });
            }
            // Committed by other replicas before this one has written it.
            drop(state);
            self.barrier()?;
        }
    }

    fn has_other_table(&self, view: &View) -> bool {
        self.partition.state.lock().table_epoch != view.epoch
    }

    fn bad_row(&self, key: &[u8]) -> Error {
        self.partition.corrupt(Index(0), format!("key index row {}", key.escape_ascii()))
    }

    /// The record that a row of `key` is of.
    fn record(&self, view: &View, key: &[u8], offset: Offset, value: &[u8]) -> Result<Found> {
        let value = RowValue::decode(value).ok_or_else(|| self.bad_row(key))?;
        if let Some(inline) = value.record(key, offset) {
            return inline.map(Found::Record).ok_or_else(|| self.bad_row(key));
        }
        let Some(entry) = self.batch_of(view, offset, value.index)? else { return Ok(Found::Gone) };
        let found = in_batch(&entry, offset, |header, record| {
            let timestamp = row::timestamp(header, record);
            (record.key == Some(key))
                .then(|| row::key_record(key, offset, timestamp, record.value, record.headers))?
        });
        Ok(found.flatten().map_or(Found::Gone, Found::Record))
    }

    /// The key of the record that a row is of.
    fn key_at(&self, view: &View, offset: Offset, value: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = RowValue::decode(value).ok_or_else(|| self.bad_row(b"(long)"))?;
        let Some(entry) = self.batch_of(view, offset, value.index)? else { return Ok(None) };
        let key = in_batch(&entry, offset, |_, record| record.key.map(<[u8]>::to_vec));
        Ok(key.flatten())
    }

    /// The batch that holds `offset`: of the Raft entry `index`, unless it is settled.
    fn batch_of(&self, view: &View, offset: Offset, index: Index) -> Result<Option<Entry>> {
        let holds = |entry: &Entry| {
            entry.kind == EntryKind::Batch
                && entry.base_offset <= offset
                && offset < entry.next_offset()
        };
        if offset < view.settled {
            let found = self.settled_batches(offset, Offset(i64::MAX), 1)?;
            return Ok(found.into_iter().next().filter(holds));
        }
        let generation = self.partition.live()?.generation;
        let end = Index(index.0.saturating_add(1));
        let taken = self.walk(generation, 0).run(index, end, |_| Want::Take(PayloadPart::Full))?;
        Ok(taken.and_then(|taken| taken.into_iter().next()).filter(holds))
    }
}

/// What `with` makes of the record at `offset` of a batch, if it is there.
fn in_batch<T>(
    entry: &Entry,
    offset: Offset,
    with: impl FnOnce(&Header, &records::Record<'_>) -> T,
) -> Option<T> {
    let header = Header::parse_stored(&entry.payload).ok()?;
    let body = codec::decompress(header.codec(), &entry.payload[HEADER_BYTES..]).ok()?;
    let delta = offset.0 - entry.base_offset.0;
    let mut each = records::each(&body, header.record_count).map_while(|record| record);
    let record = each.find(|record| record.head.offset_delta == delta)?;
    Some(with(&header, &record))
}

fn current<'a>(iterator: &'a DBRawIterator<'_>) -> Result<Option<(&'a [u8], &'a [u8])>> {
    match iterator.item() {
        Some(item) => Ok(Some(item)),
        None => iterator.status().map(|()| None).map_err(failed("reading the key index")),
    }
}

fn size(record: &KeyRecord) -> usize {
    let headers = record.headers.iter();
    let headers: usize =
        headers.map(|(name, value)| name.len() + value.as_ref().map_or(0, bytes::Bytes::len)).sum();
    record.key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len) + headers + 64
}
