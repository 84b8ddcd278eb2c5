//! The requests this client sends, each with the newest version it was written for and its response's layout.
//!
//! Produce stops at 12 and Fetch at 12, because later ones name topics by id instead of by name.

use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeLogDirsRequest, ElectLeadersRequest,
    FetchRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, ListOffsetsRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, ProduceRequest, UnregisterBrokerRequest,
};

use crate::claims::layouts::{self, Response};
use crate::connection::Api;

macro_rules! apis {
    ($($request:ty, $name:literal, $max:literal, $layout:path;)*) => {
        $(impl Api for $request {
            const NAME: &'static str = $name;
            const MAX: i16 = $max;
            const RESPONSE: &'static Response = &$layout;
        })*
    };
}

apis! {
    MetadataRequest, "Metadata", 12, layouts::METADATA;
    ProduceRequest, "Produce", 12, layouts::PRODUCE;
    FetchRequest, "Fetch", 12, layouts::FETCH;
    ListOffsetsRequest, "ListOffsets", 8, layouts::LIST_OFFSETS;
    InitProducerIdRequest, "InitProducerId", 4, layouts::INIT_PRODUCER_ID;
    CreateTopicsRequest, "CreateTopics", 7, layouts::CREATE_TOPICS;
    DeleteTopicsRequest, "DeleteTopics", 5, layouts::DELETE_TOPICS;
    DescribeConfigsRequest, "DescribeConfigs", 4, layouts::DESCRIBE_CONFIGS;
    DescribeLogDirsRequest, "DescribeLogDirs", 4, layouts::DESCRIBE_LOG_DIRS;
    DescribeClusterRequest, "DescribeCluster", 2, layouts::DESCRIBE_CLUSTER;
    AlterPartitionReassignmentsRequest, "AlterPartitionReassignments", 1, layouts::ALTER_PARTITION_REASSIGNMENTS;
    ListPartitionReassignmentsRequest, "ListPartitionReassignments", 0, layouts::LIST_PARTITION_REASSIGNMENTS;
    IncrementalAlterConfigsRequest, "IncrementalAlterConfigs", 1, layouts::INCREMENTAL_ALTER_CONFIGS;
    ElectLeadersRequest, "ElectLeaders", 2, layouts::ELECT_LEADERS;
    UnregisterBrokerRequest, "UnregisterBroker", 0, layouts::UNREGISTER_BROKER;
}
