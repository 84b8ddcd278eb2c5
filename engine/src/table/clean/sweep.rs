//! Sweeping: settled batches lose the records that are marked, in the order of offsets.
//!
//! Invariants:
//! - A tombstone goes after everything it superseded: that lies before it.
//! - A mark goes with what it marks.

use super::{View, WRITTEN_BYTES};
use crate::batch::Header;
use crate::command::{Home, RowChange};
use crate::db::{Db, failed};
use crate::log::PartitionLog;
use crate::rows::TableRow;
use crate::state::SPARSE_BYTES;
use crate::table::maintain::Step;
use crate::table::newer::Newer;
use crate::table::row::{self, Mark};
use crate::table::settled::{self, Batches};
use crate::table::unpacked::{Left, Unpacked};
use crate::table::{CleanRules, CleanStep};
use crate::{Index, Offset, Result, Term};

/// Marks that a sweeping step looks at.
const MARKS_MAX: usize = 8192;

impl PartitionLog {
    /// Takes marked records out of settled batches.
    pub(super) fn sweep(
        &self,
        view: &View,
        rules: &CleanRules,
        newer: &mut Newer,
    ) -> Result<CleanStep> {
        let sweep = std::mem::take(&mut self.partition.live()?.sweep);
        let from = sweep.to;
        let db = self.handle.core.read()?;
        let (marks, finished) = self.marks(&db, view, from)?;
        let mut sweeping = Sweeping {
            log: self,
            view,
            rules,
            newer,
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
        let mut iterator = db.key_rows(end);
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
    newer: &'a mut Newer,
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
        let unpacked = Unpacked::of(payload)
            .ok_or_else(|| corrupt("settled batch (its records cannot be read)".to_owned()))?;
        let last = unpacked.last();
        let keep = self.rules.keeps(last);
        if was_empty && keep && due.is_empty() {
            return Ok(());
        }
        let is_due = |at: Offset| due.binary_search_by_key(&at, |(at, _)| *at).is_ok();
        let (left, removed) = unpacked
            .filter(keep, |at| !is_due(at))
            .map_err(|what| corrupt(format!("settled batch ({what})")))?;
        self.forget_tombstones(&unpacked, &due);
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
    fn forget_tombstones(&mut self, unpacked: &Unpacked<'_>, due: &[(Offset, Mark)]) {
        for (offset, record) in unpacked.records() {
            let found = due.binary_search_by_key(&offset, |(at, _)| *at);
            if let (Some(key), Ok(at)) = (record.key, found)
                && matches!(due[at].1, Mark::Tombstone(_))
            {
                self.newer.gone(key, offset);
                let key = row::row_key(self.view.area, key, offset);
                self.step.rows.push(RowChange::Delete { home: Home::Keys, key });
            }
        }
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
