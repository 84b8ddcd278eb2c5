//! How many partitions are read at the same time, and how much room that takes.
//!
//! Each partition gives one batch at least, which may be larger than what the client asks for; so how large batches
//! are is taken from those that were seen last. Without that, what a response has no room for would be read in vain.

use jangbu_engine::Offset;

use super::partition_bytes_max;
use super::source::Source;
use crate::fetch_sessions::PartitionFetch;

/// Partitions read at the same time for one request, ...
pub(super) const WINDOW_MAX: usize = 64;
/// ... and as long as nobody knows how large their batches are.
const FIRST_WINDOW_MAX: usize = 8;
/// The bytes that reading a partition may give, if no batch is larger than `batch`.
fn expected(wanted: &PartitionFetch, source: &Source, batch: usize) -> usize {
    match source {
        Source::Here(partition, _) if partition.has_after(Offset(wanted.fetch_offset)) => {
            partition_bytes_max(wanted).max(batch)
        }
        _ => 0,
    }
}

/// The bytes that reading these partitions may give, if no batch is larger than `batch`.
pub(super) fn asked(wanted: &[PartitionFetch], sources: &[Source], batch: usize) -> usize {
    let each = wanted.iter().zip(sources).map(|(wanted, source)| expected(wanted, source, batch));
    each.fold(0, usize::saturating_add)
}

/// How many partitions are read at the same time: as many as have room in the response by what is known of them, so
/// that little is read in vain, and at least one. Those that have nothing to give cost nothing.
pub(super) fn window(
    wanted: &[PartitionFetch],
    sources: &[Source],
    left: usize,
    batch: usize,
) -> usize {
    let count_max = if batch == 0 { FIRST_WINDOW_MAX } else { WINDOW_MAX };
    let (mut reserved, mut count) = (0_usize, 0);
    let fits = |(wanted, source): &(&PartitionFetch, &Source)| {
        let expected = expected(wanted, source, batch);
        reserved = reserved.saturating_add(expected);
        count += usize::from(expected > 0);
        reserved <= left && count <= count_max
    };
    wanted.iter().zip(sources).take(WINDOW_MAX).take_while(fits).count().max(1)
}
