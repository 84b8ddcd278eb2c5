//! The messages of jangbu's own API 10000, as `server/proto/get.proto` has them, and their bounds.
//!
//! Written out instead of generated, so that the client builds by itself; the field numbers are the contract.
//!
//! Invariant: an answer is decoded only once it is known to hold no more than [`ELEMENTS_MAX`] records and headers.

use bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint};
use prost::{Message, Oneof};

use crate::{Error, Result};

/// Records and headers of one answer.
const ELEMENTS_MAX: usize = 1 << 16;
/// The fields of an answer that hold records, and those of a record that hold headers.
const RECORDS: u32 = 4;
const HEADERS: u32 = 5;

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetRequest {
    #[prost(string, tag = "1")]
    pub(super) topic: String,
    #[prost(int32, tag = "2")]
    pub(super) partition: i32,
    #[prost(bool, tag = "3")]
    pub(super) stale_ok: bool,
    #[prost(oneof = "Wanted", tags = "4, 5")]
    pub(super) wanted: Option<Wanted>,
    #[prost(int64, optional, tag = "6")]
    pub(super) at_offset: Option<i64>,
    #[prost(int64, optional, tag = "7")]
    pub(super) at_time_ms: Option<i64>,
    #[prost(uint32, tag = "8")]
    pub(super) limit: u32,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub(super) after: Option<Bytes>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Wanted {
    #[prost(bytes = "bytes", tag = "4")]
    Key(Bytes),
    #[prost(bytes = "bytes", tag = "5")]
    Prefix(Bytes),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetResponse {
    #[prost(int32, tag = "1")]
    pub(super) error: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(int64, tag = "3")]
    pub(super) high_watermark: i64,
    #[prost(message, repeated, tag = "4")]
    pub(super) records: Vec<KeyRecord>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(super) next: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyRecord {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(int64, tag = "2")]
    pub(super) offset: i64,
    #[prost(int64, tag = "3")]
    pub(super) timestamp: i64,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(super) value: Option<Bytes>,
    #[prost(message, repeated, tag = "5")]
    pub(super) headers: Vec<Header>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(super) value: Option<Bytes>,
}

/// Decodes an answer.
///
/// # Errors
/// [`Error::Malformed`].
pub(super) fn decode(bytes: Bytes) -> Result<GetResponse> {
    let malformed = |reason: String| Error::malformed("an answer about keys", reason);
    match elements(&bytes) {
        Some(count) if count <= ELEMENTS_MAX => {}
        Some(count) => {
            let text = format!("it has {count} records and headers, more than {ELEMENTS_MAX}");
            return Err(malformed(text));
        }
        None => return Err(malformed("it is no message".to_owned())),
    }
    GetResponse::decode(bytes).map_err(|error| malformed(error.to_string()))
}

/// How many records and headers an answer has; `None` when it is no message.
fn elements(mut message: &[u8]) -> Option<usize> {
    let mut count = 0;
    while message.has_remaining() {
        if let (RECORDS, Some(mut record)) = field(&mut message)? {
            count += 1;
            while record.has_remaining() {
                let (number, value) = field(&mut record)?;
                count += usize::from(number == HEADERS && value.is_some());
            }
        }
    }
    Some(count)
}

/// The next field's number, and its value where that can be a message.
fn field<'a>(message: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let (number, wire) = decode_key(message).ok()?;
    let bytes = match wire {
        WireType::Varint => {
            decode_varint(message).ok()?;
            return Some((number, None));
        }
        WireType::LengthDelimited => usize::try_from(decode_varint(message).ok()?).ok()?,
        WireType::ThirtyTwoBit => 4,
        WireType::SixtyFourBit => 8,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (value, rest) = message.split_at_checked(bytes)?;
    *message = rest;
    Some((number, (wire == WireType::LengthDelimited).then_some(value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn answer(records: usize, headers: usize) -> Bytes {
        let header = Header { name: "h".into(), value: None };
        let record = KeyRecord {
            key: "k".into(),
            value: Some("v".into()),
            headers: vec![header; headers],
            ..KeyRecord::default()
        };
        let response = GetResponse { records: vec![record; records], ..GetResponse::default() };
        response.encode_to_vec().into()
    }

    #[test]
    fn an_answer_with_more_than_it_may_hold_is_refused_before_it_is_decoded() {
        assert_eq!(elements(&answer(3, 2)), Some(9));
        assert_eq!(decode(answer(3, 2)).unwrap().records.len(), 3);
        assert!(decode(answer(1, ELEMENTS_MAX - 1)).is_ok());
        assert!(decode(answer(1, ELEMENTS_MAX)).is_err());
        assert!(decode(answer(ELEMENTS_MAX + 1, 0)).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(bytes.into());
        }
    }
}
