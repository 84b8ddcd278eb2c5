//! What producing answers: offsets, duplicates, order, and one bad batch among good ones.

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::{
    FetchRequest, InitProducerIdRequest, ProduceRequest, ProduceResponse,
};
use tempfile::tempdir;

use super::harness::{
    Client, FETCH_VERSION, NO_SEQUENCE, PRODUCE_VERSION, Sequence, batch, fetch_request,
    produce_request, records, start,
};

#[tokio::test(flavor = "multi_thread")]
async fn offsets_count_records_and_leave_no_gap() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    assert_eq!(client.produce("t", 0, batch(&["a", "b", "c"], NO_SEQUENCE)).await.base_offset, 0);
    assert_eq!(client.produce("t", 0, batch(&["d"], NO_SEQUENCE)).await.base_offset, 3);
    assert_eq!(client.produce("t", 0, batch(&["e"], NO_SEQUENCE)).await.base_offset, 4);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_appended_and_answered_in_order() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let request = produce_request("t", 0, batch(&["x"], NO_SEQUENCE));
    let sent = client.send_burst(&request, PRODUCE_VERSION, 200).await;
    for (offset, id) in sent.into_iter().enumerate() {
        let (received, response) = client.receive::<ProduceRequest>(PRODUCE_VERSION).await;
        assert_eq!(received, id);
        let answered = response.responses[0].partition_responses[0].base_offset;
        assert_eq!(answered, i64::try_from(offset).unwrap());
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_is_answered_with_its_first_offset() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let init = InitProducerIdRequest::default().with_transactional_id(None);
    let producer_id = client.ask(&init, 4).await.producer_id.0;
    let nth = |first| batch(&["x", "y"], Sequence { producer_id, first });
    for first in [0, 2, 4, 6, 8] {
        assert_eq!(client.produce("t", 0, nth(first)).await.base_offset, i64::from(first));
    }
    assert_eq!(client.produce("t", 0, nth(0)).await.base_offset, 0, "the fifth last");
    assert_eq!(client.produce("t", 0, nth(8)).await.base_offset, 8, "the last");
    let gap = client.produce("t", 0, nth(12)).await;
    assert_eq!(gap.error_code, ResponseError::OutOfOrderSequenceNumber.code());
    assert_eq!(client.produce("t", 0, nth(10)).await.base_offset, 10, "the next one still fits");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_while_it_is_in_flight_is_appended_once() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let once = batch(&["x"], Sequence { producer_id: 7, first: 0 });
    client.send_burst(&produce_request("t", 0, once), PRODUCE_VERSION, 20).await;
    for _ in 0..20 {
        let (_, response) = client.receive::<ProduceRequest>(PRODUCE_VERSION).await;
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    }
    let next = batch(&["y"], Sequence { producer_id: 7, first: 1 });
    assert_eq!(client.produce("t", 0, next).await.base_offset, 1);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_behind_a_produce_sees_what_it_wrote() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    for offset in 0..20 {
        let (_, write) =
            client.frame(&produce_request("t", 0, batch(&["x"], NO_SEQUENCE)), PRODUCE_VERSION);
        let (_, read) = client.frame(&fetch_request("t", offset, 1, Duration::ZERO), FETCH_VERSION);
        client.send_bytes(&[write, read].concat()).await;
        client.receive::<ProduceRequest>(PRODUCE_VERSION).await;
        let (_, fetched) = client.receive::<FetchRequest>(FETCH_VERSION).await;
        assert_eq!(records(&fetched), [(offset, "x".to_owned())]);
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_batch_harms_no_other() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 3).await;
    let mut flipped = batch(&["bad"], NO_SEQUENCE).to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let mut request = produce_request("t", 0, batch(&["good"], NO_SEQUENCE));
    let partitions = &mut request.topic_data[0].partition_data;
    for (index, bytes) in [(1, flipped.into()), (2, batch(&["good"], NO_SEQUENCE))] {
        partitions
            .push(PartitionProduceData::default().with_index(index).with_records(Some(bytes)));
    }
    let response: ProduceResponse = client.ask(&request, PRODUCE_VERSION).await;
    let codes: Vec<i16> =
        response.responses[0].partition_responses.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [0, ResponseError::CorruptMessage.code(), 0]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_to_acks_0_and_the_records_are_there() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let request = produce_request("t", 0, batch(&["a"], NO_SEQUENCE)).with_acks(0);
    client.send(&request, PRODUCE_VERSION).await;
    // The next answer belongs to the next request: its correlation id is checked.
    assert_eq!(client.produce("t", 0, batch(&["b"], NO_SEQUENCE)).await.base_offset, 1);
    node.shutdown().await;
}
