//! `compression.type`: batches are stored in the topic's codec, and hold the same records as before.

use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::batch::Header;
use kafka_protocol::ResponseError;
use kafka_protocol::records::{Compression, Record};
use tempfile::tempdir;

use super::configs::{TOPIC, set};
use super::harness::{Client, NO_SEQUENCE, Sequence, decoded, record_bytes, start, timed_batch};

const CODECS: [(&str, Compression); 5] = [
    ("uncompressed", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

/// Everything of a record but its offset.
fn content(record: &Record) -> (i64, i32, i64, Option<Bytes>, Option<Bytes>, usize) {
    let Record { timestamp, sequence, producer_id, key, value, headers, .. } = record;
    (*timestamp, *sequence, *producer_id, key.clone(), value.clone(), headers.len())
}

async fn stored(client: &mut Client, offset: i64) -> Bytes {
    record_bytes(&client.fetch("t", offset, 1, Duration::ZERO).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_becomes_every_other_with_the_same_records() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let long = "long ".repeat(20_000);
    let (mut first, mut offset) = (0, 0);
    for (number, (wanted, _)) in (0_u8..).zip(CODECS) {
        set(&mut client, TOPIC, "t", "compression.type", wanted).await;
        for (_, sent) in CODECS {
            let sequence = Sequence { producer_id: 9, first };
            let records = [(1_000, "a"), (900, long.as_str()), (1_100, "c")];
            let batch = timed_batch(&records, sequence, sent);
            let answer = client.produce("t", 0, batch.clone()).await;
            assert_eq!((answer.error_code, answer.base_offset), (0, offset), "{wanted} {sent:?}");
            let bytes = stored(&mut client, offset).await;
            let header = jangbu_engine::batch::verify(&bytes).expect("a sound batch");
            assert_eq!((header.codec(), header.record_count), (number, 3));
            let (is, was) = (decoded(bytes.clone()), decoded(batch.clone()));
            assert!(is.iter().map(content).eq(was.iter().map(content)), "{wanted} {sent:?}");
            assert_eq!(is.iter().map(|r| r.offset - offset).collect::<Vec<_>>(), [0, 1, 2]);
            if header.codec() == Header::parse(&batch).unwrap().codec() {
                assert_eq!(bytes[17..], batch[17..], "kept as it came");
            }
            assert_eq!(client.produce("t", 0, batch).await.base_offset, offset, "known again");
            (first, offset) = (first + 3, offset + 3);
        }
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_once_it_is_unpacked_is_refused() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let batch = timed_batch(&[(1, &"x".repeat(5_000))], NO_SEQUENCE, Compression::Gzip);
    assert!(batch.len() < 1_000);
    set(&mut client, TOPIC, "t", "max.message.bytes", "1000").await;
    assert_eq!(client.produce("t", 0, batch.clone()).await.error_code, 0);
    set(&mut client, TOPIC, "t", "compression.type", "uncompressed").await;
    let refused = client.produce("t", 0, batch).await.error_code;
    assert_eq!(refused, ResponseError::MessageTooLarge.code());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_batch_that_lies_about_its_records_is_found_out_when_it_is_unpacked() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    set(&mut client, TOPIC, "t", "compression.type", "zstd").await;
    let honest = timed_batch(&[(1, "a"), (2, "b"), (3, "c")], NO_SEQUENCE, Compression::Gzip);
    for count in [2_i32, 4, i32::MAX] {
        let mut lie = honest.to_vec();
        lie[57..61].copy_from_slice(&count.to_be_bytes());
        lie[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        jangbu_engine::batch::rewrite(&mut lie, 1, 3);
        let refused = client.produce("t", 0, lie.into()).await.error_code;
        assert_eq!(refused, ResponseError::InvalidRecord.code(), "{count} records");
    }
    assert_eq!(client.produce("t", 0, honest).await.error_code, 0);
    node.shutdown().await;
}
