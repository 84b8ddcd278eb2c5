//! The sync thread: one sync of the write-ahead log for everything handed over since the last.
//!
//! Invariants:
//! - A command's `done` is called once, after the sync that made it durable, in the order of commands.
//! - After a failure every waiter gets the error, then `on_failure` is called, once.
//! - A sync is never retried: what the kernel dropped after a failed one cannot be known.

use std::panic::{AssertUnwindSafe, catch_unwind};
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
    core.counters.sync.observe_duration(begun.elapsed());
    Ok(())
}

/// Gives back the room of `groups` and calls their `done` with `result`.
pub(crate) fn complete(core: &Core, groups: Vec<Group>, result: &Result<()>) {
    let now = Instant::now();
    for group in groups {
        core.room.give_back(group.commands.iter().map(|command| command.bytes).sum());
        for command in group.commands {
            let Some(done) = command.done else { continue };
            core.counters.append.observe_duration(now.duration_since(command.accepted));
            // A caller's panic must not take every other partition's acknowledgements with it.
            if catch_unwind(AssertUnwindSafe(|| done(result.clone()))).is_err() {
                tracing::error!("a completion of the engine panicked");
            }
        }
    }
}
