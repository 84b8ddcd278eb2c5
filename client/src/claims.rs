//! Checks what a response claims before kafka-protocol believes it.
//!
//! kafka-protocol sets memory aside for as many array elements as a broker claims, so an answer of twenty bytes
//! could take gigabytes. What [`check`] lets through takes memory in proportion to its bytes.
//!
//! Invariants: nothing is allocated; every byte is looked at once, those of text and records not at all; the
//! stack is as deep as the layout.
//!
//! Not here: the layouts (`claims/layouts.rs`); what kafka-protocol says itself: whether text is UTF-8, and
//! where null may stand.

pub(crate) mod layouts;
#[cfg(test)]
mod tests;

use layouts::{Field, Kind, Layout, Response};

/// The most tagged fields in one response. Brokers send a handful; decoded, one takes half a kilobyte.
const TAGS_MAX: usize = 100_000;
const CORRELATION_ID_BYTES: usize = 4;

/// The bytes are no response of that API and version.
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
    #[error("the response ends before it does")]
    Truncated,
    #[error("its length is negative")]
    Negative,
    #[error("a variable-length integer has more than 32 bits")]
    LongVarint,
    #[error("the response has more than {TAGS_MAX} tagged fields")]
    TooManyTags,
}

/// Checks a response from its header on.
///
/// # Errors
/// [`Malformed`] when kafka-protocol must not see `bytes`.
pub(crate) fn check(response: &Response, version: i16, bytes: &[u8]) -> Result<(), Malformed> {
    Walker::new(bytes, version, response.is_flexible(version)).response(response)
}

/// How a length or a count is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Two,
    Four,
    Varint,
}

/// A position in a response, moving forward only.
#[derive(Debug)]
struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
    version: i16,
    /// Lengths are variable-length integers, and structures end with tagged fields (KIP-482).
    flexible: bool,
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
            tags: 0,
            field: "header",
            #[cfg(test)]
            lengths: Vec::new(),
        }
    }

    fn response(&mut self, response: &Response) -> Result<(), Malformed> {
        self.take(CORRELATION_ID_BYTES)?;
        if self.flexible && response.tagged_header {
            self.tagged(&[])?;
        }
        self.layout(&response.body)
    }

    fn layout(&mut self, layout: &Layout) -> Result<(), Malformed> {
        for field in layout.fields {
            self.field(field)?;
        }
        if self.flexible { self.tagged(layout.tagged) } else { Ok(()) }
    }

    fn field(&mut self, field: &Field) -> Result<(), Malformed> {
        if !field.exists(self.version) {
            return Ok(());
        }
        self.field = field.name;
        match field.kind {
            Kind::Fixed(bytes) => self.take(bytes),
            Kind::Text => {
                let length = self.length(Width::Two)?;
                self.take(length)
            }
            Kind::Texts => {
                let count = self.length(Width::Four)?;
                // No text takes nothing: its length is written.
                self.expect(count)?;
                (0..count).try_for_each(|_| {
                    let length = self.length(Width::Two)?;
                    self.take(length)
                })
            }
            Kind::Records => {
                let length = self.length(Width::Four)?;
                self.take(length)
            }
            Kind::Numbers(bytes) => {
                let count = self.length(Width::Four)?;
                self.take(count.saturating_mul(bytes))
            }
            Kind::Array(element) => {
                let count = self.length(Width::Four)?;
                // No element is empty.
                self.expect(count)?;
                (0..count).try_for_each(|_| self.layout(element))
            }
            Kind::Struct(layout) => self.layout(layout),
            Kind::Option(layout) => match self.array()? {
                [1] => self.layout(layout),
                [_] => Ok(()),
            },
        }
    }

    /// kafka-protocol decodes the content of a tag it knows, and does not look at the size.
    fn tagged(&mut self, known: &[(u32, Field)]) -> Result<(), Malformed> {
        self.field = "tagged fields";
        let count = self.varint()?;
        self.tags = self.tags.saturating_add(count as usize);
        if self.tags > TAGS_MAX {
            return Err(self.malformed(Fault::TooManyTags));
        }
        for _ in 0..count {
            let (tag, size) = (self.varint()?, self.varint()?);
            match known.iter().find(|(known, _)| *known == tag) {
                Some((_, field)) => self.field(field)?,
                None => self.take(size as usize)?,
            }
        }
        Ok(())
    }

    /// A length or a count, of the given width unless the version is flexible; 0 for null.
    fn length(&mut self, classic: Width) -> Result<usize, Malformed> {
        let width = if self.flexible { Width::Varint } else { classic };
        let start = self.at;
        let length = match width {
            Width::Two => i32::from(i16::from_be_bytes(self.array()?)),
            Width::Four => i32::from_be_bytes(self.array()?),
            Width::Varint => {
                let length = self.varint()?;
                self.note_length(start, width);
                return Ok(length.saturating_sub(1) as usize);
            }
        };
        self.note_length(start, width);
        match length {
            -1 => Ok(0),
            _ => usize::try_from(length).map_err(|_| self.malformed(Fault::Negative)),
        }
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

    fn take(&mut self, count: usize) -> Result<(), Malformed> {
        self.expect(count)?;
        self.at += count;
        Ok(())
    }

    /// Fails when fewer than `count` bytes are left.
    fn expect(&self, count: usize) -> Result<(), Malformed> {
        let left = self.bytes.len() - self.at;
        if count <= left { Ok(()) } else { Err(self.malformed(Fault::Truncated)) }
    }

    #[cfg(test)]
    fn note_length(&mut self, start: usize, width: Width) {
        self.lengths.push((start..self.at, width));
    }

    #[cfg(not(test))]
    fn note_length(&mut self, _start: usize, _width: Width) {}

    fn malformed(&self, fault: Fault) -> Malformed {
        Malformed { field: self.field, at: self.at, fault }
    }
}
