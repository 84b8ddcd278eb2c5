//! The sync thread: one sync of the write-ahead log for everything handed over since the last.
//!
//! Invariants:
//! - A command's `done` is called once, after the sync that made it durable, in the order of commands.
//! - After a failure every waiter gets the error, then `on_failure` is called, once.
//! - A sync is never retried: what the kernel dropped after a failed one cannot be known.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::core::Core;
use crate::db::Db;
use crate::queue::Group;
use crate::{Error, Result};

/// Runs until the writer has ended and everything handed over is durable or failed.
pub(crate) fn run(core: &Core, db: &Db, on_failure: &(dyn Fn(&Error) + Send + Sync)) {
    loop {
        let groups = core.groups.drain(|_| true);
        if groups.is_empty() {
            break;
        }
        let result = sync(core, db);
        complete(core, groups, &result);
    }
    // Lazy commands behind the last group are not durable yet.
    let _ = sync(core, db);
    if let Some(error) = core.failure() {
        on_failure(&error);
    }
}

fn sync(core: &Core, db: &Db) -> Result<()> {
    if let Some(error) = core.failure() {
        return Err(error);
    }
    let begun = Instant::now();
    if let Err(error) = db.sync() {
        core.fail(&error);
        return Err(error);
    }
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    core.counters.syncs.fetch_add(1, Ordering::Relaxed);
    core.counters.sync_micros.fetch_add(micros, Ordering::Relaxed);
    Ok(())
}

/// Gives back the room of `groups` and calls their `done` with `result`.
pub(crate) fn complete(core: &Core, groups: Vec<Group>, result: &Result<()>) {
    for group in groups {
        core.room.give_back(group.commands.iter().map(|command| command.bytes).sum());
        for done in group.commands.into_iter().filter_map(|command| command.done) {
            // A caller's panic must not take every other partition's acknowledgements with it.
            if catch_unwind(AssertUnwindSafe(|| done(result.clone()))).is_err() {
                tracing::error!("a completion of the engine panicked");
            }
        }
    }
}
