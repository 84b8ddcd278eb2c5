//! Configs changed while the node runs: what is answered, what is reported, and what survives.

use jangbu_server::Node;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as EditedResource, AlterableConfig as EditedConfig,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};
use kafka_protocol::protocol::StrBytes;
use tempfile::tempdir;

use super::harness::{Client, NO_SEQUENCE, batch, http_get, start};

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
pub(crate) const SET: i8 = 0;
const DELETE: i8 = 1;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// An IncrementalAlterConfigs of one resource; its error code and message.
pub(crate) async fn edit(
    client: &mut Client,
    kind: i8,
    name: &str,
    edits: &[(&str, i8, &str)],
) -> (i16, String) {
    let config = |&(name, operation, value): &(&str, i8, &str)| {
        EditedConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value((operation != DELETE).then(|| text(value)))
    };
    let resource = EditedResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(edits.iter().map(config).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = client.ask(&request, 1).await.responses.remove(0);
    (answer.error_code, answer.error_message.unwrap_or_default().to_string())
}

/// Sets one config, which must succeed.
pub(crate) async fn set(client: &mut Client, kind: i8, name: &str, config: &str, value: &str) {
    let answer = edit(client, kind, name, &[(config, SET, value)]).await;
    assert_eq!(answer, (0, String::new()), "{config}={value}");
}

/// Value and source of one config, as `value/source`.
pub(crate) async fn described(client: &mut Client, kind: i8, name: &str, config: &str) -> String {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text(config)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let result = client.ask(&request, 4).await.results.remove(0);
    assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    let shown =
        |c: &kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult| {
            format!("{}/{}", c.value.as_deref().unwrap_or("null"), c.config_source)
        };
    result.configs.first().map_or("none".to_owned(), shown)
}

async fn started(dir: &std::path::Path) -> (Node, Client) {
    let node = start(dir).await;
    let mut client = Client::connect(&node).await;
    client.create_topic("t", 1).await;
    (node, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_produce_is_judged_by_the_new_value() {
    let dir = tempdir().unwrap();
    let (node, mut client) = started(dir.path()).await;
    let large = batch(&[&"x".repeat(2000)], NO_SEQUENCE);
    let too_large = ResponseError::MessageTooLarge.code();
    for (kind, name, config) in [
        (TOPIC, "t", "max.message.bytes"),
        (BROKER, "1", "message.max.bytes"),
        (BROKER, "", "message.max.bytes"),
    ] {
        assert_eq!(client.produce("t", 0, large.clone()).await.error_code, 0);
        set(&mut client, kind, name, config, "1000").await;
        assert_eq!(client.produce("t", 0, large.clone()).await.error_code, too_large, "{config}");
        let answer = edit(&mut client, kind, name, &[(config, DELETE, "")]).await;
        assert_eq!(answer.0, 0);
    }
    set(&mut client, BROKER, "", "min.insync.replicas", "2").await;
    let refused = client.produce("t", 0, large).await.error_code;
    assert_eq!(refused, ResponseError::NotEnoughReplicas.code());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_place_wins_and_is_reported() {
    let dir = tempdir().unwrap();
    let (node, mut client) = started(dir.path()).await;
    assert_eq!(described(&mut client, TOPIC, "t", "retention.ms").await, "604800000/5");
    set(&mut client, BROKER, "", "log.retention.ms", "3").await;
    assert_eq!(described(&mut client, TOPIC, "t", "retention.ms").await, "3/3");
    assert_eq!(described(&mut client, BROKER, "", "log.retention.ms").await, "3/3");
    assert_eq!(described(&mut client, BROKER, "", "log.retention.bytes").await, "none");
    set(&mut client, BROKER, "1", "log.retention.ms", "2").await;
    assert_eq!(described(&mut client, TOPIC, "t", "retention.ms").await, "2/2");
    assert_eq!(described(&mut client, BROKER, "1", "log.retention.ms").await, "2/2");
    set(&mut client, TOPIC, "t", "retention.ms", "1").await;
    assert_eq!(described(&mut client, TOPIC, "t", "retention.ms").await, "1/1");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_resource_harms_no_other_and_nothing_of_it_is_set() {
    let dir = tempdir().unwrap();
    let (node, mut client) = started(dir.path()).await;
    client.create_topic("u", 1).await;
    let config = |name: &str, value: &str| {
        AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let resource = |name: &str, configs| {
        AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(name))
            .with_configs(configs)
    };
    let request = AlterConfigsRequest::default().with_resources(vec![
        resource("t", vec![config("retention.bytes", "7"), config("retention.ms", "soon")]),
        resource("nobody", vec![]),
        resource("u", vec![config("retention.ms", "8")]),
    ]);
    let answers = client.ask(&request, 2).await.responses;
    let codes: Vec<i16> = answers.iter().map(|answer| answer.error_code).collect();
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(codes, [ResponseError::InvalidConfig.code(), unknown, 0]);
    assert_eq!(described(&mut client, TOPIC, "t", "retention.bytes").await, "-1/5");
    assert_eq!(described(&mut client, TOPIC, "u", "retention.ms").await, "8/1");
    let dry = request.with_validate_only(true).with_resources(vec![resource("u", vec![])]);
    assert_eq!(client.ask(&dry, 2).await.responses[0].error_code, 0);
    assert_eq!(described(&mut client, TOPIC, "u", "retention.ms").await, "8/1");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_survive_a_restart() {
    let dir = tempdir().unwrap();
    let (node, mut client) = started(dir.path()).await;
    set(&mut client, TOPIC, "t", "max.message.bytes", "1000").await;
    set(&mut client, BROKER, "1", "log.retention.ms", "2").await;
    set(&mut client, BROKER, "", "log.retention.bytes", "3").await;
    node.shutdown().await;

    let node = start(dir.path()).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(described(&mut client, TOPIC, "t", "max.message.bytes").await, "1000/1");
    assert_eq!(described(&mut client, TOPIC, "t", "retention.ms").await, "2/2");
    assert_eq!(described(&mut client, TOPIC, "t", "retention.bytes").await, "3/3");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_the_same_time_all_take_effect() {
    const CLIENTS: usize = 8;
    let dir = tempdir().unwrap();
    let (node, mut client) = started(dir.path()).await;
    let name = "leader.replication.throttled.replicas";
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(&node).await);
    }
    let tasks: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(i, mut client)| {
            let element = format!("{i}:1");
            tokio::spawn(async move { edit(&mut client, TOPIC, "t", &[(name, 2, &element)]).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), (0, String::new()));
    }
    let value = described(&mut client, TOPIC, "t", name).await;
    let list = value.trim_end_matches("/1");
    assert_eq!(list.split(',').count(), CLIENTS, "{list}");
    node.shutdown().await;
}

/// How often the write-ahead log has been synced.
async fn syncs(node: &Node) -> u64 {
    let (_, metrics) = http_get(node, "/metrics").await;
    let line =
        metrics.lines().find_map(|l| l.strip_prefix("jangbu_engine_sync_duration_seconds_count "));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relaxed_topic_does_not_wait_for_syncs_and_a_strict_one_does() {
    const BATCHES: u64 = 100;
    let dir = tempdir().unwrap();
    let (node, mut client) = started(dir.path()).await;
    for (mode, waits) in [("strict", true), ("relaxed", false), ("strict", true)] {
        set(&mut client, TOPIC, "t", "jangbu.durability", mode).await;
        let before = syncs(&node).await;
        for _ in 0..BATCHES {
            assert_eq!(client.produce("t", 0, batch(&["x"], NO_SEQUENCE)).await.error_code, 0);
        }
        let synced = syncs(&node).await - before;
        assert_eq!(synced >= BATCHES, waits, "{mode}: {synced} syncs for {BATCHES} batches");
    }
    node.shutdown().await;
}
