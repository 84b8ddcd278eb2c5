//! What is forgotten, and the tombstones of it: offsets whose time is over, and groups for which nothing else is left.
//!
//! Not here: groups of the consumer protocol (`consumer/machine.rs`).

use super::effects::{Effects, Then};
use super::group::{CONSUMER, Group, State};
use super::machine::Machine;
use super::offsets::Committed;
use super::records::Record;
use super::table::{Stored, Table};
use super::{Limits, Now};

/// Tombstones that are stored together.
const TOGETHER_MAX: usize = 1_000;

impl Machine {
    /// Forgets offsets whose time is over, offsets of topics that are no more, and groups for which nothing else is left.
    pub(crate) fn expire_offsets(
        &mut self,
        table: &Table,
        is_gone: impl Fn(&str, &Committed) -> bool,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        self.expire_consumer_offsets(table, &is_gone, now, limits, fx);
        for id in ids {
            let (Some(group), stored) = (self.groups.get(&id), table.get(&id)) else { continue };
            // A tombstone must not follow a commit that it does not know.
            if group.committing > 0 {
                continue;
            }
            let expired = |topic: &str, _: i32, offset: &Committed| {
                is_gone(topic, offset) || group.has_expired(topic, offset, now, limits)
            };
            let count = |stored: &Stored| stored.offsets.iter().count();
            let kept = |stored: &Stored| {
                stored.offsets.iter().filter(|(t, p, value)| !expired(t, *p, value)).count()
            };
            let (total, kept) = stored.map_or((0, 0), |stored| (count(stored), kept(stored)));
            if kept == 0 && group.is_nothing() && stored.is_some() {
                let records = tombstones(&id, stored, |_, _, _| true);
                write_all(records, Then::Nothing, fx);
                self.forget(&id);
            } else if kept < total {
                let mut records = tombstones(&id, stored, expired);
                records.retain(|record| matches!(record, Record::Offset { .. }));
                write_all(records, Then::Nothing, fx);
            } else if stored.is_none() {
                self.settle(&id, table);
            }
        }
    }
}

impl Group {
    /// Whether an offset has not been of use for as long as offsets are kept: since it was committed, and not while
    /// the group may still need it.
    fn has_expired(&self, topic: &str, offset: &Committed, now: Now, limits: &Limits) -> bool {
        let base = match (&self.protocol_type, self.state) {
            (None, _) => offset.committed_ms,
            (Some(_), State::Empty) if self.since_ms >= 0 => self.since_ms,
            (Some(_), State::Empty) => offset.committed_ms,
            (Some(kind), State::Stable) if kind == CONSUMER => match &self.subscribed {
                Some(topics) if !topics.contains(topic) => offset.committed_ms,
                _ => return false,
            },
            _ => return false,
        };
        match offset.expires_ms {
            Some(at) => now.wall_ms >= at,
            None => now.wall_ms.saturating_sub(base) >= limits.retention_ms,
        }
    }
}

/// Has many records stored, the last of them with what then.
pub(super) fn write_all(mut records: Vec<Record>, then: Then, fx: &mut Effects) {
    while records.len() > TOGETHER_MAX {
        let rest = records.split_off(TOGETHER_MAX);
        fx.write(std::mem::replace(&mut records, rest), Then::Nothing);
    }
    fx.write(records, then);
}

/// The tombstones of a group's chosen offsets, and of the group, whichever protocol it followed.
pub(super) fn tombstones(
    id: &str,
    stored: Option<&Stored>,
    chosen: impl Fn(&str, i32, &Committed) -> bool,
) -> Vec<Record> {
    let Some(stored) = stored else { return Vec::new() };
    let gone =
        stored.offsets.iter().filter(|(topic, partition, value)| chosen(topic, *partition, value));
    let offset = |(topic, partition, _): (&str, i32, &Committed)| Record::Offset {
        group: id.to_owned(),
        topic: topic.to_owned(),
        partition,
        value: None,
    };
    let mut records: Vec<Record> = gone.map(offset).collect();
    if stored.group.is_some() {
        records.push(Record::group(id, None));
    }
    records.extend(remains(id, stored));
    records
}

/// The tombstones of what is stored of a consumer group.
fn remains(id: &str, stored: &Stored) -> impl Iterator<Item = Record> {
    let pieces = stored.consumer.iter().flat_map(|pieces| pieces.tombstones(&Default::default()));
    let group = id.to_owned();
    pieces.map(move |piece| Record::Consumer { group: group.clone(), piece })
}

/// Has what is left of an empty consumer group deleted with the first assignment of the classic group that has taken its place:
/// what was to delete it may not have been stored.
pub(super) fn clear_remains(id: &str, table: &Table, fx: &mut Effects) {
    let Some(stored) = table.get(id) else { return };
    let assigns = |write: &&mut super::effects::Write| matches!(&write.then, Then::Assign { group, .. } if group == id);
    if let Some(write) = fx.writes.iter_mut().find(assigns) {
        write.records.extend(remains(id, stored));
    }
}
