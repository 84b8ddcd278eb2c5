//! Consumers that name their rack read from a replica that is in it (KIP-392).

use std::time::Duration;

use jangbu_server::{Config, Node};
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::protocol::StrBytes;

use super::forming::{PATIENCE, Plan, start, started, stop_all, tells};
use super::harness::{Client, FETCH_VERSION, fetch_request, records, topic_name};
use super::replication::{create, leader, produce};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;

/// What a node answers a consumer of a rack that wants the records from `offset` on.
async fn fetch(node: &Node, rack: &str, offset: i64, epoch: i32) -> FetchResponse {
    let mut request = fetch_request("near", offset, 1, Duration::from_millis(100))
        .with_rack_id(StrBytes::from_string(rack.to_owned()));
    request.topics[0].partitions[0].current_leader_epoch = epoch;
    Client::connect(node).await.ask(&request, FETCH_VERSION).await
}

fn partition(answer: &FetchResponse) -> &PartitionData {
    &answer.responses[0].partitions[0]
}

fn rack(id: i32) -> String {
    format!("rack-{id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_reads_from_the_replica_in_its_rack() {
    let plan = Plan::new();
    let with_rack = |node| Config { rack: rack(i32::try_from(node).unwrap()), ..plan.config(node) };
    let starting = [1, 2, 3].map(|node| start(with_rack(node)));
    let mut nodes = Vec::new();
    for starting in starting {
        nodes.push(started(starting).await);
    }
    tells(&nodes[0], &[1, 2, 3]).await;
    let topic = CreatableTopic::default()
        .with_name(topic_name("near"))
        .with_num_partitions(1)
        .with_replication_factor(3);
    assert_eq!(create(&nodes[0], topic).await, (0, 3));
    for (value, offset) in ["one", "two"].into_iter().zip(0..) {
        assert_eq!(produce(&nodes, "near", value).await, offset);
    }
    let led = leader(&nodes[0], "near", 0, &[1, 2, 3]).await;
    let leading = nodes.iter().find(|node| node.id() == led).unwrap();

    let own = fetch(leading, &rack(led), 0, -1).await;
    assert_eq!((partition(&own).preferred_read_replica.0, records(&own).len()), (-1, 2));
    let unknown = fetch(leading, "rack-9", 0, -1).await;
    assert_eq!((partition(&unknown).preferred_read_replica.0, records(&unknown).len()), (-1, 2));
    let outside = fetch(leading, &rack(led % 3 + 1), 3, -1).await;
    assert_eq!(partition(&outside).error_code, OFFSET_OUT_OF_RANGE, "no other replica is named");

    for node in nodes.iter().filter(|node| node.id() != led) {
        let guided = fetch(leading, &rack(node.id()), 0, -1).await;
        let told = partition(&guided);
        assert_eq!((told.error_code, told.preferred_read_replica.0), (0, node.id()));
        assert!(records(&guided).is_empty());

        let reading = async {
            loop {
                let read = fetch(node, &rack(node.id()), 0, 1).await;
                let told = partition(&read);
                assert_eq!((told.error_code, told.preferred_read_replica.0), (0, -1));
                let values: Vec<_> = records(&read).into_iter().map(|(_, value)| value).collect();
                if values.len() == 2 {
                    return values;
                }
            }
        };
        let values = tokio::time::timeout(PATIENCE, reading).await.expect("it follows");
        assert_eq!(values, ["one", "two"]);
        let code = async |rack: &str, offset, epoch| {
            partition(&fetch(node, rack, offset, epoch).await).error_code
        };
        assert_eq!(code(&rack(node.id()), 3, -1).await, OFFSET_OUT_OF_RANGE);
        assert_eq!(code(&rack(node.id()), 0, 0).await, FENCED_LEADER_EPOCH);
        assert_eq!(code(&rack(node.id()), 0, 9).await, UNKNOWN_LEADER_EPOCH);
        assert_eq!(code(&rack(led), 0, 1).await, NOT_LEADER_OR_FOLLOWER);
        assert_eq!(code("", 0, 1).await, NOT_LEADER_OR_FOLLOWER);
    }
    stop_all(nodes).await;
}
