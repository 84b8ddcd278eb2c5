//! Proposals that must not overtake each other.
//!
//! openraft refuses a proposal by itself when it is not sure for a moment that it leads, for example right after a change
//! of members, and takes the next one. A producer's batches would then have a gap. So each such proposal has a turn, and
//! one that comes to the log out of turn is put there as a blank entry, which does nothing.
//!
//! Invariant: what is taken in turn stands in the log in the order of [`Turns::take`], without a gap.

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::EntryPayload;

use super::types::Entry;

/// The turns of one replica's proposals.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The turn of the proposal that is made next.
    next: AtomicU64,
    /// The turn that the log waits for.
    due: AtomicU64,
}

impl Turns {
    /// The turn of a proposal. To be called in the order in which they are proposed.
    pub(super) fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::AcqRel)
    }

    /// Lets the next proposal in, whatever came before it. None may be on its way.
    pub(super) fn begin_anew(&self) {
        self.due.store(self.next.load(Ordering::Acquire), Ordering::Release);
    }

    /// An entry as it goes to the log.
    pub(super) fn admit(&self, mut entry: Entry) -> Entry {
        if let EntryPayload::Normal(payload) = &entry.payload
            && let Some(turn) = payload.turn
        {
            let due =
                self.due.compare_exchange(turn, turn + 1, Ordering::AcqRel, Ordering::Acquire);
            if due.is_err() {
                entry.payload = EntryPayload::Blank;
            }
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jangbu_engine::EntryKind;

    use super::*;
    use crate::consensus::types::{LogId, Payload};

    fn is_admitted(turns: &Turns, turn: Option<u64>) -> bool {
        let payload = Payload { turn, ..Payload::new(EntryKind::Batch, Bytes::new()) };
        let log_id = LogId::new_term_index(1, 1);
        let entry = turns.admit(Entry { log_id, payload: EntryPayload::Normal(payload) });
        matches!(entry.payload, EntryPayload::Normal(_))
    }

    #[test]
    fn nothing_gets_past_a_proposal_that_was_refused() {
        let turns = Turns::default();
        let [first, _refused, third] = [(); 3].map(|()| Some(turns.take()));
        assert!(is_admitted(&turns, first));
        assert!(!is_admitted(&turns, third), "the second one never came");
        assert!(is_admitted(&turns, None), "what has no turn waits for none");
        assert!(
            !is_admitted(&turns, Some(turns.take())),
            "it was judged as if the second one were there"
        );
        turns.begin_anew();
        assert!(is_admitted(&turns, Some(turns.take())));
    }
}
