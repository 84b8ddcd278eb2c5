//! What a consumer hands out: a place, and a batch of records as it is in the log.

use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Batch;
use crate::{Compression, Error, Received, Result};

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, counted from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A batch of records as it is in the log; its checksum was right. Nothing of it is copied or decompressed until
/// [`RecordBatch::records`].
#[derive(Debug)]
pub struct RecordBatch {
    pub(super) place: TopicPartition,
    /// Records below are not wanted: brokers answer with whole batches.
    pub(super) from: i64,
    pub(super) batch: Batch,
}

impl RecordBatch {
    /// Where it was read.
    pub fn place(&self) -> &TopicPartition {
        &self.place
    }

    /// The offset of its first record when it was written; compaction may have taken that record.
    pub fn base_offset(&self) -> i64 {
        self.batch.base_offset
    }

    /// The offset after its last record.
    pub fn end_offset(&self) -> i64 {
        self.batch.end_offset
    }

    /// How many records it tells of, with those below the position that was asked for.
    pub fn count(&self) -> usize {
        usize::try_from(self.batch.count()).unwrap_or(0)
    }

    /// Whether it holds markers of transactions instead of records.
    pub fn is_control(&self) -> bool {
        self.batch.is_control()
    }

    /// How its records are compressed; `None` if that codec is unknown.
    pub fn compression(&self) -> Option<Compression> {
        self.batch.compression()
    }

    /// The whole batch in Kafka's format 2, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.batch.bytes
    }

    /// Its records from the position on that was asked for; none if it holds markers.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they do not decompress or decode.
    pub fn records(&self) -> Result<Vec<Received>> {
        let records = self.batch.records().map_err(|reason| self.corrupt(reason))?;
        let wanted = records.into_iter().filter(|(offset, _)| *offset >= self.from);
        let TopicPartition { topic, partition } = &self.place;
        let received = |(offset, record)| {
            let (topic, partition) = (Arc::clone(topic), *partition);
            Received { topic, partition, offset, record }
        };
        Ok(wanted.map(received).collect())
    }

    fn corrupt(&self, reason: String) -> Error {
        let TopicPartition { topic, partition } = &self.place;
        let offset = self.from.max(self.batch.base_offset);
        Error::Corrupt { topic: topic.to_string(), partition: *partition, offset, reason }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::{RecordBatch, TopicPartition};
    use crate::batch::{Builder, Identity, next_batch};
    use crate::{Compression, Record};

    /// A batch of `count` records that the broker has put at `base`.
    fn batch(base: i64, count: u8, from: i64) -> RecordBatch {
        let mut builder = Builder::new();
        for number in 0..count {
            builder.push(&Record::new(None::<Bytes>, vec![number]), 0);
        }
        let sealed = builder.seal(Compression::Lz4, None).unwrap().stamp(Identity::NONE, -1);
        let mut bytes = BytesMut::from(&sealed.into_bytes()[..]);
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        let batch = next_batch(&mut bytes.freeze()).unwrap().unwrap();
        RecordBatch { place: TopicPartition::new("t", 0), from, batch }
    }

    #[test]
    fn records_below_the_position_are_left_out() {
        let offsets = |batch: RecordBatch| -> Vec<i64> {
            batch.records().unwrap().iter().map(|received| received.offset).collect()
        };
        assert_eq!(offsets(batch(10, 5, 12)), [12, 13, 14]);
        assert_eq!(offsets(batch(10, 5, 0)), [10, 11, 12, 13, 14]);
        assert_eq!(offsets(batch(10, 5, 15)), [0; 0]);
    }

    #[test]
    fn a_batch_is_the_bytes_of_the_log() {
        let whole = batch(10, 5, 0);
        assert_eq!((whole.base_offset(), whole.end_offset(), whole.count()), (10, 15, 5));
        assert_eq!(whole.compression(), Some(Compression::Lz4));
        assert_eq!(whole.bytes()[..8], 10_i64.to_be_bytes());
    }
}
