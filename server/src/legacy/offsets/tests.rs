//! `OffsetCommit` 1 and 10 and `OffsetFetch` 10 byte by byte, against version 9, and with bytes that are anything.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::offset_commit_response::OffsetCommitResponsePartition;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions;
use kafka_protocol::messages::{GroupId, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest};
use uuid::Uuid;

use super::*;

const COMMIT_V1: &[u8] = b"\0\x01g\0\0\0\x02\0\x01m\
    \0\0\0\x01\0\x02ab\
    \0\0\0\x02\
    \0\0\0\x03\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x03\xe8\0\x01x\
    \0\0\0\x04\0\0\0\0\0\0\0\x05\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";

/// A name of so many bytes and the length before it are as long as an id, so version 9's bytes are version 10's.
const LONG_AS_AN_ID: &str = "fifteen bytes!!";

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn long_name() -> TopicName {
    TopicName(text(LONG_AS_AN_ID))
}

/// The id that the bytes of [`LONG_AS_AN_ID`] are.
fn id() -> Uuid {
    let bytes = [&[16], LONG_AS_AN_ID.as_bytes()].concat();
    Uuid::from_slice(&bytes).unwrap()
}

#[test]
fn a_commit_of_version_1_has_a_time_for_each_partition() {
    let mut body = Bytes::from_static(COMMIT_V1);
    let CommitV1 { request, timestamps } = decode_commit_v1(&mut body).unwrap();
    assert!(body.is_empty());
    assert_eq!((request.group_id.as_str(), request.member_id.as_str()), ("g", "m"));
    assert_eq!(request.generation_id_or_member_epoch, 2);
    assert_eq!(request.retention_time_ms, -1);
    let topic = &request.topics[0];
    assert_eq!(topic.name.as_str(), "ab");
    let found: Vec<_> = topic
        .partitions
        .iter()
        .map(|p| (p.partition_index, p.committed_offset, p.committed_metadata.as_deref()))
        .collect();
    assert_eq!(found, [(3, 0x102, Some("x")), (4, 5, None)]);
    assert_eq!(timestamps, [[1_000, -1]]);
    assert!(request.encode(&mut BytesMut::new(), 2).is_ok(), "it is a commit of version 2");
}

#[test]
fn a_commit_that_ends_early_is_malformed() {
    for end in 0..COMMIT_V1.len() {
        let mut body = Bytes::from_static(COMMIT_V1).slice(..end);
        assert!(decode_commit_v1(&mut body).is_err(), "cut at {end}");
    }
}

#[test]
fn counts_that_the_bytes_cannot_hold_are_malformed() {
    let mut body = Bytes::from_static(b"\x02g\0\0\0\x01\x01\0\xff\xff\xff\xff\x0f\x02");
    assert_eq!(decode_commit_v10(&mut body), Err(Error::Malformed("array")));
    let mut body = Bytes::from_static(b"\xff\xff\xff\xff\x0f\x02");
    assert_eq!(decode_fetch_v10(&mut body), Err(Error::Malformed("array")));
    let mut body = Bytes::from_static(b"\0\x01g\0\0\0\x02\0\x01m\xff\xff\xff\xff");
    assert_eq!(decode_commit_v1(&mut body), Err(Error::Malformed("array")), "null is no array");
}

#[test]
fn answers_of_version_10_have_the_bytes_of_version_9_but_for_the_id() {
    let partition =
        OffsetCommitResponsePartition::default().with_partition_index(3).with_error_code(100);
    let topic = OffsetCommitResponseTopic::default().with_partitions(vec![partition; 200]);
    let of =
        |topic| OffsetCommitResponse::default().with_throttle_time_ms(7).with_topics(vec![topic]);
    let (mut nine, mut ten) = (BytesMut::new(), BytesMut::new());
    of(topic.clone().with_name(long_name())).encode(&mut nine, 9).unwrap();
    encode_commit_v10(&of(topic.with_topic_id(id())), &mut ten).unwrap();
    assert_eq!(nine, ten);
}

#[test]
fn what_is_committed_has_the_bytes_of_version_9_but_for_the_id() {
    let partition = OffsetFetchResponsePartitions::default()
        .with_partition_index(3)
        .with_committed_offset(1 << 40)
        .with_committed_leader_epoch(4)
        .with_metadata(Some(text(&"note ".repeat(60))));
    let nothing = OffsetFetchResponsePartitions::default().with_metadata(None).with_error_code(100);
    let topic = OffsetFetchResponseTopics::default().with_partitions(vec![partition, nothing]);
    let of = |topic| {
        let group = OffsetFetchResponseGroup::default()
            .with_group_id(GroupId(text("gruppe")))
            .with_topics(vec![topic]);
        let refused = OffsetFetchResponseGroup::default().with_error_code(25);
        OffsetFetchResponse::default().with_throttle_time_ms(7).with_groups(vec![group, refused])
    };
    let (mut nine, mut ten) = (BytesMut::new(), BytesMut::new());
    of(topic.clone().with_name(long_name())).encode(&mut nine, 9).unwrap();
    encode_fetch_v10(&of(topic.with_topic_id(id())), &mut ten).unwrap();
    assert_eq!(nine, ten);
}

#[test]
fn requests_of_version_10_name_topics_by_id() {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(3)
        .with_committed_offset(42)
        .with_committed_leader_epoch(4)
        .with_committed_metadata(Some(text("note")));
    let topic = OffsetCommitRequestTopic::default().with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_group_instance_id(Some(text("i")));
    let mut bytes = BytesMut::new();
    let named = vec![topic.clone().with_name(long_name())];
    commit.clone().with_topics(named).encode(&mut bytes, 9).unwrap();
    let by_id = commit.with_topics(vec![topic.with_topic_id(id())]);
    assert_eq!(decode_commit_v10(&mut bytes.freeze()), Ok(by_id));

    let topic = OffsetFetchRequestTopics::default().with_partition_indexes(vec![0, 7]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_member_id(Some(text("m")))
        .with_member_epoch(3);
    let all = group.clone().with_topics(None);
    let of = |topic| {
        let some = group.clone().with_topics(Some(vec![topic]));
        OffsetFetchRequest::default().with_groups(vec![some, all.clone()]).with_require_stable(true)
    };
    let mut bytes = BytesMut::new();
    of(topic.clone().with_name(long_name())).encode(&mut bytes, 9).unwrap();
    assert_eq!(decode_fetch_v10(&mut bytes.freeze()), Ok(of(topic.with_topic_id(id()))));
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode_commit_v1(&mut Bytes::from(bytes.clone()));
        let _ = decode_commit_v10(&mut Bytes::from(bytes.clone()));
        let _ = decode_fetch_v10(&mut Bytes::from(bytes));
    }

    #[test]
    fn a_damaged_commit_does_not_panic(position in 0..COMMIT_V1.len(), byte: u8) {
        let mut bytes = COMMIT_V1.to_vec();
        bytes[position] = byte;
        let _ = decode_commit_v1(&mut Bytes::from(bytes));
    }

    #[test]
    fn many_partitions_are_written_and_counted_as_version_9_does(count in 0..20_000i32) {
        let topic = OffsetCommitResponseTopic::default().with_partitions(
            (0..count).map(|p| OffsetCommitResponsePartition::default().with_partition_index(p)).collect());
        let of = |topic| OffsetCommitResponse::default().with_topics(vec![topic]);
        let (mut nine, mut ten) = (BytesMut::new(), BytesMut::new());
        of(topic.clone().with_name(long_name())).encode(&mut nine, 9).unwrap();
        encode_commit_v10(&of(topic.with_topic_id(id())), &mut ten).unwrap();
        prop_assert_eq!(nine, ten);
    }
}
