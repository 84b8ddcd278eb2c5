//! One fetch session: its partitions in the order in which they are served, and what the client was
//! last told about each.
//!
//! Invariants:
//! - `index` and `order` hold the same partitions.
//! - Nothing here shares memory with a request or a response, which would keep their buffers alive.
//!
//! Not here: how long a session lives (`cache.rs`).

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::{
    messages::{
        FetchRequest, TopicName,
        fetch_response::{FetchableTopicResponse, PartitionData},
    },
    protocol::StrBytes,
};

use super::{EPOCH_INITIAL, Naming, PartitionFetch, SessionError, Topic, epoch_after};

/// What Kafka calls an invalid offset: told to nobody yet, or to be told again.
const UNTOLD: i64 = -1;

/// A partition, and what the client knows of it.
#[derive(Debug)]
struct Entry {
    fetch: PartitionFetch,
    high_watermark: i64,
    log_start_offset: i64,
}

impl Entry {
    /// Whether the client has to hear of `data`, after which it counts as told.
    fn tell(&mut self, data: &PartitionData) -> bool {
        let moved = self.high_watermark != data.high_watermark
            || self.log_start_offset != data.log_start_offset;
        let alarming = data.error_code != 0 || data.diverging_epoch.epoch >= 0;
        self.log_start_offset = data.log_start_offset;
        // An error is told until it is gone, and then its end has to be told as well.
        self.high_watermark = if alarming { UNTOLD } else { data.high_watermark };
        moved || alarming || has_records(data) || data.preferred_read_replica.0 >= 0
    }
}

fn has_records(data: &PartitionData) -> bool {
    data.records.as_ref().is_some_and(|records| !records.is_empty())
}

/// A copy of the topic that keeps no request alive.
fn detached(topic: &Topic) -> Topic {
    match topic {
        Topic::Name(name) => {
            Topic::Name(TopicName(StrBytes::from_string(name.as_str().to_owned())))
        }
        Topic::Id(id) => Topic::Id(*id),
    }
}

/// The state of one session.
#[derive(Debug)]
pub(super) struct Session {
    epoch: i32,
    naming: Naming,
    /// The partitions, the next to be served first.
    order: BTreeMap<u64, Entry>,
    /// Where in `order` a partition is.
    index: HashMap<Topic, HashMap<i32, u64>>,
    /// The place behind the last partition.
    end: u64,
}

impl Session {
    /// The session that a full fetch begins, after which its client knows `responses`.
    pub(super) fn open(
        partitions: Vec<PartitionFetch>,
        naming: Naming,
        responses: &[FetchableTopicResponse],
    ) -> Self {
        let epoch = epoch_after(EPOCH_INITIAL);
        let (order, index) = (BTreeMap::new(), HashMap::new());
        let mut session = Self { epoch, naming, order, index, end: 0 };
        for fetch in partitions {
            session.upsert(fetch);
        }
        for response in responses {
            let topic = naming.topic(&response.topic, response.topic_id);
            for data in &response.partitions {
                if let Some(entry) = session.entry(&topic, data.partition_index) {
                    entry.tell(data);
                }
            }
        }
        session
    }

    /// How many partitions the session has.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether the client has forgotten all of its partitions.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The partitions in the order in which to serve them.
    pub(super) fn partitions(&self) -> Vec<PartitionFetch> {
        self.order.values().map(|entry| entry.fetch.clone()).collect()
    }

    /// Adds, changes and then forgets partitions as an incremental request says.
    ///
    /// # Errors
    /// When the request does not fit the session, which is then unchanged.
    pub(super) fn update(
        &mut self,
        request: &FetchRequest,
        naming: Naming,
    ) -> Result<(), SessionError> {
        self.expect_epoch(request.session_epoch)?;
        if naming != self.naming {
            return Err(SessionError::TopicIds);
        }
        for topic in &request.topics {
            let key = naming.topic(&topic.topic, topic.topic_id);
            for wanted in &topic.partitions {
                self.upsert(PartitionFetch::new(key.clone(), wanted));
            }
        }
        for forgotten in &request.forgotten_topics_data {
            let key = naming.topic(&forgotten.topic, forgotten.topic_id);
            self.forget(&key, &forgotten.partitions);
        }
        Ok(())
    }

    /// Moves to the next epoch and returns it.
    pub(super) fn advance(&mut self) -> i32 {
        self.epoch = epoch_after(self.epoch);
        self.epoch
    }

    /// Keeps of `responses` what the client does not know, and puts partitions that were given
    /// records behind the others, so that they do not starve them next time.
    ///
    /// # Errors
    /// When the session has moved on from `epoch`.
    pub(super) fn retain_news(
        &mut self,
        epoch: i32,
        responses: &mut Vec<FetchableTopicResponse>,
    ) -> Result<(), SessionError> {
        self.expect_epoch(epoch)?;
        responses.retain_mut(|response| {
            let topic = self.naming.topic(&response.topic, response.topic_id);
            response.partitions.retain(|data| self.observe(&topic, data));
            !response.partitions.is_empty()
        });
        Ok(())
    }

    fn observe(&mut self, topic: &Topic, data: &PartitionData) -> bool {
        // What the session does not know it cannot call known to the client.
        let Some(entry) = self.entry(topic, data.partition_index) else { return true };
        let news = entry.tell(data);
        if has_records(data) {
            self.move_to_end(topic, data.partition_index);
        }
        news
    }

    fn expect_epoch(&self, given: i32) -> Result<(), SessionError> {
        let expected = self.epoch;
        if given == expected { Ok(()) } else { Err(SessionError::Epoch { expected, given }) }
    }

    fn place(&self, topic: &Topic, partition: i32) -> Option<u64> {
        self.index.get(topic)?.get(&partition).copied()
    }

    fn entry(&mut self, topic: &Topic, partition: i32) -> Option<&mut Entry> {
        let place = self.place(topic, partition)?;
        self.order.get_mut(&place)
    }

    fn upsert(&mut self, mut fetch: PartitionFetch) {
        let known = self.index.get_key_value(&fetch.topic).map(|(topic, _)| topic.clone());
        fetch.topic = known.unwrap_or_else(|| detached(&fetch.topic));
        if let Some(entry) = self.entry(&fetch.topic, fetch.partition) {
            entry.fetch = fetch;
            return;
        }
        self.index.entry(fetch.topic.clone()).or_default().insert(fetch.partition, self.end);
        let entry = Entry { fetch, high_watermark: UNTOLD, log_start_offset: UNTOLD };
        self.order.insert(self.end, entry);
        self.end += 1;
    }

    fn forget(&mut self, topic: &Topic, partitions: &[i32]) {
        let Some(places) = self.index.get_mut(topic) else { return };
        for place in partitions.iter().filter_map(|partition| places.remove(partition)) {
            self.order.remove(&place);
        }
        if places.is_empty() {
            self.index.remove(topic);
        }
    }

    fn move_to_end(&mut self, topic: &Topic, partition: i32) {
        let place = self.index.get_mut(topic).and_then(|places| places.get_mut(&partition));
        let Some(place) = place else { return };
        if let Some(entry) = self.order.remove(place) {
            *place = self.end;
            self.order.insert(self.end, entry);
            self.end += 1;
        }
    }
}
