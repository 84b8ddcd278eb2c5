//! Which partitions a consumer reads, from where, and how far it is.

use crate::{Consumer, Position, Result};

use super::{Assigned, Start, TopicPartition};

impl Consumer {
    /// Adds a partition, to be read from `offset`; one that is assigned already is moved there.
    pub fn assign(&mut self, topic: &str, partition: i32, offset: i64) {
        self.add(TopicPartition::new(topic, partition), Assigned::new(offset, Start::At));
    }

    /// Adds a partition, to be read from a position the broker looks up. Returns the offset.
    ///
    /// # Errors
    /// Those of [`crate::Client::offset`].
    pub async fn assign_at(&mut self, topic: &str, partition: i32, at: Position) -> Result<i64> {
        let offset = self.client.offset(topic, partition, at).await?;
        self.assign(topic, partition, offset);
        Ok(offset)
    }

    /// Removes a partition.
    pub fn unassign(&mut self, topic: &str, partition: i32) {
        self.remove(&TopicPartition::new(topic, partition));
    }

    pub(super) fn add(&mut self, place: TopicPartition, assigned: Assigned) {
        self.forget(&place);
        self.assigned.insert(place, assigned);
    }

    pub(super) fn remove(&mut self, place: &TopicPartition) {
        self.forget(place);
        self.assigned.remove(place);
    }

    /// The partitions that are read.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.assigned.keys().cloned().collect()
    }

    /// The next offset of a partition that would be handed out. `None` if it is not assigned, or is yet to be looked up.
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        let assigned = self.assigned.get(&TopicPartition::new(topic, partition))?;
        (assigned.start == Start::At).then_some(assigned.position)
    }

    /// How many records of a partition were known to be ahead when it was last read.
    pub fn lag(&self, topic: &str, partition: i32) -> Option<i64> {
        let assigned = self.assigned.get(&TopicPartition::new(topic, partition))?;
        Some((assigned.high_watermark? - assigned.position).max(0))
    }

    /// Goes on at `offset`. Without effect on a partition that is not assigned.
    pub fn seek(&mut self, topic: &str, partition: i32, offset: i64) {
        let place = TopicPartition::new(topic, partition);
        self.forget(&place);
        if let Some(assigned) = self.assigned.get_mut(&place) {
            assigned.seek(offset);
        }
    }

    /// Goes on at the beginning, the end, or the first record of a time, which is looked up before more is handed out.
    /// Without effect on a partition that is not assigned.
    pub fn seek_to(&mut self, topic: &str, partition: i32, at: Position) {
        let place = TopicPartition::new(topic, partition);
        self.forget(&place);
        if let Some(assigned) = self.assigned.get_mut(&place) {
            assigned.start = Start::LookUp(at);
        }
    }

    /// Hands out no more of a partition. It stays assigned, and the group need not know.
    pub fn pause(&mut self, topic: &str, partition: i32) {
        let place = TopicPartition::new(topic, partition);
        self.forget(&place);
        if let Some(assigned) = self.assigned.get_mut(&place) {
            assigned.paused = true;
            // What was buffered is fetched again.
            assigned.next = assigned.position;
        }
    }

    /// Goes on with a partition that was paused.
    pub fn resume(&mut self, topic: &str, partition: i32) {
        if let Some(assigned) = self.assigned.get_mut(&TopicPartition::new(topic, partition)) {
            assigned.paused = false;
        }
    }
}
