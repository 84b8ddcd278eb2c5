//! The codecs of record batches, by the names and numbers Kafka gives them.

use std::fmt;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};
use kafka_protocol::compression::{Compressor, Decompressor, Gzip, Lz4, Snappy, Zstd};

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

    /// Appends `plain`, compressed, to `out`.
    pub(crate) fn compress(self, plain: &[u8], out: &mut BytesMut) -> Result<()> {
        let fill = |buf: &mut BytesMut| {
            buf.extend_from_slice(plain);
            Ok(())
        };
        let done = match self {
            Self::None => fill(out),
            Self::Gzip => Gzip::compress(out, fill),
            Self::Snappy => Snappy::compress(out, fill),
            Self::Lz4 => Lz4::compress(out, fill),
            Self::Zstd => Zstd::compress(out, fill),
        };
        done.map_err(|error| Error::Invalid(format!("records cannot be compressed: {error:#}")))
    }

    /// The plain bytes of `packed`, or what is wrong with them.
    pub(crate) fn decompress(self, mut packed: Bytes) -> std::result::Result<Bytes, String> {
        let take = |buf: &mut Bytes| Ok(std::mem::take(buf));
        let done = match self {
            Self::None => Ok(packed),
            Self::Gzip => Gzip::decompress(&mut packed, take),
            Self::Snappy => Snappy::decompress(&mut packed, take),
            Self::Lz4 => Lz4::decompress(&mut packed, take),
            Self::Zstd => Zstd::decompress(&mut packed, take),
        };
        done.map_err(|error| format!("{self} data does not decompress: {error:#}"))
    }
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
                codec.compress(&plain, &mut packed).unwrap();
                assert_eq!(codec.decompress(packed.freeze()).unwrap(), plain, "{codec}");
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
