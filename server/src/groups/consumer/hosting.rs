//! Groups that change their protocol with members in them, and requests of the classic protocol to consumer groups.
//!
//! A classic group becomes a consumer group at once: whoever asks is answered when it is stored, and until then the classic group is
//! what another coordinator would find. The other way the group changes when that is stored, in one write; meanwhile nobody joins or
//! leaves it.
//!
//! Not here: what becomes of the members (`migration.rs`), what they are answered (`classic.rs`).

use std::sync::Arc;

use kafka_protocol::ResponseError;

use super::group::{Context, Group};
use super::machine::stored;
use super::{Beat, Heard, Refusal};
use crate::groups::effects::{Effects, Joined, Reply, Synced, Then};
use crate::groups::group::Group as Classic;
use crate::groups::machine::Machine;
use crate::groups::records::Record;
use crate::groups::table::Table;
use crate::groups::{Caller, Join, Limits, Now, Sync, Token};

impl Machine {
    /// A member of the consumer protocol joins a classic group that has members: it becomes a consumer group. What is refused leaves
    /// no trace.
    ///
    /// # Errors
    /// As [`Group::of_classic`] and [`Group::heartbeat`].
    pub(super) fn upgrade(
        &mut self,
        id: &str,
        beat: &Beat,
        context: &Context<'_>,
        fx: &mut Effects,
    ) -> Result<Heard, Refusal> {
        let classic = self.groups.get(id).ok_or(ResponseError::GroupIdNotFound)?;
        let mut group = Group::of_classic(classic, context)?;
        let heard = group.heartbeat(beat, context)?;
        for member in classic.members.values() {
            classic.dismiss(member, ResponseError::RebalanceInProgress, fx);
        }
        group.committing = classic.committing;
        group.store_whole();
        tracing::info!(
            group = id,
            generation = classic.generation,
            "follows the consumer protocol"
        );
        self.forget(id);
        self.consumers.insert(id.to_owned(), group);
        Ok(heard)
    }

    /// After a change: stores what has changed, and has the group become a classic one where that is due.
    pub(super) fn settle_consumers(
        &mut self,
        id: &str,
        table: &Table,
        context: &Context<'_>,
        fx: &mut Effects,
    ) {
        let Some(group) = self.consumers.get_mut(id).filter(|group| !group.turning) else { return };
        let turns = group.turns_classic(context);
        if !turns {
            group.share_out_what_was_left(context);
        }
        if group.has_changes() {
            group.hand_out(stored(table, id), Then::Kept { group: id.to_owned() }, fx);
        }
        if !turns {
            return;
        }
        let classic = group.to_classic(context);
        let mut records = group.tombstones(stored(table, id));
        records.push(Record::group(id, Some(classic.value(None))));
        group.turn();
        fx.write(records, Then::Turned { classic: Box::new(classic) });
    }

    /// Goes on when a group is stored as a classic one, or could not be: then it stays what it is, and tries again.
    pub(in crate::groups) fn turned(
        &mut self,
        mut classic: Classic,
        result: Result<(), ResponseError>,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        let id = classic.id.clone();
        let Some(group) = self.consumers.get_mut(&id) else { return };
        group.settled(result);
        group.turning = false;
        if let Err(code) = result {
            // It cannot ever be stored as one record.
            group.too_large = code == ResponseError::UnknownServerError;
        } else {
            classic.committing = group.committing;
            self.forget(&id);
            tracing::info!(
                group = id,
                generation = classic.generation,
                "follows the classic protocol"
            );
            for member in classic.members.values_mut() {
                member.heard(now.ms);
            }
            classic.prepare(now, limits, fx);
            self.groups.insert(id.clone(), classic);
        }
        self.schedule(&id);
    }

    /// Has a consumer group with members work on a request, stores what has changed, and turns the group where that is due.
    fn host<R>(
        &mut self,
        id: &str,
        table: &Table,
        (now, limits): (Now, &Limits),
        fx: &mut Effects,
        work: impl FnOnce(&mut Group, &Context<'_>, &mut Effects) -> R,
    ) -> Option<R> {
        let topics = Arc::clone(&self.topics);
        let context = Context { topics: &topics, now, limits };
        let group = self.consumers.get_mut(id)?;
        let answer = work(group, &context, fx);
        self.settle_consumers(id, table, &context, fx);
        self.schedule(id);
        Some(answer)
    }

    /// Takes a join request of the classic protocol to a consumer group that has members.
    pub(in crate::groups) fn join_consumers(
        &mut self,
        ask: &Join,
        token: Token,
        table: &Table,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        let id = ask.group.as_str();
        self.host(id, table, (now, limits), fx, |group, context, fx| {
            let joined = match group.turning {
                true => Err(ResponseError::CoordinatorLoadInProgress),
                false => group.join(ask, context),
            };
            match joined {
                Ok(joined) => group.tell(token, Reply::Joined(joined), stored(table, id), fx),
                Err(code @ ResponseError::MemberIdRequired) => {
                    fx.joined(token, Joined::refused(&ask.new_id, code));
                }
                Err(code) => fx.joined(token, Joined::refused(&ask.member_id, code)),
            }
        });
    }

    /// Takes a sync request of the classic protocol to a consumer group.
    pub(in crate::groups) fn sync_consumers(
        &mut self,
        ask: &Sync,
        token: Token,
        table: &Table,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) {
        let id = ask.group.as_str();
        self.host(id, table, (now, limits), fx, |group, context, fx| {
            let synced = match group.turning {
                true => Err(ResponseError::RebalanceInProgress),
                false => group.sync(ask, context),
            };
            match synced {
                Ok(synced) => group.tell(token, Reply::Synced(synced), stored(table, id), fx),
                Err(code) => fx.synced(token, Synced::refused(code)),
            }
        });
    }

    /// Hears a member of a consumer group that follows the classic protocol.
    ///
    /// # Errors
    /// As [`Group::hear`].
    pub(in crate::groups) fn hear_consumers(
        &mut self,
        id: &str,
        caller: &Caller,
        table: &Table,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) -> Result<(), ResponseError> {
        let heard = self.host(id, table, (now, limits), fx, |group, context, _| {
            // Once the group has turned, the member is told to join again.
            if group.turning { Ok(()) } else { group.hear(caller, context) }
        });
        heard.unwrap_or(Err(ResponseError::UnknownMemberId))
    }

    /// Lets members of a consumer group go, as [`Machine::leave`] does.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`; `COORDINATOR_LOAD_IN_PROGRESS` while the group changes its protocol.
    pub(in crate::groups) fn leave_consumers(
        &mut self,
        id: &str,
        members: &[(String, Option<String>)],
        table: &Table,
        now: Now,
        limits: &Limits,
        fx: &mut Effects,
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        let left = self.host(id, table, (now, limits), fx, |group, context, _| {
            if group.turning {
                return Err(ResponseError::CoordinatorLoadInProgress);
            }
            Ok(group.let_go(members, context))
        });
        left.unwrap_or(Err(ResponseError::UnknownMemberId))
    }
}
