//! Client quotas: they are kept, told, and held to by rests that answers announce.

use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, DescribeClientQuotasRequest, MetadataRequest,
};
use kafka_protocol::protocol::StrBytes;
use tempfile::tempdir;

use super::harness::{
    Client, FETCH_VERSION, NO_SEQUENCE, PRODUCE_VERSION, batch, fetch_request, http_get,
    produce_request, start,
};

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Sets a quota of an entity, or takes it away; the error code.
async fn alter(
    client: &mut Client,
    of: &[(&str, Option<&str>)],
    key: &str,
    limit: Option<f64>,
) -> i16 {
    let part = |(kind, name): &(&str, Option<&str>)| {
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
    };
    let op = OpData::default()
        .with_key(text(key))
        .with_value(limit.unwrap_or_default())
        .with_remove(limit.is_none());
    let entry = EntryData::default().with_entity(of.iter().map(part).collect()).with_ops(vec![op]);
    let request = AlterClientQuotasRequest::default().with_entries(vec![entry]);
    client.ask(&request, 1).await.entries[0].error_code
}

/// All quotas: entity and limits as text.
async fn told(client: &mut Client) -> Vec<String> {
    let response = client.ask(&DescribeClientQuotasRequest::default(), 1).await;
    assert_eq!(response.error_code, 0);
    let shown = response.entries.unwrap().into_iter().map(|entry| {
        let parts = entry.entity.iter().map(|part| {
            let name = part.entity_name.as_deref().unwrap_or("<default>");
            format!("{}={name}", &*part.entity_type)
        });
        let values = entry.values.iter().map(|value| format!("{}:{}", &*value.key, value.value));
        parts.chain(values).collect::<Vec<_>>().join(" ")
    });
    let mut shown: Vec<String> = shown.collect();
    shown.sort_unstable();
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_kept_over_a_restart_and_told() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    let named = [("client-id", Some("c"))];
    let both = [("user", None), ("client-id", Some("c"))];
    assert_eq!(alter(&mut client, &named, "producer_byte_rate", Some(1024.0)).await, 0);
    assert_eq!(alter(&mut client, &named, "request_percentage", Some(12.5)).await, 0);
    assert_eq!(alter(&mut client, &both, "consumer_byte_rate", Some(5.0)).await, 0);
    assert_eq!(alter(&mut client, &both, "producer_byte_rate", None).await, 0, "it had none");
    assert_eq!(
        alter(&mut client, &[("ip", None)], "connection_creation_rate", Some(1.0)).await,
        42
    );
    assert_eq!(alter(&mut client, &named, "producer_byte_rate", Some(-1.0)).await, 42);
    let expected = [
        "client-id=c producer_byte_rate:1024 request_percentage:12.5",
        "user=<default> client-id=c consumer_byte_rate:5",
    ];
    assert_eq!(told(&mut client).await, expected);
    node.shutdown().await;

    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(told(&mut client).await, expected);
    let any =
        ComponentData::default().with_entity_type(text("user")).with_match_type(2).with_match(None);
    let request = DescribeClientQuotasRequest::default().with_components(vec![any]);
    assert_eq!(client.ask(&request, 0).await.entries.unwrap().len(), 1);
    assert_eq!(alter(&mut client, &both, "consumer_byte_rate", None).await, 0);
    assert_eq!(told(&mut client).await, expected[..1]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_beyond_its_quota_is_told_to_rest_and_is_not_read_meanwhile() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    // Ten seconds of it are allowed at once.
    assert_eq!(
        alter(&mut client, &[("client-id", Some("test"))], "producer_byte_rate", Some(1000.0))
            .await,
        0
    );
    let value = "x".repeat(5_000);
    let request = produce_request("t", 0, batch(&[&value], NO_SEQUENCE));
    let first = client.ask(&request, PRODUCE_VERSION).await;
    assert_eq!(first.throttle_time_ms, 0);
    let begun = Instant::now();
    let second = client.ask(&request, PRODUCE_VERSION).await;
    let pause = u64::try_from(second.throttle_time_ms).unwrap();
    assert!((1..2_000).contains(&pause), "two requests of 5,0xx bytes: {pause} ms");
    assert_eq!(second.responses[0].partition_responses[0].error_code, 0, "it is stored");
    client.ask(&MetadataRequest::default(), 9).await;
    assert!(begun.elapsed() >= Duration::from_millis(pause), "it rested");
    let (_, page) = http_get(&node, "/metrics").await;
    assert!(page.contains("jangbu_quota_throttled_total{quota=\"produce\"} 1\n"), "{page}");
    assert_eq!(
        alter(&mut client, &[("client-id", Some("test"))], "producer_byte_rate", None).await,
        0
    );
    assert_eq!(client.ask(&request, PRODUCE_VERSION).await.throttle_time_ms, 0);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_beyond_its_quota_gets_its_records_and_is_told_to_rest() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    let value = "x".repeat(900);
    client.produce("t", 0, batch(&[&value], NO_SEQUENCE)).await;
    assert_eq!(
        alter(&mut client, &[("user", Some("ANONYMOUS"))], "consumer_byte_rate", Some(1000.0))
            .await,
        0
    );
    let request = fetch_request("t", 0, 1, Duration::ZERO);
    let mut told = Vec::new();
    while told.last().is_none_or(|pause| *pause == 0) {
        let response = client.ask(&request, FETCH_VERSION).await;
        let records = response.responses[0].partitions[0].records.as_ref().map_or(0, |r| r.len());
        assert!(records > 900, "records come all the same");
        told.push(response.throttle_time_ms);
        assert!(told.len() < 20, "{told:?}");
    }
    // Ten fetches of a thousand bytes are ten seconds' worth.
    assert!((10..=11).contains(&told.len()), "{told:?}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_counted_against_the_quota_of_requests() {
    let dir = tempdir().unwrap();
    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(
        alter(&mut client, &[("client-id", None)], "request_percentage", Some(0.000_001)).await,
        0
    );
    client.ask(&MetadataRequest::default(), 9).await;
    let (_, page) = http_get(&node, "/metrics").await;
    assert!(!page.contains("jangbu_quota_throttled_total{quota=\"request\"} 0\n"), "{page}");
    node.shutdown().await;
}
