//! Members of a group in which the broker shares out the partitions (KIP-848): what groups promise, and what is this
//! protocol's own: nobody stops for what does not concern him, static members that leave for a while, patterns.

use std::sync::Arc;
use std::time::Duration;

use jangbu_client::{
    Client, Consumer, ConsumerConfig, Error, ErrorCode, GroupConfig, GroupProtocol, NewTopic,
    RebalanceListener, TopicPartition,
};
use tokio::time::timeout;

use super::groups::{POLL, Told, fill, has, poll_until, sorted};
use super::{Broker, PATIENCE};

/// A member of this test's group by the consumer protocol.
fn member(broker: &Broker, change: impl FnOnce(&mut GroupConfig)) -> ConsumerConfig {
    broker.member(|group| {
        group.protocol = GroupProtocol::Consumer;
        change(group);
    })
}

fn listening(client: &Client, config: ConsumerConfig) -> (Consumer, Arc<Told>) {
    let told = Arc::new(Told::default());
    let mut consumer = client.consumer(config);
    consumer.listen(Arc::clone(&told) as Arc<dyn RebalanceListener>).unwrap();
    (consumer, told)
}

fn lines(told: &Told) -> Vec<String> {
    told.0.lock().unwrap().clone()
}

fn partitions(member: &Consumer) -> Vec<i32> {
    member.assignment().iter().map(|place| place.partition).collect()
}

fn halves(members: &[&mut Consumer], _: &[Vec<u32>]) -> bool {
    has(members[0], 2) && has(members[1], 2)
}

/// Two members, the second later; then the first one leaves. Every record is read once.
async fn share(assignor: Option<&str>) {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(4).await;
    fill(&client, &topic, 0..200).await;
    let config = member(&broker, |group| group.server_assignor = assignor.map(str::to_owned));
    let (mut one, told) = listening(&client, config.clone());
    one.subscribe(&[&topic]).unwrap();
    let alone = poll_until(&mut [&mut one], |_, read| read[0].len() >= 200).await;
    assert_eq!(sorted(alone), (0..200).collect::<Vec<_>>());
    let mut two = client.consumer(config);
    two.subscribe(&[&topic]).unwrap();
    let read = poll_until(&mut [&mut one, &mut two], halves).await;
    assert_eq!(sorted(read), [0; 0], "what was read was committed before it was given up");
    let (kept, given) = (partitions(&one), partitions(&two));
    fill(&client, &topic, 200..400).await;
    let enough = |_: &[&mut Consumer], read: &[Vec<u32>]| read[0].len() + read[1].len() >= 200;
    let read = poll_until(&mut [&mut one, &mut two], enough).await;
    assert!(read.iter().all(|part| !part.is_empty()), "both read");
    assert_eq!(sorted(read), (200..400).collect::<Vec<_>>());
    one.close().await.unwrap();
    let expected = [
        "assigned [0, 1, 2, 3]".to_owned(),
        format!("revoked {given:?}"),
        format!("revoked {kept:?}"),
    ];
    let heard: Vec<String> =
        lines(&told).into_iter().filter(|line| !line.ends_with("[]")).collect();
    assert_eq!(heard, expected, "the first member gave up only what the second one got");
    fill(&client, &topic, 400..500).await;
    let all =
        |members: &[&mut Consumer], read: &[Vec<u32>]| has(members[0], 4) && read[0].len() >= 100;
    let rest = poll_until(&mut [&mut two], all).await;
    assert_eq!(sorted(rest), (400..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn members_share_what_the_broker_shares_out_and_whoever_is_left_takes_over() {
    share(None).await;
}

#[tokio::test]
async fn the_broker_shares_out_by_the_assignor_that_the_members_name() {
    share(Some("range")).await;
}

#[tokio::test]
async fn an_assignor_that_the_broker_does_not_know_is_refused() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(1).await;
    let named = |group: &mut GroupConfig| group.server_assignor = Some("alphabetical".into());
    let mut consumer = client.consumer(member(&broker, named));
    consumer.subscribe(&[&topic]).unwrap();
    let error = consumer.poll(PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnsupportedAssignor), "{error}");
}

#[tokio::test]
async fn commits_go_on_while_members_come_and_go() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(4).await;
    fill(&client, &topic, 0..100).await;
    let config = member(&broker, |group| group.auto_commit = None);
    let mut one = client.consumer(config.clone());
    one.subscribe(&[&topic]).unwrap();
    poll_until(&mut [&mut one], |_, read| read[0].len() >= 100).await;
    let mut two = client.consumer(config);
    two.subscribe(&[&topic]).unwrap();
    let halved = async {
        while !(has(&one, 2) && has(&two, 2)) {
            // The epoch moves between two of these.
            one.commit().await.unwrap();
            one.poll(POLL).await.unwrap();
            two.poll(POLL).await.unwrap();
        }
    };
    timeout(PATIENCE, halved).await.unwrap();
    let places: Vec<TopicPartition> = (0..4).map(|at| TopicPartition::new(&*topic, at)).collect();
    let committed = one.committer().unwrap().committed(&places).await.unwrap();
    assert_eq!(committed.values().sum::<i64>(), 100);
}

#[tokio::test]
async fn a_static_member_that_leaves_for_a_while_finds_its_partitions_again() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(4).await;
    let named = |name: &str| member(&broker, |group| group.instance_id = Some(name.to_owned()));
    let (mut one, told) = listening(&client, named("one"));
    one.subscribe(&[&topic]).unwrap();
    let mut two = client.consumer(named("two"));
    two.subscribe(&[&topic]).unwrap();
    poll_until(&mut [&mut one, &mut two], halves).await;
    // A second one of the same name has to wait until the first has left.
    let mut twin = client.consumer(named("two"));
    twin.subscribe(&[&topic]).unwrap();
    let refused = twin.poll(PATIENCE).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UnreleasedInstanceId), "{refused}");
    drop(twin);
    let before = (partitions(&two), lines(&told));
    two.close().await.unwrap();
    let mut again = client.consumer(named("two"));
    again.subscribe(&[&topic]).unwrap();
    poll_until(&mut [&mut one, &mut again], |members, _| has(members[1], 2)).await;
    assert_eq!((partitions(&again), lines(&told)), before);
}

#[tokio::test]
async fn a_member_that_does_not_poll_loses_its_partitions_and_comes_back() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(2).await;
    let impatient = member(&broker, |group| group.rebalance_timeout = Duration::from_secs(2));
    let (mut slow, told) = listening(&client, impatient.clone());
    slow.subscribe(&[&topic]).unwrap();
    poll_until(&mut [&mut slow], |members, _| has(members[0], 2)).await;
    let mut other = client.consumer(impatient);
    other.subscribe(&[&topic]).unwrap();
    poll_until(&mut [&mut other], |members, _| has(members[0], 2)).await;
    let shared =
        |members: &[&mut Consumer], _: &[Vec<u32>]| has(members[0], 1) && has(members[1], 1);
    poll_until(&mut [&mut slow, &mut other], shared).await;
    assert!(lines(&told).contains(&"lost [0, 1]".to_owned()), "{:?}", lines(&told));
}

#[tokio::test]
async fn a_pattern_finds_its_topics_and_names_take_its_place() {
    let broker = Broker::get();
    let client = broker.client().await;
    let topic = |which: &str| format!("{}-{which}", broker.name);
    for which in ["red", "green", "blue-1"] {
        let new = NewTopic { name: topic(which), partitions: Some(2), ..NewTopic::default() };
        client.create_topic(&new).await.unwrap();
    }
    let mut consumer = client.consumer(member(&broker, |_| {}));
    consumer.subscribe_pattern(&format!("{}-[a-z]+", broker.name)).unwrap();
    let topics = |consumer: &Consumer| {
        let mut found: Vec<String> =
            consumer.assignment().iter().map(|place| place.topic.to_string()).collect();
        found.dedup();
        found
    };
    poll_until(&mut [&mut consumer], |members, _| has(members[0], 4)).await;
    assert_eq!(topics(&consumer), [topic("green"), topic("red")]);
    consumer.subscribe(&[&topic("blue-1")]).unwrap();
    poll_until(&mut [&mut consumer], |members, _| has(members[0], 2)).await;
    assert_eq!(topics(&consumer), [topic("blue-1")]);
}

#[tokio::test]
async fn a_pattern_that_is_none_is_refused() {
    let broker = Broker::get();
    let client = broker.client().await;
    let mut consumer = client.consumer(member(&broker, |_| {}));
    consumer.subscribe_pattern("orders-(").unwrap();
    let error = consumer.poll(PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidRegularExpression), "{error}");
    let mut classic = client.consumer(broker.member(|_| {}));
    assert!(matches!(classic.subscribe_pattern("orders-.*"), Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_topic_that_is_deleted_is_given_up_and_the_others_are_read_on() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(1).await;
    let other = format!("{topic}-other");
    let new = NewTopic { name: other.clone(), partitions: Some(1), ..NewTopic::default() };
    client.create_topic(&new).await.unwrap();
    let mut consumer = client.consumer(member(&broker, |_| {}));
    consumer.subscribe(&[&topic, &other]).unwrap();
    poll_until(&mut [&mut consumer], |members, _| has(members[0], 2)).await;
    client.delete_topic(&other).await.unwrap();
    poll_until(&mut [&mut consumer], |members, _| has(members[0], 1)).await;
    fill(&client, &topic, 0..10).await;
    let read = poll_until(&mut [&mut consumer], |_, read| read[0].len() >= 10).await;
    assert_eq!(read[0], (0..10).collect::<Vec<_>>());
    assert_eq!(*consumer.assignment()[0].topic, *topic);
}
