//! `CreateTopics` 0 and 1 and `DeleteTopics` 0 byte by byte, and with bytes that are anything.

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
        create_topics_response::CreatableTopicResult, delete_topics_response::DeletableTopicResult,
    },
    protocol::{Decodable, StrBytes},
};
use proptest::{collection::vec, prelude::any, proptest};

use super::{
    super::Error, CreateVersion, decode_create_request, decode_delete_request_v0,
    encode_create_response, encode_delete_response_v0,
};

/// Version 1; version 0 is the same without the last byte.
const CREATE: &[u8] = b"\0\0\0\x01\0\x01t\
    \xff\xff\xff\xff\xff\xff\
    \0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\x02\
    \0\0\0\x02\0\x01k\0\x01v\0\x01n\xff\xff\
    \0\0\x01\0\
    \x01";

const DELETE: &[u8] = b"\0\0\0\x02\0\x01a\0\x02bc\0\0\x01\0";

fn string(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn create(bytes: &[u8], version: CreateVersion) -> Result<CreateTopicsRequest, Error> {
    decode_create_request(&mut Bytes::copy_from_slice(bytes), version)
}

#[test]
fn a_creation_of_version_1_is_one_of_version_2() {
    let newer = CreateTopicsRequest::decode(&mut Bytes::from_static(CREATE), 2).unwrap();
    assert!(newer.validate_only);
    assert_eq!(newer.topics[0].assignments[0].broker_ids, [1, 2]);
    assert_eq!(newer.topics[0].configs[1].value, None);
    assert_eq!(create(CREATE, CreateVersion::V1), Ok(newer));
}

#[test]
fn a_creation_of_version_0_cannot_ask_for_validation_alone() {
    let mut body = Bytes::from_static(&CREATE[..CREATE.len() - 1]);
    let request = decode_create_request(&mut body, CreateVersion::V0).unwrap();
    assert!(body.is_empty());
    let expected = create(CREATE, CreateVersion::V1).unwrap().with_validate_only(false);
    assert_eq!(request, expected);
}

#[test]
fn requests_that_end_early_are_malformed() {
    for end in 0..CREATE.len() {
        assert!(create(&CREATE[..end], CreateVersion::V1).is_err(), "cut at {end}");
    }
    for end in 0..DELETE.len() {
        let mut body = Bytes::from_static(&DELETE[..end]);
        assert!(decode_delete_request_v0(&mut body).is_err(), "cut at {end}");
    }
}

#[test]
fn lengths_that_lie_are_malformed() {
    for (bytes, what) in [
        (&b"\x7f\xff\xff\xff\0\x01t"[..], "array"),
        (&b"\xff\xff\xff\xff\0\0\0\0"[..], "array"),
        (&b"\0\0\0\x01\x7f\xfft"[..], "length"),
        (&b"\0\0\0\x01\xff\xff\0\0"[..], "string"),
        (&b"\0\0\0\x01\xff\xfe\0\0"[..], "string"),
        (&b"\0\0\0\x01\0\x01\xff\0"[..], "string"),
    ] {
        let mut body = Bytes::from_static(bytes);
        assert_eq!(decode_delete_request_v0(&mut body), Err(Error::Malformed(what)));
    }
}

#[test]
fn answers_to_creations_say_why_from_version_1_on() {
    let result = |name, code, message| {
        CreatableTopicResult::default()
            .with_name(string(name).into())
            .with_error_code(code)
            .with_error_message(message)
    };
    let topics = vec![result("t", 36, Some(string("why"))), result("u", 0, None)];
    let response = CreateTopicsResponse::default().with_topics(topics).with_throttle_time_ms(5);
    let encoded = |version| {
        let mut out = BytesMut::new();
        encode_create_response(&response, version, &mut out).unwrap();
        out
    };
    assert_eq!(encoded(CreateVersion::V0), b"\0\0\0\x02\0\x01t\0\x24\0\x01u\0\0"[..]);
    let expected = b"\0\0\0\x02\0\x01t\0\x24\0\x03why\0\x01u\0\0\xff\xff";
    assert_eq!(encoded(CreateVersion::V1), expected[..]);
}

#[test]
fn a_message_that_is_too_long_for_its_length_is_an_error() {
    let message = StrBytes::from_string("x".repeat(40_000));
    let result = CreatableTopicResult::default().with_error_message(Some(message));
    let response = CreateTopicsResponse::default().with_topics(vec![result]);
    let encoded = encode_create_response(&response, CreateVersion::V1, &mut BytesMut::new());
    assert_eq!(encoded, Err(Error::TooLong("string")));
}

#[test]
fn a_deletion_of_version_0_is_one_of_version_1() {
    let mut body = Bytes::from_static(DELETE);
    let newer = DeleteTopicsRequest::decode(&mut Bytes::from_static(DELETE), 1).unwrap();
    assert_eq!((newer.topic_names.len(), newer.timeout_ms), (2, 256));
    assert_eq!(decode_delete_request_v0(&mut body), Ok(newer));
    assert!(body.is_empty());
}

#[test]
fn an_answer_to_a_deletion_has_no_throttle_time() {
    let result =
        DeletableTopicResult::default().with_name(Some(string("bc").into())).with_error_code(3);
    let response =
        DeleteTopicsResponse::default().with_responses(vec![result]).with_throttle_time_ms(9);
    let mut out = BytesMut::new();
    encode_delete_response_v0(&response, &mut out).unwrap();
    assert_eq!(out, b"\0\0\0\x01\0\x02bc\0\x03"[..]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = create(&bytes, CreateVersion::V0);
        let _ = create(&bytes, CreateVersion::V1);
        let _ = decode_delete_request_v0(&mut Bytes::from(bytes));
    }

    #[test]
    fn a_damaged_request_does_not_panic(position in 0..CREATE.len(), byte: u8) {
        let mut bytes = CREATE.to_vec();
        bytes[position] = byte;
        let _ = create(&bytes, CreateVersion::V1);
    }
}
