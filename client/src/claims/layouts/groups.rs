//! The layouts of the responses about groups and what they have committed.

use super::{INT8, INT16, INT32, INT64, Kind, Layout, Response, UUID, field, layout, response};

pub(crate) static FIND_COORDINATOR: Response = response(
    3,
    &[
        field("throttle_time_ms", INT32).since(1),
        field("error_code", INT16),
        field("error_message", Kind::Text).since(1),
        field("node_id", INT32),
        field("host", Kind::Text),
        field("port", INT32),
    ],
);

pub(crate) static LIST_GROUPS: Response = response(
    3,
    &[
        field("throttle_time_ms", INT32).since(1),
        field("error_code", INT16),
        field("groups", Kind::Array(&LISTED_GROUP)),
    ],
);

static LISTED_GROUP: Layout = layout(&[
    field("group_id", Kind::Text),
    field("protocol_type", Kind::Text),
    field("group_state", Kind::Text).since(4),
    field("group_type", Kind::Text).since(5),
]);

pub(crate) static DESCRIBE_GROUPS: Response = response(
    5,
    &[field("throttle_time_ms", INT32).since(1), field("groups", Kind::Array(&DESCRIBED_GROUP))],
);

static DESCRIBED_GROUP: Layout = layout(&[
    field("error_code", INT16),
    field("error_message", Kind::Text).since(6),
    field("group_id", Kind::Text),
    field("group_state", Kind::Text),
    field("protocol_type", Kind::Text),
    field("protocol_data", Kind::Text),
    field("members", Kind::Array(&CLASSIC_MEMBER)),
    field("authorized_operations", INT32).since(3),
]);

static CLASSIC_MEMBER: Layout = layout(&[
    field("member_id", Kind::Text),
    field("group_instance_id", Kind::Text).since(4),
    field("client_id", Kind::Text),
    field("client_host", Kind::Text),
    field("member_metadata", Kind::Records),
    field("member_assignment", Kind::Records),
]);

pub(crate) static CONSUMER_GROUP_DESCRIBE: Response =
    response(0, &[field("throttle_time_ms", INT32), field("groups", Kind::Array(&CONSUMER_GROUP))]);

static CONSUMER_GROUP: Layout = layout(&[
    field("error_code", INT16),
    field("error_message", Kind::Text),
    field("group_id", Kind::Text),
    field("group_state", Kind::Text),
    field("group_epoch", INT32),
    field("assignment_epoch", INT32),
    field("assignor_name", Kind::Text),
    field("members", Kind::Array(&CONSUMER_MEMBER)),
    field("authorized_operations", INT32),
]);

static CONSUMER_MEMBER: Layout = layout(&[
    field("member_id", Kind::Text),
    field("instance_id", Kind::Text),
    field("rack_id", Kind::Text),
    field("member_epoch", INT32),
    field("client_id", Kind::Text),
    field("client_host", Kind::Text),
    field("subscribed_topic_names", Kind::Texts),
    field("subscribed_topic_regex", Kind::Text),
    field("assignment", Kind::Struct(&ASSIGNMENT)),
    field("target_assignment", Kind::Struct(&ASSIGNMENT)),
    field("member_type", INT8).since(1),
]);

static ASSIGNMENT: Layout = layout(&[field("topic_partitions", Kind::Array(&ASSIGNED_TOPIC))]);

static ASSIGNED_TOPIC: Layout = layout(&[
    field("topic_id", UUID),
    field("topic_name", Kind::Text),
    field("partitions", Kind::Numbers(4)),
]);

pub(crate) static DELETE_GROUPS: Response =
    response(2, &[field("throttle_time_ms", INT32), field("results", Kind::Array(&DELETED_GROUP))]);

static DELETED_GROUP: Layout = layout(&[field("group_id", Kind::Text), field("error_code", INT16)]);

pub(crate) static OFFSET_FETCH: Response = response(
    6,
    &[
        field("throttle_time_ms", INT32).since(3),
        field("topics", Kind::Array(&COMMITTED_TOPIC)),
        field("error_code", INT16).since(2),
    ],
);

static COMMITTED_TOPIC: Layout =
    layout(&[field("name", Kind::Text), field("partitions", Kind::Array(&COMMITTED))]);

static COMMITTED: Layout = layout(&[
    field("partition_index", INT32),
    field("committed_offset", INT64),
    field("committed_leader_epoch", INT32).since(5),
    field("metadata", Kind::Text),
    field("error_code", INT16),
]);

pub(crate) static OFFSET_COMMIT: Response = response(
    8,
    &[field("throttle_time_ms", INT32).since(3), field("topics", Kind::Array(&OFFSETS_TOPIC))],
);

pub(crate) static OFFSET_DELETE: Response = response(
    i16::MAX,
    &[
        field("error_code", INT16),
        field("throttle_time_ms", INT32),
        field("topics", Kind::Array(&OFFSETS_TOPIC)),
    ],
);

static OFFSETS_TOPIC: Layout =
    layout(&[field("name", Kind::Text), field("partitions", Kind::Array(&OFFSETS_PARTITION))]);

static OFFSETS_PARTITION: Layout =
    layout(&[field("partition_index", INT32), field("error_code", INT16)]);
