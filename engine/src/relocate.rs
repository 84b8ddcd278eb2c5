//! Copying what is alive in an old bucket to the active one of its log, so that the old one can be dropped.
//!
//! Entries keep their keys. A piece is read here, checked, and handed to the writer, which puts it into the
//! active bucket and moves the directory row in one batch: a reader finds each entry in one of the two.
//!
//! Invariants:
//! - What was truncated is not brought back: the writer takes a piece only while its segment is as it was
//!   when the piece was read, and the log's generation is the same.
//! - Bytes that fail their checksum are not copied; their bucket stays.
//!
//! Not here: which buckets (`space.rs`), the writer's part (`writer/relocate.rs`).

use bytes::Bytes;

use crate::command::{Op, StoredRecord};
use crate::keys::{self, BucketId};
use crate::log::{self, PartitionLog};
use crate::record::{self, RECORD_HEADER_BYTES};
use crate::rows::Segment;
use crate::space::live;
use crate::state::Change;
use crate::{Engine, EntryKind, Error, Index, Result, batch};

/// Bytes copied in one batch.
const PIECE_BYTES: usize = 1 << 20;

/// Entries on their way from one bucket to another.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Where they lie.
    pub(crate) source: BucketId,
    /// The entries, without a gap; at least one.
    pub(crate) records: Vec<StoredRecord>,
    /// What stays in the source behind them, if anything does.
    pub(crate) rest: Option<Segment>,
}

impl Engine {
    /// Copies entries out of buckets that hold little, at most about `bytes_max`; returns how many bytes.
    /// A bucket without any entry left goes with [`Engine::drop_dead_buckets`].
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Closed`].
    pub fn relocate(&self, bytes_max: u64, pressed: bool) -> Result<u64> {
        let usage = self.usage(pressed)?;
        let mut copied = 0;
        for (id, held) in &usage.buckets {
            let closed = held.row.state == crate::rows::BucketState::Closed;
            if !closed || !usage.is_freeable(*id) {
                continue;
            }
            for (log, segments) in &usage.logs {
                if !segments.iter().any(|held| held.segment.bucket == *id) {
                    continue;
                }
                while copied < bytes_max {
                    match live(log.relocate_piece(*id))?.flatten() {
                        Some(bytes) => copied += bytes,
                        None => break,
                    }
                }
            }
        }
        Ok(copied)
    }
}

impl PartitionLog {
    /// Copies the first piece of what the log has in `source`, durable on return; `None` when it has
    /// nothing there.
    fn relocate_piece(&self, source: BucketId) -> Result<Option<u64>> {
        let state = self.partition.live()?;
        let (generation, first, next) = (state.generation, state.first, state.next_index());
        let purged_position = state.purged_position();
        drop(state);
        let parts = self.partition.parts(first, next);
        let part = parts.into_iter().find(|(segment, _, _)| segment.bucket == source);
        let Some((segment, from, to)) = part else { return Ok(None) };
        let position = if from == segment.first { segment.position } else { purged_position };
        let piece = self.read_piece(&segment, from..to, position)?;
        let bytes: usize = piece.records.iter().map(|record| record.value.len()).sum();
        log::wait(|done| {
            self.handle.core.submit(&self.partition, bytes, Some(done), |state| {
                if state.generation != generation {
                    return Ok(None);
                }
                let seq = state.next_seq();
                Ok(Some(Change { op: Op::Relocate(piece), seq, cached: 0, freed: 0 }))
            })
        })?;
        Ok(Some(u64::try_from(bytes).unwrap_or(u64::MAX)))
    }

    fn read_piece(
        &self,
        segment: &Segment,
        range: std::ops::Range<Index>,
        mut position: u64,
    ) -> Result<Piece> {
        let id = self.id();
        let db = self.handle.core.read()?;
        let generation = self.partition.live()?.generation;
        let mut iterator = self.walk(generation, PIECE_BYTES).iterator(&db, segment, &range)?;
        let (mut records, mut bytes, mut rest) = (Vec::new(), 0, None);
        for index in range.start.0..range.end.0 {
            let index = Index(index);
            let missing =
                || Error::Corrupt { partition: id, index, what: "entry (missing)".into() };
            let (key, value) = iterator.item().ok_or_else(missing)?;
            if keys::data_index(id, key) != Some(index) {
                return Err(missing());
            }
            let corrupt =
                |what: &'static str| Error::Corrupt { partition: id, index, what: what.into() };
            let head = record::decode(id, index, value).map_err(corrupt)?;
            let payload = value.get(RECORD_HEADER_BYTES..).unwrap_or_default();
            if bytes >= PIECE_BYTES {
                let (first, first_offset) = (index, head.base_offset);
                rest = Some(Segment { first, bucket: segment.bucket, first_offset, position });
                break;
            }
            let at = position;
            if head.kind == EntryKind::Batch {
                batch::verify(payload).map_err(|_| corrupt("batch"))?;
                position += u64::try_from(payload.len()).unwrap_or(0);
            }
            bytes += value.len();
            let (base_offset, value) = (head.base_offset, Bytes::copy_from_slice(value));
            let rows = crate::table::row::KeyRows::default();
            records.push(StoredRecord { index, base_offset, position: at, value, rows });
            iterator.next();
        }
        Ok(Piece { source: segment.bucket, records, rest })
    }
}
