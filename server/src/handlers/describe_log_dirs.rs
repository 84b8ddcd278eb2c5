//! DescribeLogDirs (35), versions 1 to 5: how large the partitions here are, and the disk they lie on.
//!
//! A partition's size is the bytes of its batches from the log start on. From version 2 on tagged fields
//! that are jangbu's own tell what they take until their buckets go, and that the partition's move makes no headway;
//! clients that do not know them pass them over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::broker::{Broker, Lookup};
use crate::controller::Topic;
use crate::dispatch::{Answer, Call, Refused};
use crate::schema;

/// The last version kafka-protocol knows; the next adds one field to a directory's result.
const VERSION_KNOWN: i16 = 4;
/// Tagged fields came with this version.
const VERSION_TAGS: i16 = 2;
/// The tag of the bytes that a partition takes.
const TAG_STORED_BYTES: i32 = 27_234;
/// The tag of the time that the move of a partition makes no headway, when its leader says that it makes none.
const TAG_STALLED_SECONDS: i32 = 27_235;

/// Decodes, measures and answers.
///
/// # Errors
/// [`Refused`] when the request does not decode.
pub(crate) async fn handle(broker: Arc<Broker>, call: Call) -> Result<Answer, Refused> {
    schema::check(call.key, call.version, &call.body).map_err(|e| call.malformed(e))?;
    let known = call.version.min(VERSION_KNOWN);
    let request = DescribeLogDirsRequest::decode(&mut call.body.clone(), known)
        .map_err(|e| call.malformed(e))?;
    let response = describe(&broker, call.version, request).await;
    let mut body = BytesMut::new();
    response.encode(&mut body, known).map_err(|e| call.malformed(e))?;
    if call.version > VERSION_KNOWN {
        // There is one directory, and it is not cordoned: the byte stands before the empty tagged fields
        // of the directory and of the response.
        let tags = body.split_off(body.len() - 2);
        body.extend_from_slice(&[0]);
        body.unsplit(tags);
    }
    let answer = call.respond_raw([body.freeze()], call.version)?;
    Ok(Answer::Now(Some(answer.with_errors_of(&response))))
}

async fn describe(
    broker: &Broker,
    version: i16,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let asked: Option<BTreeMap<String, BTreeSet<i32>>> = request.topics.map(|topics| {
        let named =
            |t: kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic| {
                (t.topic.to_string(), t.partitions.into_iter().collect())
            };
        topics.into_iter().map(named).collect()
    });
    let topics: Vec<Arc<Topic>> = broker.controller.image().topics().cloned().collect();
    let mut found = Vec::new();
    for topic in topics {
        let partitions = match &asked {
            None => None,
            Some(asked) => match asked.get(&topic.name) {
                Some(partitions) => Some(partitions),
                None => continue,
            },
        };
        let partitions = measure(broker, version, &topic, partitions).await;
        if !partitions.is_empty() {
            let name = TopicName(StrBytes::from_string(topic.name.clone()));
            found.push(DescribeLogDirsTopic::default().with_name(name).with_partitions(partitions));
        }
    }
    broker.disk.look();
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let dir = std::path::absolute(&broker.config.data).unwrap_or(broker.config.data.clone());
    let result = DescribeLogDirsResult::default()
        .with_log_dir(StrBytes::from_string(dir.display().to_string()))
        .with_topics(found)
        .with_total_bytes(signed(broker.disk.total_bytes()))
        .with_usable_bytes(signed(broker.disk.free_bytes()));
    DescribeLogDirsResponse::default().with_results(vec![result])
}

async fn measure(
    broker: &Broker,
    version: i16,
    topic: &Topic,
    asked: Option<&BTreeSet<i32>>,
) -> Vec<DescribeLogDirsPartition> {
    let mut measured = Vec::new();
    let indexes = (0..topic.partitions.len()).filter_map(|index| i32::try_from(index).ok());
    for index in indexes.filter(|index| asked.is_none_or(|asked| asked.contains(index))) {
        let Lookup::Here(partition) = broker.partition(topic, index) else { continue };
        // A partition that is being deleted, or whose bytes do not decode, has no size to tell.
        let Ok(size) = partition.size().await else { continue };
        let live = i64::try_from(size.live_bytes).unwrap_or(i64::MAX);
        let mut entry = DescribeLogDirsPartition::default()
            .with_partition_index(index)
            .with_partition_size(live);
        if version >= VERSION_TAGS {
            let stored = Bytes::copy_from_slice(&size.stored_bytes.to_be_bytes());
            entry = entry.with_unknown_tagged_field(TAG_STORED_BYTES, stored);
            if let Some(stalled) = broker.stalled.of(partition.id()) {
                let seconds = Bytes::copy_from_slice(&stalled.as_secs().to_be_bytes());
                entry = entry.with_unknown_tagged_field(TAG_STALLED_SECONDS, seconds);
            }
        }
        measured.push(entry);
    }
    measured
}
