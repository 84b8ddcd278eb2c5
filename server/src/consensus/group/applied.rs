//! How far a replica has applied its group's log.

use jangbu_engine::Index;
use openraft::async_runtime::watch::WatchReceiver;

use super::{Error, Group, StateMachine};

impl<M: StateMachine> Group<M> {
    /// The entry applied last.
    pub(crate) fn applied_index(&self) -> Option<Index> {
        self.replica.applier.applied_index()
    }

    /// Waits until the entry is applied here.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub(crate) async fn wait_for_applied(&self, index: Index) -> Result<(), Error> {
        let raft = self.awake().await?;
        let mut data = raft.data_metrics();
        while self.applied_index().is_none_or(|applied| applied < index) {
            data.changed().await.map_err(|_| Error::Stopped)?;
        }
        Ok(())
    }
}
