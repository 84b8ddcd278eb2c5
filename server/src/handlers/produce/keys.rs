//! Which records of a batch have no key: a compacted topic could never take them away, and does not take them in.
//!
//! Not here: whether the records fill the batch as its header says (the engine's `records.rs`), what the client is
//! told (`check.rs`).

use jangbu_engine::records::zigzag_varint;

/// Records without a key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keyless {
    /// The numbers of the first ones.
    pub(super) first: Vec<i32>,
    /// How many there are.
    pub(super) count: usize,
}

/// Looks for records without a key among the `count` plain ones of a batch, and names `named_max` of them.
///
/// # Errors
/// What does not fit, as a sentence for the client.
pub(super) fn keyless(mut body: &[u8], count: i32, named_max: usize) -> Result<Keyless, String> {
    let mut found = Keyless::default();
    for index in 0..count {
        let (has_key, rest) = next(body).ok_or_else(|| format!("record {index} is torn"))?;
        if !has_key {
            found.count += 1;
            if found.first.len() < named_max {
                found.first.push(index);
            }
        }
        body = rest;
    }
    Ok(found)
}

/// Whether the first record has a key, and what follows it. A record: length, attributes (a byte), timestamp delta,
/// offset delta, the key's length, which is -1 when there is none, and so on.
fn next(body: &[u8]) -> Option<(bool, &[u8])> {
    let (length, rest) = zigzag_varint(body, 5)?;
    let (record, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let (_, after) = zigzag_varint(record.get(1..)?, 10)?;
    let (_, after) = zigzag_varint(after, 10)?;
    let (key_bytes, after) = zigzag_varint(after, 5)?;
    match usize::try_from(key_bytes) {
        Ok(key_bytes) => (key_bytes <= after.len()).then_some((true, rest)),
        Err(_) => Some((false, rest)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Length, attributes, both deltas 0, no key, a value of no bytes, no headers.
    const WITHOUT: [u8; 7] = [12, 0, 0, 0, 1, 0, 0];
    /// The same with a key of one byte, and with an empty one.
    const WITH: [u8; 8] = [14, 0, 0, 0, 2, b'k', 0, 0];
    const EMPTY: [u8; 7] = [12, 0, 0, 0, 0, 0, 0];

    #[test]
    fn records_without_a_key_are_named_and_an_empty_key_is_one() {
        let body = [&WITHOUT[..], &WITH, &EMPTY, &WITHOUT, &WITHOUT].concat();
        let found = keyless(&body, 5, 2).unwrap();
        assert_eq!(found, Keyless { first: vec![0, 3], count: 3 });
        assert_eq!(keyless(&WITH, 1, 2), Ok(Keyless::default()));
    }

    #[test]
    fn records_that_end_before_their_key_are_torn() {
        assert!(keyless(&WITH, 2, 9).is_err(), "a record missing");
        assert!(keyless(&[6, 0, 0, 0], 1, 9).is_err(), "no room for the key's length");
        assert!(keyless(&[10, 0, 0, 0, 4, b'k'], 1, 9).is_err(), "a key beyond the record");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            count in any::<i32>(),
        ) {
            let _ = keyless(&bytes, count, 3);
        }
    }
}
