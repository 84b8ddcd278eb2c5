//! Batches of another replica's settled part, taken in beside what the log has.
//!
//! They lie in the area behind the log's own, where nothing reads them, until the log begins anew with them. Until then the
//! log keeps what it has: this replica may be one of those by which a record is acknowledged.
//!
//! Invariant: `staged` is on disk only behind everything it stands for.

use bytes::Bytes;

use super::settled;
use crate::batch::Header;
use crate::command::{Done, Home, Op, RowChange};
use crate::keys::Area;
use crate::log::PartitionLog;
use crate::state::{Change, clear_area, put_table};
use crate::{Error, Offset, Result, Term};

impl PartitionLog {
    /// Takes batches of another replica's settled part, beside what the log has: `begin` forgets what was staged before,
    /// `complete` says that what is staged now is everything below that offset. A [`PartitionLog::reset`] to exactly that
    /// offset then begins with them as its settled part. Each as [`PartitionLog::settled_batches`] gave it.
    /// `done` once durable. May block while a step of cleaning is under way.
    ///
    /// # Errors
    /// [`crate::Error::InvalidAppend`] for bytes that are no such batch, [`crate::Error::Closed`].
    pub fn stage(
        &self,
        begin: bool,
        batches: Vec<Bytes>,
        complete: Option<Offset>,
        done: Done,
    ) -> Result<()> {
        let _maintaining = self.partition.maintaining.lock();
        let area = self.partition.live()?.area(self.id());
        let staged = Area { number: area.number.wrapping_add(1), ..area };
        let mut rows: Vec<_> = if begin { clear_area(staged).into() } else { Vec::new() };
        let mut added = 0;
        for batch in &batches {
            let (key, value) = self.staged_row(staged, batch, complete)?;
            added += u64::try_from(batch.len()).unwrap_or(0);
            rows.push(RowChange::Put { home: Home::Compacted, key, value });
        }
        let bytes = rows.iter().map(RowChange::bytes).sum();
        self.handle.core.submit(&self.partition, bytes, Some(done), |state| {
            if !begin && !state.table.staging {
                return Err(self.refused("nothing was begun"));
            }
            let table = &mut state.table;
            table.staged_bytes = if begin { added } else { table.staged_bytes + added };
            table.staging = true;
            table.staged = complete.unwrap_or(Offset(-1));
            rows.push(put_table(self.id(), table));
            let seq = state.next_seq();
            Ok(Some(Change { op: Op::Rows(rows), seq, cached: 0, freed: 0 }))
        })
    }

    fn staged_row(
        &self,
        area: Area,
        batch: &[u8],
        complete: Option<Offset>,
    ) -> Result<(Vec<u8>, Bytes)> {
        let header = Header::parse_stored(batch)
            .and_then(|header| header.verify_crc(batch).map(|()| header))
            .map_err(|invalid| self.refused(&invalid.to_string()))?;
        let last = header.base_offset.0.checked_add(i64::from(header.last_offset_delta));
        let term = u64::try_from(header.leader_epoch).ok();
        let (Some(last), Some(term)) = (last.filter(|_| header.base_offset.0 >= 0), term) else {
            return Err(self.refused("a batch without a place"));
        };
        if complete.is_some_and(|complete| last >= complete.0) {
            return Err(self.refused("a batch behind the end"));
        }
        Ok((area.settled(Offset(last)), settled::value(self.id(), &header, Term(term), batch)))
    }

    fn refused(&self, reason: &str) -> Error {
        let reason = format!("staging: {reason}");
        Error::InvalidAppend { partition: self.id(), reason }
    }

    /// Up to which offset everything is staged, if it is.
    #[must_use]
    pub fn staged(&self) -> Option<Offset> {
        let staged = self.partition.state.lock().table.staged;
        (staged >= Offset(0)).then_some(staged)
    }
}
