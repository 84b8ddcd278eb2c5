//! A stored batch with its records unpacked: to look at them, and to write it without some.
//!
//! Invariant: what is left of a batch has its offsets, producer, epoch and codec.

use std::borrow::Cow;

use super::row;
use crate::Offset;
use crate::batch::{self, HEADER_BYTES, Header};
use crate::records::codec::{self, Compression};
use crate::records::{self, Record};

/// A batch of which every record can be read.
pub(crate) struct Unpacked<'a> {
    payload: &'a [u8],
    pub(crate) header: Header,
    body: Cow<'a, [u8]>,
}

/// A batch without the records that go.
pub(crate) enum Left {
    /// As it was.
    All,
    /// These bytes.
    Some(Vec<u8>),
    Nothing,
}

impl<'a> Unpacked<'a> {
    /// Unpacks a batch; `None` for a control batch, and when the records cannot be read.
    pub(crate) fn of(payload: &'a [u8]) -> Option<Self> {
        let header = Header::parse_stored(payload).ok()?;
        if header.is_control() {
            return None;
        }
        let body = codec::decompress(header.codec(), &payload[HEADER_BYTES..]).ok()?;
        let is_whole = records::each(&body, header.record_count).all(|record| record.is_some());
        is_whole.then_some(Self { payload, header, body })
    }

    /// How many records it has.
    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.header.record_count).unwrap_or(0)
    }

    /// Its records with their offsets.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Offset, Record<'_>)> {
        let base = self.header.base_offset.0;
        let records = records::each(&self.body, self.header.record_count).flatten();
        records.map(move |record| (Offset(base + record.head.offset_delta), record))
    }

    /// The offset of its last record, whether that is there or not.
    pub(crate) fn last(&self) -> Offset {
        Offset(self.header.base_offset.0 + i64::from(self.header.last_offset_delta))
    }

    /// The batch without the records that do not stay, and how many those are. `keep` says that it stays if it has none.
    ///
    /// # Errors
    /// Of the codec's library.
    pub(crate) fn filter(
        &self,
        keep: bool,
        mut stays: impl FnMut(Offset) -> bool,
    ) -> std::io::Result<(Left, u64)> {
        let (mut left, mut count, mut max, mut removed) = (Vec::new(), 0, -1, 0);
        for (offset, record) in self.records() {
            if stays(offset) {
                left.extend_from_slice(record.bytes);
                count += 1;
                max = max.max(row::timestamp(&self.header, &record));
            } else {
                removed += 1;
            }
        }
        if removed == 0 && (count > 0 || keep) {
            return Ok((Left::All, 0));
        }
        if count == 0 && !keep {
            return Ok((Left::Nothing, removed));
        }
        let mut packed = Vec::new();
        if count > 0 {
            codec::compress(compression(self.header.codec()), &left, &mut packed)?;
        }
        // An empty batch keeps its time: Kafka's cleaner does so too.
        let max = if count > 0 { max } else { self.header.max_timestamp };
        Ok((Left::Some(batch::with_records(self.payload, count, max, &packed)), removed))
    }
}

/// A codec with the level that its library has by itself.
fn compression(codec: u8) -> Compression {
    match codec {
        1 => Compression::Gzip { level: -1 },
        2 => Compression::Snappy,
        3 => Compression::Lz4 { level: 9 },
        4 => Compression::Zstd { level: 3 },
        _ => Compression::Uncompressed,
    }
}
