//! Producer state from bytes that may be anything, and from batches with any numbers.

use jangbu_engine::batch::HEADER_BYTES;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::Index;

use prost::Message;

use super::*;

/// Of few producers, with sequences that may be anything.
fn batch() -> impl Strategy<Value = Header> {
    let sequence = proptest::prop_oneof![0..10_i32, i32::MAX - 5..=i32::MAX, any::<i32>()];
    (0..3_i64, any::<i16>(), sequence, 0..i32::MAX, any::<i64>()).prop_map(
        |(producer_id, producer_epoch, base_sequence, last_offset_delta, max_timestamp)| Header {
            base_offset: Offset(0),
            batch_bytes: HEADER_BYTES,
            leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta,
            base_timestamp: 0,
            max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: last_offset_delta.saturating_add(1),
        },
    )
}

fn recorded(batches: &[Header]) -> Producers {
    let mut producers = Producers::default();
    for (batch, offset) in batches.iter().zip(0..) {
        producers.record(batch, Offset(offset));
    }
    producers
}

fn decoded(bytes: &[u8]) -> Result<Producers, String> {
    let stored = proto::Checkpoint::decode(bytes).map_err(|e| e.to_string())?;
    Producers::decode(stored.producers)
}

fn encoded(producers: &Producers) -> Vec<u8> {
    proto::Checkpoint { producers: producers.encode(), log_start: 0 }.encode_to_vec()
}

/// The bounds hold, and go on holding whatever comes.
fn assert_sound(mut producers: Producers, batches: &[Header]) {
    let stored = producers.by_id.values().flat_map(|p| &p.batches);
    let last = stored.map(|batch| batch.base_offset.0).max().unwrap_or(0);
    for (batch, at) in batches.iter().zip(1..) {
        let _ = producers.check(batch);
        producers.record(batch, Offset(last.saturating_add(at)));
        let verdict = producers.check_duplicate(batch);
        // At the end of all offsets nothing can be told from what is applied again.
        let known = last > i64::MAX - 100 || matches!(verdict, Verdict::Duplicate(_));
        assert!(known, "what was recorded is known");
    }
    let most = producers.by_id.values().map(|p| p.batches.len()).max();
    assert!(most.is_none_or(|most| most <= BATCHES_MAX), "{most:?} batches of one producer");
}

#[test]
fn stored_producers_with_too_many_batches_keep_the_newest() {
    let batch = |sequence| proto::Batch {
        first_sequence: sequence,
        last_sequence: sequence,
        base_offset: i64::from(sequence),
        timestamp: 0,
    };
    let batches = (0..9).map(batch).collect();
    let producer = proto::Producer { id: 1, epoch: 0, batches, last_timestamp: 0 };
    let producers = Producers::decode(vec![producer]).unwrap();
    let kept: Vec<_> = producers.by_id[&1].batches.iter().map(|b| b.first_sequence).collect();
    assert_eq!(kept, [4, 5, 6, 7, 8]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in vec(any::<u8>(), 0..200), batches in vec(batch(), 0..20),
    ) {
        if let Ok(producers) = decoded(&bytes) {
            assert_sound(producers, &batches);
        }
    }

    #[test]
    fn what_is_stored_comes_back(batches in vec(batch(), 0..30)) {
        let producers = recorded(&batches);
        prop_assert_eq!(Producers::decode(producers.encode()), Ok(producers));
    }

    #[test]
    fn a_changed_byte_decodes_or_fails(
        before in vec(batch(), 1..10),
        at: Index,
        byte: u8,
        cut: Index,
        after in vec(batch(), 0..20),
    ) {
        let mut bytes = encoded(&recorded(&before));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(producers) = decoded(bytes) {
                assert_sound(producers, &after);
            }
        }
    }

    #[test]
    fn a_sequence_never_leaves_its_range(first in 0..=i32::MAX, steps in 0..=i32::MAX) {
        prop_assert!(sequence_after(first, steps) >= 0);
    }
}
