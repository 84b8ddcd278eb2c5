//! openraft's values as the bytes we persist (`proto/consensus.proto`) and back.
//!
//! Bytes from the disk are never trusted: what does not decode is an error with the value's name.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use jangbu_engine::{Index, LogId as EngineLogId, Offset, Term};
use prost::Message;

use super::boundary::Boundary;
use super::types::{LogId, Membership, StoredMembership, Vote};
use crate::proto::consensus as proto;

/// An `io::Error` that says which stored value does not decode.
pub(crate) fn invalid(what: &str, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("stored {what} does not decode: {why}"))
}

pub(crate) fn engine_log_id(id: &LogId) -> EngineLogId {
    EngineLogId { term: Term(id.committed_leader_id().term), index: Index(id.index()) }
}

fn proto_log_id(id: &LogId) -> proto::LogId {
    proto::LogId { term: id.committed_leader_id().term, index: id.index() }
}

fn from_proto_log_id(id: proto::LogId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    let leader = vote.leader_id();
    proto::Vote { term: leader.term, replica: leader.voted_for, committed: vote.is_committed() }
        .encode_to_vec()
        .into()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> io::Result<Vote> {
    let vote = proto::Vote::decode(bytes).map_err(|e| invalid("vote", e))?;
    Ok(if vote.committed {
        Vote::new_committed(vote.term, vote.replica)
    } else {
        Vote::new(vote.term, vote.replica)
    })
}

pub(crate) fn encode_log_id(id: &LogId) -> Bytes {
    proto_log_id(id).encode_to_vec().into()
}

pub(crate) fn decode_log_id(bytes: &[u8]) -> io::Result<LogId> {
    proto::LogId::decode(bytes).map(from_proto_log_id).map_err(|e| invalid("log id", e))
}

fn proto_membership(membership: &Membership) -> proto::Membership {
    let configs = membership
        .get_joint_config()
        .iter()
        .map(|voters| proto::membership::Voters { replicas: voters.iter().copied().collect() })
        .collect();
    proto::Membership { configs, replicas: membership.nodes().map(|(id, ())| *id).collect() }
}

fn from_proto_membership(membership: proto::Membership) -> io::Result<Membership> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|c| c.replicas.into_iter().collect()).collect();
    if configs.is_empty() {
        return Ok(Membership::default());
    }
    let nodes: BTreeMap<u64, ()> = membership.replicas.into_iter().map(|id| (id, ())).collect();
    Membership::new(configs, nodes).map_err(|e| invalid("membership", e))
}

pub(crate) fn encode_membership(membership: &Membership) -> Bytes {
    proto_membership(membership).encode_to_vec().into()
}

pub(crate) fn decode_membership(bytes: &[u8]) -> io::Result<Membership> {
    let membership = proto::Membership::decode(bytes).map_err(|e| invalid("membership", e))?;
    from_proto_membership(membership)
}

fn proto_stored(membership: &StoredMembership) -> proto::StoredMembership {
    proto::StoredMembership {
        id: membership.log_id().as_ref().map(proto_log_id),
        membership: Some(proto_membership(membership.membership())),
    }
}

fn from_proto_stored(stored: proto::StoredMembership) -> io::Result<StoredMembership> {
    let membership = from_proto_membership(stored.membership.unwrap_or_default())?;
    Ok(StoredMembership::new(stored.id.map(from_proto_log_id), membership))
}

/// A state machine's checkpoint with the position it stands for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checkpoint {
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) next_offset: i64,
    pub(crate) machine: Bytes,
    pub(crate) boundary: Option<Boundary>,
    pub(crate) memberships: Vec<StoredMembership>,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Bytes {
        let boundary = self.boundary.as_ref().map(|boundary| proto::Boundary {
            id: Some(proto_log_id(&boundary.id)),
            next_offset: boundary.next_offset.0,
        });
        proto::Checkpoint {
            applied: self.applied.as_ref().map(proto_log_id),
            membership_id: self.membership.log_id().as_ref().map(proto_log_id),
            membership: Some(proto_membership(self.membership.membership())),
            next_offset: self.next_offset,
            machine: self.machine.to_vec(),
            boundary,
            memberships: self.memberships.iter().map(proto_stored).collect(),
        }
        .encode_to_vec()
        .into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> io::Result<Self> {
        let stored = proto::Checkpoint::decode(bytes).map_err(|e| invalid("checkpoint", e))?;
        let (id, membership) = (stored.membership_id, stored.membership);
        let boundary = stored.boundary.and_then(|boundary| {
            let id = from_proto_log_id(boundary.id?);
            Some(Boundary { id, next_offset: Offset(boundary.next_offset) })
        });
        let memberships: io::Result<_> =
            stored.memberships.into_iter().map(from_proto_stored).collect();
        Ok(Self {
            applied: stored.applied.map(from_proto_log_id),
            membership: from_proto_stored(proto::StoredMembership { id, membership })?,
            next_offset: stored.next_offset,
            machine: stored.machine.into(),
            boundary,
            memberships: memberships?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    fn checkpoint() -> Checkpoint {
        let nodes = BTreeMap::from([(1, ()), (2, ()), (3, ())]);
        let membership = Membership::new(vec![BTreeSet::from([1, 2, 3])], nodes).unwrap();
        let id = LogId::new_term_index(4, 5);
        Checkpoint {
            applied: Some(id),
            membership: StoredMembership::new(Some(id), membership),
            next_offset: 77,
            machine: Bytes::from_static(b"machine"),
            boundary: Some(Boundary { id, next_offset: Offset(70) }),
            memberships: vec![StoredMembership::default()],
        }
    }

    /// One of everything that is stored.
    fn encodings() -> [Bytes; 4] {
        let checkpoint = checkpoint();
        let id = LogId::new_term_index(u64::MAX, 300);
        let membership = encode_membership(checkpoint.membership.membership());
        let vote = encode_vote(&Vote::new_committed(7, 3));
        [checkpoint.encode(), membership, encode_log_id(&id), vote]
    }

    fn decode_all(bytes: &[u8]) {
        let _ = decode_vote(bytes);
        let _ = decode_log_id(bytes);
        let _ = decode_membership(bytes);
        let _ = Checkpoint::decode(bytes);
    }

    #[test]
    fn a_checkpoint_comes_back() {
        let (is, was) = (Checkpoint::decode(&checkpoint().encode()).unwrap(), checkpoint());
        assert_eq!((is.applied, is.next_offset), (was.applied, was.next_offset));
        assert_eq!((is.membership, is.machine), (was.membership, was.machine));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            decode_all(&bytes);
        }

        #[test]
        fn a_changed_value_decodes_or_fails(
            which in 0..4_usize,
            at in any::<proptest::sample::Index>(),
            byte: u8,
            cut in any::<proptest::sample::Index>(),
        ) {
            let mut bytes = encodings()[which].to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            decode_all(&bytes);
            decode_all(&bytes[..cut.index(bytes.len())]);
        }

        #[test]
        fn what_is_stored_comes_back(term: u64, index: u64, replica: u64, committed: bool) {
            let vote =
                if committed { Vote::new_committed(term, replica) } else { Vote::new(term, replica) };
            prop_assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
            let id = LogId::new_term_index(term, index);
            prop_assert_eq!(decode_log_id(&encode_log_id(&id)).unwrap(), id);
        }
    }
}
