//! Group 0's state machine: commands in, image out. Deterministic, no clock, no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use jangbu_engine::{Offset, PartitionId};
use prost::Message;
use uuid::Uuid;

use super::image::{Broker, Data, Holder, SharedImage, Topic, TopicPartition};
use crate::configs::TopicSettings;
use crate::consensus::{Committed, StateMachine};
use crate::proto::metadata::{self as proto, command::Command, outcome};

/// Builds the image that it shares with the rest of the node.
#[derive(Debug)]
pub(crate) struct MetadataMachine {
    image: Arc<SharedImage>,
    holder: Holder,
}

impl MetadataMachine {
    pub(crate) fn new(image: Arc<SharedImage>, holder: Holder) -> Self {
        Self { image, holder }
    }
}

impl StateMachine for MetadataMachine {
    fn apply(&mut self, entry: &Committed) -> Bytes {
        let command = proto::Command::decode(entry.payload.clone()).ok().and_then(|c| c.command);
        let outcome = match command {
            Some(command) => self.image.update(|data| apply(data, command)),
            None => refuse(outcome::Error::Stale),
        };
        outcome.encode_to_vec().into()
    }

    fn checkpoint(&self) -> Bytes {
        encode(&self.image.read()).into()
    }

    fn restore(&mut self, checkpoint: &[u8], _next_offset: Offset) -> Result<(), String> {
        let data = decode(checkpoint, &self.holder)?;
        self.image.update(|image| *image = data);
        Ok(())
    }
}

fn refuse(error: outcome::Error) -> proto::Outcome {
    proto::Outcome { error: error.into(), ..proto::Outcome::default() }
}

fn apply(data: &mut Data, command: Command) -> proto::Outcome {
    let result = match command {
        Command::InitCluster(c) => {
            if data.cluster_id.is_empty() {
                data.cluster_id = c.cluster_id;
            }
            Ok(())
        }
        Command::RegisterBroker(c) => {
            if let Some(broker) = c.broker.and_then(Broker::from_proto) {
                data.brokers.insert(broker.id, broker);
            }
            Ok(())
        }
        Command::CreateTopic(c) => create_topic(data, c),
        Command::DeleteTopic(c) => delete_topic(data, &c),
        Command::CreatePartitions(c) => create_partitions(data, c),
        Command::SetTopicConfigs(c) => set_topic_configs(data, c),
        Command::SetBrokerConfigs(c) => set_broker_configs(data, c),
        Command::AllocateProducerIds(c) => {
            return allocate_producer_ids(data, c.count);
        }
    };
    result.map_or_else(refuse, |()| proto::Outcome::default())
}

fn create_topic(data: &mut Data, command: proto::CreateTopic) -> Result<(), outcome::Error> {
    if data.topic(&command.name).is_some() {
        return Err(outcome::Error::TopicExists);
    }
    let id = Uuid::from_slice(&command.id).map_err(|_| outcome::Error::Stale)?;
    let partitions = allocate_groups(data, command.partitions)?;
    data.insert(Topic {
        name: command.name,
        id,
        partitions,
        configs: command.configs,
        settings: TopicSettings::defaults(),
    });
    Ok(())
}

fn delete_topic(data: &mut Data, command: &proto::DeleteTopic) -> Result<(), outcome::Error> {
    let id = Uuid::from_slice(&command.id).map_err(|_| outcome::Error::UnknownTopic)?;
    if data.remove(id) { Ok(()) } else { Err(outcome::Error::UnknownTopic) }
}

fn create_partitions(
    data: &mut Data,
    command: proto::CreatePartitions,
) -> Result<(), outcome::Error> {
    let id = Uuid::from_slice(&command.id).map_err(|_| outcome::Error::UnknownTopic)?;
    let topic = data.topic_by_id(id).ok_or(outcome::Error::UnknownTopic)?;
    if u32::try_from(topic.partitions.len()) != Ok(command.existing) {
        return Err(outcome::Error::Stale);
    }
    let mut topic = Topic::clone(topic);
    topic.partitions.extend(allocate_groups(data, command.partitions)?);
    data.insert(topic);
    Ok(())
}

fn set_topic_configs(
    data: &mut Data,
    command: proto::SetTopicConfigs,
) -> Result<(), outcome::Error> {
    let id = Uuid::from_slice(&command.id).map_err(|_| outcome::Error::UnknownTopic)?;
    let topic = data.topic_by_id(id).ok_or(outcome::Error::UnknownTopic)?;
    if topic.configs != command.seen {
        return Err(outcome::Error::Stale);
    }
    let topic = Topic { configs: command.configs, ..Topic::clone(topic) };
    data.insert(topic);
    Ok(())
}

fn set_broker_configs(
    data: &mut Data,
    command: proto::SetBrokerConfigs,
) -> Result<(), outcome::Error> {
    if data.set_on(command.broker) != command.seen {
        return Err(outcome::Error::Stale);
    }
    data.set_broker_configs(command.broker, command.configs);
    Ok(())
}

/// Group ids are given out once and never again, so that no log can be mistaken for another.
fn allocate_groups(
    data: &mut Data,
    partitions: Vec<proto::Replicas>,
) -> Result<Vec<TopicPartition>, outcome::Error> {
    let count = u32::try_from(partitions.len()).map_err(|_| outcome::Error::Exhausted)?;
    // 0 is the metadata group itself.
    let first = data.next_group.max(1);
    data.next_group = first.checked_add(count).ok_or(outcome::Error::Exhausted)?;
    let groups = (first..data.next_group).map(PartitionId);
    let with_brokers = groups.zip(partitions);
    Ok(with_brokers.map(|(group, r)| TopicPartition { group, brokers: r.brokers }).collect())
}

fn allocate_producer_ids(data: &mut Data, count: u32) -> proto::Outcome {
    let first = data.next_producer_id;
    match first.checked_add(i64::from(count)) {
        Some(next) => {
            data.next_producer_id = next;
            proto::Outcome { first_producer_id: first, ..proto::Outcome::default() }
        }
        None => refuse(outcome::Error::Exhausted),
    }
}

fn encode(data: &Data) -> Vec<u8> {
    let partition =
        |p: &TopicPartition| proto::Partition { group: p.group.0, brokers: p.brokers.clone() };
    let topic = |t: &Arc<Topic>| proto::Topic {
        name: t.name.clone(),
        id: t.id.as_bytes().to_vec(),
        partitions: t.partitions.iter().map(partition).collect(),
        configs: t.configs.clone(),
    };
    let configs = |(broker, configs): (&Option<i32>, &BTreeMap<String, String>)| {
        proto::BrokerConfigs { broker: *broker, configs: configs.clone() }
    };
    proto::State {
        cluster_id: data.cluster_id.clone(),
        next_group: data.next_group,
        next_producer_id: data.next_producer_id,
        brokers: data.brokers.values().map(Broker::to_proto).collect(),
        topics: data.topics().map(topic).collect(),
        broker_configs: data.broker_configs.iter().map(configs).collect(),
    }
    .encode_to_vec()
}

fn decode(bytes: &[u8], holder: &Holder) -> Result<Data, String> {
    let stored = proto::State::decode(bytes).map_err(|e| e.to_string())?;
    let mut data = Data::new(holder);
    data.cluster_id = stored.cluster_id;
    data.next_group = stored.next_group;
    data.next_producer_id = stored.next_producer_id;
    for broker in stored.brokers {
        let broker = Broker::from_proto(broker).ok_or("a broker's port is out of range")?;
        data.brokers.insert(broker.id, broker);
    }
    for topic in stored.topics {
        let id = Uuid::from_slice(&topic.id).map_err(|e| e.to_string())?;
        let partitions = topic
            .partitions
            .into_iter()
            .map(|p| TopicPartition { group: PartitionId(p.group), brokers: p.brokers })
            .collect();
        data.insert(Topic {
            name: topic.name,
            id,
            partitions,
            configs: topic.configs,
            settings: TopicSettings::defaults(),
        });
    }
    for set in stored.broker_configs {
        data.set_broker_configs(set.broker, set.configs);
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(name: &str, partitions: usize) -> Command {
        Command::CreateTopic(proto::CreateTopic {
            name: name.to_owned(),
            id: Uuid::new_v4().as_bytes().to_vec(),
            partitions: vec![proto::Replicas { brokers: vec![1] }; partitions],
            configs: std::iter::once(("retention.ms".to_owned(), "1000".to_owned())).collect(),
        })
    }

    fn error_of(outcome: &proto::Outcome) -> outcome::Error {
        outcome.error()
    }

    fn groups(data: &Data, name: &str) -> Vec<u32> {
        data.topic(name).unwrap().partitions.iter().map(|p| p.group.0).collect()
    }

    #[test]
    fn groups_are_never_given_out_twice() {
        let mut data = Data::default();
        apply(&mut data, create("a", 2));
        let id = data.topic("a").unwrap().id.as_bytes().to_vec();
        apply(&mut data, Command::DeleteTopic(proto::DeleteTopic { id }));
        apply(&mut data, create("a", 1));
        assert_eq!(groups(&data, "a"), [3], "1 and 2 belonged to the deleted topic");
    }

    #[test]
    fn a_topic_is_created_once() {
        let mut data = Data::default();
        assert_eq!(error_of(&apply(&mut data, create("a", 1))), outcome::Error::None);
        assert_eq!(error_of(&apply(&mut data, create("a", 1))), outcome::Error::TopicExists);
        assert_eq!(groups(&data, "a"), [1]);
    }

    #[test]
    fn partitions_are_added_only_to_the_number_the_caller_saw() {
        let mut data = Data::default();
        apply(&mut data, create("a", 1));
        let id = data.topic("a").unwrap().id.as_bytes().to_vec();
        let add = |existing| {
            let partitions = vec![proto::Replicas { brokers: vec![1] }];
            Command::CreatePartitions(proto::CreatePartitions {
                id: id.clone(),
                existing,
                partitions,
            })
        };
        assert_eq!(error_of(&apply(&mut data, add(1))), outcome::Error::None);
        assert_eq!(error_of(&apply(&mut data, add(1))), outcome::Error::Stale);
        assert_eq!(groups(&data, "a"), [1, 2]);
    }

    #[test]
    fn producer_ids_are_never_given_out_twice() {
        let mut data = Data::default();
        assert_eq!(allocate_producer_ids(&mut data, 10).first_producer_id, 0);
        assert_eq!(allocate_producer_ids(&mut data, 10).first_producer_id, 10);
    }

    fn map(values: &[(&str, &str)]) -> BTreeMap<String, String> {
        values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn set_on(broker: Option<i32>, seen: &[(&str, &str)], configs: &[(&str, &str)]) -> Command {
        let (seen, configs) = (map(seen), map(configs));
        Command::SetBrokerConfigs(proto::SetBrokerConfigs { broker, seen, configs })
    }

    #[test]
    fn configs_change_only_from_what_the_caller_saw() {
        let mut data = Data::default();
        apply(&mut data, create("a", 1));
        let id = data.topic("a").unwrap().id.as_bytes().to_vec();
        let set = |seen: &[(&str, &str)], configs: &[(&str, &str)]| {
            let (seen, configs) = (map(seen), map(configs));
            Command::SetTopicConfigs(proto::SetTopicConfigs { id: id.clone(), seen, configs })
        };
        let (was, is) = ([("retention.ms", "1000")], [("retention.bytes", "9")]);
        assert_eq!(error_of(&apply(&mut data, set(&[], &is))), outcome::Error::Stale);
        assert_eq!(error_of(&apply(&mut data, set(&was, &is))), outcome::Error::None);
        assert_eq!(error_of(&apply(&mut data, set(&was, &is))), outcome::Error::Stale);
        let topic = data.topic("a").unwrap();
        assert_eq!((&topic.configs, topic.settings.retention_bytes), (&map(&is), 9));
        let set = set_on(None, &was, &is);
        assert_eq!(error_of(&apply(&mut data, set)), outcome::Error::Stale);
    }

    #[test]
    fn what_is_set_on_this_broker_hides_what_is_set_on_every_broker() {
        let mut data = Data::new(&Holder { broker: 7, ..Holder::default() });
        apply(&mut data, create("before", 1));
        let bytes_kept =
            |data: &Data, name: &str| data.topic(name).unwrap().settings.retention_bytes;
        apply(&mut data, set_on(None, &[], &[("log.retention.bytes", "1")]));
        assert_eq!(bytes_kept(&data, "before"), 1, "topics that exist learn of it");
        apply(&mut data, create("after", 1));
        assert_eq!(bytes_kept(&data, "after"), 1);
        apply(&mut data, set_on(Some(7), &[], &[("log.retention.bytes", "2")]));
        assert_eq!(bytes_kept(&data, "before"), 2);
        apply(&mut data, set_on(Some(8), &[], &[("log.retention.bytes", "3")]));
        assert_eq!(bytes_kept(&data, "before"), 2, "another broker's");
        apply(&mut data, set_on(Some(7), &[("log.retention.bytes", "2")], &[]));
        assert_eq!(bytes_kept(&data, "before"), 1);
        assert_eq!(data.topic("before").unwrap().settings.retention_ms, 1000, "the topic's own");
    }

    #[test]
    fn a_checkpoint_restores_everything() {
        let mut data = Data::default();
        apply(&mut data, create("a", 2));
        apply(&mut data, Command::InitCluster(proto::InitCluster { cluster_id: "c".into() }));
        let broker = Broker { id: 1, host: "h".into(), port: 9092, rack: String::new() };
        let registration = proto::RegisterBroker { broker: Some(broker.to_proto()) };
        apply(&mut data, Command::RegisterBroker(registration));
        allocate_producer_ids(&mut data, 7);
        apply(&mut data, set_on(None, &[], &[("log.retention.ms", "5")]));
        apply(&mut data, set_on(Some(1), &[], &[("log.retention.bytes", "6")]));
        let holder = Holder { broker: 1, ..Holder::default() };
        let restored = decode(&encode(&data), &holder).unwrap();
        assert_eq!(encode(&restored), encode(&data));
        assert_eq!(restored.topic("a").unwrap().settings.retention_ms, 1000);
        assert_eq!(restored.topic("a").unwrap().settings.retention_bytes, 6);
        assert_eq!(restored.topic("a").unwrap().configs["retention.ms"], "1000");
    }
}

#[cfg(test)]
mod fuzz;
