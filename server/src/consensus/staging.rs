//! What a follower is sent before a snapshot that stands above records: the settled batches below it, piece by piece.
//!
//! ```text
//! Stage 0 .. Stage n (complete)   durable each, beside the log; nothing else is touched
//! Snapshot (staged)               checkpoint stored │ log begins anew with what is staged │ purge
//! ```
//! A process that ends before the last piece is durable has nothing staged, and is sent everything anew. One that ends
//! behind it and before the checkpoint is stored has its old log and something staged that nobody asks for: the next stream
//! throws it away. One that ends behind the checkpoint and before the log has begun anew finds at its start a log that does
//! not hold the entry of its checkpoint, and lets it begin anew with what is still staged (`state_machine.rs`). Behind
//! that the log is the one of the snapshot.
//!
//! Invariants:
//! - Pieces of one stream are staged in their order, once each. A stream gives way only to a later one of its leader or
//!   to one of a later leader.
//! - From the look whether everything is staged until the log has begun anew, nothing else is staged.
//!
//! Not here: who sends it (`transfer.rs`), how it is stored (the engine's `table.rs`).

use std::sync::Arc;

use bytes::Bytes;
use jangbu_engine::Offset;
use tokio::sync::OwnedMutexGuard;

use super::log::Log;
use super::log_store::durably;
use super::types::{LogId, Vote};

/// Part of what was settled below a snapshot.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// Of the leader that sends it.
    pub(super) vote: Vote,
    /// Which of its streams.
    pub(super) stream: u64,
    /// Which piece of that; 0 begins it.
    pub(super) number: u64,
    /// Where the snapshot stands.
    pub(super) last: LogId,
    /// The offset behind that.
    pub(super) next_offset: Offset,
    /// Whether nothing comes behind it.
    pub(super) complete: bool,
    pub(super) batches: Vec<Bytes>,
}

/// What a replica says to a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StageAnswer {
    pub(super) vote: Vote,
    /// Whether its log holds the entry at which the snapshot stands.
    pub(super) held: bool,
}

/// A stream that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stream {
    /// Of its leader, and its number there.
    id: (u64, u64),
    next_offset: Offset,
    /// The piece that comes next.
    next: u64,
}

/// How far the stream is that came last.
#[derive(Debug, Default)]
pub(super) struct Progress {
    stream: Option<Stream>,
}

/// Where a replica is with what it is sent. Whoever holds the lock stages, or begins anew with what is staged.
pub(super) type Staging = Arc<tokio::sync::Mutex<Progress>>;

impl Progress {
    /// Whether a piece is the next one; `false` when it was staged before.
    ///
    /// # Errors
    /// Why it has no place.
    fn admit(&self, piece: &Piece) -> Result<bool, String> {
        let id = (piece.vote.leader_id().term, piece.stream);
        match self.stream {
            Some(known) if known.id > id => Err("a later stream has begun".to_owned()),
            Some(known) if known.id == id && known.next_offset != piece.next_offset => {
                Err("the stream is one up to another offset".to_owned())
            }
            Some(known) if known.id == id && piece.number + 1 == known.next => Ok(false),
            Some(known) if known.id == id && piece.number == known.next => Ok(true),
            Some(known) if known.id == id => {
                Err(format!("piece {} has no place where {} is next", piece.number, known.next))
            }
            _ if piece.number == 0 => Ok(true),
            _ => Err("its stream has not begun here".to_owned()),
        }
    }
}

/// Stages a piece, durable on return.
///
/// # Errors
/// Why it was not; whoever sends it begins anew.
pub(super) async fn take<L: Log>(
    mut progress: OwnedMutexGuard<Progress>,
    log: &L,
    piece: Piece,
) -> Result<(), String> {
    let Piece { vote, stream, number, next_offset, complete, batches, .. } = piece.clone();
    if piece.number == u64::MAX {
        return Err("no stream has so many pieces".to_owned());
    }
    if !progress.admit(&piece)? {
        return Ok(());
    }
    // Whatever goes wrong from here on, nobody knows what is staged.
    progress.stream = None;
    let complete = complete.then_some(next_offset);
    let staged = durably(|done| log.stage(number == 0, batches, complete, done)).await;
    staged.map_err(|error| error.to_string())?;
    let id = (vote.leader_id().term, stream);
    progress.stream = Some(Stream { id, next_offset, next: number + 1 });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(term: u64, stream: u64, number: u64) -> Piece {
        Piece {
            vote: Vote::new_committed(term, 1),
            stream,
            number,
            last: LogId::new_term_index(1, 9),
            next_offset: Offset(40),
            complete: false,
            batches: Vec::new(),
        }
    }

    fn at(term: u64, stream: u64, next: u64) -> Progress {
        Progress { stream: Some(Stream { id: (term, stream), next_offset: Offset(40), next }) }
    }

    #[test]
    fn a_stream_is_taken_in_order_and_a_piece_once() {
        assert_eq!(Progress::default().admit(&piece(3, 1, 0)), Ok(true));
        assert!(Progress::default().admit(&piece(3, 1, 1)).is_err(), "it has not begun");
        let progress = at(3, 1, 5);
        assert_eq!(progress.admit(&piece(3, 1, 5)), Ok(true));
        assert_eq!(progress.admit(&piece(3, 1, 4)), Ok(false), "it is staged already");
        for number in [0, 3, 6] {
            assert!(progress.admit(&piece(3, 1, number)).is_err(), "{number} has no place");
        }
        let elsewhere = Piece { next_offset: Offset(41), ..piece(3, 1, 5) };
        assert!(progress.admit(&elsewhere).is_err());
    }

    #[test]
    fn a_stream_gives_way_only_to_a_later_one() {
        let progress = at(3, 7, 5);
        assert_eq!(progress.admit(&piece(3, 8, 0)), Ok(true));
        assert_eq!(progress.admit(&piece(4, 0, 0)), Ok(true), "a later leader counts anew");
        assert!(progress.admit(&piece(4, 0, 1)).is_err());
        assert!(progress.admit(&piece(3, 6, 0)).is_err(), "it was sent before, and came late");
        assert!(progress.admit(&piece(2, 9, 0)).is_err());
    }
}
