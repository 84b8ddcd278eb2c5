//! Incremental fetch sessions (KIP-227): the broker remembers which partitions a client fetches, so
//! that request and response name only what changed.
//!
//! A fetch calls [`FetchSessions::begin`], reads the planned partitions for as long as it likes, and
//! calls [`FetchSessions::finish`] once. No I/O and no clock; the time is an argument.
//!
//! Invariants:
//! - A session's epoch moves in `begin`, so of two racing requests one gets the epoch error.
//! - The cache's lock may be held when a session's lock is taken, never the other way round.
//!
//! Not here: whether a topic id belongs to a topic (the handler), the order inside (`session.rs`),
//! who is evicted (`cache.rs`).

mod cache;
mod session;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use kafka_protocol::{
    ResponseError,
    messages::{
        FetchRequest, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::FetchableTopicResponse,
    },
};
use parking_lot::Mutex;
use uuid::Uuid;

use cache::Cache;
use session::Session;

/// The session id that names no session.
pub(crate) const NO_SESSION: i32 = 0;
/// The epoch of a full fetch that asks for a new session.
const EPOCH_INITIAL: i32 = 0;
/// The epoch of a full fetch without a session, which closes the one it names.
const EPOCH_FINAL: i32 = -1;
/// From this version on a fetch names topics by id (KIP-516).
const VERSION_TOPIC_IDS: i16 = 13;

/// How much the sessions of a node may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Sessions at a time.
    pub(crate) sessions_max: usize,
    /// Partitions of all sessions together.
    pub(crate) partitions_max: usize,
    /// An unused session gives way to any other after this, and no session to a larger one before.
    pub(crate) eviction_ms: i64,
}

impl Default for Limits {
    /// Kafka's defaults, and 200,000 partitions (some 50 MB).
    fn default() -> Self {
        Self { sessions_max: 1_000, partitions_max: 200_000, eviction_ms: 120_000 }
    }
}

/// How many sessions there are now, and how many had to give way so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stats {
    pub(crate) sessions: usize,
    pub(crate) partitions: usize,
    pub(crate) evictions: u64,
}

/// Why a fetch cannot go on with its session; the client starts over with a full fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    /// The session was closed or evicted, or has outgrown the limits.
    #[error("there is no fetch session {0}")]
    NotFound(i32),
    /// Another request of the session came in between, or one was lost.
    #[error("the fetch session expects epoch {expected}, not {given}")]
    Epoch { expected: i32, given: i32 },
    /// The session names topics by id and the request by name, or the other way round.
    #[error("the fetch session and its request name topics in different ways")]
    TopicIds,
}

impl SessionError {
    /// The error code of the whole response, which then has no partitions and session id 0.
    pub(crate) fn code(self) -> i16 {
        match self {
            Self::NotFound(_) => ResponseError::FetchSessionIdNotFound,
            Self::Epoch { .. } => ResponseError::InvalidFetchSessionEpoch,
            Self::TopicIds => ResponseError::FetchSessionTopicIdError,
        }
        .code()
    }
}

/// A topic as the fetch names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Topic {
    /// Before version 13.
    Name(TopicName),
    /// From version 13 on.
    Id(Uuid),
}

/// How requests of a version name topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    ByName,
    ById,
}

impl Naming {
    fn of(version: i16) -> Self {
        if version >= VERSION_TOPIC_IDS { Self::ById } else { Self::ByName }
    }

    fn topic(self, name: &TopicName, id: Uuid) -> Topic {
        match self {
            Self::ByName => Topic::Name(name.clone()),
            Self::ById => Topic::Id(id),
        }
    }
}

/// What to fetch from one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionFetch {
    pub(crate) topic: Topic,
    pub(crate) partition: i32,
    pub(crate) fetch_offset: i64,
    pub(crate) partition_max_bytes: i32,
    /// The epoch the client believes in, -1 for none.
    pub(crate) current_leader_epoch: i32,
    /// The epoch of the last record it has, -1 for none.
    pub(crate) last_fetched_epoch: i32,
    pub(crate) log_start_offset: i64,
}

impl PartitionFetch {
    fn new(topic: Topic, wanted: &FetchPartition) -> Self {
        Self {
            topic,
            partition: wanted.partition,
            fetch_offset: wanted.fetch_offset,
            partition_max_bytes: wanted.partition_max_bytes,
            current_leader_epoch: wanted.current_leader_epoch,
            last_fetched_epoch: wanted.last_fetched_epoch,
            log_start_offset: wanted.log_start_offset,
        }
    }
}

/// What one fetch reads, and how it is answered.
#[derive(Debug)]
pub(crate) struct Plan {
    partitions: Vec<PartitionFetch>,
    naming: Naming,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Sessionless,
    /// Full, and the beginning of a session if there is room.
    Opening,
    Incremental {
        id: i32,
        session: Arc<Mutex<Session>>,
        /// The session's epoch since this request.
        epoch: i32,
    },
}

impl Plan {
    /// The partitions to fetch. Those that come first get their share of the response first, and the
    /// response keeps this order.
    pub(crate) fn partitions(&self) -> &[PartitionFetch] {
        &self.partitions
    }

    #[cfg(test)]
    /// Whether the response may leave out what has not changed.
    pub(crate) fn is_incremental(&self) -> bool {
        matches!(self.answer, Answer::Incremental { .. })
    }

    fn of_request(request: &FetchRequest, naming: Naming, answer: Answer) -> Self {
        Self { partitions: listed(&request.topics, naming), naming, answer }
    }
}

/// The partitions of a request in its order; of one that is named twice the later values.
fn listed(topics: &[FetchTopic], naming: Naming) -> Vec<PartitionFetch> {
    let mut partitions: Vec<PartitionFetch> = Vec::new();
    let mut positions = HashMap::new();
    for topic in topics {
        let key = naming.topic(&topic.topic, topic.topic_id);
        for wanted in &topic.partitions {
            let fetch = PartitionFetch::new(key.clone(), wanted);
            let next = partitions.len();
            let position = *positions.entry((key.clone(), wanted.partition)).or_insert(next);
            match partitions.get_mut(position) {
                Some(earlier) => *earlier = fetch,
                None => partitions.push(fetch),
            }
        }
    }
    partitions
}

/// The epoch after `epoch`; 0 is never used again because it opens a session.
fn epoch_after(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

/// The fetch sessions of a node.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    cache: Mutex<Cache>,
}

impl FetchSessions {
    /// No sessions yet, and room for as many as `limits` say.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { cache: Mutex::new(Cache::new(limits)) }
    }

    /// What the node spends on sessions.
    pub(crate) fn stats(&self) -> Stats {
        self.cache.lock().stats()
    }

    /// Says what a fetch reads, and moves its session to the next epoch.
    ///
    /// # Errors
    /// When the fetch continues a session that is unknown, at another epoch, or naming topics in the
    /// other way.
    pub(crate) fn begin(
        &self,
        request: &FetchRequest,
        version: i16,
        now_ms: i64,
    ) -> Result<Plan, SessionError> {
        let naming = Naming::of(version);
        let answer = match request.session_epoch {
            EPOCH_INITIAL => Answer::Opening,
            EPOCH_FINAL => Answer::Sessionless,
            _ => return self.resume(request, naming, now_ms),
        };
        if request.session_id != NO_SESSION {
            self.cache.lock().remove(request.session_id);
        }
        Ok(Plan::of_request(request, naming, answer))
    }

    fn resume(
        &self,
        request: &FetchRequest,
        naming: Naming,
        now_ms: i64,
    ) -> Result<Plan, SessionError> {
        let id = request.session_id;
        let session = self.cache.lock().get(id).ok_or(SessionError::NotFound(id))?;
        let mut locked = session.lock();
        locked.update(request, naming)?;
        if locked.is_empty() {
            drop(locked);
            self.cache.lock().remove_exactly(id, &session);
            return Ok(Plan::of_request(request, naming, Answer::Sessionless));
        }
        let epoch = locked.advance();
        let partitions = locked.partitions();
        drop(locked);
        if !self.cache.lock().touch(id, &session, now_ms) {
            return Err(SessionError::NotFound(id));
        }
        Ok(Plan { partitions, naming, answer: Answer::Incremental { id, session, epoch } })
    }

    /// Takes what the partitions of `plan` answered, in the plan's order; removes what an incremental
    /// response need not say, and returns the response's session id.
    ///
    /// # Errors
    /// When another request of the session came in between; `responses` is empty then.
    pub(crate) fn finish(
        &self,
        plan: Plan,
        responses: &mut Vec<FetchableTopicResponse>,
        now_ms: i64,
    ) -> Result<i32, SessionError> {
        match plan.answer {
            Answer::Sessionless => Ok(NO_SESSION),
            Answer::Opening => {
                let size = plan.partitions.len();
                let open = || Session::open(plan.partitions, plan.naming, responses);
                Ok(self.cache.lock().create(size, now_ms, open).unwrap_or(NO_SESSION))
            }
            Answer::Incremental { id, session, epoch } => {
                let answered = session.lock().retain_news(epoch, responses);
                answered.map(|()| id).inspect_err(|_| responses.clear())
            }
        }
    }
}
