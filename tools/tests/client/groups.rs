//! What a group promises its members: every partition has one reader, nothing that was committed comes again, and
//! nothing that was not is lost.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jangbu_client::{
    Assignor, Client, Committer, Consumer, ConsumerConfig, Error, ListenerFuture, ProducerConfig,
    RebalanceListener, TopicPartition,
};
use tokio::time::timeout;

use super::{Broker, PATIENCE, number, numbers};

pub(super) const POLL: Duration = Duration::from_millis(50);

/// Writes these numbers, spread over the partitions.
pub(super) async fn fill(client: &Client, topic: &str, range: std::ops::Range<u32>) {
    let config = ProducerConfig { batch_bytes_max: 300, ..ProducerConfig::default() };
    let producer = client.producer(config);
    producer.send_batch(topic, None, &numbers(range)).await.unwrap().await.unwrap();
}

/// Polls members in turns until `done`, and returns what each has read.
pub(super) async fn poll_until(
    members: &mut [&mut Consumer],
    mut done: impl FnMut(&[&mut Consumer], &[Vec<u32>]) -> bool,
) -> Vec<Vec<u32>> {
    let mut read = vec![Vec::new(); members.len()];
    let polling = async {
        while !done(members, &read) {
            for (member, read) in members.iter_mut().zip(&mut read) {
                let records = member.poll(POLL).await.unwrap();
                read.extend(records.iter().map(|received| number(&received.record)));
            }
        }
    };
    timeout(PATIENCE, polling).await.expect("the members come to where the test wants them");
    read
}

pub(super) fn sorted(read: Vec<Vec<u32>>) -> Vec<u32> {
    let mut all: Vec<u32> = read.into_iter().flatten().collect();
    all.sort_unstable();
    all
}

pub(super) fn has(member: &Consumer, count: usize) -> bool {
    member.assignment().len() == count
}

#[tokio::test]
async fn members_share_the_partitions_and_whoever_is_left_takes_over() {
    for assignors in [
        vec![Assignor::Range, Assignor::CooperativeSticky],
        vec![Assignor::RoundRobin],
        vec![Assignor::CooperativeSticky],
    ] {
        let broker = Broker::get();
        let (client, topic) = broker.with_topic(4).await;
        fill(&client, &topic, 0..200).await;
        let config = broker.member(|group| group.assignors = assignors.clone());
        let mut one = client.consumer(config.clone());
        let mut two = client.consumer(config);
        one.subscribe(&[&topic]).unwrap();
        let alone = poll_until(&mut [&mut one], |_, read| read[0].len() >= 200).await;
        assert_eq!(sorted(alone), (0..200).collect::<Vec<_>>(), "{assignors:?}");
        two.subscribe(&[&topic]).unwrap();
        let shared =
            |members: &[&mut Consumer], _: &[Vec<u32>]| has(members[0], 2) && has(members[1], 2);
        poll_until(&mut [&mut one, &mut two], shared).await;
        let both: BTreeSet<TopicPartition> =
            one.assignment().into_iter().chain(two.assignment()).collect();
        assert_eq!(both.len(), 4, "{assignors:?}");
        fill(&client, &topic, 200..400).await;
        let enough = |_: &[&mut Consumer], read: &[Vec<u32>]| read[0].len() + read[1].len() >= 200;
        let read = poll_until(&mut [&mut one, &mut two], enough).await;
        assert!(read.iter().all(|part| !part.is_empty()), "both read, with {assignors:?}");
        assert_eq!(sorted(read), (200..400).collect::<Vec<_>>(), "{assignors:?}");
        one.close().await.unwrap();
        fill(&client, &topic, 400..500).await;
        let all = |members: &[&mut Consumer], read: &[Vec<u32>]| {
            has(members[0], 4) && read[0].len() >= 100
        };
        let rest = poll_until(&mut [&mut two], all).await;
        assert_eq!(sorted(rest), (400..500).collect::<Vec<_>>(), "{assignors:?}");
    }
}

#[tokio::test]
async fn the_next_member_begins_where_the_one_before_committed() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(1).await;
    fill(&client, &topic, 0..100).await;
    let config = broker.member(|group| group.auto_commit = None);
    let mut first = client.consumer(config.clone());
    first.subscribe(&[&topic]).unwrap();
    for _ in 0..30 {
        timeout(PATIENCE, first.next_record()).await.unwrap().unwrap();
    }
    first.commit().await.unwrap();
    // Handed out but not committed: it comes again.
    timeout(PATIENCE, first.next_record()).await.unwrap().unwrap();
    let committer = first.committer().unwrap();
    let place = TopicPartition::new(&*topic, 0);
    let committed = committer.committed(std::slice::from_ref(&place)).await.unwrap();
    assert_eq!(committed[&place], 30);
    first.close().await.unwrap();
    let mut second = client.consumer(config);
    second.subscribe(&[&topic]).unwrap();
    let received = timeout(PATIENCE, second.next_record()).await.unwrap().unwrap();
    assert_eq!(number(&received.record), 30);
}

#[tokio::test]
async fn a_member_that_closes_has_committed_by_itself_what_it_was_handed() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(1).await;
    fill(&client, &topic, 0..100).await;
    let mut first = client.consumer(broker.member(|_| {}));
    first.subscribe(&[&topic]).unwrap();
    for _ in 0..42 {
        timeout(PATIENCE, first.next_record()).await.unwrap().unwrap();
    }
    first.close().await.unwrap();
    let mut second = client.consumer(broker.member(|_| {}));
    second.subscribe(&[&topic]).unwrap();
    let received = timeout(PATIENCE, second.next_record()).await.unwrap().unwrap();
    assert_eq!(number(&received.record), 42);
}

/// Keeps what it is told.
#[derive(Default)]
pub(super) struct Told(pub(super) Mutex<Vec<String>>);

impl Told {
    fn note(&self, what: &str, partitions: &[TopicPartition]) {
        let numbers: Vec<i32> = partitions.iter().map(|place| place.partition).collect();
        self.0.lock().unwrap().push(format!("{what} {numbers:?}"));
    }
}

impl RebalanceListener for Told {
    fn revoked<'a>(
        &'a self,
        partitions: &'a [TopicPartition],
        _: &'a Committer,
    ) -> ListenerFuture<'a> {
        Box::pin(async move { self.note("revoked", partitions) })
    }

    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> ListenerFuture<'a> {
        Box::pin(async move { self.note("assigned", partitions) })
    }

    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> ListenerFuture<'a> {
        Box::pin(async move { self.note("lost", partitions) })
    }
}

#[tokio::test]
async fn a_cooperative_member_gives_up_only_what_another_gets() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(4).await;
    let config = broker.member(|group| group.assignors = vec![Assignor::CooperativeSticky]);
    let told = Arc::new(Told::default());
    let mut one = client.consumer(config.clone());
    one.listen(Arc::clone(&told) as Arc<dyn RebalanceListener>).unwrap();
    one.subscribe(&[&topic]).unwrap();
    poll_until(&mut [&mut one], |members, _| has(members[0], 4)).await;
    let mut two = client.consumer(config);
    two.subscribe(&[&topic]).unwrap();
    poll_until(&mut [&mut one, &mut two], |members, _| has(members[1], 2)).await;
    let kept: Vec<i32> = one.assignment().iter().map(|place| place.partition).collect();
    let given: Vec<i32> = two.assignment().iter().map(|place| place.partition).collect();
    one.close().await.unwrap();
    let told = told.0.lock().unwrap().clone();
    let told: Vec<&String> = told.iter().filter(|line| !line.ends_with("[]")).collect();
    let expected = [
        "assigned [0, 1, 2, 3]".to_owned(),
        format!("revoked {given:?}"),
        format!("revoked {kept:?}"),
    ];
    assert_eq!(told, expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_static_member_comes_back_without_a_rebalance_of_the_others() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(4).await;
    let named = |name: &str| broker.member(|group| group.instance_id = Some(name.to_owned()));
    let told = Arc::new(Told::default());
    let mut one = client.consumer(named("one"));
    one.listen(Arc::clone(&told) as Arc<dyn RebalanceListener>).unwrap();
    one.subscribe(&[&topic]).unwrap();
    let mut two = client.consumer(named("two"));
    two.subscribe(&[&topic]).unwrap();
    let shared =
        |members: &[&mut Consumer], _: &[Vec<u32>]| has(members[0], 2) && has(members[1], 2);
    poll_until(&mut [&mut one, &mut two], shared).await;
    let before = (two.assignment(), told.0.lock().unwrap().len());
    two.close().await.unwrap();
    let mut again = client.consumer(named("two"));
    again.subscribe(&[&topic]).unwrap();
    poll_until(&mut [&mut one, &mut again], |members, _| has(members[1], 2)).await;
    assert_eq!((again.assignment(), told.0.lock().unwrap().len()), before);
}

#[tokio::test]
async fn a_member_that_does_not_poll_loses_its_partitions_and_comes_back() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(2).await;
    let impatient = broker.member(|group| group.rebalance_timeout = Duration::from_secs(1));
    let mut slow = client.consumer(impatient.clone());
    slow.subscribe(&[&topic]).unwrap();
    poll_until(&mut [&mut slow], |members, _| has(members[0], 2)).await;
    let mut other = client.consumer(impatient);
    other.subscribe(&[&topic]).unwrap();
    // Only the other one is polled, until the group has gone on without the slow one.
    poll_until(&mut [&mut other], |members, _| has(members[0], 2)).await;
    let shared =
        |members: &[&mut Consumer], _: &[Vec<u32>]| has(members[0], 1) && has(members[1], 1);
    poll_until(&mut [&mut slow, &mut other], shared).await;
}

#[tokio::test]
async fn without_a_group_there_is_nothing_to_subscribe_or_commit_to() {
    let broker = Broker::get();
    let client = broker.client().await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    assert!(matches!(consumer.subscribe(&["t"]), Err(Error::Invalid(_))));
    assert!(matches!(consumer.commit().await, Err(Error::Invalid(_))));
}

#[test]
fn the_command_line_goes_on_where_its_group_was() {
    for protocol in ["classic", "consumer"] {
        goes_on_where_its_group_was(protocol);
    }
}

fn goes_on_where_its_group_was(protocol: &str) {
    let broker = Broker::get();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let topic = runtime.block_on(async {
        let (client, topic) = broker.with_topic(2).await;
        fill(&client, &topic, 0..100).await;
        topic
    });
    let consume = |more: &[&str]| -> Vec<u32> {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_jangbu"))
            .args(["consume", &topic, "--group", &topic, "--brokers", &broker.address])
            .args(["--group-protocol", protocol])
            .args(more)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let some = consume(&["--from-beginning", "--count", "30"]);
    assert_eq!(some.len(), 30);
    let rest = consume(&["--from-beginning"]);
    assert_eq!(sorted(vec![some, rest]), (0..100).collect::<Vec<_>>());
    assert_eq!(consume(&["--from-beginning"]), [0; 0], "all of it is committed");
}
