//! The strings, numbers and byte strings of which stored keys and values are made.
//!
//! Every read checks what is left; nothing is allocated on the word of a length.

use bytes::{BufMut, Bytes, BytesMut};
use jangbu_engine::records::unsigned_varint;
use uuid::Uuid;

/// Reads from the front; `None` when the bytes end too soon or say something impossible.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn i8(&mut self) -> Option<i8> {
        self.array().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self) -> Option<Uuid> {
        self.array().map(Uuid::from_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u32> {
        let (value, rest) = unsigned_varint(self.0, 5)?;
        self.0 = rest;
        u32::try_from(value).ok()
    }

    /// A string that may be null; `compact` is how flexible versions write it (KIP-482).
    pub(crate) fn nullable(&mut self, compact: bool) -> Option<Option<String>> {
        let length = match compact {
            true => i64::from(self.varint()?) - 1,
            false => i64::from(self.i16()?),
        };
        if length == -1 {
            return Some(None);
        }
        let bytes = self.take(usize::try_from(length).ok()?)?;
        Some(Some(String::from_utf8(bytes.to_vec()).ok()?))
    }

    pub(crate) fn string(&mut self, compact: bool) -> Option<String> {
        self.nullable(compact)?
    }

    /// Bytes that may be null.
    pub(crate) fn nullable_bytes(&mut self, compact: bool) -> Option<Option<Bytes>> {
        let length = match compact {
            true => i64::from(self.varint()?) - 1,
            false => i64::from(self.i32()?),
        };
        if length == -1 {
            return Some(None);
        }
        Some(Some(Bytes::copy_from_slice(self.take(usize::try_from(length).ok()?)?)))
    }

    pub(crate) fn bytes(&mut self, compact: bool) -> Option<Bytes> {
        self.nullable_bytes(compact)?
    }

    /// The number of elements of an array. None of them is empty.
    pub(crate) fn count(&mut self, compact: bool) -> Option<usize> {
        let count = match compact {
            true => i64::from(self.varint()?) - 1,
            false => i64::from(self.i32()?),
        };
        usize::try_from(count).ok().filter(|count| *count <= self.0.len())
    }

    /// The tagged fields of a flexible version, each shown with its number.
    pub(crate) fn tagged(&mut self, mut show: impl FnMut(u32, &'a [u8])) -> Option<()> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = self.varint()?;
            show(tag, self.take(usize::try_from(size).ok()?)?);
        }
        Some(())
    }
}

/// Writes a length that was checked where the string entered; what is longer is cut, so that nothing else is torn.
pub(crate) fn put_string(to: &mut BytesMut, text: &str) {
    let mut end = text.len().min(i16::MAX.unsigned_abs().into());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    to.put_i16(i16::try_from(end).unwrap_or(i16::MAX));
    to.put_slice(&text.as_bytes()[..end]);
}

pub(crate) fn put_nullable(to: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_string(to, text),
        None => to.put_i16(-1),
    }
}

pub(crate) fn put_bytes(to: &mut BytesMut, bytes: &[u8]) {
    to.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    to.put_slice(bytes);
}

pub(crate) fn put_varint(to: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        to.put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    to.put_u8(u8::try_from(value).unwrap_or(0));
}

pub(crate) fn put_compact(to: &mut BytesMut, text: &str) {
    put_varint(to, text.len() as u64 + 1);
    to.put_slice(text.as_bytes());
}
