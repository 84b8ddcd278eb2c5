//! What one partition's log is, in memory: a pure state machine that turns calls into commands.
//!
//! Invariants:
//! - `first..next` are the entries the log holds; it is empty when `first == next`.
//! - Every change of durable state leaves as one [`Op`], in the order of `seq`.
//! - Nothing here does I/O or blocks.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::batch::Header;
use crate::command::{Home, Op, RowChange, StoredRecord};
use crate::keys::{self, Area, Tag};
use crate::record::{self, Head, RECORD_HEADER_BYTES};
use crate::rows::{self, PurgedRow, SparseRow, TableRow};
use crate::table::clean::Sweep;
use crate::table::row::KeyRows;
use crate::tail::Tail;
use crate::{EntryKind, Epoch, Index, LogId, LogState, NewEntry, Offset, PartitionId, Term};

/// A partition's bytes between two rows of its sparse index.
pub(crate) const SPARSE_BYTES: usize = 128 << 10;

/// Sparse rows whose keys are remembered, so that a short truncation deletes points.
const SPARSE_RECENT_MAX: usize = 64;

/// A new entry whose payload is copied and checked but not yet placed.
#[derive(Debug)]
pub(crate) struct Prepared {
    new: NewEntry,
    record_count: u32,
    max_timestamp: i64,
    leader_epoch: i32,
    value: BytesMut,
    /// What its records add to the key index, in a log that has one.
    rows: Option<KeyRows>,
}

impl Prepared {
    /// Checks `new` and copies its payload behind room for the record's header; looks into a batch for the keys of its
    /// records if the log is `keyed`.
    pub(crate) fn new(new: NewEntry, keyed: bool) -> Result<Self, String> {
        let leader_epoch = i32::try_from(new.term.0).map_err(|_| "the term is no leader epoch")?;
        let (record_count, max_timestamp) = match new.kind {
            EntryKind::Batch => {
                let header = Header::parse(&new.payload).map_err(|invalid| invalid.to_string())?;
                (header.offset_count(), header.max_timestamp)
            }
            EntryKind::Blank | EntryKind::Membership | EntryKind::Command => (0, -1),
        };
        let value = record::buffer(&new.payload);
        let rows =
            (keyed && new.kind == EntryKind::Batch).then(|| KeyRows::of(&new.payload, new.index));
        Ok(Self { new, record_count, max_timestamp, leader_epoch, value, rows })
    }

    /// The bytes its record takes.
    pub(crate) fn bytes(&self) -> usize {
        self.value.len() + self.rows.as_ref().map_or(0, KeyRows::bytes)
    }

    /// The bytes by which the log grows for its readers.
    fn batch_bytes(&self) -> u64 {
        if self.new.kind != EntryKind::Batch {
            return 0;
        }
        u64::try_from(self.value.len() - RECORD_HEADER_BYTES).unwrap_or(u64::MAX)
    }
}

/// What is known of the sparse index while appending.
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    bytes_since: usize,
    recent: VecDeque<Offset>,
    /// Whether rows below `recent` may exist.
    older: bool,
}

/// What all entries of a log come to, also those that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// At least the largest timestamp of a batch; -1 when there is none.
    pub(crate) max_timestamp: i64,
    /// Bytes of all batches.
    pub(crate) position: u64,
    /// Bytes of entries since the last row of the sparse index.
    pub(crate) since_row: usize,
}

/// How to delete the sparse rows from an offset on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SparseCut {
    /// Exactly these.
    Points(Vec<Offset>),
    /// Everything from here on.
    From(Offset),
}

/// What one partition's log is.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) deleted: bool,
    /// Counts the changes that can invalidate a read under way.
    pub(crate) generation: u64,
    seq: u64,
    /// The command up to which RocksDB has everything.
    pub(crate) written_seq: u64,
    pub(crate) first: Index,
    /// `None` when the log never held anything.
    pub(crate) next: Option<Index>,
    pub(crate) last: Option<LogId>,
    pub(crate) purged: Option<PurgedRow>,
    pub(crate) log_start: Offset,
    /// Bytes of all batches before the one that holds the log start, once somebody asked.
    pub(crate) start_position: Option<u64>,
    pub(crate) end: Offset,
    /// `None` while the entries of before a restart or truncation have not been looked at.
    totals: Option<Totals>,
    /// The truncation that came last.
    truncated_seq: u64,
    pub(crate) epochs: Vec<Epoch>,
    pub(crate) tail: Tail,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    /// Whether `committed` has moved since it was last on its way to the disk.
    pub(crate) committed_moved: bool,
    /// The checkpoint saved last, until RocksDB has it.
    pub(crate) checkpoint: Option<(u64, Bytes)>,
    sparse: Sparse,
    /// What the log is as a table: as it will be once everything that is queued is written, but for `settled`, which moves
    /// when its batches can be read.
    pub(crate) table: TableRow,
    /// Counts the changes that begin another table.
    pub(crate) table_epoch: u64,
    /// How far cleaning has come with the marks.
    pub(crate) sweep: Sweep,
    /// The offset from which on the log is dirty, and the largest timestamp of the batch there, once somebody asked.
    pub(crate) oldest_dirty: Option<(Offset, i64)>,
}

/// What a change frees or takes in the tail cache.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) op: Op,
    pub(crate) seq: u64,
    pub(crate) cached: usize,
    pub(crate) freed: usize,
}

impl Totals {
    /// Those of a log of which only what was purged is known.
    fn after(purged: Option<PurgedRow>) -> Self {
        let position = purged.map_or(0, |row| row.position);
        Self { max_timestamp: -1, position, since_row: 0 }
    }
}

impl State {
    /// The log of a new partition.
    pub(crate) fn new() -> Self {
        Self { totals: Some(Totals::after(None)), start_position: Some(0), ..Self::default() }
    }

    /// Where what is no longer settled begins: the first offset that is read from the Raft entries.
    pub(crate) fn floor(&self) -> Offset {
        self.log_start.max(self.table.settled)
    }

    /// Where the Raft entries begin that are read, if that is where the settled part ends.
    fn settled_position(&self) -> Option<u64> {
        let settled = self.table.settled;
        (settled > Offset(0) && self.log_start <= settled).then_some(self.table.position)
    }

    /// Whether RocksDB may have rows of a table.
    pub(crate) fn has_table(&self) -> bool {
        self.table != TableRow::default()
    }

    /// Where the log's rows are in `keys` and `compacted`.
    pub(crate) fn area(&self, id: PartitionId) -> Area {
        Area { id, number: self.table.area }
    }

    /// A log as found on disk.
    pub(crate) fn recovered(found: crate::recovery::Found) -> Self {
        let purged_index = found.purged.map(|row| row.purged.index.0.saturating_add(1));
        let end =
            found.last.map_or(found.purged.map_or(Offset(0), |row| row.next_offset), |last| {
                last.next_offset()
            });
        let last = found
            .last
            .map(|last| LogId { term: last.term, index: last.index })
            .or(found.purged.map(|row| row.purged));
        let next = last.map(|last| Index(last.index.0.saturating_add(1)));
        let first = match (found.first, found.last) {
            (Some(first), Some(_)) => Index(first.0.max(purged_index.unwrap_or(0))),
            _ => next.unwrap_or_default(),
        };
        let kept = found.last.is_some();
        let purged_offset = found.purged.map_or(Offset(0), |row| row.next_offset);
        let purged_position = found.purged.map_or(0, |row| row.position);
        let table = found.table.unwrap_or_default();
        let table = TableRow { index_from: table.index_from.min(end), ..table };
        // What was purged and is settled can be read all the same.
        let log_start = if table.settled >= purged_offset {
            found.log_start
        } else {
            found.log_start.max(purged_offset)
        };
        let start_position = if found.log_start <= table.settled && table.settled.0 > 0 {
            Some(table.position)
        } else {
            (found.log_start <= purged_offset).then_some(purged_position)
        };
        Self {
            first,
            next,
            last,
            purged: found.purged,
            log_start,
            start_position,
            table,
            end,
            totals: if kept { None } else { Some(Totals::after(found.purged)) },
            epochs: found.epochs,
            vote: found.vote,
            committed: found.committed,
            sparse: Sparse { older: kept, ..Sparse::default() },
            ..Self::default()
        }
    }

    /// Both ends of the log.
    pub(crate) fn log_state(&self) -> LogState {
        LogState {
            purged: self.purged.map(|row| row.purged),
            last: self.last,
            log_start_offset: self.log_start,
            end_offset: self.end,
        }
    }

    /// The index behind the last entry; `first` when there is none.
    pub(crate) fn next_index(&self) -> Index {
        self.next.unwrap_or(self.first)
    }

    /// What the log comes to; `None` when the entries must be looked at first.
    pub(crate) fn totals(&self) -> Option<Totals> {
        self.totals
    }

    /// Supplies what [`State::totals`] did not know.
    pub(crate) fn set_totals(&mut self, totals: Totals) {
        if self.totals.is_none() {
            self.totals = Some(totals);
            self.sparse.bytes_since = totals.since_row;
        }
    }

    /// Whether RocksDB still has rows of the sparse index that a truncation takes away.
    pub(crate) fn has_stale_rows(&self) -> bool {
        self.written_seq < self.truncated_seq
    }

    /// Bytes of all batches up to the end of what was purged.
    pub(crate) fn purged_position(&self) -> u64 {
        self.purged.map_or(0, |row| row.position)
    }

    /// Moves the log start forward to `start`.
    pub(crate) fn set_log_start(&mut self, start: Offset) {
        self.log_start = start;
        self.start_position = self.settled_position();
        if start == self.end
            && let Some(totals) = &mut self.totals
        {
            // Nothing is left that a timestamp would be of: one that lay far ahead is forgotten too.
            totals.max_timestamp = -1;
            self.start_position = Some(totals.position);
        }
    }

    /// The number of the next command.
    pub(crate) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Places `entries` behind the last one.
    pub(crate) fn append(
        &mut self,
        id: PartitionId,
        entries: Vec<Prepared>,
    ) -> Result<Change, String> {
        self.check_order(&entries)?;
        let mut totals = self.totals.ok_or("the log was truncated at the same time")?;
        let seq = self.next_seq();
        let mut records = Vec::with_capacity(entries.len());
        let (mut epochs, mut sparse, mut cached) = (Vec::new(), Vec::new(), 0);
        for entry in entries {
            self.begin_epoch(entry.new.term, entry.new.index, &mut epochs);
            sparse.extend(self.index_sparsely(&entry, totals));
            let position = totals.position;
            totals.position += entry.batch_bytes();
            totals.max_timestamp = totals.max_timestamp.max(entry.max_timestamp);
            let (record, bytes) = self.place(id, entry, seq, position);
            cached += bytes;
            records.push(record);
        }
        self.totals = Some(totals);
        let committed = std::mem::take(&mut self.committed_moved).then(|| self.committed.clone());
        let op = Op::Append { records, epochs, sparse, committed: committed.flatten() };
        Ok(Change { op, seq, cached, freed: 0 })
    }

    fn check_order(&self, entries: &[Prepared]) -> Result<(), String> {
        let mut next = self.next;
        let mut term = self.last.map_or(Term(0), |last| last.term);
        let mut end = self.end.0;
        for entry in entries {
            let index = entry.new.index;
            if next.is_some_and(|next| next != index) {
                return Err(format!("index {index} does not follow the last entry"));
            }
            if entry.new.term < term {
                return Err(format!("term {} is below the last entry's {term}", entry.new.term));
            }
            term = entry.new.term;
            next = Some(Index(index.0.checked_add(1).ok_or("no index is left")?));
            end = end.checked_add(i64::from(entry.record_count)).ok_or("no offset is left")?;
        }
        Ok(())
    }

    fn begin_epoch(&mut self, term: Term, first_index: Index, rows: &mut Vec<Epoch>) {
        if self.epochs.last().is_some_and(|last| last.term == term) {
            return;
        }
        let epoch = Epoch { term, first_index, start_offset: self.end };
        self.epochs.push(epoch);
        rows.push(epoch);
    }

    fn index_sparsely(&mut self, entry: &Prepared, before: Totals) -> Option<SparseRow> {
        let due = entry.new.kind == EntryKind::Batch && self.sparse.bytes_since >= SPARSE_BYTES;
        self.sparse.bytes_since += entry.bytes();
        if !due {
            return None;
        }
        self.sparse.bytes_since = entry.bytes();
        self.sparse.recent.push_back(self.end);
        if self.sparse.recent.len() > SPARSE_RECENT_MAX {
            self.sparse.recent.pop_front();
            self.sparse.older = true;
        }
        Some(SparseRow {
            offset: self.end,
            index: entry.new.index,
            max_timestamp_before: before.max_timestamp,
            position: before.position,
        })
    }

    fn place(
        &mut self,
        id: PartitionId,
        prepared: Prepared,
        seq: u64,
        position: u64,
    ) -> (StoredRecord, usize) {
        let Prepared { new, record_count, max_timestamp, leader_epoch, mut value, rows } = prepared;
        let head = Head {
            index: new.index,
            term: new.term,
            kind: new.kind,
            base_offset: self.end,
            record_count,
            max_timestamp,
            payload_bytes: value.len() - RECORD_HEADER_BYTES,
        };
        record::seal(id, &head, leader_epoch, &mut value);
        let value = value.freeze();
        let cached = self.tail.push(head.entry(value.slice(RECORD_HEADER_BYTES..)), seq);
        if self.next.is_none() {
            self.first = new.index;
        }
        self.next = Some(Index(new.index.0 + 1));
        self.last = Some(LogId { term: new.term, index: new.index });
        self.end = head.next_offset();
        let base_offset = head.base_offset;
        let rows = self.placed(id, rows, &head, &value);
        (StoredRecord { index: new.index, base_offset, position, value, rows }, cached)
    }

    /// The rows of a batch, at their place. The log may have got or lost its key index since they were made.
    fn placed(&self, id: PartitionId, rows: Option<KeyRows>, head: &Head, value: &[u8]) -> KeyRows {
        if !self.table.keyed || head.kind != EntryKind::Batch {
            return KeyRows::default();
        }
        let mut rows =
            rows.unwrap_or_else(|| KeyRows::of(&value[RECORD_HEADER_BYTES..], head.index));
        rows.place(self.area(id), head.base_offset);
        rows
    }

    /// What an entry at `index` is, if memory knows it.
    pub(crate) fn head(&self, index: Index) -> Option<Head> {
        self.tail.get(index).map(Head::of)
    }

    /// Removes every entry after `last`, which is kept, or all of them.
    pub(crate) fn truncate_after(&mut self, last: Option<Head>) -> Option<Change> {
        let from = last.map_or(self.first, |head| Index(head.index.0 + 1));
        let next = self.next.filter(|next| *next > from)?;
        let to_last = Index(next.0 - 1);
        let freed = self.tail.truncate_after(last.map(|head| head.index));
        let dropped = self.epochs.partition_point(|epoch| epoch.first_index < from);
        let epochs = self.epochs.drain(dropped..).map(|epoch| epoch.term).collect();
        self.last = match last {
            Some(head) => Some(LogId { term: head.term, index: head.index }),
            None => self.purged.map(|row| row.purged),
        };
        self.end = match last {
            Some(head) => head.next_offset(),
            None => self.purged.map_or(Offset(0), |row| row.next_offset),
        };
        self.next = self.last.map(|last| Index(last.index.0 + 1));
        // What comes here now is entered with its batch.
        self.table.index_from = self.table.index_from.min(self.end);
        let log_start = (self.log_start > self.end).then_some(self.end);
        if log_start.is_some() {
            self.log_start = self.end;
            self.start_position = self.settled_position();
        }
        self.totals = if last.is_some() { None } else { Some(Totals::after(self.purged)) };
        self.generation += 1;
        let sparse = self.cut_sparse();
        let seq = self.next_seq();
        self.truncated_seq = seq;
        let entered = Vec::new();
        let op = Op::Truncate { from, to_last, epochs, sparse, log_start, entered };
        Some(Change { op, seq, cached: 0, freed })
    }

    fn cut_sparse(&mut self) -> SparseCut {
        let kept = self.sparse.recent.partition_point(|offset| *offset < self.end);
        let points: Vec<Offset> = self.sparse.recent.drain(kept..).collect();
        if kept == 0 && self.sparse.older {
            SparseCut::From(self.end)
        } else {
            SparseCut::Points(points)
        }
    }

    /// Forgets entries up to and including `upto`; `next_offset` is the offset behind it, `position` the
    /// bytes of all batches before that.
    pub(crate) fn purge(
        &mut self,
        upto: LogId,
        next_offset: Offset,
        position: u64,
    ) -> Option<Change> {
        if self.purged.is_some_and(|row| row.purged.index >= upto.index) {
            return None;
        }
        let row = PurgedRow { purged: upto, next_offset, position };
        let freed = self.tail.purge(upto.index);
        let next = Index(upto.index.0.saturating_add(1));
        let all = self.last.is_none_or(|last| last.index <= upto.index);
        if all {
            self.last = Some(upto);
            self.next = Some(next);
            self.end = next_offset;
        }
        self.first = next;
        self.purged = Some(row);
        let settled = self.table.settled;
        if next_offset > self.floor() {
            self.log_start = next_offset;
            self.start_position = Some(position);
        }
        self.generation += 1;
        let begun = self.epochs.partition_point(|epoch| epoch.first_index <= next);
        let epochs = self.epochs.drain(..begun.saturating_sub(1)).map(|epoch| epoch.term).collect();
        let seq = self.next_seq();
        let op = Op::Purge { row, epochs, all, settled: settled.min(next_offset) };
        Some(Change { op, seq, cached: 0, freed })
    }

    /// Begins anew behind `boundary`, with what is staged if that is everything below `next_offset`.
    pub(crate) fn reset(
        &mut self,
        id: PartitionId,
        boundary: LogId,
        next_offset: Offset,
    ) -> Change {
        let table = self.reset_table(id, boundary, next_offset);
        // With settled batches the log begins wherever they do, until its start is set.
        let has_settled = self.table.settled == next_offset && self.table.bytes > 0;
        let log_start = if has_settled { Offset(0) } else { next_offset };
        let position = self.table.position;
        let row = PurgedRow { purged: boundary, next_offset, position };
        let freed = self.tail.truncate_after(None);
        let epochs = self.epochs.drain(..).map(|epoch| epoch.term).collect();
        self.last = Some(boundary);
        self.first = Index(boundary.index.0.saturating_add(1));
        self.next = Some(self.first);
        self.purged = Some(row);
        self.log_start = log_start;
        self.end = next_offset;
        self.start_position = Some(position);
        self.totals = Some(Totals::after(Some(row)));
        self.sparse = Sparse::default();
        self.generation += 1;
        let seq = self.next_seq();
        Change { op: Op::Reset { row, log_start, epochs, table }, seq, cached: 0, freed }
    }

    /// Begins another table; the rows that change for it.
    fn reset_table(
        &mut self,
        id: PartitionId,
        boundary: LogId,
        next_offset: Offset,
    ) -> Vec<RowChange> {
        self.table_epoch += 1;
        self.sweep = Sweep::default();
        self.oldest_dirty = None;
        if !self.has_table() {
            return Vec::new();
        }
        let old = self.table;
        let is_staged = old.staged == next_offset;
        self.table = TableRow {
            keyed: old.keyed,
            area: old.area.wrapping_add(1),
            index_from: next_offset,
            built_to: next_offset,
            ..TableRow::default()
        };
        let mut dropped = vec![old.area];
        if is_staged {
            self.table.settled_upto = boundary;
            self.table.settled = next_offset;
            self.table.bytes = old.staged_bytes;
            self.table.position = old.staged_bytes;
            self.table.max_timestamp = i64::MAX;
            // What is staged is entered as any other old data is, marks included.
            self.table.built_to = Offset(0);
        } else if old.staging {
            dropped.push(old.area.wrapping_add(1));
            self.table.area = self.table.area.wrapping_add(1);
        }
        let mut changes: Vec<_> =
            dropped.into_iter().flat_map(|number| clear_area(Area { id, number })).collect();
        changes.push(put_table(id, &self.table));
        changes
    }

    /// Ends the log.
    pub(crate) fn delete(&mut self) -> Change {
        self.deleted = true;
        self.generation += 1;
        let freed = self.tail.truncate_after(None);
        let seq = self.next_seq();
        Change { op: Op::Delete, seq, cached: 0, freed }
    }

    /// Notes that RocksDB has everything up to command `seq`.
    pub(crate) fn written(&mut self, seq: u64) {
        self.written_seq = self.written_seq.max(seq);
        if self.checkpoint.as_ref().is_some_and(|(saved, _)| *saved <= seq) {
            self.checkpoint = None;
        }
    }
}

/// Removes everything of an area.
pub(crate) fn clear_area(area: Area) -> [RowChange; 2] {
    let (start, end) = area.bounds();
    let (also_start, also_end) = (start.clone(), end.clone());
    [
        RowChange::DeleteRange { home: Home::Keys, start, end },
        RowChange::DeleteRange { home: Home::Compacted, start: also_start, end: also_end },
    ]
}

/// Writes a table's row.
pub(crate) fn put_table(id: PartitionId, row: &TableRow) -> RowChange {
    let value = Bytes::from(rows::table(row));
    RowChange::Put { home: Home::Meta, key: keys::one(Tag::Table, id), value }
}
