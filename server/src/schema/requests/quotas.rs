//! The layouts of requests about users and clients: quotas and credentials.

use kafka_protocol::messages::ApiKey;

use super::super::layout::{BOOLEAN, INT8, INT64, Kind, Layout, Request, field, layout};

/// A number with a fraction.
const FLOAT64: Kind = INT64;

/// These requests.
pub(super) static REQUESTS: &[Request] = &[
    Request {
        key: ApiKey::DescribeClientQuotas,
        versions: 0..=1,
        flexible: 1,
        body: layout(&[
            field("components", Kind::Array(&Kind::Struct(&QUOTA_COMPONENT))),
            field("strict", BOOLEAN),
        ]),
    },
    Request {
        key: ApiKey::AlterClientQuotas,
        versions: 0..=1,
        flexible: 1,
        body: layout(&[
            field("entries", Kind::Array(&Kind::Struct(&QUOTA_ENTRY))),
            field("validate_only", BOOLEAN),
        ]),
    },
    Request {
        key: ApiKey::DescribeUserScramCredentials,
        versions: 0..=0,
        flexible: 0,
        body: layout(&[field("users", Kind::NullableArray(&Kind::Struct(&USER)))]),
    },
];

static USER: Layout = layout(&[field("name", Kind::String)]);

static QUOTA_COMPONENT: Layout = layout(&[
    field("entity_type", Kind::String),
    field("match_type", INT8),
    field("match", Kind::NullableString),
]);

static QUOTA_ENTRY: Layout = layout(&[
    field("entity", Kind::Array(&Kind::Struct(&QUOTA_ENTITY))),
    field("ops", Kind::Array(&Kind::Struct(&QUOTA_OP))),
]);

static QUOTA_ENTITY: Layout =
    layout(&[field("entity_type", Kind::String), field("entity_name", Kind::NullableString)]);

static QUOTA_OP: Layout =
    layout(&[field("key", Kind::String), field("value", FLOAT64), field("remove", BOOLEAN)]);
