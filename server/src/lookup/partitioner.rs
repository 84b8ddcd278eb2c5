//! Which partition a key is in: where Kafka's own producers put it, by murmur2.
//!
//! Not here: the same for clients (`client/src/partitioner.rs`), which knows nothing of the server.

/// The partition of a key among `count`.
pub(crate) fn partition_for_key(key: &[u8], count: usize) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    i32::try_from(positive % count).unwrap_or(0)
}

/// Kafka's 32-bit murmur2 (`Utils.murmur2`, seed 0x9747b28c).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    // Lengths count modulo 2^32, as in Java.
    let length = u32::try_from(data.len() & 0xffff_ffff).unwrap_or(0);
    let mut hash = 0x9747_b28c ^ length;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (position, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * position);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::partition_for_key;

    proptest! {
        #[test]
        fn a_key_is_where_clients_put_it(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            count in 1_u32..1_000,
        ) {
            let expected = jangbu_client::partition_for_key(&key, count);
            prop_assert_eq!(partition_for_key(&key, count as usize), expected);
        }
    }
}
