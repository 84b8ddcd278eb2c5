//! What the group as a whole comes to: its epoch, the topics that expressions match, and the target assignment.
//!
//! Source: KIP-848; KIP-1101 (the hash of the topics).

use std::collections::{BTreeMap, BTreeSet};

use super::assignor::{Sharer, Sharing};
use super::group::{Context, Group};
use super::member::Progress;
use super::records::{EpochValue, Piece, RegexValue, TargetValue};
use super::{Assignment, Catalog, Refusal, regex};
use crate::groups::Now;

impl Group {
    /// Begins a new epoch where `changed` says so, or where the topics are not what they were.
    pub(super) fn maybe_bump(&mut self, changed: bool, context: &Context<'_>) {
        let topics = context.topics;
        if !changed && self.seen_layout == Some(topics.layout) {
            return;
        }
        self.seen_layout = Some(topics.layout);
        let metadata_hash = topics.hash(self.names().into_iter());
        if changed || metadata_hash != self.metadata_hash {
            self.epoch = self.epoch.saturating_add(1);
            self.changed_at = Some(context.now.ms);
            self.metadata_hash = metadata_hash;
            self.change(Piece::Epoch(Some(EpochValue { epoch: self.epoch, metadata_hash })));
        }
    }

    /// Works out the expressions that nobody has asked for before, and all of them when there are other topics; forgets those
    /// that nobody asks for any more. True when a member gets other topics by it.
    pub(super) fn resolve_regexes(&mut self, context: &Context<'_>) -> bool {
        let asked: BTreeSet<String> =
            self.members.values().filter_map(|member| member.says.regex.clone()).collect();
        if asked.is_empty() && self.regexes.is_empty() {
            return false;
        }
        let gone: Vec<String> =
            self.regexes.keys().filter(|known| !asked.contains(*known)).cloned().collect();
        for expression in gone {
            self.regexes.remove(&expression);
            self.change(Piece::Regex(expression, None));
        }
        let anew = self.seen_layout != Some(context.topics.layout);
        let mut changed = false;
        for expression in asked {
            let known = self.regexes.get(&expression);
            if known.is_some() && !anew {
                continue;
            }
            // It was checked when it came in; what another coordinator took, or has too many topics by now, stays as it was.
            let topics = match regex::resolve(&expression, context.topics) {
                Ok(topics) => topics,
                Err(_) => known.map(|known| known.topics.clone()).unwrap_or_default(),
            };
            if known.is_some_and(|known| known.topics == topics) {
                continue;
            }
            let version = i64::try_from(context.topics.layout).unwrap_or(i64::MAX);
            let value = RegexValue { topics, version, resolved_ms: context.now.wall_ms };
            self.change(Piece::Regex(expression.clone(), Some(value.clone())));
            self.regexes.insert(expression, value);
            changed = true;
        }
        changed
    }

    /// Checks an expression that a member comes with.
    ///
    /// # Errors
    /// `INVALID_REGULAR_EXPRESSION`.
    pub(super) fn check_regex(&self, asked: &str, topics: &Catalog) -> Result<(), Refusal> {
        match self.regexes.contains_key(asked) {
            true => Ok(()),
            false => regex::resolve(asked, topics).map(|_| ()),
        }
    }

    /// Shares out anew what the members subscribe to, if that was not done for this epoch.
    pub(super) fn maybe_assign(&mut self, context: &Context<'_>) {
        if self.epoch <= self.target_epoch {
            return;
        }
        let sharer = |member: &super::member::Member| Sharer {
            instance: member.says.instance.clone(),
            rack: member.says.rack.clone(),
            topics: context.topics.ids(self.names_of(&member.says)),
        };
        let members = self.members.iter().map(|(id, member)| (id.clone(), sharer(member)));
        let sharing =
            Sharing { members: members.collect(), before: &self.targets, topics: context.topics };
        let targets: BTreeMap<String, Assignment> =
            self.assignor(context.limits()).assign(&sharing);
        for (id, target) in &targets {
            if self.targets.get(id) != Some(target) {
                self.change(Piece::Target(id.clone(), Some(target.clone())));
            }
        }
        self.targets = targets;
        self.target_epoch = self.epoch;
        self.target_made_ms = context.now.wall_ms;
        let value = TargetValue { epoch: self.epoch, made_ms: self.target_made_ms };
        self.change(Piece::TargetEpoch(Some(value)));
    }

    /// Takes what a member says now, and brings it towards what it shall have by that. `owned` is what it says it has.
    pub(super) fn advance(
        &mut self,
        member: super::member::Member,
        resubscribed: bool,
        owned: Option<&Assignment>,
        context: &Context<'_>,
    ) {
        let id = member.id.clone();
        self.insert(member);
        let matched = self.resolve_regexes(context);
        self.maybe_bump(resubscribed || matched || self.epoch == 0, context);
        self.maybe_assign(context);
        self.reconcile(&id, owned, resubscribed || matched, context);
    }

    /// Brings one member towards its target. `owned` is what it says it has.
    fn reconcile(
        &mut self,
        id: &str,
        owned: Option<&Assignment>,
        resubscribed: bool,
        context: &Context<'_>,
    ) {
        let Some(member) = self.members.get(id) else { return };
        if !resubscribed && member.current.is_at(self.target_epoch) {
            return;
        }
        let nothing = Assignment::new();
        let step = super::reconcile::Step {
            current: &member.current,
            target_epoch: self.target_epoch,
            target: self.targets.get(id).unwrap_or(&nothing),
            subscribed: &context.topics.ids(self.names_of(&member.says)),
            owned,
            resubscribed,
            is_free: &|topic, partition| self.is_free(topic, partition, id),
        };
        let next = step.take();
        if next == member.current {
            return;
        }
        let mut member = member.clone();
        member.current = next;
        self.watch_revocation(&mut member, context.now);
        self.change(Piece::Current(id.to_owned(), Some(member.current.clone())));
        self.insert(member);
    }

    /// Gives a member that must give something up its rebalance time-out to do so. One that follows the classic protocol has
    /// that time to join again.
    pub(super) fn watch_revocation(&self, member: &mut super::member::Member, now: Now) {
        if member.is_classic() {
            return;
        }
        member.rebalance_deadline = None;
        if member.current.progress == Progress::Unrevoked {
            member.await_rebalance(now);
        }
    }
}
