//! What the steps that change a table have in common: rows are collected, written in one batch, and count once they are
//! durable.
//!
//! Invariant: readers see what a step did only once RocksDB has all of it.

use bytes::Bytes;
use rocksdb::DBRawIterator;

use super::row::{self, Mark, RowKey};
use crate::command::{Home, Op, RowChange};
use crate::db::{Db, failed};
use crate::keys::Area;
use crate::log::{self, PartitionLog};
use crate::rows::TableRow;
use crate::state::{Change, State, put_table};
use crate::{Offset, Result};

/// The rows that one step changes, in this order.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) rows: Vec<RowChange>,
}

impl Step {
    /// Marks the record at `offset`.
    pub(crate) fn mark(&mut self, area: Area, offset: Offset, mark: Mark) {
        let (key, value) = (row::mark_key(area, offset), Bytes::from(mark.encode()));
        self.rows.push(RowChange::Put { home: Home::Keys, key, value });
    }

    /// Takes a mark away.
    pub(crate) fn unmark(&mut self, area: Area, offset: Offset) {
        self.rows.push(RowChange::Delete { home: Home::Keys, key: row::mark_key(area, offset) });
    }

    /// Writes the rows with the table's own, and lets `publish` change the state once they are durable. Nothing is
    /// written when another table has begun since `epoch`; false then.
    pub(crate) fn publish(
        mut self,
        log: &PartitionLog,
        epoch: u64,
        table: TableRow,
        publish: impl FnOnce(&mut State, &TableRow),
    ) -> Result<bool> {
        self.rows.push(put_table(log.id(), &table));
        let bytes = self.rows.iter().map(RowChange::bytes).sum();
        let mut written = false;
        log::wait(|done| {
            log.handle.core.submit(&log.partition, bytes, Some(done), |state| {
                if state.table_epoch != epoch {
                    return Ok(None);
                }
                written = true;
                let seq = state.next_seq();
                Ok(Some(Change { op: Op::Rows(self.rows), seq, cached: 0, freed: 0 }))
            })
        })?;
        fail::fail_point!("engine-table-written", |_| Err(crate::Error::Closed));
        let mut state = log.partition.live()?;
        if written && state.table_epoch == epoch {
            publish(&mut state, &table);
            return Ok(true);
        }
        Ok(false)
    }
}

/// The rows of an area's keys, for looking up one after the other.
pub(crate) struct Rows<'db> {
    iterator: DBRawIterator<'db>,
    area: Area,
}

impl<'db> Rows<'db> {
    pub(crate) fn new(db: &'db Db, area: Area) -> Self {
        let (_, end) = row::all_rows(area);
        Self { iterator: db.rows_of_one_key(end), area }
    }

    /// The newest record of `key` below `below` that has a row.
    pub(crate) fn newest(&mut self, key: &[u8], below: Offset) -> Result<Option<Offset>> {
        let mut found = None;
        self.offsets(key, below, |offset| {
            found = Some(offset);
            false
        })?;
        Ok(found)
    }

    /// Offers the offsets of the records of `key` below `below`, newest first, until `wants` says no.
    pub(crate) fn offsets(
        &mut self,
        key: &[u8],
        below: Offset,
        mut wants: impl FnMut(Offset) -> bool,
    ) -> Result<()> {
        if below <= Offset(0) {
            return Ok(());
        }
        let rows = row::rows_of(self.area, key);
        self.iterator.seek([rows.as_slice(), &row::newest_first(Offset(below.0 - 1))].concat());
        loop {
            let Some(at) = self.iterator.key() else {
                return self.iterator.status().map_err(failed("reading the key index"));
            };
            match RowKey::decode(at) {
                Some(at) if at.rows == rows && wants(at.offset) => self.iterator.next(),
                _ => return Ok(()),
            }
        }
    }
}
