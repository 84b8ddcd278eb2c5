//! Reads the primitive types of Kafka's protocol from bytes that may be anything.
//!
//! Invariants:
//! - A count is believed only if that many items can be in the bytes that are left.
//! - Strings are slices of the input, not copies.

use bytes::{Buf, Bytes};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Error;

/// Whether lengths are fixed or varints, and tagged fields follow each structure (KIP-482).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Classic,
    Flexible,
}

/// The rest of a body.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a mut Bytes,
    format: Format,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a mut Bytes, format: Format) -> Self {
        Self { rest, format }
    }

    pub(super) fn i8(&mut self) -> Result<i8, Error> {
        self.rest.try_get_i8().map_err(|_| Error::Malformed("integer"))
    }

    pub(super) fn i16(&mut self) -> Result<i16, Error> {
        self.rest.try_get_i16().map_err(|_| Error::Malformed("integer"))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Error> {
        self.rest.try_get_i32().map_err(|_| Error::Malformed("integer"))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Error> {
        self.rest.try_get_i64().map_err(|_| Error::Malformed("integer"))
    }

    pub(super) fn bool(&mut self) -> Result<bool, Error> {
        Ok(self.i8()? != 0)
    }

    pub(super) fn string(&mut self) -> Result<StrBytes, Error> {
        self.nullable_string()?.ok_or(Error::Malformed("string"))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<StrBytes>, Error> {
        let length = match self.format {
            Format::Classic => match self.i16()? {
                -1 => None,
                length => Some(usize::try_from(length).map_err(|_| Error::Malformed("string"))?),
            },
            Format::Flexible => self.varint()?.checked_sub(1),
        };
        length.map(|length| self.utf8(length)).transpose()
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, Error> {
        let bytes = self.rest.try_get_u128().map_err(|_| Error::Malformed("uuid"))?;
        Ok(Uuid::from_u128(bytes))
    }

    /// Reads an array that must not be null, of items that take at least one byte each.
    pub(super) fn array<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.nullable_array(item)?.ok_or(Error::Malformed("array"))
    }

    /// Reads an array or null, of items that take at least one byte each.
    pub(super) fn nullable_array<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<Option<Vec<T>>, Error> {
        let count = match self.format {
            Format::Classic => match self.i32()? {
                -1 => None,
                count => Some(usize::try_from(count).map_err(|_| Error::Malformed("array"))?),
            },
            Format::Flexible => self.varint()?.checked_sub(1),
        };
        let Some(count) = count else { return Ok(None) };
        if count > self.rest.len() {
            return Err(Error::Malformed("array"));
        }
        // Grows as items are read: an item in memory is far larger than one byte of input.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(Some(items))
    }

    /// Skips the tagged fields at the end of a structure, of which these versions know none.
    pub(super) fn end_structure(&mut self) -> Result<(), Error> {
        if self.format == Format::Classic {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let size = self.varint()?;
            self.take(size)?;
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<usize, Error> {
        let malformed = Error::Malformed("varint");
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.rest.try_get_u8().map_err(|_| malformed)?;
            let bits = u32::from(byte & 0x7f);
            if bits.leading_zeros() < shift {
                return Err(malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|_| malformed);
            }
        }
        Err(malformed)
    }

    fn utf8(&mut self, length: usize) -> Result<StrBytes, Error> {
        StrBytes::from_utf8(self.take(length)?).map_err(|_| Error::Malformed("string"))
    }

    fn take(&mut self, length: usize) -> Result<Bytes, Error> {
        if length > self.rest.len() {
            return Err(Error::Malformed("length"));
        }
        Ok(self.rest.split_to(length))
    }
}
