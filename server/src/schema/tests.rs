//! What the walker lets through, kafka-protocol decodes; what real requests hold is let through.
//!
//! That a decoder succeeded on the very bytes the walker counted shows that every element it reserved
//! memory for was there.

mod samples;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use proptest::{collection::vec, prelude::any, prop_assert_eq, proptest, sample::Index};

use super::{
    ELEMENTS_MAX, Fault, Malformed, TAGS_MAX, Walker, Width, check, check_header, requests,
};
use crate::dispatch;

/// Every request there is a layout of.
fn every() -> impl Iterator<Item = (ApiKey, i16)> {
    let each = |request: &'static super::layout::Request| {
        request.versions.clone().map(|version| (request.key, version))
    };
    requests::all().flat_map(each)
}

fn every_body() -> impl Iterator<Item = (ApiKey, i16, Bytes)> {
    let bodies = |(key, version)| {
        samples::bodies(key, version).into_iter().map(move |body| (key, version, body))
    };
    every().flat_map(bodies)
}

/// The walker after all of a body.
fn walk(key: ApiKey, version: i16, body: &[u8]) -> Result<Walker<'_>, Malformed> {
    let request = requests::find(key, version).unwrap();
    let mut walker = Walker::new(body, version, request.is_flexible(version));
    walker.layout(&request.body).map(|()| walker)
}

fn walk_header(version: i16, frame: &[u8]) -> Result<Walker<'_>, Malformed> {
    let mut walker = Walker::new(frame, version, version >= 2);
    walker.header().map(|()| walker)
}

/// What the walker accepts, kafka-protocol decodes from the same bytes. (What the walker refuses must
/// not be decoded, not even in a test.)
fn assert_agreement(key: ApiKey, version: i16, body: &Bytes) {
    let Ok(walker) = walk(key, version, body) else { return };
    let mut body = body.clone();
    match (key, version) {
        // `legacy` decodes it.
        (ApiKey::ListOffsets, 0) => return,
        (ApiKey::CreateTopics, 0) => body = Bytes::from([&body[..walker.at], &[0]].concat()),
        _ => body.truncate(walker.at),
    }
    let decoded = samples::decode(key, version, &body);
    assert_eq!(decoded, Ok(body.len()), "{key:?} version {version}: {body:?}");
}

/// `bytes` with the length at `range` replaced by one that nothing can back.
fn forge(bytes: &[u8], range: &std::ops::Range<usize>, width: Width) -> Vec<Bytes> {
    let lies: &[&[u8]] = match width {
        Width::Two => &[&[0x7f, 0xff], &[0x80, 0], &[0xff, 0xfe]],
        Width::Four => &[&[0x7f, 0xff, 0xff, 0xff], &[0x80, 0, 0, 0], &[0xff, 0xff, 0xff, 0xfe]],
        Width::Varint => &[
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0xff, 0xff, 0xff, 0xff, 0x07],
            &[0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x81, 0x80, 0x80, 0x80, 0x80, 0x01],
        ],
    };
    let forged = |lie: &&[u8]| [&bytes[..range.start], lie, &bytes[range.end..]].concat().into();
    lies.iter().map(forged).collect()
}

#[test]
fn every_request_that_is_answered_has_a_layout() {
    for api in dispatch::APIS {
        // Its body is a message of another kind.
        let dispatch::Key::Kafka(key) = api.key else { continue };
        for version in api.min..=api.max {
            assert!(requests::find(key, version).is_some(), "{:?} {version}", api.key);
        }
    }
}

#[test]
fn a_layout_begins_to_be_flexible_when_its_header_does() {
    for (key, version) in every() {
        let request = requests::find(key, version).unwrap();
        let flexible = key.request_header_version(version) == 2;
        assert_eq!(request.is_flexible(version), flexible, "{key:?} {version}");
    }
}

#[test]
fn a_version_without_a_layout_is_refused() {
    let refused = check(ApiKey::Fetch, 19, &[]).unwrap_err();
    assert_eq!(refused.fault, Fault::UnknownVersion);
    assert!(check(ApiKey::EndTxn, 0, &[]).is_err());
}

#[test]
fn what_kafka_protocol_writes_is_walked_to_its_end() {
    for (key, version, body) in every_body() {
        let walked = walk(key, version, &body).map(|walker| walker.at);
        assert_eq!(walked, Ok(body.len()), "{key:?} {version}: {body:?}");
        assert_agreement(key, version, &body);
    }
    for version in [1, 2] {
        for frame in samples::headers(version) {
            let walked = walk_header(version, &frame).map(|walker| walker.at);
            assert_eq!(walked, Ok(frame.len()), "header {version}: {frame:?}");
        }
    }
}

#[test]
fn bytes_after_the_body_are_let_through() {
    for (key, version, body) in every_body() {
        check(key, version, &[&body, &[0xff, 0xff][..]].concat()).unwrap();
    }
}

#[test]
fn every_truncation_is_refused() {
    for (key, version, body) in every_body() {
        for end in 0..body.len() {
            assert!(check(key, version, &body[..end]).is_err(), "{key:?} {version}: {end} bytes");
        }
    }
    for version in [1, 2] {
        for frame in samples::headers(version) {
            for end in 0..frame.len() {
                assert!(check_header(version, &frame[..end]).is_err(), "{version}: {end} bytes");
            }
        }
    }
}

#[test]
fn every_length_that_nothing_backs_is_refused() {
    let mut lengths = 0;
    for (key, version, body) in every_body() {
        for (range, width) in walk(key, version, &body).unwrap().lengths {
            lengths += 1;
            for forged in forge(&body, &range, width) {
                let refused = check(key, version, &forged).is_err();
                assert!(refused, "{key:?} {version}: {forged:?}");
            }
        }
    }
    assert!(lengths > 1_000, "{lengths} lengths prove nothing");
    for version in [1, 2] {
        for frame in samples::headers(version) {
            for (range, width) in walk_header(version, &frame).unwrap().lengths {
                for forged in forge(&frame, &range, width) {
                    assert!(check_header(version, &forged).is_err(), "{version}: {forged:?}");
                }
            }
        }
    }
}

#[test]
fn whatever_one_byte_becomes_walker_and_decoder_agree() {
    for (key, version, body) in every_body() {
        for at in 0..body.len() {
            for value in [0, 1, 2, 3, 0x0f, 0x7f, 0x80, 0xff] {
                let mut bytes = BytesMut::from(&body[..]);
                bytes[at] = value;
                assert_agreement(key, version, &bytes.freeze());
            }
        }
    }
}

#[test]
fn a_text_that_is_no_text_is_refused() {
    let mut body = samples::bodies(ApiKey::ApiVersions, 3).remove(0).to_vec();
    body[1] = 0xff;
    let refused = check(ApiKey::ApiVersions, 3, &body).unwrap_err();
    assert_eq!((refused.field, refused.fault), ("client_software_name", Fault::NotUtf8));
}

/// A Fetch request of version 18 whose body ends with these tagged fields.
fn fetch_with(tags: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_bytes(0, 21);
    body.put_slice(&[1, 1, 1]);
    body.put_slice(tags);
    body.freeze()
}

#[test]
fn a_known_tag_is_walked_and_fills_its_size() {
    let check = |version, tags: &[u8]| check(ApiKey::Fetch, version, &fetch_with(tags));
    let fault = |version, tags: &[u8]| check(version, tags).map_err(|refused| refused.fault);
    assert_eq!(fault(18, &[1, 0, 3, 3, b'a', b'b']), Ok(()));
    assert_eq!(fault(18, &[1, 0, 4, 3, b'a', b'b', 0]), Err(Fault::TagSize));
    assert_eq!(fault(18, &[1, 0, 1, 3, b'a', b'b']), Err(Fault::TagSize));
    let state = |size| [&[1, 1, size][..], &[0; 12], &[0]].concat();
    assert_eq!(fault(15, &state(13)), Ok(()));
    assert_eq!(fault(15, &state(12)), Err(Fault::TagSize));
    let mut early = fetch_with(&state(13)).to_vec();
    early.splice(..0, [0; 4]);
    let refused = super::check(ApiKey::Fetch, 14, &early).unwrap_err();
    assert_eq!((refused.field, refused.fault), ("replica_state", Fault::UnknownTag(1)));
}

#[test]
fn a_cursor_is_there_or_not_and_nothing_between() {
    let body = |presence| [1, 0, 0, 0, 0, presence, 0];
    let check = |presence| check(ApiKey::DescribeTopicPartitions, 0, &body(presence));
    assert_eq!(check(0xff), Ok(()));
    assert_eq!(check(0).unwrap_err().fault, Fault::Presence);
    assert_eq!(check(1).unwrap_err().fault, Fault::Null);
}

#[test]
fn elements_and_tags_have_a_limit_over_all_arrays() {
    let topics = |counts: &[usize]| {
        let mut body = BytesMut::from(&(-1_i32).to_be_bytes()[..]);
        body.put_i32(i32::try_from(counts.len()).unwrap());
        for &count in counts {
            body.put_slice(b"\0\0");
            body.put_i32(i32::try_from(count).unwrap());
            body.put_bytes(0, count * 12);
        }
        check(ApiKey::ListOffsets, 1, &body).map_err(|refused| refused.fault)
    };
    let half = ELEMENTS_MAX / 2;
    assert_eq!(topics(&[half, half - 2]), Ok(()));
    assert_eq!(topics(&[half, half - 1]), Err(Fault::TooManyElements));

    let tagged = |count: u32| {
        let mut body = BytesMut::from(&[0][..]);
        let low = |shift: u32| u8::try_from((count >> shift) & 0x7f).unwrap();
        body.put_slice(&[low(0) | 0x80, low(7) | 0x80, low(14)]);
        body.put_slice(&[9, 0].repeat(count as usize));
        check(ApiKey::DescribeCluster, 0, &body).map_err(|refused| refused.fault)
    };
    let max = u32::try_from(TAGS_MAX).unwrap();
    assert_eq!(tagged(max), Ok(()));
    assert_eq!(tagged(max + 1), Err(Fault::TooManyTags));
}

#[test]
fn an_error_says_where_and_what() {
    let refused = check(ApiKey::Metadata, 1, &0x7fff_ffff_u32.to_be_bytes()).unwrap_err();
    assert_eq!(refused.to_string(), "topics at byte 4: the request ends before it does");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(which: Index, bytes in vec(any::<u8>(), 0..200)) {
        let every: Vec<_> = every().collect();
        let (key, version) = *which.get(&every);
        assert_agreement(key, version, &bytes.clone().into());
        if walk_header(2, &bytes).is_ok() {
            assert!(samples::decode_as::<RequestHeader>(2, &bytes.into()).is_ok());
        }
    }

    #[test]
    fn small_numbers_in_place_of_bytes_never_panic(which: Index, bytes in vec(0_u8..4, 0..200)) {
        let every: Vec<_> = every().collect();
        let (key, version) = *which.get(&every);
        assert_agreement(key, version, &bytes.into());
    }

    #[test]
    fn whatever_some_bytes_become_walker_and_decoder_agree(
        which: Index,
        changes in vec((any::<Index>(), any::<u8>(), 0..3_u8), 1..5),
    ) {
        let every: Vec<_> = every_body().collect();
        let (key, version, body) = which.get(&every).clone();
        let mut bytes = body.to_vec();
        for (at, value, what) in changes {
            let at = at.index(bytes.len() + 1);
            match what {
                0 if at < bytes.len() => bytes[at] = value,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, value),
            }
        }
        assert_agreement(key, version, &bytes.into());
    }

    #[test]
    fn whatever_some_bytes_of_a_header_become_walker_and_decoder_agree(
        which: Index,
        version in 1..=2_i16,
        changes in vec((any::<Index>(), any::<u8>()), 1..5),
    ) {
        let mut frame = which.get(&samples::headers(version)).to_vec();
        for (at, value) in changes {
            *at.get_mut(&mut frame) = value;
        }
        let walked = walk_header(version, &frame).map(|walker| walker.at);
        if let Ok(end) = walked {
            let decoded = samples::decode_as::<RequestHeader>(version, &frame.into());
            prop_assert_eq!(decoded, Ok(end));
        }
    }
}
