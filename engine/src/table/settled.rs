//! The settled part of a log: batches as cleaning left them, keyed by the offset of their last record.
//!
//! A batch of it is stored as any other entry is, under its last offset in place of a Raft index.
//!
//! Invariants:
//! - Every batch ends below the settled offset; together with what is behind it they are the log, but for superseded records.
//! - A read is one state of the table: when another one begins under it, it starts over.
//!
//! Not here: what becomes settled (`clean.rs`), what comes from another replica (`stage.rs`).

use bytes::{Bytes, BytesMut};
use rocksdb::{DBRawIterator, ReadOptions};

use crate::batch::Header;
use crate::command::{Home, Op, RowChange};
use crate::db::{Db, unreadable};
use crate::keys::{self, Area};
use crate::log::{self, Budget, PartitionLog};
use crate::read::{Want, kept_bytes};
use crate::record::{self, Head, RECORD_HEADER_BYTES};
use crate::sparse::SparseIndex;
use crate::state::{Change, State, put_table};
use crate::{
    Entry, EntryKind, Error, Index, Offset, PartitionId, PayloadPart, Result, Settled, Term,
};

/// The most that is read from a table of RocksDB's at once.
const READ_AT_ONCE_MAX: usize = 1 << 20;
/// Bytes of batches that are removed at once.
const TRIM_BYTES: u64 = 64 << 20;

/// Where a log would begin by a rule that takes batches from its start.
pub(crate) enum SettledStart {
    /// Within the settled part: there, or where it begins now.
    Within(Option<Offset>),
    /// Behind the settled part, which goes as a whole; its end if it has any batch.
    Behind(Option<Offset>),
}

/// A settled part as a read finds it.
#[derive(Debug, Clone, Copy)]
struct View {
    area: Area,
    epoch: u64,
    log_start: Offset,
    settled: Offset,
}

impl View {
    fn of(id: PartitionId, state: &State) -> Self {
        Self {
            area: state.area(id),
            epoch: state.table_epoch,
            log_start: state.log_start,
            settled: state.table.settled,
        }
    }
}

/// The value of a settled batch.
pub(crate) fn value(id: PartitionId, header: &Header, term: Term, batch: &[u8]) -> Bytes {
    let record_count = header.offset_count();
    let last = Offset(header.base_offset.0.saturating_add(i64::from(record_count) - 1));
    let mut value = BytesMut::with_capacity(RECORD_HEADER_BYTES + batch.len());
    value.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    value.extend_from_slice(batch);
    let head = Head {
        index: place(last),
        term,
        kind: EntryKind::Batch,
        base_offset: header.base_offset,
        record_count,
        max_timestamp: header.max_timestamp,
        payload_bytes: batch.len(),
    };
    record::seal(id, &head, header.leader_epoch, &mut value);
    value.freeze()
}

/// What stands for a settled batch's Raft index.
fn place(last: Offset) -> Index {
    Index(last.0.cast_unsigned())
}

/// An iterator over the settled batches that end at `from` or behind it.
pub(crate) struct Batches<'db> {
    iterator: DBRawIterator<'db>,
    id: PartitionId,
}

impl<'db> Batches<'db> {
    pub(crate) fn new(db: &'db Db, area: Area, from: Offset, bytes: usize) -> Self {
        let (_, end) = area.bounds();
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(area.settled(from));
        options.set_iterate_upper_bound(end);
        options.set_verify_checksums(true);
        options.set_readahead_size(bytes.min(READ_AT_ONCE_MAX));
        options.set_auto_readahead_size(true);
        let mut iterator = db.raw().raw_iterator_cf_opt(&db.compacted(), options);
        iterator.seek(area.settled(from));
        Self { iterator, id: area.id }
    }

    /// The batch it stands at, with its bytes.
    pub(crate) fn current(&self) -> Result<Option<(Head, &[u8])>> {
        let Some((key, value)) = self.iterator.item() else {
            self.iterator.status().map_err(unreadable(self.id, Index(0)))?;
            return Ok(None);
        };
        let corrupt = |what: &'static str| Error::Corrupt {
            partition: self.id,
            index: Index(0),
            what: format!("settled batch ({what}), key {}", key.escape_ascii()).into(),
        };
        let last = keys::settled_offset(key).ok_or_else(|| corrupt("key"))?;
        let head = record::decode(self.id, place(last), value).map_err(corrupt)?;
        if head.next_offset() != Offset(last.0.saturating_add(1)) {
            return Err(corrupt("last offset"));
        }
        Ok(Some((head, value.get(RECORD_HEADER_BYTES..).unwrap_or_default())))
    }

    pub(crate) fn next(&mut self) {
        self.iterator.next();
    }

    /// Goes on at the batch that ends at `from` or behind it.
    pub(crate) fn seek(&mut self, area: Area, from: Offset) {
        self.iterator.seek(area.settled(from));
    }
}

impl PartitionLog {
    /// Offers the settled batches that end at `from` or behind it, up to the end of `view`, to `want`; those it takes, and whether it
    /// wants nothing more.
    fn walk_settled(
        &self,
        view: &View,
        from: Offset,
        bytes: usize,
        mut want: impl FnMut(&Head) -> Want,
    ) -> Result<(Vec<Entry>, bool)> {
        let db = self.handle.core.read()?;
        let mut batches = Batches::new(&db, view.area, from, bytes);
        let mut taken = Vec::new();
        while let Some((head, payload)) = batches.current()? {
            if head.next_offset() > view.settled {
                break;
            }
            let wanted = want(&head);
            if let Want::Take(part) | Want::Last(part) = wanted {
                let kept = &payload[..kept_bytes(&head, part)];
                taken.push(head.entry(Bytes::copy_from_slice(kept)));
            }
            if matches!(wanted, Want::Last(_) | Want::Stop) {
                return Ok((taken, true));
            }
            batches.next();
        }
        Ok((taken, false))
    }

    fn view(&self) -> Result<View> {
        Ok(View::of(self.id(), &*self.partition.live()?))
    }

    /// Whether another table has begun since `view` was taken.
    fn is_outdated(&self, view: &View) -> Result<bool> {
        Ok(self.partition.live()?.table_epoch != view.epoch)
    }

    /// What a read takes from the settled part, and where it goes on behind that, if it does.
    pub(crate) fn read_settled(
        &self,
        from: Offset,
        until: Offset,
        budget: &mut Budget,
    ) -> Result<(Vec<Entry>, Option<Offset>)> {
        loop {
            let state = self.partition.live()?;
            let until = until.min(state.end);
            let view = View::of(self.id(), &state);
            drop(state);
            if from < view.log_start || from > until {
                return Err(self.out_of_range(from, view.log_start, until));
            }
            if from >= view.settled || from == until {
                return Ok((Vec::new(), Some(from)));
            }
            let mut left = budget.clone();
            let (taken, enough) = self
                .walk_settled(&view, from, left.left, |head| {
                    if head.next_offset() > until {
                        Want::Stop
                    } else {
                        left.wants(head, PayloadPart::Full)
                    }
                })
                .inspect_err(|error| self.handle.core.corrupt_reads.note(error))?;
            if self.is_outdated(&view)? {
                continue;
            }
            *budget = left;
            let goes_on = !enough && view.settled < until;
            return Ok((taken, goes_on.then_some(view.settled)));
        }
    }

    /// The settled part, if there is one.
    #[must_use]
    pub fn settled(&self) -> Option<Settled> {
        let state = self.partition.state.lock();
        let table = state.table;
        (table.settled > Offset(0)).then_some(Settled {
            upto: table.settled_upto,
            next_offset: table.settled,
            bytes: table.bytes,
        })
    }

    /// Batches of the settled part from the one that ends at or behind `from`, below `until`: about `bytes_max` bytes, but
    /// at least one if there is one. Their `index` means nothing. Reads the disk.
    ///
    /// # Errors
    /// As [`PartitionLog::read`].
    pub fn settled_batches(
        &self,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Entry>> {
        self.check_open()?;
        loop {
            let view = self.view()?;
            let from = from.max(view.log_start);
            let mut budget = Budget::new(bytes_max);
            let (taken, _) = self.walk_settled(&view, from, bytes_max, |head| {
                if head.next_offset() > until {
                    Want::Stop
                } else {
                    budget.wants(head, PayloadPart::Full)
                }
            })?;
            if !self.is_outdated(&view)? {
                return Ok(taken);
            }
        }
    }

    /// As [`PartitionLog::find_timestamp`], in the settled part.
    pub(crate) fn find_settled_timestamp(
        &self,
        timestamp: i64,
        until: Offset,
    ) -> Result<Option<Entry>> {
        loop {
            let view = self.view()?;
            if view.log_start >= view.settled {
                return Ok(None);
            }
            self.settle()?;
            let row = {
                let db = self.handle.core.read()?;
                let end = view.settled.min(until);
                SparseIndex::new(&db, self.id()).before_timestamp(timestamp, view.log_start, end)?
            };
            let from = row.map_or(view.log_start, |row| row.offset.max(view.log_start));
            let (taken, _) = self.walk_settled(&view, from, READ_AT_ONCE_MAX, |head| {
                if head.next_offset() > until {
                    Want::Stop
                } else if head.max_timestamp >= timestamp {
                    Want::Last(PayloadPart::Full)
                } else {
                    Want::Skip
                }
            })?;
            if !self.is_outdated(&view)? {
                return Ok(taken.into_iter().next());
            }
        }
    }

    /// As [`PartitionLog::find_max_timestamp`], in the settled part. Looks at every batch of it.
    pub(crate) fn find_max_settled_timestamp(&self, until: Offset) -> Result<Option<Entry>> {
        loop {
            let view = self.view()?;
            if view.log_start >= view.settled {
                return Ok(None);
            }
            let mut max = None;
            self.walk_settled(&view, view.log_start, READ_AT_ONCE_MAX, |head| {
                if head.next_offset() > until {
                    return Want::Stop;
                }
                max = max.max(Some(head.max_timestamp));
                Want::Skip
            })?;
            let found = match max {
                Some(max) => self.find_settled_timestamp(max, until)?,
                None => None,
            };
            if !self.is_outdated(&view)? {
                return Ok(found);
            }
        }
    }

    /// How far `goes` takes batches from the log start on. Each that goes is read once for it, and one more.
    pub(crate) fn settled_start(
        &self,
        until: Offset,
        mut goes: impl FnMut(&Head) -> bool,
    ) -> Result<SettledStart> {
        let view = self.view()?;
        if view.log_start >= view.settled {
            return Ok(SettledStart::Behind(None));
        }
        let mut start = view.log_start;
        let (_, stopped) = self.walk_settled(&view, view.log_start, READ_AT_ONCE_MAX, |head| {
            if head.next_offset() > until || !goes(head) {
                return Want::Stop;
            }
            start = head.next_offset();
            Want::Skip
        })?;
        if self.is_outdated(&view)? || (stopped && start == view.log_start) {
            return Ok(SettledStart::Within(None));
        }
        Ok(if stopped {
            SettledStart::Within(Some(start))
        } else {
            SettledStart::Behind(Some(view.settled.min(until)))
        })
    }

    /// Removes the settled batches below the log start; nothing reads them any more.
    pub(crate) fn trim_settled(&self) -> Result<()> {
        let _maintaining = self.partition.maintaining.lock();
        loop {
            let view = self.view()?;
            let table = self.partition.live()?.table;
            if table.bytes == 0 || view.log_start == Offset(0) {
                return Ok(());
            }
            let (mut bytes, mut end, mut all) = (0, None, true);
            let db = self.handle.core.read()?;
            let mut batches = Batches::new(&db, view.area, Offset(0), READ_AT_ONCE_MAX);
            while let Some((head, payload)) = batches.current()? {
                if head.next_offset() > view.log_start.min(view.settled) {
                    break;
                }
                if bytes >= TRIM_BYTES {
                    all = false;
                    break;
                }
                bytes += u64::try_from(payload.len()).unwrap_or(0);
                end = Some(head.next_offset());
                batches.next();
            }
            drop(batches);
            drop(db);
            let Some(end) = end else { return Ok(()) };
            log::wait(|done| {
                self.handle.core.submit(&self.partition, 0, Some(done), |state| {
                    if state.table_epoch != view.epoch {
                        return Ok(None);
                    }
                    state.table.bytes = state.table.bytes.saturating_sub(bytes);
                    let (start, end) = (view.area.settled(Offset(0)), view.area.settled(end));
                    let range = RowChange::DeleteRange { home: Home::Compacted, start, end };
                    let rows = vec![range, put_table(self.id(), &state.table)];
                    let seq = state.next_seq();
                    Ok(Some(Change { op: Op::Rows(rows), seq, cached: 0, freed: 0 }))
                })
            })?;
            if all {
                return Ok(());
            }
        }
    }
}
