//! The request versions that kafka-protocol lacks, to and from its types of the nearest version.
//!
//! | API | version | as | differs in |
//! |---|---|---|---|
//! | `ListOffsets` | 0 | 1 | several offsets a partition, no timestamp in the answer |
//! | `ListOffsets` | 11 | 10 | nothing |
//! | `CreateTopics` | 0, 1 | 2 | v0: no `validate_only`, no message; both: no throttle time |
//! | `DeleteTopics` | 0 | 1 | no throttle time |
//!
//! Bodies only: headers are of request version 1 and response version 0, for `ListOffsets` 11 of 2 and 1.
//! Arbitrary bytes give an error, and what is allocated is in proportion to the bytes given.

pub(crate) mod list_offsets;
mod reader;
pub(crate) mod topics;

use bytes::{BufMut, BytesMut};

/// Why a body of an old version cannot be read or written; the connection is closed either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The client sent something else than the version says.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The answer does not fit the version's format.
    #[error("{0} too long for its length field")]
    TooLong(&'static str),
}

/// Writes how many items follow.
fn put_count(out: &mut BytesMut, count: usize) -> Result<(), Error> {
    out.put_i32(i32::try_from(count).map_err(|_| Error::TooLong("array"))?);
    Ok(())
}

/// Writes a string behind its length.
fn put_string(out: &mut BytesMut, string: &str) -> Result<(), Error> {
    out.put_i16(i16::try_from(string.len()).map_err(|_| Error::TooLong("string"))?);
    out.put_slice(string.as_bytes());
    Ok(())
}

/// Writes a string or, as length -1, that there is none.
fn put_nullable_string(out: &mut BytesMut, string: Option<&str>) -> Result<(), Error> {
    match string {
        Some(string) => put_string(out, string),
        None => {
            out.put_i16(-1);
            Ok(())
        }
    }
}
