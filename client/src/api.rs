//! The requests this client sends, each with the newest version it was written for and its response's layout.
//!
//! Produce stops at 12 and Fetch at 12, because later ones name topics by id instead of by name. FindCoordinator stops at 3
//! and OffsetFetch at 7, because later ones ask about several groups at a time.

use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, ConsumerGroupDescribeRequest,
    ConsumerGroupHeartbeatRequest, CreateTopicsRequest, DeleteGroupsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    ElectLeadersRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, ProduceRequest, SyncGroupRequest,
    UnregisterBrokerRequest,
};

use crate::claims::layouts::{self, Response, groups, members};
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
    FindCoordinatorRequest, "FindCoordinator", 3, groups::FIND_COORDINATOR;
    ListGroupsRequest, "ListGroups", 5, groups::LIST_GROUPS;
    DescribeGroupsRequest, "DescribeGroups", 6, groups::DESCRIBE_GROUPS;
    ConsumerGroupDescribeRequest, "ConsumerGroupDescribe", 1, groups::CONSUMER_GROUP_DESCRIBE;
    DeleteGroupsRequest, "DeleteGroups", 2, groups::DELETE_GROUPS;
    OffsetFetchRequest, "OffsetFetch", 7, groups::OFFSET_FETCH;
    OffsetCommitRequest, "OffsetCommit", 9, groups::OFFSET_COMMIT;
    OffsetDeleteRequest, "OffsetDelete", 0, groups::OFFSET_DELETE;
    JoinGroupRequest, "JoinGroup", 9, members::JOIN_GROUP;
    SyncGroupRequest, "SyncGroup", 5, members::SYNC_GROUP;
    HeartbeatRequest, "Heartbeat", 4, members::HEARTBEAT;
    LeaveGroupRequest, "LeaveGroup", 5, members::LEAVE_GROUP;
    ConsumerGroupHeartbeatRequest, "ConsumerGroupHeartbeat", 1, members::CONSUMER_GROUP_HEARTBEAT;
}
