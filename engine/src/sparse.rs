//! The sparse index of one log: a row for every 128 KiB or so, by which reads find their place.
//!
//! A row is a hint of where to begin and how much to read at once; what is read is checked by whoever reads it.

use rocksdb::{DBRawIterator, ReadOptions};

use crate::db::{BLOCK_BYTES, Db, failed};
use crate::keys::{self, Tag};
use crate::rows::{self, SparseRow};
use crate::state::SPARSE_BYTES;
use crate::{Error, Index, Offset, PartitionId, Result};

/// Reads of less than this end where their bytes are used up, not at a row.
const PIECE_BYTES_MIN: usize = 4 * SPARSE_BYTES;

/// What an entry takes in a table beside its payload, at most.
const ENTRY_OVERHEAD: u64 = 128;

/// Where a read best begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// At or before the entry that is read from.
    pub(crate) start: Index,
    /// At a row, so that of two reads one after the other none looks at what the other takes; `None` when no row is
    /// near enough.
    pub(crate) end: Option<Index>,
    /// How much is worth reading at once.
    pub(crate) bytes: usize,
}

/// How much is worth reading at once from `start` to `end`, behind the first block. RocksDB reads on to the block behind
/// the last one that is wanted if it fits, and of large entries this is as much again as was asked for: half of one
/// entry less is too little for it, and enough for all before it.
fn worth_reading(start: &SparseRow, end: &SparseRow) -> usize {
    let count = end.index.0.saturating_sub(start.index.0).max(1);
    let bytes = end.position.saturating_sub(start.position);
    let mean = bytes / count;
    // Smaller ones share blocks.
    if mean < BLOCK_BYTES {
        return usize::MAX;
    }
    usize::try_from(bytes - mean / 2 + count.saturating_mul(ENTRY_OVERHEAD)).unwrap_or(usize::MAX)
}

/// The sparse index of one log.
pub(crate) struct SparseIndex<'db> {
    iterator: DBRawIterator<'db>,
    id: PartitionId,
}

impl<'db> SparseIndex<'db> {
    /// Opens the index of `id`.
    pub(crate) fn new(db: &'db Db, id: PartitionId) -> Self {
        let (start, end) = keys::all(Tag::Sparse, id);
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(start);
        options.set_iterate_upper_bound(end);
        Self { iterator: db.raw().raw_iterator_cf_opt(&db.meta(), options), id }
    }

    /// The last row at or below `offset`.
    pub(crate) fn floor(&mut self, offset: Offset) -> Result<Option<SparseRow>> {
        self.iterator.seek_for_prev(keys::sparse(self.id, offset));
        self.row()
    }

    /// The first row at or above `offset`.
    pub(crate) fn ceiling(&mut self, offset: Offset) -> Result<Option<SparseRow>> {
        self.iterator.seek(keys::sparse(self.id, offset));
        self.row()
    }

    /// Where a read of at most `bytes_max` from `from` on best begins and ends; `first` is where the log begins.
    pub(crate) fn piece(
        &mut self,
        from: Offset,
        bytes_max: usize,
        first: SparseRow,
    ) -> Result<Piece> {
        let below = self.floor(from)?;
        let start = below.filter(|row| row.index > first.index).unwrap_or(first);
        let to_the_end = Piece { start: start.index, end: None, bytes: bytes_max };
        if bytes_max < PIECE_BYTES_MIN {
            return Ok(to_the_end);
        }
        let mut row = match below {
            Some(_) => self.next()?,
            None => self.ceiling(from)?,
        };
        let Some(next) = row else { return Ok(to_the_end) };
        let reach = start.position.saturating_add(u64::try_from(bytes_max).unwrap_or(u64::MAX));
        let mut end = next;
        while let Some(at) = row {
            if at.position > reach {
                let bytes = worth_reading(&start, &end).min(bytes_max);
                return Ok(Piece { end: Some(end.index), bytes, ..to_the_end });
            }
            end = at;
            row = self.next()?;
        }
        // What follows the last row may fit.
        Ok(to_the_end)
    }

    fn next(&mut self) -> Result<Option<SparseRow>> {
        self.iterator.next();
        self.row()
    }

    fn row(&self) -> Result<Option<SparseRow>> {
        let Some((key, value)) = self.iterator.item() else {
            self.iterator.status().map_err(failed("reading the offset index"))?;
            return Ok(None);
        };
        let row = keys::position(key).and_then(|offset| rows::decode_sparse(offset, value));
        row.map(Some).ok_or(Error::Corrupt {
            partition: self.id,
            index: Index(0),
            what: "offset index row".into(),
        })
    }

    /// The last row in `start..until` before which every timestamp is below `timestamp`.
    pub(crate) fn before_timestamp(
        &mut self,
        timestamp: i64,
        start: Offset,
        until: Offset,
    ) -> Result<Option<SparseRow>> {
        self.last_where(start, until, |row| row.max_timestamp_before < timestamp)
    }

    /// The last row in `start..until` for which `holds`, which it must for every row before that one.
    pub(crate) fn last_where(
        &mut self,
        start: Offset,
        until: Offset,
        holds: impl Fn(&SparseRow) -> bool,
    ) -> Result<Option<SparseRow>> {
        let (mut low, mut high) = (start.0, until.0);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            match self.floor(Offset(middle))? {
                Some(row) if !holds(&row) => high = middle.min(row.offset.0),
                below => {
                    found = below.or(found);
                    low = middle + 1;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: u64, position: u64) -> SparseRow {
        SparseRow { offset: Offset(0), index: Index(index), max_timestamp_before: 0, position }
    }

    #[test]
    fn large_entries_are_read_without_the_one_behind_them() {
        for (count, size) in
            [(1, 1_000_000), (2, 500_000), (3, 330_000), (16, 65_536), (30, 33_000)]
        {
            let bytes = worth_reading(&row(7, 5), &row(7 + count, 5 + count * size)) as u64;
            // RocksDB reads the first block and then as many whole ones as fit into this.
            assert!(bytes >= (count - 1) * size, "{count} of {size} are read at once");
            assert!(bytes < count * size, "{count} of {size}: none is read in vain");
        }
    }

    #[test]
    fn small_entries_are_read_up_to_the_limit() {
        assert_eq!(worth_reading(&row(0, 0), &row(1000, 1 << 20)), usize::MAX);
        assert_eq!(worth_reading(&row(3, 9), &row(3, 9)), usize::MAX, "rows that cannot be");
    }
}
