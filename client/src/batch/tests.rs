//! Batches come back as they went in, agree with `kafka-protocol`, and no bytes make decoding panic.

use bytes::{Bytes, BytesMut};
use kafka_protocol::records::RecordBatchDecoder;
use proptest::prelude::{Strategy, any, proptest};

use super::{Builder, HEADER_BYTES, Identity, encoded_bytes_max, next_batch};
use crate::{Compression, Header, Record};

const IDENTITY: Identity = Identity { producer_id: 7, epoch: 3 };

fn field() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from))
}

fn record() -> impl Strategy<Value = Record> {
    let header = ("[a-z]{0,5}", field()).prop_map(|(name, value)| Header { name, value });
    let headers = proptest::collection::vec(header, 0..4);
    (field(), field(), headers, any::<i64>()).prop_map(|(key, value, headers, timestamp)| Record {
        key,
        value,
        headers,
        timestamp_ms: Some(timestamp),
    })
}

fn encode(records: &[Record], codec: Compression) -> Bytes {
    let mut builder = Builder::new();
    for record in records {
        builder.push(record, 0);
    }
    builder.seal(codec, None).unwrap().stamp(IDENTITY, 40).into_bytes()
}

fn decode(mut bytes: Bytes) -> Result<Vec<(i64, Record)>, String> {
    let mut all = Vec::new();
    while let Some(batch) = next_batch(&mut bytes)? {
        all.extend(batch.records()?);
    }
    Ok(all)
}

#[test]
fn a_flipped_bit_anywhere_under_the_checksum_is_noticed() {
    let whole = encode(&[Record::new(Some("k"), "v")], Compression::None);
    for position in 17..whole.len() {
        let mut broken = BytesMut::from(&whole[..]);
        broken[position] ^= 1;
        let error = decode(broken.freeze()).unwrap_err();
        assert!(error.contains("checksum"), "at {position}: {error}");
    }
}

#[test]
fn a_batch_cut_off_at_the_byte_limit_is_left_for_the_next_fetch() {
    let whole = encode(&[Record::new(Some("k"), "v")], Compression::None);
    for end in 0..whole.len() {
        assert_eq!(decode(whole.slice(..end)).unwrap(), []);
    }
}

#[test]
fn a_count_that_the_bytes_cannot_hold_is_refused_before_memory_is_set_aside() {
    let mut lie = BytesMut::from(&encode(&[Record::new(Some("k"), "v")], Compression::None)[..]);
    lie[57..HEADER_BYTES].copy_from_slice(&i32::MAX.to_be_bytes());
    let crc = crc32c::crc32c(&lie[21..]);
    lie[17..21].copy_from_slice(&crc.to_be_bytes());
    assert!(decode(lie.freeze()).unwrap_err().contains("2147483647 records"));
}

proptest! {
    #[test]
    fn records_come_back_as_they_went_in(records in proptest::collection::vec(record(), 1..20)) {
        for (codec, _) in Compression::ALL {
            let bytes = encode(&records, codec);
            let back = decode(bytes).unwrap();
            assert_eq!(back.len(), records.len());
            for (index, (offset, record)) in back.into_iter().enumerate() {
                assert_eq!(offset, i64::try_from(index).unwrap());
                assert_eq!(record, records[index], "{codec}");
            }
        }
    }

    #[test]
    fn kafka_protocol_reads_the_same(records in proptest::collection::vec(record(), 1..20)) {
        let mut bytes = encode(&records, Compression::Zstd);
        let set = RecordBatchDecoder::decode(&mut bytes).unwrap();
        for (ours, theirs) in records.iter().zip(&set.records) {
            assert_eq!((ours.key.clone(), ours.value.clone()), (theirs.key.clone(), theirs.value.clone()));
            assert_eq!(ours.timestamp_ms, Some(theirs.timestamp));
            assert_eq!((theirs.producer_id, theirs.producer_epoch), (7, 3));
        }
        assert_eq!(set.records[0].sequence, 40);
    }

    #[test]
    fn the_size_bound_holds(record in record()) {
        let mut builder = Builder::new();
        builder.push(&record, 0);
        assert!(builder.len() - HEADER_BYTES <= encoded_bytes_max(&record));
    }

    #[test]
    fn any_bytes_decode_or_fail_without_a_panic(bytes: Vec<u8>) {
        let _ = decode(Bytes::from(bytes));
    }

    /// Random bytes hardly pass the checksum, so the records behind a good header are random here.
    #[test]
    fn any_records_behind_a_good_header_decode_or_fail(records: Vec<u8>, count: i32, delta: i32, attributes: u8) {
        let mut bytes = BytesMut::from(&encode(&[Record::default()], Compression::None)[..HEADER_BYTES]);
        bytes.extend_from_slice(&records);
        let length = i32::try_from(bytes.len() - 12).unwrap();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        // Raw snappy may claim 4 GiB, which the codec library then sets aside: it is not ours to test.
        let attributes = if attributes & 7 == 2 { 0 } else { attributes };
        bytes[22] = attributes;
        bytes[23..27].copy_from_slice(&delta.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let _ = decode(bytes.freeze());
    }
}
