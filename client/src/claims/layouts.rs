//! The layout of every response that this client reads, a line a field, up to the newest version it asks for.
//!
//! Source: Kafka's message definitions, and what kafka-protocol's decoders read.
//!
//! Not here: those about groups (`layouts/groups.rs`) and of what their members ask (`layouts/members.rs`).

pub(crate) mod groups;
pub(crate) mod members;

/// What stands in a field.
#[derive(Debug)]
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(usize),
    Text,
    /// An array of texts.
    Texts,
    /// Bytes of records.
    Records,
    /// An array of numbers of so many bytes.
    Numbers(usize),
    /// An array of structures.
    Array(&'static Layout),
    Struct(&'static Layout),
    /// A byte that is 1 before a structure, and anything else where there is none.
    Option(&'static Layout),
}

const BOOLEAN: Kind = Kind::Fixed(1);
const INT8: Kind = Kind::Fixed(1);
const INT16: Kind = Kind::Fixed(2);
const INT32: Kind = Kind::Fixed(4);
const INT64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);

/// A field and the versions that have it.
#[derive(Debug)]
pub(crate) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    first: i16,
    last: i16,
}

impl Field {
    /// The field is there from this version on.
    const fn since(mut self, version: i16) -> Self {
        self.first = version;
        self
    }

    /// The field is there up to and with this version.
    const fn until(mut self, version: i16) -> Self {
        self.last = version;
        self
    }

    pub(super) fn exists(&self, version: i16) -> bool {
        (self.first..=self.last).contains(&version)
    }
}

/// A structure's fields in the order in which they are written, and the tagged ones that kafka-protocol knows.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(super) fields: &'static [Field],
    pub(super) tagged: &'static [(u32, Field)],
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Response {
    /// The first flexible version.
    pub(super) flexible: i16,
    /// Whether the header of a flexible version is flexible, too; that of ApiVersions never is (KIP-511).
    pub(super) tagged_header: bool,
    pub(super) body: Layout,
}

impl Response {
    pub(super) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }
}

/// A field of every version.
const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, first: 0, last: i16::MAX }
}

/// A structure of which no tagged field is known.
const fn layout(fields: &'static [Field]) -> Layout {
    Layout { fields, tagged: &[] }
}

const fn response(flexible: i16, fields: &'static [Field]) -> Response {
    Response { flexible, tagged_header: true, body: layout(fields) }
}

pub(crate) static API_VERSIONS: Response = Response {
    flexible: 3,
    tagged_header: false,
    body: Layout {
        fields: &[
            field("error_code", INT16),
            field("api_keys", Kind::Array(&VERSION_RANGE)),
            field("throttle_time_ms", INT32).since(1),
        ],
        tagged: &[
            (0, field("supported_features", Kind::Array(&FEATURE))),
            (1, field("finalized_features_epoch", INT64)),
            (2, field("finalized_features", Kind::Array(&FEATURE))),
            (3, field("zk_migration_ready", BOOLEAN)),
        ],
    },
};

static VERSION_RANGE: Layout =
    layout(&[field("api_key", INT16), field("min_version", INT16), field("max_version", INT16)]);

static FEATURE: Layout = layout(&[
    field("name", Kind::Text),
    field("one_version", INT16),
    field("other_version", INT16),
]);

pub(crate) static METADATA: Response = response(
    9,
    &[
        field("throttle_time_ms", INT32).since(3),
        field("brokers", Kind::Array(&BROKER)),
        field("cluster_id", Kind::Text).since(2),
        field("controller_id", INT32).since(1),
        field("topics", Kind::Array(&METADATA_TOPIC)),
        field("cluster_authorized_operations", INT32).since(8).until(10),
    ],
);

static BROKER: Layout = layout(&[
    field("node_id", INT32),
    field("host", Kind::Text),
    field("port", INT32),
    field("rack", Kind::Text).since(1),
]);

static METADATA_TOPIC: Layout = layout(&[
    field("error_code", INT16),
    field("name", Kind::Text),
    field("topic_id", UUID).since(10),
    field("is_internal", BOOLEAN).since(1),
    field("partitions", Kind::Array(&METADATA_PARTITION)),
    field("topic_authorized_operations", INT32).since(8),
]);

static METADATA_PARTITION: Layout = layout(&[
    field("error_code", INT16),
    field("partition_index", INT32),
    field("leader_id", INT32),
    field("leader_epoch", INT32).since(7),
    field("replica_nodes", Kind::Numbers(4)),
    field("isr_nodes", Kind::Numbers(4)),
    field("offline_replicas", Kind::Numbers(4)).since(5),
]);

pub(crate) static PRODUCE: Response = Response {
    flexible: 9,
    tagged_header: true,
    body: Layout {
        fields: &[
            field("responses", Kind::Array(&PRODUCED_TOPIC)),
            field("throttle_time_ms", INT32),
        ],
        tagged: &[(0, field("node_endpoints", Kind::Array(&ENDPOINT)).since(10))],
    },
};

static PRODUCED_TOPIC: Layout = layout(&[
    field("name", Kind::Text),
    field("partition_responses", Kind::Array(&PRODUCED_PARTITION)),
]);

static PRODUCED_PARTITION: Layout = Layout {
    fields: &[
        field("index", INT32),
        field("error_code", INT16),
        field("base_offset", INT64),
        field("log_append_time_ms", INT64),
        field("log_start_offset", INT64).since(5),
        field("record_errors", Kind::Array(&RECORD_ERROR)).since(8),
        field("error_message", Kind::Text).since(8),
    ],
    tagged: &[(0, field("current_leader", Kind::Struct(&LEADER)).since(10))],
};

static RECORD_ERROR: Layout =
    layout(&[field("batch_index", INT32), field("batch_index_error_message", Kind::Text)]);

static LEADER: Layout = layout(&[field("leader_id", INT32), field("leader_epoch", INT32)]);

static ENDPOINT: Layout = layout(&[
    field("node_id", INT32),
    field("host", Kind::Text),
    field("port", INT32),
    field("rack", Kind::Text),
]);

pub(crate) static FETCH: Response = response(
    12,
    &[
        field("throttle_time_ms", INT32),
        field("error_code", INT16).since(7),
        field("session_id", INT32).since(7),
        field("responses", Kind::Array(&FETCHED_TOPIC)),
    ],
);

static FETCHED_TOPIC: Layout =
    layout(&[field("topic", Kind::Text), field("partitions", Kind::Array(&FETCHED_PARTITION))]);

static FETCHED_PARTITION: Layout = Layout {
    fields: &[
        field("partition_index", INT32),
        field("error_code", INT16),
        field("high_watermark", INT64),
        field("last_stable_offset", INT64),
        field("log_start_offset", INT64).since(5),
        field("aborted_transactions", Kind::Array(&ABORTED)),
        field("preferred_read_replica", INT32).since(11),
        field("records", Kind::Records),
    ],
    tagged: &[
        (0, field("diverging_epoch", Kind::Struct(&EPOCH_END))),
        (1, field("current_leader", Kind::Struct(&LEADER))),
        (2, field("snapshot_id", Kind::Struct(&SNAPSHOT))),
    ],
};

static ABORTED: Layout = layout(&[field("producer_id", INT64), field("first_offset", INT64)]);
static EPOCH_END: Layout = layout(&[field("epoch", INT32), field("end_offset", INT64)]);
static SNAPSHOT: Layout = layout(&[field("end_offset", INT64), field("epoch", INT32)]);

pub(crate) static LIST_OFFSETS: Response = response(
    6,
    &[field("throttle_time_ms", INT32).since(2), field("topics", Kind::Array(&LISTED_TOPIC))],
);

static LISTED_TOPIC: Layout =
    layout(&[field("name", Kind::Text), field("partitions", Kind::Array(&LISTED_PARTITION))]);

static LISTED_PARTITION: Layout = layout(&[
    field("partition_index", INT32),
    field("error_code", INT16),
    field("timestamp", INT64),
    field("offset", INT64),
    field("leader_epoch", INT32).since(4),
]);

pub(crate) static INIT_PRODUCER_ID: Response = response(
    2,
    &[
        field("throttle_time_ms", INT32),
        field("error_code", INT16),
        field("producer_id", INT64),
        field("producer_epoch", INT16),
    ],
);

pub(crate) static CREATE_TOPICS: Response =
    response(5, &[field("throttle_time_ms", INT32), field("topics", Kind::Array(&CREATED_TOPIC))]);

static CREATED_TOPIC: Layout = Layout {
    fields: &[
        field("name", Kind::Text),
        field("topic_id", UUID).since(7),
        field("error_code", INT16),
        field("error_message", Kind::Text),
        field("num_partitions", INT32).since(5),
        field("replication_factor", INT16).since(5),
        field("configs", Kind::Array(&CREATED_CONFIG)).since(5),
    ],
    tagged: &[(0, field("topic_config_error_code", INT16))],
};

static CREATED_CONFIG: Layout = layout(&[
    field("name", Kind::Text),
    field("value", Kind::Text),
    field("read_only", BOOLEAN),
    field("config_source", INT8),
    field("is_sensitive", BOOLEAN),
]);

pub(crate) static DELETE_TOPICS: Response = response(
    4,
    &[field("throttle_time_ms", INT32), field("responses", Kind::Array(&DELETED_TOPIC))],
);

static DELETED_TOPIC: Layout = layout(&[
    field("name", Kind::Text),
    field("error_code", INT16),
    field("error_message", Kind::Text).since(5),
]);

pub(crate) static DESCRIBE_CONFIGS: Response =
    response(4, &[field("throttle_time_ms", INT32), field("results", Kind::Array(&CONFIGURED))]);

static CONFIGURED: Layout = layout(&[
    field("error_code", INT16),
    field("error_message", Kind::Text),
    field("resource_type", INT8),
    field("resource_name", Kind::Text),
    field("configs", Kind::Array(&CONFIG)),
]);

static CONFIG: Layout = layout(&[
    field("name", Kind::Text),
    field("value", Kind::Text),
    field("read_only", BOOLEAN),
    field("config_source", INT8),
    field("is_sensitive", BOOLEAN),
    field("synonyms", Kind::Array(&SYNONYM)),
    field("config_type", INT8).since(3),
    field("documentation", Kind::Text).since(3),
]);

static SYNONYM: Layout =
    layout(&[field("name", Kind::Text), field("value", Kind::Text), field("source", INT8)]);

pub(crate) static DESCRIBE_LOG_DIRS: Response = response(
    2,
    &[
        field("throttle_time_ms", INT32),
        field("error_code", INT16).since(3),
        field("results", Kind::Array(&LOG_DIR)),
    ],
);

static LOG_DIR: Layout = layout(&[
    field("error_code", INT16),
    field("log_dir", Kind::Text),
    field("topics", Kind::Array(&LOG_DIR_TOPIC)),
    field("total_bytes", INT64).since(4),
    field("usable_bytes", INT64).since(4),
]);

static LOG_DIR_TOPIC: Layout =
    layout(&[field("name", Kind::Text), field("partitions", Kind::Array(&LOG_DIR_PARTITION))]);

static LOG_DIR_PARTITION: Layout = layout(&[
    field("partition_index", INT32),
    field("partition_size", INT64),
    field("offset_lag", INT64),
    field("is_future_key", BOOLEAN),
]);

pub(crate) static DESCRIBE_CLUSTER: Response = response(
    0,
    &[
        field("throttle_time_ms", INT32),
        field("error_code", INT16),
        field("error_message", Kind::Text),
        field("endpoint_type", INT8).since(1),
        field("cluster_id", Kind::Text),
        field("controller_id", INT32),
        field("brokers", Kind::Array(&CLUSTER_BROKER)),
        field("cluster_authorized_operations", INT32),
    ],
);

static CLUSTER_BROKER: Layout = layout(&[
    field("broker_id", INT32),
    field("host", Kind::Text),
    field("port", INT32),
    field("rack", Kind::Text),
    field("is_fenced", BOOLEAN).since(2),
]);

pub(crate) static INCREMENTAL_ALTER_CONFIGS: Response =
    response(1, &[field("throttle_time_ms", INT32), field("responses", Kind::Array(&ALTERED))]);

static ALTERED: Layout = layout(&[
    field("error_code", INT16),
    field("error_message", Kind::Text),
    field("resource_type", INT8),
    field("resource_name", Kind::Text),
]);

pub(crate) static ALTER_PARTITION_REASSIGNMENTS: Response = response(
    0,
    &[
        field("throttle_time_ms", INT32),
        field("allow_replication_factor_change", BOOLEAN).since(1),
        field("error_code", INT16),
        field("error_message", Kind::Text),
        field("responses", Kind::Array(&REASSIGNED_TOPIC)),
    ],
);

static REASSIGNED_TOPIC: Layout =
    layout(&[field("name", Kind::Text), field("partitions", Kind::Array(&PARTITION_RESULT))]);

static PARTITION_RESULT: Layout = layout(&[
    field("partition_index", INT32),
    field("error_code", INT16),
    field("error_message", Kind::Text),
]);

pub(crate) static LIST_PARTITION_REASSIGNMENTS: Response = response(
    0,
    &[
        field("throttle_time_ms", INT32),
        field("error_code", INT16),
        field("error_message", Kind::Text),
        field("topics", Kind::Array(&MOVING_TOPIC)),
    ],
);

static MOVING_TOPIC: Layout =
    layout(&[field("name", Kind::Text), field("partitions", Kind::Array(&MOVING_PARTITION))]);

static MOVING_PARTITION: Layout = layout(&[
    field("partition_index", INT32),
    field("replicas", Kind::Numbers(4)),
    field("adding_replicas", Kind::Numbers(4)),
    field("removing_replicas", Kind::Numbers(4)),
]);

pub(crate) static ELECT_LEADERS: Response = response(
    2,
    &[
        field("throttle_time_ms", INT32),
        field("error_code", INT16).since(1),
        field("replica_election_results", Kind::Array(&ELECTED_TOPIC)),
    ],
);

static ELECTED_TOPIC: Layout = layout(&[
    field("topic", Kind::Text),
    field("partition_result", Kind::Array(&PARTITION_RESULT)),
]);

pub(crate) static UNREGISTER_BROKER: Response = response(
    0,
    &[
        field("throttle_time_ms", INT32),
        field("error_code", INT16),
        field("error_message", Kind::Text),
    ],
);
