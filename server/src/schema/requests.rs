//! The layout of every request that this node answers, a line a field.
//!
//! A field is nullable here where kafka-protocol's type is an `Option`: whether null makes sense in a
//! version is for the handler to say. Versions that `legacy` decodes are described, too.
//!
//! Source: Kafka's message definitions, and what kafka-protocol's decoders read.

mod admin;
mod quotas;

use kafka_protocol::messages::ApiKey;

use super::layout::{
    BOOLEAN, INT8, INT16, INT32, INT64, Kind, Layout, Request, Tagged, UUID, field, layout,
};

/// The layout of a request, if this node answers it.
pub(super) fn find(key: ApiKey, version: i16) -> Option<&'static Request> {
    all().find(|request| request.key == key && request.versions.contains(&version))
}

/// Every request, the most frequent first.
pub(super) fn all() -> impl Iterator<Item = &'static Request> {
    REQUESTS.iter().chain(admin::REQUESTS).chain(quotas::REQUESTS)
}

/// All but those of the files under this one.
static REQUESTS: &[Request] = &[
    Request {
        key: ApiKey::Produce,
        versions: 3..=13,
        flexible: 9,
        body: layout(&[
            field("transactional_id", Kind::NullableString),
            field("acks", INT16),
            field("timeout_ms", INT32),
            field("topic_data", Kind::Array(&Kind::Struct(&PRODUCE_TOPIC))),
        ]),
    },
    Request {
        key: ApiKey::Fetch,
        versions: 4..=18,
        flexible: 12,
        body: Layout {
            fields: &[
                field("replica_id", INT32).until(14),
                field("max_wait_ms", INT32),
                field("min_bytes", INT32),
                field("max_bytes", INT32),
                field("isolation_level", INT8),
                field("session_id", INT32).since(7),
                field("session_epoch", INT32).since(7),
                field("topics", Kind::Array(&Kind::Struct(&FETCH_TOPIC))),
                field("forgotten_topics_data", Kind::Array(&Kind::Struct(&FORGOTTEN_TOPIC)))
                    .since(7),
                field("rack_id", Kind::String).since(11),
            ],
            tagged: &[
                Tagged { tag: 0, field: field("cluster_id", Kind::NullableString) },
                Tagged {
                    tag: 1,
                    field: field("replica_state", Kind::Struct(&REPLICA_STATE)).since(15),
                },
            ],
        },
    },
    Request {
        key: ApiKey::ListOffsets,
        versions: 0..=11,
        flexible: 6,
        body: layout(&[
            field("replica_id", INT32),
            field("isolation_level", INT8).since(2),
            field("topics", Kind::Array(&Kind::Struct(&LIST_OFFSETS_TOPIC))),
            field("timeout_ms", INT32).since(10),
        ]),
    },
    Request {
        key: ApiKey::Metadata,
        versions: 0..=13,
        flexible: 9,
        body: layout(&[
            field("topics", Kind::NullableArray(&Kind::Struct(&METADATA_TOPIC))),
            field("allow_auto_topic_creation", BOOLEAN).since(4),
            field("include_cluster_authorized_operations", BOOLEAN).since(8).until(10),
            field("include_topic_authorized_operations", BOOLEAN).since(8),
        ]),
    },
    Request {
        key: ApiKey::OffsetCommit,
        versions: 1..=10,
        flexible: 8,
        body: layout(&[
            field("group_id", Kind::String),
            field("generation_id_or_member_epoch", INT32),
            field("member_id", Kind::String),
            field("group_instance_id", Kind::NullableString).since(7),
            field("retention_time_ms", INT64).since(2).until(4),
            field("topics", Kind::Array(&Kind::Struct(&COMMITTED_TOPIC))),
        ]),
    },
    Request {
        key: ApiKey::OffsetFetch,
        versions: 1..=10,
        flexible: 6,
        body: layout(&[
            field("group_id", Kind::String).until(7),
            field("topics", Kind::NullableArray(&Kind::Struct(&NAMED_PARTITIONS))).until(7),
            field("groups", Kind::Array(&Kind::Struct(&FETCHED_GROUP))).since(8),
            field("require_stable", BOOLEAN).since(7),
        ]),
    },
    Request {
        key: ApiKey::Heartbeat,
        versions: 0..=4,
        flexible: 4,
        body: layout(&[
            field("group_id", Kind::String),
            field("generation_id", INT32),
            field("member_id", Kind::String),
            field("group_instance_id", Kind::NullableString).since(3),
        ]),
    },
    Request {
        key: ApiKey::JoinGroup,
        versions: 0..=9,
        flexible: 6,
        body: layout(&[
            field("group_id", Kind::String),
            field("session_timeout_ms", INT32),
            field("rebalance_timeout_ms", INT32).since(1),
            field("member_id", Kind::String),
            field("group_instance_id", Kind::NullableString).since(5),
            field("protocol_type", Kind::String),
            field("protocols", Kind::Array(&Kind::Struct(&GROUP_PROTOCOL))),
            field("reason", Kind::NullableString).since(8),
        ]),
    },
    Request {
        key: ApiKey::SyncGroup,
        versions: 0..=5,
        flexible: 4,
        body: layout(&[
            field("group_id", Kind::String),
            field("generation_id", INT32),
            field("member_id", Kind::String),
            field("group_instance_id", Kind::NullableString).since(3),
            field("protocol_type", Kind::NullableString).since(5),
            field("protocol_name", Kind::NullableString).since(5),
            field("assignments", Kind::Array(&Kind::Struct(&ASSIGNMENT))),
        ]),
    },
    Request {
        key: ApiKey::LeaveGroup,
        versions: 0..=5,
        flexible: 4,
        body: layout(&[
            field("group_id", Kind::String),
            field("member_id", Kind::String).until(2),
            field("members", Kind::Array(&Kind::Struct(&LEAVING_MEMBER))).since(3),
        ]),
    },
    Request {
        key: ApiKey::ConsumerGroupHeartbeat,
        versions: 0..=1,
        flexible: 0,
        body: layout(&[
            field("group_id", Kind::String),
            field("member_id", Kind::String),
            field("member_epoch", INT32),
            field("instance_id", Kind::NullableString),
            field("rack_id", Kind::NullableString),
            field("rebalance_timeout_ms", INT32),
            field("subscribed_topic_names", Kind::NullableArray(&Kind::String)),
            field("subscribed_topic_regex", Kind::NullableString).since(1),
            field("server_assignor", Kind::NullableString),
            field("topic_partitions", Kind::NullableArray(&Kind::Struct(&OWNED_TOPIC))),
        ]),
    },
    Request {
        key: ApiKey::ConsumerGroupDescribe,
        versions: 0..=1,
        flexible: 0,
        body: layout(&[
            field("group_ids", Kind::Array(&Kind::String)),
            field("include_authorized_operations", BOOLEAN),
        ]),
    },
    Request {
        key: ApiKey::DescribeGroups,
        versions: 0..=6,
        flexible: 5,
        body: layout(&[
            field("groups", Kind::Array(&Kind::String)),
            field("include_authorized_operations", BOOLEAN).since(3),
        ]),
    },
    Request {
        key: ApiKey::ListGroups,
        versions: 0..=5,
        flexible: 3,
        body: layout(&[
            field("states_filter", Kind::Array(&Kind::String)).since(4),
            field("types_filter", Kind::Array(&Kind::String)).since(5),
        ]),
    },
    Request {
        key: ApiKey::DeleteGroups,
        versions: 0..=2,
        flexible: 2,
        body: layout(&[field("groups_names", Kind::Array(&Kind::String))]),
    },
    Request {
        key: ApiKey::OffsetDelete,
        versions: 0..=0,
        flexible: i16::MAX,
        body: layout(&[
            field("group_id", Kind::String),
            field("topics", Kind::Array(&Kind::Struct(&FORGOTTEN_OFFSETS))),
        ]),
    },
    Request {
        key: ApiKey::FindCoordinator,
        versions: 0..=6,
        flexible: 3,
        body: layout(&[
            field("key", Kind::String).until(3),
            field("key_type", INT8).since(1),
            field("coordinator_keys", Kind::Array(&Kind::String)).since(4),
        ]),
    },
    Request {
        key: ApiKey::ApiVersions,
        versions: 0..=4,
        flexible: 3,
        body: layout(&[
            field("client_software_name", Kind::String).since(3),
            field("client_software_version", Kind::String).since(3),
        ]),
    },
    Request {
        key: ApiKey::CreateTopics,
        versions: 0..=7,
        flexible: 5,
        body: layout(&[
            field("topics", Kind::Array(&Kind::Struct(&CREATABLE_TOPIC))),
            field("timeout_ms", INT32),
            field("validate_only", BOOLEAN).since(1),
        ]),
    },
    Request {
        key: ApiKey::DeleteTopics,
        versions: 0..=6,
        flexible: 4,
        body: layout(&[
            field("topics", Kind::Array(&Kind::Struct(&DELETE_TOPIC))).since(6),
            field("topic_names", Kind::Array(&Kind::String)).until(5),
            field("timeout_ms", INT32),
        ]),
    },
    Request {
        key: ApiKey::DeleteRecords,
        versions: 0..=2,
        flexible: 2,
        body: layout(&[
            field("topics", Kind::Array(&Kind::Struct(&DELETE_RECORDS_TOPIC))),
            field("timeout_ms", INT32),
        ]),
    },
    Request {
        key: ApiKey::InitProducerId,
        versions: 0..=5,
        flexible: 2,
        body: layout(&[
            field("transactional_id", Kind::NullableString),
            field("transaction_timeout_ms", INT32),
            field("producer_id", INT64).since(3),
            field("producer_epoch", INT16).since(3),
        ]),
    },
    Request {
        key: ApiKey::OffsetForLeaderEpoch,
        versions: 2..=4,
        flexible: 4,
        body: layout(&[
            field("replica_id", INT32).since(3),
            field("topics", Kind::Array(&Kind::Struct(&LEADER_EPOCH_TOPIC))),
        ]),
    },
    Request {
        key: ApiKey::AlterConfigs,
        versions: 0..=2,
        flexible: 2,
        body: layout(&[
            field("resources", Kind::Array(&Kind::Struct(&ALTERED_RESOURCE))),
            field("validate_only", BOOLEAN),
        ]),
    },
    Request {
        key: ApiKey::IncrementalAlterConfigs,
        versions: 0..=1,
        flexible: 1,
        body: layout(&[
            field("resources", Kind::Array(&Kind::Struct(&EDITED_RESOURCE))),
            field("validate_only", BOOLEAN),
        ]),
    },
    Request {
        key: ApiKey::DescribeConfigs,
        versions: 1..=4,
        flexible: 4,
        body: layout(&[
            field("resources", Kind::Array(&Kind::Struct(&CONFIG_RESOURCE))),
            field("include_synonyms", BOOLEAN),
            field("include_documentation", BOOLEAN).since(3),
        ]),
    },
    Request {
        key: ApiKey::DescribeLogDirs,
        versions: 1..=5,
        flexible: 2,
        body: layout(&[field("topics", Kind::NullableArray(&Kind::Struct(&LOG_DIR_TOPIC)))]),
    },
    Request {
        key: ApiKey::CreatePartitions,
        versions: 0..=3,
        flexible: 2,
        body: layout(&[
            field("topics", Kind::Array(&Kind::Struct(&GROWING_TOPIC))),
            field("timeout_ms", INT32),
            field("validate_only", BOOLEAN),
        ]),
    },
    Request {
        key: ApiKey::ElectLeaders,
        versions: 0..=2,
        flexible: 2,
        body: layout(&[
            field("election_type", INT8).since(1),
            field("topic_partitions", Kind::NullableArray(&Kind::Struct(&ELECTED_TOPIC))),
            field("timeout_ms", INT32),
        ]),
    },
    Request {
        key: ApiKey::AlterPartitionReassignments,
        versions: 0..=1,
        flexible: 0,
        body: layout(&[
            field("timeout_ms", INT32),
            field("allow_replication_factor_change", BOOLEAN).since(1),
            field("topics", Kind::Array(&Kind::Struct(&MOVED_TOPIC))),
        ]),
    },
    Request {
        key: ApiKey::ListPartitionReassignments,
        versions: 0..=0,
        flexible: 0,
        body: layout(&[
            field("timeout_ms", INT32),
            field("topics", Kind::NullableArray(&Kind::Struct(&MOVING_TOPIC))),
        ]),
    },
    Request {
        key: ApiKey::DescribeCluster,
        versions: 0..=2,
        flexible: 0,
        body: layout(&[
            field("include_cluster_authorized_operations", BOOLEAN),
            field("endpoint_type", INT8).since(1),
            field("include_fenced_brokers", BOOLEAN).since(2),
        ]),
    },
    Request {
        key: ApiKey::UnregisterBroker,
        versions: 0..=0,
        flexible: 0,
        body: layout(&[field("broker_id", INT32)]),
    },
    Request {
        key: ApiKey::DescribeTopicPartitions,
        versions: 0..=0,
        flexible: 0,
        body: layout(&[
            field("topics", Kind::Array(&Kind::Struct(&NAMED_TOPIC))),
            field("response_partition_limit", INT32),
            field("cursor", Kind::NullableStruct(&CURSOR)),
        ]),
    },
];

static COMMITTED_TOPIC: Layout = layout(&[
    field("name", Kind::String).until(9),
    field("topic_id", UUID).since(10),
    field("partitions", Kind::Array(&Kind::Struct(&COMMITTED_PARTITION))),
]);

static COMMITTED_PARTITION: Layout = layout(&[
    field("partition_index", INT32),
    field("committed_offset", INT64),
    field("committed_leader_epoch", INT32).since(6),
    field("commit_timestamp", INT64).until(1),
    field("committed_metadata", Kind::NullableString),
]);

static NAMED_PARTITIONS: Layout =
    layout(&[field("name", Kind::String), field("partition_indexes", Kind::Array(&INT32))]);

static FETCHED_GROUP: Layout = layout(&[
    field("group_id", Kind::String),
    field("member_id", Kind::NullableString).since(9),
    field("member_epoch", INT32).since(9),
    field("topics", Kind::NullableArray(&Kind::Struct(&FETCHED_TOPIC))),
]);

static FETCHED_TOPIC: Layout = layout(&[
    field("name", Kind::String).until(9),
    field("topic_id", UUID).since(10),
    field("partition_indexes", Kind::Array(&INT32)),
]);

static OWNED_TOPIC: Layout =
    layout(&[field("topic_id", UUID), field("partitions", Kind::Array(&INT32))]);

static GROUP_PROTOCOL: Layout =
    layout(&[field("name", Kind::String), field("metadata", Kind::Bytes)]);

static ASSIGNMENT: Layout =
    layout(&[field("member_id", Kind::String), field("assignment", Kind::Bytes)]);

static LEAVING_MEMBER: Layout = layout(&[
    field("member_id", Kind::String),
    field("group_instance_id", Kind::NullableString),
    field("reason", Kind::NullableString).since(5),
]);

static FORGOTTEN_OFFSETS: Layout = layout(&[
    field("name", Kind::String),
    field("partitions", Kind::Array(&Kind::Struct(&FORGOTTEN_OFFSET))),
]);

static FORGOTTEN_OFFSET: Layout = layout(&[field("partition_index", INT32)]);

static PRODUCE_TOPIC: Layout = layout(&[
    field("name", Kind::String).until(12),
    field("topic_id", UUID).since(13),
    field("partition_data", Kind::Array(&Kind::Struct(&PRODUCE_PARTITION))),
]);

static PRODUCE_PARTITION: Layout =
    layout(&[field("index", INT32), field("records", Kind::NullableBytes)]);

static FETCH_TOPIC: Layout = layout(&[
    field("topic", Kind::String).until(12),
    field("topic_id", UUID).since(13),
    field("partitions", Kind::Array(&Kind::Struct(&FETCH_PARTITION))),
]);

static FETCH_PARTITION: Layout = Layout {
    fields: &[
        field("partition", INT32),
        field("current_leader_epoch", INT32).since(9),
        field("fetch_offset", INT64),
        field("last_fetched_epoch", INT32).since(12),
        field("log_start_offset", INT64).since(5),
        field("partition_max_bytes", INT32),
    ],
    tagged: &[
        Tagged { tag: 0, field: field("replica_directory_id", UUID).since(17) },
        Tagged { tag: 1, field: field("high_watermark", INT64).since(18) },
    ],
};

static FORGOTTEN_TOPIC: Layout = layout(&[
    field("topic", Kind::String).until(12),
    field("topic_id", UUID).since(13),
    field("partitions", Kind::Array(&INT32)),
]);

static REPLICA_STATE: Layout = layout(&[field("replica_id", INT32), field("replica_epoch", INT64)]);

static LIST_OFFSETS_TOPIC: Layout = layout(&[
    field("name", Kind::String),
    field("partitions", Kind::Array(&Kind::Struct(&LIST_OFFSETS_PARTITION))),
]);

static LIST_OFFSETS_PARTITION: Layout = layout(&[
    field("partition_index", INT32),
    field("current_leader_epoch", INT32).since(4),
    field("timestamp", INT64),
    field("max_num_offsets", INT32).until(0),
]);

static METADATA_TOPIC: Layout =
    layout(&[field("topic_id", UUID).since(10), field("name", Kind::NullableString)]);

static CREATABLE_TOPIC: Layout = layout(&[
    field("name", Kind::String),
    field("num_partitions", INT32),
    field("replication_factor", INT16),
    field("assignments", Kind::Array(&Kind::Struct(&REPLICA_ASSIGNMENT))),
    field("configs", Kind::Array(&Kind::Struct(&TOPIC_CONFIG))),
]);

static REPLICA_ASSIGNMENT: Layout =
    layout(&[field("partition_index", INT32), field("broker_ids", Kind::Array(&INT32))]);

static TOPIC_CONFIG: Layout =
    layout(&[field("name", Kind::String), field("value", Kind::NullableString)]);

static DELETE_TOPIC: Layout =
    layout(&[field("name", Kind::NullableString), field("topic_id", UUID)]);

static DELETE_RECORDS_TOPIC: Layout = layout(&[
    field("name", Kind::String),
    field("partitions", Kind::Array(&Kind::Struct(&DELETE_RECORDS_PARTITION))),
]);

static DELETE_RECORDS_PARTITION: Layout =
    layout(&[field("partition_index", INT32), field("offset", INT64)]);

static LEADER_EPOCH_TOPIC: Layout = layout(&[
    field("topic", Kind::String),
    field("partitions", Kind::Array(&Kind::Struct(&LEADER_EPOCH_PARTITION))),
]);

static LEADER_EPOCH_PARTITION: Layout = layout(&[
    field("partition", INT32),
    field("current_leader_epoch", INT32),
    field("leader_epoch", INT32),
]);

static CONFIG_RESOURCE: Layout = layout(&[
    field("resource_type", INT8),
    field("resource_name", Kind::String),
    field("configuration_keys", Kind::NullableArray(&Kind::String)),
]);

static ALTERED_RESOURCE: Layout = layout(&[
    field("resource_type", INT8),
    field("resource_name", Kind::String),
    field("configs", Kind::Array(&Kind::Struct(&TOPIC_CONFIG))),
]);

static EDITED_RESOURCE: Layout = layout(&[
    field("resource_type", INT8),
    field("resource_name", Kind::String),
    field("configs", Kind::Array(&Kind::Struct(&EDITED_CONFIG))),
]);

static EDITED_CONFIG: Layout = layout(&[
    field("name", Kind::String),
    field("config_operation", INT8),
    field("value", Kind::NullableString),
]);

static LOG_DIR_TOPIC: Layout =
    layout(&[field("topic", Kind::String), field("partitions", Kind::Array(&INT32))]);

static GROWING_TOPIC: Layout = layout(&[
    field("name", Kind::String),
    field("count", INT32),
    field("assignments", Kind::NullableArray(&Kind::Struct(&PARTITION_ASSIGNMENT))),
]);

static PARTITION_ASSIGNMENT: Layout = layout(&[field("broker_ids", Kind::Array(&INT32))]);

static ELECTED_TOPIC: Layout =
    layout(&[field("topic", Kind::String), field("partitions", Kind::Array(&INT32))]);

static MOVED_TOPIC: Layout = layout(&[
    field("name", Kind::String),
    field("partitions", Kind::Array(&Kind::Struct(&MOVED_PARTITION))),
]);

static MOVED_PARTITION: Layout =
    layout(&[field("partition_index", INT32), field("replicas", Kind::NullableArray(&INT32))]);

static MOVING_TOPIC: Layout =
    layout(&[field("name", Kind::String), field("partition_indexes", Kind::Array(&INT32))]);

static NAMED_TOPIC: Layout = layout(&[field("name", Kind::String)]);

static CURSOR: Layout =
    layout(&[field("topic_name", Kind::String), field("partition_index", INT32)]);
