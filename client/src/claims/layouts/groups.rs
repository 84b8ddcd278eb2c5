//! The layouts of the responses about groups and what they have committed.

use super::{INT16, INT32, INT64, Kind, Layout, Response, field, layout, response};

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

static OFFSETS_TOPIC: Layout =
    layout(&[field("name", Kind::Text), field("partitions", Kind::Array(&OFFSETS_PARTITION))]);

static OFFSETS_PARTITION: Layout =
    layout(&[field("partition_index", INT32), field("error_code", INT16)]);
