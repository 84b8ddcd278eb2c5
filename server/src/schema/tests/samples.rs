//! Requests with something in every field, written and read by kafka-protocol.

mod admin;
mod groups;
mod quotas;

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        AlterClientQuotasRequest, AlterConfigsRequest, AlterPartitionReassignmentsRequest, ApiKey,
        ApiVersionsRequest, BrokerId, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
        CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteRecordsRequest,
        DeleteTopicsRequest, DescribeClientQuotasRequest, DescribeClusterRequest,
        DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
        DescribeProducersRequest, DescribeQuorumRequest, DescribeTopicPartitionsRequest,
        DescribeUserScramCredentialsRequest, ElectLeadersRequest, FetchRequest,
        FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest,
        InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListConfigResourcesRequest,
        ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest,
        OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
        ProduceRequest, RequestHeader, SyncGroupRequest, TopicName, UnregisterBrokerRequest,
        UpdateFeaturesRequest,
        alter_configs_request::{AlterConfigsResource, AlterableConfig},
        alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic},
        create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic},
        create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig},
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics_request::DeleteTopicState,
        describe_configs_request::DescribeConfigsResource,
        describe_log_dirs_request::DescribableLogDirTopic,
        describe_topic_partitions_request::{Cursor, TopicRequest},
        elect_leaders_request::TopicPartitions,
        fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState},
        incremental_alter_configs_request::{
            AlterConfigsResource as EditedResource, AlterableConfig as EditedConfig,
        },
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        list_partition_reassignments_request::ListPartitionReassignmentsTopics,
        metadata_request::MetadataRequestTopic,
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::{Decodable, Encodable, StrBytes},
};
use uuid::Uuid;

use crate::legacy::{self, offsets};

type Tags = BTreeMap<i32, Bytes>;

/// Bodies of a request: with everything in it, with nothing in it, with null wherever it is allowed.
pub(super) fn bodies(key: ApiKey, version: i16) -> Vec<Bytes> {
    let sample = Sample { version };
    match key {
        ApiKey::Produce => sample.produce(),
        ApiKey::Fetch => sample.fetch(),
        ApiKey::ListOffsets => sample.list_offsets(),
        ApiKey::Metadata => sample.metadata(),
        ApiKey::FindCoordinator => sample.find_coordinator(),
        ApiKey::ApiVersions => sample.api_versions(),
        ApiKey::CreateTopics => sample.create_topics(),
        ApiKey::DeleteTopics => sample.delete_topics(),
        ApiKey::DeleteRecords => sample.delete_records(),
        ApiKey::InitProducerId => sample.init_producer_id(),
        ApiKey::OffsetForLeaderEpoch => sample.offset_for_leader_epoch(),
        ApiKey::DescribeConfigs => sample.describe_configs(),
        ApiKey::AlterConfigs => sample.alter_configs(),
        ApiKey::IncrementalAlterConfigs => sample.incremental_alter_configs(),
        ApiKey::DescribeLogDirs => sample.describe_log_dirs(),
        ApiKey::CreatePartitions => sample.create_partitions(),
        ApiKey::ElectLeaders => sample.elect_leaders(),
        ApiKey::AlterPartitionReassignments => sample.alter_partition_reassignments(),
        ApiKey::ListPartitionReassignments => sample.list_partition_reassignments(),
        ApiKey::DescribeCluster => sample.describe_cluster(),
        ApiKey::UnregisterBroker => sample.unregister_broker(),
        ApiKey::DescribeClientQuotas => sample.describe_client_quotas(),
        ApiKey::AlterClientQuotas => sample.alter_client_quotas(),
        ApiKey::DescribeUserScramCredentials => sample.describe_user_scram_credentials(),
        ApiKey::DescribeQuorum => sample.describe_quorum(),
        ApiKey::UpdateFeatures => sample.update_features(),
        ApiKey::DescribeProducers => sample.describe_producers(),
        ApiKey::ListConfigResources => sample.list_config_resources(),
        ApiKey::DescribeTopicPartitions => sample.describe_topic_partitions(),
        ApiKey::OffsetCommit => sample.offset_commit(),
        ApiKey::OffsetFetch => sample.offset_fetch(),
        ApiKey::JoinGroup => sample.join_group(),
        ApiKey::SyncGroup => sample.sync_group(),
        ApiKey::Heartbeat => sample.heartbeat(),
        ApiKey::LeaveGroup => sample.leave_group(),
        ApiKey::ConsumerGroupHeartbeat => sample.consumer_group_heartbeat(),
        ApiKey::ConsumerGroupDescribe => sample.consumer_group_describe(),
        ApiKey::DescribeGroups => sample.describe_groups(),
        ApiKey::ListGroups => sample.list_groups(),
        ApiKey::DeleteGroups => sample.delete_groups(),
        ApiKey::OffsetDelete => sample.offset_delete(),
        _ => panic!("no sample of {key:?}"),
    }
}

/// Frames that begin with a header of `version`.
pub(super) fn headers(version: i16) -> Vec<Bytes> {
    let header = RequestHeader::default().with_request_api_key(3).with_correlation_id(7);
    let mut full = header.clone().with_client_id(Some(text("kunde-ä")));
    if version >= 2 {
        full.unknown_tagged_fields = tags();
    }
    vec![
        encode(&full, version),
        encode(&header.clone().with_client_id(None), version),
        encode(&header.with_client_id(Some(text(""))), version),
    ]
}

/// How many bytes kafka-protocol, or `legacy`, reads of a body.
pub(super) fn decode(key: ApiKey, version: i16, body: &Bytes) -> Result<usize, String> {
    match key {
        ApiKey::Produce => decode_as::<ProduceRequest>(version, body),
        ApiKey::Fetch => decode_as::<FetchRequest>(version, body),
        ApiKey::ListOffsets => decode_as::<ListOffsetsRequest>(version.min(10), body),
        ApiKey::Metadata => decode_as::<MetadataRequest>(version, body),
        ApiKey::FindCoordinator => decode_as::<FindCoordinatorRequest>(version, body),
        ApiKey::ApiVersions => decode_as::<ApiVersionsRequest>(version, body),
        ApiKey::CreateTopics => decode_as::<CreateTopicsRequest>(version.max(2), body),
        ApiKey::DeleteTopics => decode_as::<DeleteTopicsRequest>(version.max(1), body),
        ApiKey::DeleteRecords => decode_as::<DeleteRecordsRequest>(version, body),
        ApiKey::InitProducerId => decode_as::<InitProducerIdRequest>(version, body),
        ApiKey::OffsetForLeaderEpoch => decode_as::<OffsetForLeaderEpochRequest>(version, body),
        ApiKey::DescribeConfigs => decode_as::<DescribeConfigsRequest>(version, body),
        ApiKey::AlterConfigs => decode_as::<AlterConfigsRequest>(version, body),
        ApiKey::IncrementalAlterConfigs => {
            decode_as::<IncrementalAlterConfigsRequest>(version, body)
        }
        ApiKey::DescribeLogDirs => decode_as::<DescribeLogDirsRequest>(version.min(4), body),
        ApiKey::CreatePartitions => decode_as::<CreatePartitionsRequest>(version, body),
        ApiKey::ElectLeaders => decode_as::<ElectLeadersRequest>(version, body),
        ApiKey::AlterPartitionReassignments => {
            decode_as::<AlterPartitionReassignmentsRequest>(version, body)
        }
        ApiKey::ListPartitionReassignments => {
            decode_as::<ListPartitionReassignmentsRequest>(version, body)
        }
        ApiKey::DescribeCluster => decode_as::<DescribeClusterRequest>(version, body),
        ApiKey::UnregisterBroker => decode_as::<UnregisterBrokerRequest>(version, body),
        ApiKey::DescribeClientQuotas => decode_as::<DescribeClientQuotasRequest>(version, body),
        ApiKey::AlterClientQuotas => decode_as::<AlterClientQuotasRequest>(version, body),
        ApiKey::DescribeUserScramCredentials => {
            decode_as::<DescribeUserScramCredentialsRequest>(version, body)
        }
        ApiKey::DescribeQuorum => decode_as::<DescribeQuorumRequest>(version, body),
        ApiKey::UpdateFeatures => decode_as::<UpdateFeaturesRequest>(version, body),
        ApiKey::DescribeProducers => decode_as::<DescribeProducersRequest>(version, body),
        ApiKey::ListConfigResources => decode_as::<ListConfigResourcesRequest>(version, body),
        ApiKey::DescribeTopicPartitions => {
            decode_as::<DescribeTopicPartitionsRequest>(version, body)
        }
        ApiKey::OffsetCommit if version == 1 => decode_by(offsets::decode_commit_v1, body),
        ApiKey::OffsetCommit if version == 10 => decode_by(offsets::decode_commit_v10, body),
        ApiKey::OffsetCommit => decode_as::<OffsetCommitRequest>(version, body),
        ApiKey::OffsetFetch if version == 10 => decode_by(offsets::decode_fetch_v10, body),
        ApiKey::OffsetFetch => decode_as::<OffsetFetchRequest>(version, body),
        ApiKey::JoinGroup => decode_as::<JoinGroupRequest>(version, body),
        ApiKey::SyncGroup => decode_as::<SyncGroupRequest>(version, body),
        ApiKey::Heartbeat => decode_as::<HeartbeatRequest>(version, body),
        ApiKey::LeaveGroup => decode_as::<LeaveGroupRequest>(version, body),
        ApiKey::ConsumerGroupHeartbeat => decode_as::<ConsumerGroupHeartbeatRequest>(version, body),
        ApiKey::ConsumerGroupDescribe => decode_as::<ConsumerGroupDescribeRequest>(version, body),
        ApiKey::DescribeGroups => decode_as::<DescribeGroupsRequest>(version, body),
        ApiKey::ListGroups => decode_as::<ListGroupsRequest>(version, body),
        ApiKey::DeleteGroups => decode_as::<DeleteGroupsRequest>(version, body),
        ApiKey::OffsetDelete => decode_as::<OffsetDeleteRequest>(version, body),
        _ => panic!("no decoder of {key:?}"),
    }
}

/// How many bytes kafka-protocol reads of a `T`.
pub(super) fn decode_as<T: Decodable>(version: i16, bytes: &Bytes) -> Result<usize, String> {
    let mut rest = bytes.clone();
    T::decode(&mut rest, version).map_err(|e| e.to_string())?;
    Ok(bytes.len() - rest.len())
}

/// How many bytes a decoder of ours reads.
fn decode_by<T>(
    decode: impl FnOnce(&mut Bytes) -> Result<T, legacy::Error>,
    bytes: &Bytes,
) -> Result<usize, String> {
    let mut rest = bytes.clone();
    decode(&mut rest).map_err(|e| e.to_string())?;
    Ok(bytes.len() - rest.len())
}

pub(super) fn encode(message: &impl Encodable, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).expect("the sample fits its version");
    bytes.freeze()
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Far from the tags that kafka-protocol knows.
pub(super) fn tags() -> Tags {
    Tags::from([(77, Bytes::from_static(b"seven")), (1_000, Bytes::new())])
}

struct Sample {
    version: i16,
}

impl Sample {
    fn tags(&self, flexible: i16) -> Tags {
        if self.version >= flexible { tags() } else { Tags::new() }
    }

    /// A value that only versions from `first` on can say.
    fn since<T: Default>(&self, first: i16, value: T, default: T) -> T {
        if self.version >= first { value } else { default }
    }

    fn produce(&self) -> Vec<Bytes> {
        let partition = |index, records| {
            PartitionProduceData::default()
                .with_index(index)
                .with_records(records)
                .with_unknown_tagged_fields(self.tags(9))
        };
        let partitions = vec![
            partition(0, Some(Bytes::from(vec![0xff; 300]))),
            partition(1, None),
            partition(2, Some(Bytes::new())),
        ];
        let data = |name, partitions| {
            let data = TopicProduceData::default()
                .with_partition_data(partitions)
                .with_unknown_tagged_fields(self.tags(9));
            match self.version {
                13.. => data.with_topic_id(Uuid::from_u128(u128::MAX)),
                _ => data.with_name(topic(name)),
            }
        };
        let full = ProduceRequest::default()
            .with_transactional_id(Some(text("tx").into()))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![data("eins", partitions), data("", vec![])])
            .with_unknown_tagged_fields(self.tags(9));
        vec![encode(&full, self.version), encode(&ProduceRequest::default(), self.version)]
    }

    fn fetch(&self) -> Vec<Bytes> {
        let request = FetchRequest::default()
            .with_max_wait_ms(500)
            .with_session_id(self.since(7, 9, 0))
            .with_session_epoch(self.since(7, 2, -1))
            .with_topics(vec![self.fetch_topic("eins"), self.fetch_topic("")])
            .with_forgotten_topics_data(self.since(7, self.forgotten(), vec![]))
            .with_rack_id(self.since(11, text("a"), text("")));
        let mut full = request.clone().with_unknown_tagged_fields(self.tags(12));
        if self.version >= 12 {
            full.cluster_id = Some(text("cluster"));
        }
        if self.version >= 15 {
            full.replica_state = ReplicaState::default()
                .with_replica_id(BrokerId(2))
                .with_replica_epoch(3)
                .with_unknown_tagged_fields(tags());
        } else {
            full.replica_id = BrokerId(2);
        }
        let empty = FetchRequest::default();
        [full, request, empty].iter().map(|request| encode(request, self.version)).collect()
    }

    fn fetch_topic(&self, name: &str) -> FetchTopic {
        let mut known = FetchPartition::default()
            .with_partition(1)
            .with_current_leader_epoch(self.since(9, 4, -1))
            .with_fetch_offset(1 << 40)
            .with_last_fetched_epoch(self.since(12, 3, -1))
            .with_log_start_offset(self.since(5, 2, -1))
            .with_partition_max_bytes(1 << 20)
            .with_unknown_tagged_fields(self.tags(12));
        if self.version >= 17 {
            known.replica_directory_id = Uuid::from_u128(5);
        }
        if self.version >= 18 {
            known.high_watermark = 6;
        }
        let partitions = vec![known, FetchPartition::default()];
        let request = FetchTopic::default()
            .with_partitions(partitions)
            .with_unknown_tagged_fields(self.tags(12));
        match self.version {
            13.. => request.with_topic_id(Uuid::from_u128(1)),
            _ => request.with_topic(topic(name)),
        }
    }

    fn forgotten(&self) -> Vec<ForgottenTopic> {
        let forgotten = ForgottenTopic::default()
            .with_partitions(vec![1, 2, 3])
            .with_unknown_tagged_fields(self.tags(12));
        let forgotten = match self.version {
            13.. => forgotten.with_topic_id(Uuid::from_u128(2)),
            _ => forgotten.with_topic(topic("alt")),
        };
        vec![forgotten, ForgottenTopic::default()]
    }

    fn list_offsets(&self) -> Vec<Bytes> {
        if self.version == 0 {
            return vec![list_offsets_v0()];
        }
        let version = self.version.min(10);
        let partition = ListOffsetsPartition::default()
            .with_partition_index(1)
            .with_current_leader_epoch(self.since(4, 2, -1))
            .with_timestamp(-2)
            .with_unknown_tagged_fields(self.tags(6));
        let data = ListOffsetsTopic::default()
            .with_name(topic("eins"))
            .with_partitions(vec![partition.clone(), partition])
            .with_unknown_tagged_fields(self.tags(6));
        let full = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(self.since(2, 1, 0))
            .with_topics(vec![data, ListOffsetsTopic::default()])
            .with_timeout_ms(self.since(10, 5, 0))
            .with_unknown_tagged_fields(self.tags(6));
        vec![encode(&full, version), encode(&ListOffsetsRequest::default(), version)]
    }

    fn metadata(&self) -> Vec<Bytes> {
        let mut named = MetadataRequestTopic::default()
            .with_name(Some(topic("eins")))
            .with_unknown_tagged_fields(self.tags(9));
        let mut topics = vec![named.clone()];
        if self.version >= 10 {
            named.topic_id = Uuid::from_u128(3);
            topics.push(named.with_name(None));
        }
        let full = MetadataRequest::default()
            .with_topics(Some(topics))
            .with_allow_auto_topic_creation(self.since(4, false, true))
            .with_include_topic_authorized_operations(self.since(8, true, false))
            .with_unknown_tagged_fields(self.tags(9));
        let mut bodies = vec![
            encode(&full, self.version),
            encode(&MetadataRequest::default().with_topics(Some(vec![])), self.version),
        ];
        if self.version >= 1 {
            bodies.push(encode(&MetadataRequest::default().with_topics(None), self.version));
        }
        bodies
    }

    fn find_coordinator(&self) -> Vec<Bytes> {
        let request = FindCoordinatorRequest::default()
            .with_key_type(self.since(1, 1, 0))
            .with_unknown_tagged_fields(self.tags(3));
        let full = match self.version {
            4.. => request.with_coordinator_keys(vec![text("a"), text(""), text("gruppe")]),
            _ => request.with_key(text("gruppe")),
        };
        vec![encode(&full, self.version), encode(&FindCoordinatorRequest::default(), self.version)]
    }

    fn api_versions(&self) -> Vec<Bytes> {
        let full = ApiVersionsRequest::default()
            .with_client_software_name(self.since(3, text("librdkafka"), text("")))
            .with_client_software_version(self.since(3, text("2.0"), text("")))
            .with_unknown_tagged_fields(self.tags(3));
        vec![encode(&full, self.version), encode(&ApiVersionsRequest::default(), self.version)]
    }

    fn create_topics(&self) -> Vec<Bytes> {
        let assignment = CreatableReplicaAssignment::default()
            .with_partition_index(1)
            .with_broker_ids(vec![BrokerId(1), BrokerId(2)])
            .with_unknown_tagged_fields(self.tags(5));
        let config = |value| {
            CreatableTopicConfig::default()
                .with_name(text("retention.ms"))
                .with_value(value)
                .with_unknown_tagged_fields(self.tags(5))
        };
        let data = CreatableTopic::default()
            .with_name(topic("eins"))
            .with_num_partitions(-1)
            .with_replication_factor(3)
            .with_assignments(vec![assignment, CreatableReplicaAssignment::default()])
            .with_configs(vec![config(Some(text("1"))), config(None)])
            .with_unknown_tagged_fields(self.tags(5));
        let full = CreateTopicsRequest::default()
            .with_topics(vec![data, CreatableTopic::default()])
            .with_timeout_ms(1)
            .with_validate_only(true)
            .with_unknown_tagged_fields(self.tags(5));
        let bodies = [full, CreateTopicsRequest::default()];
        let mut bodies = bodies.map(|request| encode(&request, self.version.max(2)));
        if self.version == 0 {
            // It ends before `validate_only`.
            bodies.iter_mut().for_each(|body| body.truncate(body.len() - 1));
        }
        bodies.into()
    }

    fn delete_topics(&self) -> Vec<Bytes> {
        let state = |name| {
            DeleteTopicState::default()
                .with_name(name)
                .with_topic_id(Uuid::from_u128(1))
                .with_unknown_tagged_fields(tags())
        };
        let request = DeleteTopicsRequest::default()
            .with_timeout_ms(1)
            .with_unknown_tagged_fields(self.tags(4));
        let full = match self.version {
            6.. => request.with_topics(vec![state(Some(topic("eins"))), state(None)]),
            _ => request.with_topic_names(vec![topic("eins"), topic("")]),
        };
        let version = self.version.max(1);
        vec![encode(&full, version), encode(&DeleteTopicsRequest::default(), version)]
    }

    fn init_producer_id(&self) -> Vec<Bytes> {
        let full = InitProducerIdRequest::default()
            .with_transactional_id(Some(text("tx").into()))
            .with_producer_id(self.since(3, 5, -1).into())
            .with_producer_epoch(self.since(3, 6, -1))
            .with_unknown_tagged_fields(self.tags(2));
        let null = InitProducerIdRequest::default().with_transactional_id(None);
        vec![encode(&full, self.version), encode(&null, self.version)]
    }

    fn offset_for_leader_epoch(&self) -> Vec<Bytes> {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(1)
            .with_leader_epoch(2)
            .with_unknown_tagged_fields(self.tags(4));
        let data = OffsetForLeaderTopic::default()
            .with_topic(topic("eins"))
            .with_partitions(vec![partition.clone(), partition])
            .with_unknown_tagged_fields(self.tags(4));
        let full = OffsetForLeaderEpochRequest::default()
            .with_replica_id(self.since(3, BrokerId(1), BrokerId(-2)))
            .with_topics(vec![data, OffsetForLeaderTopic::default()])
            .with_unknown_tagged_fields(self.tags(4));
        vec![encode(&full, self.version)]
    }

    fn describe_configs(&self) -> Vec<Bytes> {
        let resource = |keys| {
            DescribeConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text("eins"))
                .with_configuration_keys(keys)
                .with_unknown_tagged_fields(self.tags(4))
        };
        let keys = Some(vec![text("retention.ms"), text("")]);
        let full = DescribeConfigsRequest::default()
            .with_resources(vec![resource(keys), resource(None), resource(Some(vec![]))])
            .with_include_synonyms(true)
            .with_include_documentation(self.since(3, true, false))
            .with_unknown_tagged_fields(self.tags(4));
        vec![encode(&full, self.version), encode(&DescribeConfigsRequest::default(), self.version)]
    }

    fn alter_configs(&self) -> Vec<Bytes> {
        let config = |value| {
            AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(value)
                .with_unknown_tagged_fields(self.tags(2))
        };
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("eins"))
            .with_configs(vec![config(Some(text("1"))), config(None)])
            .with_unknown_tagged_fields(self.tags(2));
        let full = AlterConfigsRequest::default()
            .with_resources(vec![resource, AlterConfigsResource::default()])
            .with_validate_only(true)
            .with_unknown_tagged_fields(self.tags(2));
        vec![encode(&full, self.version), encode(&AlterConfigsRequest::default(), self.version)]
    }

    fn incremental_alter_configs(&self) -> Vec<Bytes> {
        let config = |value| {
            EditedConfig::default()
                .with_name(text("retention.ms"))
                .with_config_operation(3)
                .with_value(value)
                .with_unknown_tagged_fields(self.tags(1))
        };
        let resource = EditedResource::default()
            .with_resource_type(2)
            .with_resource_name(text("eins"))
            .with_configs(vec![config(Some(text("1"))), config(None)])
            .with_unknown_tagged_fields(self.tags(1));
        let full = IncrementalAlterConfigsRequest::default()
            .with_resources(vec![resource, EditedResource::default()])
            .with_validate_only(true)
            .with_unknown_tagged_fields(self.tags(1));
        let empty = IncrementalAlterConfigsRequest::default();
        vec![encode(&full, self.version), encode(&empty, self.version)]
    }

    fn create_partitions(&self) -> Vec<Bytes> {
        let assignment = CreatePartitionsAssignment::default()
            .with_broker_ids(vec![BrokerId(1), BrokerId(2)])
            .with_unknown_tagged_fields(self.tags(2));
        let data = |assignments| {
            CreatePartitionsTopic::default()
                .with_name(topic("eins"))
                .with_count(4)
                .with_assignments(assignments)
                .with_unknown_tagged_fields(self.tags(2))
        };
        let assignments = Some(vec![assignment, CreatePartitionsAssignment::default()]);
        let full = CreatePartitionsRequest::default()
            .with_topics(vec![data(assignments), data(None)])
            .with_validate_only(true)
            .with_unknown_tagged_fields(self.tags(2));
        vec![encode(&full, self.version)]
    }

    fn delete_records(&self) -> Vec<Bytes> {
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(3)
            .with_offset(-1)
            .with_unknown_tagged_fields(self.tags(2));
        let named = DeleteRecordsTopic::default()
            .with_name(topic("eins"))
            .with_partitions(vec![partition, DeleteRecordsPartition::default()])
            .with_unknown_tagged_fields(self.tags(2));
        let full = DeleteRecordsRequest::default()
            .with_topics(vec![named, DeleteRecordsTopic::default()])
            .with_timeout_ms(5)
            .with_unknown_tagged_fields(self.tags(2));
        vec![encode(&full, self.version), encode(&DeleteRecordsRequest::default(), self.version)]
    }

    fn describe_log_dirs(&self) -> Vec<Bytes> {
        // kafka-protocol has no version 5, whose request is that of 4.
        let version = self.version.min(4);
        let named = DescribableLogDirTopic::default()
            .with_topic(topic("eins"))
            .with_partitions(vec![0, 3])
            .with_unknown_tagged_fields(self.tags(2));
        let full = DescribeLogDirsRequest::default()
            .with_topics(Some(vec![named, DescribableLogDirTopic::default()]))
            .with_unknown_tagged_fields(self.tags(2));
        let null = DescribeLogDirsRequest::default().with_topics(None);
        vec![encode(&full, version), encode(&null, version)]
    }

    fn elect_leaders(&self) -> Vec<Bytes> {
        let named = TopicPartitions::default()
            .with_topic(topic("eins"))
            .with_partitions(vec![0, 3])
            .with_unknown_tagged_fields(self.tags(2));
        let null = ElectLeadersRequest::default()
            .with_election_type(self.since(1, 1, 0))
            .with_topic_partitions(None)
            .with_timeout_ms(5)
            .with_unknown_tagged_fields(self.tags(2));
        let full =
            null.clone().with_topic_partitions(Some(vec![named, TopicPartitions::default()]));
        vec![encode(&full, self.version), encode(&null, self.version)]
    }

    fn alter_partition_reassignments(&self) -> Vec<Bytes> {
        let moved = ReassignablePartition::default()
            .with_partition_index(3)
            .with_replicas(Some(vec![BrokerId(1), BrokerId(2)]))
            .with_unknown_tagged_fields(tags());
        let back = ReassignablePartition::default().with_replicas(None);
        let named = ReassignableTopic::default()
            .with_name(topic("eins"))
            .with_partitions(vec![moved, back])
            .with_unknown_tagged_fields(tags());
        let full = AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(5)
            .with_allow_replication_factor_change(self.since(1, false, true))
            .with_topics(vec![named, ReassignableTopic::default()])
            .with_unknown_tagged_fields(tags());
        let empty = AlterPartitionReassignmentsRequest::default();
        vec![encode(&full, self.version), encode(&empty, self.version)]
    }

    fn list_partition_reassignments(&self) -> Vec<Bytes> {
        let named = ListPartitionReassignmentsTopics::default()
            .with_name(topic("eins"))
            .with_partition_indexes(vec![0, 3])
            .with_unknown_tagged_fields(tags());
        let null = ListPartitionReassignmentsRequest::default().with_topics(None);
        let full = null.clone().with_topics(Some(vec![named])).with_unknown_tagged_fields(tags());
        vec![encode(&full, self.version), encode(&null, self.version)]
    }

    fn describe_cluster(&self) -> Vec<Bytes> {
        let full = DescribeClusterRequest::default()
            .with_include_cluster_authorized_operations(true)
            .with_endpoint_type(self.since(1, 2, 1))
            .with_include_fenced_brokers(self.since(2, true, false))
            .with_unknown_tagged_fields(tags());
        vec![encode(&full, self.version), encode(&DescribeClusterRequest::default(), self.version)]
    }

    fn unregister_broker(&self) -> Vec<Bytes> {
        let request = UnregisterBrokerRequest::default()
            .with_broker_id(3.into())
            .with_unknown_tagged_fields(tags());
        vec![encode(&request, self.version)]
    }

    fn describe_topic_partitions(&self) -> Vec<Bytes> {
        let named = TopicRequest::default().with_name(topic("eins"));
        let cursor = Cursor::default()
            .with_topic_name(topic("eins"))
            .with_partition_index(3)
            .with_unknown_tagged_fields(tags());
        let null = DescribeTopicPartitionsRequest::default()
            .with_topics(vec![named.clone(), named.with_unknown_tagged_fields(tags())])
            .with_unknown_tagged_fields(tags());
        let full = null.clone().with_cursor(Some(cursor));
        vec![encode(&full, self.version), encode(&null, self.version)]
    }
}

/// kafka-protocol has no version 0.
fn list_offsets_v0() -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(-1);
    body.put_i32(2);
    body.put_slice(b"\0\x04eins");
    body.put_i32(1);
    body.put_i32(0);
    body.put_i64(-1);
    body.put_i32(10);
    body.put_slice(b"\0\0");
    body.put_i32(0);
    body.freeze()
}
