//! One sync of the write-ahead log for everything written before it, and the completions behind it.
//!
//! Invariants:
//! - A command's `done` is called once, after the sync that made it durable, in the order of commands; a
//!   relaxed log's batches are answered before it (`relaxed.rs`).
//! - A sync is never retried: what the kernel dropped after a failed one cannot be known.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::Result;
use crate::command::{Command, Done};
use crate::core::Core;
use crate::db::Db;

/// Makes everything written durable; answers the latched error after a failure.
pub(crate) fn sync(core: &Core, db: &Db) -> Result<()> {
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

/// Gives back the room of `commands` and calls their `done` with `result`.
pub(crate) fn complete(core: &Core, commands: Vec<Command>, result: &Result<()>) {
    let now = Instant::now();
    core.room.give_back(commands.iter().map(|command| command.bytes).sum());
    for command in commands {
        let Some(done) = command.done else { continue };
        core.counters.append.observe_duration(now.duration_since(command.accepted));
        call(done, result);
        if let Some(partition) = command.partition {
            partition.answers.called();
        }
    }
}

/// Calls a completion. A caller's panic must not take every other partition's acknowledgements with it.
pub(crate) fn call(done: Done, result: &Result<()>) {
    if catch_unwind(AssertUnwindSafe(|| done(result.clone()))).is_err() {
        tracing::error!("a completion of the engine panicked");
    }
}
