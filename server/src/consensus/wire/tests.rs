//! A message is what was sent, or an error: nothing that openraft takes for granted reaches it unchecked.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_compose, prop_oneof, proptest,
};
use prost::Message;

use super::super::tests::batch;
use super::super::types::Membership;
use super::*;

const TO: To = To { group: 3, replica: ReplicaId(0x2_0000_0001) };

fn payloads() -> impl Strategy<Value = EntryPayload<Payload, u64, ()>> {
    let nodes = prop::collection::btree_set(1..9_u64, 1..4);
    let membership = nodes.prop_map(|ids: BTreeSet<u64>| {
        let nodes: BTreeMap<u64, ()> = ids.iter().map(|id| (*id, ())).collect();
        EntryPayload::Membership(Membership::new(vec![ids], nodes).unwrap())
    });
    let command = prop::collection::vec(any::<u8>(), 0..20)
        .prop_map(|bytes| EntryPayload::Normal(Payload::new(EntryKind::Command, bytes.into())));
    let batch = (1..5, any::<u8>())
        .prop_map(|(n, fill)| EntryPayload::Normal(Payload::new(EntryKind::Batch, batch(n, fill))));
    prop_oneof![Just(EntryPayload::Blank), membership, command, batch]
}

prop_compose! {
    fn appends()(
        previous in prop::option::of((0..5_u64, 0..1_000_u64)),
        steps in prop::collection::vec((0..3_u64, payloads()), 0..8),
        committed in prop::option::of(0..2_000_u64),
    ) -> AppendEntriesRequest<Types> {
        let (mut term, mut index) = previous.map_or((0, 0), |(term, index)| (term, index + 1));
        let prev_log_id = previous.map(|(term, index)| LogId::new_term_index(term, index));
        let mut entries = Vec::new();
        for (step, payload) in steps {
            term += step;
            entries.push(Entry { log_id: LogId::new_term_index(term, index), payload });
            index += 1;
        }
        let leader_commit = committed.map(|index| LogId::new_term_index(term, index));
        AppendEntriesRequest { vote: Vote::new_committed(term, 7), prev_log_id, entries, leader_commit }
    }
}

proptest! {
    #[test]
    fn an_append_arrives_as_it_was_sent(request in appends()) {
        let (sent, payloads) = to_append(TO, request.clone());
        prop_assert_eq!((sent.group, sent.replica), (TO.group, TO.replica.0));
        let arrived = append(sent, payloads).unwrap();
        prop_assert_eq!(format!("{request:?}"), format!("{arrived:?}"));
    }

    #[test]
    fn an_append_that_was_tampered_with_is_refused_or_harmless(
        request in appends(), at in any::<prop::sample::Index>(), byte: u8,
    ) {
        let (sent, payloads) = to_append(TO, request);
        let mut bytes = sent.encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let Ok(sent) = proto::Append::decode(&*bytes) else { return Ok(()) };
        let Ok(arrived) = append(sent, payloads) else { return Ok(()) };
        let term = arrived.vote.leader_id().term;
        let mut before = arrived.prev_log_id;
        for entry in &arrived.entries {
            prop_assert_eq!(entry.log_id.index, before.map_or(0, |id| id.index + 1));
            prop_assert!(before <= Some(entry.log_id));
            prop_assert!(entry.log_id.committed_leader_id().term <= term);
            before = Some(entry.log_id);
        }
        prop_assert!(arrived.vote.is_committed());
    }

    #[test]
    fn a_batch_that_was_damaged_is_refused(at in any::<prop::sample::Index>(), bit in 0..8) {
        let payload = batch(3, 5);
        // Offset and epoch lie outside the checksum and are written anew on every replica.
        let at = 16 + at.index(payload.len() - 16);
        let mut damaged = payload.to_vec();
        damaged[at] ^= 1_u8 << bit;
        let payload_bytes = u32::try_from(damaged.len()).unwrap();
        let sent = proto::Entry { term: 1, index: 1, kind: 1, payload_bytes };
        prop_assert!(entry(sent, damaged.into()).is_err());
    }

    #[test]
    fn any_answer_is_read_or_refused(result: i32, term: u64, index: u64, last in 0..9_u64) {
        let matching = Some(proto::LogId { term, index });
        let vote = Some(proto::RaftVote { term, replica: index, committed: true });
        let answer = proto::Appended { result, matching, vote };
        let last = Some(LogId::new_term_index(3, last));
        if let Ok(Ok(matching)) = appended(answer, None, last) {
            prop_assert!(matching <= last, "it claims to hold more than was sent");
        }
    }
}

#[test]
fn only_the_elected_send_entries_and_only_others_ask_for_votes() {
    let vote = |committed| Some(proto::RaftVote { term: 3, replica: 7, committed });
    let append_of = |committed| proto::Append { vote: vote(committed), ..proto::Append::default() };
    assert!(append(append_of(true), Vec::new()).is_ok());
    assert!(append(append_of(false), Vec::new()).is_err());
    assert!(append(proto::Append::default(), Vec::new()).is_err(), "no vote at all");
    let request_of = |committed| proto::Vote { vote: vote(committed), ..proto::Vote::default() };
    assert!(vote_request(request_of(false)).is_ok());
    assert!(vote_request(request_of(true)).is_err());
}

#[test]
fn a_snapshot_is_not_newer_than_its_leader() {
    let id = |term, index| Some(proto::LogId { term, index });
    let snapshot_of = |last, membership_id| {
        let vote = Some(proto::RaftVote { term: 3, replica: 7, committed: true });
        snapshot(proto::Snapshot { vote, last, membership_id, ..proto::Snapshot::default() })
    };
    assert!(snapshot_of(id(3, 9), id(1, 4)).is_ok());
    assert!(snapshot_of(id(4, 9), id(1, 4)).is_err(), "of a later term than its leader");
    assert!(snapshot_of(id(3, 9), id(3, 10)).is_err(), "its configuration is newer than it");
    assert!(snapshot_of(None, None).is_err());
}
