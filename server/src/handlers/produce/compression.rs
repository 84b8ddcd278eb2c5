//! Whether a compressed batch's body begins, and where that is cheap goes on, as its codec says.
//!
//! Consumers would choke on a body that is something else, and nobody could repair it afterwards. Only
//! frames are looked at, nothing is decompressed. Sources: RFC 1952, RFC 8878, the LZ4 frame format, the
//! snappy format description, and snappy-java's stream header.

use jangbu_engine::records::codec::{XERIAL_HEADER_BYTES, XERIAL_MAGIC};
use jangbu_engine::records::unsigned_varint;

const GZIP: u8 = 1;
const SNAPPY: u8 = 2;
const LZ4: u8 = 3;
const ZSTD: u8 = 4;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 8];
const LZ4_MAGIC: &[u8] = &[0x04, 0x22, 0x4d, 0x18];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Checks the body of a batch with a known codec.
///
/// # Errors
/// What is wrong, as a sentence for the client.
pub(super) fn check(codec: u8, body: &[u8]) -> Result<(), String> {
    let (name, sound) = match codec {
        GZIP => ("gzip", body.starts_with(GZIP_MAGIC)),
        SNAPPY => ("snappy", is_snappy(body)),
        LZ4 => ("lz4", body.starts_with(LZ4_MAGIC)),
        ZSTD => ("zstd", body.starts_with(ZSTD_MAGIC)),
        _ => return Err(format!("compression codec {codec} is not known")),
    };
    if sound { Ok(()) } else { Err(format!("the batch says {name}, but its records are not")) }
}

fn is_snappy(body: &[u8]) -> bool {
    if !body.starts_with(XERIAL_MAGIC) {
        return is_snappy_block(body);
    }
    let Some(mut blocks) = body.get(XERIAL_HEADER_BYTES..) else { return false };
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((block, rest)) = rest.split_at_checked(length) else { return false };
        if !is_snappy_block(block) {
            return false;
        }
        blocks = rest;
    }
    blocks.is_empty()
}

/// Walks the elements of a raw snappy block: they must produce as many bytes as the block says, and
/// copies must not reach behind its start.
fn is_snappy_block(block: &[u8]) -> bool {
    let Some((stated, mut rest)) = unsigned_varint(block, 5) else { return false };
    let mut produced = 0_u64;
    while let Some((&tag, after)) = rest.split_first() {
        let Some((length, offset, after)) = element(tag, after) else { return false };
        if offset.is_some_and(|offset| offset == 0 || offset > produced) {
            return false;
        }
        produced += length;
        rest = after;
    }
    produced == stated
}

/// The bytes an element produces, how far back a copy reaches, and what follows the element.
fn element(tag: u8, rest: &[u8]) -> Option<(u64, Option<u64>, &[u8])> {
    let high = u64::from(tag >> 2);
    let little_endian =
        |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    match tag & 3 {
        0 => {
            let extra = usize::try_from(high.saturating_sub(59)).ok()?;
            let (length, rest) = rest.split_at_checked(extra)?;
            let length = if extra == 0 { high + 1 } else { little_endian(length) + 1 };
            Some((length, None, rest.get(usize::try_from(length).ok()?..)?))
        }
        1 => {
            let (low, rest) = rest.split_at_checked(1)?;
            let offset = u64::from(tag >> 5) << 8 | little_endian(low);
            Some(((high & 7) + 4, Some(offset), rest))
        }
        kind => {
            let (offset, rest) = rest.split_at_checked(if kind == 2 { 2 } else { 4 })?;
            Some((high + 1, Some(little_endian(offset)), rest))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// "abcd" as a literal, then a copy of 4 bytes from 4 back.
    const BLOCK: &[u8] = &[8, 3 << 2, b'a', b'b', b'c', b'd', 1, 4];

    #[test]
    fn a_snappy_block_produces_what_it_says() {
        assert!(is_snappy(BLOCK));
        assert!(!is_snappy(&BLOCK[..6]), "too few bytes produced");
        assert!(
            !is_snappy(&[8, 3 << 2, b'a', b'b', b'c', b'd', 1, 5]),
            "a copy from before the start"
        );
        assert!(!is_snappy(&[]));
    }

    #[test]
    fn snappy_javas_stream_is_walked_block_by_block() {
        let mut stream = XERIAL_MAGIC.to_vec();
        stream.extend([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 8]);
        stream.extend(BLOCK);
        assert!(is_snappy(&stream));
        stream.pop();
        assert!(!is_snappy(&stream));
    }

    #[test]
    fn records_that_are_not_compressed_are_no_codec_at_all() {
        let plain = [0x10, 0, 0, 0, 1, 4, b'o', b'n', 0, 0x10, 0, 0, 2, 1, 4, b't', b'w', 0];
        for codec in [GZIP, SNAPPY, LZ4, ZSTD] {
            assert!(check(codec, &plain).is_err(), "codec {codec}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for codec in 0..8 {
                let _ = check(codec, &bytes);
            }
        }
    }
}
