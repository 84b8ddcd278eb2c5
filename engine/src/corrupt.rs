//! Damage that reads have met: counted every time, logged once for each place.
//!
//! Invariant: a consumer that asks for a damaged range again and again does not fill the log.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::{Error, Index, PartitionId};

/// Places that are remembered.
const PLACES_MAX: usize = 1024;

/// What was met since the start.
#[derive(Debug, Default)]
pub(crate) struct CorruptReads {
    count: AtomicU64,
    places: Mutex<HashSet<(PartitionId, Index)>>,
}

impl CorruptReads {
    /// Counts `error` if it is damage, and logs it if its place is new.
    pub(crate) fn note(&self, error: &Error) {
        let Error::Corrupt { partition, index, what } = error else { return };
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut places = self.places.lock();
        if places.len() < PLACES_MAX && places.insert((*partition, *index)) {
            tracing::error!(
                %partition, %index, what = %what,
                "stored bytes are damaged; this range answers with an error, everything else goes on"
            );
        }
    }

    /// The partitions whose damage is remembered.
    pub(crate) fn partitions(&self) -> BTreeSet<PartitionId> {
        self.places.lock().iter().map(|(partition, _)| *partition).collect()
    }

    /// Forgets the damage of a log that is gone.
    pub(crate) fn forget(&self, partition: PartitionId) {
        self.places.lock().retain(|(of, _)| *of != partition);
    }

    /// Reads that met damage.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
