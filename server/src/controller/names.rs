//! Which topics the partitions of a stopped store belong to, for `jangbu inspect`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jangbu_engine::inspect::Store;
use jangbu_engine::{EntryKind, PartitionId};

use super::image::{Holder, SharedImage};
use super::machine::MetadataMachine;
use crate::consensus::{Committed, StateMachine, stored_checkpoint};
use crate::replicas::METADATA;

/// Topic and partition number of each partition of `store`, from the metadata group's checkpoint and log. What does not
/// decode is left out: the partitions then have no name but their id.
#[must_use]
pub fn topic_names(store: &Store) -> BTreeMap<PartitionId, (String, usize)> {
    // Names do not depend on who looks.
    let holder = Holder::default();
    let image = Arc::new(SharedImage::new(&holder));
    let mut machine = MetadataMachine::new(Arc::clone(&image), holder);
    let mut applied = None;
    if let Ok(Some(stored)) = store.checkpoint(METADATA)
        && let Some((index, next_offset, state)) = stored_checkpoint(&stored)
        && machine.restore(&state, next_offset).is_ok()
    {
        applied = index;
    }
    let read = store.dump(METADATA, |entry| {
        let Ok((entry, _)) = entry else { return false };
        if entry.kind == EntryKind::Command && applied.is_none_or(|applied| applied < entry.index) {
            machine.apply(&Committed {
                kind: entry.kind,
                base_offset: entry.base_offset,
                next_offset: entry.next_offset(),
                payload: entry.payload.clone(),
            });
        }
        true
    });
    if let Err(error) = read {
        tracing::warn!(%error, "the metadata group's log cannot be read to its end");
    }
    let image = image.read();
    let named = |topic: &Arc<super::image::Topic>| {
        let name = topic.name.clone();
        let partitions = topic.partitions.iter().enumerate();
        partitions.map(|(number, p)| (p.group, (name.clone(), number))).collect::<Vec<_>>()
    };
    image.topics().flat_map(named).collect()
}
