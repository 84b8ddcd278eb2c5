//! Which partition a record goes to: the same as Kafka's own clients choose, so that they mix.

/// Kafka's 32-bit murmur2, as its Java client applies it to keys (seed 0x9747b28c).
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len() & 0xffff_ffff).expect("masked to 32 bits");
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

/// The partition of a keyed record among `count` partitions.
pub fn partition_for_key(key: &[u8], count: u32) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    i32::try_from(positive % count.max(1)).expect("below 2^31")
}

#[cfg(test)]
mod tests {
    use super::{murmur2, partition_for_key};

    /// The values of `UtilsTest.testMurmur2` in Apache Kafka, which every client reproduces.
    #[test]
    fn murmur2_agrees_with_the_java_client() {
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in cases {
            assert_eq!(murmur2(key.as_bytes()), expected.cast_unsigned(), "{key}");
        }
    }

    #[test]
    fn a_key_stays_in_its_partition_and_within_the_count() {
        for count in 1..50 {
            let partition = partition_for_key(b"some key", count);
            assert!((0..i32::try_from(count).unwrap()).contains(&partition));
            assert_eq!(partition, partition_for_key(b"some key", count));
        }
    }
}
