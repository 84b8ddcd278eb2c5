//! Requests about consumer groups.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest,
    DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    SyncGroupRequest, TopicName,
};

use super::{Sample, encode, text, topic};

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

impl Sample {
    pub(super) fn consumer_group_heartbeat(&self) -> Vec<Bytes> {
        let owned = TopicPartitions::default()
            .with_topic_id(uuid::Uuid::from_u128(7))
            .with_partitions(vec![0, 5])
            .with_unknown_tagged_fields(self.tags(0));
        let full = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group("gruppe"))
            .with_member_id(text("mitglied"))
            .with_member_epoch(4)
            .with_instance_id(Some(text("i")))
            .with_rack_id(Some(text("r")))
            .with_rebalance_timeout_ms(9)
            .with_subscribed_topic_names(Some(vec![topic("eins"), topic("zwei")]))
            .with_subscribed_topic_regex(self.since(1, Some(text("e.*")), None))
            .with_server_assignor(Some(text("uniform")))
            .with_topic_partitions(Some(vec![owned]))
            .with_unknown_tagged_fields(self.tags(0));
        let nothing = ConsumerGroupHeartbeatRequest::default();
        vec![encode(&full, self.version), encode(&nothing, self.version)]
    }

    pub(super) fn consumer_group_describe(&self) -> Vec<Bytes> {
        let full = ConsumerGroupDescribeRequest::default()
            .with_group_ids(vec![group("eins"), group("zwei")])
            .with_include_authorized_operations(true)
            .with_unknown_tagged_fields(self.tags(0));
        vec![encode(&full, self.version)]
    }

    /// A topic's name, which version 10 takes for an id: so many bytes and the length before them are one.
    fn name_or_id(&self) -> TopicName {
        topic(if self.version < 10 { "eins" } else { "fifteen bytes!!" })
    }

    pub(super) fn offset_commit(&self) -> Vec<Bytes> {
        if self.version == 1 {
            return vec![offset_commit_v1()];
        }
        let version = self.version.min(9);
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(3)
            .with_committed_offset(1 << 40)
            .with_committed_leader_epoch(self.since(6, 4, -1))
            .with_committed_metadata(Some(text("bis hier")))
            .with_unknown_tagged_fields(self.tags(8));
        let nothing = partition.clone().with_committed_metadata(None);
        let named = OffsetCommitRequestTopic::default()
            .with_name(self.name_or_id())
            .with_partitions(vec![partition, nothing])
            .with_unknown_tagged_fields(self.tags(8));
        let empty = OffsetCommitRequestTopic::default().with_name(self.name_or_id());
        let mut full = OffsetCommitRequest::default()
            .with_group_id(group("gruppe"))
            .with_generation_id_or_member_epoch(2)
            .with_member_id(text("mitglied"))
            .with_group_instance_id(self.since(7, Some(text("i")), None))
            .with_topics(vec![named, empty])
            .with_unknown_tagged_fields(self.tags(8));
        if self.version <= 4 {
            full.retention_time_ms = 9;
        }
        vec![encode(&full, version), encode(&OffsetCommitRequest::default(), version)]
    }

    pub(super) fn offset_fetch(&self) -> Vec<Bytes> {
        if self.version >= 8 {
            return self.offset_fetch_of_groups();
        }
        let named = OffsetFetchRequestTopic::default()
            .with_name(topic("eins"))
            .with_partition_indexes(vec![0, 7])
            .with_unknown_tagged_fields(self.tags(6));
        let full = OffsetFetchRequest::default()
            .with_group_id(group("gruppe"))
            .with_topics(Some(vec![named, OffsetFetchRequestTopic::default()]))
            .with_require_stable(self.since(7, true, false))
            .with_unknown_tagged_fields(self.tags(6));
        let mut bodies = vec![encode(&full, self.version)];
        if self.version >= 2 {
            bodies.push(encode(&full.with_topics(None), self.version));
        }
        bodies
    }

    fn offset_fetch_of_groups(&self) -> Vec<Bytes> {
        let version = self.version.min(9);
        let named = OffsetFetchRequestTopics::default()
            .with_name(self.name_or_id())
            .with_partition_indexes(vec![0, 7])
            .with_unknown_tagged_fields(self.tags(6));
        let empty = OffsetFetchRequestTopics::default().with_name(self.name_or_id());
        let some = OffsetFetchRequestGroup::default()
            .with_group_id(group("gruppe"))
            .with_member_id(self.since(9, Some(text("m")), None))
            .with_member_epoch(self.since(9, 3, -1))
            .with_topics(Some(vec![named, empty]))
            .with_unknown_tagged_fields(self.tags(6));
        let all = OffsetFetchRequestGroup::default().with_topics(None);
        let full = OffsetFetchRequest::default()
            .with_groups(vec![some, all])
            .with_require_stable(true)
            .with_unknown_tagged_fields(self.tags(6));
        vec![encode(&full, version), encode(&OffsetFetchRequest::default(), version)]
    }

    pub(super) fn join_group(&self) -> Vec<Bytes> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(b"\0\x01abc"))
            .with_unknown_tagged_fields(self.tags(6));
        let full = JoinGroupRequest::default()
            .with_group_id(group("gruppe"))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(self.since(1, 60_000, -1))
            .with_member_id(text("mitglied"))
            .with_group_instance_id(self.since(5, Some(text("i")), None))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol, JoinGroupRequestProtocol::default()])
            .with_reason(self.since(8, Some(text("darum")), None))
            .with_unknown_tagged_fields(self.tags(6));
        vec![encode(&full, self.version), encode(&JoinGroupRequest::default(), self.version)]
    }

    pub(super) fn sync_group(&self) -> Vec<Bytes> {
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(text("mitglied"))
            .with_assignment(Bytes::from_static(b"alles"))
            .with_unknown_tagged_fields(self.tags(4));
        let full = SyncGroupRequest::default()
            .with_group_id(group("gruppe"))
            .with_generation_id(2)
            .with_member_id(text("mitglied"))
            .with_group_instance_id(self.since(3, Some(text("i")), None))
            .with_protocol_type(self.since(5, Some(text("consumer")), None))
            .with_protocol_name(self.since(5, Some(text("range")), None))
            .with_assignments(vec![assignment, SyncGroupRequestAssignment::default()])
            .with_unknown_tagged_fields(self.tags(4));
        vec![encode(&full, self.version), encode(&SyncGroupRequest::default(), self.version)]
    }

    pub(super) fn heartbeat(&self) -> Vec<Bytes> {
        let full = HeartbeatRequest::default()
            .with_group_id(group("gruppe"))
            .with_generation_id(2)
            .with_member_id(text("mitglied"))
            .with_group_instance_id(self.since(3, Some(text("i")), None))
            .with_unknown_tagged_fields(self.tags(4));
        vec![encode(&full, self.version), encode(&HeartbeatRequest::default(), self.version)]
    }

    pub(super) fn leave_group(&self) -> Vec<Bytes> {
        let request = LeaveGroupRequest::default()
            .with_group_id(group("gruppe"))
            .with_unknown_tagged_fields(self.tags(4));
        let full = match self.version {
            3.. => {
                let member = MemberIdentity::default()
                    .with_member_id(text("mitglied"))
                    .with_group_instance_id(Some(text("i")))
                    .with_reason(self.since(5, Some(text("darum")), None))
                    .with_unknown_tagged_fields(self.tags(4));
                request.with_members(vec![member, MemberIdentity::default()])
            }
            _ => request.with_member_id(text("mitglied")),
        };
        vec![encode(&full, self.version), encode(&LeaveGroupRequest::default(), self.version)]
    }

    pub(super) fn describe_groups(&self) -> Vec<Bytes> {
        let full = DescribeGroupsRequest::default()
            .with_groups(vec![group("eins"), group("")])
            .with_include_authorized_operations(self.since(3, true, false))
            .with_unknown_tagged_fields(self.tags(5));
        vec![encode(&full, self.version), encode(&DescribeGroupsRequest::default(), self.version)]
    }

    pub(super) fn list_groups(&self) -> Vec<Bytes> {
        let full = ListGroupsRequest::default()
            .with_states_filter(self.since(4, vec![text("Stable"), text("")], vec![]))
            .with_types_filter(self.since(5, vec![text("classic")], vec![]))
            .with_unknown_tagged_fields(self.tags(3));
        vec![encode(&full, self.version), encode(&ListGroupsRequest::default(), self.version)]
    }

    pub(super) fn delete_groups(&self) -> Vec<Bytes> {
        let full = DeleteGroupsRequest::default()
            .with_groups_names(vec![group("eins"), group("")])
            .with_unknown_tagged_fields(self.tags(2));
        vec![encode(&full, self.version), encode(&DeleteGroupsRequest::default(), self.version)]
    }

    pub(super) fn offset_delete(&self) -> Vec<Bytes> {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(3);
        let named = OffsetDeleteRequestTopic::default()
            .with_name(topic("eins"))
            .with_partitions(vec![partition.clone(), partition]);
        let full = OffsetDeleteRequest::default()
            .with_group_id(group("gruppe"))
            .with_topics(vec![named, OffsetDeleteRequestTopic::default()]);
        vec![encode(&full, self.version), encode(&OffsetDeleteRequest::default(), self.version)]
    }
}

fn offset_commit_v1() -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(b"\0\x06gruppe\0\0\0\x02\0\x08mitglied");
    body.put_i32(2);
    body.put_slice(b"\0\x04eins");
    body.put_i32(2);
    for metadata in [&b"\0\x08bis hier"[..], b"\xff\xff"] {
        body.put_i32(3);
        body.put_i64(1 << 40);
        body.put_i64(1_000);
        body.put_slice(metadata);
    }
    body.put_slice(b"\0\0");
    body.put_i32(0);
    body.freeze()
}
