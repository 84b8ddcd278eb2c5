//! What the next request is likely to be answered with, read from the disk while this answer is on its way.
//!
//! A client that catches up asks again for the same partitions, where the answer before has ended. So the pieces that
//! would fill the next answer are read: in the order of this request, or, when a session keeps the order, what was
//! not served first.
//!
//! Not here: what bounds the pieces over all clients, and finds them again (`server/src/partition/ahead.rs`).

use jangbu_engine::Offset;

use super::{Read, Source, partition_bytes_max};
use crate::fetch_sessions::PartitionFetch;

/// An answer with fewer bytes than this comes from near the ends of the logs.
const CATCHING_UP_BYTES_MIN: usize = 256 << 10;
/// Read ahead of one partition at a time, at most.
const PIECE_BYTES_MAX: usize = 4 << 20;
/// Few partitions are read in larger pieces than they are asked for: so much for all of them.
const FEW_BYTES: usize = 8 << 20;

/// How far one answer has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Where each partition of the request goes on; `None` where the request itself says so.
    next: Vec<Option<Offset>>,
    offsets: i64,
}

impl Progress {
    /// Notes the next partition, which was answered up to `next`.
    pub(super) fn push(&mut self, fetch: &PartitionFetch, next: Option<Offset>) {
        self.next.push(next);
        self.offsets += next.map_or(0, |next| next.0.saturating_sub(fetch.fetch_offset).max(0));
    }
}

/// Begins to read what follows `read`, which answers `wanted`, as long as there is room. `rotates`: what was served
/// comes last in the next request.
pub(super) fn read_ahead(
    read: &Read,
    wanted: &[PartitionFetch],
    sources: &[Source],
    rotates: bool,
) {
    let offsets = usize::try_from(read.progress.offsets).unwrap_or(0);
    if read.bytes < CATCHING_UP_BYTES_MIN || offsets == 0 {
        return;
    }
    let record_bytes = read.bytes / offsets + 1;
    let few = FEW_BYTES / wanted.len().max(1);
    let mut next: Vec<_> = wanted.iter().zip(sources).zip(&read.progress.next).collect();
    if rotates {
        next.sort_by_key(|(_, next)| next.is_some());
    }
    for ((fetch, source), next) in next {
        let Source::Here(partition, _) = source else { continue };
        let from = next.unwrap_or(Offset(fetch.fetch_offset));
        // One batch at least is read, and room must be set aside for it.
        let bytes_max = partition_bytes_max(fetch).max(few).min(PIECE_BYTES_MAX);
        let bytes_max = bytes_max.max(read.largest_batch);
        if !partition.read_ahead(from, bytes_max, record_bytes) {
            return;
        }
    }
}
