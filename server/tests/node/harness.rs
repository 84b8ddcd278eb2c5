//! Starts a node on free ports and speaks Kafka to it, one request at a time or many at once.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jangbu_server::{Config, Node};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, FetchRequest, FetchResponse, ProduceRequest, ProduceResponse,
    RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const PRODUCE_VERSION: i16 = 9;
pub(crate) const FETCH_VERSION: i16 = 12;

/// With `JANGBU_LOG_FILTER` set, nodes log as `jangbu serve` does.
fn log_if_asked() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("JANGBU_LOG_FILTER") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    }
}

pub(crate) fn config(data: &Path) -> Config {
    log_if_asked();
    Config {
        data: data.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        http: "127.0.0.1:0".parse().unwrap(),
        ..Config::default()
    }
}

pub(crate) async fn start(data: &Path) -> Node {
    Node::start(config(data)).await.unwrap()
}

pub(crate) struct Client {
    stream: TcpStream,
    next_id: i32,
}

impl Client {
    pub(crate) async fn connect(node: &Node) -> Self {
        let stream = TcpStream::connect(node.kafka_addr()).await.unwrap();
        Self { stream, next_id: 0 }
    }

    /// Sends a request without waiting for its answer; its correlation id.
    pub(crate) async fn send<R: Request>(&mut self, request: &R, version: i16) -> i32 {
        let (id, frame) = self.frame(request, version);
        self.send_bytes(&frame).await;
        id
    }

    /// Sends the same request `count` times in one write, so that they are all there at once.
    pub(crate) async fn send_burst<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        count: usize,
    ) -> Vec<i32> {
        let (ids, frames): (Vec<_>, Vec<_>) =
            (0..count).map(|_| self.frame(request, version)).unzip();
        self.send_bytes(&frames.concat()).await;
        ids
    }

    /// A request with its header and length, and its correlation id.
    pub(crate) fn frame<R: Request>(&mut self, request: &R, version: i16) -> (i32, Vec<u8>) {
        let id = self.next_id;
        self.next_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(id)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let mut body = BytesMut::new();
        header.encode(&mut body, R::header_version(version)).unwrap();
        request.encode(&mut body, version).unwrap();
        (id, with_length(&body))
    }

    pub(crate) async fn send_frame(&mut self, body: &[u8]) {
        self.send_bytes(&with_length(body)).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame, or `None` when the node has closed the connection.
    pub(crate) async fn receive_frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_u32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    /// The next answer and its correlation id.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response)
    where
        R::Response: Decodable + HeaderVersion,
    {
        let mut frame = self.receive_frame().await.expect("an answer");
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut frame, header_version).unwrap();
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(!frame.has_remaining(), "bytes follow the answer");
        (header.correlation_id, response)
    }

    pub(crate) async fn ask<R: Request>(&mut self, request: &R, version: i16) -> R::Response
    where
        R::Response: Decodable + HeaderVersion,
    {
        let sent = self.send(request, version).await;
        let (received, response) = self.receive::<R>(version).await;
        assert_eq!(received, sent, "correlation id");
        response
    }

    pub(crate) async fn create_topic(&mut self, name: &str, partitions: i32) {
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request =
            CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let response = self.ask(&request, 7).await;
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    }

    pub(crate) async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce_request(topic, partition, batch);
        let response: ProduceResponse = self.ask(&request, PRODUCE_VERSION).await;
        response.responses[0].partition_responses[0].clone()
    }

    pub(crate) async fn fetch(
        &mut self,
        topic: &str,
        offset: i64,
        min_bytes: i32,
        max_wait: Duration,
    ) -> FetchResponse {
        let request = fetch_request(topic, offset, min_bytes, max_wait);
        self.ask(&request, FETCH_VERSION).await
    }
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_u32(u32::try_from(body.len()).unwrap());
    frame.put_slice(body);
    frame
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub(crate) fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic =
        TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

pub(crate) fn fetch_request(
    topic: &str,
    offset: i64,
    min_bytes: i32,
    max_wait: Duration,
) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic =
        FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(i32::try_from(max_wait.as_millis()).unwrap())
        .with_min_bytes(min_bytes)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// An idempotent producer's identity and the sequence of a batch's first record.
#[derive(Clone, Copy)]
pub(crate) struct Sequence {
    pub(crate) producer_id: i64,
    pub(crate) first: i32,
}

pub(crate) const NO_SEQUENCE: Sequence = Sequence { producer_id: -1, first: -1 };

/// One batch of these values.
pub(crate) fn batch(values: &[&str], sequence: Sequence) -> Bytes {
    let timed = values.iter().zip(1_000..).map(|(value, at)| (at, *value));
    timed_batch(&timed.collect::<Vec<_>>(), sequence, Compression::None)
}

/// One batch of records with these timestamps and values.
pub(crate) fn timed_batch(
    records: &[(i64, &str)],
    sequence: Sequence,
    compression: Compression,
) -> Bytes {
    let record = |(i, (timestamp, value)): (usize, &(i64, &str))| {
        let i = i32::try_from(i).unwrap();
        Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: sequence.producer_id,
            producer_epoch: if sequence.producer_id < 0 { -1 } else { 0 },
            timestamp_type: TimestampType::Creation,
            offset: i64::from(i),
            sequence: sequence.first + i,
            timestamp: *timestamp,
            key: (i % 2 == 1).then(|| Bytes::from_static(b"key")),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: [(StrBytes::from_static_str("h"), Some(Bytes::from_static(b"v")))].into(),
        }
    };
    let records: Vec<Record> = records.iter().enumerate().map(record).collect();
    let options = RecordEncodeOptions { version: 2, compression };
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    bytes.freeze()
}

/// Offsets and values of what a fetch of one partition gave.
pub(crate) fn records(response: &FetchResponse) -> Vec<(i64, String)> {
    let value = |r: Record| (r.offset, String::from_utf8(r.value.unwrap().to_vec()).unwrap());
    decoded(record_bytes(response)).into_iter().map(value).collect()
}

/// The batches that a fetch of one partition gave.
pub(crate) fn record_bytes(response: &FetchResponse) -> Bytes {
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.error_code, 0);
    data.records.clone().unwrap_or_default()
}

/// The records of some batches, in whatever codec they are.
pub(crate) fn decoded(mut batches: Bytes) -> Vec<Record> {
    let sets = RecordBatchDecoder::decode_all(&mut batches).unwrap();
    sets.into_iter().flat_map(|set| set.records).collect()
}

/// A GET on the node's HTTP port: status line and body.
pub(crate) async fn http_get(node: &Node, path: &str) -> (String, String) {
    http_get_at(node.http_addr(), path).await.unwrap()
}

/// The same for whoever listens there, if anybody does.
pub(crate) async fn http_get_at(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

/// The key of a request by its name, for frames that are made by hand.
pub(crate) fn key(key: ApiKey) -> [u8; 2] {
    (key as i16).to_be_bytes()
}
