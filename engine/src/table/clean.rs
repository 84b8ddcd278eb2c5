//! Cleaning: the next entries become settled batches without the records that later ones supersede, and settled batches lose
//! those that have been superseded since.
//!
//! Which records are superseded the key index says: the newest row of a record's key below the bound is another one's. So
//! what a step costs follows from what it reads, never from how many keys there are, and it remembers nothing:
//!
//! - *Settling* reads entries in order. A record whose key has a newer one below the bound loses its row and does not become
//!   settled. One that is the newest does; an older one of its key that is settled already loses its row and is *marked*.
//! - *Sweeping* goes through the marks in the order of offsets and writes the batches they lie in without the records.
//!
//! A step is one batch of RocksDB, so a crash leaves it done or not begun, and what comes back is consistent either way.
//!
//! Invariants:
//! - A record is only taken away when a newer one of its key lies below the bound, or it is a tombstone whose time is over and
//!   nothing older of its key is left.
//! - Base offset, last offset, epoch, producer, codec and the records that stay are as they were.
//! - Every settled record that has no row has a mark.
//!
//! Sources: Kafka's log compaction (documentation, "Log Compaction"), KIP-58, KIP-354.

use std::collections::HashMap;

use bytes::Bytes;
use rocksdb::ReadOptions;

use super::lookup::readiness;
use super::maintain::{Rows, Step};
use super::row::{self, Mark};
use super::settled::{self, Batches};
use super::{CleanRules, CleanStep, Cleanliness, KeyIndex};
use crate::batch::{self, HEADER_BYTES, Header};
use crate::command::{Home, RowChange};
use crate::db::{Db, failed};
use crate::keys::{self, Area};
use crate::log::{LogId, PartitionLog};
use crate::records::codec::{self, Compression};
use crate::records::{self, Record};
use crate::rows::{self, SparseRow, TableRow};
use crate::state::SPARSE_BYTES;
use crate::{Entry, EntryKind, Error, Index, Offset, PayloadPart, Result, Term};

/// Bytes that a step writes, about: appends wait behind it for so long.
const WRITTEN_BYTES: usize = 512 << 10;
/// Marks that a sweeping step looks at.
const MARKS_MAX: usize = 8192;

impl CleanRules {
    /// When a tombstone that is settled now may go.
    fn horizon(&self) -> i64 {
        self.now_ms.saturating_add(self.delete_retention_ms.max(0))
    }

    /// Whether the batch that ends with `last` stays although it has no records.
    fn keeps(&self, last: Offset) -> bool {
        self.kept.binary_search(&last).is_ok()
    }
}

/// A table as a step finds it.
struct View {
    area: Area,
    epoch: u64,
    table: TableRow,
    log_start: Offset,
    first: Index,
    until: Offset,
}

/// A batch without the records that go.
enum Left {
    /// As it was.
    All,
    /// These bytes.
    Some(Vec<u8>),
    Nothing,
}

impl PartitionLog {
    /// How clean the log is up to `until`.
    ///
    /// # Errors
    /// As [`PartitionLog::size`].
    pub fn cleanliness(&self, until: Offset) -> Result<Cleanliness> {
        let extent = self.extent()?;
        let state = self.partition.live()?;
        let (table, floor, end) = (state.table, state.floor(), state.end);
        drop(state);
        let position = if until >= end { extent.end } else { self.position(until)?.1 };
        let oldest = if floor < until { self.oldest_dirty(floor, until)? } else { None };
        Ok(Cleanliness {
            settled_bytes: table.bytes,
            dirty_bytes: position.saturating_sub(extent.start),
            marked: table.marked,
            next_horizon_ms: table.horizon,
            oldest_dirty_ms: oldest.unwrap_or(-1),
        })
    }

    /// The largest timestamp of the first batch from `floor` on. Read once for each `floor`.
    fn oldest_dirty(&self, floor: Offset, until: Offset) -> Result<Option<i64>> {
        let known = self.partition.live()?.oldest_dirty;
        if let Some((_, timestamp)) = known.filter(|(at, _)| *at == floor) {
            return Ok(Some(timestamp));
        }
        let batches = self.read(floor, until, 1)?;
        let timestamp = batches.first().map(|batch| batch.max_timestamp);
        self.partition.live()?.oldest_dirty = timestamp.map(|timestamp| (floor, timestamp));
        Ok(timestamp)
    }

    /// Cleans a little more, durable on return: the next part of what is not settled, and once all is, the settled records
    /// that are superseded. To be called again until [`CleanStep::is_finished`]. Reads the disk.
    ///
    /// # Errors
    /// [`crate::Error::NotKeyed`] unless [`KeyIndex::Ready`]; as [`PartitionLog::read`].
    pub fn clean(&self, rules: &CleanRules) -> Result<CleanStep> {
        self.check_open()?;
        let _maintaining = self.partition.maintaining.lock();
        let state = self.partition.live()?;
        if readiness(&state.table, state.log_start) != KeyIndex::Ready {
            return Err(Error::NotKeyed(self.id()));
        }
        let view = View {
            area: state.area(self.id()),
            epoch: state.table_epoch,
            table: state.table,
            log_start: state.log_start,
            first: state.first,
            until: rules.until.min(state.end),
        };
        let unwritten = state.tail.first_offset_behind(state.written_seq);
        drop(state);
        if unwritten.is_some_and(|unwritten| unwritten < view.until) {
            self.barrier()?;
        }
        if view.table.settled < view.until
            && let Some(step) = self.settle_more(&view, rules)?
        {
            return Ok(step);
        }
        self.sweep(&view, rules)
    }

    /// Settles the next entries; `None` when there are none below the bound.
    fn settle_more(&self, view: &View, rules: &CleanRules) -> Result<Option<CleanStep>> {
        let bytes_max = usize::try_from(rules.bytes_max).unwrap_or(usize::MAX);
        let start = if view.table.settled > Offset(0) {
            Index(view.table.settled_upto.index.0 + 1).max(view.first)
        } else {
            view.first
        };
        let entries = self.entries(start, Index(u64::MAX), bytes_max, PayloadPart::Full)?;
        let mut settling = Settling::new(self, view, rules);
        let batches: Vec<_> = entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Batch)
            .take_while(|entry| entry.next_offset() <= view.until)
            .collect();
        let newest = newest_of(&batches);
        let db = self.handle.core.read()?;
        let mut rows = Rows::new(&db, view.area);
        for batch in batches {
            if settling.written >= WRITTEN_BYTES {
                break;
            }
            settling.batch(batch, &newest, &mut rows)?;
        }
        drop(rows);
        drop(db);
        settling.end(entries.is_empty())
    }

    /// Takes marked records out of settled batches.
    fn sweep(&self, view: &View, rules: &CleanRules) -> Result<CleanStep> {
        let sweep = std::mem::take(&mut self.partition.live()?.sweep);
        let from = sweep.to;
        let db = self.handle.core.read()?;
        let (marks, finished) = self.marks(&db, view, from)?;
        let mut sweeping = Sweeping {
            log: self,
            view,
            rules,
            table: view.table,
            step: Step::default(),
            done: CleanStep::default(),
            written: 0,
            sweep,
        };
        let mut batches = Batches::new(&db, view.area, from, SPARSE_BYTES);
        let mut rest = marks.as_slice();
        let mut next = None;
        while let Some((first, _)) = rest.first() {
            if sweeping.written >= WRITTEN_BYTES || sweeping.done.read_bytes >= rules.bytes_max {
                next = Some(*first);
                break;
            }
            batches.seek(view.area, *first);
            let found = batches.current()?.filter(|(head, _)| head.base_offset <= *first);
            let end = found.as_ref().map_or(Offset(first.0 + 1), |(head, _)| head.next_offset());
            let (here, behind) = rest.split_at(rest.partition_point(|(at, _)| *at < end));
            sweeping.sweep.left += here.len() as u64;
            match found {
                Some((_, payload)) => sweeping.batch(payload, here)?,
                None => here.iter().for_each(|(at, _)| sweeping.unmark(*at)),
            }
            rest = behind;
        }
        drop(batches);
        drop(db);
        let next =
            next.or(if finished { None } else { marks.last().map(|(at, _)| Offset(at.0 + 1)) });
        sweeping.end(next)
    }

    /// Marks from `from` on, and whether these are all.
    fn marks(&self, db: &Db, view: &View, from: Offset) -> Result<(Vec<(Offset, Mark)>, bool)> {
        let (start, end) = row::marks_from(view.area, from);
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end);
        let mut iterator = db.raw().raw_iterator_cf_opt(&db.keys(), options);
        iterator.seek(start);
        let mut marks = Vec::new();
        while let Some((key, value)) = iterator.item() {
            if marks.len() >= MARKS_MAX {
                return Ok((marks, false));
            }
            let corrupt =
                || self.partition.corrupt(Index(0), format!("mark {}", key.escape_ascii()));
            let at = row::marked_offset(key).ok_or_else(corrupt)?;
            marks.push((at, Mark::decode(value).ok_or_else(corrupt)?));
            iterator.next();
        }
        iterator.status().map_err(failed("reading marks"))?;
        Ok((marks, true))
    }
}

/// The newest record of each key within some batches.
fn newest_of(batches: &[&Entry]) -> HashMap<Vec<u8>, Offset> {
    let mut newest = HashMap::new();
    for batch in batches {
        let _ = each_record(&batch.payload, |_, record| {
            if let Some(key) = record.key {
                let offset = Offset(batch.base_offset.0 + record.head.offset_delta);
                newest.insert(key.to_vec(), offset);
            }
            Ok(())
        });
    }
    newest
}

/// Shows the records of a batch; false for a control batch, or when they cannot be read.
fn each_record(
    payload: &[u8],
    mut show: impl FnMut(&Header, &Record<'_>) -> Result<()>,
) -> Result<bool> {
    let Ok(header) = Header::parse_stored(payload) else { return Ok(false) };
    if header.is_control() {
        return Ok(false);
    }
    let Ok(body) = codec::decompress(header.codec(), &payload[HEADER_BYTES..]) else {
        return Ok(false);
    };
    if records::each(&body, header.record_count).any(|record| record.is_none()) {
        return Ok(false);
    }
    for record in records::each(&body, header.record_count).flatten() {
        show(&header, &record)?;
    }
    Ok(true)
}

/// The batch without the records that do not stay. `keep` says that it stays if it has none.
fn filter(
    payload: &[u8],
    keep: bool,
    mut stays: impl FnMut(Offset) -> bool,
) -> std::result::Result<(Left, u64), String> {
    let header = Header::parse_stored(payload).map_err(|invalid| invalid.to_string())?;
    let body = codec::decompress(header.codec(), &payload[HEADER_BYTES..])?;
    let (mut left, mut count, mut max, mut removed) = (Vec::new(), 0, -1, 0);
    for record in records::each(&body, header.record_count) {
        let record = record.ok_or("torn record")?;
        if stays(Offset(header.base_offset.0 + record.head.offset_delta)) {
            left.extend_from_slice(record.bytes);
            count += 1;
            max = max.max(row::timestamp(&header, &record));
        } else {
            removed += 1;
        }
    }
    if removed == 0 && (count > 0 || keep) {
        return Ok((Left::All, 0));
    }
    if count == 0 && !keep {
        return Ok((Left::Nothing, removed));
    }
    let mut packed = Vec::new();
    if count > 0 {
        codec::compress(compression(header.codec()), &left, &mut packed)
            .map_err(|error| error.to_string())?;
    }
    // An empty batch keeps its time: Kafka's cleaner does so too.
    let max = if count > 0 { max } else { header.max_timestamp };
    Ok((Left::Some(batch::with_records(payload, count, max, &packed)), removed))
}

/// A codec with the level that its library has by itself.
fn compression(codec: u8) -> Compression {
    match codec {
        1 => Compression::Gzip { level: -1 },
        2 => Compression::Snappy,
        3 => Compression::Lz4 { level: 9 },
        4 => Compression::Zstd { level: 3 },
        _ => Compression::Uncompressed,
    }
}

/// A settling step under way.
struct Settling<'a> {
    log: &'a PartitionLog,
    view: &'a View,
    rules: &'a CleanRules,
    table: TableRow,
    step: Step,
    done: CleanStep,
    written: usize,
    since_row: usize,
    /// Where the step began.
    begun: Offset,
    last: Option<LogId>,
}

impl<'a> Settling<'a> {
    fn new(log: &'a PartitionLog, view: &'a View, rules: &'a CleanRules) -> Self {
        Self {
            log,
            view,
            rules,
            table: view.table,
            step: Step::default(),
            done: CleanStep::default(),
            written: 0,
            since_row: SPARSE_BYTES,
            begun: view.table.settled,
            last: None,
        }
    }

    /// Settles one batch.
    fn batch(
        &mut self,
        batch: &Entry,
        newest: &HashMap<Vec<u8>, Offset>,
        rows: &mut Rows<'_>,
    ) -> Result<()> {
        let bytes = u64::try_from(batch.payload.len()).unwrap_or(0);
        self.done.read_bytes += bytes;
        self.table.position += bytes;
        self.last = Some(LogId { term: batch.term, index: batch.index });
        self.table.settled = batch.next_offset();
        if batch.next_offset() <= self.view.log_start {
            return Ok(());
        }
        let mut gone = Vec::new();
        let is_readable = each_record(&batch.payload, |_, record| {
            let offset = Offset(batch.base_offset.0 + record.head.offset_delta);
            if !self.stays(record, offset, newest, rows)? {
                gone.push(offset);
            }
            Ok(())
        })?;
        let last = Offset(batch.next_offset().0 - 1);
        let keep = self.rules.keeps(last);
        let filtered = if is_readable {
            filter(&batch.payload, keep, |offset| gone.binary_search(&offset).is_err())
        } else {
            Ok((Left::All, 0))
        };
        let (left, removed) = filtered.map_err(|what| {
            self.log.partition.corrupt(batch.index, format!("batch to be cleaned ({what})"))
        })?;
        self.done.removed += removed;
        match left {
            Left::All => self.put(&batch.payload, batch.term, batch.index),
            Left::Some(bytes) => {
                if Header::parse_stored(&bytes).is_ok_and(|header| header.record_count == 0) {
                    self.mark(last, Mark::Empty);
                }
                self.put(&bytes, batch.term, batch.index);
            }
            Left::Nothing => {}
        }
        Ok(())
    }

    /// Whether a record becomes settled; what that means for the rows of its key.
    fn stays(
        &mut self,
        record: &Record<'_>,
        offset: Offset,
        newest: &HashMap<Vec<u8>, Offset>,
        rows: &mut Rows<'_>,
    ) -> Result<bool> {
        // As Kafka's cleaner does with what is from before the topic was compacted.
        let Some(key) = record.key else { return Ok(false) };
        let area = self.view.area;
        let delete =
            |offset| RowChange::Delete { home: Home::Keys, key: row::row_key(area, key, offset) };
        if newest.get(key).is_some_and(|newest| *newest > offset) {
            self.step.rows.push(delete(offset));
            return Ok(false);
        }
        let (mut found, mut older) = (None, Vec::new());
        let settled = self.begun;
        rows.offsets(key, self.view.until, |at| {
            if found.is_none() {
                found = Some(at);
                return at == offset;
            }
            if at < settled {
                older.push(at);
            }
            true
        })?;
        match found {
            Some(found) if found > offset => {
                self.step.rows.push(delete(offset));
                return Ok(false);
            }
            Some(found) if found == offset => {}
            _ => {
                let what = format!("key index: no row of offset {offset}");
                return Err(self.log.partition.corrupt(Index(0), what));
            }
        }
        for at in older {
            self.step.rows.push(delete(at));
            if at >= self.view.log_start {
                self.mark(at, Mark::Superseded);
            }
        }
        if record.value.is_none() {
            let horizon = self.rules.horizon();
            self.table.horizon = self.table.horizon.min(horizon);
            self.mark(offset, Mark::Tombstone(horizon));
        }
        Ok(true)
    }

    fn mark(&mut self, offset: Offset, mark: Mark) {
        self.table.marked += 1;
        self.step.mark(self.view.area, offset, mark);
    }

    fn put(&mut self, payload: &[u8], term: Term, index: Index) {
        let Ok(header) = Header::parse_stored(payload) else { return };
        if self.since_row >= SPARSE_BYTES {
            self.since_row = 0;
            let (offset, position) = (header.base_offset, 0);
            let max_timestamp_before = self.table.max_timestamp;
            self.sparse(&SparseRow { offset, index, max_timestamp_before, position });
        }
        self.since_row += payload.len();
        self.written += payload.len();
        let bytes = u64::try_from(payload.len()).unwrap_or(0);
        self.table.bytes += bytes;
        self.done.written_bytes += bytes;
        self.table.max_timestamp = self.table.max_timestamp.max(header.max_timestamp);
        let last = Offset(header.base_offset.0 + i64::from(header.last_offset_delta));
        let key = self.view.area.settled(last);
        let value = settled::value(self.log.id(), &header, term, payload);
        self.step.rows.push(RowChange::Put { home: Home::Compacted, key, value });
    }

    fn sparse(&mut self, row: &SparseRow) {
        let (key, value) = (keys::sparse(self.log.id(), row.offset), rows::sparse(row));
        self.step.rows.push(RowChange::Put { home: Home::Meta, key, value: Bytes::from(value) });
    }

    /// Writes the step; `None` when it settled nothing.
    fn end(mut self, nothing_there: bool) -> Result<Option<CleanStep>> {
        let Some(last) = self.last else {
            debug_assert!(nothing_there || self.table.settled == self.begun);
            return Ok(None);
        };
        self.table.settled_upto = last;
        // The sparse index has the settled batches below, and begins anew behind them.
        let (id, end) = (self.log.id(), self.table.settled);
        let (start, behind) = (keys::sparse(id, self.begun), keys::sparse(id, end));
        let clear = RowChange::DeleteRange { home: Home::Meta, start, end: behind };
        self.step.rows.insert(0, clear);
        let (index, position) = (Index(last.index.0 + 1), self.table.position);
        let max_timestamp_before = self.table.max_timestamp;
        self.sparse(&SparseRow { offset: end, index, max_timestamp_before, position });
        let published =
            self.step.publish(self.log, self.view.epoch, self.table, |state, table| {
                state.table.settled = table.settled;
                state.table.settled_upto = table.settled_upto;
                state.table.position = table.position;
                state.table.bytes = table.bytes;
                state.table.max_timestamp = table.max_timestamp;
                state.table.marked = table.marked;
                state.table.horizon = table.horizon;
                if state.log_start <= table.settled {
                    state.start_position = Some(table.position);
                }
            })?;
        Ok(Some(if published { self.done } else { CleanStep::default() }))
    }
}

/// How far a sweep through the marks has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sweep {
    /// It goes on at this offset.
    to: Offset,
    /// Marks that were left behind.
    left: u64,
    /// When the first of the tombstones among them may go, ms.
    horizon: i64,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { to: Offset(0), left: 0, horizon: i64::MAX }
    }
}

/// A sweeping step under way.
struct Sweeping<'a> {
    log: &'a PartitionLog,
    view: &'a View,
    rules: &'a CleanRules,
    table: TableRow,
    step: Step,
    done: CleanStep,
    written: usize,
    sweep: Sweep,
}

impl Sweeping<'_> {
    fn unmark(&mut self, at: Offset) {
        self.sweep.left = self.sweep.left.saturating_sub(1);
        self.step.unmark(self.view.area, at);
    }

    /// Whether a marked record goes now.
    fn is_due(&mut self, at: Offset, mark: Mark) -> bool {
        match mark {
            Mark::Superseded => true,
            Mark::Empty => false,
            Mark::Tombstone(ms) if ms < 0 => {
                let horizon = self.rules.horizon();
                self.sweep.horizon = self.sweep.horizon.min(horizon);
                self.step.mark(self.view.area, at, Mark::Tombstone(horizon));
                false
            }
            Mark::Tombstone(ms) if ms > self.rules.now_ms => {
                self.sweep.horizon = self.sweep.horizon.min(ms);
                false
            }
            Mark::Tombstone(_) => true,
        }
    }

    /// Takes the marked records that are due out of a batch.
    fn batch(&mut self, payload: &[u8], marks: &[(Offset, Mark)]) -> Result<()> {
        let due: Vec<_> =
            marks.iter().copied().filter(|(at, mark)| self.is_due(*at, *mark)).collect();
        let was_empty = marks.iter().any(|(_, mark)| *mark == Mark::Empty);
        if due.is_empty() && !was_empty {
            return Ok(());
        }
        let corrupt = |what: String| self.log.partition.corrupt(Index(0), what);
        let header =
            Header::parse_stored(payload).map_err(|invalid| corrupt(invalid.to_string()))?;
        let last = Offset(header.base_offset.0 + i64::from(header.last_offset_delta));
        let keep = self.rules.keeps(last);
        if was_empty && keep && due.is_empty() {
            return Ok(());
        }
        let is_due = |at: Offset| due.binary_search_by_key(&at, |(at, _)| *at).is_ok();
        let (left, removed) = filter(payload, keep, |at| !is_due(at))
            .map_err(|what| corrupt(format!("settled batch ({what})")))?;
        self.forget_tombstones(payload, &due)?;
        self.done.removed += removed;
        let old = u64::try_from(payload.len()).unwrap_or(0);
        self.done.read_bytes += old;
        for (at, _) in &due {
            self.unmark(*at);
        }
        let key = self.view.area.settled(last);
        match left {
            Left::All => {}
            Left::Some(bytes) => {
                self.written += bytes.len();
                let new = u64::try_from(bytes.len()).unwrap_or(0);
                self.done.written_bytes += new;
                self.table.bytes = (self.table.bytes + new).saturating_sub(old);
                let header =
                    Header::parse_stored(&bytes).map_err(|invalid| corrupt(invalid.to_string()))?;
                if header.record_count == 0 && !was_empty {
                    self.sweep.left += 1;
                    self.step.mark(self.view.area, last, Mark::Empty);
                }
                let term = Term(u64::try_from(header.leader_epoch).unwrap_or(0));
                let value = settled::value(self.log.id(), &header, term, &bytes);
                self.step.rows.push(RowChange::Put { home: Home::Compacted, key, value });
            }
            Left::Nothing => {
                self.table.bytes = self.table.bytes.saturating_sub(old);
                if was_empty {
                    self.unmark(last);
                }
                self.step.rows.push(RowChange::Delete { home: Home::Compacted, key });
            }
        }
        Ok(())
    }

    /// Tombstones that go take their rows with them; what they superseded has gone before, being older.
    fn forget_tombstones(&mut self, payload: &[u8], due: &[(Offset, Mark)]) -> Result<()> {
        let (area, step) = (self.view.area, &mut self.step);
        each_record(payload, |header, record| {
            let offset = Offset(header.base_offset.0 + record.head.offset_delta);
            let found = due.binary_search_by_key(&offset, |(at, _)| *at);
            if let (Some(key), Ok(at)) = (record.key, found)
                && matches!(due[at].1, Mark::Tombstone(_))
            {
                let key = row::row_key(area, key, offset);
                step.rows.push(RowChange::Delete { home: Home::Keys, key });
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Writes the step; `next` is where the sweep goes on, if it does.
    fn end(mut self, next: Option<Offset>) -> Result<CleanStep> {
        self.done.is_finished = next.is_none();
        let log = self.log;
        let mut sweep = Sweep::default();
        match next {
            Some(to) => sweep = Sweep { to, ..self.sweep },
            None => {
                self.table.marked = self.sweep.left;
                self.table.horizon = self.sweep.horizon;
            }
        }
        if self.step.rows.is_empty() && self.table == self.view.table {
            log.partition.live()?.sweep = sweep;
            return Ok(self.done);
        }
        let published = self.step.publish(log, self.view.epoch, self.table, |state, table| {
            state.table.bytes = table.bytes;
            state.table.marked = table.marked;
            state.table.horizon = table.horizon;
            state.sweep = sweep;
        })?;
        Ok(if published { self.done } else { CleanStep::default() })
    }
}
