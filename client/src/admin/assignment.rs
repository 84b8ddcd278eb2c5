//! What a classic group's leader has assigned to a member: Kafka's `ConsumerProtocolAssignment`, all versions.
//!
//! ```text
//! version i16 | topics i32 × (name i16 + text | partitions i32 × i32) | user data
//! ```
//!
//! The bytes are a member's word. What is read takes memory in proportion to them; what does not decode is none.

use bytes::{Buf, Bytes};

use crate::TopicPartition;

/// The partitions of an assignment, or `None` where the bytes are no such thing (other group protocols have their own).
pub(super) fn read(mut bytes: Bytes) -> Option<Vec<TopicPartition>> {
    let mut assigned = Vec::new();
    let _version = bytes.try_get_i16().ok()?;
    for _ in 0..bytes.try_get_i32().ok()? {
        let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        let name = (length <= bytes.len()).then(|| bytes.split_to(length))?;
        let name = std::str::from_utf8(&name).ok()?;
        for _ in 0..bytes.try_get_i32().ok()? {
            let partition = bytes.try_get_i32().ok()?;
            assigned.push(TopicPartition::new(name, partition));
        }
    }
    Some(assigned)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::{collection::vec, prelude::any, proptest};

    use super::read;
    use crate::TopicPartition;

    const TWO: &[u8] = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x03\0\0\0\x05\xff\xff\xff\xff";

    #[test]
    fn the_partitions_of_an_assignment_are_read() {
        let part = |partition| TopicPartition { topic: "t".into(), partition };
        assert_eq!(read(Bytes::from_static(TWO)), Some(vec![part(3), part(5)]));
        assert_eq!(read(Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\0")), Some(vec![]));
    }

    #[test]
    fn what_is_no_assignment_is_none() {
        for bytes in [&b""[..], &TWO[..20], b"\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\x01\xff\xff"] {
            assert_eq!(read(Bytes::from_static(bytes)), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..100)) {
            let _ = read(bytes.into());
        }
    }
}
