//! The next piece of a partition, read from the disk while a client takes in the last one.
//!
//! A consumer that catches up asks for one piece after another; without this the disk would idle between two
//! requests, and the client while the disk works.
//!
//! Invariants:
//! - What is held and asked for is bounded over all partitions; beyond it the oldest piece is dropped.
//! - A piece holds committed batches, so nothing can make it wrong. Whether it may be handed out (the log
//!   start, leadership) is checked by whoever asks for it.

use std::collections::VecDeque;

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
    reading: Reading,
}

/// The pieces of all partitions, oldest first.
#[derive(Debug)]
pub(crate) struct ReadAhead {
    pieces: Mutex<VecDeque<Piece>>,
    bytes_max: usize,
}

impl ReadAhead {
    /// Room for `bytes_max` over all partitions.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { pieces: Mutex::new(VecDeque::new()), bytes_max }
    }

    /// The piece that begins at `from`, if it is there and is no larger than `bytes_max`.
    pub(super) fn take(
        &self,
        partition: PartitionId,
        from: Offset,
        bytes_max: usize,
    ) -> Option<Reading> {
        let mut pieces = self.pieces.lock();
        let wanted = |piece: &Piece| {
            piece.partition == partition && piece.from == from && piece.bytes_max <= bytes_max
        };
        let at = pieces.iter().position(wanted)?;
        pieces.remove(at).map(|piece| piece.reading)
    }

    /// Keeps a piece that is being read, and drops the oldest ones it leaves no room for.
    pub(super) fn keep(
        &self,
        partition: PartitionId,
        from: Offset,
        bytes_max: usize,
        reading: Reading,
    ) {
        let mut pieces = self.pieces.lock();
        pieces.push_back(Piece { partition, from, bytes_max, reading });
        let mut held: usize = pieces.iter().map(|piece| piece.bytes_max).sum();
        while held > self.bytes_max {
            let Some(oldest) = pieces.pop_front() else { break };
            held -= oldest.bytes_max;
            oldest.reading.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        tokio::spawn(async { Ok(Vec::new()) })
    }

    #[tokio::test]
    async fn a_piece_is_taken_once_and_only_for_what_it_is() {
        let ahead = ReadAhead::new(100);
        ahead.keep(PartitionId(1), Offset(7), 40, reading());
        assert!(ahead.take(PartitionId(2), Offset(7), 40).is_none());
        assert!(ahead.take(PartitionId(1), Offset(8), 40).is_none());
        assert!(ahead.take(PartitionId(1), Offset(7), 39).is_none(), "it may hold too much");
        assert!(ahead.take(PartitionId(1), Offset(7), 50).is_some());
        assert!(ahead.take(PartitionId(1), Offset(7), 50).is_none());
    }

    #[tokio::test]
    async fn the_oldest_pieces_make_room() {
        let ahead = ReadAhead::new(100);
        for partition in 0..3 {
            ahead.keep(PartitionId(partition), Offset(0), 50, reading());
        }
        assert!(ahead.take(PartitionId(0), Offset(0), 50).is_none());
        assert!(ahead.take(PartitionId(1), Offset(0), 50).is_some());
        ahead.keep(PartitionId(9), Offset(0), 101, reading());
        assert!(ahead.take(PartitionId(9), Offset(0), 101).is_none(), "larger than all the room");
    }
}
