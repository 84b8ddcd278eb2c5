//! Every byte string is either one consistent batch or an error, never a panic.

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::{HEADER_BYTES, Header, Invalid, sample, stamp, verify};
use crate::Offset;

/// A valid batch of `count` records.
pub(crate) fn batch(count: i32, records_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; HEADER_BYTES + records_bytes];
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[35..43].copy_from_slice(&77i64.to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn a_stamped_batch_keeps_its_checksum() {
    let mut bytes = batch(3, 30);
    stamp(&mut bytes, Offset(1 << 40), 9);
    let header = verify(&bytes).unwrap();
    assert_eq!(header.base_offset, Offset(1 << 40));
    assert_eq!(header.leader_epoch, 9);
    assert_eq!(header.max_timestamp, 77);
    assert_eq!(header.offset_count(), 3);
}

#[test]
fn a_batch_that_lies_about_its_length_is_refused() {
    let mut long = batch(1, 20);
    long.push(0);
    assert!(matches!(Header::parse(&long), Err(Invalid::Length { .. })));
    assert_eq!(Header::parse_first(&long).unwrap().batch_bytes, long.len() - 1);
    let cut = batch(1, 20);
    assert!(matches!(Header::parse(&cut[..cut.len() - 1]), Err(Invalid::Length { .. })));
    for length in [i32::MIN, -1, 0, 48, i32::MAX] {
        let mut lie = batch(1, 20);
        lie[8..12].copy_from_slice(&length.to_be_bytes());
        assert!(matches!(Header::parse_first(&lie), Err(Invalid::Length { .. })), "{length}");
    }
}

#[test]
fn a_batch_that_lies_about_its_count_is_refused() {
    for (count, delta) in [(0, -1), (0, 0), (-1, -2), (2, 0), (1, 1), (i32::MIN, i32::MAX)] {
        let mut lie = batch(1, 20);
        lie[57..61].copy_from_slice(&i32::to_be_bytes(count));
        lie[23..27].copy_from_slice(&i32::to_be_bytes(delta));
        assert!(matches!(Header::parse(&lie), Err(Invalid::RecordCount { .. })), "{count} {delta}");
    }
    assert!(Header::parse(&batch(4, 28)).is_ok());
}

#[test]
fn an_old_magic_is_refused() {
    let mut old = batch(1, 20);
    old[16] = 1;
    assert_eq!(Header::parse(&old), Err(Invalid::Magic(1)));
}

#[test]
fn a_flipped_bit_in_the_covered_bytes_fails_the_checksum() {
    let good = batch(1, 20);
    for bit in 21 * 8..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&bad).is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(header) = Header::parse(&bytes) {
            prop_assert_eq!(header.batch_bytes, bytes.len());
        }
    }

    #[test]
    fn mutated_batches_never_panic_and_keep_their_bounds(
        count in 1i32..50,
        edits in proptest::collection::vec((0usize..HEADER_BYTES + 400, any::<u8>()), 0..6),
        cut in 0usize..500,
    ) {
        let mut bytes = batch(count, 400);
        for (at, value) in edits {
            bytes[at] = value;
        }
        bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(250)));
        if let Ok(header) = Header::parse_first(&bytes) {
            prop_assert!(header.batch_bytes <= bytes.len());
            prop_assert!(header.batch_bytes >= HEADER_BYTES);
            prop_assert!(header.record_count >= 1);
            let _ = header.verify_crc(&bytes);
        }
    }
}

#[test]
fn a_sample_is_a_valid_batch_of_one_record() {
    for bytes in [HEADER_BYTES, HEADER_BYTES + 1, 900 << 10] {
        let batch = sample(bytes);
        assert_eq!(batch.len(), bytes);
        assert_eq!(verify(&batch).unwrap().offset_count(), 1);
    }
}
