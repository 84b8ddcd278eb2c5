//! The layouts of the responses to members of groups.

use super::BOOLEAN;
use super::{INT16, INT32, Kind, Layout, Response, UUID, field, layout, response};

pub(crate) static JOIN_GROUP: Response = response(
    6,
    &[
        field("throttle_time_ms", INT32).since(2),
        field("error_code", INT16),
        field("generation_id", INT32),
        field("protocol_type", Kind::Text).since(7),
        field("protocol_name", Kind::Text),
        field("leader", Kind::Text),
        field("skip_assignment", BOOLEAN).since(9),
        field("member_id", Kind::Text),
        field("members", Kind::Array(&JOINED_MEMBER)),
    ],
);

static JOINED_MEMBER: Layout = layout(&[
    field("member_id", Kind::Text),
    field("group_instance_id", Kind::Text).since(5),
    field("metadata", Kind::Records),
]);

pub(crate) static SYNC_GROUP: Response = response(
    4,
    &[
        field("throttle_time_ms", INT32).since(1),
        field("error_code", INT16),
        field("protocol_type", Kind::Text).since(5),
        field("protocol_name", Kind::Text).since(5),
        field("assignment", Kind::Records),
    ],
);

pub(crate) static HEARTBEAT: Response =
    response(4, &[field("throttle_time_ms", INT32).since(1), field("error_code", INT16)]);

pub(crate) static LEAVE_GROUP: Response = response(
    4,
    &[
        field("throttle_time_ms", INT32).since(1),
        field("error_code", INT16),
        field("members", Kind::Array(&LEFT_MEMBER)).since(3),
    ],
);

static LEFT_MEMBER: Layout = layout(&[
    field("member_id", Kind::Text),
    field("group_instance_id", Kind::Text),
    field("error_code", INT16),
]);

pub(crate) static CONSUMER_GROUP_HEARTBEAT: Response = response(
    0,
    &[
        field("throttle_time_ms", INT32),
        field("error_code", INT16),
        field("error_message", Kind::Text),
        field("member_id", Kind::Text),
        field("member_epoch", INT32),
        field("heartbeat_interval_ms", INT32),
        field("assignment", Kind::Option(&ASSIGNMENT)),
    ],
);

static ASSIGNMENT: Layout = layout(&[field("topic_partitions", Kind::Array(&ASSIGNED_TOPIC))]);

static ASSIGNED_TOPIC: Layout =
    layout(&[field("topic_id", UUID), field("partitions", Kind::Numbers(4))]);
