//! What relaxed logs have answered before its sync: synced soon, by a thread of its own.
//!
//! Invariants:
//! - At most [`SYNC_DELAY_MAX`] after such an answer the sync that covers it begins.
//! - Its bytes count as accepted and not durable until then, so that a slow disk holds callers back; they are synced
//!   at once when they take up a good part of that room, so that the delay itself does not.
//! - Whoever syncs takes over what is held *before* the sync, so that the sync covers it.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::core::Core;
use crate::db::Db;
use crate::sync;

/// How long what is answered before its sync waits for it.
const SYNC_DELAY_MAX: Duration = Duration::from_millis(50);
/// What is held is synced at once when it is one part in this many of the room for what is not durable.
const HELD_PART: usize = 4;

#[derive(Debug, Default)]
struct Held {
    /// When it must be synced; `None` when nothing is held.
    due: Option<Instant>,
    bytes: usize,
    closed: bool,
}

/// What is written and answered, and not yet synced.
#[derive(Debug)]
pub(crate) struct Unsynced {
    held: Mutex<Held>,
    changed: Condvar,
    bytes_max: usize,
}

impl Unsynced {
    /// Holds nothing; `room_bytes` is the room for what is accepted and not durable.
    pub(crate) fn new(room_bytes: usize) -> Self {
        let (held, changed) = (Mutex::default(), Condvar::new());
        Self { held, changed, bytes_max: room_bytes / HELD_PART }
    }

    /// Holds `bytes` more, which are written.
    pub(crate) fn hold(&self, bytes: usize) {
        let mut held = self.held.lock();
        let (was_full, begins) = (held.bytes >= self.bytes_max, held.due.is_none());
        held.bytes += bytes;
        let is_full = held.bytes >= self.bytes_max;
        if begins || (is_full && !was_full) {
            let delay = if is_full { Duration::ZERO } else { SYNC_DELAY_MAX };
            held.due = Some(Instant::now() + delay);
            self.changed.notify_one();
        }
    }

    /// Takes over what is held, for a sync that begins now: its bytes.
    pub(crate) fn take(&self) -> usize {
        let mut held = self.held.lock();
        held.due = None;
        std::mem::take(&mut held.bytes)
    }

    /// Ends the thread; what is held is left to the last sync of the log threads.
    pub(crate) fn close(&self) {
        self.held.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until something is due. False when it is closed.
    fn wait(&self) -> bool {
        let mut held = self.held.lock();
        while !held.closed {
            match held.due {
                None => self.changed.wait(&mut held),
                Some(due) if due <= Instant::now() => return true,
                Some(due) => {
                    self.changed.wait_until(&mut held, due);
                }
            }
        }
        false
    }
}

/// Runs until the engine is closed or has failed.
pub(crate) fn run(core: &Core, db: &Db) {
    while core.unsynced.wait() {
        let syncing = core.syncing.lock();
        let bytes = core.unsynced.take();
        // A failure latches, and the log threads tell it.
        let _ = sync::sync(core, db);
        drop(syncing);
        core.room.give_back(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a sync is due by `then`.
    fn is_due(unsynced: &Unsynced, then: Instant) -> bool {
        unsynced.held.lock().due.is_some_and(|due| due <= then)
    }

    #[test]
    fn what_is_held_waits_unless_it_takes_up_a_quarter_of_the_room() {
        let unsynced = Unsynced::new(4_000);
        unsynced.hold(999);
        let begun = Instant::now();
        assert!(is_due(&unsynced, begun + SYNC_DELAY_MAX));
        unsynced.hold(1);
        assert!(is_due(&unsynced, Instant::now()), "at once");
        assert!(unsynced.wait());
        assert_eq!(unsynced.take(), 1_000);
        unsynced.hold(5_000);
        assert!(is_due(&unsynced, Instant::now()), "at once");
        unsynced.close();
        assert!(!unsynced.wait());
    }
}
