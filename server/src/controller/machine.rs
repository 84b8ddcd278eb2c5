//! Group 0's state machine: commands in, image out. Deterministic, no clock, no I/O.
//!
//! A command that is given twice, because its answer was lost, changes nothing the second time and is answered with
//! success or with an error that says so (`controller.rs` knows which).
//!
//! Not here: brokers (`machine/brokers.rs`), client quotas (`machine/quotas.rs`), moving partitions (`machine/moves.rs`), stored state
//! (`machine/checkpoint.rs`).

mod brokers;
mod checkpoint;
mod moves;
pub(super) mod quotas;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use jangbu_engine::{Offset, PartitionId, PartitionLog};
use prost::Message;
use uuid::Uuid;

use super::image::{Data, Holder, SharedImage, Topic, TopicPartition};
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
    type Log = PartitionLog;

    fn apply(&mut self, entry: &Committed) -> Bytes {
        let command = proto::Command::decode(entry.payload.clone()).ok().and_then(|c| c.command);
        let outcome = match command {
            Some(command) => self.image.update(|data| apply(data, command)),
            None => refuse(outcome::Error::Stale),
        };
        outcome.encode_to_vec().into()
    }

    fn checkpoint(&self) -> Bytes {
        checkpoint::encode(&self.image.read()).into()
    }

    fn restore(&mut self, checkpoint: &[u8], _next_offset: Offset) -> Result<(), String> {
        let mut data = checkpoint::decode(checkpoint, &self.holder)?;
        self.image.update(|image| {
            data.layout = image.layout + 1;
            *image = data;
        });
        Ok(())
    }
}

fn refuse(error: outcome::Error) -> proto::Outcome {
    proto::Outcome { error: error.into(), ..proto::Outcome::default() }
}

fn apply(data: &mut Data, command: Command) -> proto::Outcome {
    let fleeting = matches!(
        command,
        Command::SetLiveness(_)
            | Command::ReportLeaders(_)
            | Command::ReportInSync(_)
            | Command::ReportDamaged(_)
            | Command::AllocateProducerIds(_)
            | Command::AlterQuotas(_)
    );
    data.layout += u64::from(!fleeting);
    let result = match command {
        Command::InitCluster(c) => {
            init_cluster(data, c);
            Ok(())
        }
        Command::CreateTopic(c) => create_topic(data, c),
        Command::DeleteTopic(c) => delete_topic(data, &c),
        Command::CreatePartitions(c) => create_partitions(data, c),
        Command::SetTopicConfigs(c) => set_topic_configs(data, c),
        Command::SetBrokerConfigs(c) => set_broker_configs(data, c),
        Command::SetGroupConfigs(c) => set_group_configs(data, c),
        Command::AlterQuotas(c) => quotas::alter(data, c),
        Command::SetLiveness(c) => brokers::set_liveness(data, &c),
        Command::RemoveBroker(c) => brokers::remove(data, c.broker),
        Command::ReportLeaders(c) => moves::report_leaders(data, &c),
        Command::ReportInSync(c) => {
            moves::report_in_sync(data, &c);
            Ok(())
        }
        Command::ReportDamaged(c) => {
            moves::report_damaged(data, &c);
            Ok(())
        }
        Command::Reassign(c) => moves::reassign(data, c),
        Command::FinishReassignment(c) => moves::finish(data, &c),
        Command::RegisterBroker(c) => {
            let registered = brokers::register(data, c.broker.unwrap_or_default());
            let outcome = |broker| proto::Outcome { broker, ..proto::Outcome::default() };
            return registered.map_or_else(refuse, outcome);
        }
        Command::AllocateProducerIds(c) => {
            return allocate_producer_ids(data, c.count);
        }
    };
    result.map_or_else(refuse, |()| proto::Outcome::default())
}

fn init_cluster(data: &mut Data, command: proto::InitCluster) {
    if data.cluster_id.is_empty() {
        data.cluster_id = command.cluster_id;
    }
    data.last_broker = data.last_broker.max(command.last_broker);
}

fn create_topic(data: &mut Data, command: proto::CreateTopic) -> Result<(), outcome::Error> {
    let id = Uuid::from_slice(&command.id).map_err(|_| outcome::Error::Stale)?;
    match data.topic(&command.name) {
        Some(same) if same.id == id => return Ok(()),
        Some(_) => return Err(outcome::Error::TopicExists),
        None => {}
    }
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
    if topic.configs == command.configs {
        return Ok(());
    }
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
    let set = data.set_on(command.broker);
    if set == command.configs {
        return Ok(());
    }
    if set != command.seen {
        return Err(outcome::Error::Stale);
    }
    data.set_broker_configs(command.broker, command.configs);
    Ok(())
}

fn set_group_configs(
    data: &mut Data,
    command: proto::SetGroupConfigs,
) -> Result<(), outcome::Error> {
    let set = data.set_for_group(&command.group);
    if set == command.configs {
        return Ok(());
    }
    if set != command.seen {
        return Err(outcome::Error::Stale);
    }
    data.set_group_configs(command.group, command.configs);
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
    Ok(with_brokers.map(|(group, r)| TopicPartition::new(group, r.brokers)).collect())
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

#[cfg(test)]
mod fuzz;
