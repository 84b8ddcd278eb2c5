//! One member's way to its share: it gives up first, and gets what is free.
//!
//! ```text
//!              must give something up                    has given it up, and all it gets is free
//!   Stable ───────────────────────────> Unrevoked ───────────────────────────────────────────────> Stable
//!     │                                     │ has given it up, but somebody else has not            ^
//!     └──────────────────────────────> Unreleased ─────────────────────────────────────────────────┘
//! ```
//!
//! The member's epoch becomes the target's when it has given up what it must, as in Kafka's `CurrentAssignmentBuilder`.
//!
//! Invariant: what is not free is not given.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::member::{Current, Progress};
use super::{Assignment, Owned};

/// What decides a member's next step.
pub(super) struct Step<'a> {
    pub(super) current: &'a Current,
    pub(super) target_epoch: i32,
    pub(super) target: &'a Assignment,
    /// The topics that exist and to which it subscribes.
    pub(super) subscribed: &'a BTreeSet<Uuid>,
    /// What it says it has; nothing when it does not say.
    pub(super) owned: Option<&'a Assignment>,
    /// What it subscribes to has just changed.
    pub(super) resubscribed: bool,
    /// Whether a partition is nobody else's.
    pub(super) is_free: &'a dyn Fn(&Uuid, i32) -> bool,
}

impl Step<'_> {
    /// Where the member is after this step; the same when it cannot go on.
    pub(super) fn take(&self) -> Current {
        match self.current.progress {
            Progress::Stable if self.current.epoch != self.target_epoch => self.next(),
            Progress::Unrevoked if self.still_owns(&self.current.revoking) => self.unsubscribe(),
            Progress::Stable => self.unsubscribe(),
            Progress::Unrevoked | Progress::Unreleased | Progress::Unknown => self.next(),
        }
    }

    /// Whether it may still use some of these. Somebody who does not say may.
    fn still_owns(&self, revoked: &Owned) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|(topic, parts)| {
            revoked.get(topic).is_some_and(|gone| parts.iter().any(|p| gone.contains_key(p)))
        })
    }

    /// Takes away what is not subscribed to any more.
    fn unsubscribe(&self) -> Current {
        let current = self.current;
        let lost = |topic: &Uuid| !self.subscribed.contains(topic);
        if !self.resubscribed || !current.assigned.keys().any(lost) {
            return current.clone();
        }
        let mut next = current.at(current.epoch);
        next.assigned.retain(|topic, _| !lost(topic));
        let mut revoking = current.revoking.clone();
        for (topic, parts) in current.assigned.iter().filter(|(topic, _)| lost(topic)) {
            revoking.entry(*topic).or_default().extend(parts);
        }
        if self.still_owns(&revoking) {
            next.progress = Progress::Unrevoked;
            next.revoking = revoking;
        }
        next
    }

    fn next(&self) -> Current {
        let current = self.current;
        let target = self.target.iter().filter(|(topic, _)| self.subscribed.contains(topic));
        let target: Assignment = target.map(|(topic, parts)| (*topic, parts.clone())).collect();
        let (mut kept, mut revoked) = (Owned::new(), Owned::new());
        for (topic, parts) in &current.assigned {
            for (partition, epoch) in parts {
                let stays = target.get(topic).is_some_and(|wanted| wanted.contains(partition));
                let to = if stays { &mut kept } else { &mut revoked };
                to.entry(*topic).or_default().insert(*partition, *epoch);
            }
        }
        if !revoked.is_empty() && self.still_owns(&revoked) {
            let waits = Current { assigned: kept, revoking: revoked, ..current.at(current.epoch) };
            return Current { progress: Progress::Unrevoked, ..waits };
        }
        let mut all_free = true;
        for (topic, parts) in &target {
            for partition in parts {
                if kept.get(topic).is_some_and(|had| had.contains_key(partition)) {
                    continue;
                }
                if (self.is_free)(topic, *partition) {
                    kept.entry(*topic).or_default().insert(*partition, self.target_epoch);
                } else {
                    all_free = false;
                }
            }
        }
        let progress = if all_free { Progress::Stable } else { Progress::Unreleased };
        let next =
            Current { assigned: kept, revoking: Owned::new(), ..current.at(self.target_epoch) };
        Current { progress, ..next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Uuid = Uuid::from_u128(1);

    fn owned(parts: &[i32], epoch: i32) -> Owned {
        Owned::from([(TOPIC, parts.iter().map(|p| (*p, epoch)).collect())])
    }

    fn given(parts: &[i32]) -> Assignment {
        Assignment::from([(TOPIC, parts.iter().copied().collect())])
    }

    fn step(current: &Current, target: &[i32], owns: Option<&[i32]>, taken: &[i32]) -> Current {
        let (target, owns) = (given(target), owns.map(given));
        let step = Step {
            current,
            target_epoch: 5,
            target: &target,
            subscribed: &BTreeSet::from([TOPIC]),
            owned: owns.as_ref(),
            resubscribed: false,
            is_free: &|_, partition| !taken.contains(&partition),
        };
        step.take()
    }

    #[test]
    fn what_must_be_given_up_is_given_up_before_anything_is_gained() {
        let before = Current { epoch: 4, assigned: owned(&[0, 1], 3), ..Current::default() };
        let asked = step(&before, &[1, 2], Some(&[0, 1]), &[]);
        assert_eq!((asked.progress, asked.epoch), (Progress::Unrevoked, 4));
        assert_eq!((&asked.assigned, &asked.revoking), (&owned(&[1], 3), &owned(&[0], 3)));
        assert_eq!(step(&asked, &[1, 2], None, &[]), asked, "it does not say what it has");
        assert_eq!(step(&asked, &[1, 2], Some(&[0, 1]), &[]), asked, "it still has it");
        let done = step(&asked, &[1, 2], Some(&[1]), &[]);
        assert_eq!((done.progress, done.epoch, done.previous_epoch), (Progress::Stable, 5, 4));
        let had = Owned::from([(TOPIC, [(1, 3), (2, 5)].into())]);
        assert_eq!((done.assigned, done.revoking), (had, Owned::new()));
    }

    #[test]
    fn what_somebody_else_has_is_waited_for() {
        let waits = step(&Current::default(), &[0, 1], Some(&[]), &[1]);
        assert_eq!((waits.progress, waits.epoch), (Progress::Unreleased, 5));
        assert_eq!(waits.assigned, owned(&[0], 5));
        let done = step(&waits, &[0, 1], None, &[]);
        assert_eq!((done.progress, done.assigned), (Progress::Stable, owned(&[0, 1], 5)));
    }

    #[test]
    fn a_topic_that_is_not_subscribed_to_any_more_goes_at_once() {
        let current = Current { epoch: 5, assigned: owned(&[0], 5), ..Current::default() };
        let target = given(&[0]);
        let step = Step {
            current: &current,
            target_epoch: 5,
            target: &target,
            subscribed: &BTreeSet::new(),
            owned: None,
            resubscribed: true,
            is_free: &|_, _| true,
        };
        let left = step.take();
        assert_eq!((left.progress, left.epoch), (Progress::Unrevoked, 5));
        assert_eq!((left.assigned, left.revoking), (Owned::new(), owned(&[0], 5)));
    }
}
