//! Asking for keys over HTTP and Kafka's port: the newest value, the past, what is not there, and who answers.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use jangbu_client::{Client as KeyClient, Config as ClientConfig, Error, ErrorCode, KeyQuery};
use jangbu_server::Node;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::configs::{TOPIC, set};
use super::forming::{Plan, started, stop_all, tells};
use super::harness::{Client, start};
use super::metrics::samples;
use super::replication::{create, leader, topic, until};

const INVALID_CONFIG: i16 = 40;

/// A record: key, value and timestamp.
pub(crate) type Keyed<'a> = (Option<&'a str>, Option<&'a str>, i64);

/// One batch of these records.
pub(crate) fn keyed(records: &[Keyed<'_>], compression: Compression) -> Bytes {
    let bytes = |text: Option<&str>| text.map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let record = |(i, &(key, value, timestamp)): (usize, &Keyed<'_>)| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: i64::try_from(i).unwrap(),
        sequence: i32::try_from(i).unwrap() - 1,
        timestamp,
        key: bytes(key),
        value: bytes(value),
        headers: [(StrBytes::from_static_str("h"), Some(Bytes::from_static(b"x")))].into(),
    };
    let records: Vec<Record> = records.iter().enumerate().map(record).collect();
    let options = RecordEncodeOptions { version: 2, compression };
    let mut encoded = BytesMut::new();
    RecordBatchEncoder::encode(&mut encoded, &records, &options).unwrap();
    encoded.freeze()
}

/// An answer over HTTP.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("none", String::as_str)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

async fn http(node: &Node, path: &str, more: &str) -> Answer {
    let mut stream = TcpStream::connect(node.http_addr()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_lowercase(), value.to_owned())
    };
    Answer { status, headers: lines.map(header).collect(), body: body.to_owned() }
}

fn compacted(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("cleanup.policy"))
        .with_value(Some(StrBytes::from_static_str("compact")));
    topic(name, partitions, replicas).with_configs(vec![config])
}

async fn write(client: &mut Client, topic: &str, partition: i32, records: &[Keyed<'_>]) -> i64 {
    let answer = client.produce(topic, partition, keyed(records, Compression::None)).await;
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    answer.base_offset
}

async fn key_client(node: &Node) -> KeyClient {
    KeyClient::connect(ClientConfig::for_brokers(&node.kafka_addr().to_string())).await.unwrap()
}

/// The topic `t` with one partition: `a` was set twice and deleted, `b` set once, `c d` three times.
async fn filled(node: &Node) -> Client {
    assert_eq!(create(node, compacted("t", 1, 1)).await.0, 0);
    let mut client = Client::connect(node).await;
    let records = [
        (Some("a"), Some("a0"), 1_000),
        (Some("b"), Some("b1"), 1_001),
        (Some("c d"), Some("c2"), 1_002),
    ];
    write(&mut client, "t", 0, &records).await;
    write(&mut client, "t", 0, &[(Some("a"), Some("a3"), 2_000)]).await;
    let records = [(Some("c d"), Some("c4"), 3_000), (Some("a"), None, 3_001)];
    write(&mut client, "t", 0, &records).await;
    write(&mut client, "t", 0, &[(Some("c d"), Some("c6"), 2_500)]).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_answered_with_its_newest_value_and_where_it_is() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = filled(&node).await;
    let found = http(&node, "/topics/t/keys/c%20d", "").await;
    assert_eq!((found.status, &*found.body), (200, "c6"));
    assert_eq!(found.header("content-type"), "application/octet-stream");
    assert_eq!(found.header("x-jangbu-partition"), "0");
    assert_eq!(found.header("x-jangbu-offset"), "6");
    assert_eq!(found.header("x-jangbu-timestamp"), "2500");
    assert_eq!(found.header("x-jangbu-high-watermark"), "7");
    assert_eq!(found.header("etag"), "\"6\"");
    let same = http(&node, "/topics/t/keys/c%20d", "If-None-Match: \"6\"\r\n").await;
    assert_eq!((same.status, &*same.body, same.header("etag")), (304, "", "\"6\""));
    write(&mut client, "t", 0, &[(Some("c d"), Some("c7"), 4_000)]).await;
    let newer = http(&node, "/topics/t/keys/c%20d", "If-None-Match: \"6\"\r\n").await;
    assert_eq!((newer.status, &*newer.body), (200, "c7"));
    let json = http(&node, "/topics/t/keys/b", "Accept: application/json\r\n").await;
    let expected = serde_json::json!({
        "topic": "t", "partition": 0, "offset": 1, "timestamp": 1001, "key": "b", "value": "b1",
        "headers": [["h", "x"]], "high_watermark": 8,
    });
    assert_eq!((json.status, json.json()), (200, expected));
    let base64 = http(&node, "/topics/t/keys/b?format=base64", "").await;
    assert_eq!((base64.status, &*base64.body), (200, "YjE="));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_404_with_the_high_watermark_and_a_deleted_key_says_so() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let _client = filled(&node).await;
    let missing = http(&node, "/topics/t/keys/none", "").await;
    assert_eq!((missing.status, missing.header("x-jangbu-high-watermark")), (404, "7"));
    assert!(missing.body.contains("no such key in t-0, up to offset 7"), "{missing:?}");
    let deleted = http(&node, "/topics/t/keys/a", "").await;
    assert_eq!((deleted.status, deleted.header("x-jangbu-high-watermark")), (404, "7"));
    assert_eq!((deleted.header("x-jangbu-tombstone"), deleted.header("etag")), ("true", "none"));
    assert!(deleted.body.contains("deleted by the tombstone at offset 5"), "{deleted:?}");
    let unknown = http(&node, "/topics/u/keys/a", "").await;
    assert_eq!((unknown.status, unknown.header("x-jangbu-high-watermark")), (404, "none"));
    assert_eq!(http(&node, "/topics/t/keys/a?partition=1", "").await.status, 404);
    for path in ["/topics/t/keys/%zz", "/topics/t/keys/a?offset=1", "/topics/t/keys/a?at-offset=-1"]
    {
        assert_eq!(http(&node, path, "").await.status, 400, "{path}");
    }
    let lookups = |result: &str| format!("jangbu_key_lookups_total{{result=\"{result}\"}}");
    let now = samples(&node).await;
    assert_eq!(now[&lookups("missing")], 2.0);
    assert_eq!(now[&lookups("failed")], 2.0);
    assert_eq!(now[&lookups("found")], 0.0);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_a_key_is_answered_by_offset_time_and_history() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let _client = filled(&node).await;
    for (path, status, body) in [
        ("/topics/t/keys/a?at-offset=0", 200, "a0"),
        ("/topics/t/keys/a?at-offset=2", 200, "a0"),
        ("/topics/t/keys/a?at-offset=4", 200, "a3"),
        ("/topics/t/keys/b?at-offset=9", 200, "b1"),
        ("/topics/t/keys/a?at-time=1999", 200, "a0"),
        ("/topics/t/keys/a?at-time=3000", 200, "a3"),
        ("/topics/t/keys/c%20d?at-time=2600", 200, "c6"),
        ("/topics/t/keys/c%20d?at-time=2400", 200, "c2"),
    ] {
        let found = http(&node, path, "").await;
        assert_eq!((found.status, &*found.body), (status, body), "{path}");
    }
    assert_eq!(http(&node, "/topics/t/keys/b?at-offset=0", "").await.status, 404);
    assert_eq!(http(&node, "/topics/t/keys/a?at-time=999", "").await.status, 404);
    let offsets = |answer: &Answer| -> Vec<(i64, Option<String>)> {
        let answer = answer.json();
        let record = |record: &serde_json::Value| {
            (record["offset"].as_i64().unwrap(), record["value"].as_str().map(str::to_owned))
        };
        answer["records"].as_array().unwrap().iter().map(record).collect()
    };
    let all = http(&node, "/topics/t/keys/a?history", "").await;
    let expected = [(5, None), (3, Some("a3".to_owned())), (0, Some("a0".to_owned()))];
    assert_eq!(offsets(&all), expected);
    let two = http(&node, "/topics/t/keys/a?history=2", "").await;
    assert_eq!(offsets(&two), expected[..2]);
    let past = http(&node, "/topics/t/keys/a?history=9&at-offset=4", "").await;
    assert_eq!(offsets(&past), expected[1..]);
    assert_eq!(http(&node, "/topics/t/keys/none?history=9", "").await.status, 404);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_with_a_prefix_are_listed_page_by_page_over_all_partitions() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    assert_eq!(create(&node, compacted("t", 3, 1)).await.0, 0);
    let mut client = Client::connect(&node).await;
    let mut expected = Vec::new();
    for i in 0..40 {
        let (key, partition) = (format!("k/{i:02}"), i % 3);
        write(&mut client, "t", partition, &[(Some(&key), Some("old"), 1_000)]).await;
        let deleted = i % 5 == 0;
        let newest = (!deleted).then_some("new");
        write(&mut client, "t", partition, &[(Some(&key), newest, 1_001)]).await;
        write(&mut client, "t", partition, &[(Some("other"), Some("x"), 1_001)]).await;
        if !deleted {
            expected.push((i64::from(partition), key));
        }
    }
    expected.sort();
    let mut path = "/topics/t/keys?prefix=k/&limit=7".to_owned();
    let (mut listed, mut pages) = (Vec::new(), 0);
    loop {
        let page = http(&node, &path, "").await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let records = page["records"].as_array().unwrap();
        assert!(records.len() <= 7);
        for record in records {
            assert_eq!(record["value"], "new");
            let key = record["key"].as_str().unwrap().to_owned();
            listed.push((record["partition"].as_i64().unwrap(), key));
        }
        pages += 1;
        match page["next"].as_str() {
            Some(next) => path = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(listed, expected);
    assert!(pages >= 5, "{pages} pages");
    let one = http(&node, "/topics/t/keys?prefix=k/&partition=1&limit=1000", "").await.json();
    let partitions = one["records"].as_array().unwrap().iter().map(|record| &record["partition"]);
    assert_eq!(partitions.filter(|partition| **partition == 1).count(), 11);
    assert!(one["next"].is_null());
    let none = http(&node, "/topics/t/keys?prefix=nothing", "").await.json();
    assert_eq!(none["records"], serde_json::json!([]));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_asks_by_key_alone() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    assert_eq!(create(&node, compacted("t", 5, 1)).await.0, 0);
    let client = key_client(&node).await;
    let producer = client.producer(jangbu_client::ProducerConfig::default());
    for value in ["old", "new"] {
        for i in 0..50 {
            let record =
                jangbu_client::Record::new(Some(format!("key {i}")), format!("{value} {i}"));
            producer.send("t", record).await.unwrap().await.unwrap();
        }
    }
    for i in 0..50 {
        let found = client.get("t", format!("key {i}")).await.unwrap().expect("it is there");
        assert_eq!(found.record.value.as_deref(), Some(format!("new {i}").as_bytes()));
    }
    assert_eq!(client.get("t", "key 50").await.unwrap(), None);
    let answer = client.look_up("t", &KeyQuery::key("key 7").limit(5)).await.unwrap();
    assert_eq!(answer.records.len(), 2, "{answer:?}");
    let first = &answer.records[1];
    let past = KeyQuery::key("key 7").at_offset(first.offset);
    assert_eq!(client.look_up("t", &past).await.unwrap().records, [first.clone()]);
    let unknown = client.look_up("t", &KeyQuery::key("key 7").partition(5)).await.unwrap_err();
    assert!(matches!(unknown, Error::UnknownPartition { partition: 5, count: 5, .. }));
    let no_partition = client.look_up("t", &KeyQuery::prefix("key")).await.unwrap_err();
    assert!(matches!(no_partition, Error::Invalid(_)));
    let page = client.look_up("t", &KeyQuery::prefix("key").partition(0).limit(2)).await.unwrap();
    assert_eq!((page.records.len(), page.next.is_some()), (2, true));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_without_an_index_says_how_to_get_one_and_has_it_until_it_is_turned_off() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let refused = http(&node, "/topics/t/keys/a", "").await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body.contains("set jangbu.key.index=true, or cleanup.policy=compact"));
    let asking = key_client(&node).await;
    let error = asking.get("t", "a").await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some(INVALID_CONFIG));
    set(&mut client, TOPIC, "t", "jangbu.key.index", "true").await;
    until("the index is on", async || {
        (http(&node, "/topics/t/keys/a", "").await.status == 404).then_some(())
    })
    .await;
    write(&mut client, "t", 0, &[(Some("a"), Some("value"), 1_000)]).await;
    let found = asking.get("t", "a").await.unwrap().expect("it is there");
    assert_eq!(found.record.value.as_deref(), Some(&b"value"[..]));
    set(&mut client, TOPIC, "t", "jangbu.key.index", "false").await;
    until("the index is gone", async || {
        (http(&node, "/topics/t/keys/a", "").await.status == 409).then_some(())
    })
    .await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_there_before_the_index_are_entered_in_it() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    write(&mut client, "t", 0, &[(Some("a"), Some("before"), 1_000)]).await;
    set(&mut client, TOPIC, "t", "jangbu.key.index", "true").await;
    write(&mut client, "t", 0, &[(Some("b"), Some("after"), 1_000)]).await;
    let found = until("the index is built", async || {
        let answer = http(&node, "/topics/t/keys/a", "").await;
        let building = answer.status == 503 && answer.header("retry-after") == "1";
        assert!(building || matches!(answer.status, 200 | 409), "{answer:?}");
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!(found, "before");
    assert_eq!(http(&node, "/topics/t/keys/b", "").await.body, "after");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_still_there_after_a_restart_and_below_the_log_start_they_are_not() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let client = filled(&node).await;
    drop(client);
    node.shutdown().await;
    let node = start(dir.path()).await;
    let found = until("the partition runs", async || {
        let answer = http(&node, "/topics/t/keys/b", "").await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    assert_eq!((found.status, &*found.body), (200, "b1"));
    let mut client = Client::connect(&node).await;
    set(&mut client, TOPIC, "t", "cleanup.policy", "compact,delete").await;
    let partition =
        kafka_protocol::messages::delete_records_request::DeleteRecordsPartition::default()
            .with_offset(3);
    let topic = kafka_protocol::messages::delete_records_request::DeleteRecordsTopic::default()
        .with_name(super::harness::topic_name("t"))
        .with_partitions(vec![partition]);
    let request = kafka_protocol::messages::DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    let answer = client.ask(&request, 2).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    assert_eq!(http(&node, "/topics/t/keys/b", "").await.status, 404);
    let kept = http(&node, "/topics/t/keys/c%20d?history", "").await.json();
    assert_eq!(kept["records"].as_array().unwrap().len(), 2);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_answers_for_the_leader_and_a_replica_by_itself_where_that_is_enough() {
    let plan = Plan::new();
    let mut nodes = plan.start_all([1, 2, 3]).await;
    tells(&nodes[0], &[1, 2, 3]).await;
    assert_eq!(create(&nodes[0], compacted("t", 1, 3)).await, (0, 3));
    let mut written = 0;
    let ids = [1, 2, 3];
    for round in 0..2 {
        let led = leader(&nodes[0], "t", 0, &ids).await;
        let value = format!("round {round}");
        let offset = until("an acknowledgement", async || {
            let led = leader(&nodes[0], "t", 0, &ids).await;
            let at = nodes.iter().find(|node| node.id() == led)?;
            let batch = keyed(&[(Some("k"), Some(&value), 1_000)], Compression::None);
            let answer = Client::connect(at).await.produce("t", 0, batch).await;
            (answer.error_code == 0).then_some(answer.base_offset)
        })
        .await;
        assert!(offset >= written);
        written = offset + 1;
        for node in &nodes {
            let found = until("an answer", async || {
                let answer = http(node, "/topics/t/keys/k", "").await;
                (answer.status != 503).then_some(answer)
            })
            .await;
            assert_eq!((found.status, &*found.body), (200, &*value), "node {}", node.id());
            assert_eq!(found.header("x-jangbu-offset"), offset.to_string());
            until("a replica has it", async || {
                let answer = http(node, "/topics/t/keys/k?stale-ok", "").await;
                (answer.status == 200 && answer.body == value).then_some(())
            })
            .await;
            let asking = key_client(node).await;
            let found = asking.get("t", "k").await.unwrap().expect("it is there");
            assert_eq!(
                (found.offset, found.record.value.as_deref()),
                (offset, Some(value.as_bytes()))
            );
        }
        if round == 0 {
            let at = nodes.iter().position(|node| node.id() == led).unwrap();
            nodes.remove(at).shutdown().await;
            let others: Vec<i32> = nodes.iter().map(Node::id).collect();
            leader(&nodes[0], "t", 0, &others).await;
            nodes.push(started(plan.start(usize::try_from(led).unwrap())).await);
            tells(&nodes[0], &[1, 2, 3]).await;
        }
    }
    stop_all(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_refuses_records_without_a_key_and_names_each() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    assert_eq!(create(&node, compacted("t", 2, 1)).await.0, 0);
    let mut client = Client::connect(&node).await;
    let bad = [(Some("a"), Some("x"), 1), (None, Some("y"), 2), (None, None, 3)];
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let refused = client.produce("t", 0, keyed(&bad, compression)).await;
        assert_eq!(refused.error_code, ErrorCode::InvalidRecord.code());
        let text = "Compacted topic cannot accept message without key in topic partition t-0";
        let named: Vec<_> = refused
            .record_errors
            .iter()
            .map(|error| (error.batch_index, error.batch_index_error_message.as_deref().unwrap()))
            .collect();
        assert_eq!(named, [(1, text), (2, text)]);
        let message = refused.error_message.unwrap();
        assert!(message.contains("rejected due to 2 record errors in total"), "{message}");
        let good = client.produce("t", 1, keyed(&bad[..1], compression)).await;
        assert_eq!(good.error_code, 0, "{:?}", good.error_message);
    }
    set(&mut client, TOPIC, "t", "cleanup.policy", "delete").await;
    assert_eq!(client.produce("t", 0, keyed(&bad, Compression::None)).await.error_code, 0);
    set(&mut client, TOPIC, "t", "cleanup.policy", "delete,compact").await;
    assert_eq!(client.produce("t", 0, keyed(&bad, Compression::None)).await.error_code, 87);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_batch_without_keys_leaves_the_other_partitions_of_its_request_alone() {
    use kafka_protocol::messages::ProduceRequest;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    assert_eq!(create(&node, compacted("t", 3, 1)).await.0, 0);
    let mut client = Client::connect(&node).await;
    let data = |index, key| {
        let batch = keyed(&[(key, Some("v"), 1_000)], Compression::None);
        PartitionProduceData::default().with_index(index).with_records(Some(batch))
    };
    let topic = TopicProduceData::default()
        .with_name(super::harness::topic_name("t"))
        .with_partition_data(vec![data(0, Some("a")), data(1, None), data(2, Some("b"))]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic]);
    let answer = client.ask(&request, 9).await;
    let codes = answer.responses[0].partition_responses.iter().map(|p| p.error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [0, 87, 0]);
    assert_eq!(http(&node, "/topics/t/keys/a?partition=0", "").await.body, "v");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_keys_that_does_not_decode_ends_its_connection_and_no_other() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut other = filled(&node).await;
    let header = |version: i16| {
        let mut frame = 10_000_i16.to_be_bytes().to_vec();
        frame.extend(version.to_be_bytes());
        frame.extend(7_i32.to_be_bytes());
        frame.extend((-1_i16).to_be_bytes());
        frame.push(0);
        frame
    };
    let mut client = Client::connect(&node).await;
    client.send_frame(&[&header(0)[..], &[0xff, 0xff]].concat()).await;
    assert_eq!(client.receive_frame().await, None);
    let mut client = Client::connect(&node).await;
    client.send_frame(&header(1)).await;
    assert_eq!(client.receive_frame().await, None, "there is no version 1");
    let mut client = Client::connect(&node).await;
    client.send_frame(&header(0)).await;
    let answer = client.receive_frame().await.expect("an answer");
    assert_eq!(&answer[..5], [0, 0, 0, 7, 0], "correlation id and no tagged fields");
    assert_eq!(&answer[5..7], [8, 3], "an unknown topic");
    write(&mut other, "t", 0, &[(Some("z"), Some("z"), 1_000)]).await;
    node.shutdown().await;
}
