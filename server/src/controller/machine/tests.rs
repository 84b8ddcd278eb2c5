//! What each command does to the image, and what it refuses.

use std::collections::BTreeMap;

use super::*;
use crate::consensus::ReplicaId;
use crate::controller::image::Broker;
use checkpoint::{decode, encode};
use jangbu_engine::Term;

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
        Command::CreatePartitions(proto::CreatePartitions { id: id.clone(), existing, partitions })
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
    assert_eq!(error_of(&apply(&mut data, set(&was, &[]))), outcome::Error::Stale);
    let again = error_of(&apply(&mut data, set(&was, &is)));
    assert_eq!(again, outcome::Error::None, "the answer was lost, and it is asked again");
    let topic = data.topic("a").unwrap();
    assert_eq!((&topic.configs, topic.settings.retention_bytes), (&map(&is), 9));
    let set = set_on(None, &was, &is);
    assert_eq!(error_of(&apply(&mut data, set)), outcome::Error::Stale);
}

#[test]
fn what_is_set_on_this_broker_hides_what_is_set_on_every_broker() {
    let mut data = Data::new(&Holder { broker: 7, ..Holder::default() });
    apply(&mut data, create("before", 1));
    let bytes_kept = |data: &Data, name: &str| data.topic(name).unwrap().settings.retention_bytes;
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

fn broker(id: i32, directory: u8) -> Broker {
    let host = format!("host-{directory}");
    Broker { id, host, port: 9092, directory: [directory; 16], ..Broker::default() }
}

fn register(data: &mut Data, id: i32, directory: u8) -> proto::Outcome {
    let broker = Some(broker(id, directory).to_proto());
    apply(data, Command::RegisterBroker(proto::RegisterBroker { broker }))
}

/// A cluster of brokers 1 to 4 with the topic "a", whose partition 1 lies on brokers 1 to 3.
fn cluster() -> Data {
    let mut data = Data::default();
    for id in 1..=4 {
        register(&mut data, i32::from(id), id);
    }
    let mut topic = create("a", 1);
    if let Command::CreateTopic(topic) = &mut topic {
        topic.partitions[0].brokers = vec![1, 2, 3];
    }
    apply(&mut data, topic);
    data
}

fn reassign(data: &mut Data, seen: &[i32], target: &[i32]) -> outcome::Error {
    let (seen, target) = (seen.to_vec(), target.to_vec());
    let reassign = proto::Reassign { group: 1, seen, target, then: Vec::new() };
    error_of(&apply(data, Command::Reassign(reassign)))
}

fn finish(data: &mut Data, reassignment: u32) -> outcome::Error {
    let finish = proto::FinishReassignment { group: 1, reassignment };
    error_of(&apply(data, Command::FinishReassignment(finish)))
}

fn report(data: &mut Data, broker: i32, term: u64) -> outcome::Error {
    let groups = vec![proto::report_leaders::Led { group: 1, term }];
    error_of(&apply(data, Command::ReportLeaders(proto::ReportLeaders { broker, groups })))
}

fn placement(data: &Data) -> TopicPartition {
    data.placement(PartitionId(1)).unwrap().clone()
}

#[test]
fn a_topic_whose_creation_was_answered_and_not_heard_is_created_once() {
    let mut data = Data::default();
    let command = create("a", 1);
    apply(&mut data, command.clone());
    assert_eq!(error_of(&apply(&mut data, command)), outcome::Error::None);
    assert_eq!(groups(&data, "a"), [1]);
}

#[test]
fn a_broker_without_an_id_gets_one_that_nobody_had_and_gets_it_again() {
    let mut data = Data::default();
    let formed = proto::InitCluster { cluster_id: "c".into(), last_broker: 3 };
    apply(&mut data, Command::InitCluster(formed));
    assert_eq!(
        register(&mut data, 0, 7).broker,
        4,
        "1 to 3 belong to those the cluster is formed by"
    );
    assert_eq!(register(&mut data, 0, 8).broker, 5);
    assert_eq!(register(&mut data, 0, 7).broker, 4);
    let remove = |broker| Command::RemoveBroker(proto::RemoveBroker { broker });
    assert_eq!(error_of(&apply(&mut data, remove(5))), outcome::Error::None);
    assert_eq!(error_of(&apply(&mut data, remove(5))), outcome::Error::None);
    assert_eq!(register(&mut data, 0, 8).broker, 6, "an id is never given out again");
    assert_eq!(error_of(&register(&mut data, 5, 8)), outcome::Error::UnknownBroker);
    assert_eq!(error_of(&register(&mut data, 0, 0)), outcome::Error::UnknownBroker);
}

#[test]
fn an_id_belongs_to_one_data_directory() {
    let mut data = Data::default();
    register(&mut data, 1, 0);
    assert_eq!(register(&mut data, 1, 7).broker, 1, "it had none before");
    assert_eq!(error_of(&register(&mut data, 1, 8)), outcome::Error::OtherDirectory);
    assert_eq!(data.brokers[&1], broker(1, 7));
}

#[test]
fn a_broker_is_told_dead_and_lives_when_it_registers_and_drains_as_its_config_says() {
    let mut data = cluster();
    let tell_dead = |data: &mut Data, broker| {
        let command = proto::SetLiveness { broker, dead: Some(true) };
        error_of(&apply(data, Command::SetLiveness(command)))
    };
    let configs = |value: &str| BTreeMap::from([("jangbu.draining".to_owned(), value.to_owned())]);
    let set = |data: &mut Data, broker, seen: &str, value: &str| {
        let (seen, configs) = match seen {
            "" => (BTreeMap::new(), configs(value)),
            seen => (configs(seen), configs(value)),
        };
        let command = proto::SetBrokerConfigs { broker: Some(broker), seen, configs };
        error_of(&apply(data, Command::SetBrokerConfigs(command)))
    };
    let state = |data: &Data| (data.brokers[&2].dead, data.brokers[&2].draining);
    tell_dead(&mut data, 2);
    assert_eq!(state(&data), (true, false));
    assert_eq!(set(&mut data, 2, "", "TRUE"), outcome::Error::None);
    assert_eq!(state(&data), (true, true));
    assert!(!data.brokers[&3].draining);
    register(&mut data, 2, 2);
    assert_eq!(state(&data), (false, true));
    set(&mut data, 2, "TRUE", "false");
    assert_eq!(state(&data), (false, false));
    assert_eq!(tell_dead(&mut data, 9), outcome::Error::UnknownBroker);
}

#[test]
fn the_leader_of_the_highest_term_is_known() {
    let mut data = cluster();
    assert_eq!(data.leader(PartitionId(1)), None);
    report(&mut data, 2, 5);
    report(&mut data, 3, 4);
    assert_eq!(data.leader(PartitionId(1)), Some((2, Term(5))));
    report(&mut data, 3, 6);
    assert_eq!(data.leader(PartitionId(1)), Some((3, Term(6))));
    assert_eq!(report(&mut data, 9, 7), outcome::Error::UnknownBroker);
    let id = data.topic("a").unwrap().id.as_bytes().to_vec();
    apply(&mut data, Command::DeleteTopic(proto::DeleteTopic { id }));
    report(&mut data, 2, 8);
    assert_eq!(data.leader(PartitionId(1)), None, "the partition is gone");
}

#[test]
fn a_partition_moves_when_its_group_has_the_members_of_that_move() {
    let mut data = cluster();
    assert_eq!(reassign(&mut data, &[1, 2], &[4]), outcome::Error::Stale);
    assert_eq!(reassign(&mut data, &[1, 2, 3], &[4, 9]), outcome::Error::UnknownBroker);
    assert_eq!(reassign(&mut data, &[1, 2, 3], &[4, 4]), outcome::Error::Stale);
    assert_eq!(reassign(&mut data, &[1, 2, 3], &[2, 4]), outcome::Error::None);
    assert_eq!(reassign(&mut data, &[1, 2, 3], &[2, 4]), outcome::Error::None, "asked again");
    assert_eq!(placement(&data).reassignment, 1);
    assert_eq!(reassign(&mut data, &[1, 2, 3], &[3, 4]), outcome::Error::None);
    assert_eq!(finish(&mut data, 1), outcome::Error::NotReassigning, "it goes elsewhere now");
    assert_eq!(placement(&data).brokers, [1, 2, 3]);
    assert_eq!(finish(&mut data, 2), outcome::Error::None);
    assert_eq!(finish(&mut data, 2), outcome::Error::None);
    assert_eq!((placement(&data).brokers, placement(&data).epochs), (vec![3, 4], vec![0, 1]));
}

#[test]
fn a_move_that_is_turned_back_ends_like_any_other() {
    let mut data = cluster();
    assert_eq!(reassign(&mut data, &[1, 2, 3], &[]), outcome::Error::NotReassigning);
    reassign(&mut data, &[1, 2, 3], &[4]);
    assert_eq!(reassign(&mut data, &[1, 2, 3], &[]), outcome::Error::None);
    assert_eq!(placement(&data).target, [1, 2, 3]);
    assert!(placement(&data).replica_of(4).is_some(), "it may be a member already");
    finish(&mut data, 2);
    assert_eq!((placement(&data).brokers, placement(&data).replica_of(4)), (vec![1, 2, 3], None));
}

#[test]
fn a_broker_leaves_only_when_it_holds_nothing_and_is_to_hold_nothing() {
    let mut data = cluster();
    let remove = |data: &mut Data, broker| {
        error_of(&apply(data, Command::RemoveBroker(proto::RemoveBroker { broker })))
    };
    assert_eq!(remove(&mut data, 1), outcome::Error::InUse);
    reassign(&mut data, &[1, 2, 3], &[4]);
    assert_eq!(remove(&mut data, 4), outcome::Error::InUse);
    finish(&mut data, 1);
    assert_eq!(remove(&mut data, 1), outcome::Error::None);
    assert!(!data.brokers.contains_key(&1));
    assert_eq!(remove(&mut data, 9), outcome::Error::UnknownBroker);
}

#[test]
fn a_partition_is_found_by_its_group() {
    let mut data = cluster();
    apply(&mut data, create("b", 2));
    let (topic, number) = data.partition(PartitionId(3)).unwrap();
    assert_eq!((topic.name.as_str(), number), ("b", 1));
    assert!(data.partition(PartitionId(4)).is_none());
}

#[test]
fn only_what_changes_topics_placements_or_configs_changes_the_layout() {
    let mut data = cluster();
    let before = data.layout;
    report(&mut data, 2, 5);
    apply(&mut data, Command::AllocateProducerIds(proto::AllocateProducerIds { count: 1 }));
    assert_eq!(data.layout, before);
    reassign(&mut data, &[1, 2, 3], &[4]);
    assert_ne!(data.layout, before);
}

fn report_behind(data: &mut Data, term: u64, behind: &[(u32, u32)]) {
    let behind = behind.iter().map(|(broker, epoch)| ReplicaId::new(*broker, *epoch).0).collect();
    let groups = vec![proto::report_in_sync::Led { group: 1, term, behind }];
    let outcome = apply(data, Command::ReportInSync(proto::ReportInSync { groups }));
    assert_eq!(error_of(&outcome), outcome::Error::None);
}

fn report_damaged(data: &mut Data, (broker, epoch): (u32, u32), stopped: bool) {
    let replica = ReplicaId::new(broker, epoch).0;
    let replicas = vec![proto::report_damaged::Damaged { group: 1, replica, stopped }];
    apply(data, Command::ReportDamaged(proto::ReportDamaged { replicas }));
}

#[test]
fn a_replica_stays_damaged_until_another_one_is_in_its_place() {
    let mut data = cluster();
    let group = PartitionId(1);
    report_damaged(&mut data, (1, 0), false);
    report_damaged(&mut data, (1, 0), true);
    report_damaged(&mut data, (1, 0), false);
    report_damaged(&mut data, (1, 7), true);
    assert_eq!(data.damaged(group).collect::<Vec<_>>(), [(ReplicaId::new(1, 0), true)]);
    let then = vec![1, 2, 3];
    let renew = proto::Reassign { group: 1, seen: then.clone(), target: vec![2, 3], then };
    apply(&mut data, Command::Reassign(renew));
    assert!(data.is_stopped(group, ReplicaId::new(1, 0)));
    for _ in 0..2 {
        let reassignment = placement(&data).reassignment;
        let finish = proto::FinishReassignment { group: 1, reassignment };
        assert_eq!(
            error_of(&apply(&mut data, Command::FinishReassignment(finish))),
            outcome::Error::None
        );
        assert_eq!(data.with_damaged_replicas().count(), 0);
    }
    let placed = placement(&data);
    assert_eq!((placed.brokers, placed.epochs), (vec![1, 2, 3], vec![1, 0, 0]));
}

#[test]
fn the_newest_leader_says_which_replicas_are_behind() {
    let mut data = cluster();
    let behind = |data: &Data| data.behind(PartitionId(1)).to_vec();
    report(&mut data, 2, 5);
    report_behind(&mut data, 5, &[(3, 0), (1, 0), (3, 0), (9, 0), (3, 7)]);
    assert_eq!(behind(&data), [1, 3].map(|broker| ReplicaId::new(broker, 0)), "members only");
    report(&mut data, 3, 6);
    report_behind(&mut data, 5, &[(2, 0)]);
    assert_eq!(behind(&data).len(), 2, "that one leads no more");
    report_behind(&mut data, 6, &[]);
    assert_eq!((behind(&data).len(), data.with_replicas_behind().count()), (0, 0));
}

#[test]
fn a_checkpoint_restores_everything() {
    let mut data = cluster();
    let formed = proto::InitCluster { cluster_id: "c".into(), last_broker: 9 };
    apply(&mut data, Command::InitCluster(formed));
    allocate_producer_ids(&mut data, 7);
    apply(&mut data, set_on(None, &[], &[("log.retention.ms", "5")]));
    apply(&mut data, set_on(Some(1), &[], &[("log.retention.bytes", "6")]));
    apply(&mut data, create("b", 1));
    register(&mut data, 5, 5);
    apply(&mut data, Command::RemoveBroker(proto::RemoveBroker { broker: 5 }));
    report(&mut data, 2, 5);
    report_behind(&mut data, 5, &[(3, 0)]);
    report_damaged(&mut data, (2, 0), false);
    report_damaged(&mut data, (3, 0), true);
    reassign(&mut data, &[1, 2, 3], &[4]);
    reassign(&mut data, &[1, 2, 3], &[1, 2]);
    let quota = proto::Quota {
        client: Some(proto::QuotaName { name: Some("slow".into()) }),
        key: "producer_byte_rate".into(),
        limit: Some(7.0),
        ..Default::default()
    };
    apply(&mut data, Command::AlterQuotas(proto::AlterQuotas { changes: vec![quota] }));
    let configs: BTreeMap<String, String> =
        [("consumer.session.timeout.ms".into(), "50000".into())].into();
    let set = proto::SetGroupConfigs {
        group: "g".into(),
        configs: configs.clone(),
        ..Default::default()
    };
    apply(&mut data, Command::SetGroupConfigs(set));
    let holder = Holder { broker: 1, ..Holder::default() };
    let restored = decode(&encode(&data), &holder).unwrap();
    assert_eq!(encode(&restored), encode(&data));
    assert_eq!(restored.group_configs()["g"], configs);
    assert_eq!(
        super::quotas::all(&restored.quotas).first().and_then(|quota| quota.limit),
        Some(7.0)
    );
    assert_eq!(restored.brokers, data.brokers);
    assert_eq!(placement(&restored), placement(&data));
    assert_eq!(restored.leader(PartitionId(1)), Some((2, Term(5))));
    assert_eq!(restored.behind(PartitionId(1)), [ReplicaId::new(3, 0)]);
    let damaged: Vec<_> = restored.damaged(PartitionId(1)).collect();
    assert_eq!(damaged, [(ReplicaId::new(2, 0), false), (ReplicaId::new(3, 0), true)]);
    assert_eq!((restored.last_broker, &restored.removed), (9, &data.removed));
    let settings = |name: &str| restored.topic(name).unwrap().settings;
    assert_eq!((settings("a").retention_ms, settings("a").retention_bytes), (1000, 6));
    assert_eq!(restored.topic("a").unwrap().configs["retention.ms"], "1000");
}

#[test]
fn a_state_stored_by_a_cluster_of_one_loads() {
    let partitions = vec![proto::Partition { group: 1, brokers: vec![1], ..Default::default() }];
    let id = Uuid::new_v4().as_bytes().to_vec();
    let stored = proto::State {
        cluster_id: "c".into(),
        next_group: 2,
        brokers: vec![proto::Broker { id: 1, host: "h".into(), port: 9092, ..Default::default() }],
        topics: vec![proto::Topic { name: "a".into(), id, partitions, ..Default::default() }],
        ..proto::State::default()
    };
    let mut data = decode(&stored.encode_to_vec(), &Holder::default()).unwrap();
    assert_eq!(placement(&data), TopicPartition::new(PartitionId(1), vec![1]));
    assert_eq!(data.leader(PartitionId(1)), None);
    assert_eq!(register(&mut data, 0, 7).broker, 2);
}
