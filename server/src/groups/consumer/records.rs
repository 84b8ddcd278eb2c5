//! What is stored of a consumer group, in Kafka's formats: keys 3 to 8 and 16, each value in version 0.
//!
//! | key | stores |
//! |---|---|
//! | 3 | the group's epoch, and the hash of the topics as of then |
//! | 4 | the topics themselves: written until Kafka 4.0; only its tombstone is written here |
//! | 5 | a member's subscription |
//! | 6, 7 | the target's epoch, and a member's part of the target |
//! | 8 | a member's epoch and what it has |
//! | 16 | the topics that a regular expression matches |
//!
//! A key without a value is a tombstone.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::member::{ClassicSide, Current, Progress, Subscription};
use super::{Assignment, Owned};
use crate::groups::member::Protocol;
use crate::groups::wire::{Reader, put_compact, put_string, put_varint};

/// The group's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochValue {
    pub(crate) epoch: i32,
    pub(crate) metadata_hash: i64,
}

/// The epoch of the target assignment, and when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TargetValue {
    pub(crate) epoch: i32,
    pub(crate) made_ms: i64,
}

/// What a regular expression matched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RegexValue {
    pub(crate) topics: BTreeSet<String>,
    /// The version of the metadata at that time.
    pub(crate) version: i64,
    pub(crate) resolved_ms: i64,
}

/// One of the records that make up a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Epoch(Option<EpochValue>),
    /// Whether there is one; what it says is not used.
    Topics(bool),
    Member(String, Option<Subscription>),
    TargetEpoch(Option<TargetValue>),
    Target(String, Option<Assignment>),
    Current(String, Option<Current>),
    Regex(String, Option<RegexValue>),
}

/// The kinds of keys.
pub(in crate::groups) const KEYS: [i16; 7] = [3, 4, 5, 6, 7, 8, 16];

impl Piece {
    /// Key and value as they are stored.
    pub(in crate::groups) fn encode(&self, group: &str) -> (Bytes, Option<Bytes>) {
        let (kind, of) = match self {
            Self::Epoch(_) => (3, None),
            Self::Topics(_) => (4, None),
            Self::Member(id, _) => (5, Some(id)),
            Self::TargetEpoch(_) => (6, None),
            Self::Target(id, _) => (7, Some(id)),
            Self::Current(id, _) => (8, Some(id)),
            Self::Regex(regex, _) => (16, Some(regex)),
        };
        let mut key = BytesMut::new();
        key.put_i16(kind);
        put_string(&mut key, group);
        if let Some(of) = of {
            put_string(&mut key, of);
        }
        (key.freeze(), self.encode_value())
    }

    /// How many bytes it takes, roughly.
    pub(super) fn weight(&self) -> usize {
        let strings = |all: &BTreeSet<String>| all.iter().map(|one| one.len() + 2).sum::<usize>();
        let parts = |owned: &Owned| owned.values().map(|parts| 24 + 8 * parts.len()).sum::<usize>();
        let (of, value) = match self {
            Self::Epoch(_) | Self::Topics(_) | Self::TargetEpoch(_) => (0, 0),
            Self::Member(id, value) => {
                let text = |says: &Subscription| {
                    let regex = says.regex.as_ref().map_or(0, String::len);
                    let protocols = says.classic.iter().flat_map(|side| &side.protocols);
                    let protocols: usize = protocols.map(|p| p.metadata.len() + 16).sum();
                    strings(&says.topics) + regex + protocols + 200
                };
                (id.len(), value.as_ref().map_or(0, text))
            }
            Self::Target(id, value) => {
                let parts = value.iter().flatten().map(|(_, parts)| 24 + 4 * parts.len());
                (id.len(), parts.sum())
            }
            Self::Current(id, value) => {
                let all = value.as_ref().map_or(0, |v| parts(&v.assigned) + parts(&v.revoking));
                (id.len(), all)
            }
            Self::Regex(regex, value) => {
                (regex.len(), value.as_ref().map_or(0, |value| strings(&value.topics)))
            }
        };
        64 + of + value
    }

    fn encode_value(&self) -> Option<Bytes> {
        let mut to = BytesMut::new();
        to.put_i16(0);
        match self {
            Self::Epoch(value) => put_epoch(&mut to, (*value)?),
            Self::Topics(_) => return None,
            Self::Member(_, value) => put_subscription(&mut to, value.as_ref()?),
            Self::TargetEpoch(value) => put_target_epoch(&mut to, (*value)?),
            Self::Target(_, value) => {
                let value = value.as_ref()?;
                put_varint(&mut to, value.len() as u64 + 1);
                for (topic, parts) in value {
                    to.put_slice(topic.as_bytes());
                    put_numbers(&mut to, parts.len(), parts.iter());
                    put_varint(&mut to, 0);
                }
                put_varint(&mut to, 0);
            }
            Self::Current(_, value) => put_current(&mut to, value.as_ref()?),
            Self::Regex(_, value) => {
                let value = value.as_ref()?;
                put_strings(&mut to, &value.topics);
                to.put_i64(value.version);
                to.put_i64(value.resolved_ms);
                put_varint(&mut to, 0);
            }
        }
        Some(to.freeze())
    }

    /// Reads what follows the kind of the key, and the value; the group's name comes first.
    ///
    /// # Errors
    /// What does not decode.
    pub(in crate::groups) fn decode(
        kind: i16,
        mut key: Reader<'_>,
        value: Option<&[u8]>,
    ) -> Result<(String, Self), &'static str> {
        let group = key.string(false).ok_or("key of a consumer group")?;
        let of = match kind {
            5 | 7 | 8 | 16 => key.string(false).ok_or("key of a part of a consumer group")?,
            _ => String::new(),
        };
        let piece = match (kind, value) {
            (3, value) => read(value, epoch).map(Self::Epoch),
            (4, value) => Some(Self::Topics(value.is_some())),
            (5, value) => read(value, subscription).map(|value| Self::Member(of, value)),
            (6, value) => read(value, target_epoch).map(Self::TargetEpoch),
            (7, value) => read(value, target).map(|value| Self::Target(of, value)),
            (8, value) => read(value, current).map(|value| Self::Current(of, value)),
            (16, value) => read(value, regex).map(|value| Self::Regex(of, value)),
            _ => None,
        };
        Ok((group, piece.ok_or("value of a consumer group")?))
    }
}

/// Reads a value of version 0, if there is one.
#[expect(clippy::option_option, reason = "whether it decodes, and whether it is there")]
fn read<T>(
    value: Option<&[u8]>,
    decode: impl FnOnce(&mut Reader<'_>) -> Option<T>,
) -> Option<Option<T>> {
    let Some(value) = value else { return Some(None) };
    let mut from = Reader(value);
    match from.i16()? {
        0 => decode(&mut from).map(Some),
        _ => None,
    }
}

fn put_epoch(to: &mut BytesMut, value: EpochValue) {
    to.put_i32(value.epoch);
    put_tagged_long(to, value.metadata_hash);
}

fn put_target_epoch(to: &mut BytesMut, value: TargetValue) {
    to.put_i32(value.epoch);
    put_tagged_long(to, value.made_ms);
}

/// The tagged fields where one number, in field 0, is all there is; 0 is its default.
fn put_tagged_long(to: &mut BytesMut, value: i64) {
    put_varint(to, u64::from(value != 0));
    if value != 0 {
        put_varint(to, 0);
        put_varint(to, 8);
        to.put_i64(value);
    }
}

fn put_nullable(to: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_compact(to, text),
        None => put_varint(to, 0),
    }
}

fn put_strings(to: &mut BytesMut, texts: &BTreeSet<String>) {
    put_varint(to, texts.len() as u64 + 1);
    texts.iter().for_each(|text| put_compact(to, text));
}

fn put_numbers<'a>(to: &mut BytesMut, count: usize, numbers: impl Iterator<Item = &'a i32>) {
    put_varint(to, count as u64 + 1);
    numbers.for_each(|number| to.put_i32(*number));
}

/// A tagged field.
fn put_field(to: &mut BytesMut, content: &[u8]) {
    put_varint(to, 1);
    put_varint(to, 0);
    put_varint(to, content.len() as u64);
    to.put_slice(content);
}

fn put_subscription(to: &mut BytesMut, value: &Subscription) {
    put_nullable(to, value.instance.as_deref());
    put_nullable(to, value.rack.as_deref());
    put_compact(to, &value.client_id);
    put_compact(to, &value.client_host);
    put_strings(to, &value.topics);
    put_nullable(to, value.regex.as_deref());
    to.put_i32(value.rebalance_timeout_ms);
    put_nullable(to, value.assignor.as_deref());
    let Some(classic) = &value.classic else {
        put_varint(to, 0);
        return;
    };
    let mut side = BytesMut::new();
    // A struct that may be null says that it is not.
    side.put_i8(1);
    side.put_i32(classic.session_timeout_ms);
    put_varint(&mut side, classic.protocols.len() as u64 + 1);
    for protocol in &classic.protocols {
        put_compact(&mut side, &protocol.name);
        put_varint(&mut side, protocol.metadata.len() as u64 + 1);
        side.put_slice(&protocol.metadata);
        put_varint(&mut side, 0);
    }
    put_varint(&mut side, 0);
    put_field(to, &side);
}

fn put_current(to: &mut BytesMut, value: &Current) {
    to.put_i32(value.epoch);
    to.put_i32(value.previous_epoch);
    to.put_i8(value.progress.number());
    for owned in [&value.assigned, &value.revoking] {
        put_varint(to, owned.len() as u64 + 1);
        for (topic, parts) in owned {
            to.put_slice(topic.as_bytes());
            put_numbers(to, parts.len(), parts.keys());
            let mut epochs = BytesMut::new();
            put_numbers(&mut epochs, parts.len(), parts.values());
            put_field(to, &epochs);
        }
    }
    put_varint(to, 0);
}

/// A number in tagged field 0, which is 0 unless it is there.
fn tagged_long(from: &mut Reader<'_>) -> Option<i64> {
    let mut value = Some(0);
    from.tagged(|tag, content| {
        if tag == 0 {
            value = Reader(content).i64();
        }
    })?;
    value
}

fn epoch(from: &mut Reader<'_>) -> Option<EpochValue> {
    Some(EpochValue { epoch: from.i32()?, metadata_hash: tagged_long(from)? })
}

fn target_epoch(from: &mut Reader<'_>) -> Option<TargetValue> {
    Some(TargetValue { epoch: from.i32()?, made_ms: tagged_long(from)? })
}

fn strings(from: &mut Reader<'_>) -> Option<BTreeSet<String>> {
    let count = from.count(true)?;
    (0..count).map(|_| from.string(true)).collect()
}

fn numbers(from: &mut Reader<'_>) -> Option<Vec<i32>> {
    let count = from.count(true)?;
    (0..count).map(|_| from.i32()).collect()
}

fn subscription(from: &mut Reader<'_>) -> Option<Subscription> {
    let mut value = Subscription {
        instance: from.nullable(true)?,
        rack: from.nullable(true)?,
        client_id: from.string(true)?,
        client_host: from.string(true)?,
        topics: strings(from)?,
        regex: from.nullable(true)?,
        rebalance_timeout_ms: from.i32()?,
        assignor: from.nullable(true)?,
        classic: None,
    };
    let mut side = Some(None);
    from.tagged(|tag, content| {
        if tag == 0 {
            side = classic_side(&mut Reader(content)).map(Some);
        }
    })?;
    value.classic = side?;
    Some(value)
}

fn classic_side(from: &mut Reader<'_>) -> Option<ClassicSide> {
    let _is_there = from.i8().filter(|there| *there == 1)?;
    let session_timeout_ms = from.i32()?;
    let count = from.count(true)?;
    let mut protocols = Vec::new();
    for _ in 0..count {
        let protocol = Protocol { name: from.string(true)?, metadata: from.bytes(true)? };
        from.tagged(|_, _| {})?;
        protocols.push(protocol);
    }
    from.tagged(|_, _| {})?;
    Some(ClassicSide { session_timeout_ms, protocols })
}

fn target(from: &mut Reader<'_>) -> Option<Assignment> {
    let count = from.count(true)?;
    let mut value = Assignment::new();
    for _ in 0..count {
        let topic = from.uuid()?;
        value.entry(topic).or_default().extend(numbers(from)?);
        from.tagged(|_, _| {})?;
    }
    from.tagged(|_, _| {})?;
    Some(value)
}

fn current(from: &mut Reader<'_>) -> Option<Current> {
    let (epoch, previous_epoch) = (from.i32()?, from.i32()?);
    let progress = Progress::from_number(from.i8()?);
    let (assigned, revoking) = (owned(from, epoch)?, owned(from, epoch)?);
    from.tagged(|_, _| {})?;
    Some(Current { epoch, previous_epoch, progress, assigned, revoking })
}

/// Partitions with the epochs at which they came. Before Kafka 4.3 those were not stored; the member's own is then as old as
/// any of them can be told to be.
fn owned(from: &mut Reader<'_>, member_epoch: i32) -> Option<Owned> {
    let count = from.count(true)?;
    let mut value = Owned::new();
    for _ in 0..count {
        let topic: Uuid = from.uuid()?;
        let parts = numbers(from)?;
        let mut epochs = Some(vec![member_epoch; parts.len()]);
        from.tagged(|tag, content| {
            if tag == 0 {
                epochs = numbers(&mut Reader(content));
            }
        })?;
        let epochs = epochs.filter(|epochs| epochs.len() == parts.len())?;
        value.entry(topic).or_default().extend(parts.into_iter().zip(epochs));
    }
    Some(value)
}

fn regex(from: &mut Reader<'_>) -> Option<RegexValue> {
    let topics = strings(from)?;
    let (version, resolved_ms) = (from.i64()?, from.i64()?);
    from.tagged(|_, _| {})?;
    Some(RegexValue { topics, version, resolved_ms })
}

#[cfg(test)]
mod tests;
