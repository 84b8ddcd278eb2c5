//! What the consumer promises of partitions that the application assigns.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use jangbu_client::{
    Compression, ConsumerConfig, Error, OffsetReset, Position, ProducerConfig, Record,
};
use tokio::time::timeout;

use super::{Broker, PATIENCE, number, numbers};

#[tokio::test]
async fn a_stream_of_records_has_all_partitions_in_order_and_the_consumer_can_be_used_between() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(3).await;
    let producer = client.producer(ProducerConfig::default());
    let mut consumer = client.consumer(ConsumerConfig::default());
    for partition in 0..3 {
        producer.send_batch(&topic, Some(partition), &numbers(0..500)).await.unwrap();
        consumer.assign(&topic, partition, 0);
    }
    producer.close().await;
    let mut next = [0; 3];
    for _ in 0..100 {
        let mut records = pin!(consumer.records().take(15));
        while let Some(received) = timeout(PATIENCE, records.next()).await.unwrap() {
            let received = received.unwrap();
            let next = &mut next[usize::try_from(received.partition).unwrap()];
            assert_eq!(number(&received.record), *next);
            *next += 1;
        }
    }
    assert_eq!(next, [500; 3]);
    for partition in 0..3 {
        assert_eq!(consumer.position(&topic, partition), Some(500));
        assert_eq!(consumer.lag(&topic, partition), Some(0));
    }
}

#[tokio::test]
async fn whole_batches_are_the_bytes_of_the_log_and_follow_each_other() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(1).await;
    let config = ProducerConfig {
        compression: Compression::Zstd,
        batch_bytes_max: 4000,
        ..ProducerConfig::default()
    };
    let producer = client.producer(config);
    producer.send_batch(&topic, None, &numbers(0..2000)).await.unwrap();
    producer.close().await;
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign(&topic, 0, 3);
    // One record first: the rest of its batch comes again as a part of the whole one.
    let one = timeout(PATIENCE, consumer.next_record()).await.unwrap().unwrap();
    assert_eq!(number(&one.record), 3);
    let mut next = 4;
    let mut batches = pin!(consumer.batches());
    while next < 2000 {
        let batch = timeout(PATIENCE, batches.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(batch.compression(), Some(Compression::Zstd));
        assert_eq!(batch.bytes()[..8], batch.base_offset().to_be_bytes());
        for received in batch.records().unwrap() {
            assert_eq!(i64::from(number(&received.record)), received.offset);
            assert_eq!(received.offset, next);
            next += 1;
        }
        assert_eq!(batch.end_offset(), next);
    }
}

#[tokio::test]
async fn seeking_goes_by_offset_time_beginning_and_end() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(1).await;
    let producer = client.producer(ProducerConfig::default());
    let stamped: Vec<Record> = (0..100)
        .map(|at| Record { timestamp_ms: Some(1_700_000_000_000 + at), ..Record::default() })
        .collect();
    producer.send_batch(&topic, None, &stamped).await.unwrap().await.unwrap();
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign(&topic, 0, 50);
    let mut next = async |seek: Option<Position>| {
        match seek {
            Some(at) => consumer.seek_to(&topic, 0, at),
            None => consumer.seek(&topic, 0, 7),
        }
        timeout(PATIENCE, consumer.next_record()).await.unwrap().unwrap().offset
    };
    assert_eq!(next(None).await, 7);
    assert_eq!(next(Some(Position::Timestamp(1_700_000_000_042))).await, 42);
    assert_eq!(next(Some(Position::Earliest)).await, 0);
    consumer.seek_to(&topic, 0, Position::Latest);
    // Nothing is handed out before the end is known; then only what comes behind it.
    assert!(consumer.poll(Duration::from_millis(300)).await.unwrap().is_empty());
    producer.send(&topic, Record::new(None::<&str>, "new")).await.unwrap().await.unwrap();
    assert_eq!(consumer.poll(PATIENCE).await.unwrap()[0].offset, 100);
}

#[tokio::test]
async fn a_paused_partition_hands_out_nothing_and_then_goes_on_where_it_was() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(2).await;
    let producer = client.producer(ProducerConfig::default());
    let mut consumer = client.consumer(ConsumerConfig::default());
    for partition in 0..2 {
        producer.send_batch(&topic, Some(partition), &numbers(0..50)).await.unwrap();
        consumer.assign(&topic, partition, 0);
    }
    producer.flush().await;
    let first = timeout(PATIENCE, consumer.next_record()).await.unwrap().unwrap();
    let (paused, other) = (first.partition, 1 - first.partition);
    consumer.pause(&topic, paused);
    for _ in 0..50 {
        let received = timeout(PATIENCE, consumer.next_record()).await.unwrap().unwrap();
        assert_eq!(received.partition, other);
    }
    assert!(consumer.poll(Duration::from_millis(300)).await.unwrap().is_empty());
    assert_eq!(consumer.position(&topic, paused), Some(1));
    consumer.resume(&topic, paused);
    let received = timeout(PATIENCE, consumer.next_record()).await.unwrap().unwrap();
    assert_eq!((received.partition, received.offset), (paused, 1));
}

#[tokio::test]
async fn an_offset_that_is_not_there_is_an_error_or_where_the_reset_says() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(1).await;
    let producer = client.producer(ProducerConfig::default());
    producer.send_batch(&topic, None, &numbers(0..10)).await.unwrap();
    producer.close().await;
    let mut strict = client.consumer(ConsumerConfig::default());
    strict.assign(&topic, 0, 1000);
    for _ in 0..2 {
        let error = strict.poll(PATIENCE).await.unwrap_err();
        assert!(matches!(error, Error::OffsetOutOfRange { offset: 1000, .. }), "{error}");
    }
    let config =
        ConsumerConfig { offset_reset: OffsetReset::Earliest, ..ConsumerConfig::default() };
    let mut lenient = client.consumer(config);
    lenient.assign(&topic, 0, 1000);
    assert_eq!(timeout(PATIENCE, lenient.next_record()).await.unwrap().unwrap().offset, 0);
}

#[tokio::test]
async fn what_is_fetched_ahead_is_bounded_and_all_of_it_comes() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(4).await;
    let config = ProducerConfig { batch_bytes_max: 10_000, ..ProducerConfig::default() };
    let producer = client.producer(config);
    let large: Vec<Record> = (0..500).map(|_| Record::new(None::<&str>, vec![1; 1000])).collect();
    let config = ConsumerConfig {
        prefetch_bytes_max: 20_000,
        partition_bytes_max: 5000,
        ..ConsumerConfig::default()
    };
    let mut consumer = client.consumer(config);
    for partition in 0..4 {
        producer.send_batch(&topic, Some(partition), &large).await.unwrap();
        consumer.assign(&topic, partition, 0);
    }
    producer.close().await;
    let mut count = 0;
    while count < 2000 {
        let records = consumer.poll(PATIENCE).await.unwrap();
        assert!(records.len() <= 60, "{} of 1000 bytes at once", records.len());
        count += records.len();
    }
    assert_eq!(count, 2000);
}
