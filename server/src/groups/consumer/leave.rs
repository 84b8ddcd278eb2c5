//! Leaving a consumer group: for good, for a while, or because nothing is heard any more.

use super::group::{Context, Group};
use super::heartbeat::{check_instance, unknown_instance};
use super::member::AWAY;
use super::records::Piece;
use super::{Beat, Heard, Owned, Refusal};

impl Group {
    /// Lets a member go: a static one with epoch -2 keeps its place until its session ends.
    ///
    /// # Errors
    /// `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID`.
    pub(in crate::groups) fn leave(
        &mut self,
        beat: &Beat,
        context: &Context<'_>,
    ) -> Result<Heard, Refusal> {
        let id = match &beat.instance {
            None if self.members.contains_key(&beat.member_id) => beat.member_id.clone(),
            None => return Err(self.unknown(&beat.member_id)),
            Some(instance) => {
                let known = self.by_instance(instance);
                let known = known.ok_or_else(|| unknown_instance(instance))?;
                check_instance(known, &beat.member_id, instance)?;
                known.id.clone()
            }
        };
        if beat.epoch == AWAY {
            self.go_away(&id);
        } else {
            self.remove(&[id], context);
        }
        Ok(Heard {
            member_id: beat.member_id.clone(),
            epoch: beat.epoch,
            interval_ms: 0,
            assignment: None,
        })
    }

    /// A static member will be back: it keeps its share and has given up what it had to.
    fn go_away(&mut self, id: &str) {
        let Some(mut member) = self.members.get(id).cloned() else { return };
        member.current.epoch = AWAY;
        member.current.revoking = Owned::new();
        for epoch in member.current.assigned.values_mut().flat_map(|parts| parts.values_mut()) {
            *epoch = 0;
        }
        member.rebalance_deadline = None;
        self.change(Piece::Current(id.to_owned(), Some(member.current.clone())));
        self.insert(member);
    }

    /// Takes members out for good; the others share what they had as soon as they are heard.
    pub(super) fn remove(&mut self, ids: &[String], context: &Context<'_>) {
        let mut any = false;
        for id in ids {
            any |= self.take_out(id).is_some();
        }
        if any {
            self.resolve_regexes(context);
            // As a classic group the others share it out by themselves, in the generation that follows this epoch.
            self.is_bereft = true;
            if !self.turns_classic(context) {
                self.share_out_what_was_left(context);
            }
        }
    }

    /// Begins a new epoch if somebody has left something.
    pub(super) fn share_out_what_was_left(&mut self, context: &Context<'_>) {
        if std::mem::take(&mut self.is_bereft) {
            self.maybe_bump(true, context);
        }
    }

    /// Takes out who was not heard for a session, or has not done in time what a rebalance asks of it. Their ids.
    pub(in crate::groups) fn expire(&mut self, context: &Context<'_>) -> Vec<String> {
        if self.turning {
            return Vec::new();
        }
        let now = context.now.ms;
        let is_late = |member: &&super::member::Member| {
            member.deadline <= now || member.rebalance_deadline.is_some_and(|at| at <= now)
        };
        let late: Vec<String> =
            self.members.values().filter(is_late).map(|member| member.id.clone()).collect();
        self.remove(&late, context);
        late
    }
}
