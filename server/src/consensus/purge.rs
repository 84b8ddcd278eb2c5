//! Forgetting the beginning of a log.
//!
//! Not here: what stands for it afterwards (`boundary.rs`), which part can go (the engine's `space.rs`).

use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::Index;
use openraft::async_runtime::watch::WatchReceiver;

use super::log::Log;
use super::types::LogId;
use super::{Error, Group, StateMachine};

/// How long a purge may take, its snapshot included.
const PURGE_TIMEOUT: Duration = Duration::from_secs(30);
impl<M: StateMachine> Group<M> {
    /// Forgets the entries up to and including `upto`, as far as they are applied, after a snapshot of what
    /// they came to. Nothing while another replica is sent what is settled.
    ///
    /// # Errors
    /// [`Error::Stopped`], also when it takes longer than [`PURGE_TIMEOUT`].
    pub(crate) async fn purge(&self, upto: Index) -> Result<(), Error> {
        let purging = async {
            let stopped = |_| Error::Stopped;
            let _purging = self.purging.lock().await;
            // Behind what a replica is being sent it needs the entries.
            let held = self.log().settled().map(|_| self.transfers().keep_off());
            if matches!(held, Some(None)) {
                return Ok(());
            }
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
