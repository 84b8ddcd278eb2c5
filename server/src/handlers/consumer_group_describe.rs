//! ConsumerGroupDescribe (69), versions 0 and 1: groups of the consumer protocol, their members, what each has and shall have.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment as ToldAssignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId, TopicName,
};

use super::groups::{GROUP_OPERATIONS, shard, text};
use crate::broker::Broker;
use crate::dispatch::Call;
use crate::groups::consumer::group::Group;
use crate::groups::consumer::member::Member;
use crate::groups::consumer::{Assignment, Catalog, Refusal};

/// A member's protocol is told from this version on.
const VERSION_MEMBER_TYPE: i16 = 1;

pub(crate) async fn handle(
    broker: &Broker,
    call: &Call,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let operations = request.include_authorized_operations;
    let describe = |group: GroupId| {
        let described = match describe(broker, call.version, group.as_str()) {
            Ok(described) if operations => described.with_authorized_operations(GROUP_OPERATIONS),
            Ok(described) => described,
            Err(refusal) => DescribedGroup::default()
                .with_error_code(refusal.code.code())
                .with_error_message(Some(text(refusal.message))),
        };
        described.with_group_id(group)
    };
    ConsumerGroupDescribeResponse::default()
        .with_groups(request.group_ids.into_iter().map(describe).collect())
}

fn describe(broker: &Broker, version: i16, id: &str) -> Result<DescribedGroup, Refusal> {
    let shard = shard(broker, id)?;
    shard.act(|ask| {
        let not_found = |text| Refusal::new(ResponseError::GroupIdNotFound, text);
        let group = match (ask.machine.consumer(id), ask.machine.get(id)) {
            (Some(group), _) => group,
            (None, Some(_)) => {
                return Err(not_found(format!("Group {id} is not a consumer group.")));
            }
            (None, None) => return Err(not_found(format!("Group {id} not found."))),
        };
        let topics = ask.machine.catalog();
        let members = group.members.values().map(|m| member(group, m, topics, version));
        Ok(DescribedGroup::default()
            .with_group_state(text(group.state().name()))
            .with_group_epoch(group.epoch)
            .with_assignment_epoch(group.target_epoch)
            .with_assignor_name(text(group.assignor_name(&ask.limits.consumer)))
            .with_members(members.collect()))
    })?
}

fn member(group: &Group, member: &Member, topics: &Catalog, version: i16) -> DescribedMember {
    let says = &member.says;
    let names = says.topics.iter().map(|name| TopicName(text(name.as_str()))).collect();
    let target = group.targets.get(&member.id).cloned().unwrap_or_default();
    let described = DescribedMember::default()
        .with_member_id(text(member.id.as_str()))
        .with_instance_id(says.instance.as_deref().map(text))
        .with_rack_id(says.rack.as_deref().map(text))
        .with_member_epoch(member.current.epoch)
        .with_client_id(text(says.client_id.as_str()))
        .with_client_host(text(says.client_host.as_str()))
        .with_subscribed_topic_names(names)
        .with_subscribed_topic_regex(says.regex.as_deref().map(text))
        .with_assignment(told(&member.assignment(), topics))
        .with_target_assignment(told(&target, topics));
    match version {
        VERSION_MEMBER_TYPE.. => described.with_member_type(i8::from(!member.is_classic())),
        _ => described,
    }
}

/// Partitions by topic, without topics that are no more.
fn told(assignment: &Assignment, topics: &Catalog) -> ToldAssignment {
    let topic = |(id, parts): (&uuid::Uuid, &std::collections::BTreeSet<i32>)| {
        let name = topics.name(*id)?;
        Some(
            TopicPartitions::default()
                .with_topic_id(*id)
                .with_topic_name(TopicName(text(name)))
                .with_partitions(parts.iter().copied().collect()),
        )
    };
    ToldAssignment::default().with_topic_partitions(assignment.iter().filter_map(topic).collect())
}
