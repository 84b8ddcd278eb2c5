//! `ListOffsets` 0 and 11 byte by byte, and with bytes that are anything.

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ListOffsetsRequest, ListOffsetsResponse, TopicName,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    },
    protocol::{Encodable, StrBytes},
};
use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest};

use super::{
    super::Error, PartitionV0, RequestV0, Segment, TopicV0, decode_request_v0, decode_request_v11,
    encode_response_v0, encode_response_v11,
};

const REQUEST_V0: &[u8] = b"\xff\xff\xff\xff\
    \0\0\0\x01\0\x02ab\
    \0\0\0\x02\
    \0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x01\
    \0\0\0\x04\0\0\0\0\0\0\x01\x02\0\0\0\x05";

const SEGMENT: Segment = Segment { start: 3, end: 9, modified_ms: 1_000 };

fn name(topic: &'static str) -> TopicName {
    StrBytes::from_static_str(topic).into()
}

#[test]
fn a_request_of_version_0_keeps_how_many_offsets_it_wants() {
    let mut body = Bytes::from_static(REQUEST_V0);
    let RequestV0 { request, max_num_offsets } = decode_request_v0(&mut body).unwrap();
    let partition = |index, timestamp| {
        ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp)
    };
    let topic = ListOffsetsTopic::default()
        .with_name(name("ab"))
        .with_partitions(vec![partition(3, -1), partition(4, 0x102)]);
    let expected =
        ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    assert_eq!(request, expected);
    assert_eq!(max_num_offsets, [[1, 5]]);
    assert!(body.is_empty());
    assert!(request.encode(&mut BytesMut::new(), 1).is_ok(), "it is a request of version 1");
}

#[test]
fn a_request_that_ends_early_is_malformed() {
    for end in 0..REQUEST_V0.len() {
        let mut body = Bytes::from_static(REQUEST_V0).slice(..end);
        assert!(decode_request_v0(&mut body).is_err(), "cut at {end}");
    }
}

#[test]
fn a_count_that_the_bytes_cannot_hold_is_malformed() {
    let mut body = Bytes::from_static(b"\xff\xff\xff\xff\x7f\xff\xff\xff\0\x01a");
    assert_eq!(decode_request_v0(&mut body), Err(Error::Malformed("array")));
    let mut body = Bytes::from_static(b"\xff\xff\xff\xff\0\xff\xff\xff\xff\x0f\x02a");
    assert_eq!(decode_request_v11(&mut body), Err(Error::Malformed("array")));
}

#[test]
fn a_response_of_version_0_lists_offsets() {
    let partitions = vec![
        PartitionV0 { partition_index: 3, error_code: 0, offsets: vec![9, 3] },
        PartitionV0 { partition_index: 4, error_code: 6, offsets: vec![] },
    ];
    let mut out = BytesMut::new();
    encode_response_v0(&[TopicV0 { name: name("ab"), partitions }], &mut out).unwrap();
    let expected = b"\0\0\0\x01\0\x02ab\
        \0\0\0\x02\
        \0\0\0\x03\0\0\0\0\0\x02\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x03\
        \0\0\0\x04\0\x06\0\0\0\0";
    assert_eq!(out, expected[..]);
}

#[test]
fn the_latest_offsets_are_the_end_and_then_the_start() {
    assert_eq!(SEGMENT.offsets_before(-1, 1, 2_000), [9]);
    assert_eq!(SEGMENT.offsets_before(-1, 9, 2_000), [9, 3]);
}

#[test]
fn the_earliest_offset_is_the_start() {
    assert_eq!(SEGMENT.offsets_before(-2, 9, 2_000), [3]);
}

#[test]
fn a_time_gives_what_existed_by_then() {
    assert!(SEGMENT.offsets_before(999, 9, 2_000).is_empty());
    assert_eq!(SEGMENT.offsets_before(1_000, 9, 2_000), [3]);
    assert_eq!(SEGMENT.offsets_before(1_999, 9, 2_000), [3]);
    assert_eq!(SEGMENT.offsets_before(2_000, 9, 2_000), [9, 3]);
}

#[test]
fn an_empty_partition_has_one_offset() {
    let empty = Segment { start: 5, end: 5, modified_ms: -1 };
    for timestamp in [-1, -2, 2_000] {
        assert_eq!(empty.offsets_before(timestamp, 9, 2_000), [5]);
    }
}

#[test]
fn no_offsets_are_given_to_who_wants_none() {
    for max_num_offsets in [0, -1, i32::MIN] {
        assert!(SEGMENT.offsets_before(-1, max_num_offsets, 2_000).is_empty());
    }
}

#[test]
fn version_11_reads_tagged_fields_and_leaves_nothing() {
    let mut body = Bytes::from_static(
        b"\xff\xff\xff\xff\x01\
        \x02\x03ab\
        \x02\0\0\0\x03\0\0\0\x07\xff\xff\xff\xff\xff\xff\xff\xfa\x01\x05\x02xy\
        \0\
        \0\0\x01\0\
        \0",
    );
    let request = decode_request_v11(&mut body).unwrap();
    assert!(body.is_empty());
    assert_eq!((request.isolation_level, request.timeout_ms), (1, 256));
    let partition = &request.topics[0].partitions[0];
    assert_eq!((partition.partition_index, partition.timestamp), (3, -6));
    assert_eq!(partition.current_leader_epoch, 7);
}

#[test]
fn version_11_answers_the_bytes_of_version_10() {
    let partition = ListOffsetsPartitionResponse::default()
        .with_partition_index(3)
        .with_timestamp(-1)
        .with_offset(9)
        .with_leader_epoch(2);
    let topic =
        ListOffsetsTopicResponse::default().with_name(name("a")).with_partitions(vec![partition]);
    let response = ListOffsetsResponse::default().with_topics(vec![topic]);
    let mut out = BytesMut::new();
    encode_response_v11(&response, &mut out).unwrap();
    let expected = b"\0\0\0\0\x02\x02a\x02\0\0\0\x03\0\0\xff\xff\xff\xff\xff\xff\xff\xff\
        \0\0\0\0\0\0\0\x09\0\0\0\x02\0\0\0";
    assert_eq!(out, expected[..]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode_request_v0(&mut Bytes::from(bytes.clone()));
        let _ = decode_request_v11(&mut Bytes::from(bytes));
    }

    #[test]
    fn a_damaged_request_does_not_panic(position in 0..REQUEST_V0.len(), byte: u8) {
        let mut bytes = REQUEST_V0.to_vec();
        bytes[position] = byte;
        let _ = decode_request_v0(&mut Bytes::from(bytes));
    }

    #[test]
    fn version_11_reads_what_version_10_writes(
        topics in vec(("[a-z]{0,300}", vec((any::<i32>(), any::<i64>()), 0..200)), 0..4),
        timeout_ms: i32,
    ) {
        let topics = topics.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, timestamp)| {
                ListOffsetsPartition::default()
                    .with_partition_index(index)
                    .with_timestamp(timestamp)
            });
            ListOffsetsTopic::default()
                .with_name(StrBytes::from_string(name).into())
                .with_partitions(partitions.collect())
        });
        let request = ListOffsetsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(timeout_ms);
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, 10).unwrap();
        let mut body = bytes.freeze();
        prop_assert_eq!(decode_request_v11(&mut body), Ok(request));
        assert!(body.is_empty());
    }
}
