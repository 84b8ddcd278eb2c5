//! The records of consumer groups are Kafka's, and whatever is stored never brings a node down.

use proptest::prelude::*;

use super::*;
use crate::groups::records::Record;

fn pieces() -> Vec<Piece> {
    let topic = Uuid::from_u128(9);
    let protocols = vec![Protocol { name: "range".to_owned(), metadata: Bytes::from_static(b"m") }];
    let classic = Some(ClassicSide { session_timeout_ms: 45_000, protocols });
    let says = Subscription {
        instance: Some("i".to_owned()),
        rack: None,
        client_id: "c".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        topics: ["a".to_owned(), "b".to_owned()].into(),
        regex: Some("x.*".to_owned()),
        rebalance_timeout_ms: 5,
        assignor: Some("range".to_owned()),
        classic: None,
    };
    let current = Current {
        epoch: 3,
        previous_epoch: 2,
        progress: Progress::Unrevoked,
        assigned: [(topic, [(0, 1), (2, 3)].into())].into(),
        revoking: [(topic, [(1, 2)].into())].into(),
    };
    let regex = RegexValue { topics: ["x".to_owned()].into(), version: 4, resolved_ms: 5 };
    let m = || "m".to_owned();
    vec![
        Piece::Epoch(Some(EpochValue { epoch: 7, metadata_hash: -3 })),
        Piece::Epoch(Some(EpochValue { epoch: 7, metadata_hash: 0 })),
        Piece::Epoch(None),
        Piece::Topics(false),
        Piece::Member(m(), Some(says.clone())),
        Piece::Member(m(), Some(Subscription { classic, ..says })),
        Piece::Member(m(), None),
        Piece::TargetEpoch(Some(TargetValue { epoch: 7, made_ms: 11 })),
        Piece::TargetEpoch(None),
        Piece::Target(m(), Some([(topic, [0, 4].into())].into())),
        Piece::Target(m(), None),
        Piece::Current(m(), Some(current)),
        Piece::Current(m(), Some(Current::default())),
        Piece::Current(m(), None),
        Piece::Regex("x.*".to_owned(), Some(regex)),
        Piece::Regex("x.*".to_owned(), None),
    ]
}

#[test]
fn what_is_written_is_read_again() {
    for piece in pieces() {
        let record = Record::Consumer { group: "g".to_owned(), piece };
        let (key, value) = record.encode();
        assert_eq!(Record::decode(&key, value.as_deref()), Ok(record));
    }
}

#[test]
fn the_bytes_are_those_that_kafka_writes() {
    let (key, value) = Piece::Epoch(Some(EpochValue { epoch: 7, metadata_hash: 2 })).encode("g");
    assert_eq!(&key[..], b"\0\x03\0\x01g");
    assert_eq!(&value.unwrap()[..], b"\0\0\0\0\0\x07\x01\0\x08\0\0\0\0\0\0\0\x02");
    let target = Piece::Target("m".to_owned(), Some([(Uuid::from_u128(1), [2].into())].into()));
    let (key, value) = target.encode("g");
    assert_eq!(&key[..], b"\0\x07\0\x01g\0\x01m");
    assert_eq!(
        &value.unwrap()[..],
        b"\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\0\0\0\x02\0\0"
    );
}

#[test]
fn assignments_of_older_brokers_have_the_members_epoch() {
    let mut value = BytesMut::new();
    value.put_slice(b"\0\0\0\0\0\x05\0\0\0\x04\0\x02");
    value.put_slice(Uuid::from_u128(1).as_bytes());
    value.put_slice(b"\x02\0\0\0\x07\0\x01\0");
    let Ok(Record::Consumer { piece: Piece::Current(_, Some(read)), .. }) =
        Record::decode(b"\0\x08\0\x01g\0\x01m", Some(&value))
    else {
        panic!("it does not decode");
    };
    assert_eq!(read.since(&Uuid::from_u128(1), 7), Some(5));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        value in proptest::collection::vec(any::<u8>(), 0..120),
        at in 0..16_usize, cut in 0..200_usize, flip in 0..200_usize, with in any::<u8>(),
    ) {
        for kind in KEYS {
            let key = [&kind.to_be_bytes()[..], b"\0\x01g\0\x01m"].concat();
            let _ = Record::decode(&key, Some(&[b"\0\0", &value[..]].concat()));
        }
        let (key, whole) = pieces()[at].encode("g");
        let mut bytes = whole.unwrap_or_default().to_vec();
        bytes.truncate(cut);
        if let Some(byte) = bytes.get_mut(flip) {
            *byte = with;
        }
        let _ = Record::decode(&key, Some(&bytes));
    }
}
