//! DescribeQuorum (55), versions 0 to 2: who votes in the metadata group, who leads it, and how far each member is
//! (KIP-595, KIP-836, KIP-853).
//!
//! Offsets are Raft indexes of the group's log. A follower has caught up when its log is as long as the leader's; since when
//! it has not is not known, which Kafka writes as -1.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::broker::{Broker, now_ms};
use crate::dispatch::Call;
use crate::partition::epoch_of;
use crate::proto::peer::QuorumState;
use crate::proto::peer::quorum_state::Member;

/// The name under which Kafka's tools ask for it.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// What the listener for other nodes is called.
const LISTENER: &str = "PEER";
const UNKNOWN: i64 = -1;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    if !is_metadata(&request) {
        return unknown(request);
    }
    let Some(state) = broker.controller.quorum().await else {
        let message = "no leader of the metadata group answers";
        let refused = DescribeQuorumResponse::default()
            .with_error_code(ResponseError::RequestTimedOut.code());
        return if call.version >= 2 {
            refused.with_error_message(Some(StrBytes::from_static_str(message)))
        } else {
            refused
        };
    };
    let partition = partition(broker, call.version, &state);
    let topic = TopicData::default()
        .with_topic_name(StrBytes::from_static_str(METADATA_TOPIC).into())
        .with_partitions(vec![partition]);
    let response = DescribeQuorumResponse::default().with_topics(vec![topic]);
    if call.version >= 2 { response.with_nodes(nodes(broker, &state)) } else { response }
}

/// Whether it asks for the one partition there is.
fn is_metadata(request: &DescribeQuorumRequest) -> bool {
    let [topic] = request.topics.as_slice() else { return false };
    let [partition] = topic.partitions.as_slice() else { return false };
    topic.topic_name.as_str() == METADATA_TOPIC && partition.partition_index == 0
}

fn unknown(request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partition =
            |asked: kafka_protocol::messages::describe_quorum_request::PartitionData| {
                PartitionData::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(ResponseError::UnknownTopicOrPartition.code())
            };
        TopicData::default()
            .with_topic_name(topic.topic_name)
            .with_partitions(topic.partitions.into_iter().map(partition).collect())
    });
    DescribeQuorumResponse::default().with_topics(topics.collect())
}

fn partition(broker: &Broker, version: i16, state: &QuorumState) -> PartitionData {
    let leader = state.members.iter().find(|member| member.broker == state.leader);
    let leader_end = leader.map_or(0, |member| member.end);
    let now = now_ms();
    let replica = |member: &Member| {
        let answered = member.answered_ms.map(|ago| now.saturating_sub_unsigned(ago));
        let level = member.end == leader_end;
        let known = ReplicaState::default()
            .with_replica_id(member.broker.into())
            .with_log_end_offset(offset(member.end));
        let known = match version {
            0 => known,
            _ => known
                .with_last_fetch_timestamp(answered.unwrap_or(UNKNOWN))
                .with_last_caught_up_timestamp(answered.filter(|_| level).unwrap_or(UNKNOWN)),
        };
        if version >= 2 {
            known.with_replica_directory_id(directory(broker, member))
        } else {
            known
        }
    };
    let of = |voters: bool| {
        state.members.iter().filter(|member| member.voter == voters).map(replica).collect()
    };
    PartitionData::default()
        .with_leader_id(state.leader.into())
        .with_leader_epoch(epoch_of(jangbu_engine::Term(state.term)))
        .with_high_watermark(offset(state.committed))
        .with_current_voters(of(true))
        .with_observers(of(false))
}

fn offset(end: u64) -> i64 {
    i64::try_from(end).unwrap_or(i64::MAX)
}

fn directory(broker: &Broker, member: &Member) -> Uuid {
    let image = broker.controller.image();
    image.brokers.get(&member.broker).map_or(Uuid::nil(), |b| Uuid::from_bytes(b.directory))
}

/// Where the voters listen for other nodes.
fn nodes(broker: &Broker, state: &QuorumState) -> Vec<Node> {
    let image = broker.controller.image();
    let node = |member: &Member| {
        let address = image.brokers.get(&member.broker).and_then(|b| b.peer.rsplit_once(':'));
        let listener = address.and_then(|(host, port)| {
            let listener = Listener::default()
                .with_name(StrBytes::from_static_str(LISTENER))
                .with_host(StrBytes::from_string(host.to_owned()))
                .with_port(port.parse().ok()?);
            Some(listener)
        });
        Node::default()
            .with_node_id(member.broker.into())
            .with_listeners(listener.into_iter().collect())
    };
    state.members.iter().filter(|member| member.voter).map(node).collect()
}
