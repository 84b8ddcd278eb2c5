//! Who asks for keys and who answers: the client, every node of a cluster, and requests that are none; and what a
//! compacted topic does not take in.

use jangbu_client::{Error, ErrorCode, KeyQuery};
use jangbu_server::Node;
use kafka_protocol::records::Compression;
use tempfile::tempdir;

use super::configs::{TOPIC, set};
use super::forming::{Plan, started, stop_all, tells};
use super::harness::{Client, start};
use super::keys::{compacted, filled, http, key_client, keyed, write};
use super::replication::{create, leader, until};

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
    assert_eq!(client.look_up("t", &past).await.unwrap().records, vec![first.clone()]);
    let unknown = client.look_up("t", &KeyQuery::key("key 7").partition(5)).await.unwrap_err();
    assert!(matches!(unknown, Error::UnknownPartition { partition: 5, count: 5, .. }));
    let no_partition = client.look_up("t", &KeyQuery::prefix("key")).await.unwrap_err();
    assert!(matches!(no_partition, Error::Invalid(_)));
    let page = client.look_up("t", &KeyQuery::prefix("key").partition(0).limit(2)).await.unwrap();
    assert_eq!((page.records.len(), page.next.is_some()), (2, true));
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
    set(&mut client, TOPIC, "t", "retention.ms", "-1").await;
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
