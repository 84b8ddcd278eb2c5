//! What a partition knows of its keys: records below the high watermark and not below the log start, by the key index.
//!
//! Not here: whether this replica may answer ([`Partition::linearize`]), requests and answers (`lookup.rs`).

use bytes::Bytes;
use jangbu_engine::{KeyIndex, KeyRecord, Offset};

use super::{Bounds, Error, Partition};

/// Records looked at together on the way to a time.
const PIECE_COUNT: usize = 256;
/// The most bytes of such a piece.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces of one page of keys: many keys may be deleted ones, which are passed over.
const PIECES_MAX: usize = 8;

/// How much of what was found is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Only records below this offset.
    pub(crate) below: Offset,
    pub(crate) count_max: usize,
    /// About.
    pub(crate) bytes_max: usize,
}

/// Keys with the same beginning.
#[derive(Debug, Default)]
pub(crate) struct KeyPage {
    /// The newest record of each, without tombstones.
    pub(crate) records: Vec<KeyRecord>,
    /// There may be more behind this key.
    pub(crate) next: Option<Bytes>,
}

impl Partition {
    /// Whether the partition can be asked for keys.
    pub(crate) fn key_index(&self) -> KeyIndex {
        self.log.key_index()
    }

    /// The records of a key, newest first, tombstones included.
    ///
    /// # Errors
    /// [`Error::Log`], [`Error::Stopped`].
    pub(crate) async fn history(
        &self,
        key: Bytes,
        wanted: Wanted,
    ) -> Result<Vec<KeyRecord>, Error> {
        let Bounds { log_start, high_watermark } = self.bounds();
        let Wanted { below, count_max, bytes_max } = wanted;
        let below = below.min(high_watermark);
        let read = move |log: jangbu_engine::PartitionLog| match count_max {
            1 => log.get(&key, below).map(|found| found.into_iter().collect::<Vec<_>>()),
            _ => log.history(&key, below, count_max, bytes_max),
        };
        let mut found = self.on_disk(read).await?;
        found.retain(|record| record.offset >= log_start);
        Ok(found)
    }

    /// The records of a key that are not younger than `time_ms`, newest first. Timestamps need not grow with offsets,
    /// so that each record may have to be looked at.
    ///
    /// # Errors
    /// [`Error::Log`], [`Error::Stopped`].
    pub(crate) async fn history_until(
        &self,
        key: &Bytes,
        time_ms: i64,
        wanted: Wanted,
    ) -> Result<Vec<KeyRecord>, Error> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut piece = Wanted { count_max: PIECE_COUNT, bytes_max: PIECE_BYTES, ..wanted };
        loop {
            let records = self.history(key.clone(), piece).await?;
            let Some(last) = records.last() else { return Ok(found) };
            piece.below = last.offset;
            for record in records.into_iter().filter(|record| record.timestamp <= time_ms) {
                bytes += record_bytes(&record);
                found.push(record);
                if found.len() >= wanted.count_max || bytes >= wanted.bytes_max {
                    return Ok(found);
                }
            }
        }
    }

    /// The newest record of each key that begins with `prefix` and comes behind `after`, by the order of bytes.
    ///
    /// # Errors
    /// [`Error::Log`], [`Error::Stopped`].
    pub(crate) async fn keys_with_prefix(
        &self,
        prefix: &Bytes,
        after: Option<Bytes>,
        wanted: Wanted,
    ) -> Result<KeyPage, Error> {
        let Bounds { log_start, high_watermark } = self.bounds();
        let below = wanted.below.min(high_watermark);
        let (mut page, mut bytes) = (KeyPage { next: after, ..KeyPage::default() }, 0);
        for _ in 0..PIECES_MAX {
            let (prefix, after) = (prefix.clone(), page.next.clone());
            let count_max = wanted.count_max - page.records.len();
            let bytes_max = wanted.bytes_max - bytes;
            let read = move |log: jangbu_engine::PartitionLog| {
                log.keys_with_prefix(&prefix, after.as_deref(), below, count_max, bytes_max)
            };
            let piece = self.on_disk(read).await?;
            let Some(last) = piece.last() else { return Ok(KeyPage { next: None, ..page }) };
            page.next = Some(last.key.clone());
            for record in piece {
                if record.value.is_some() && record.offset >= log_start {
                    bytes += record_bytes(&record);
                    page.records.push(record);
                }
            }
            if page.records.len() >= wanted.count_max || bytes >= wanted.bytes_max {
                break;
            }
        }
        Ok(page)
    }
}

/// About what a record takes in an answer.
fn record_bytes(record: &KeyRecord) -> usize {
    let header = |(name, value): &(Bytes, Option<Bytes>)| {
        name.len() + value.as_ref().map_or(0, Bytes::len) + 8
    };
    let headers: usize = record.headers.iter().map(header).sum();
    record.key.len() + record.value.as_ref().map_or(0, Bytes::len) + headers + 32
}
