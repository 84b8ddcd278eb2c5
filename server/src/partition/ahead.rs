//! The next piece of a partition, read from the disk while a client takes in the last one.
//!
//! A consumer that catches up asks for one piece after another; without this the disk would idle between two
//! requests, and the client while the disk works.
//!
//! Invariants:
//! - What is held and asked for is bounded over all partitions; when there is no room only pieces that nobody
//!   came for make some, so that many readers do not read in vain for each other.
//! - A piece may hold more than one request asks for; what is left of it stays, where the next one begins.
//! - A piece holds committed batches, so nothing can make it wrong. Whether it may be handed out (the log
//!   start, leadership) is checked by whoever asks for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jangbu_engine::{Entry, Offset, PartitionId};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::Error;

/// A read on its way.
pub(super) type Reading = JoinHandle<Result<Vec<Entry>, Error>>;

#[derive(Debug)]
struct Piece {
    partition: PartitionId,
    from: Offset,
    bytes_max: usize,
    since: Instant,
    /// Where it ends, once that is known.
    end: Option<Offset>,
    reading: Reading,
}

impl Piece {
    fn is(&self, partition: PartitionId, from: Offset) -> bool {
        self.partition == partition && self.from == from
    }
}

/// Whoever has not come for a piece by now has gone elsewhere.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2);

/// The pieces of all partitions, oldest first.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    pieces: Mutex<VecDeque<Piece>>,
    bytes_max: usize,
    forgotten_after: Duration,
}

impl ReadAhead {
    /// Room for `bytes_max` over all partitions.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let pieces = Mutex::new(VecDeque::new());
        Self { pieces, bytes_max, forgotten_after: FORGOTTEN_AFTER }
    }

    /// The piece that begins at `from`, if it is there.
    pub(super) fn take(&self, partition: PartitionId, from: Offset) -> Option<Reading> {
        let mut pieces = self.pieces.lock();
        let at = pieces.iter().position(|piece| piece.is(partition, from))?;
        pieces.remove(at).map(|piece| piece.reading)
    }

    /// Takes from `entries`, which were read ahead, what is more than `bytes_max`, and keeps it for the next request.
    pub(super) fn keep_rest(
        &self,
        partition: PartitionId,
        entries: &mut Vec<Entry>,
        bytes_max: usize,
    ) {
        let mut bytes = 0;
        let mut fits = |entry: &Entry| {
            bytes += entry.payload.len();
            bytes <= bytes_max
        };
        let count = entries.iter().position(|entry| !fits(entry)).unwrap_or(entries.len()).max(1);
        let (Some(at), Some(last)) = (entries.get(count - 1), entries.last()) else { return };
        let (from, end) = (at.next_offset(), last.next_offset());
        let rest = entries.split_off(count.min(entries.len()));
        if rest.is_empty() {
            return;
        }
        let bytes = rest.iter().map(|entry| entry.payload.len()).sum();
        let ready = || tokio::spawn(std::future::ready(Ok(rest)));
        if self.keep(partition, from, bytes, ready)
            && let Some(piece) = self.pieces.lock().iter_mut().find(|p| p.is(partition, from))
        {
            piece.end = Some(end);
        }
    }

    /// Where to read on from `from`, behind the pieces that are there; `None` when one is still being read.
    pub(super) fn behind(&self, partition: PartitionId, mut from: Offset) -> Option<Offset> {
        let pieces = self.pieces.lock();
        while let Some(piece) = pieces.iter().find(|piece| piece.is(partition, from)) {
            from = piece.end.filter(|end| *end > from)?;
        }
        Some(from)
    }

    /// Keeps a piece, which `read` begins to read; false when there is no room for it. One that begins at the
    /// same place stands for it.
    pub(super) fn keep(
        &self,
        partition: PartitionId,
        from: Offset,
        bytes_max: usize,
        read: impl FnOnce() -> Reading,
    ) -> bool {
        let mut pieces = self.pieces.lock();
        if pieces.iter().any(|piece| piece.is(partition, from)) {
            return true;
        }
        let now = Instant::now();
        let mut held: usize = pieces.iter().map(|piece| piece.bytes_max).sum();
        while held.saturating_add(bytes_max) > self.bytes_max {
            let forgotten = |piece: &Piece| now.duration_since(piece.since) >= self.forgotten_after;
            if !pieces.front().is_some_and(forgotten) {
                return false;
            }
            let Some(oldest) = pieces.pop_front() else { return false };
            held -= oldest.bytes_max;
            oldest.reading.abort();
        }
        let reading = read();
        pieces.push_back(Piece { partition, from, bytes_max, since: now, end: None, reading });
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jangbu_engine::{EntryKind, Index, Term};

    use super::*;

    fn reading() -> Reading {
        tokio::spawn(async { Ok(Vec::new()) })
    }

    #[tokio::test]
    async fn a_piece_is_taken_once_and_only_for_what_it_is() {
        let ahead = ReadAhead::new(100);
        assert!(ahead.keep(PartitionId(1), Offset(7), 40, reading));
        assert!(ahead.keep(PartitionId(1), Offset(7), 80, || unreachable!("it is being read")));
        assert!(ahead.take(PartitionId(2), Offset(7)).is_none());
        assert!(ahead.take(PartitionId(1), Offset(8)).is_none());
        assert!(ahead.take(PartitionId(1), Offset(7)).is_some());
        assert!(ahead.take(PartitionId(1), Offset(7)).is_none());
    }

    #[tokio::test]
    async fn only_what_nobody_came_for_makes_room() {
        let mut ahead = ReadAhead::new(100);
        let in_vain = || unreachable!("there is no room");
        assert!(ahead.keep(PartitionId(0), Offset(0), 50, reading));
        assert!(ahead.keep(PartitionId(1), Offset(0), 50, reading));
        assert!(!ahead.keep(PartitionId(2), Offset(0), 1, in_vain));
        ahead.forgotten_after = Duration::ZERO;
        assert!(ahead.keep(PartitionId(2), Offset(0), 50, reading));
        assert!(ahead.take(PartitionId(0), Offset(0)).is_none(), "the oldest made room");
        assert!(ahead.take(PartitionId(1), Offset(0)).is_some());
        assert!(!ahead.keep(PartitionId(9), Offset(0), 101, in_vain), "larger than all the room");
    }

    fn entry(offset: i64) -> Entry {
        Entry {
            index: Index(9),
            term: Term(1),
            kind: EntryKind::Batch,
            base_offset: Offset(offset),
            record_count: 1,
            max_timestamp: 0,
            payload: Bytes::from_static(&[0; 10]),
        }
    }

    #[tokio::test]
    async fn what_is_left_of_a_piece_is_there_for_the_next_request() {
        let ahead = ReadAhead::new(100);
        let mut entries: Vec<_> = (0..5).map(entry).collect();
        ahead.keep_rest(PartitionId(1), &mut entries, 25);
        assert_eq!(entries.len(), 2);
        assert_eq!(ahead.behind(PartitionId(1), Offset(2)), Some(Offset(5)));
        assert_eq!(ahead.behind(PartitionId(1), Offset(7)), Some(Offset(7)));
        let rest = ahead.take(PartitionId(1), Offset(2)).unwrap();
        let mut entries = rest.await.unwrap().unwrap();
        assert_eq!(entries.iter().map(|e| e.base_offset.0).collect::<Vec<_>>(), [2, 3, 4]);
        ahead.keep_rest(PartitionId(1), &mut entries, 1);
        assert_eq!(entries.len(), 1, "one comes whatever its size");
        ahead.keep_rest(PartitionId(2), &mut entries, 1);
        assert!(ahead.take(PartitionId(2), Offset(3)).is_none(), "nothing was left");
        assert!(ahead.keep(PartitionId(3), Offset(0), 10, reading));
        assert_eq!(ahead.behind(PartitionId(3), Offset(0)), None, "it is being read");
    }
}
