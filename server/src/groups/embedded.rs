//! What consumers of the classic protocol say to each other through the coordinator: their subscriptions, and their assignments.
//!
//! Source: Kafka's `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`, versions 0 to 3. Later ones begin as these do.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};

use super::wire::{Reader, put_string};

/// The newest version that is known.
const VERSION_MAX: i16 = 3;

/// What a member subscribes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) topics: BTreeSet<String>,
    /// What it has (version 1); an eager member has given up everything before it joins.
    pub(super) owned: BTreeMap<String, BTreeSet<i32>>,
    /// Version 3.
    pub(super) rack: Option<String>,
}

/// What a member was assigned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Assigned {
    pub(super) partitions: BTreeMap<String, BTreeSet<i32>>,
    /// Whether an assignor has told its member more than partitions.
    pub(super) has_user_data: bool,
}

impl Subscription {
    /// Reads one; `None` when it does not decode.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let version = from.i16().filter(|version| *version >= 0)?;
        let topics = topics(&mut from)?;
        let mut value = Self { topics, ..Self::default() };
        let _user_data = from.nullable_bytes(false)?;
        if version >= 1 {
            value.owned = partitions(&mut from)?;
        }
        if version >= 2 {
            let _generation = from.i32()?;
        }
        if version >= 3 {
            value.rack = from.nullable(false)?;
        }
        Some(value)
    }
}

impl Assigned {
    /// Reads one; `None` when it does not decode. No bytes are no partitions: the member has not been assigned any.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let mut from = Reader(bytes);
        let _version = from.i16().filter(|version| *version >= 0)?;
        let partitions = partitions(&mut from)?;
        let user_data = from.nullable_bytes(false)?;
        Some(Self { partitions, has_user_data: user_data.is_some_and(|data| !data.is_empty()) })
    }
}

/// The assignment of these partitions for a member whose subscription is this one: in the same version.
pub(super) fn assignment<'a>(
    subscription: &[u8],
    partitions: impl Iterator<Item = (&'a str, &'a BTreeSet<i32>)>,
) -> Bytes {
    let version = Reader(subscription).i16().unwrap_or(0).clamp(0, VERSION_MAX);
    let all: Vec<_> = partitions.collect();
    let mut to = BytesMut::new();
    to.put_i16(version);
    to.put_i32(i32::try_from(all.len()).unwrap_or(i32::MAX));
    for (topic, parts) in all {
        put_string(&mut to, topic);
        to.put_i32(i32::try_from(parts.len()).unwrap_or(i32::MAX));
        parts.iter().for_each(|partition| to.put_i32(*partition));
    }
    // No user data.
    to.put_i32(-1);
    to.freeze()
}

/// The topics in a subscription, whatever follows them; `None` when they cannot be read.
pub(super) fn subscribed_topics(bytes: &[u8]) -> Option<BTreeSet<String>> {
    let mut from = Reader(bytes);
    let _version = from.i16()?;
    topics(&mut from)
}

fn topics(from: &mut Reader<'_>) -> Option<BTreeSet<String>> {
    let count = from.count(false)?;
    (0..count).map(|_| from.string(false)).collect()
}

fn partitions(from: &mut Reader<'_>) -> Option<BTreeMap<String, BTreeSet<i32>>> {
    let mut all: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for _ in 0..from.count(false)? {
        let parts = all.entry(from.string(false)?).or_default();
        for _ in 0..from.count(false)? {
            parts.insert(from.i32()?);
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Kafka's Java client writes it: two topics, no user data, what it has, its generation, its rack.
    fn written(version: i16) -> BytesMut {
        let mut to = BytesMut::new();
        to.put_i16(version);
        to.put_i32(2);
        put_string(&mut to, "t");
        put_string(&mut to, "u");
        to.put_i32(-1);
        if version >= 1 {
            to.put_i32(1);
            put_string(&mut to, "t");
            to.put_i32(2);
            to.put_i32(4);
            to.put_i32(0);
        }
        if version >= 2 {
            to.put_i32(7);
        }
        if version >= 3 {
            put_string(&mut to, "rack");
        }
        to
    }

    #[test]
    fn a_subscription_is_read_in_each_version_and_never_from_less_than_all_of_it() {
        for version in 0..=4 {
            let whole = written(version);
            let read = Subscription::decode(&whole).unwrap();
            assert_eq!(read.topics, ["t".to_owned(), "u".to_owned()].into());
            assert_eq!(subscribed_topics(&whole), Some(read.topics));
            let owned = BTreeMap::from([("t".to_owned(), BTreeSet::from([0, 4]))]);
            assert_eq!(read.owned, if version >= 1 { owned } else { BTreeMap::new() });
            assert_eq!(read.rack.as_deref(), (version >= 3).then_some("rack"));
            for end in 0..whole.len() {
                assert_eq!(Subscription::decode(&whole[..end]), None, "{end} bytes");
            }
        }
    }

    #[test]
    fn an_assignment_is_written_in_the_version_of_the_subscription() {
        for (version, written_in) in [(0, 0), (1, 1), (3, 3), (9, 3), (-1, 0)] {
            let parts = BTreeSet::from([1, 3]);
            let bytes = assignment(&written(version), [("t", &parts)].into_iter());
            assert_eq!(bytes[..2], i16::to_be_bytes(written_in));
            let read = Assigned::decode(&bytes).unwrap();
            assert_eq!(read.partitions, BTreeMap::from([("t".to_owned(), parts)]));
            assert!(!read.has_user_data);
            for end in 1..bytes.len() {
                assert_eq!(Assigned::decode(&bytes[..end]), None, "{end} bytes");
            }
        }
        assert_eq!(Assigned::decode(b""), Some(Assigned::default()));
        let custom = Assigned::decode(b"\0\0\0\0\0\0\0\0\0\x01x").unwrap();
        assert!(custom.has_user_data);
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (Subscription::decode(&bytes), Assigned::decode(&bytes), subscribed_topics(&bytes));
        }
    }
}
