//! The codecs of record batches: out of what a client sent, and into what a topic wants stored.
//!
//! Invariants:
//! - Out: at most [`DECOMPRESSED_BYTES_MAX`] bytes, however much the compressed bytes claim to be.
//! - In: frames as Kafka's broker writes them, which is what every client reads: gzip; snappy in blocks of
//!   32 KiB with snappy-java's headers; independent lz4 blocks of 64 KiB without checksums; zstd.

use std::borrow::Cow;
use std::io::{self, Read, Write};

/// How a topic's batches are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As the producer compressed them.
    Producer,
    /// Not compressed.
    Uncompressed,
    /// gzip; level 1 to 9, or -1 for the library's default.
    Gzip {
        /// The level.
        level: i32,
    },
    /// Snappy.
    Snappy,
    /// LZ4; level 1 to 17.
    Lz4 {
        /// The level; the library takes those above 12 as 12.
        level: i32,
    },
    /// Zstandard.
    Zstd {
        /// The level, -131072 to 22.
        level: i32,
    },
}

/// What a batch may decompress to.
pub const DECOMPRESSED_BYTES_MAX: u64 = 64 << 20;
/// snappy-java's stream: a magic and two version numbers, then blocks with 4-byte lengths.
pub const XERIAL_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Bytes before the first block of such a stream.
pub const XERIAL_HEADER_BYTES: usize = 16;
const XERIAL_VERSIONS: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// The number of a codec in a batch's attributes; `None` when batches are kept as they come.
pub fn number(compression: Compression) -> Option<u8> {
    match compression {
        Compression::Producer => None,
        Compression::Uncompressed => Some(0),
        Compression::Gzip { .. } => Some(1),
        Compression::Snappy => Some(2),
        Compression::Lz4 { .. } => Some(3),
        Compression::Zstd { .. } => Some(4),
    }
}

/// The plain bytes of a batch's body.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn decompress(codec: u8, body: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    match codec {
        0 => Ok(Cow::Borrowed(body)),
        1 => read(&mut flate2::read::MultiGzDecoder::new(body)),
        2 => snappy(body).map(Cow::Owned),
        3 => read(&mut lz4::Decoder::new(body).map_err(|e| e.to_string())?),
        4 => read(&mut zstd::stream::read::Decoder::with_buffer(body).map_err(|e| e.to_string())?),
        _ => Err(format!("compression codec {codec} is not known")),
    }
}

fn read<'a>(reader: &mut dyn Read) -> Result<Cow<'a, [u8]>, String> {
    let mut bytes = Vec::new();
    let read = reader.take(DECOMPRESSED_BYTES_MAX).read_to_end(&mut bytes);
    let count = read.map_err(|e| format!("the records do not decompress: {e}"))? as u64;
    if count < DECOMPRESSED_BYTES_MAX { Ok(Cow::Owned(bytes)) } else { Err(too_large()) }
}

fn too_large() -> String {
    format!("the records decompress to more than {DECOMPRESSED_BYTES_MAX} bytes")
}

fn snappy(body: &[u8]) -> Result<Vec<u8>, String> {
    if !body.starts_with(XERIAL_MAGIC) {
        return snappy_block(body);
    }
    let torn = || "a snappy block is longer than the records".to_owned();
    let mut blocks = body.get(XERIAL_HEADER_BYTES..).ok_or_else(torn)?;
    let mut bytes = Vec::new();
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| torn())?;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(torn)?;
        bytes.extend(snappy_block(block)?);
        if bytes.len() as u64 >= DECOMPRESSED_BYTES_MAX {
            return Err(too_large());
        }
        blocks = rest;
    }
    Ok(bytes)
}

fn snappy_block(block: &[u8]) -> Result<Vec<u8>, String> {
    let failed = |e: snap::Error| format!("the records do not decompress: {e}");
    if snap::raw::decompress_len(block).map_err(failed)? as u64 >= DECOMPRESSED_BYTES_MAX {
        return Err(too_large());
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(failed)
}

/// Appends `plain` to `out` in the codec that a topic wants; kept as it is for
/// [`Compression::Producer`], too.
///
/// # Errors
/// Of the codec's library: out of memory, or a level that it does not know.
pub fn compress(to: Compression, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    match to {
        Compression::Producer | Compression::Uncompressed => out.extend_from_slice(plain),
        Compression::Gzip { level } => {
            let level = u32::try_from(level)
                .map_or(flate2::Compression::default(), flate2::Compression::new);
            let mut encoder = flate2::write::GzEncoder::new(&mut *out, level);
            encoder.write_all(plain)?;
            encoder.finish()?;
        }
        Compression::Snappy => compress_snappy(plain, out)?,
        Compression::Lz4 { level } => {
            let mut encoder = lz4::EncoderBuilder::new()
                .level(u32::try_from(level).unwrap_or_default())
                .block_size(lz4::BlockSize::Max64KB)
                .block_mode(lz4::BlockMode::Independent)
                .block_checksum(lz4::liblz4::BlockChecksum::NoBlockChecksum)
                .checksum(lz4::ContentChecksum::NoChecksum)
                .build(&mut *out)?;
            encoder.write_all(plain)?;
            encoder.finish().1?;
        }
        Compression::Zstd { level } => out.extend(zstd::bulk::compress(plain, level)?),
    }
    Ok(())
}

fn compress_snappy(plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).map_err(io::Error::other)?;
        let length = u32::try_from(packed.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn targets() -> Vec<Compression> {
        let gzip = [-1, 1, 9].map(|level| Compression::Gzip { level });
        let lz4 = [1, 9, 17].map(|level| Compression::Lz4 { level });
        let zstd = [-131_072, 3, 22].map(|level| Compression::Zstd { level });
        let plain = [Compression::Uncompressed, Compression::Snappy];
        [gzip.as_slice(), &lz4, &zstd, &plain].concat()
    }

    fn packed(to: Compression, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(to, plain, &mut out).unwrap();
        out
    }

    #[test]
    fn every_codec_at_every_level_gives_back_what_it_got() {
        let mut plain: Vec<u8> = (0..200_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for length in [0, 1, 100, XERIAL_BLOCK_BYTES, plain.len()] {
            plain.truncate(plain.len().max(length));
            for to in targets() {
                let codec = number(to).unwrap();
                let back = decompress(codec, &packed(to, &plain[..length])).map(Cow::into_owned);
                assert_eq!(back.as_deref(), Ok(&plain[..length]), "{to:?}, {length} bytes");
            }
        }
    }

    #[test]
    fn a_higher_level_packs_tighter() {
        let plain: Vec<u8> =
            (0..50_000_u32).flat_map(|i| (i * i % 977).to_string().into_bytes()).collect();
        for (low, high) in [
            (Compression::Gzip { level: 1 }, Compression::Gzip { level: 9 }),
            (Compression::Lz4 { level: 1 }, Compression::Lz4 { level: 12 }),
            (Compression::Zstd { level: -100 }, Compression::Zstd { level: 19 }),
        ] {
            assert!(packed(low, &plain).len() > packed(high, &plain).len(), "{low:?}");
        }
    }

    #[test]
    fn a_bomb_is_not_blown_up() {
        let plain = vec![0; usize::try_from(DECOMPRESSED_BYTES_MAX).unwrap() + 1];
        for to in targets() {
            let codec = number(to).unwrap();
            if matches!(codec, 1 | 3 | 4) {
                let bomb = packed(to, &plain);
                let refused = decompress(codec, &bomb).unwrap_err();
                assert!(refused.contains("more than"), "{to:?}: {refused}");
            }
        }
        let lie = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(decompress(2, &lie).unwrap_err().contains("more than"));
    }

    #[test]
    fn frames_are_those_of_kafkas_broker() {
        let snappy = packed(Compression::Snappy, b"abc");
        assert!(snappy.starts_with(XERIAL_MAGIC) && snappy[8..16] == *XERIAL_VERSIONS);
        // Version 1, independent blocks, no checksums, no size; blocks of 64 KiB.
        let lz4 = packed(Compression::Lz4 { level: 9 }, b"abc");
        assert_eq!(lz4[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            codec in 0_u8..8,
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = decompress(codec, &bytes);
        }
    }
}
