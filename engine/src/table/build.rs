//! Turning the key index on and off, and entering the records that were there before.
//!
//! Old records are entered from the log start on, in their order. Where they are settled, a record whose key has an older one
//! there marks it as superseded, and a tombstone is marked with the time at which it may go: marks went with the index when it
//! was turned off, or were never made because the batches come from another replica.
//!
//! Invariant: records below `built_to` and from `index_from` on have their rows.

use std::collections::HashMap;

use super::KeyIndex;
use super::clean::Sweep;
use super::lookup::readiness;
use super::maintain::{Rows, Step};
use super::row::{self, KeyRows, Mark};
use super::unpacked::Unpacked;
use crate::command::{Home, Op, RowChange};
use crate::keys::Area;
use crate::log::{self, PartitionLog};
use crate::rows::TableRow;
use crate::state::{Change, put_table};
use crate::{Entry, Offset, Result};

impl PartitionLog {
    /// Turns the key index on or off. On: what is appended from now on is entered with its batch, and what is there
    /// already by [`PartitionLog::build_key_index`]. Off: all rows go. Waits until that is durable, when anything changes.
    ///
    /// # Errors
    /// [`crate::Error::Closed`], [`crate::Error::Deleted`].
    pub fn set_keyed(&self, keyed: bool) -> Result<()> {
        if self.partition.live()?.table.keyed == keyed {
            return Ok(());
        }
        let _maintaining = self.partition.maintaining.lock();
        log::wait(|done| {
            self.handle.core.submit(&self.partition, 0, Some(done), |state| {
                if state.table.keyed == keyed {
                    return Ok(None);
                }
                let start = if keyed { state.log_start } else { Offset(0) };
                state.table_epoch += 1;
                state.generation += 1;
                state.table = TableRow {
                    keyed,
                    index_from: if keyed { state.end } else { Offset(0) },
                    built_to: start,
                    marked: 0,
                    horizon: i64::MAX,
                    ..state.table
                };
                let mut rows = vec![put_table(self.id(), &state.table)];
                if keyed {
                    self.handle.core.starts.set(self.id(), Offset(0));
                } else {
                    self.handle.core.starts.forget(self.id());
                    rows.extend(clear_index(state.area(self.id())));
                }
                let seq = state.next_seq();
                Ok(Some(Change { op: Op::Rows(rows), seq, cached: 0, freed: 0 }))
            })
        })
    }

    /// Enters the next `bytes_max` bytes or so of what was there before the index was turned on, up to `until` (the
    /// high watermark), durable on return; true once everything is. Reads the disk.
    ///
    /// # Errors
    /// As [`PartitionLog::read`].
    pub fn build_key_index(&self, until: Offset, bytes_max: u64) -> Result<bool> {
        let _maintaining = self.partition.maintaining.lock();
        let state = self.partition.live()?;
        let (mut table, log_start) = (state.table, state.log_start);
        let (area, settled) = (state.area(self.id()), table.settled);
        let (epoch, end) = (state.table_epoch, state.end);
        drop(state);
        if readiness(&table, log_start) != KeyIndex::Building {
            return Ok(table.keyed);
        }
        let from = table.built_to.max(log_start);
        let until = table.index_from.min(until).min(end);
        if from >= until {
            return Ok(false);
        }
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let batches = self.read(from, until, bytes_max)?;
        let mut step = Step::default();
        let db = self.handle.core.read()?;
        let mut marks =
            Marks { area, rows: Rows::new(&db, area), newest: HashMap::new(), count: 0 };
        table.built_to = batches.last().map_or(until, Entry::next_offset);
        for batch in &batches {
            let mut rows = KeyRows::of(&batch.payload, batch.index);
            rows.place(area, batch.base_offset);
            step.rows.push(RowChange::Enter(rows));
            if batch.next_offset() <= settled {
                marks.settled(batch, &mut step)?;
            }
        }
        table.marked += marks.count;
        if marks.count > 0 {
            // Tombstones among them get their time when they are looked at.
            table.horizon = 0;
        }
        drop(marks);
        drop(db);
        step.publish(self, epoch, table, |state, table| {
            state.table.built_to = table.built_to;
            state.table.marked = table.marked;
            state.table.horizon = table.horizon;
            state.sweep = Sweep::default();
        })?;
        Ok(self.key_index() == KeyIndex::Ready)
    }
}

/// What is marked while old records are entered.
struct Marks<'db> {
    area: Area,
    rows: Rows<'db>,
    /// The newest record of each key that was seen in this step: their rows are not written yet.
    newest: HashMap<Vec<u8>, Offset>,
    count: u64,
}

impl Marks<'_> {
    /// Marks what the records of a settled batch supersede, and those that may go later.
    fn settled(&mut self, batch: &Entry, step: &mut Step) -> Result<()> {
        let Some(unpacked) = Unpacked::of(&batch.payload) else { return Ok(()) };
        if unpacked.header.record_count == 0 {
            self.put(unpacked.last(), Mark::Empty, step);
        }
        for (offset, record) in unpacked.records() {
            let Some(key) = record.key else { continue };
            let older = match self.newest.insert(key.to_vec(), offset) {
                Some(older) => Some(older),
                None => self.rows.newest(key, offset)?,
            };
            if let Some(older) = older {
                self.put(older, Mark::Superseded, step);
                let key = row::row_key(self.area, key, older);
                step.rows.push(RowChange::Delete { home: Home::Keys, key });
            }
            if record.value.is_none() {
                self.put(offset, Mark::UNDATED, step);
            }
        }
        Ok(())
    }

    fn put(&mut self, offset: Offset, mark: Mark, step: &mut Step) {
        self.count += 1;
        step.mark(self.area, offset, mark);
    }
}

/// Removes the key index and all marks of an area.
fn clear_index(area: Area) -> Vec<RowChange> {
    let (start, end) = area.bounds();
    vec![RowChange::DeleteRange { home: Home::Keys, start, end }]
}
