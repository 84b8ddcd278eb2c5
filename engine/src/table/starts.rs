//! Lets compaction drop rows of the key index that are below their log's start.
//!
//! Invariant: a start that is known here is durable, so that a crash brings no record back whose row is gone.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Arc;

use parking_lot::RwLock;
use rocksdb::CompactionDecision;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};

use super::row;
use crate::keys::Area;
use crate::{Offset, PartitionId};

const NAME: &CStr = c"jangbu-rows-below-the-log-start";

/// Where logs begin. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Starts(Arc<RwLock<HashMap<PartitionId, Offset>>>);

impl Starts {
    /// A log that is known begins at `start` now, which is durable.
    pub(crate) fn raise(&self, id: PartitionId, start: Offset) {
        if let Some(known) = self.0.write().get_mut(&id) {
            *known = (*known).max(start);
        }
    }

    /// Notes where a log begins, which is durable.
    pub(crate) fn set(&self, id: PartitionId, start: Offset) {
        self.0.write().insert(id, start);
    }

    /// A log begins at `start` or behind it from now on: never more is dropped.
    pub(crate) fn lower(&self, id: PartitionId, start: Offset) {
        if let Some(known) = self.0.write().get_mut(&id) {
            *known = (*known).min(start);
        }
    }

    /// Forgets a log.
    pub(crate) fn forget(&self, id: PartitionId) {
        self.0.write().remove(&id);
    }
}

impl CompactionFilterFactory for Starts {
    type Filter = Filter;

    fn create(&mut self, _: CompactionFilterContext) -> Filter {
        Filter { starts: self.clone(), at: None }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

/// The filter of one compaction.
pub(crate) struct Filter {
    starts: Starts,
    /// The log whose rows were seen last, and where it began then: rows that are entered later are in no compaction that
    /// runs already.
    at: Option<(PartitionId, Option<Offset>)>,
}

impl CompactionFilter for Filter {
    fn filter(&mut self, _: u32, key: &[u8], _: &[u8]) -> CompactionDecision {
        let Some(Area { id, .. }) = Area::of(key) else { return CompactionDecision::Keep };
        let start = match self.at {
            Some((known, start)) if known == id => start,
            _ => {
                let start = self.starts.0.read().get(&id).copied();
                self.at = Some((id, start));
                start
            }
        };
        match (start, row::offset_of(key)) {
            (Some(start), Some(offset)) if offset < start => CompactionDecision::Remove,
            _ => CompactionDecision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}
