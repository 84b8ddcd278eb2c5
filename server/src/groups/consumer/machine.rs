//! The groups of the consumer protocol among the groups of one partition.
//!
//! A name belongs to a classic group or to one of these. An empty group of either kind becomes one of the other when somebody
//! joins with the other protocol.
//!
//! Not here: groups that change their protocol with members in them, requests of the classic protocol (`hosting.rs`).

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::group::{Context, Group};
use super::{Beat, Refusal};
use crate::groups::effects::{Effects, Reply, Then};
use crate::groups::expiry::{tombstones, write_all};
use crate::groups::group::State;
use crate::groups::machine::Machine;
use crate::groups::offsets::Committed;
use crate::groups::records::Record;
use crate::groups::table::{Stored, Table};
use crate::groups::{Limits, Now, Token};

impl Machine {
    /// Takes a heartbeat of the consumer protocol; it is answered through `fx`, at once or when what has changed is stored.
    pub(crate) fn beat(
        &mut self,
        beat: &Beat,
        token: Token,
        table: &Table,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        let id = beat.group.as_str();
        let topics = Arc::clone(&self.topics);
        let context = Context { topics: &topics, now, limits };
        let heard = match self.consumers.get_mut(id) {
            Some(group) if group.turning => Err(ResponseError::CoordinatorLoadInProgress.into()),
            Some(group) if beat.epoch < 0 => group.leave(beat, &context),
            Some(group) => group.heartbeat(beat, &context),
            None => self.found(id, beat, &context, fx),
        };
        match (heard, self.consumers.get_mut(id)) {
            (Ok(heard), Some(group)) => {
                group.tell(token, Reply::Heard(Ok(heard)), stored(table, id), fx);
            }
            (heard, _) => fx.heard(token, heard),
        }
        self.settle_consumers(id, table, &context, fx);
        self.schedule(id);
    }

    /// The first member of a group that does not exist, or that is a classic one.
    fn found(
        &mut self,
        id: &str,
        beat: &Beat,
        context: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<super::Heard, Refusal> {
        let not_found = |text: String| Err(Refusal::new(ResponseError::GroupIdNotFound, text));
        let classic = self.groups.get(id);
        match classic {
            Some(_) if beat.epoch != 0 => {
                return not_found(format!("Group {id} is not a consumer group."));
            }
            Some(group) if group.state != State::Empty => {
                return self.upgrade(id, beat, context, fx);
            }
            None if beat.epoch != 0 => return not_found(format!("Group {id} not found.")),
            None if self.is_full() => {
                let text = "This coordinator has as many groups as it can have.";
                return Err(Refusal::new(ResponseError::GroupMaxSizeReached, text));
            }
            _ => {}
        }
        let mut group = Group::new(id.to_owned());
        let heard = group.heartbeat(beat, context)?;
        group.store_whole();
        if let Some(classic) = classic {
            group.committing = classic.committing;
            self.forget(id);
        }
        self.consumers.insert(id.to_owned(), group);
        Ok(heard)
    }

    /// Makes room for a classic group where a group of the consumer protocol is empty.
    pub(in crate::groups) fn yield_to_classic(
        &mut self,
        id: &str,
        table: &Table,
        fx: &mut Effects,
    ) {
        let Some(group) = self.consumers.get(id) else { return };
        let mut classic = crate::groups::group::Group::new(id.to_owned());
        classic.committing = group.committing;
        write_all(group.tombstones(stored(table, id)), Then::Nothing, fx);
        self.forget(id);
        self.groups.insert(id.to_owned(), classic);
    }

    /// Does what the time asks for.
    pub(in crate::groups) fn expire_consumers(
        &mut self,
        id: &str,
        table: &Table,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        let topics = Arc::clone(&self.topics);
        let context = Context { topics: &topics, now, limits };
        let Some(group) = self.consumers.get_mut(id) else { return };
        group.looked_at = None;
        let gone = group.expire(&context);
        if !gone.is_empty() {
            tracing::debug!(group = id, members = ?gone, "were not heard in time");
        }
        self.settle_consumers(id, table, &context, fx);
        self.schedule(id);
    }

    /// Counts commits that are on their way, of whichever kind the group is.
    pub(in crate::groups) fn count_commit(&mut self, id: &str, count: impl Fn(usize) -> usize) {
        if let Some(group) = self.groups.get_mut(id) {
            group.committing = count(group.committing);
        } else if let Some(group) = self.consumers.get_mut(id) {
            group.committing = count(group.committing);
        }
    }

    /// Deletes a group that has no members.
    ///
    /// # Errors
    /// `NON_EMPTY_GROUP`.
    pub(in crate::groups) fn delete_consumers(
        &mut self,
        id: &str,
        table: &Table,
        token: Token,
        fx: &mut Effects,
    ) -> Result<(), ResponseError> {
        let group = self.consumers.get(id).ok_or(ResponseError::GroupIdNotFound)?;
        if !group.members.is_empty() || group.committing > 0 {
            return Err(ResponseError::NonEmptyGroup);
        }
        let mut records = tombstones(id, table.get(id), |_, _, _| true);
        records.extend(group.tombstones(stored(table, id)));
        self.forget(id);
        write_all(records, Then::Answer(token), fx);
        Ok(())
    }

    /// Forgets offsets that were committed long ago for topics that the group does not read, and groups of which nothing else
    /// is left.
    pub(in crate::groups) fn expire_consumer_offsets(
        &mut self,
        table: &Table,
        is_gone: &impl Fn(&str, &Committed) -> bool,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        let ids: Vec<String> = self.consumers.keys().cloned().collect();
        for id in ids {
            let Some(group) = self.consumers.get(&id).filter(|group| group.committing == 0) else {
                continue;
            };
            let names = group.names();
            let is_old = |topic: &str, offset: &Committed| {
                let kept_ms = now.wall_ms.saturating_sub(offset.committed_ms);
                let is_over = match offset.expires_ms {
                    Some(at) => now.wall_ms >= at,
                    None => kept_ms >= limits.retention_ms,
                };
                is_gone(topic, offset) || (is_over && !names.contains(topic))
            };
            let mut records =
                tombstones(&id, table.get(&id), |topic, _, value| is_old(topic, value));
            records.retain(|record| matches!(record, Record::Offset { .. }));
            let count = |stored: &Stored| stored.offsets.iter().count();
            let is_last = table.get(&id).map_or(0, count) == records.len();
            if is_last && group.members.is_empty() && group.is_level() {
                records.extend(group.tombstones(stored(table, &id)));
                self.forget(&id);
            }
            if !records.is_empty() {
                write_all(records, Then::Nothing, fx);
            }
        }
    }
}

/// What is stored of a group of the consumer protocol.
pub(super) fn stored<'a>(table: &'a Table, id: &str) -> Option<&'a super::stored::Stored> {
    table.get(id)?.consumer.as_deref()
}
