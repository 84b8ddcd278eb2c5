//! Checks a request's bytes against its layout before kafka-protocol decodes them.
//!
//! kafka-protocol reserves memory for as many array elements as the client claims, so a request of
//! twenty bytes could end the process. What [`check`] lets through it decodes without an error, and in
//! memory bounded by [`ELEMENTS_MAX`] and [`TAGS_MAX`].
//!
//! Invariants: nothing is allocated; every byte is looked at once, those of records not at all; the
//! stack is as deep as the layout. Bytes after the body are let through, as Kafka does.
//!
//! Not here: the layouts (`schema/requests.rs`), what the values mean (the handlers).

mod layout;
mod requests;
#[cfg(test)]
mod tests;

use crate::dispatch::Key;

use layout::{Kind, Layout, Tagged};

/// The most array elements in one request, at every depth together.
const ELEMENTS_MAX: usize = 1_000_000;
/// The most tagged fields in one request. Clients send a handful; decoded, one takes half a kilobyte.
const TAGS_MAX: usize = 100_000;
/// API key, version and correlation id.
const HEADER_FIXED_BYTES: usize = 8;

/// The bytes are no request of that API and version; the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} at byte {at}: {fault}")]
pub(crate) struct Malformed {
    field: &'static str,
    at: usize,
    fault: Fault,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("the request ends before it does")]
    Truncated,
    #[error("it must not be null")]
    Null,
    #[error("its length is negative")]
    Negative,
    #[error("a variable-length integer has more than 32 bits")]
    LongVarint,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("its first byte says neither that it is there nor that it is not")]
    Presence,
    #[error("the request has more than {ELEMENTS_MAX} array elements")]
    TooManyElements,
    #[error("the request has more than {TAGS_MAX} tagged fields")]
    TooManyTags,
    #[error("this version has no tag {0}")]
    UnknownTag(u32),
    #[error("its content and its size differ")]
    TagSize,
    #[error("this version has no layout")]
    UnknownVersion,
}

/// Checks a request's body, what follows its header.
///
/// # Errors
/// [`Malformed`] when kafka-protocol must not see `body`.
pub(crate) fn check(key: impl Into<Key>, version: i16, body: &[u8]) -> Result<(), Malformed> {
    let found = match key.into() {
        Key::Kafka(key) => requests::find(key, version),
        Key::GetKeys => None,
    };
    let request = found.ok_or(Malformed { field: "body", at: 0, fault: Fault::UnknownVersion })?;
    Walker::new(body, version, request.is_flexible(version)).layout(&request.body)
}

/// Checks the header that `frame` begins with; `version` is the header's, 1 or 2.
///
/// # Errors
/// [`Malformed`] when kafka-protocol must not see `frame`.
pub(crate) fn check_header(version: i16, frame: &[u8]) -> Result<(), Malformed> {
    Walker::new(frame, version, version >= 2).header()
}

/// How a length or a count is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Two,
    Four,
    Varint,
}

/// A position in a request, moving forward only.
#[derive(Debug)]
struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
    version: i16,
    /// Lengths are variable-length integers, and structures end with tagged fields (KIP-482).
    flexible: bool,
    elements: usize,
    tags: usize,
    /// The field being walked, for errors.
    field: &'static str,
    /// Where lengths and counts stand, for tests to forge.
    #[cfg(test)]
    lengths: Vec<(std::ops::Range<usize>, Width)>,
}

impl<'a> Walker<'a> {
    fn new(bytes: &'a [u8], version: i16, flexible: bool) -> Self {
        Self {
            bytes,
            at: 0,
            version,
            flexible,
            elements: 0,
            tags: 0,
            field: "body",
            #[cfg(test)]
            lengths: Vec::new(),
        }
    }

    fn header(&mut self) -> Result<(), Malformed> {
        self.field = "header";
        self.take(HEADER_FIXED_BYTES)?;
        self.field = "client_id";
        // Also in version 2, which is flexible otherwise.
        let length = self.length(Width::Two)?;
        self.text(length.unwrap_or(0))?;
        if self.flexible { self.tagged(&[]) } else { Ok(()) }
    }

    fn layout(&mut self, layout: &Layout) -> Result<(), Malformed> {
        let version = self.version;
        for field in layout.fields.iter().filter(|field| field.exists(version)) {
            self.field = field.name;
            self.kind(&field.kind)?;
        }
        if self.flexible { self.tagged(layout.tagged) } else { Ok(()) }
    }

    fn kind(&mut self, kind: &Kind) -> Result<(), Malformed> {
        match *kind {
            Kind::Fixed(bytes) => self.take(bytes).map(drop),
            Kind::String => {
                let length = self.length(self.width(Width::Two))?;
                self.text(length.ok_or_else(|| self.malformed(Fault::Null))?)
            }
            Kind::NullableString => {
                let length = self.length(self.width(Width::Two))?;
                self.text(length.unwrap_or(0))
            }
            Kind::Bytes => {
                let length = self.length(self.width(Width::Four))?;
                let length = length.ok_or_else(|| self.malformed(Fault::Null))?;
                self.take(length).map(drop)
            }
            Kind::NullableBytes => {
                let length = self.length(self.width(Width::Four))?;
                self.take(length.unwrap_or(0)).map(drop)
            }
            Kind::Array(element) => {
                let count = self.length(self.width(Width::Four))?;
                self.elements(count.ok_or_else(|| self.malformed(Fault::Null))?, element)
            }
            Kind::NullableArray(element) => {
                let count = self.length(self.width(Width::Four))?;
                self.elements(count.unwrap_or(0), element)
            }
            Kind::Struct(layout) => self.layout(layout),
            Kind::NullableStruct(layout) => match self.take(1)? {
                [1] => self.layout(layout),
                [0xff] => Ok(()),
                _ => Err(self.malformed(Fault::Presence)),
            },
        }
    }

    fn elements(&mut self, count: usize, element: &Kind) -> Result<(), Malformed> {
        // No element is empty.
        if count > self.left() {
            return Err(self.malformed(Fault::Truncated));
        }
        self.elements += count;
        if self.elements > ELEMENTS_MAX {
            return Err(self.malformed(Fault::TooManyElements));
        }
        for _ in 0..count {
            self.kind(element)?;
        }
        Ok(())
    }

    fn tagged(&mut self, known: &[Tagged]) -> Result<(), Malformed> {
        self.field = "tagged fields";
        let count = self.length_varint()? as usize;
        if count > self.left() {
            return Err(self.malformed(Fault::Truncated));
        }
        self.tags += count;
        if self.tags > TAGS_MAX {
            return Err(self.malformed(Fault::TooManyTags));
        }
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.length_varint()? as usize;
            match known.iter().find(|known| known.tag == tag) {
                Some(known) => self.known_tag(known, size)?,
                None => self.take(size).map(drop)?,
            }
        }
        Ok(())
    }

    /// kafka-protocol decodes the content of a tag it knows, and does not look at the size.
    fn known_tag(&mut self, known: &Tagged, size: usize) -> Result<(), Malformed> {
        self.field = known.field.name;
        if !known.field.exists(self.version) {
            return Err(self.malformed(Fault::UnknownTag(known.tag)));
        }
        let start = self.at;
        self.kind(&known.field.kind)?;
        if self.at - start == size { Ok(()) } else { Err(self.malformed(Fault::TagSize)) }
    }

    fn text(&mut self, length: usize) -> Result<(), Malformed> {
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(drop).map_err(|_| self.malformed(Fault::NotUtf8))
    }

    fn width(&self, classic: Width) -> Width {
        if self.flexible { Width::Varint } else { classic }
    }

    /// A length or a count; `None` is null.
    fn length(&mut self, width: Width) -> Result<Option<usize>, Malformed> {
        let start = self.at;
        let length = match width {
            Width::Two => i32::from(i16::from_be_bytes(self.array()?)),
            Width::Four => i32::from_be_bytes(self.array()?),
            Width::Varint => return Ok(self.length_varint()?.checked_sub(1).map(|n| n as usize)),
        };
        self.note_length(start, width);
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length).map(Some).map_err(|_| self.malformed(Fault::Negative)),
        }
    }

    fn length_varint(&mut self) -> Result<u32, Malformed> {
        let start = self.at;
        let value = self.varint()?;
        self.note_length(start, Width::Varint);
        Ok(value)
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if shift == 28 && byte > 0x0f {
                break;
            }
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.malformed(Fault::LongVarint))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let malformed = self.malformed(Fault::Truncated);
        let bytes = self.bytes[self.at..].first_chunk().ok_or(malformed)?;
        self.at += N;
        Ok(*bytes)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let malformed = self.malformed(Fault::Truncated);
        let bytes = self.bytes[self.at..].get(..count).ok_or(malformed)?;
        self.at += count;
        Ok(bytes)
    }

    #[cfg(test)]
    fn note_length(&mut self, start: usize, width: Width) {
        self.lengths.push((start..self.at, width));
    }

    #[cfg(not(test))]
    fn note_length(&mut self, _start: usize, _width: Width) {}

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn malformed(&self, fault: Fault) -> Malformed {
        Malformed { field: self.field, at: self.at, fault }
    }
}
