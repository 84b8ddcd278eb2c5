//! CreateTopics (19), versions 0 to 7: each topic by itself, with Kafka's checks and messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::topics::{self, PARTITIONS_MAX, Refusal};
use crate::broker::Broker;
use crate::configs::{self, Ask};
use crate::dispatch::{Answer, Call, Refused};
use crate::legacy::topics::{
    CreateVersion, decode_create_request as decode_legacy, encode_create_response as encode_legacy,
};

/// Decodes, creates and answers.
///
/// # Errors
/// [`Refused`] when the request does not decode.
pub(crate) async fn handle(broker: Arc<Broker>, call: Call) -> Result<Answer, Refused> {
    let legacy = match call.version {
        0 => Some(CreateVersion::V0),
        1 => Some(CreateVersion::V1),
        _ => None,
    };
    let request = match legacy {
        Some(version) => {
            decode_legacy(&mut call.body.clone(), version).map_err(|e| call.malformed(e))?
        }
        None => call.decode()?,
    };
    let response = create_all(&broker, call.version, request).await;
    let response = match legacy {
        Some(version) => {
            let mut body = BytesMut::new();
            encode_legacy(&response, version, &mut body).map_err(|e| call.malformed(e))?;
            call.respond_raw([body.freeze()], call.version)?.with_errors_of(&response)
        }
        None => call.respond(&response)?,
    };
    Ok(Answer::Now(Some(response)))
}

async fn create_all(
    broker: &Broker,
    version: i16,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut seen = BTreeSet::new();
    let names = request.topics.iter().map(|t| t.name.to_string());
    let twice: BTreeSet<String> = names.filter(|name| !seen.insert(name.clone())).collect();
    let mut results = Vec::with_capacity(request.topics.len());
    let mut answered = BTreeSet::new();
    for topic in request.topics {
        if !answered.insert(topic.name.to_string()) {
            continue;
        }
        let result = if twice.contains(topic.name.as_str()) {
            let text = "Create topics request from client contains multiple entries for this topic";
            Err(Refusal::new(ResponseError::InvalidRequest, text))
        } else {
            create(broker, version, &topic, request.validate_only).await
        };
        results.push(answer(broker, topic, result));
    }
    CreateTopicsResponse::default().with_topics(results)
}

/// What was created.
struct Created {
    id: Uuid,
    partitions: usize,
    replication_factor: usize,
    configs: BTreeMap<String, String>,
}

async fn create(
    broker: &Broker,
    version: i16,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<Created, Refusal> {
    topics::check_name(broker, &topic.name)?;
    let partitions = assignments(broker, version, topic)?;
    let pairs = topic.configs.iter().map(|c| (c.name.as_str(), c.value.as_deref()));
    configs::validate_topic_configs(pairs)
        .map_err(|e| Refusal::new(ResponseError::InvalidConfig, e.to_string()))?;
    let configs: BTreeMap<String, String> = topic
        .configs
        .iter()
        .filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string())))
        .collect();
    let replication_factor = partitions.first().map_or(0, Vec::len);
    let count = partitions.len();
    let id = if validate_only {
        Uuid::nil()
    } else {
        topics::create(broker, topic.name.to_string(), partitions, configs.clone()).await?
    };
    Ok(Created { id, partitions: count, replication_factor, configs })
}

fn assignments(
    broker: &Broker,
    version: i16,
    topic: &CreatableTopic,
) -> Result<Vec<Vec<i32>>, Refusal> {
    if !topic.assignments.is_empty() {
        return manual_assignments(broker, topic);
    }
    // From version 4 on -1 stands for the broker's default (KIP-464).
    let count = match topic.num_partitions {
        -1 if version >= 4 => broker.config.num_partitions,
        given => u32::try_from(given).unwrap_or(0),
    };
    if count == 0 {
        let text = "Number of partitions was set to an invalid non-positive value.";
        return Err(Refusal::new(ResponseError::InvalidPartitions, text));
    }
    if count > PARTITIONS_MAX {
        let text = format!("{count} partitions asked for, a topic may have {PARTITIONS_MAX}");
        return Err(Refusal::new(ResponseError::InvalidPartitions, text));
    }
    let factor = match topic.replication_factor {
        -1 if version >= 4 => topics::default_replication_factor(broker),
        given => usize::try_from(given).unwrap_or(0),
    };
    if factor == 0 {
        let text = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(Refusal::new(ResponseError::InvalidReplicationFactor, text));
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    topics::assign(broker, factor, &[], count)
}

fn manual_assignments(broker: &Broker, topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, Refusal> {
    let invalid = |text: String| Refusal::new(ResponseError::InvalidReplicaAssignment, text);
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let text = "Both numPartitions or replicationFactor and replicasAssignments were set. Both \
                    cannot be used at the same time.";
        return Err(Refusal::new(ResponseError::InvalidRequest, text));
    }
    let mut by_index = BTreeMap::new();
    for assignment in &topic.assignments {
        let brokers: Vec<i32> = assignment.broker_ids.iter().map(|id| id.0).collect();
        if by_index.insert(assignment.partition_index, brokers).is_some() {
            let index = assignment.partition_index;
            let text = format!("Found multiple manual partition assignments for partition {index}");
            return Err(invalid(text));
        }
    }
    let consecutive = by_index.keys().copied().eq(0..i32::try_from(by_index.len()).unwrap_or(0));
    let lists: Vec<Vec<i32>> = by_index.into_values().collect();
    topics::check_assignments(broker, &lists, None)?;
    if !consecutive {
        let text = "partitions should be a consecutive 0-based integer sequence";
        return Err(invalid(text.to_owned()));
    }
    Ok(lists)
}

fn answer(
    broker: &Broker,
    topic: CreatableTopic,
    result: Result<Created, Refusal>,
) -> CreatableTopicResult {
    let entry = CreatableTopicResult::default().with_name(topic.name);
    match result {
        Ok(created) => {
            let ask = Ask { keys: None, synonyms: false, documentation: false };
            let image = broker.controller.image();
            let rows = configs::describe_topic(&created.configs, image.own_configs(), &ask);
            let config = |row: configs::Row| {
                CreatableTopicConfigs::default()
                    .with_name(StrBytes::from_static_str(row.name))
                    .with_read_only(row.read_only)
                    .with_config_source(row.source.code())
                    .with_is_sensitive(row.sensitive)
                    .with_value(row.value.map(StrBytes::from_string))
            };
            entry
                .with_topic_id(created.id)
                .with_num_partitions(i32::try_from(created.partitions).unwrap_or(i32::MAX))
                .with_replication_factor(
                    i16::try_from(created.replication_factor).unwrap_or(i16::MAX),
                )
                .with_configs(Some(rows.into_iter().map(config).collect()))
        }
        Err(refusal) => entry
            .with_error_code(refusal.code.code())
            .with_error_message(Some(StrBytes::from_string(refusal.message)))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_configs(Some(Vec::new())),
    }
}
