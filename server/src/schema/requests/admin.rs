//! The layouts of requests about the metadata group, features, producers and config resources.

use kafka_protocol::messages::ApiKey;

use super::super::layout::{BOOLEAN, INT8, INT16, INT32, Kind, Layout, Request, field, layout};

/// These requests.
pub(super) static REQUESTS: &[Request] = &[
    Request {
        key: ApiKey::DescribeQuorum,
        versions: 0..=2,
        flexible: 0,
        body: layout(&[field("topics", Kind::Array(&Kind::Struct(&QUORUM_TOPIC)))]),
    },
    Request {
        key: ApiKey::UpdateFeatures,
        versions: 0..=2,
        flexible: 0,
        body: layout(&[
            field("timeout_ms", INT32),
            field("feature_updates", Kind::Array(&Kind::Struct(&FEATURE_UPDATE))),
            field("validate_only", BOOLEAN).since(1),
        ]),
    },
    Request {
        key: ApiKey::DescribeProducers,
        versions: 0..=0,
        flexible: 0,
        body: layout(&[field("topics", Kind::Array(&Kind::Struct(&PRODUCERS_TOPIC)))]),
    },
    Request {
        key: ApiKey::ListConfigResources,
        versions: 0..=1,
        flexible: 0,
        body: layout(&[field("resource_types", Kind::Array(&INT8)).since(1)]),
    },
];

static QUORUM_TOPIC: Layout = layout(&[
    field("topic_name", Kind::String),
    field("partitions", Kind::Array(&Kind::Struct(&QUORUM_PARTITION))),
]);

static QUORUM_PARTITION: Layout = layout(&[field("partition_index", INT32)]);

static FEATURE_UPDATE: Layout = layout(&[
    field("feature", Kind::String),
    field("max_version_level", INT16),
    field("allow_downgrade", BOOLEAN).until(0),
    field("upgrade_type", INT8).since(1),
]);

static PRODUCERS_TOPIC: Layout =
    layout(&[field("name", Kind::String), field("partition_indexes", Kind::Array(&INT32))]);
