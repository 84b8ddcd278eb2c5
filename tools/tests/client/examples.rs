//! The examples of the client crate do what they say.

#[path = "../../../client/examples/admin.rs"]
mod admin;
#[path = "../../../client/examples/consume.rs"]
mod consume;
#[path = "../../../client/examples/group.rs"]
mod group;
#[path = "../../../client/examples/produce.rs"]
mod produce;
#[path = "../../../client/examples/transform.rs"]
mod transform;

use super::{Broker, PATIENCE};

#[tokio::test]
async fn the_examples_write_read_share_and_transform_a_topic() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(3).await;
    let loud = format!("{topic}-loud");
    assert_eq!(produce::run(&broker.address, &topic).await.unwrap(), 1001);
    assert_eq!(consume::run(&broker.address, &topic).await.unwrap(), 1001);
    group::run(&broker.address, &topic, &broker.name, 500).await.unwrap();
    let group = format!("{topic}-shouters");
    let name = jangbu_client::NewTopic { name: loud.clone(), ..Default::default() };
    client.create_topic(&name).await.unwrap();
    let written = transform::run(&broker.address, &topic, &loud, &group, 1001).await.unwrap();
    assert_eq!(written, 1001);
    assert_eq!(consume::run(&broker.address, &loud).await.unwrap(), 1001);
}

#[tokio::test]
async fn the_admin_example_leaves_nothing_behind() {
    let broker = Broker::get();
    admin::run(&broker.address, &broker.name).await.unwrap();
    let client = broker.client().await;
    // Kafka answers before every broker has heard of it.
    let gone = async { while client.topic(&broker.name).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("the topic goes away");
}
