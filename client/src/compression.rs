//! The codecs of record batches, by the names and numbers Kafka gives them.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::compression::{Compressor, Decompressor, Gzip, Snappy};

use crate::{Error, Result};

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip: small, slow, known to the oldest clients.
    Gzip,
    /// Snappy: fast, known to the oldest clients.
    Snappy,
    /// LZ4: fast.
    Lz4,
    /// Zstandard: small and still fast.
    Zstd,
}

impl Compression {
    /// Every codec with its name, in the order of its number in a batch's attributes.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::None, "none"),
        (Self::Gzip, "gzip"),
        (Self::Snappy, "snappy"),
        (Self::Lz4, "lz4"),
        (Self::Zstd, "zstd"),
    ];

    /// Its number in a batch's attributes.
    pub(crate) fn attribute(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec that a batch's attributes name, if there is one.
    pub(crate) fn from_attributes(attributes: i16) -> Option<Self> {
        let number = usize::try_from(attributes & 7).expect("three bits are not negative");
        Self::ALL.get(number).map(|(codec, _)| *codec)
    }

    /// Appends `plain`, compressed, to `out`. `level` is the codec's own scale, brought into its range.
    pub(crate) fn compress(
        self,
        plain: &[u8],
        level: Option<i32>,
        out: &mut BytesMut,
    ) -> Result<()> {
        let done = match self {
            Self::None => {
                out.extend_from_slice(plain);
                Ok(())
            }
            Self::Gzip => gzip(plain, level, out),
            Self::Snappy => return snappy(plain, out),
            Self::Lz4 => lz4(plain, level, out),
            Self::Zstd => zstandard(plain, level, out),
        };
        done.map_err(cannot)
    }

    /// The plain bytes of `packed`, or what is wrong with them.
    pub(crate) fn decompress(self, mut packed: Bytes) -> std::result::Result<Bytes, String> {
        let take = |buf: &mut Bytes| Ok(std::mem::take(buf));
        let done = match self {
            Self::None => return Ok(packed),
            Self::Gzip => Gzip::decompress(&mut packed, take).map_err(|error| format!("{error:#}")),
            Self::Snappy => {
                Snappy::decompress(&mut packed, take).map_err(|error| format!("{error:#}"))
            }
            Self::Lz4 => lz4::Decoder::new(&packed[..])
                .and_then(|decoder| read_all(decoder, packed.len()))
                .map_err(|error| error.to_string()),
            Self::Zstd => zstd::stream::read::Decoder::with_buffer(&packed[..])
                .and_then(|decoder| read_all(decoder, packed.len()))
                .map_err(|error| error.to_string()),
        };
        done.map_err(|error| format!("{self} data does not decompress: {error}"))
    }
}

fn cannot(error: impl fmt::Display) -> Error {
    Error::Invalid(format!("records cannot be compressed: {error:#}"))
}

fn gzip(plain: &[u8], level: Option<i32>, out: &mut BytesMut) -> io::Result<()> {
    let level = level.unwrap_or(6).clamp(1, 9).cast_unsigned();
    let mut encoder = flate2::write::GzEncoder::new(out.writer(), flate2::Compression::new(level));
    encoder.write_all(plain)?;
    encoder.finish().map(|_| ())
}

fn snappy(plain: &[u8], out: &mut BytesMut) -> Result<()> {
    let fill = |buf: &mut BytesMut| {
        buf.extend_from_slice(plain);
        Ok(())
    };
    Snappy::compress(out, fill).map_err(cannot)
}

/// A frame of independent blocks, as all of Kafka's clients can read it.
fn lz4(plain: &[u8], level: Option<i32>, out: &mut BytesMut) -> io::Result<()> {
    let mut encoder = lz4::EncoderBuilder::new()
        .level(level.unwrap_or(0).clamp(0, 12).cast_unsigned())
        .block_mode(lz4::BlockMode::Independent)
        .block_size(lz4::BlockSize::Max64KB)
        .checksum(lz4::ContentChecksum::NoChecksum)
        .build(out.writer())?;
    encoder.write_all(plain)?;
    encoder.finish().1
}

/// In one call, so that the frame tells the size of its content.
fn zstandard(plain: &[u8], level: Option<i32>, out: &mut BytesMut) -> io::Result<()> {
    let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL).clamp(-7, 22);
    let start = out.len();
    out.resize(start + zstd::zstd_safe::compress_bound(plain.len()), 0);
    let packed = zstd::bulk::compress_to_buffer(plain, &mut out[start..], level)?;
    out.truncate(start + packed);
    Ok(())
}

/// Memory grows with what comes out.
fn read_all(mut from: impl Read, packed: usize) -> io::Result<Bytes> {
    let mut plain = Vec::with_capacity(packed.saturating_mul(4));
    from.read_to_end(&mut plain)?;
    Ok(plain.into())
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = usize::try_from(self.attribute()).expect("numbers start at 0");
        f.write_str(Self::ALL[number].1)
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        found.map(|(codec, _)| *codec).ok_or_else(|| {
            Error::Invalid(format!("unknown codec {text}; known are none, gzip, snappy, lz4, zstd"))
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::proptest;

    use super::Compression;

    #[test]
    fn names_and_numbers_agree() {
        for (codec, name) in Compression::ALL {
            assert_eq!(name.parse::<Compression>().unwrap(), codec);
            assert_eq!(codec.to_string(), name);
            assert_eq!(Compression::from_attributes(codec.attribute()), Some(codec));
        }
        assert_eq!(Compression::from_attributes(7), None);
        assert!("brotli".parse::<Compression>().is_err());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(plain: Vec<u8>) {
            for (codec, _) in Compression::ALL {
                let mut packed = BytesMut::new();
                codec.compress(&plain, None, &mut packed).unwrap();
                assert_eq!(codec.decompress(packed.freeze()).unwrap(), plain, "{codec}");
            }
        }

        #[test]
        fn every_level_comes_back_also_one_beyond_the_codec(level: i32) {
            let plain = b"the same words, and again the same words".repeat(9);
            for (codec, _) in Compression::ALL {
                for level in [level % 12, level] {
                    let mut packed = BytesMut::new();
                    codec.compress(&plain, Some(level), &mut packed).unwrap();
                    assert_eq!(codec.decompress(packed.freeze()).unwrap(), plain, "{codec}");
                }
            }
        }

        #[test]
        fn any_bytes_decompress_or_fail_without_a_panic(packed: Vec<u8>) {
            for (codec, _) in [Compression::ALL[1], Compression::ALL[3], Compression::ALL[4]] {
                let _ = codec.decompress(Bytes::from(packed.clone()));
            }
        }
    }
}
