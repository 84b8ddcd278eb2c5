//! What the producer promises.

use jangbu_client::{
    Compression, ConsumerConfig, Error, Header, Position, Producer, ProducerConfig, Record,
};
use tokio::time::timeout;

use super::{Broker, PATIENCE, acknowledged, number, numbers};

#[tokio::test]
async fn every_codec_and_level_brings_records_back_as_they_were() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(1).await;
    let mut sent = Vec::new();
    for (compression, _) in Compression::ALL {
        for compression_level in [None, Some(1), Some(9)] {
            let config =
                ProducerConfig { compression, compression_level, ..ProducerConfig::default() };
            let producer = client.producer(config);
            let header =
                Header { name: "codec".into(), value: Some(compression.to_string().into()) };
            let record = Record {
                key: Some("key".into()),
                value: Some(vec![7; 10_000].into()),
                headers: vec![header, Header { name: "none".into(), value: None }],
                timestamp_ms: Some(1_700_000_000_000),
            };
            let both = [record.clone(), Record { value: None, ..record }];
            assert_eq!(
                acknowledged(producer.send_batch(&topic, None, &both).await.unwrap()).await,
                2
            );
            sent.extend(both);
        }
    }
    let mut consumer = client.consumer(ConsumerConfig::default());
    consumer.assign(&topic, 0, 0);
    let mut read = Vec::new();
    while read.len() < sent.len() {
        let records = consumer.poll(PATIENCE).await.unwrap();
        assert!(!records.is_empty(), "{} of {}", read.len(), sent.len());
        read.extend(records.into_iter().map(|received| received.record));
    }
    assert_eq!(read, sent);
}

#[tokio::test]
async fn many_records_at_once_are_told_of_in_runs_that_are_where_they_say() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(3).await;
    // Small batches, so that there are many and partitions take turns.
    let config = ProducerConfig { batch_bytes_max: 2000, ..ProducerConfig::default() };
    let producer = client.producer(config);
    let all = numbers(0..5000);
    let parts = producer.send_batch(&topic, None, &all).await.unwrap().await.unwrap();
    assert_eq!(parts.iter().map(|part| part.count).sum::<usize>(), all.len());
    for partition in 0..3 {
        assert!(parts.iter().any(|part| part.partition == partition), "none in {partition}");
    }
    let mut consumer = client.consumer(ConsumerConfig::default());
    let mut first = 0;
    for part in parts {
        consumer.assign(&topic, part.partition, part.first_offset.unwrap());
        let received = timeout(PATIENCE, consumer.next_record()).await.unwrap().unwrap();
        assert_eq!(number(&received.record), first);
        consumer.unassign(&topic, part.partition);
        first += u32::try_from(part.count).unwrap();
    }
}

#[tokio::test]
async fn a_producer_that_is_closed_or_dropped_has_written_what_it_took() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(1).await;
    let patient = || ProducerConfig { linger: PATIENCE, ..ProducerConfig::default() };
    let closed = client.producer(patient());
    let delivery = closed.send_batch(&topic, None, &numbers(0..10)).await.unwrap();
    assert_eq!(closed.close().await.records, 10, "closing does not wait for more");
    assert_eq!(acknowledged(delivery).await, 10);
    let refused = closed.send(&topic, Record::new(None::<&str>, "late")).await;
    assert!(matches!(refused, Err(Error::Closed)));
    let dropped: Producer = client.producer(patient());
    let delivery = dropped.send(&topic, Record::new(None::<&str>, "last")).await.unwrap();
    drop(dropped);
    assert_eq!(delivery.await.unwrap().offset, Some(10));
}

#[tokio::test]
async fn a_full_buffer_makes_senders_wait_and_loses_nothing() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(2).await;
    let config = ProducerConfig {
        buffer_bytes: 10_000,
        compression: Compression::Lz4,
        ..ProducerConfig::default()
    };
    let producer = client.producer(config);
    let all = numbers(0..3000);
    let mut deliveries = Vec::new();
    for chunk in all.chunks(700) {
        deliveries.push(producer.send_batch(&topic, Some(1), chunk).await.unwrap());
    }
    let mut written = 0;
    for delivery in deliveries {
        written += acknowledged(delivery).await;
    }
    assert_eq!(written, all.len());
    assert_eq!(client.offset(&topic, 1, Position::Latest).await.unwrap(), 3000);
}

#[tokio::test]
async fn none_is_taken_of_records_of_which_one_is_too_large_or_the_partition_unknown() {
    let broker = Broker::get();
    let (client, topic) = broker.with_topic(1).await;
    let producer = client.producer(ProducerConfig::default());
    let mut records = numbers(0..3);
    records.push(Record::new(None::<&str>, vec![0; 2 << 20]));
    let refused = producer.send_batch(&topic, None, &records).await;
    assert!(matches!(refused, Err(Error::RecordTooLarge { .. })));
    let refused = producer.send_batch(&topic, Some(9), &records[..3]).await;
    assert!(matches!(refused, Err(Error::UnknownPartition { partition: 9, .. })));
    producer.flush().await;
    assert_eq!(client.offset(&topic, 0, Position::Latest).await.unwrap(), 0);
}
