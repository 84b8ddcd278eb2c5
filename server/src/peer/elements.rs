//! Counts what a message would hold once decoded, before it is: two bytes on the wire can become more than a hundred
//! in memory.
//!
//! Not here: what the counted elements mean (`server/proto/peer.proto`).

use bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};

/// Entries, appends, results or addresses of one message.
pub(super) const ELEMENTS_MAX: usize = 1 << 16;

/// The repeated messages of a `Request`, as field numbers from the outside in: entries of an append, appends of
/// heartbeats, and entries in those.
pub(super) const OF_REQUEST: &[&[u32]] = &[&[3, 6], &[4, 1], &[4, 1, 6]];
/// Those of a `Response`: results of heartbeats and addresses of peers.
pub(super) const OF_RESPONSE: &[&[u32]] = &[&[5, 1], &[10, 4]];

/// Those of a `jangbu.get.GetResponse`: records and their headers.
const OF_KEYS: &[&[u32]] = &[&[4], &[4, 5]];

/// Whether an answer about keys can be decoded.
pub(crate) fn bounded_keys(message: &[u8]) -> bool {
    bounded(message, OF_KEYS)
}

/// Whether a message can be decoded without more memory than its elements may take; `false` as well when it is no
/// message at all.
pub(super) fn bounded(message: &[u8], paths: &[&[u32]]) -> bool {
    let mut total = 0;
    for path in paths {
        match count(message, path) {
            Some(elements) => total += elements,
            None => return false,
        }
    }
    total <= ELEMENTS_MAX
}

/// How many fields there are at a path; `None` when the bytes are no message.
fn count(mut message: &[u8], path: &[u32]) -> Option<usize> {
    let Some((wanted, deeper)) = path.split_first() else { return Some(1) };
    let mut total = 0;
    while message.has_remaining() {
        let (number, value) = field(&mut message)?;
        if let (true, Some(value)) = (number == *wanted, value) {
            total += count(value, deeper)?;
        }
    }
    Some(total)
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
    use prost::Message as _;

    use super::*;
    use crate::proto::peer::{Append, Entry, Heartbeats, Request, request::Body};

    fn append(entries: usize) -> Append {
        let entry = Entry { term: 3, index: 9, kind: 1, payload_bytes: 10 };
        Append { group: 5, entries: vec![entry; entries], ..Append::default() }
    }

    fn encoded(body: Body) -> Vec<u8> {
        Request { sequence: 7, body: Some(body) }.encode_to_vec()
    }

    #[test]
    fn elements_are_counted_at_their_depth() {
        let message = encoded(Body::Append(append(12)));
        assert_eq!(count(&message, &[3, 6]), Some(12));
        assert_eq!(count(&message, &[4, 1]), Some(0));
        let message = encoded(Body::Heartbeats(Heartbeats { appends: vec![append(2); 5] }));
        assert_eq!(count(&message, &[4, 1]), Some(5));
        assert_eq!(count(&message, &[4, 1, 6]), Some(10));
    }

    #[test]
    fn more_than_a_message_may_hold_is_refused_before_decoding() {
        assert!(bounded(&encoded(Body::Append(append(ELEMENTS_MAX))), OF_REQUEST));
        assert!(!bounded(&encoded(Body::Append(append(ELEMENTS_MAX + 1))), OF_REQUEST));
        let spread = Heartbeats { appends: vec![append(255); 256] };
        assert!(bounded(&encoded(Body::Heartbeats(spread.clone())), OF_REQUEST));
        let spread = Heartbeats { appends: vec![append(256); 256] };
        assert!(!bounded(&encoded(Body::Heartbeats(spread)), OF_REQUEST));
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let message = encoded(Body::Append(append(3)));
        assert!(!bounded(&message[..message.len() - 1], OF_REQUEST));
        assert!(!bounded(&[0x1a, 0xff, 0xff, 0xff, 0xff, 0x7f], OF_REQUEST));
        assert!(!bounded(&[0x1b], OF_REQUEST), "groups are used by no message");
    }
}
