//! The image as bytes: what group 0's log came to.
//!
//! Fields that a state stored by an earlier version lacks are as they were before there were such fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use jangbu_engine::{PartitionId, Term};
use prost::Message;
use uuid::Uuid;

use super::quotas;
use crate::configs::TopicSettings;
use crate::consensus::ReplicaId;
use crate::controller::image::{Broker, Data, Holder, Topic, TopicPartition};
use crate::proto::metadata as proto;
use crate::quotas::Table;

/// The whole image.
pub(super) fn encode(data: &Data) -> Vec<u8> {
    let partition = |p: &TopicPartition| {
        let leader = data.leader(p.group).map(|(broker, term)| (broker, term.0));
        let behind = data.behind(p.group).iter().map(|replica| replica.0).collect();
        let of = |wanted| {
            let some = data.damaged(p.group).filter(move |(_, stopped)| *stopped == wanted);
            some.map(|(replica, _)| replica.0).collect()
        };
        let (damaged, stopped) = (of(false), of(true));
        proto::Partition { behind, damaged, stopped, ..p.to_proto(leader) }
    };
    let topic = |t: &Arc<Topic>| proto::Topic {
        name: t.name.clone(),
        id: t.id.as_bytes().to_vec(),
        partitions: t.partitions.iter().map(partition).collect(),
        configs: t.configs.clone(),
    };
    let configs = |(broker, configs): (&Option<i32>, &BTreeMap<String, String>)| {
        proto::BrokerConfigs { broker: *broker, configs: configs.clone() }
    };
    let of_group = |(group, configs): (&String, &BTreeMap<String, String>)| proto::GroupConfigs {
        group: group.clone(),
        configs: configs.clone(),
    };
    proto::State {
        cluster_id: data.cluster_id.clone(),
        next_group: data.next_group,
        next_producer_id: data.next_producer_id,
        brokers: data.brokers.values().map(Broker::to_proto).collect(),
        topics: data.topics().map(topic).collect(),
        broker_configs: data.broker_configs.iter().map(configs).collect(),
        group_configs: data.group_configs.iter().map(of_group).collect(),
        last_broker: data.last_broker,
        removed: data.removed.iter().copied().collect(),
        quotas: quotas::all(&data.quotas),
    }
    .encode_to_vec()
}

/// The image that `holder` makes of stored bytes.
///
/// # Errors
/// What does not decode.
pub(super) fn decode(bytes: &[u8], holder: &Holder) -> Result<Data, String> {
    let stored = proto::State::decode(bytes).map_err(|e| e.to_string())?;
    let mut data = Data::new(holder);
    data.cluster_id = stored.cluster_id;
    data.next_group = stored.next_group;
    data.next_producer_id = stored.next_producer_id;
    data.last_broker = stored.last_broker;
    data.removed.extend(stored.removed);
    for broker in stored.brokers {
        let broker = Broker::from_proto(broker)
            .ok_or("a broker's port is out of range, or its directory id has not 16 bytes")?;
        data.last_broker = data.last_broker.max(broker.id);
        data.brokers.insert(broker.id, broker);
    }
    let mut table = Table::default();
    for quota in stored.quotas {
        quotas::set(&mut table, quota).ok_or("a client quota makes no sense")?;
    }
    data.quotas = Arc::new(table);
    for topic in stored.topics {
        insert_topic(&mut data, topic)?;
    }
    for set in stored.broker_configs {
        data.set_broker_configs(set.broker, set.configs);
    }
    for set in stored.group_configs {
        data.set_group_configs(set.group, set.configs);
    }
    Ok(data)
}

fn insert_topic(data: &mut Data, topic: proto::Topic) -> Result<(), String> {
    let id = Uuid::from_slice(&topic.id).map_err(|e| e.to_string())?;
    let told: Vec<_> = topic.partitions.clone();
    data.insert(Topic {
        name: topic.name,
        id,
        partitions: topic.partitions.into_iter().map(TopicPartition::from_proto).collect(),
        configs: topic.configs,
        settings: TopicSettings::defaults(),
    });
    for p in told {
        let (group, term) = (PartitionId(p.group), Term(p.leader_term));
        if p.leader > 0 {
            data.set_leader(group, p.leader, term);
        }
        let behind: Vec<_> = p.behind.into_iter().map(ReplicaId).collect();
        data.set_behind(group, term, &behind);
        for (replicas, stopped) in [(p.damaged, false), (p.stopped, true)] {
            replicas.into_iter().for_each(|id| data.set_damaged(group, ReplicaId(id), stopped));
        }
    }
    Ok(())
}
