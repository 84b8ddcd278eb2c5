//! A client that applies incremental responses believes what is true, and every rule of KIP-227 on
//! the way there.

mod model;

use std::collections::BTreeMap;

use kafka_protocol::{
    messages::{
        FetchRequest, TopicName,
        fetch_request::{FetchPartition, FetchTopic, ForgottenTopic},
        fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData},
    },
    protocol::StrBytes,
};
use uuid::Uuid;

use super::{FetchSessions, Limits, NO_SESSION, Plan, SessionError, Stats, Topic};

const BY_NAME: i16 = 12;
const BY_ID: i16 = 13;
const MINUTE_MS: i64 = 60_000;

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// A request for partitions of the topic "t", as (partition, fetch offset).
fn request(id: i32, epoch: i32, wanted: &[(i32, i64)]) -> FetchRequest {
    let partition = |&(partition, offset): &(i32, i64)| {
        FetchPartition::default().with_partition(partition).with_fetch_offset(offset)
    };
    let topic = FetchTopic::default()
        .with_topic(name("t"))
        .with_topic_id(Uuid::from_u128(7))
        .with_partitions(wanted.iter().map(partition).collect());
    FetchRequest::default().with_session_id(id).with_session_epoch(epoch).with_topics(vec![topic])
}

fn forgetting(request: FetchRequest, partitions: &[i32]) -> FetchRequest {
    let forgotten = ForgottenTopic::default()
        .with_topic(name("t"))
        .with_topic_id(Uuid::from_u128(7))
        .with_partitions(partitions.to_vec());
    request.with_forgotten_topics_data(vec![forgotten])
}

/// A partition without news, whose end is 10.
fn quiet(partition: i32) -> PartitionData {
    PartitionData::default()
        .with_partition_index(partition)
        .with_high_watermark(10)
        .with_log_start_offset(0)
}

fn with_data(partition: i32) -> PartitionData {
    quiet(partition).with_records(Some("records".into()))
}

fn responses(partitions: Vec<PartitionData>) -> Vec<FetchableTopicResponse> {
    let topic = FetchableTopicResponse::default()
        .with_topic(name("t"))
        .with_topic_id(Uuid::from_u128(7))
        .with_partitions(partitions);
    vec![topic]
}

fn planned(plan: &Plan) -> Vec<(i32, i64)> {
    plan.partitions().iter().map(|p| (p.partition, p.fetch_offset)).collect()
}

fn answered(responses: &[FetchableTopicResponse]) -> Vec<i32> {
    responses.iter().flat_map(|t| &t.partitions).map(|p| p.partition_index).collect()
}

fn sessions_of(sessions_max: usize, partitions_max: usize) -> FetchSessions {
    FetchSessions::new(Limits { sessions_max, partitions_max, ..Limits::default() })
}

/// Opens a session of the quiet partitions 0..count and returns its id.
fn open(sessions: &FetchSessions, count: i32, now_ms: i64) -> i32 {
    let wanted: Vec<_> = (0..count).map(|partition| (partition, 0)).collect();
    let plan = sessions.begin(&request(0, 0, &wanted), BY_NAME, now_ms).unwrap();
    let mut all = responses((0..count).map(quiet).collect());
    sessions.finish(plan, &mut all, now_ms).unwrap()
}

/// Continues a session with a request that names nothing; returns what was planned and answered.
fn go_on(
    sessions: &FetchSessions,
    (id, epoch): (i32, i32),
    data: Vec<PartitionData>,
) -> (Vec<i32>, Vec<i32>) {
    let plan = sessions.begin(&request(id, epoch, &[]), BY_NAME, 0).unwrap();
    let order = plan.partitions().iter().map(|p| p.partition).collect();
    let mut all = responses(data);
    assert_eq!(sessions.finish(plan, &mut all, 0), Ok(id));
    (order, answered(&all))
}

#[test]
fn a_full_fetch_opens_a_session_and_is_answered_in_full() {
    let sessions = FetchSessions::new(Limits::default());
    let plan = sessions.begin(&request(0, 0, &[(1, 5), (0, 6)]), BY_NAME, 0).unwrap();
    assert!(!plan.is_incremental());
    assert_eq!(planned(&plan), [(1, 5), (0, 6)]);
    let mut all = responses(vec![quiet(1), quiet(0)]);
    let id = sessions.finish(plan, &mut all, 0).unwrap();
    assert!(id > 0);
    assert_eq!(answered(&all), [1, 0]);
    assert_eq!(sessions.stats(), Stats { sessions: 1, partitions: 2, evictions: 0 });
}

#[test]
fn a_fetch_without_a_session_is_answered_in_full_and_leaves_nothing_behind() {
    let sessions = FetchSessions::new(Limits::default());
    for request in [request(0, -1, &[(0, 5)]), FetchRequest::default()] {
        let plan = sessions.begin(&request, BY_NAME, 0).unwrap();
        let mut all = responses(vec![quiet(0)]);
        assert_eq!(sessions.finish(plan, &mut all, 0), Ok(NO_SESSION));
        assert_eq!(answered(&all), [0]);
    }
    assert_eq!(sessions.stats(), Stats::default());
}

#[test]
fn a_full_fetch_closes_the_session_it_names() {
    for epoch in [0, -1] {
        let sessions = FetchSessions::new(Limits::default());
        let id = open(&sessions, 2, 0);
        sessions.begin(&request(id, epoch, &[(0, 0)]), BY_NAME, 0).unwrap();
        let error = sessions.begin(&request(id, 1, &[]), BY_NAME, 0).unwrap_err();
        assert_eq!((error, error.code()), (SessionError::NotFound(id), 70));
        assert_eq!(sessions.stats(), Stats::default());
    }
}

#[test]
fn an_incremental_fetch_reads_all_partitions_and_answers_none_without_news() {
    let sessions = FetchSessions::new(Limits::default());
    let id = open(&sessions, 2, 0);
    let all = vec![quiet(0), quiet(1)];
    assert_eq!(go_on(&sessions, (id, 1), all.clone()), (vec![0, 1], vec![]));
    assert_eq!(go_on(&sessions, (id, 2), all), (vec![0, 1], vec![]));
}

#[test]
fn each_kind_of_news_is_answered() {
    let sessions = FetchSessions::new(Limits::default());
    let id = open(&sessions, 6, 0);
    let diverging = EpochEndOffset::default().with_epoch(3).with_end_offset(4);
    let news = vec![
        with_data(0),
        quiet(1).with_high_watermark(11),
        quiet(2).with_log_start_offset(1),
        quiet(3).with_error_code(3),
        quiet(4).with_diverging_epoch(diverging),
        quiet(5).with_preferred_read_replica(2.into()),
    ];
    assert_eq!(go_on(&sessions, (id, 1), news).1, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn what_was_told_is_not_told_again() {
    let sessions = FetchSessions::new(Limits::default());
    let id = open(&sessions, 2, 0);
    let moved = vec![quiet(0).with_high_watermark(11), quiet(1).with_log_start_offset(1)];
    assert_eq!(go_on(&sessions, (id, 1), moved.clone()).1, [0, 1]);
    assert!(go_on(&sessions, (id, 2), moved).1.is_empty());
}

#[test]
fn an_error_is_told_until_it_ends_and_then_its_end_once() {
    let sessions = FetchSessions::new(Limits::default());
    let plan = sessions.begin(&request(0, 0, &[(0, 0)]), BY_NAME, 0).unwrap();
    let failed = || vec![quiet(0).with_error_code(6)];
    let id = sessions.finish(plan, &mut responses(failed()), 0).unwrap();
    assert_eq!(go_on(&sessions, (id, 1), failed()).1, [0]);
    assert_eq!(go_on(&sessions, (id, 2), vec![quiet(0)]).1, [0]);
    assert!(go_on(&sessions, (id, 3), vec![quiet(0)]).1.is_empty());
}

#[test]
fn partitions_that_got_records_are_served_last_next_time() {
    let sessions = FetchSessions::new(Limits::default());
    let id = open(&sessions, 4, 0);
    let news = vec![with_data(0), with_data(1), quiet(2).with_error_code(6), quiet(3)];
    assert_eq!(go_on(&sessions, (id, 1), news).0, [0, 1, 2, 3]);
    let news = vec![quiet(2), with_data(3), quiet(0), quiet(1)];
    assert_eq!(go_on(&sessions, (id, 2), news).0, [2, 3, 0, 1]);
    assert_eq!(go_on(&sessions, (id, 3), vec![]).0, [2, 0, 1, 3]);
}

#[test]
fn an_incremental_fetch_adds_changes_and_forgets_partitions() {
    let sessions = FetchSessions::new(Limits::default());
    let id = open(&sessions, 3, 0);
    let change = forgetting(request(id, 1, &[(1, 50), (7, 70)]), &[0, 99]);
    let plan = sessions.begin(&change, BY_NAME, 0).unwrap();
    assert!(plan.is_incremental());
    assert_eq!(planned(&plan), [(1, 50), (2, 0), (7, 70)]);
    let mut all = responses(vec![quiet(1), quiet(2), quiet(7)]);
    assert_eq!(sessions.finish(plan, &mut all, 0), Ok(id));
    assert_eq!(answered(&all), [7], "only the new one is unknown to the client");
    assert_eq!(sessions.stats().partitions, 3);
}

#[test]
fn a_partition_both_named_and_forgotten_is_forgotten() {
    let sessions = FetchSessions::new(Limits::default());
    let id = open(&sessions, 1, 0);
    let change = forgetting(request(id, 1, &[(5, 0)]), &[5]);
    assert_eq!(planned(&sessions.begin(&change, BY_NAME, 0).unwrap()), [(0, 0)]);
}

#[test]
fn forgetting_everything_closes_the_session() {
    let sessions = FetchSessions::new(Limits::default());
    let id = open(&sessions, 2, 0);
    let plan = sessions.begin(&forgetting(request(id, 1, &[]), &[0, 1]), BY_NAME, 0).unwrap();
    assert!(!plan.is_incremental() && plan.partitions().is_empty());
    assert_eq!(sessions.finish(plan, &mut Vec::new(), 0), Ok(NO_SESSION));
    assert_eq!(sessions.stats(), Stats::default());
}

#[test]
fn a_partition_named_twice_is_fetched_once_with_the_later_values() {
    let sessions = FetchSessions::new(Limits::default());
    for epoch in [0, -1] {
        let twice = request(0, epoch, &[(0, 1), (1, 2), (0, 3)]);
        let plan = sessions.begin(&twice, BY_NAME, 0).unwrap();
        assert_eq!(planned(&plan), [(0, 3), (1, 2)]);
    }
}

#[test]
fn a_wrong_epoch_is_refused_and_changes_nothing() {
    let sessions = FetchSessions::new(Limits::default());
    let id = open(&sessions, 1, 0);
    for given in [2, -2, i32::MAX, i32::MIN] {
        let error = sessions.begin(&request(id, given, &[(9, 0)]), BY_NAME, 0).unwrap_err();
        assert_eq!((error, error.code()), (SessionError::Epoch { expected: 1, given }, 71));
    }
    assert_eq!(go_on(&sessions, (id, 1), vec![quiet(0)]), (vec![0], vec![]));
}

#[test]
fn of_two_requests_with_one_epoch_one_is_refused() {
    let sessions = FetchSessions::new(Limits::default());
    let id = open(&sessions, 1, 0);
    let first = sessions.begin(&request(id, 1, &[]), BY_NAME, 0).unwrap();
    let error = sessions.begin(&request(id, 1, &[]), BY_NAME, 0).unwrap_err();
    assert_eq!(error, SessionError::Epoch { expected: 2, given: 1 });
    assert_eq!(sessions.finish(first, &mut responses(vec![quiet(0)]), 0), Ok(id));
}

#[test]
fn of_many_racing_requests_with_one_epoch_exactly_one_goes_on() {
    let sessions = sessions_of(2, 100);
    let id = open(&sessions, 10, 0);
    for epoch in 1..200 {
        let begin = || sessions.begin(&request(id, epoch, &[(3, 1)]), BY_NAME, 0).is_ok();
        let went_on: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..4).map(|_| scope.spawn(begin)).collect();
            racers.into_iter().map(|racer| usize::from(racer.join().unwrap())).sum()
        });
        assert_eq!(went_on, 1, "in epoch {epoch}");
    }
}

#[test]
fn a_fetch_that_was_overtaken_answers_the_epoch_error_alone() {
    let sessions = FetchSessions::new(Limits::default());
    let id = open(&sessions, 1, 0);
    let slow = sessions.begin(&request(id, 1, &[]), BY_NAME, 0).unwrap();
    let fast = sessions.begin(&request(id, 2, &[]), BY_NAME, 0).unwrap();
    let mut all = responses(vec![with_data(0)]);
    assert_eq!(sessions.finish(slow, &mut all, 0).unwrap_err().code(), 71);
    assert!(all.is_empty());
    assert_eq!(sessions.finish(fast, &mut responses(vec![with_data(0)]), 0), Ok(id));
}

#[test]
fn a_session_keeps_to_names_or_to_ids() {
    for (opened, continued) in [(BY_NAME, BY_ID), (BY_ID, BY_NAME)] {
        let sessions = FetchSessions::new(Limits::default());
        let plan = sessions.begin(&request(0, 0, &[(0, 0)]), opened, 0).unwrap();
        let id = sessions.finish(plan, &mut responses(vec![quiet(0)]), 0).unwrap();
        let error = sessions.begin(&request(id, 1, &[]), continued, 0).unwrap_err();
        assert_eq!((error, error.code()), (SessionError::TopicIds, 106));
        let plan = sessions.begin(&request(id, 1, &[]), opened, 0).unwrap();
        let expected =
            if opened == BY_ID { Topic::Id(Uuid::from_u128(7)) } else { Topic::Name(name("t")) };
        assert_eq!(plan.partitions()[0].topic, expected);
    }
}

#[test]
fn the_epoch_after_the_last_is_one() {
    assert_eq!(super::epoch_after(1), 2);
    assert_eq!(super::epoch_after(i32::MAX), 1);
}

#[test]
fn a_session_does_not_keep_the_requests_memory_alive() {
    let sessions = FetchSessions::new(Limits::default());
    let full = request(0, 0, &[(0, 0)]);
    let plan = sessions.begin(&full, BY_NAME, 0).unwrap();
    let id = sessions.finish(plan, &mut responses(vec![quiet(0)]), 0).unwrap();
    let plan = sessions.begin(&request(id, 1, &[]), BY_NAME, 0).unwrap();
    let Topic::Name(kept) = &plan.partitions()[0].topic else { panic!("a name was given") };
    assert_eq!(*kept, full.topics[0].topic);
    assert_ne!(kept.as_ptr(), full.topics[0].topic.as_ptr());
}

#[test]
fn a_full_cache_answers_session_id_0() {
    let sessions = sessions_of(1, 100);
    assert_ne!(open(&sessions, 1, 0), NO_SESSION);
    assert_eq!(open(&sessions, 50, 2 * MINUTE_MS), NO_SESSION);
    assert_eq!(sessions.stats(), Stats { sessions: 1, partitions: 1, evictions: 0 });
}

#[test]
fn a_session_unused_for_more_than_two_minutes_gives_way_to_any() {
    let sessions = sessions_of(2, 100);
    let (old, _) = (open(&sessions, 5, 0), open(&sessions, 5, 1));
    assert_ne!(open(&sessions, 1, 2 * MINUTE_MS + 1), NO_SESSION);
    assert_eq!(sessions.stats(), Stats { sessions: 2, partitions: 6, evictions: 1 });
    let error = sessions.begin(&request(old, 1, &[]), BY_NAME, 0).unwrap_err();
    assert_eq!(error, SessionError::NotFound(old));
}

#[test]
fn an_old_session_in_use_gives_way_to_a_larger_one_only() {
    let sessions = sessions_of(1, 100);
    let id = open(&sessions, 5, 0);
    for (epoch, minute) in [(1, 1), (2, 2), (3, 3)] {
        sessions.begin(&request(id, epoch, &[]), BY_NAME, minute * MINUTE_MS).unwrap();
    }
    assert_eq!(open(&sessions, 5, 3 * MINUTE_MS), NO_SESSION);
    assert_ne!(open(&sessions, 6, 3 * MINUTE_MS), NO_SESSION);
    assert_eq!(sessions.stats(), Stats { sessions: 1, partitions: 6, evictions: 1 });
}

#[test]
fn all_sessions_together_are_bounded_in_partitions() {
    let sessions = sessions_of(10, 8);
    assert_eq!(open(&sessions, 9, 0), NO_SESSION);
    let id = open(&sessions, 5, 0);
    assert_eq!(open(&sessions, 4, 0), NO_SESSION);
    assert_ne!(open(&sessions, 3, 0), NO_SESSION);
    let growing = sessions.begin(&request(id, 1, &[(100, 0)]), BY_NAME, 0).unwrap_err();
    assert_eq!(growing, SessionError::NotFound(id), "the one that outgrows the limit closes");
    assert_eq!(sessions.stats().partitions, 3);
    assert_ne!(open(&sessions, 8, 3 * MINUTE_MS), NO_SESSION, "the unused one gives way");
}

#[test]
fn ids_are_positive_and_differ() {
    let sessions = FetchSessions::new(Limits::default());
    let mut ids: BTreeMap<i32, i32> = BTreeMap::new();
    for count in 0..500 {
        ids.insert(open(&sessions, 1, 0), count);
    }
    assert_eq!(ids.len(), 500);
    assert!(*ids.keys().next().unwrap() > 0);
}
