//! What is the value of a key? jangbu answers that from its key index; other brokers do not know the question.
//!
//! Not here: where a key is (`partitioner.rs`), the bytes on the wire (`keys/wire.rs`).

mod wire;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::cluster::{Partition, Scope};
use crate::error::About;
use crate::partitioner::partition_for_key;
use crate::{Client, Error, ErrorCode, Header, Received, Record, Result};
use wire::{GetRequest, KeyRecord, Wanted};

/// The API's number and name.
const GET_KEYS: i16 = 10_000;
const NAME: &str = "GetKeys";

/// What is asked about a key, or about all keys with the same beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyQuery {
    bytes: Bytes,
    is_prefix: bool,
    partition: Option<i32>,
    at_offset: Option<i64>,
    at_time_ms: Option<i64>,
    limit: u32,
    after: Option<Bytes>,
    stale_ok: bool,
}

/// What a partition answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAnswer {
    /// The partition that was asked.
    pub partition: i32,
    /// The offset behind the last record that could have been found.
    pub high_watermark: i64,
    /// Of a key newest first, where a value of `None` says that it was deleted. Of a prefix the newest record of each key that
    /// is there, in the order of their bytes.
    pub records: Vec<Received>,
    /// Of a prefix: there may be more keys behind this one ([`KeyQuery::after`]).
    pub next: Option<Bytes>,
}

impl KeyQuery {
    /// The newest record of a key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self::new(key.into(), false)
    }

    /// The newest records of all keys that begin so, a hundred at a time. They are asked for partition by partition.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self::new(prefix.into(), true)
    }

    fn new(bytes: Bytes, is_prefix: bool) -> Self {
        Self {
            bytes,
            is_prefix,
            partition: None,
            at_offset: None,
            at_time_ms: None,
            limit: 0,
            after: None,
            stale_ok: false,
        }
    }

    /// Asks this partition. Without it a key is looked for where Kafka's Java producer puts it, which is by murmur2.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// As it was when the record at this offset was the last.
    #[must_use]
    pub fn at_offset(mut self, offset: i64) -> Self {
        self.at_offset = Some(offset);
        self
    }

    /// The newest record of this time (milliseconds since 1970, UTC) or before. Not for a prefix.
    #[must_use]
    pub fn at_time(mut self, ms: i64) -> Self {
        self.at_time_ms = Some(ms);
        self
    }

    /// As many records of the key, newest first, or as many keys; 1,000 at most.
    #[must_use]
    pub fn limit(mut self, count: u32) -> Self {
        self.limit = count;
        self
    }

    /// Of a prefix only keys behind this one.
    #[must_use]
    pub fn after(mut self, key: impl Into<Bytes>) -> Self {
        self.after = Some(key.into());
        self
    }

    /// Any replica may answer, by what it knows to be committed; it may lack the latest records.
    #[must_use]
    pub fn stale_ok(mut self) -> Self {
        self.stale_ok = true;
        self
    }

    fn request(&self, topic: &str, partition: i32) -> GetRequest {
        let bytes = self.bytes.clone();
        GetRequest {
            topic: topic.to_owned(),
            partition,
            stale_ok: self.stale_ok,
            wanted: Some(if self.is_prefix { Wanted::Prefix(bytes) } else { Wanted::Key(bytes) }),
            at_offset: self.at_offset,
            at_time_ms: self.at_time_ms,
            limit: self.limit,
            after: self.after.clone(),
        }
    }
}

impl Client {
    /// The newest record of a key, unless it has none or was deleted. The topic must be compacted, or have
    /// `jangbu.key.index=true`.
    ///
    /// Whatever was acknowledged before the call is seen.
    ///
    /// ```no_run
    /// # async fn example() -> jangbu_client::Result<()> {
    /// use jangbu_client::{Client, Config, KeyQuery};
    ///
    /// let client = Client::connect(Config::for_brokers("127.0.0.1:9092")).await?;
    /// match client.get("users", "eu-17").await? {
    ///     Some(found) => println!("{:?}, at offset {}", found.record.value, found.offset),
    ///     None => println!("there is no such key"),
    /// }
    /// let past = KeyQuery::key("eu-17").at_time(1_769_860_800_000).limit(10);
    /// for record in client.look_up("users", &past).await?.records {
    ///     println!("{}: {:?}", record.offset, record.record.value);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Client::look_up`].
    pub async fn get(&self, topic: &str, key: impl Into<Bytes>) -> Result<Option<Received>> {
        let answer = self.look_up(topic, &KeyQuery::key(key)).await?;
        Ok(answer.records.into_iter().next().filter(|found| found.record.value.is_some()))
    }

    /// Asks a partition about a key, or about keys with the same beginning.
    ///
    /// # Errors
    /// [`Error::Unsupported`] of a broker that is not jangbu; [`Error::UnknownTopic`], [`Error::UnknownPartition`];
    /// [`Error::Broker`] with `InvalidConfig` for a topic without a key index, and with `CoordinatorLoadInProgress` when the index
    /// was still being built after the request timeout; [`Error::Invalid`] for a prefix without a partition.
    pub async fn look_up(&self, topic: &str, query: &KeyQuery) -> Result<KeyAnswer> {
        if query.is_prefix && query.partition.is_none() {
            let text = "keys with the same beginning are asked for partition by partition";
            return Err(Error::Invalid(text.into()));
        }
        self.retry(async || self.look_up_once(topic, query).await).await
    }

    async fn look_up_once(&self, topic: &str, query: &KeyQuery) -> Result<KeyAnswer> {
        let known = self.cluster().topic(Scope::Existing(topic)).await?;
        let count = known.partitions.len();
        let partition = query.partition.unwrap_or_else(|| {
            partition_for_key(&query.bytes, u32::try_from(count).unwrap_or(u32::MAX))
        });
        let placed = usize::try_from(partition).ok().and_then(|at| known.partitions.get(at));
        let placed = placed.ok_or_else(|| Error::UnknownPartition {
            topic: topic.to_owned(),
            partition,
            count,
        })?;
        let request = query.request(topic, partition).encode_to_vec();
        let what = || About::from(format!("keys of {topic}-{partition}")).place(topic, partition);
        let answer = wire::decode(self.ask(placed, query.stale_ok, &request, what).await?)?;
        let code = i16::try_from(answer.error).unwrap_or(-1);
        Error::check(code, Some(&answer.message), what)?;
        let topic: Arc<str> = Arc::from(topic);
        let received = |found| received(Arc::clone(&topic), partition, found);
        Ok(KeyAnswer {
            partition,
            high_watermark: answer.high_watermark,
            records: answer.records.into_iter().map(received).collect(),
            next: answer.next,
        })
    }

    /// Asks the leader; when any replica will do, the first that answers.
    async fn ask(
        &self,
        placed: &Partition,
        stale_ok: bool,
        request: &[u8],
        what: impl Fn() -> About,
    ) -> Result<Bytes> {
        let others = placed.replicas.iter().filter(|id| stale_ok && Some(**id) != placed.leader);
        let mut last = Error::refused(what(), ErrorCode::LeaderNotAvailable);
        for broker in placed.leader.iter().chain(others) {
            let connection = match self.cluster().connection(*broker).await {
                Ok(connection) => connection,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            match connection.call_own(GET_KEYS, NAME, request).await {
                Err(error) if error.is_retriable() => last = error,
                answered => return answered,
            }
        }
        Err(last)
    }
}

fn received(topic: Arc<str>, partition: i32, found: KeyRecord) -> Received {
    let header = |header: wire::Header| Header {
        name: String::from_utf8_lossy(&header.name).into_owned(),
        value: header.value,
    };
    let record = Record {
        key: Some(found.key),
        value: found.value,
        headers: found.headers.into_iter().map(header).collect(),
        timestamp_ms: Some(found.timestamp),
    };
    Received { topic, partition, offset: found.offset, record }
}
