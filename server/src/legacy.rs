//! The request versions that kafka-protocol lacks, to and from its types of the nearest version.
//!
//! | API | version | as | differs in |
//! |---|---|---|---|
//! | `ListOffsets` | 0 | 1 | several offsets a partition, no timestamp in the answer |
//! | `ListOffsets` | 11 | 10 | nothing |
//! | `CreateTopics` | 0, 1 | 2 | v0: no `validate_only`, no message; both: no throttle time |
//! | `DeleteTopics` | 0 | 1 | no throttle time |
//! | `OffsetCommit` | 1 | 2 | a time for each partition, none for all of them |
//! | `OffsetCommit`, `OffsetFetch` | 10 | 9 | ids of topics instead of names |
//!
//! Bodies only: headers are of request version 1 and response version 0, from version 10 on of 2 and 1.
//! Arbitrary bytes give an error, and what is allocated is in proportion to the bytes given.

pub(crate) mod list_offsets;
pub(crate) mod offsets;
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

/// Writes a length or a count of the flexible format (KIP-482): one more than it is, 0 stands for null.
fn put_compact_length(
    out: &mut BytesMut,
    length: Option<usize>,
    what: &'static str,
) -> Result<(), Error> {
    let length = length.map_or(Some(0), |length| length.checked_add(1));
    let length = length.and_then(|length| u32::try_from(length).ok());
    let mut rest = length.ok_or(Error::TooLong(what))?;
    loop {
        let [byte, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            out.put_u8(byte);
            return Ok(());
        }
        out.put_u8(byte | 0x80);
    }
}

/// Writes a string of the flexible format, or that there is none.
fn put_compact_string(out: &mut BytesMut, string: Option<&str>) -> Result<(), Error> {
    put_compact_length(out, string.map(str::len), "string")?;
    out.put_slice(string.unwrap_or_default().as_bytes());
    Ok(())
}

/// Writes an array of the flexible format.
fn put_compact_array<T>(
    out: &mut BytesMut,
    items: &[T],
    mut put: impl FnMut(&mut BytesMut, &T) -> Result<(), Error>,
) -> Result<(), Error> {
    put_compact_length(out, Some(items.len()), "array")?;
    items.iter().try_for_each(|item| put(out, item))
}

/// Ends a structure of the flexible format: no tagged fields.
fn end_structure(out: &mut BytesMut) {
    out.put_u8(0);
}
