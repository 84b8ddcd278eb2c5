//! Idempotent producers of one partition (KIP-98): which batch comes next, which was seen before.
//!
//! Pure state, built from committed batches and so the same on every replica; no clock, no I/O.
//!
//! Invariants:
//! - A producer's batches are consecutive in sequence, the newest last, at most [`BATCHES_MAX`].
//! - Recording a batch again changes nothing, whatever was recorded since.
//! - Sequences count from 0 to `i32::MAX` and then start at 0 again.

use std::collections::{HashMap, VecDeque};

use jangbu_engine::{Offset, batch::Header};

use crate::proto::partition as proto;

/// Batches remembered per producer, which is also what clients may have in flight.
const BATCHES_MAX: usize = 5;

/// Where a batch is that was sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Offset of its first record.
    pub(crate) offset: Offset,
    /// Its largest timestamp.
    pub(crate) timestamp: i64,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the next one.
    Append,
    /// It was appended before.
    Duplicate(Seen),
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// A batch before it is missing, or it is older than what is remembered.
    #[error("producer {producer_id} sent sequence {sequence}, but the last one was {last}")]
    OutOfOrder { producer_id: i64, sequence: i32, last: i32 },
    /// A newer instance of the producer has taken over.
    #[error("producer {producer_id} has epoch {current}, the batch has {epoch}")]
    StaleEpoch { producer_id: i64, epoch: i16, current: i16 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Batch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    timestamp: i64,
}

impl Batch {
    /// Of its last record; sequences wrap behind `i32::MAX`.
    fn last_offset(&self) -> Offset {
        let steps = i64::from(self.last_sequence) - i64::from(self.first_sequence);
        Offset(self.base_offset.0 + steps.rem_euclid(i64::from(i32::MAX) + 1))
    }
}

/// A producer as operators are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    /// -1 when none is remembered.
    pub(crate) last_sequence: i32,
    /// The largest timestamp of its newest batch.
    pub(crate) last_timestamp: i64,
}

/// One producer's recent batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    epoch: i16,
    batches: VecDeque<Batch>,
    last_timestamp: i64,
}

/// The sequence of the last record of a batch that starts at `first`, wrapping as Kafka does.
fn sequence_after(first: i32, steps: i32) -> i32 {
    let sum = i64::from(first) + i64::from(steps);
    let wrapped = sum % (i64::from(i32::MAX) + 1);
    i32::try_from(wrapped).expect("a value modulo 2^31 fits")
}

impl Producer {
    fn new(epoch: i16) -> Self {
        Self { epoch, batches: VecDeque::with_capacity(BATCHES_MAX), last_timestamp: -1 }
    }

    /// Judges a batch of this producer.
    pub(crate) fn check(&self, batch: &Header) -> Result<Verdict, Refused> {
        let (producer_id, sequence) = (batch.producer_id, batch.base_sequence);
        if batch.producer_epoch < self.epoch {
            let (epoch, current) = (batch.producer_epoch, self.epoch);
            return Err(Refused::StaleEpoch { producer_id, epoch, current });
        }
        let last = self.batches.back().map(|b| b.last_sequence);
        let out_of_order = Refused::OutOfOrder { producer_id, sequence, last: last.unwrap_or(-1) };
        if batch.producer_epoch > self.epoch {
            return if sequence == 0 { Ok(Verdict::Append) } else { Err(out_of_order) };
        }
        let last_sequence = sequence_after(sequence, batch.last_offset_delta);
        let seen = self
            .batches
            .iter()
            .find(|b| b.first_sequence == sequence && b.last_sequence == last_sequence);
        match (seen, last) {
            (Some(seen), _) => {
                Ok(Verdict::Duplicate(Seen { offset: seen.base_offset, timestamp: seen.timestamp }))
            }
            (None, Some(last)) if sequence_after(last, 1) != sequence => Err(out_of_order),
            (None, _) => Ok(Verdict::Append),
        }
    }

    fn last_offset(&self) -> Option<Offset> {
        self.batches.back().map(|batch| batch.base_offset)
    }

    /// Remembers an appended batch.
    fn record(&mut self, batch: &Header, base_offset: Offset) {
        if batch.producer_epoch != self.epoch {
            self.batches.clear();
            self.epoch = batch.producer_epoch;
        }
        if self.batches.len() == BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back(Batch {
            first_sequence: batch.base_sequence,
            last_sequence: sequence_after(batch.base_sequence, batch.last_offset_delta),
            base_offset,
            timestamp: batch.max_timestamp,
        });
        self.last_timestamp = batch.max_timestamp;
    }

    /// Whether `other` has recorded the same last batch.
    pub(crate) fn is_level_with(&self, other: &Self) -> bool {
        let last = |p: &Self| p.batches.back().map(|b| b.last_sequence);
        self.epoch == other.epoch && last(self) == last(other)
    }
}

/// The producers of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
}

impl Producers {
    pub(crate) fn get(&self, producer_id: i64) -> Option<&Producer> {
        self.by_id.get(&producer_id)
    }

    /// Judges a batch. A producer that is not known may start anywhere: its earlier batches may have
    /// been removed by retention (as Kafka's `ProducerAppendInfo` does).
    pub(crate) fn check(&self, batch: &Header) -> Result<Verdict, Refused> {
        self.get(batch.producer_id).map_or(Ok(Verdict::Append), |producer| producer.check(batch))
    }

    /// Whether exactly this batch is remembered.
    pub(crate) fn check_duplicate(&self, batch: &Header) -> Verdict {
        match self.get(batch.producer_id).map(|producer| producer.check(batch)) {
            Some(Ok(Verdict::Duplicate(seen))) => Verdict::Duplicate(seen),
            _ => Verdict::Append,
        }
    }

    /// Whether the newest batch that is remembered of a producer lies at `offset` or behind it.
    pub(crate) fn has_written_since(&self, producer_id: i64, offset: Offset) -> bool {
        self.get(producer_id).and_then(Producer::last_offset).is_some_and(|last| last >= offset)
    }

    /// The last offset of each producer's newest batch, ascending.
    pub(crate) fn last_offsets(&self) -> Vec<Offset> {
        let newest = self.by_id.values().filter_map(|producer| producer.batches.back());
        let mut offsets: Vec<_> = newest.map(Batch::last_offset).collect();
        offsets.sort_unstable();
        offsets
    }

    /// What each producer has written, by its id.
    pub(crate) fn described(&self) -> Vec<Described> {
        let describe = |(id, producer): (&i64, &Producer)| Described {
            id: *id,
            epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_timestamp: producer.last_timestamp,
        };
        let mut described: Vec<Described> = self.by_id.iter().map(describe).collect();
        described.sort_unstable_by_key(|producer| producer.id);
        described
    }

    /// Remembers a committed batch. One that is not behind what is remembered of its producer was recorded before: this
    /// state may be newer than the place in the log from which it is applied again.
    pub(crate) fn record(&mut self, batch: &Header, base_offset: Offset) {
        let known = self.get(batch.producer_id).and_then(Producer::last_offset);
        if known.is_none_or(|known| base_offset > known) {
            self.producer(batch).record(batch, base_offset);
        }
    }

    /// Remembers a batch that is proposed: its offset is not known yet.
    pub(crate) fn expect(&mut self, batch: &Header) {
        self.producer(batch).record(batch, Offset(-1));
    }

    fn producer(&mut self, batch: &Header) -> &mut Producer {
        let new = || Producer::new(batch.producer_epoch);
        self.by_id.entry(batch.producer_id).or_insert_with(new)
    }

    /// Puts in a copy of one producer's state, to build on.
    pub(crate) fn insert(&mut self, producer_id: i64, producer: Producer) {
        self.by_id.insert(producer_id, producer);
    }

    pub(crate) fn remove(&mut self, producer_id: i64) {
        self.by_id.remove(&producer_id);
    }

    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
    }

    pub(crate) fn encode(&self) -> Vec<proto::Producer> {
        let batch = |b: &Batch| proto::Batch {
            first_sequence: b.first_sequence,
            last_sequence: b.last_sequence,
            base_offset: b.base_offset.0,
            timestamp: b.timestamp,
        };
        let producer = |(id, producer): (&i64, &Producer)| proto::Producer {
            id: *id,
            epoch: i32::from(producer.epoch),
            batches: producer.batches.iter().map(batch).collect(),
            last_timestamp: producer.last_timestamp,
        };
        self.by_id.iter().map(producer).collect()
    }

    pub(crate) fn decode(stored: Vec<proto::Producer>) -> Result<Self, String> {
        let mut by_id = HashMap::with_capacity(stored.len());
        for producer in stored {
            let older = producer.batches.len().saturating_sub(BATCHES_MAX);
            let batches = producer.batches.iter().skip(older).map(|b| Batch {
                first_sequence: b.first_sequence,
                last_sequence: b.last_sequence,
                base_offset: Offset(b.base_offset),
                timestamp: b.timestamp,
            });
            let epoch = i16::try_from(producer.epoch).map_err(|e| e.to_string())?;
            let batches = batches.collect();
            let last_timestamp = producer.last_timestamp;
            by_id.insert(producer.id, Producer { epoch, batches, last_timestamp });
        }
        Ok(Self { by_id })
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn header(producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Header {
        Header {
            base_offset: Offset(0),
            batch_bytes: 61,
            leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: i64::from(base_sequence),
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: 1,
        }
    }

    /// A log as leaders let it come about: what is not the next batch of its producer is not in it.
    fn log(wishes: &[(i64, bool)]) -> Vec<(Header, Offset)> {
        let mut known = Producers::default();
        let mut log = Vec::new();
        let mut epochs = HashMap::new();
        for (&(id, new_epoch), offset) in wishes.iter().zip(0..) {
            let epoch: &mut i16 = epochs.entry(id).or_default();
            *epoch += i16::from(new_epoch);
            let last = known.get(id).filter(|known| known.epoch == *epoch);
            let next = last.and_then(|known| known.batches.back());
            let header = header(id, *epoch, next.map_or(0, |batch| batch.last_sequence + 1));
            assert_eq!(known.check(&header), Ok(Verdict::Append));
            known.record(&header, Offset(offset));
            log.push((header, Offset(offset)));
        }
        log
    }

    fn wishes() -> impl Strategy<Value = Vec<(i64, bool)>> {
        let wish = (0..4_i64, any::<u8>()).prop_map(|(id, dice)| (id, dice < 30));
        proptest::collection::vec(wish, 1..60)
    }

    fn apply(state: &mut Producers, log: &[(Header, Offset)]) {
        for (header, offset) in log {
            state.record(header, *offset);
        }
    }

    proptest! {
        #[test]
        fn a_state_that_is_newer_than_where_it_is_applied_from_comes_to_the_same(
            wishes in wishes(), from in any::<proptest::sample::Index>(),
            until in any::<proptest::sample::Index>(),
        ) {
            let log = log(&wishes);
            let mut whole = Producers::default();
            apply(&mut whole, &log);
            let mut state = Producers::default();
            apply(&mut state, &log[..until.index(log.len() + 1)]);
            let from = from.index(until.index(log.len() + 1) + 1);
            let mut state = Producers::decode(state.encode()).unwrap();
            apply(&mut state, &log[from..]);
            prop_assert_eq!(state, whole);
        }

        #[test]
        fn what_was_recorded_is_a_duplicate(wishes in wishes()) {
            let log = log(&wishes);
            let mut state = Producers::default();
            for (header, offset) in &log {
                state.record(header, *offset);
                let verdict = state.check_duplicate(header);
                prop_assert!(matches!(verdict, Verdict::Duplicate(seen) if seen.offset == *offset));
            }
        }
    }
}
