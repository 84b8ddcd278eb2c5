//! Settling: the next entries become settled batches, without the records that later ones supersede.
//!
//! Not here: what is taken out of batches that are settled already (`sweep.rs`).

use bytes::Bytes;

use super::sweep::Sweep;
use super::{View, WRITTEN_BYTES};
use crate::batch::Header;
use crate::command::{Home, RowChange};
use crate::keys;
use crate::log::{LogId, PartitionLog};
use crate::records::Record;
use crate::rows::{self, SparseRow, TableRow};
use crate::state::SPARSE_BYTES;
use crate::table::maintain::{Rows, Step};
use crate::table::newer::Newer;
use crate::table::row::{self, Mark};
use crate::table::unpacked::{Left, Unpacked};
use crate::table::{CleanRules, CleanStep, settled};
use crate::{Entry, EntryKind, Index, Offset, PayloadPart, Result, Term};

impl PartitionLog {
    /// Settles the next entries; `None` when there are none below the bound.
    pub(super) fn settle_more(
        &self,
        view: &View,
        rules: &CleanRules,
        newer: &mut Newer,
    ) -> Result<Option<CleanStep>> {
        let bytes_max = usize::try_from(rules.bytes_max).unwrap_or(usize::MAX);
        let start = if view.table.settled > Offset(0) {
            Index(view.table.settled_upto.index.0 + 1).max(view.first)
        } else {
            view.first
        };
        let entries = self.entries_with_batch(start, bytes_max)?;
        let mut settling = Settling::new(self, view, rules);
        let batches: Vec<_> = entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Batch)
            .take_while(|entry| entry.next_offset() <= view.until)
            .collect();
        for batch in batches.iter().rev() {
            newer.note(batch);
        }
        let db = self.handle.core.read()?;
        let mut rows = Rows::new(&db, view.area);
        for batch in batches {
            if settling.written >= WRITTEN_BYTES {
                break;
            }
            settling.batch(batch, newer, &mut rows)?;
        }
        drop(rows);
        drop(db);
        settling.end()
    }

    /// Entries from `start` on, with a batch among them if one is there.
    fn entries_with_batch(&self, mut start: Index, bytes_max: usize) -> Result<Vec<Entry>> {
        loop {
            let entries = self.entries(start, Index(u64::MAX), bytes_max, PayloadPart::Full)?;
            let Some(last) = entries.last() else { return Ok(entries) };
            if entries.iter().any(|entry| entry.kind == EntryKind::Batch) {
                return Ok(entries);
            }
            start = Index(last.index.0 + 1);
        }
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
    fn batch(&mut self, batch: &Entry, newer: &mut Newer, rows: &mut Rows<'_>) -> Result<()> {
        let bytes = u64::try_from(batch.payload.len()).unwrap_or(0);
        self.done.read_bytes += bytes;
        self.table.position += bytes;
        self.last = Some(LogId { term: batch.term, index: batch.index });
        self.table.settled = batch.next_offset();
        if batch.next_offset() <= self.view.log_start {
            return Ok(());
        }
        let Some(unpacked) = Unpacked::of(&batch.payload) else {
            self.put(&batch.payload, batch.term, batch.index);
            return Ok(());
        };
        let mut gone = Vec::new();
        for (offset, record) in unpacked.records() {
            if !self.stays(&record, offset, newer, rows)? {
                gone.push(offset);
            }
        }
        let last = unpacked.last();
        let filtered =
            unpacked.filter(self.rules.keeps(last), |at| gone.binary_search(&at).is_err());
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
        newer: &mut Newer,
        rows: &mut Rows<'_>,
    ) -> Result<bool> {
        // As Kafka's cleaner does with what is from before the topic was compacted.
        let Some(key) = record.key else { return Ok(false) };
        let area = self.view.area;
        let delete =
            |offset| RowChange::Delete { home: Home::Keys, key: row::row_key(area, key, offset) };
        if newer.is_known(key, offset) {
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
                newer.remember(key, found);
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
    fn end(mut self) -> Result<Option<CleanStep>> {
        let Some(last) = self.last else { return Ok(None) };
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
                // Its marks lie anywhere.
                state.sweep = Sweep::default();
                if state.log_start <= table.settled {
                    state.start_position = Some(table.position);
                }
            })?;
        Ok(Some(if published { self.done } else { CleanStep::default() }))
    }
}
