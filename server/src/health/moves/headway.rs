//! Whether the moves that this node carries out make headway, and what to do when one makes none.
//!
//! A move makes headway when its new replicas lack less than they ever did before: one that is written to faster than it
//! is copied never does, and would go on for ever.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jangbu_engine::PartitionId;
use parking_lot::RwLock;
use tokio::time::Instant;

/// Without headway for so long a move is said to make none.
const STALLED: Duration = Duration::from_secs(60);
/// How often that is said of one move.
const SAY: Duration = Duration::from_secs(600);

/// One move, as it was at its best.
#[derive(Debug)]
struct Best {
    reassignment: u32,
    /// Entries that the replica which has least lacks.
    lacks: u64,
    since: Instant,
    said: Option<Instant>,
}

/// The moves that this node carries out.
#[derive(Debug, Default)]
pub(super) struct Headway(HashMap<PartitionId, Best>);

/// Since when moves make no headway, of those that make none.
#[derive(Debug, Default)]
pub(crate) struct Stalled(RwLock<HashMap<PartitionId, Instant>>);

impl Stalled {
    /// For how long a move makes no headway, if it is that long that something should be done.
    pub(crate) fn of(&self, id: PartitionId) -> Option<Duration> {
        self.0.read().get(&id).map(Instant::elapsed)
    }
}

impl Headway {
    /// Notes how far a move is. Whether it is to be said now that it makes no headway.
    pub(super) fn look(
        &mut self,
        id: PartitionId,
        reassignment: u32,
        lacks: u64,
        now: Instant,
    ) -> bool {
        let begun = || Best { reassignment, lacks, since: now, said: None };
        let best = self.0.entry(id).or_insert_with(begun);
        if best.reassignment != reassignment || lacks < best.lacks {
            *best = begun();
        }
        let due = best.said.is_none_or(|said| now - said >= SAY);
        let say = now - best.since >= STALLED && due;
        if say {
            best.said = Some(now);
        }
        say
    }

    /// Forgets the moves that are done, and tells which of the others make no headway.
    pub(super) fn tell(
        &mut self,
        under_way: &HashSet<PartitionId>,
        stalled: &Stalled,
        now: Instant,
    ) {
        self.0.retain(|id, _| under_way.contains(id));
        let none = self.0.iter().filter(|(_, best)| now - best.since >= STALLED);
        let none = none.map(|(id, best)| (*id, best.since)).collect();
        *stalled.0.write() = none;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PartitionId = PartitionId(3);

    #[test]
    fn a_move_that_never_lacks_less_than_before_makes_no_headway() {
        let start = Instant::now();
        let mut headway = Headway::default();
        let mut look = |seconds, lacks, reassignment| {
            headway.look(ID, reassignment, lacks, start + Duration::from_secs(seconds))
        };
        assert!(!look(0, 900, 1));
        assert!(!look(50, 800, 1), "it does");
        assert!(!look(100, 850, 1));
        assert!(look(110, 800, 1), "for a minute it does not");
        assert!(!look(111, 801, 1), "it was said a moment ago");
        assert!(look(720, 801, 1));
        assert!(!look(730, 10, 1));
        assert!(!look(800, 9, 1));
        assert!(!look(900, 5000, 2), "another move");
    }

    #[test]
    fn what_is_told_is_true_of_moves_under_way() {
        let start = Instant::now();
        let (mut headway, stalled) = (Headway::default(), Stalled::default());
        headway.look(ID, 1, 5, start);
        let under_way = [ID].into();
        headway.tell(&under_way, &stalled, start + STALLED / 2);
        assert_eq!(stalled.of(ID), None);
        headway.tell(&under_way, &stalled, start + STALLED);
        assert!(stalled.of(ID).is_some());
        headway.tell(&HashSet::new(), &stalled, start + STALLED);
        assert_eq!(stalled.of(ID), None);
    }
}
