//! Whose timestamps records have, which are refused, and where a point in time is found.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jangbu_server::Node;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::records::{Compression, TimestampType};
use tempfile::tempdir;

use super::configs::{TOPIC, set};
use super::harness::{
    Client, NO_SEQUENCE, Sequence, decoded, record_bytes, start, timed_batch, topic_name,
};

const LOG_APPEND_TIME: (&str, &str) = ("message.timestamp.type", "LogAppendTime");

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

async fn started(dir: &std::path::Path, configs: &[(&str, &str)]) -> (Node, Client) {
    let node = start(dir).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    for (name, value) in configs {
        set(&mut client, TOPIC, "t", name, value).await;
    }
    (node, client)
}

/// Offset and timestamp that ListOffsets answers.
async fn find(client: &mut Client, timestamp: i64) -> (i64, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    let answer = &client.ask(&request, 9).await.topics[0].partitions[0];
    assert_eq!(answer.error_code, 0);
    (answer.offset, answer.timestamp)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_time_is_stamped_answered_and_found() {
    let dir = tempdir().unwrap();
    let (node, mut client) = started(dir.path(), &[LOG_APPEND_TIME]).await;
    let before = now_ms();
    for (base, compression) in [(0, Compression::None), (2, Compression::Gzip)] {
        let batch = timed_batch(&[(5, "a"), (7, "b")], NO_SEQUENCE, compression);
        let answer = client.produce("t", 0, batch).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, base));
        let stamped = answer.log_append_time_ms;
        assert!((before..=now_ms()).contains(&stamped), "{stamped}");
        let fetched = client.fetch("t", base, 1, Duration::ZERO).await;
        for record in decoded(record_bytes(&fetched)) {
            assert_eq!(record.timestamp_type, TimestampType::LogAppend);
        }
        let bytes = record_bytes(&fetched);
        let max: [u8; 8] = bytes[35..43].try_into().unwrap();
        assert_eq!(i64::from_be_bytes(max), stamped);
        assert_eq!(find(&mut client, stamped + 1).await, (-1, -1));
        assert_eq!(find(&mut client, -3).await, (base, stamped));
        // The clock must move on, so that the second batch has another time than the first.
        while now_ms() <= stamped {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(find(&mut client, 0).await.0, 0);
    set(&mut client, TOPIC, "t", "message.timestamp.type", "CreateTime").await;
    let batch = timed_batch(&[(5, "a")], NO_SEQUENCE, Compression::None);
    assert_eq!(client.produce("t", 0, batch).await.log_append_time_ms, -1);
    let fetched = client.fetch("t", 4, 1, Duration::ZERO).await;
    assert_eq!(decoded(record_bytes(&fetched))[0].timestamp, 5);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_has_the_time_it_was_first_stamped_with() {
    let dir = tempdir().unwrap();
    let (node, mut client) = started(dir.path(), &[LOG_APPEND_TIME]).await;
    let sequence = Sequence { producer_id: 3, first: 0 };
    let batch = timed_batch(&[(5, "a")], sequence, Compression::None);
    let first = client.produce("t", 0, batch.clone()).await;
    while now_ms() <= first.log_append_time_ms {
        tokio::task::yield_now().await;
    }
    let again = client.produce("t", 0, batch).await;
    assert_eq!(again.base_offset, first.base_offset);
    assert_eq!(again.log_append_time_ms, first.log_append_time_ms);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_out_of_the_bounds_are_named_and_the_batch_is_refused() {
    let dir = tempdir().unwrap();
    let bounds =
        [("message.timestamp.before.max.ms", "60000"), ("message.timestamp.after.max.ms", "60000")];
    let (node, mut client) = started(dir.path(), &bounds).await;
    let now = now_ms();
    for compression in [Compression::None, Compression::Zstd] {
        let records =
            [(now, "good"), (now - 600_000, "old"), (now + 600_000, "new"), (now, "good")];
        let answer = client.produce("t", 0, timed_batch(&records, NO_SEQUENCE, compression)).await;
        assert_eq!(answer.error_code, ResponseError::InvalidTimestamp.code());
        let named: Vec<i32> = answer.record_errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(named, [1, 2], "{compression:?}");
        let text = answer.record_errors[0].batch_index_error_message.clone().unwrap();
        let begin =
            format!("Timestamp {} of message with offset 1 is out of range.", now - 600_000);
        assert!(text.starts_with(&begin), "{text}");
        // Only the record in the middle is too old: the header does not show it.
        let middle = [(now, "good"), (now - 600_000, "old"), (now, "good")];
        let answer = client.produce("t", 0, timed_batch(&middle, NO_SEQUENCE, compression)).await;
        assert_eq!(answer.error_code, ResponseError::InvalidTimestamp.code());
        // -1 stands for no timestamp.
        let none = timed_batch(&[(now, "a"), (-1, "b")], NO_SEQUENCE, compression);
        assert_eq!(client.produce("t", 0, none).await.error_code, 0);
    }
    set(&mut client, TOPIC, "t", "message.timestamp.before.max.ms", "6000000").await;
    let old = timed_batch(&[(now - 600_000, "old")], NO_SEQUENCE, Compression::None);
    assert_eq!(client.produce("t", 0, old).await.error_code, 0);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_in_time_is_found_to_the_record_though_time_runs_backwards() {
    let dir = tempdir().unwrap();
    let (node, mut client) = started(dir.path(), &[]).await;
    let batches: [&[(i64, &str)]; 3] = [
        &[(100, "a"), (150, "b"), (130, "c"), (150, "d")],
        &[(10, "e"), (20, "f")],
        &[(170, "g"), (110, "h"), (180, "i"), (180, "j"), (140, "k")],
    ];
    for (records, compression) in
        batches.into_iter().zip([Compression::Gzip, Compression::None, Compression::Lz4])
    {
        let batch = timed_batch(records, NO_SEQUENCE, compression);
        assert_eq!(client.produce("t", 0, batch).await.error_code, 0);
    }
    for (asked, found) in [
        (0, (0, 100)),
        (100, (0, 100)),
        (101, (1, 150)),
        (150, (1, 150)),
        (151, (6, 170)),
        (175, (8, 180)),
        (181, (-1, -1)),
        (-1, (11, -1)),
        (-2, (0, -1)),
        (-3, (8, 180)),
        (-4, (0, -1)),
        (-5, (-1, -1)),
    ] {
        assert_eq!(find(&mut client, asked).await, found, "{asked}");
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_understates_its_records_times_is_put_right() {
    let dir = tempdir().unwrap();
    let (node, mut client) = started(dir.path(), &[]).await;
    let batch = timed_batch(&[(100, "a"), (200, "b")], NO_SEQUENCE, Compression::None);
    let mut lying = batch.to_vec();
    jangbu_engine::batch::rewrite(&mut lying, 0, 100);
    assert_eq!(client.produce("t", 0, lying.into()).await.error_code, 0);
    assert_eq!(find(&mut client, 200).await, (1, 200));
    let fetched = client.fetch("t", 0, 1, Duration::ZERO).await;
    assert_eq!(record_bytes(&fetched)[17..], batch[17..], "what an honest producer sends");
    node.shutdown().await;
}
