//! Forgetting the beginning of a log.
//!
//! Entries that are settled are of use only to replicas that lag: without them such a one is sent everything that is
//! settled. So a leader keeps them until every other replica has them, alive or not, and gives that up for one that
//! lags on for ten minutes, or for a gibibyte of what is written meanwhile, and while space is short. Followers do
//! not know who lags, and do not wait.
//!
//! Not here: what stands for it afterwards (`boundary.rs`), which part can go (the engine's `space.rs`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use jangbu_engine::Index;
use openraft::async_runtime::watch::WatchReceiver;

use super::log::Log;
use super::types::LogId;
use super::{Error, Group, StateMachine};

/// How long a purge may take, its snapshot included.
const PURGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long settled entries are kept for a replica that lags, ...
const HELD_MAX: Duration = Duration::from_secs(600);
/// ... and how much may be applied meanwhile.
const HELD_BYTES_MAX: u64 = 1 << 30;

/// Since when settled entries are kept for a replica that lags.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    since: Instant,
    applied_bytes: u64,
}

impl Held {
    fn is_over(&self, now: Instant, applied_bytes: u64) -> bool {
        now - self.since > HELD_MAX
            || applied_bytes.saturating_sub(self.applied_bytes) > HELD_BYTES_MAX
    }
}

impl<M: StateMachine> Group<M> {
    /// Forgets the entries up to and including `upto`, as far as they are applied, after a snapshot of what
    /// they came to. Unless space is short (`pressed`), what other replicas need is kept for a while, and everything while
    /// one is sent what is settled.
    ///
    /// # Errors
    /// [`Error::Stopped`], also when it takes longer than [`PURGE_TIMEOUT`].
    pub(crate) async fn purge(&self, upto: Index, pressed: bool) -> Result<(), Error> {
        let purging = async {
            let stopped = |_| Error::Stopped;
            let _purging = self.purging.lock().await;
            let is_settled = self.log().settled().is_some() && !pressed;
            // Behind what a replica is being sent it needs the entries.
            let quiet = is_settled.then(|| self.transfers().keep_off());
            if matches!(quiet, Some(None)) {
                return Ok(());
            }
            let upto = if is_settled { self.hold_back(upto) } else { Some(upto) };
            let Some(upto) = upto else { return Ok(()) };
            let raft = self.awake().await?;
            let mut data = raft.data_metrics();
            let Some(applied) = self.replica.applier.applied_index() else { return Ok(()) };
            let upto = upto.min(applied);
            let is_behind = |id: Option<LogId>| id.is_none_or(|id| Index(id.index) < upto);
            if !is_behind(data.borrow_watched().purged) {
                return Ok(());
            }
            self.move_boundary(upto).await?;
            if is_behind(data.borrow_watched().snapshot) {
                let begun = raft.call(|core| async move { core.trigger().snapshot().await });
                begun.await.map_err(stopped)?;
            }
            while is_behind(data.borrow_watched().snapshot) {
                data.changed().await.map_err(|_| Error::Stopped)?;
            }
            let purged =
                raft.call(move |core| async move { core.trigger().purge_log(upto.0).await });
            purged.await.map_err(stopped)?;
            while is_behind(data.borrow_watched().purged) {
                data.changed().await.map_err(|_| Error::Stopped)?;
            }
            Ok(())
        };
        tokio::time::timeout(PURGE_TIMEOUT, purging).await.map_err(|_| Error::Stopped)?
    }

    /// How much may go of what is settled, as far as others have it; `None` when nothing may.
    fn hold_back(&self, upto: Index) -> Option<Index> {
        let mut held = self.held.lock();
        let lowest = self.replication().into_values().min();
        let is_needed = lowest.is_some_and(|lowest| lowest < Some(upto));
        if !is_needed || !self.leadership().local {
            *held = None;
            return Some(upto);
        }
        let (since, applied_bytes) = (Instant::now(), self.replica.applier.applied_bytes());
        let began = held.get_or_insert(Held { since, applied_bytes });
        if began.is_over(since, applied_bytes) { Some(upto) } else { lowest.flatten() }
    }

    async fn move_boundary(&self, upto: Index) -> Result<(), Error> {
        let replica = Arc::clone(&self.replica);
        let moved = if self.log().is_index_cached(upto) {
            Ok(replica.applier.move_boundary(upto))
        } else {
            tokio::task::spawn_blocking(move || replica.applier.move_boundary(upto)).await
        };
        match moved {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::error!(log = %self.log().id(), %error, "the log cannot be purged");
                Err(Error::Stopped)
            }
            Err(_) => Err(Error::Stopped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn entries_are_kept_for_a_laggard_for_ten_minutes_or_a_gibibyte() {
        let since = Instant::now();
        let held = Held { since, applied_bytes: 500 };
        assert!(!held.is_over(since + HELD_MAX, 500 + HELD_BYTES_MAX));
        assert!(held.is_over(since + HELD_MAX + Duration::from_millis(1), 500));
        assert!(held.is_over(since, 501 + HELD_BYTES_MAX));
    }
}
