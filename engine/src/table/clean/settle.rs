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
use crate::rows::{self, SparseRow, TableRow};
use crate::state::SPARSE_BYTES;
use crate::table::maintain::{Rows, Step};
use crate::table::newer::{Newer, Older};
use crate::table::row::{self, Mark};
use crate::table::unpacked::{Left, Unpacked};
use crate::table::{CleanRules, CleanStep, settled};
use crate::{Entry, EntryKind, Index, Offset, PayloadPart, Result, Term};

/// Records that a settling step looks at, about: appends wait for as many changes of rows.
const RECORDS_MAX: usize = 4096;

/// The next batches below the bound.
struct Next {
    batches: Vec<Entry>,
    /// Whether nothing follows them below the bound.
    is_all: bool,
}

impl PartitionLog {
    /// Settles the next entries, or notes the keys of some behind them; `None` when there are none below the bound.
    pub(super) fn settle_more(
        &self,
        view: &View,
        rules: &CleanRules,
        newer: &mut Newer,
    ) -> Result<Option<CleanStep>> {
        let bytes_max = usize::try_from(rules.bytes_max).unwrap_or(usize::MAX);
        let (settled, start) = match view.table.settled {
            settled if settled > Offset(0) => {
                let upto = view.table.settled_upto.index;
                ((settled, upto), Index(upto.0 + 1).max(view.first))
            }
            none => ((none, Index(view.first.0.saturating_sub(1))), view.first),
        };
        if settled.0 <= view.log_start {
            newer.nothing_settled();
        }
        let mut next = None;
        if let Some(from) = newer.goes_on(settled, view.until) {
            let from = from.max(view.first);
            let found = self.next_batches(from, view.until, bytes_max)?;
            let last = found.batches.last().map(|last| (last.next_offset(), last.index));
            let to = if found.is_all { view.until } else { last.map_or(view.until, |last| last.0) };
            let index = last.map_or(Index(from.0.saturating_sub(1)), |last| last.1);
            newer.note(&found.batches, (to, index));
            if from > start || !found.is_all {
                let bytes = found.batches.iter().map(|batch| batch.payload.len() as u64).sum();
                return Ok(Some(CleanStep { noted_bytes: bytes, ..CleanStep::default() }));
            }
            next = Some(found);
        }
        let next = match next {
            Some(next) => next,
            None => self.next_batches(start, view.until, newer.window(bytes_max))?,
        };
        Settling::new(self, view, rules).settle(&next.batches, newer)
    }

    /// Batches of the entries from `start` on that end below `until`.
    fn next_batches(&self, mut start: Index, until: Offset, bytes_max: usize) -> Result<Next> {
        loop {
            let mut batches = self.entries(start, Index(u64::MAX), bytes_max, PayloadPart::Full)?;
            let Some(last) = batches.last() else { return Ok(Next { batches, is_all: true }) };
            start = Index(last.index.0 + 1);
            batches.retain(|entry| entry.kind == EntryKind::Batch);
            let Some(last) = batches.last() else { continue };
            let is_all = last.next_offset() >= until;
            batches.truncate(batches.partition_point(|batch| batch.next_offset() <= until));
            return Ok(Next { batches, is_all });
        }
    }
}

/// A record that is to be settled.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    key: &'a [u8],
    offset: Offset,
    is_tombstone: bool,
    /// Its number in the step.
    number: usize,
}

/// What becomes of the records of a step.
#[derive(Default)]
struct Verdict {
    /// By the numbers of the records, whether each stays.
    stays: Vec<bool>,
    /// Settled records whose keys have newer ones here: numbers of those and offsets, in the order of keys.
    older: Vec<(usize, Offset)>,
}

/// The records that have keys, in the order of keys, the newest of a key first.
fn candidates<'a>(contents: &'a [Option<Unpacked<'_>>]) -> Vec<Candidate<'a>> {
    let records = contents.iter().flatten().flat_map(Unpacked::records).enumerate();
    // One without a key goes, as with Kafka's cleaner: it is from before the topic was compacted.
    let mut found: Vec<_> = records
        .filter_map(|(number, (offset, record))| {
            let is_tombstone = record.value.is_none();
            Some(Candidate { key: record.key?, offset, is_tombstone, number })
        })
        .collect();
    found.sort_unstable_by(|a, b| a.key.cmp(b.key).then_with(|| b.offset.cmp(&a.offset)));
    found
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

    /// Settles batches until enough is written.
    fn settle(mut self, batches: &[Entry], newer: &mut Newer) -> Result<Option<CleanStep>> {
        let (mut contents, mut count) = (Vec::new(), 0);
        for batch in batches {
            if count >= RECORDS_MAX {
                break;
            }
            let is_live = batch.next_offset() > self.view.log_start;
            let unpacked = if is_live { Unpacked::of(&batch.payload) } else { None };
            count += unpacked.as_ref().map_or(0, Unpacked::count);
            contents.push(unpacked);
        }
        let candidates = candidates(&contents);
        let verdict = self.judge(&candidates, count, newer)?;
        let mut stays = verdict.stays.as_slice();
        let mut used = 0;
        for (batch, unpacked) in batches.iter().zip(&contents) {
            if self.written >= WRITTEN_BYTES {
                break;
            }
            let (here, behind) = stays.split_at(unpacked.as_ref().map_or(0, Unpacked::count));
            self.batch(batch, unpacked.as_ref(), here)?;
            used += batch.payload.len();
            stays = behind;
        }
        newer.used(used, batches.iter().map(|batch| batch.payload.len()).sum());
        self.change_rows(&candidates, &verdict, newer);
        self.end()
    }

    /// Says which records stay: those whose keys have no newer ones below the bound.
    fn judge(
        &self,
        candidates: &[Candidate<'_>],
        count: usize,
        newer: &mut Newer,
    ) -> Result<Verdict> {
        let mut verdict = Verdict { stays: vec![false; count], ..Verdict::default() };
        let db = self.log.handle.core.read()?;
        let mut rows = Rows::new(&db, self.view.area);
        for records in candidates.chunk_by(|a, b| a.key == b.key) {
            let Candidate { key, offset, number, .. } = records[0];
            let (known, older) = newer.of_key(key);
            let newest = match known {
                Some(known) if known > offset => known,
                Some(known) if known == offset && newer.is_noted(self.view.until) => known,
                _ => self.newest(key, offset, &mut rows)?,
            };
            newer.saw(key, newest);
            if newest > offset {
                continue;
            }
            verdict.stays[number] = true;
            match older {
                Older::At(at) => verdict.older.push((number, at)),
                Older::None => {}
                // Rows of what was dropped lie before it, deleted: it is sought where settled ones begin.
                Older::Unknown => rows.offsets(key, self.begun, |at| {
                    verdict.older.push((number, at));
                    true
                })?,
            }
        }
        Ok(verdict)
    }

    /// The newest record of `key` below the bound; there is one at `offset`.
    fn newest(&self, key: &[u8], offset: Offset, rows: &mut Rows<'_>) -> Result<Offset> {
        let found = rows.newest(key, self.view.until)?;
        found.filter(|found| *found >= offset).ok_or_else(|| {
            let what = format!("key index: no row of offset {offset}");
            self.log.partition.corrupt(Index(0), what)
        })
    }

    /// Settles one batch, of whose records each stays or not.
    fn batch(
        &mut self,
        batch: &Entry,
        unpacked: Option<&Unpacked<'_>>,
        stays: &[bool],
    ) -> Result<()> {
        let bytes = u64::try_from(batch.payload.len()).unwrap_or(0);
        self.done.read_bytes += bytes;
        self.table.position += bytes;
        self.last = Some(LogId { term: batch.term, index: batch.index });
        self.table.settled = batch.next_offset();
        if batch.next_offset() <= self.view.log_start {
            return Ok(());
        }
        let Some(unpacked) = unpacked else {
            self.put(&batch.payload, batch.term, batch.index);
            return Ok(());
        };
        let last = unpacked.last();
        let mut stays = stays.iter().copied();
        let filtered =
            unpacked.filter(self.rules.keeps(last), |_| stays.next().unwrap_or_default());
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

    /// Changes the rows of what the step settles, in the order of keys.
    fn change_rows(&mut self, candidates: &[Candidate<'_>], verdict: &Verdict, newer: &mut Newer) {
        let area = self.view.area;
        let (end, mut older) = (self.table.settled, verdict.older.iter().peekable());
        for candidate in candidates {
            let Candidate { key, offset, is_tombstone, number } = *candidate;
            let mut before = Vec::new();
            while let Some((_, at)) = older.next_if(|(of, _)| *of == number) {
                before.push(*at);
            }
            // It is settled in a later step.
            if offset >= end {
                continue;
            }
            if !verdict.stays[number] {
                self.delete(row::row_key(area, key, offset));
                continue;
            }
            for at in before {
                self.delete(row::row_key(area, key, at));
                if at >= self.view.log_start {
                    self.mark(at, Mark::Superseded);
                }
            }
            newer.settled(key, offset);
            if is_tombstone {
                let horizon = self.rules.horizon();
                self.table.horizon = self.table.horizon.min(horizon);
                self.mark(offset, Mark::Tombstone(horizon));
            }
        }
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.step.rows.push(RowChange::Delete { home: Home::Keys, key });
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
