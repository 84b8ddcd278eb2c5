//! What relaxed logs have answered before its sync: synced soon, by a thread of its own.
//!
//! Invariants:
//! - Between such an answer and the sync that covers it begins at most [`SYNC_DELAY_MAX`].
//! - Its bytes count as accepted and not durable until then, so that a slow disk holds callers back.
//! - Whoever syncs takes over what is held *before* the sync, so that the sync covers it.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::core::Core;
use crate::db::Db;
use crate::sync;

/// How long what is answered before its sync waits for it.
const SYNC_DELAY_MAX: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct Held {
    /// When it must be synced; `None` when nothing is held.
    due: Option<Instant>,
    bytes: usize,
    closed: bool,
}

/// What is written and answered, and not yet synced.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    held: Mutex<Held>,
    changed: Condvar,
}

impl Unsynced {
    /// Holds `bytes` more, which are written.
    pub(crate) fn hold(&self, bytes: usize) {
        let mut held = self.held.lock();
        held.bytes += bytes;
        if held.due.is_none() {
            held.due = Some(Instant::now() + SYNC_DELAY_MAX);
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
