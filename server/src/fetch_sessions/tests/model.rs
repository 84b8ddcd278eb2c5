//! Any history of appends, trims, errors, changed interests and evictions: after each fetch, what a
//! client has put together from the responses is what is true of every partition it wants.

use std::collections::BTreeMap;

use kafka_protocol::messages::{
    FetchRequest,
    fetch_request::{FetchPartition, FetchTopic, ForgottenTopic},
    fetch_response::{FetchableTopicResponse, PartitionData},
};
use proptest::{
    collection::vec, prelude::any, prop_oneof, proptest, sample::select, strategy::Strategy,
};
use uuid::Uuid;

use super::{BY_ID, BY_NAME, FetchSessions, Limits, MINUTE_MS, NO_SESSION, Plan, Topic, name};

/// A topic's number and a partition.
type Key = (u8, i32);

/// An error that is answered without offsets.
const HIDING: i16 = 6;

#[derive(Debug, Clone)]
enum Step {
    Append(Key),
    Trim(Key),
    /// Sets the error code, 0 for none.
    Fail(Key, i16),
    Want(Key, bool),
    /// Another client asks for a session long after.
    Crowd,
    Fetch,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (0u8..3, 0i32..3);
    prop_oneof![
        2 => key().prop_map(Step::Append),
        1 => key().prop_map(Step::Trim),
        2 => (key(), select(&[0, 3, HIDING][..])).prop_map(|(key, code)| Step::Fail(key, code)),
        4 => (key(), any::<bool>()).prop_map(|(key, want)| Step::Want(key, want)),
        1 => (0..4).prop_map(|n| if n == 0 { Step::Crowd } else { Step::Fetch }),
        4 => (0..1).prop_map(|_| Step::Fetch),
    ]
}

/// What is true of a partition, and what a client believes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    end: i64,
    start: i64,
    error: i16,
}

impl State {
    /// What a response says of it: some errors hide the offsets.
    fn shown(self) -> Self {
        if self.error == HIDING { Self { end: -1, start: -1, ..self } } else { self }
    }
}

#[derive(Debug, Default)]
struct Client {
    session: (i32, i32),
    /// The fetch offsets it wants, and those the session has.
    wanted: BTreeMap<Key, i64>,
    in_session: BTreeMap<Key, i64>,
    beliefs: BTreeMap<Key, State>,
}

fn topic_id(topic: u8) -> Uuid {
    Uuid::from_u128(u128::from(topic) + 1)
}

fn topic_of(topic: &Topic) -> u8 {
    match topic {
        Topic::Name(name) => name.parse().unwrap(),
        Topic::Id(id) => u8::try_from(id.as_u128() - 1).unwrap(),
    }
}

impl Client {
    fn request(&self) -> FetchRequest {
        let full = self.session.0 == NO_SESSION;
        let known = |key: &Key, offset: &i64| !full && self.in_session.get(key) == Some(offset);
        let changed = self.wanted.iter().filter(|(key, offset)| !known(key, offset));
        let topics = changed.map(|(&(topic, partition), &offset)| {
            let wanted =
                FetchPartition::default().with_partition(partition).with_fetch_offset(offset);
            FetchTopic::default()
                .with_topic(name(&topic.to_string()))
                .with_topic_id(topic_id(topic))
                .with_partitions(vec![wanted])
        });
        let gone = self.in_session.keys().filter(|key| !full && !self.wanted.contains_key(key));
        let forgotten = gone.map(|&(topic, partition)| {
            ForgottenTopic::default()
                .with_topic(name(&topic.to_string()))
                .with_topic_id(topic_id(topic))
                .with_partitions(vec![partition])
        });
        FetchRequest::default()
            .with_session_id(self.session.0)
            .with_session_epoch(if full { 0 } else { self.session.1 })
            .with_topics(topics.collect())
            .with_forgotten_topics_data(forgotten.collect())
    }

    fn apply(&mut self, incremental: bool, id: i32, responses: &[FetchableTopicResponse]) {
        if !incremental {
            self.beliefs.clear();
        }
        let wanted = &self.wanted;
        self.beliefs.retain(|key, _| wanted.contains_key(key));
        self.in_session = self.wanted.clone();
        let epoch = if incremental { self.session.1 + 1 } else { 1 };
        self.session = if id == NO_SESSION { (NO_SESSION, 0) } else { (id, epoch) };
        for response in responses {
            let topic = topic_of_response(response);
            for data in &response.partitions {
                let (end, start) = (data.high_watermark, data.log_start_offset);
                let key = (topic, data.partition_index);
                self.beliefs.insert(key, State { end, start, error: data.error_code });
                if data.records.as_ref().is_some_and(|records| !records.is_empty()) {
                    self.wanted.insert(key, end);
                }
            }
        }
    }
}

fn topic_of_response(response: &FetchableTopicResponse) -> u8 {
    if response.topic_id.is_nil() {
        topic_of(&Topic::Name(response.topic.clone()))
    } else {
        topic_of(&Topic::Id(response.topic_id))
    }
}

#[derive(Debug)]
struct World {
    sessions: FetchSessions,
    version: i16,
    now_ms: i64,
    truth: BTreeMap<Key, State>,
    client: Client,
}

impl World {
    fn state(&mut self, key: Key) -> &mut State {
        self.truth.entry(key).or_default()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Append(key) => self.state(key).end += 1,
            Step::Trim(key) => self.state(key).start = self.state(key).end,
            Step::Fail(key, code) => self.state(key).error = code,
            Step::Want(key, true) => {
                let start = self.state(key).start;
                self.client.wanted.entry(key).or_insert(start);
            }
            Step::Want(key, false) => {
                self.client.wanted.remove(&key);
            }
            Step::Crowd => self.crowd(),
            Step::Fetch => self.fetch(),
        }
    }

    fn crowd(&mut self) {
        self.now_ms += 5 * MINUTE_MS;
        super::open(&self.sessions, 1, self.now_ms);
    }

    /// Fetches until there is an answer; a refused session leads to a full fetch.
    fn fetch(&mut self) {
        self.now_ms += 1;
        let plan = self.sessions.begin(&self.client.request(), self.version, self.now_ms);
        let plan = plan.unwrap_or_else(|_| {
            self.client.session = (NO_SESSION, 0);
            self.sessions.begin(&self.client.request(), self.version, self.now_ms).unwrap()
        });
        let planned: BTreeMap<Key, i64> = plan
            .partitions()
            .iter()
            .map(|p| ((topic_of(&p.topic), p.partition), p.fetch_offset))
            .collect();
        assert_eq!(planned.len(), plan.partitions().len(), "no partition is planned twice");
        assert_eq!(planned, self.client.wanted, "what is fetched is what the client wants");
        let incremental = plan.is_incremental();
        let mut responses = self.read(&plan);
        let with_records = |all: &[FetchableTopicResponse]| {
            let data = all.iter().flat_map(|topic| &topic.partitions);
            data.filter(|data| !data.records.as_ref().unwrap().is_empty()).count()
        };
        let read = with_records(&responses);
        let id = self.sessions.finish(plan, &mut responses, self.now_ms).unwrap();
        assert_eq!(with_records(&responses), read, "records are never left out");
        self.client.apply(incremental, id, &responses);
        for key in self.client.wanted.keys() {
            assert_eq!(self.client.beliefs[key], self.truth[key].shown(), "of {key:?}");
        }
    }

    fn read(&self, plan: &Plan) -> Vec<FetchableTopicResponse> {
        let read = |fetch: &super::super::PartitionFetch| {
            let state = self.truth[&(topic_of(&fetch.topic), fetch.partition)];
            let readable = state.error == 0 && fetch.fetch_offset < state.end;
            let shown = state.shown();
            let data = PartitionData::default()
                .with_partition_index(fetch.partition)
                .with_error_code(shown.error)
                .with_high_watermark(shown.end)
                .with_log_start_offset(shown.start)
                .with_records(Some(if readable { "records".into() } else { "".into() }));
            let response = FetchableTopicResponse::default().with_partitions(vec![data]);
            match &fetch.topic {
                Topic::Name(name) => response.with_topic(name.clone()),
                Topic::Id(id) => response.with_topic_id(*id),
            }
        };
        plan.partitions().iter().map(read).collect()
    }
}

proptest! {
    #[test]
    fn a_client_that_applies_responses_believes_the_truth(
        steps in vec(step(), 1..120),
        by_id: bool,
        sessions_max in 0usize..3,
        partitions_max in 1usize..12,
    ) {
        let limits = Limits { sessions_max, partitions_max, ..Limits::default() };
        let mut world = World {
            sessions: FetchSessions::new(limits),
            version: if by_id { BY_ID } else { BY_NAME },
            now_ms: 0,
            truth: BTreeMap::new(),
            client: Client::default(),
        };
        for step in &steps {
            world.take(step);
            let stats = world.sessions.stats();
            assert!(stats.sessions <= sessions_max && stats.partitions <= partitions_max);
        }
    }
}
