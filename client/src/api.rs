//! The requests this client sends, each with the newest version it was written for.
//!
//! Produce stops at 12 and Fetch at 12, because later ones name topics by id instead of by name.

use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeLogDirsRequest, ElectLeadersRequest,
    FetchRequest, InitProducerIdRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest,
    MetadataRequest, ProduceRequest, UnregisterBrokerRequest,
};

use crate::connection::Api;

macro_rules! apis {
    ($($request:ty, $name:literal, $max:literal;)*) => {
        $(impl Api for $request {
            const NAME: &'static str = $name;
            const MAX: i16 = $max;
        })*
    };
}

apis! {
    MetadataRequest, "Metadata", 12;
    ProduceRequest, "Produce", 12;
    FetchRequest, "Fetch", 12;
    ListOffsetsRequest, "ListOffsets", 8;
    InitProducerIdRequest, "InitProducerId", 4;
    CreateTopicsRequest, "CreateTopics", 7;
    DeleteTopicsRequest, "DeleteTopics", 5;
    DescribeConfigsRequest, "DescribeConfigs", 4;
    DescribeLogDirsRequest, "DescribeLogDirs", 4;
    DescribeClusterRequest, "DescribeCluster", 1;
    AlterPartitionReassignmentsRequest, "AlterPartitionReassignments", 1;
    ListPartitionReassignmentsRequest, "ListPartitionReassignments", 0;
    ElectLeadersRequest, "ElectLeaders", 2;
    UnregisterBrokerRequest, "UnregisterBroker", 0;
}
