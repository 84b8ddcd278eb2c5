//! The messages that bring what was settled below a snapshot: pieces of batches, and what a replica says to one.
//!
//! Invariant: what is staged is whole batches whose checksums fit, each behind the one before it and below the snapshot.
//! A stored batch may have fewer records than offsets, or none.

use bytes::Bytes;
use jangbu_engine::Offset;
use jangbu_engine::batch::{Header, LENGTH_OVERHEAD};

use super::{leaders_vote, log_id, to_log_id, to_vote, vote};
use crate::consensus::staging::{Piece, StageAnswer};
use crate::consensus::wire::To;
use crate::proto::peer as proto;

pub(in crate::consensus) fn to_stage(to: To, piece: &Piece) -> proto::Stage {
    let bytes: usize = piece.batches.iter().map(Bytes::len).sum();
    proto::Stage {
        group: to.group,
        replica: to.replica.0,
        vote: Some(to_vote(&piece.vote)),
        stream: piece.stream,
        piece: piece.number,
        last: Some(to_log_id(&piece.last)),
        next_offset: piece.next_offset.0,
        complete: piece.complete,
        // A frame that large is not sent.
        payload_bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
    }
}

pub(in crate::consensus) fn piece(
    sent: &proto::Stage,
    payloads: Vec<Bytes>,
) -> Result<Piece, String> {
    let vote = leaders_vote(sent.vote)?;
    let last = log_id(sent.last.ok_or("batches below no snapshot")?)?;
    if last.committed_leader_id().term > vote.leader_id().term || sent.next_offset < 0 {
        return Err(format!("{vote} cannot send a snapshot up to {last}"));
    }
    let next_offset = Offset(sent.next_offset);
    let batches = batches(payloads, next_offset)?;
    let (stream, number, complete) = (sent.stream, sent.piece, sent.complete);
    Ok(Piece { vote, stream, number, last, next_offset, complete, batches })
}

/// Cuts batches apart that lie back to back.
fn batches(payloads: Vec<Bytes>, until: Offset) -> Result<Vec<Bytes>, String> {
    let mut found = Vec::new();
    let mut end = Offset(0);
    for mut rest in payloads {
        while !rest.is_empty() {
            let batch = first(&mut rest).ok_or("bytes that are no batch")?;
            let header = Header::parse_stored(&batch).map_err(|e| e.to_string())?;
            header.verify_crc(&batch).map_err(|e| e.to_string())?;
            let next = header.base_offset.0.checked_add(header.offset_count().into());
            let next = next.ok_or("a batch behind all offsets")?;
            if header.base_offset < end || next > until.0 {
                return Err(format!("a batch at {} is out of place", header.base_offset));
            }
            end = Offset(next);
            found.push(batch);
        }
    }
    Ok(found)
}

/// The bytes of the first batch, by the length that it states.
fn first(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest.get(8..LENGTH_OVERHEAD)?.try_into().ok()?;
    let length = usize::try_from(i32::from_be_bytes(length)).ok()?.checked_add(LENGTH_OVERHEAD)?;
    (length <= rest.len()).then(|| rest.split_to(length))
}

pub(in crate::consensus) fn to_staged(answer: &StageAnswer) -> proto::Staged {
    proto::Staged { vote: Some(to_vote(&answer.vote)), held: answer.held }
}

pub(in crate::consensus) fn staged(answer: proto::Staged) -> Result<StageAnswer, String> {
    Ok(StageAnswer { vote: vote(answer.vote)?, held: answer.held })
}
