//! openraft's messages as those of `proto/peer.proto` and back.
//!
//! Invariants:
//! - Bytes from the network are never trusted: openraft takes it for granted that entries follow each other, that
//!   terms do not fall and that only an elected leader sends entries, and ends the group or the process where they
//!   do not. So all of it is checked here.
//! - A payload that was stored on one node is stored as the same bytes on another.
//!
//! Not here: frames (`peer`), who is asked (`network.rs`) and who answers (`router.rs`).

mod stage;

use bytes::Bytes;
use jangbu_engine::{EntryKind, batch};
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};

use super::ReplicaId;
use super::codec;
use super::types::{Entry, LogId, Payload, SnapshotMeta, StoredMembership, Types, Vote};
use crate::proto::peer as proto;

pub(super) use self::stage::{piece, staged, to_stage, to_staged};

/// The largest term: Kafka's leader epoch is an `i32`.
const TERM_MAX: u64 = i32::MAX.cast_unsigned() as u64;

/// Which replica of which group a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct To {
    pub(super) group: u32,
    pub(super) replica: ReplicaId,
}

pub(super) fn to_log_id(id: &LogId) -> proto::LogId {
    proto::LogId { term: id.committed_leader_id().term, index: id.index() }
}

fn optional(id: Option<&LogId>) -> Option<proto::LogId> {
    id.map(to_log_id)
}

fn log_id(id: proto::LogId) -> Result<LogId, String> {
    if id.term > TERM_MAX || id.index == u64::MAX {
        return Err(format!("no log can have an entry {}-{}", id.term, id.index));
    }
    Ok(LogId::new_term_index(id.term, id.index))
}

fn optional_log_id(id: Option<proto::LogId>) -> Result<Option<LogId>, String> {
    id.map(log_id).transpose()
}

pub(super) fn to_vote(vote: &Vote) -> proto::RaftVote {
    let leader = vote.leader_id();
    proto::RaftVote { term: leader.term, replica: leader.voted_for, committed: vote.is_committed() }
}

fn vote(vote: Option<proto::RaftVote>) -> Result<Vote, String> {
    let vote = vote.ok_or("a message without a vote")?;
    if vote.term > TERM_MAX {
        return Err(format!("there is no term {}", vote.term));
    }
    Ok(if vote.committed {
        Vote::new_committed(vote.term, vote.replica)
    } else {
        Vote::new(vote.term, vote.replica)
    })
}

/// The vote of a replica that was elected: only such a one may change logs.
fn leaders_vote(given: Option<proto::RaftVote>) -> Result<Vote, String> {
    let vote = vote(given)?;
    if vote.is_committed() { Ok(vote) } else { Err(format!("{vote} was not elected")) }
}

fn kind_number(kind: EntryKind) -> u32 {
    match kind {
        EntryKind::Batch => 1,
        EntryKind::Blank => 2,
        EntryKind::Membership => 3,
        EntryKind::Command => 4,
    }
}

fn to_entry(entry: Entry) -> (proto::Entry, Bytes) {
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(payload) => (payload.kind, payload.bytes),
        EntryPayload::Membership(m) => (EntryKind::Membership, codec::encode_membership(&m)),
    };
    let id = to_log_id(&entry.log_id);
    let entry = proto::Entry {
        term: id.term,
        index: id.index,
        kind: kind_number(kind),
        // A payload of 4 GiB would not have been taken in.
        payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
    };
    (entry, payload)
}

fn entry(entry: proto::Entry, payload: Bytes) -> Result<Entry, String> {
    if usize::try_from(entry.payload_bytes) != Ok(payload.len()) {
        return Err(format!("entry {} has a payload of another size", entry.index));
    }
    let normal = |kind| EntryPayload::Normal(Payload::new(kind, payload.clone()));
    let decoded = match entry.kind {
        1 => batch::verify(&payload).map(|_| normal(EntryKind::Batch)).map_err(|e| e.to_string()),
        2 if payload.is_empty() => Ok(EntryPayload::Blank),
        3 => codec::decode_membership(&payload)
            .map(EntryPayload::Membership)
            .map_err(|e| e.to_string()),
        4 => Ok(normal(EntryKind::Command)),
        kind => Err(format!("no entry has kind {kind} and such a payload")),
    };
    let payload = decoded.map_err(|why| format!("entry {}: {why}", entry.index))?;
    let log_id = log_id(proto::LogId { term: entry.term, index: entry.index })?;
    Ok(Entry { log_id, payload })
}

/// The entries of an append, each behind the one before it and none of a later term than `term`.
fn entries(
    sent: Vec<proto::Entry>,
    payloads: Vec<Bytes>,
    previous: Option<&LogId>,
    term: u64,
) -> Result<Vec<Entry>, String> {
    if sent.len() != payloads.len() {
        return Err(format!("{} entries with {} payloads", sent.len(), payloads.len()));
    }
    let mut last = previous.map(to_log_id);
    let mut entries = Vec::with_capacity(sent.len());
    for (next, payload) in sent.into_iter().zip(payloads) {
        let (term_min, index) = last.map_or((0, 0), |last| (last.term, last.index + 1));
        if next.index != index || next.term < term_min || next.term > term {
            return Err(format!("entry {}-{} cannot follow {last:?}", next.term, next.index));
        }
        last = Some(proto::LogId { term: next.term, index });
        entries.push(entry(next, payload)?);
    }
    Ok(entries)
}

pub(super) fn to_append(
    to: To,
    request: AppendEntriesRequest<Types>,
) -> (proto::Append, Vec<Bytes>) {
    let (entries, payloads) = request.entries.into_iter().map(to_entry).unzip();
    let append = proto::Append {
        group: to.group,
        replica: to.replica.0,
        vote: Some(to_vote(&request.vote)),
        previous: optional(request.prev_log_id.as_ref()),
        committed: optional(request.leader_commit.as_ref()),
        entries,
    };
    (append, payloads)
}

pub(super) fn append(
    sent: proto::Append,
    payloads: Vec<Bytes>,
) -> Result<AppendEntriesRequest<Types>, String> {
    let vote = leaders_vote(sent.vote)?;
    let prev_log_id = optional_log_id(sent.previous)?;
    let leader_commit = optional_log_id(sent.committed)?;
    let term = vote.leader_id().term;
    let known = [&prev_log_id, &leader_commit];
    if known.into_iter().flatten().any(|id| id.committed_leader_id().term > term) {
        return Err(format!("the leader of term {term} knows entries of a later one"));
    }
    let entries = entries(sent.entries, payloads, prev_log_id.as_ref(), term)?;
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub(super) fn to_appended(result: StreamAppendResult<Types>) -> proto::Appended {
    let result_is = |result: proto::appended::Result| i32::from(result);
    match result {
        Ok(matching) => proto::Appended {
            result: result_is(proto::appended::Result::Success),
            matching: optional(matching.as_ref()),
            vote: None,
        },
        Err(StreamAppendError::Conflict(id)) => proto::Appended {
            result: result_is(proto::appended::Result::Conflict),
            matching: Some(to_log_id(&id)),
            vote: None,
        },
        Err(StreamAppendError::HigherVote(vote)) => proto::Appended {
            result: result_is(proto::appended::Result::HigherVote),
            matching: None,
            vote: Some(to_vote(&vote)),
        },
    }
}

/// What an append of `previous..=last` was answered. Nobody may claim to hold more than was sent.
pub(super) fn appended(
    answer: proto::Appended,
    previous: Option<LogId>,
    last: Option<LogId>,
) -> Result<StreamAppendResult<Types>, String> {
    match proto::appended::Result::try_from(answer.result) {
        Ok(proto::appended::Result::Success | proto::appended::Result::Partial) => {
            let matching = optional_log_id(answer.matching)?;
            if matching > last {
                return Err(format!("{matching:?} is said to match after {last:?} was sent"));
            }
            Ok(Ok(matching))
        }
        Ok(proto::appended::Result::Conflict) => {
            let previous = previous.ok_or("the beginning of a log is in conflict with nothing")?;
            Ok(Err(StreamAppendError::Conflict(previous)))
        }
        Ok(proto::appended::Result::HigherVote) => {
            Ok(Err(StreamAppendError::HigherVote(vote(answer.vote)?)))
        }
        Err(_) => Err(format!("an append is not answered with {}", answer.result)),
    }
}

pub(super) fn to_vote_request(to: To, request: &VoteRequest<Types>) -> proto::Vote {
    proto::Vote {
        group: to.group,
        replica: to.replica.0,
        vote: Some(to_vote(&request.vote)),
        last: optional(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(super) fn vote_request(sent: proto::Vote) -> Result<VoteRequest<Types>, String> {
    let vote = vote(sent.vote)?;
    if vote.is_committed() {
        return Err(format!("{vote} asks for votes and was elected before"));
    }
    let mut request = VoteRequest::new(vote, optional_log_id(sent.last)?);
    request.leadership_transfer = sent.leadership_transfer;
    Ok(request)
}

pub(super) fn to_voted(response: &VoteResponse<Types>) -> proto::Voted {
    proto::Voted {
        vote: Some(to_vote(&response.vote)),
        granted: response.vote_granted,
        last: optional(response.last_log_id.as_ref()),
    }
}

pub(super) fn voted(answer: proto::Voted) -> Result<VoteResponse<Types>, String> {
    Ok(VoteResponse::new(vote(answer.vote)?, optional_log_id(answer.last)?, answer.granted))
}

pub(super) fn to_snapshot(
    to: To,
    vote: &Vote,
    meta: &SnapshotMeta,
    data: Bytes,
    staged: bool,
) -> proto::Snapshot {
    let membership = &meta.last_membership;
    proto::Snapshot {
        group: to.group,
        replica: to.replica.0,
        vote: Some(to_vote(vote)),
        last: optional(meta.last_log_id.as_ref()),
        membership_id: optional(membership.log_id().as_ref()),
        membership: codec::encode_membership(membership.membership()),
        data,
        staged,
    }
}

/// A snapshot, with the vote of the leader that sends it.
pub(super) fn snapshot(sent: proto::Snapshot) -> Result<(Vote, SnapshotMeta, Bytes), String> {
    let vote = leaders_vote(sent.vote)?;
    let last = log_id(sent.last.ok_or("a snapshot of nothing")?)?;
    let membership_id = optional_log_id(sent.membership_id)?;
    if last.committed_leader_id().term > vote.leader_id().term || membership_id > Some(last) {
        return Err(format!("{vote} cannot send a snapshot up to {last}"));
    }
    let membership = codec::decode_membership(&sent.membership).map_err(|e| e.to_string())?;
    let last_membership = StoredMembership::new(membership_id, membership);
    Ok((vote, SnapshotMeta { last_log_id: Some(last), last_membership }, sent.data))
}

pub(super) fn installed(answer: proto::Installed) -> Result<SnapshotResponse<Types>, String> {
    vote(answer.vote).map(SnapshotResponse::new)
}

pub(super) fn to_transfer(to: To, request: &TransferLeaderRequest<Types>) -> proto::Transfer {
    proto::Transfer {
        group: to.group,
        replica: to.replica.0,
        vote: Some(to_vote(request.from_leader())),
        to: *request.to_node_id(),
        last: optional(request.last_log_id()),
    }
}

pub(super) fn transfer(sent: proto::Transfer) -> Result<TransferLeaderRequest<Types>, String> {
    let vote = leaders_vote(sent.vote)?;
    Ok(TransferLeaderRequest::new(vote, sent.to, optional_log_id(sent.last)?))
}

#[cfg(test)]
mod tests;
