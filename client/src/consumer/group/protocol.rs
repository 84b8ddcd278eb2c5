//! What members of a group tell each other through the coordinator: Kafka's `ConsumerProtocol`.
//!
//! Invariant: bytes of other members give a value or a reason; memory is set aside only for bytes that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::TopicPartition;

type Reason = &'static str;

/// Partitions by topic.
pub(crate) type Partitions = BTreeMap<String, Vec<i32>>;

/// The newest version; readers of older ones skip what they do not know.
const VERSION: i16 = 3;

/// What a member wants, and what it has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Subscription {
    pub(crate) topics: Vec<String>,
    pub(crate) owned: Partitions,
    /// The generation in which it got them, or -1.
    pub(crate) generation: i32,
    pub(crate) rack: Option<String>,
}

impl Subscription {
    pub(crate) fn encode(&self) -> Bytes {
        let mut to = BytesMut::new();
        to.put_i16(VERSION);
        put_count(&mut to, self.topics.len());
        self.topics.iter().for_each(|topic| put_text(&mut to, topic));
        to.put_i32(-1);
        put_partitions(&mut to, &self.owned);
        to.put_i32(self.generation);
        match &self.rack {
            Some(rack) => put_text(&mut to, rack),
            None => to.put_i16(-1),
        }
        to.freeze()
    }

    pub(crate) fn decode(mut from: &[u8]) -> Result<Self, Reason> {
        let version = from.try_get_i16().map_err(|_| CUT_OFF)?;
        let topics = (0..count(&mut from)?).map(|_| text(&mut from)).collect::<Result<_, _>>()?;
        skip_bytes(&mut from)?;
        let mut found = Self { topics, generation: -1, ..Self::default() };
        if version >= 1 {
            found.owned = partitions(&mut from)?;
        }
        if version >= 2 {
            found.generation = from.try_get_i32().map_err(|_| CUT_OFF)?;
        }
        if version >= 3 && from.get(..2) != Some(&[0xff, 0xff]) {
            found.rack = Some(text(&mut from)?);
        }
        Ok(found)
    }
}

/// What the leader gives a member.
pub(crate) fn encode_assignment(assigned: &Partitions) -> Bytes {
    let mut to = BytesMut::new();
    to.put_i16(1);
    put_partitions(&mut to, assigned);
    to.put_i32(-1);
    to.freeze()
}

/// Reads that, in any version; no bytes are no partitions.
///
/// ```text
/// version i16 | topics i32 × (name i16 + text | partitions i32 × i32) | user data
/// ```
pub(crate) fn decode_assignment(mut from: &[u8]) -> Result<Partitions, Reason> {
    if from.is_empty() {
        return Ok(Partitions::new());
    }
    from.try_get_i16().map_err(|_| CUT_OFF)?;
    partitions(&mut from)
}

/// The partitions one by one.
pub(crate) fn flat(all: &Partitions) -> BTreeSet<TopicPartition> {
    let each = |(topic, partitions): (&String, &Vec<i32>)| {
        let topic: Arc<str> = Arc::from(topic.as_str());
        let places = partitions.iter();
        places.map(move |at| TopicPartition { topic: Arc::clone(&topic), partition: *at }).collect()
    };
    all.iter().flat_map::<Vec<_>, _>(each).collect()
}

const CUT_OFF: Reason = "it is cut off";

fn put_count(to: &mut BytesMut, count: usize) {
    to.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

fn put_text(to: &mut BytesMut, text: &str) {
    to.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    to.put_slice(text.as_bytes());
}

fn put_partitions(to: &mut BytesMut, all: &Partitions) {
    put_count(to, all.len());
    for (topic, partitions) in all {
        put_text(to, topic);
        put_count(to, partitions.len());
        partitions.iter().for_each(|partition| to.put_i32(*partition));
    }
}

/// A count of elements, each of which takes two bytes or more.
fn count(from: &mut &[u8]) -> Result<usize, Reason> {
    let claimed = from.try_get_i32().map_err(|_| CUT_OFF)?;
    if claimed == -1 {
        return Ok(0);
    }
    usize::try_from(claimed).ok().filter(|count| *count <= from.len() / 2).ok_or(CUT_OFF)
}

fn text(from: &mut &[u8]) -> Result<String, Reason> {
    let claimed = from.try_get_i16().map_err(|_| CUT_OFF)?;
    let bytes = usize::try_from(claimed).map_err(|_| "a name is missing")?;
    let (text, rest) = from.split_at_checked(bytes).ok_or(CUT_OFF)?;
    *from = rest;
    String::from_utf8(text.to_vec()).map_err(|_| "a name is no text")
}

fn skip_bytes(from: &mut &[u8]) -> Result<(), Reason> {
    let claimed = from.try_get_i32().map_err(|_| CUT_OFF)?;
    let bytes = usize::try_from(claimed.max(0)).map_err(|_| CUT_OFF)?;
    *from = from.get(bytes..).ok_or(CUT_OFF)?;
    Ok(())
}

fn partitions(from: &mut &[u8]) -> Result<Partitions, Reason> {
    let mut all = Partitions::new();
    for _ in 0..count(from)? {
        let topic = text(from)?;
        let numbers = (0..count(from)?).map(|_| from.try_get_i32().map_err(|_| CUT_OFF));
        let numbers: Vec<i32> = numbers.collect::<Result<_, _>>()?;
        all.entry(topic).or_default().extend(numbers);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
    use kafka_protocol::protocol::{Decodable, Encodable};
    use proptest::prelude::proptest;

    use super::{Partitions, Subscription, decode_assignment, encode_assignment, flat};
    use crate::TopicPartition;

    const TWO: &[u8] = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x03\0\0\0\x05\xff\xff\xff\xff";

    fn sample() -> Subscription {
        Subscription {
            topics: vec!["one".into(), "two".into()],
            owned: Partitions::from([("one".into(), vec![0, 7])]),
            generation: 5,
            rack: Some("east".into()),
        }
    }

    #[test]
    fn what_is_written_is_read_again_here_and_by_kafka_protocol() {
        for rack in [None, Some("east".to_owned())] {
            let ours = Subscription { rack, ..sample() };
            let bytes = ours.encode();
            assert_eq!(Subscription::decode(&bytes), Ok(ours.clone()));
            let mut body = bytes.slice(2..);
            let theirs = ConsumerProtocolSubscription::decode(&mut body, 3).unwrap();
            assert_eq!(theirs.topics[1].as_str(), "two");
            assert_eq!(theirs.owned_partitions[0].partitions, [0, 7]);
            assert_eq!((theirs.generation_id, theirs.rack_id.is_some()), (5, ours.rack.is_some()));
        }
        let assigned = sample().owned;
        let bytes = encode_assignment(&assigned);
        assert_eq!(decode_assignment(&bytes), Ok(assigned));
        let theirs = ConsumerProtocolAssignment::decode(&mut bytes.slice(2..), 1).unwrap();
        assert_eq!(theirs.assigned_partitions[0].partitions, [0, 7]);
    }

    #[test]
    fn the_partitions_of_an_assignment_are_read() {
        let read = |bytes: &[u8]| decode_assignment(bytes).map(|all| flat(&all));
        let part = |partition| TopicPartition::new("t", partition);
        assert_eq!(read(TWO), Ok([part(3), part(5)].into()));
        assert_eq!(read(b"\0\0\0\0\0\0\0\0\0\0"), Ok([].into()));
        assert_eq!(read(b""), Ok([].into()));
    }

    #[test]
    fn what_is_no_assignment_is_refused() {
        for bytes in [&TWO[..20], b"\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\x01\xff\xff"] {
            assert!(decode_assignment(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn subscriptions_of_older_clients_are_read() {
        let theirs = ConsumerProtocolSubscription::default().with_topics(vec!["t".into()]);
        for version in 0..=3_i16 {
            let mut bytes = BytesMut::from(&version.to_be_bytes()[..]);
            theirs.encode(&mut bytes, version).unwrap();
            let read = Subscription::decode(&bytes).unwrap();
            assert_eq!((read.topics, read.generation), (vec!["t".to_owned()], -1));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = Subscription::decode(&bytes);
            let _ = decode_assignment(&bytes);
        }
    }
}
