//! What is sent arrives as it was, without a copy; any other bytes are refused.

use futures_util::FutureExt;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::proto::peer::{Entry, Heartbeats, Hello, LogId, Ping, Pong, RaftVote};

fn append(payloads: &[Bytes]) -> Append {
    let entries = payloads.iter().enumerate().map(|(index, payload)| Entry {
        term: 3,
        index: index as u64,
        kind: 1,
        payload_bytes: u32::try_from(payload.len()).unwrap(),
    });
    Append {
        group: 5,
        replica: 77,
        vote: Some(RaftVote { term: 3, replica: 76, committed: true }),
        previous: Some(LogId { term: 2, index: 9 }),
        committed: None,
        entries: entries.collect(),
    }
}

fn wire(frame: Frame) -> Vec<u8> {
    let bytes = frame.bytes();
    let wire = frame.into_chunks().flatten().collect::<Vec<u8>>();
    assert_eq!(wire.len(), bytes);
    wire
}

fn appended(payloads: &[Bytes]) -> Vec<u8> {
    let body = request::Body::Append(append(payloads));
    wire(encode_request(9, body, payloads.to_vec()).unwrap())
}

/// The body of the first frame of a stream.
fn read(mut wire: &[u8]) -> Result<Option<Bytes>, Error> {
    let mut reader = Reader::new(&mut wire, FRAME_BYTES_MAX);
    let read = async {
        match reader.next_length().await? {
            Some(length) => reader.body(length).await.map(Some),
            None => Ok(None),
        }
    };
    read.now_or_never().expect("all bytes are there")
}

/// All ways to take a frame, none of which may panic; what a request came to.
fn take(wire: &[u8]) -> Result<Vec<Bytes>, Error> {
    let Some(body) = read(wire)? else { return Ok(Vec::new()) };
    let _ = decode::<Hello>(body.clone(), &[]);
    let _ = decode_response(body.clone());
    decode_request(body).map(|(_, _, payloads)| payloads)
}

/// Makes length and checksum fit again.
fn seal(wire: &mut [u8]) {
    let length = u32::try_from(wire.len() - LENGTH_BYTES).unwrap();
    wire[..4].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(&wire[8..]);
    wire[4..8].copy_from_slice(&checksum.to_be_bytes());
}

fn payloads() -> impl Strategy<Value = Vec<Bytes>> {
    vec(vec(any::<u8>(), 0..200).prop_map(Bytes::from), 0..20)
}

proptest! {
    #[test]
    fn an_append_arrives_as_it_was_sent(payloads in payloads()) {
        let body = read(&appended(&payloads)).unwrap().unwrap();
        let (sequence, request, arrived) = decode_request(body).unwrap();
        prop_assert_eq!(sequence, 9);
        prop_assert_eq!(request, Some(request::Body::Append(append(&payloads))));
        prop_assert_eq!(arrived, payloads);
    }

    #[test]
    fn arbitrary_bytes_are_no_frame(bytes in vec(any::<u8>(), 1..300)) {
        prop_assert!(take(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_with_a_good_checksum_never_panic(mut bytes in vec(any::<u8>(), 12..300)) {
        seal(&mut bytes);
        if let Ok(payloads) = take(&bytes) {
            prop_assert!(payloads.iter().map(Bytes::len).sum::<usize>() <= bytes.len());
        }
    }

    #[test]
    fn a_frame_with_one_other_byte_is_refused(
        (payloads, at) in payloads().prop_flat_map(|payloads| {
            let bytes = appended(&payloads).len();
            (Just(payloads), 0..bytes)
        }),
        flip in 1_u8..,
    ) {
        let mut bytes = appended(&payloads);
        bytes[at] ^= flip;
        prop_assert!(take(&bytes).is_err());
    }

    #[test]
    fn a_frame_with_other_bytes_and_a_good_checksum_never_panics(
        payloads in payloads(),
        changes in vec((any::<usize>(), any::<u8>()), 1..5),
        cut in any::<usize>(),
    ) {
        let mut bytes = appended(&payloads);
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(12 + cut % (bytes.len() - 11));
        seal(&mut bytes);
        if let Ok(payloads) = take(&bytes) {
            prop_assert!(payloads.iter().map(Bytes::len).sum::<usize>() <= bytes.len());
        }
    }

    #[test]
    fn a_frame_that_ends_early_is_a_lost_connection(payloads in payloads(), cut in any::<usize>()) {
        let bytes = appended(&payloads);
        let end = 1 + cut % (bytes.len() - 1);
        prop_assert!(matches!(take(&bytes[..end]), Err(Error::Lost(_))));
    }
}

#[test]
fn payloads_are_not_copied_on_their_way_out_or_in() {
    let payloads = [1, 2, 3].map(|byte| Bytes::from(vec![byte; 100_000]));
    let body = request::Body::Append(append(&payloads));
    let frame = encode_request(9, body, payloads.to_vec()).unwrap();
    let chunks = frame.into_chunks().skip(1).map(|chunk| chunk.as_ptr()).collect::<Vec<_>>();
    assert_eq!(chunks, payloads.each_ref().map(|payload| payload.as_ptr()));

    let body = read(&appended(&payloads)).unwrap().unwrap();
    let frame = body.as_ptr_range();
    let (_, _, arrived) = decode_request(body.clone()).unwrap();
    for payload in &arrived {
        let payload = payload.as_ptr_range();
        assert!(frame.start <= payload.start && payload.end <= frame.end);
    }
}

#[test]
fn frames_behind_each_other_are_cut_apart() {
    let frames = [&b"one"[..], b"", b"three"].map(Bytes::from_static);
    let stream = frames.iter().flat_map(|one| appended(std::slice::from_ref(one)));
    let stream = stream.collect::<Vec<u8>>();
    let mut reader = Reader::new(&stream[..], FRAME_BYTES_MAX);
    for expected in frames {
        let length = reader.next_length().now_or_never().unwrap().unwrap().unwrap();
        let body = reader.body(length).now_or_never().unwrap().unwrap();
        assert_eq!(decode_request(body).unwrap().2, [expected]);
    }
    assert!(reader.next_length().now_or_never().unwrap().unwrap().is_none());
}

#[test]
fn a_length_that_no_frame_has_is_refused_before_reading_on() {
    for claim in [0, 7, u32::try_from(FRAME_BYTES_MAX - 3).unwrap(), u32::MAX] {
        let error = read(&claim.to_be_bytes()).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "claimed {claim}: {error}");
    }
}

#[test]
fn memory_grows_with_what_arrives_and_not_with_what_is_claimed() {
    let claim = u32::try_from(FRAME_BYTES_MAX - LENGTH_BYTES).unwrap().to_be_bytes();
    for arrived in [0, 100, GROW_BYTES - 1, GROW_BYTES, 3 * GROW_BYTES] {
        let stream = [&claim[..], &vec![0; arrived]].concat();
        let mut reader = Reader::new(&stream[..], FRAME_BYTES_MAX);
        let length = reader.next_length().now_or_never().unwrap().unwrap().unwrap();
        assert!(reader.body(length).now_or_never().unwrap().is_err());
        let held = reader.buffer.capacity();
        assert!(held <= 2 * (arrived + GROW_BYTES), "{held} bytes for {arrived}");
    }
}

#[test]
fn payloads_and_entries_that_do_not_fit_are_refused_by_both_ends() {
    let payloads = [Bytes::from_static(b"abc"), Bytes::from_static(b"de")];
    let body = |append| request::Body::Append(append);
    let send = |body, payloads: &[Bytes]| encode_request(9, body, payloads.to_vec());
    let heartbeats = Heartbeats { appends: vec![append(&payloads)] };
    let wrong = [
        (body(append(&payloads)), &payloads[..1]),
        (body(append(&payloads[..1])), &payloads[..]),
        (body(Append::default()), &payloads[..]),
        (request::Body::Ping(Ping {}), &payloads[..]),
        (request::Body::Heartbeats(heartbeats), &[][..]),
    ];
    for (body, payloads) in wrong {
        let forced = Request { sequence: 9, body: Some(body.clone()) };
        assert!(send(body, payloads).is_err());
        let taken = take(&wire(encode(&forced, payloads.to_vec()).unwrap()));
        assert!(matches!(taken, Err(Error::Malformed(_))), "{forced:?}");
    }
}

#[test]
fn what_no_frame_can_hold_is_not_sent() {
    let payloads = vec![Bytes::from(vec![0; 1 << 20]); 64];
    let reason = encode_request(9, request::Body::Append(append(&payloads)), payloads.clone());
    assert!(reason.unwrap_err().contains("is larger than 67108864"));
    let fewer = payloads[..63].to_vec();
    assert!(encode_request(9, request::Body::Append(append(&fewer)), fewer).is_ok());
    let many = Append { entries: vec![Entry::default(); ELEMENTS_MAX + 1], ..Append::default() };
    let payloads = vec![Bytes::new(); ELEMENTS_MAX + 1];
    assert!(encode_request(9, request::Body::Append(many), payloads).is_err());
}

#[test]
fn a_response_says_what_came_out_or_why_nothing_did() {
    let taken = |response: Response| {
        let body = read(&wire(encode(&response, Vec::new()).unwrap())).unwrap().unwrap();
        decode_response(body).unwrap()
    };
    let pong = Some(response::Body::Pong(Pong { steps_back: true }));
    let response = Response { sequence: 4, error: String::new(), body: pong.clone() };
    assert_eq!(taken(response), (4, Ok(pong.clone().unwrap())));
    let refused = Response { sequence: 5, error: "no".to_owned(), body: pong };
    assert_eq!(taken(refused), (5, Err("no".to_owned())));
    let (_, answer) = taken(Response { sequence: 6, error: String::new(), body: None });
    assert!(answer.is_err(), "an answer of a kind unknown here is none");
}
