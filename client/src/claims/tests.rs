//! Layouts and kafka-protocol agree on every byte, and no claim gets past the walker.
//!
//! Bodies are written from the layouts and read by kafka-protocol: a field that a layout lacks, or has in a wrong
//! version, leaves the two at different places.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, ApiVersionsResponse, ConsumerGroupDescribeRequest,
    ConsumerGroupHeartbeatRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    ElectLeadersRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, ProduceRequest, ResponseHeader,
    SyncGroupRequest, UnregisterBrokerRequest,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion};
use proptest::{collection::vec, prelude::any, proptest, sample::Index};

use super::layouts::{self, Field, Kind, Layout, Response};
use super::{Fault, Malformed, TAGS_MAX, Walker, Width, check};
use crate::connection::Api;

/// A response that this client reads.
struct Case {
    name: &'static str,
    response: &'static Response,
    versions: RangeInclusive<i16>,
    decode: fn(i16, &Bytes) -> Result<usize, String>,
}

/// How many bytes kafka-protocol reads of a response and its header.
fn decode<T: Decodable + HeaderVersion>(version: i16, bytes: &Bytes) -> Result<usize, String> {
    let mut rest = bytes.clone();
    ResponseHeader::decode(&mut rest, T::header_version(version)).map_err(|e| e.to_string())?;
    T::decode(&mut rest, version).map_err(|e| e.to_string())?;
    Ok(bytes.len() - rest.len())
}

fn case<R: Api>() -> Case
where
    R::Response: Decodable + HeaderVersion,
{
    let versions = R::VERSIONS.min..=R::VERSIONS.max.min(R::MAX);
    Case { name: R::NAME, response: R::RESPONSE, versions, decode: decode::<R::Response> }
}

/// It is no [`Api`], since its answer may come in another version.
fn api_versions() -> Case {
    Case {
        name: "ApiVersions",
        response: &layouts::API_VERSIONS,
        versions: 0..=3,
        decode: decode::<ApiVersionsResponse>,
    }
}

fn every() -> Vec<(Case, i16)> {
    let all: [fn() -> Case; 29] = [
        api_versions,
        case::<MetadataRequest>,
        case::<ProduceRequest>,
        case::<FetchRequest>,
        case::<ListOffsetsRequest>,
        case::<InitProducerIdRequest>,
        case::<CreateTopicsRequest>,
        case::<DeleteTopicsRequest>,
        case::<DescribeConfigsRequest>,
        case::<DescribeLogDirsRequest>,
        case::<DescribeClusterRequest>,
        case::<AlterPartitionReassignmentsRequest>,
        case::<ListPartitionReassignmentsRequest>,
        case::<IncrementalAlterConfigsRequest>,
        case::<ElectLeadersRequest>,
        case::<UnregisterBrokerRequest>,
        case::<FindCoordinatorRequest>,
        case::<ListGroupsRequest>,
        case::<DescribeGroupsRequest>,
        case::<ConsumerGroupDescribeRequest>,
        case::<DeleteGroupsRequest>,
        case::<OffsetFetchRequest>,
        case::<OffsetCommitRequest>,
        case::<OffsetDeleteRequest>,
        case::<JoinGroupRequest>,
        case::<SyncGroupRequest>,
        case::<HeartbeatRequest>,
        case::<LeaveGroupRequest>,
        case::<ConsumerGroupHeartbeatRequest>,
    ];
    let each = |make: fn() -> Case| make().versions.map(move |version| (make(), version));
    all.into_iter().flat_map(each).collect()
}

/// Writes a response by its layout, with `elements` in every array.
struct Sample {
    out: BytesMut,
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Sample {
    fn of(response: &Response, version: i16, elements: usize) -> Bytes {
        let flexible = response.is_flexible(version);
        let mut sample = Self { out: BytesMut::new(), version, flexible, elements };
        sample.out.put_i32(7);
        if flexible && response.tagged_header {
            sample.tagged(&[]);
        }
        sample.layout(&response.body);
        sample.out.freeze()
    }

    fn layout(&mut self, layout: &Layout) {
        layout.fields.iter().for_each(|field| self.field(field));
        if self.flexible {
            self.tagged(layout.tagged);
        }
    }

    fn field(&mut self, field: &Field) {
        if !field.exists(self.version) {
            return;
        }
        match field.kind {
            Kind::Fixed(bytes) => self.out.put_bytes(1, bytes),
            Kind::Text => {
                self.length(Width::Two, 5);
                self.out.put_slice(b"words");
            }
            Kind::Texts => {
                self.length(Width::Four, self.elements);
                for _ in 0..self.elements {
                    self.length(Width::Two, 4);
                    self.out.put_slice(b"name");
                }
            }
            Kind::Records => {
                self.length(Width::Four, 9);
                self.out.put_slice(b"\xffrecords\xff");
            }
            Kind::Numbers(bytes) => {
                self.length(Width::Four, self.elements);
                self.out.put_bytes(1, bytes * self.elements);
            }
            Kind::Array(element) => {
                self.length(Width::Four, self.elements);
                (0..self.elements).for_each(|_| self.layout(element));
            }
            Kind::Struct(layout) => self.layout(layout),
            Kind::Option(_) if self.elements == 0 => self.out.put_i8(-1),
            Kind::Option(layout) => {
                self.out.put_i8(1);
                self.layout(layout);
            }
        }
    }

    fn tagged(&mut self, known: &[(u32, Field)]) {
        let known: Vec<_> = known.iter().filter(|(_, f)| f.exists(self.version)).collect();
        self.varint(known.len() + 1);
        for (tag, field) in known {
            let content = {
                let mut inner = Self { out: BytesMut::new(), ..*self };
                inner.field(field);
                inner.out
            };
            self.varint(*tag as usize);
            self.varint(content.len());
            self.out.put_slice(&content);
        }
        self.varint(99);
        self.varint(3);
        self.out.put_slice(b"new");
    }

    fn length(&mut self, classic: Width, length: usize) {
        match classic {
            _ if self.flexible => self.varint(length + 1),
            Width::Two => self.out.put_i16(i16::try_from(length).unwrap()),
            Width::Four | Width::Varint => self.out.put_i32(i32::try_from(length).unwrap()),
        }
    }

    fn varint(&mut self, value: usize) {
        let low = u8::try_from(value & 0x7f).unwrap();
        if value < 0x80 {
            self.out.put_u8(low);
        } else {
            self.out.put_u8(low | 0x80);
            self.varint(value >> 7);
        }
    }
}

/// The walker after all of a response.
fn walk<'a>(case: &Case, version: i16, bytes: &'a [u8]) -> Result<Walker<'a>, Malformed> {
    let mut walker = Walker::new(bytes, version, case.response.is_flexible(version));
    walker.response(case.response).map(|()| walker)
}

/// Where the walker let `bytes` through, kafka-protocol either ends at the same byte or refuses them. (What
/// the walker refuses must not be decoded, not even in a test.)
fn assert_agreement(case: &Case, version: i16, bytes: &Bytes) {
    let Ok(walker) = walk(case, version, bytes) else { return };
    if let Ok(end) = (case.decode)(version, bytes) {
        assert_eq!(end, walker.at, "{} {version}: {bytes:?}", case.name);
    }
}

#[test]
fn what_a_layout_describes_kafka_protocol_reads_to_its_end() {
    for (case, version) in every() {
        for elements in 0..4 {
            let sample = Sample::of(case.response, version, elements);
            let (name, all) = (case.name, Ok(sample.len()));
            assert_eq!((case.decode)(version, &sample), all, "{name} {version}: {sample:?}");
            assert_eq!(walk(&case, version, &sample).map(|w| w.at), Ok(sample.len()), "{name}");
        }
    }
}

#[test]
fn a_layout_begins_to_be_flexible_when_its_header_does() {
    fn flexible<R: Api>(version: i16) -> (bool, bool) {
        (R::RESPONSE.is_flexible(version), R::Response::header_version(version) == 1)
    }
    let all = [
        flexible::<MetadataRequest>,
        flexible::<ProduceRequest>,
        flexible::<FetchRequest>,
        flexible::<ListOffsetsRequest>,
        flexible::<InitProducerIdRequest>,
        flexible::<CreateTopicsRequest>,
        flexible::<DeleteTopicsRequest>,
        flexible::<DescribeConfigsRequest>,
        flexible::<DescribeLogDirsRequest>,
        flexible::<DescribeClusterRequest>,
        flexible::<AlterPartitionReassignmentsRequest>,
        flexible::<ListPartitionReassignmentsRequest>,
        flexible::<IncrementalAlterConfigsRequest>,
        flexible::<ElectLeadersRequest>,
        flexible::<UnregisterBrokerRequest>,
        flexible::<FindCoordinatorRequest>,
        flexible::<ListGroupsRequest>,
        flexible::<DescribeGroupsRequest>,
        flexible::<ConsumerGroupDescribeRequest>,
        flexible::<DeleteGroupsRequest>,
        flexible::<OffsetFetchRequest>,
        flexible::<OffsetCommitRequest>,
        flexible::<JoinGroupRequest>,
        flexible::<SyncGroupRequest>,
        flexible::<HeartbeatRequest>,
        flexible::<LeaveGroupRequest>,
        flexible::<ConsumerGroupHeartbeatRequest>,
    ];
    for version in 0..=12 {
        assert!(all.iter().map(|api| api(version)).all(|(ours, theirs)| ours == theirs));
    }
}

#[test]
fn a_length_that_nothing_backs_is_refused_wherever_it_stands() {
    let mut forged = 0;
    for (case, version) in every() {
        let sample = Sample::of(case.response, version, 2);
        for (range, width) in walk(&case, version, &sample).unwrap().lengths {
            let lies: &[&[u8]] = match width {
                Width::Two => &[&[0x7f, 0xff], &[0x80, 0], &[0xff, 0xfe]],
                Width::Four => &[&[0x7f, 0xff, 0xff, 0xff], &[0x80, 0, 0, 0]],
                Width::Varint => &[
                    &[0xff, 0xff, 0xff, 0xff, 0x0f],
                    &[0xff, 0xff, 0xff, 0xff, 0x07],
                    &[0xff, 0xff, 0xff, 0xff, 0xff],
                ],
            };
            for lie in lies {
                let bytes = [&sample[..range.start], lie, &sample[range.end..]].concat();
                assert!(check(case.response, version, &bytes).is_err(), "{} {version}", case.name);
                forged += 1;
            }
        }
    }
    assert!(forged > 1_000, "{forged} forged lengths prove little");
}

#[test]
fn a_response_cut_short_is_refused_wherever_it_ends() {
    for (case, version) in every() {
        let sample = Sample::of(case.response, version, 1);
        for end in 0..sample.len() {
            assert!(check(case.response, version, &sample[..end]).is_err(), "{}", case.name);
        }
    }
}

#[test]
fn a_response_says_where_and_what_is_wrong_and_has_a_limit_of_tags() {
    let lie = [&[0; 4][..], &i32::MAX.to_be_bytes()].concat();
    let refused = check(&layouts::METADATA, 0, &lie).unwrap_err();
    assert_eq!(refused.to_string(), "brokers at byte 8: the response ends before it does");
    let mut tags = BytesMut::from(&[0; 4][..]);
    let count = u32::try_from(TAGS_MAX + 1).unwrap();
    let low = |shift: u32| u8::try_from((count >> shift) & 0x7f).unwrap();
    tags.put_slice(&[low(0) | 0x80, low(7) | 0x80, low(14)]);
    tags.put_slice(&[9, 0].repeat(TAGS_MAX + 1));
    let refused = check(&layouts::FETCH, 12, &tags).unwrap_err();
    assert_eq!(refused.fault, Fault::TooManyTags);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(which: Index, bytes in vec(any::<u8>(), 0..200)) {
        let every = every();
        let (case, version) = which.get(&every);
        assert_agreement(case, *version, &bytes.into());
    }

    #[test]
    fn small_numbers_in_place_of_bytes_never_panic(which: Index, bytes in vec(0_u8..4, 0..200)) {
        let every = every();
        let (case, version) = which.get(&every);
        assert_agreement(case, *version, &bytes.into());
    }

    #[test]
    fn whatever_some_bytes_become_walker_and_decoder_agree(
        which: Index,
        elements in 0_usize..3,
        changes in vec((any::<Index>(), any::<u8>(), 0..3_u8), 1..5),
    ) {
        let every = every();
        let (case, version) = which.get(&every);
        let mut bytes = Sample::of(case.response, *version, elements).to_vec();
        for (at, value, what) in changes {
            let at = at.index(bytes.len() + 1);
            match what {
                0 if at < bytes.len() => bytes[at] = value,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, value),
            }
        }
        assert_agreement(case, *version, &bytes.into());
    }
}
