//! Checks what logs are as tables: settled batches, and that the key index and the log say the same.
//!
//! Every record that is looked at must have its row, or a mark if it is settled; and there must be no row more than records
//! were looked at.

use std::collections::HashMap;

use rocksdb::{IteratorMode, ReadOptions};

use super::{Rows, Verify, row_name};
use crate::batch::Header;
use crate::keys::{self, Area};
use crate::record::{self, Head, RECORD_HEADER_BYTES};
use crate::table::row::{self, KeyRows, Mark, RowKey, RowValue};
use crate::{EntryKind, Index, Offset, PartitionId};

/// Bytes of a row's value that name a Raft entry, which a settled batch has no more.
const INDEX_AT: std::ops::Range<usize> = 2..10;

/// The end of the settled batches that were seen of a partition, and their bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    end: i64,
    bytes: u64,
}

impl Rows {
    fn area(&self, id: PartitionId) -> Area {
        Area { id, number: self.table.area }
    }

    /// Whether the record at `offset` must have a row.
    fn has_row(&self, offset: Offset) -> bool {
        let entered = offset < self.table.built_to || offset >= self.table.index_from;
        self.table.keyed && entered && offset >= self.log_start
    }
}

impl<P: FnMut(u64, u64)> Verify<'_, P> {
    /// Checks the rows of a batch that is not settled.
    pub(super) fn keys_of_entry(&mut self, id: PartitionId, head: &Head, payload: &[u8]) {
        let Some(rows) = self.rows.get(&id) else { return };
        let is_batch = head.kind == EntryKind::Batch;
        if is_batch && rows.table.keyed && head.base_offset >= rows.table.settled {
            self.keys_of(id, head, payload, false);
        }
    }

    fn keys_of(&mut self, id: PartitionId, head: &Head, payload: &[u8], settled: bool) {
        let Some(rows) = self.rows.get(&id) else { return };
        let area = rows.area(id);
        let mut expected = KeyRows::of(payload, head.index);
        expected.place(area, head.base_offset);
        let (mut problems, mut seen) = (Vec::new(), 0);
        for (key, value) in expected.iter() {
            let offset = row::offset_of(key).unwrap_or_default();
            if !rows.has_row(offset) {
                continue;
            }
            match self.row_problem(area, offset, (key, value), settled) {
                None => seen += 1,
                Some("") => {}
                Some(what) => problems.push((offset, what)),
            }
        }
        if let Some(rows) = self.rows.get_mut(&id) {
            rows.entered += seen;
        }
        for (offset, what) in problems {
            self.report.add(format!("partition {id}, offset {offset}"), what);
        }
    }

    /// What is wrong with the row of a record; nothing ("") when it is marked instead.
    fn row_problem(
        &self,
        area: Area,
        offset: Offset,
        (key, value): (&[u8], &[u8]),
        settled: bool,
    ) -> Option<&'static str> {
        let db = &self.store.db;
        match db.raw().get_cf(&db.keys(), key) {
            Ok(Some(mut stored)) => {
                if settled && let Some(place) = stored.get_mut(INDEX_AT) {
                    place.copy_from_slice(&value[INDEX_AT]);
                }
                (stored != value).then_some("the key index says something else of the record")
            }
            Ok(None) if settled => {
                let mark = db.raw().get_cf(&db.keys(), row::mark_key(area, offset));
                let mark = mark.ok().flatten().as_deref().and_then(Mark::decode);
                let is_marked = mark == Some(Mark::Superseded);
                Some(if is_marked { "" } else { "the record has neither a row nor a mark" })
            }
            Ok(None) => Some("the record has no row in the key index"),
            Err(_) => Some("the row of the record cannot be read"),
        }
    }

    /// Checks all settled batches.
    pub(super) fn settled(&mut self) {
        let family = self.store.db.compacted();
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        options.fill_cache(false);
        options.set_readahead_size(4 << 20);
        let mut seen = HashMap::new();
        for item in self.store.db.raw().iterator_cf_opt(&family, options, IteratorMode::Start) {
            match item {
                Ok((key, value)) => {
                    self.report.settled += 1;
                    if let Err(what) = self.settled_batch(&key, &value, &mut seen) {
                        self.report.add(row_name("compacted", &key), what);
                    }
                }
                Err(error) => return self.report.add("compacted", error.to_string()),
            }
        }
        let mut problems = Vec::new();
        for (id, rows) in self.rows.iter().filter(|(_, rows)| rows.exists) {
            let bytes = seen.get(id).map_or(0, |seen: &Seen| seen.bytes);
            if bytes != rows.table.bytes {
                let what = format!("{bytes} bytes are settled, {} are stated", rows.table.bytes);
                problems.push((format!("partition {id}"), what));
            }
        }
        self.add_all(problems);
    }

    fn settled_batch(
        &mut self,
        key: &[u8],
        value: &[u8],
        seen: &mut HashMap<PartitionId, Seen>,
    ) -> Result<(), String> {
        let area = Area::of(key).ok_or("is no key of a settled batch")?;
        let last = keys::settled_offset(key).ok_or("is no key of a settled batch")?;
        let rows = self.rows.get(&area.id).filter(|rows| rows.exists);
        let rows = rows.ok_or("belongs to no partition")?;
        if rows.table.staging && area.number == rows.table.area.wrapping_add(1) {
            return Ok(());
        }
        if area != rows.area(area.id) {
            return Err("belongs to a table that is no more".to_owned());
        }
        let head = record::decode(area.id, Index(last.0.cast_unsigned()), value)?;
        let payload = value.get(RECORD_HEADER_BYTES..).unwrap_or_default();
        Header::parse_stored(payload)
            .and_then(|header| header.verify_crc(payload))
            .map_err(|invalid| format!("batch: {invalid}"))?;
        if head.next_offset() > rows.table.settled {
            return Err(format!("ends behind {}, which is not settled", rows.table.settled));
        }
        let seen = seen.entry(area.id).or_default();
        let overlaps = head.base_offset.0 < seen.end;
        seen.end = head.next_offset().0;
        seen.bytes += payload.len() as u64;
        self.keys_of(area.id, &head, payload, true);
        if overlaps { Err("overlaps the batch before it".to_owned()) } else { Ok(()) }
    }

    /// Counts the rows of all key indexes, once all records were looked at.
    pub(super) fn key_rows(&mut self) {
        let family = self.store.db.keys();
        let mut counted = HashMap::<PartitionId, u64>::new();
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        for item in self.store.db.raw().iterator_cf_opt(&family, options, IteratorMode::Start) {
            let (key, value) = match item {
                Ok(item) => item,
                Err(error) => return self.report.add("keys", error.to_string()),
            };
            self.report.keys += 1;
            match self.key_row(&key, &value) {
                Ok(Some(id)) => *counted.entry(id).or_default() += 1,
                Ok(None) => {}
                Err(what) => self.report.add(row_name("keys", &key), what),
            }
        }
        let mut problems = Vec::new();
        for (id, rows) in self.rows.iter().filter(|(_, rows)| rows.table.keyed) {
            let counted = counted.get(id).copied().unwrap_or(0);
            if counted != rows.entered {
                let what = format!("its key index has {counted} rows for {} records", rows.entered);
                problems.push((format!("partition {id}"), what));
            }
        }
        self.add_all(problems);
    }

    /// The partition for whose records a row counts, if it does.
    fn key_row(&self, key: &[u8], value: &[u8]) -> Result<Option<PartitionId>, &'static str> {
        let area = Area::of(key).ok_or("is no key of a row")?;
        let rows = self.rows.get(&area.id).filter(|rows| rows.exists);
        let rows = rows.ok_or("belongs to no partition")?;
        if area != rows.area(area.id) {
            return Err("belongs to a table that is no more");
        }
        if row::marked_offset(key).is_some() {
            return Mark::decode(value).map(|_| None).ok_or("does not decode");
        }
        let (at, _) = RowKey::decode(key).zip(RowValue::decode(value)).ok_or("does not decode")?;
        // Others are below the log start, or entered twice while the index is being built.
        Ok(rows.has_row(at.offset).then_some(area.id))
    }

    fn add_all(&mut self, problems: Vec<(String, String)>) {
        for (place, what) in problems {
            self.report.add(place, what);
        }
    }
}
