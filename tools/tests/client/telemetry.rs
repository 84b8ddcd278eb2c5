//! What a program is told of the client's work: counts and times by its `Metrics`, spans by `tracing`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jangbu_client::{
    Client, Config, Count, ErrorCode, GroupProtocol, Metrics, NewTopic, ProducerConfig,
    TopicPartition,
};
use tokio::time::timeout;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::{Broker, PATIENCE, numbers};

/// Keeps what it is told.
#[derive(Debug, Default)]
struct Kept {
    counts: Mutex<HashMap<Count, u64>>,
    answered: Mutex<BTreeSet<&'static str>>,
    times: Mutex<Vec<&'static str>>,
}

impl Kept {
    fn of(&self, what: Count) -> u64 {
        self.counts.lock().unwrap().get(&what).copied().unwrap_or(0)
    }
}

impl Metrics for Kept {
    fn count(&self, what: Count, by: u64) {
        *self.counts.lock().unwrap().entry(what).or_default() += by;
    }

    fn answered(&self, api: &'static str, _: Duration) {
        self.answered.lock().unwrap().insert(api);
    }

    fn delivered(&self, _: Duration) {
        self.times.lock().unwrap().push("delivered");
    }

    fn rebalanced(&self, _: Duration) {
        self.times.lock().unwrap().push("rebalanced");
    }
}

/// Writes a hundred records and reads them as a member of a group.
async fn round_trip(broker: &Broker, client: &Client) {
    let new = NewTopic { name: broker.name.clone(), partitions: Some(1), ..NewTopic::default() };
    client.create_topic(&new).await.unwrap();
    let producer = client.producer(ProducerConfig::default().with_linger(Duration::ZERO));
    producer.send_batch(&broker.name, None, &numbers(0..100)).await.unwrap().await.unwrap();
    producer.close().await;
    let config = broker.member(|group| group.protocol = GroupProtocol::Consumer);
    let mut consumer = client.consumer(config);
    consumer.subscribe(&[&broker.name]).unwrap();
    for _ in 0..100 {
        timeout(PATIENCE, consumer.next_record()).await.unwrap().unwrap();
    }
    consumer.close().await.unwrap();
}

#[tokio::test]
async fn metrics_tell_of_connections_requests_batches_and_rebalances() {
    let broker = Broker::get();
    let kept = Arc::new(Kept::default());
    let config = Config::for_brokers(&broker.address).with_metrics(kept.clone());
    let client = Client::connect(config).await.unwrap();
    round_trip(&broker, &client).await;
    assert_eq!((kept.of(Count::RecordsProduced), kept.of(Count::RecordsFetched)), (100, 100));
    assert_eq!(kept.of(Count::BatchesProduced), kept.of(Count::BatchesFetched));
    assert_eq!(kept.of(Count::BytesProduced), kept.of(Count::BytesFetched));
    assert_eq!((kept.of(Count::Rebalances), kept.of(Count::ConnectionsFailed)), (1, 0));
    assert!(kept.of(Count::Connections) >= 3, "one for quick answers, for fetches, for the group");
    let answered = kept.answered.lock().unwrap().clone();
    for api in ["Metadata", "Produce", "Fetch", "ConsumerGroupHeartbeat", "OffsetCommit"] {
        assert!(answered.contains(api), "{api} is not in {answered:?}");
    }
    let times = kept.times.lock().unwrap().clone();
    assert!(times.contains(&"delivered") && times.contains(&"rebalanced"), "{times:?}");
}

/// Keeps the names of spans.
struct Names(Arc<Mutex<BTreeSet<&'static str>>>);

impl<S: tracing::Subscriber> Layer<S> for Names {
    fn on_new_span(
        &self,
        span: &tracing::span::Attributes<'_>,
        _: &tracing::span::Id,
        _: Context<'_, S>,
    ) {
        self.0.lock().unwrap().insert(span.metadata().name());
    }
}

#[tokio::test]
async fn spans_tell_of_requests_fetches_and_rebalances() {
    let broker = Broker::get();
    let names = Arc::new(Mutex::default());
    let subscriber = tracing_subscriber::registry().with(Names(Arc::clone(&names)));
    let _guard = tracing::subscriber::set_default(subscriber);
    round_trip(&broker, &broker.client().await).await;
    let names = names.lock().unwrap().clone();
    for name in ["request", "fetch", "resolve", "adopt"] {
        assert!(names.contains(name), "{name} is not in {names:?}");
    }
}

#[tokio::test]
async fn a_refusal_tells_what_it_is_about_and_whether_to_try_again() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(1).await;
    let new = NewTopic { name: topic.clone(), ..NewTopic::default() };
    let error = client.create_topic(&new).await.unwrap_err();
    assert_eq!(error.topic(), Some(topic.as_str()), "{error}");
    assert!(!error.is_retriable());
    let gone = client.delete_group(&broker.name).await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::GroupIdNotFound));
    assert_eq!((gone.group(), gone.topic()), (Some(broker.name.as_str()), None), "{gone}");
    // Somebody is in the group, so a commit of nobody is refused.
    let mut member = client.consumer(broker.member(|_| {}));
    member.subscribe(&[&topic]).unwrap();
    let assigned = async {
        while member.assignment().is_empty() {
            member.poll(Duration::from_millis(50)).await.unwrap();
        }
    };
    timeout(PATIENCE, assigned).await.unwrap();
    let stranger = client.consumer(broker.member(|_| {})).committer().unwrap();
    let offsets = [(TopicPartition::new(topic.as_str(), 0), 5)].into();
    let error = stranger.commit(&offsets).await.unwrap_err();
    assert_eq!((error.topic(), error.partition()), (Some(topic.as_str()), Some(0)), "{error}");
    assert_eq!((error.offset(), error.group()), (Some(5), Some(broker.name.as_str())));
    assert!(!error.is_retriable());
}
