//! The records of `__consumer_offsets`, in Kafka's formats: keys 0 and 1 (a committed offset) and 2 (a classic group).
//!
//! Written as Kafka 4.3 writes them: offsets in version 4, or 1 where the client has said when the offset expires; groups in
//! version 3. Read in every version that Kafka ever wrote. A key without a value is a tombstone.
//!
//! Not here: groups of the consumer protocol (`consumer/records.rs`). Keys of other protocols are passed over.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::Now;
use super::consumer::records::{KEYS, Piece};
use super::member::{Member, Protocol};
use super::offsets::Committed;
use super::wire::{Reader, put_bytes, put_compact, put_nullable, put_string, put_varint};

/// A record, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// The offset committed by a group for a partition, or that there is none any more.
    Offset { group: String, topic: String, partition: i32, value: Option<Committed> },
    /// A group as of a generation, or that it is gone.
    Group { group: String, value: Option<GroupValue> },
    /// A part of a group of the consumer protocol.
    Consumer { group: String, piece: Piece },
    /// Something this version does not know.
    Unknown,
}

/// What is stored of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupValue {
    pub(crate) protocol_type: String,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) since_ms: i64,
    pub(crate) members: Vec<MemberValue>,
}

/// What is stored of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberValue {
    id: String,
    instance: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    subscription: Bytes,
    assignment: Bytes,
}

impl MemberValue {
    pub(super) fn new(member: &Member, protocol: &str, assignment: Bytes) -> Self {
        Self {
            id: member.id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment,
        }
    }

    /// The member as it was; what else it supported is not known.
    pub(super) fn member(&self, protocol: &str, now: Now) -> Member {
        let known = Protocol { name: protocol.to_owned(), metadata: self.subscription.clone() };
        let mut member = Member {
            id: self.id.clone(),
            instance: self.instance.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocols: vec![known],
            assignment: self.assignment.clone(),
            joining: None,
            syncing: None,
            is_new: false,
            deadline: 0,
        };
        member.heard(now.ms);
        member
    }
}

impl Record {
    pub(crate) fn group(group: &str, value: Option<GroupValue>) -> Self {
        Self::Group { group: group.to_owned(), value }
    }

    /// The group for which it stores something.
    pub(super) fn stores_for(&self) -> Option<&str> {
        match self {
            Self::Offset { group, value: Some(_), .. } | Self::Group { group, value: Some(_) } => {
                Some(group)
            }
            _ => None,
        }
    }

    /// Key and value as they are stored; a tombstone has no value.
    pub(crate) fn encode(&self) -> (Bytes, Option<Bytes>) {
        let mut key = BytesMut::new();
        match self {
            Self::Offset { group, topic, partition, value } => {
                key.put_i16(1);
                put_string(&mut key, group);
                put_string(&mut key, topic);
                key.put_i32(*partition);
                (key.freeze(), value.as_ref().map(encode_offset))
            }
            Self::Group { group, value } => {
                key.put_i16(2);
                put_string(&mut key, group);
                (key.freeze(), value.as_ref().map(encode_group))
            }
            Self::Consumer { group, piece } => piece.encode(group),
            Self::Unknown => (Bytes::new(), None),
        }
    }

    /// # Errors
    /// When a key or value of a known kind does not decode, with what it is.
    pub(crate) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, &'static str> {
        let mut key = Reader(key);
        match key.i16().ok_or("key")? {
            0 | 1 => {
                let (Some(group), Some(topic), Some(partition)) =
                    (key.string(false), key.string(false), key.i32())
                else {
                    return Err("key of an offset");
                };
                let decode = |value| decode_offset(value).ok_or("value of an offset");
                let value = value.map(decode).transpose()?;
                Ok(Self::Offset { group, topic, partition, value })
            }
            2 => {
                let group = key.string(false).ok_or("key of a group")?;
                let decode = |value| decode_group(value).ok_or("value of a group");
                Ok(Self::Group { group, value: value.map(decode).transpose()? })
            }
            kind if KEYS.contains(&kind) => {
                let (group, piece) = Piece::decode(kind, key, value)?;
                Ok(Self::Consumer { group, piece })
            }
            _ => Ok(Self::Unknown),
        }
    }
}

fn encode_offset(value: &Committed) -> Bytes {
    let mut to = BytesMut::new();
    if let Some(expires_ms) = value.expires_ms {
        to.put_i16(1);
        to.put_i64(value.offset);
        put_string(&mut to, &value.metadata);
        to.put_i64(value.committed_ms);
        to.put_i64(expires_ms);
        return to.freeze();
    }
    to.put_i16(4);
    to.put_i64(value.offset);
    to.put_i32(value.leader_epoch);
    put_compact(&mut to, &value.metadata);
    to.put_i64(value.committed_ms);
    if value.topic_id.is_nil() {
        put_varint(&mut to, 0);
    } else {
        put_varint(&mut to, 1);
        put_varint(&mut to, 0);
        put_varint(&mut to, 16);
        to.put_slice(value.topic_id.as_bytes());
    }
    to.freeze()
}

fn decode_offset(bytes: &[u8]) -> Option<Committed> {
    let mut from = Reader(bytes);
    let version = from.i16()?;
    if !(0..=4).contains(&version) {
        return None;
    }
    let offset = from.i64()?;
    let leader_epoch = if version >= 3 { from.i32()? } else { -1 };
    let metadata = from.string(version >= 4)?;
    let committed_ms = from.i64()?;
    let expires_ms = if version == 1 { Some(from.i64()?).filter(|at| *at != -1) } else { None };
    let mut topic_id = Uuid::nil();
    if version >= 4 {
        from.tagged(|tag, content| {
            if let (0, Some(id)) = (tag, Reader(content).uuid()) {
                topic_id = id;
            }
        })?;
    }
    Some(Committed { offset, leader_epoch, metadata, committed_ms, expires_ms, topic_id })
}

fn encode_group(value: &GroupValue) -> Bytes {
    let mut to = BytesMut::new();
    to.put_i16(3);
    put_string(&mut to, &value.protocol_type);
    to.put_i32(value.generation);
    put_nullable(&mut to, value.protocol.as_deref());
    put_nullable(&mut to, value.leader.as_deref());
    to.put_i64(value.since_ms);
    to.put_i32(i32::try_from(value.members.len()).unwrap_or(i32::MAX));
    for member in &value.members {
        put_string(&mut to, &member.id);
        put_nullable(&mut to, member.instance.as_deref());
        put_string(&mut to, &member.client_id);
        put_string(&mut to, &member.client_host);
        to.put_i32(member.rebalance_timeout_ms);
        to.put_i32(member.session_timeout_ms);
        put_bytes(&mut to, &member.subscription);
        put_bytes(&mut to, &member.assignment);
    }
    to.freeze()
}

fn decode_group(bytes: &[u8]) -> Option<GroupValue> {
    let mut from = Reader(bytes);
    let version = from.i16()?;
    if !(0..=4).contains(&version) {
        return None;
    }
    let flexible = version >= 4;
    let protocol_type = from.string(flexible)?;
    let generation = from.i32()?;
    let protocol = from.nullable(flexible)?;
    let leader = from.nullable(flexible)?;
    let since_ms = if version >= 2 { from.i64()? } else { -1 };
    let count = from.count(flexible)?;
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(decode_member(&mut from, version)?);
    }
    Some(GroupValue { protocol_type, generation, protocol, leader, since_ms, members })
}

fn decode_member(from: &mut Reader<'_>, version: i16) -> Option<MemberValue> {
    let flexible = version >= 4;
    let id = from.string(flexible)?;
    let instance = if version >= 3 { from.nullable(flexible)? } else { None };
    let client_id = from.string(flexible)?;
    let client_host = from.string(flexible)?;
    let rebalance = if version >= 1 { Some(from.i32()?) } else { None };
    let session_timeout_ms = from.i32()?;
    let subscription = from.bytes(flexible)?;
    let assignment = from.bytes(flexible)?;
    if flexible {
        from.tagged(|_, _| {})?;
    }
    let rebalance_timeout_ms = rebalance.unwrap_or(session_timeout_ms);
    Some(MemberValue {
        id,
        instance,
        client_id,
        client_host,
        rebalance_timeout_ms,
        session_timeout_ms,
        subscription,
        assignment,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn committed(expires_ms: Option<i64>, topic_id: Uuid) -> Committed {
        let metadata = "wie besprochen ä".to_owned();
        let leader_epoch = if expires_ms.is_some() { -1 } else { 7 };
        Committed { offset: 42, leader_epoch, metadata, committed_ms: 5, expires_ms, topic_id }
    }

    fn group() -> GroupValue {
        let member = |id: &str| MemberValue {
            id: id.to_owned(),
            instance: Some("i".to_owned()),
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(&[0, 1, 2]),
            assignment: Bytes::new(),
        };
        GroupValue {
            protocol_type: "consumer".to_owned(),
            generation: 3,
            protocol: Some("range".to_owned()),
            leader: None,
            since_ms: 9,
            members: vec![member("a"), member("b")],
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let offset = |value| Record::Offset {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            partition: 4,
            value,
        };
        let records = [
            offset(None),
            offset(Some(committed(None, Uuid::nil()))),
            offset(Some(committed(None, Uuid::from_u128(7)))),
            offset(Some(committed(Some(99), Uuid::nil()))),
            Record::group("g", None),
            Record::group("g", Some(group())),
        ];
        for record in records {
            let (key, value) = record.encode();
            assert_eq!(Record::decode(&key, value.as_deref()), Ok(record));
        }
    }

    #[test]
    fn what_older_brokers_wrote_is_read() {
        // Version 0: offset, metadata, commit time. Version 2 is the same, version 3 has the leader epoch.
        for (version, epoch) in [(0_i16, None), (2, None), (3, Some(6))] {
            let mut value = BytesMut::new();
            value.put_i16(version);
            value.put_i64(11);
            if let Some(epoch) = epoch {
                value.put_i32(epoch);
            }
            put_string(&mut value, "m");
            value.put_i64(5);
            let read = decode_offset(&value).unwrap();
            assert_eq!((read.offset, read.leader_epoch), (11, epoch.unwrap_or(-1)));
            assert_eq!((read.metadata.as_str(), read.committed_ms), ("m", 5));
        }
        let mut value =
            BytesMut::from(&encode_group(&GroupValue { members: vec![], ..group() })[..]);
        value[1] = 2;
        assert_eq!(decode_group(&value).unwrap().generation, 3);
    }

    #[test]
    fn kinds_of_records_that_are_not_known_are_passed_over() {
        assert_eq!(Record::decode(&[0, 9, 9, 9], Some(&[1])), Ok(Record::Unknown));
        assert!(Record::decode(&[0], None).is_err());
        assert!(Record::decode(&[0, 2, 0, 9, 1], None).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in proptest::collection::vec(any::<u8>(), 0..120),
            kind in 0_u8..4, version in 0_u8..6,
        ) {
            let key = [&[0, kind], &key[..]].concat();
            let value = [&[0, version], &value[..]].concat();
            let _ = Record::decode(&key, Some(&value));
            let _ = Record::decode(b"\0\x02\0\x01g", Some(&value));
            let _ = Record::decode(b"\0\x01\0\x01g\0\x01t\0\0\0\0", Some(&value));
        }
    }
}
