//! The words in which `requests.rs` describes requests.
//!
//! How a kind is written depends on whether the request's version is flexible (KIP-482): lengths are
//! then variable-length integers, and every structure ends with tagged fields.

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;

/// What stands in a field.
#[derive(Debug)]
pub(super) enum Kind {
    /// So many bytes.
    Fixed(usize),
    String,
    NullableString,
    Bytes,
    /// Records, too.
    NullableBytes,
    Array(&'static Kind),
    NullableArray(&'static Kind),
    Struct(&'static Layout),
    /// A byte, 1 or -1, says whether the structure follows.
    NullableStruct(&'static Layout),
}

pub(super) const BOOLEAN: Kind = Kind::Fixed(1);
pub(super) const INT8: Kind = Kind::Fixed(1);
pub(super) const INT16: Kind = Kind::Fixed(2);
pub(super) const INT32: Kind = Kind::Fixed(4);
pub(super) const INT64: Kind = Kind::Fixed(8);
pub(super) const UUID: Kind = Kind::Fixed(16);

/// A field and the versions that have it.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    first: i16,
    last: i16,
}

/// A tagged field of which kafka-protocol decodes the content.
#[derive(Debug)]
pub(super) struct Tagged {
    pub(super) tag: u32,
    pub(super) field: Field,
}

/// A structure's fields, in the order in which they are written.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) fields: &'static [Field],
    pub(super) tagged: &'static [Tagged],
}

/// The body of a request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) key: ApiKey,
    pub(super) versions: RangeInclusive<i16>,
    /// The first flexible version.
    pub(super) flexible: i16,
    pub(super) body: Layout,
}

impl Request {
    pub(super) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }
}

impl Field {
    /// The field is there from this version on.
    pub(super) const fn since(mut self, version: i16) -> Self {
        self.first = version;
        self
    }

    /// The field is there up to and with this version.
    pub(super) const fn until(mut self, version: i16) -> Self {
        self.last = version;
        self
    }

    pub(super) fn exists(&self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }
}

/// A field of every version.
pub(super) const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, first: 0, last: i16::MAX }
}

/// A structure of which no tagged field is known.
pub(super) const fn layout(fields: &'static [Field]) -> Layout {
    Layout { fields, tagged: &[] }
}
