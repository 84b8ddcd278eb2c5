//! Cleaning one replica's log: how dirty it is, and the steps.
//!
//! Not here: when and how far (`compaction.rs`), how (the engine's `table.rs`).

use std::sync::Arc;

use jangbu_engine::{CleanRules, CleanStep, Cleanliness, Offset};

use super::{Error, Partition};

impl Partition {
    /// Enters a little more of what was there before the key index was turned on; true once it is whole.
    ///
    /// # Errors
    /// [`Error::Log`], [`Error::Stopped`].
    pub(crate) async fn build_key_index(&self, bytes_max: u64) -> Result<bool, Error> {
        let until = self.bounds().high_watermark;
        self.on_disk(move |log| log.build_key_index(until, bytes_max)).await
    }

    /// How dirty the log is, and up to where it may be cleaned: to the high watermark, or the first record that is
    /// younger than `lag_ms`. When that one was settled before, nothing more is.
    ///
    /// # Errors
    /// [`Error::Log`], [`Error::Stopped`].
    pub(crate) async fn dirt(
        &self,
        lag_ms: i64,
        now_ms: i64,
    ) -> Result<(Offset, Cleanliness), Error> {
        let end = self.bounds().high_watermark;
        self.on_disk(move |log| {
            let young = match lag_ms {
                0 => None,
                lag_ms => log.find_timestamp(now_ms.saturating_sub(lag_ms), end)?,
            };
            let settled = log.settled().map_or(Offset(0), |settled| settled.next_offset);
            let until = young.map_or(end, |young| young.base_offset.max(settled));
            Ok((until, log.cleanliness(until)?))
        })
        .await
    }

    /// One step of cleaning; `None` while another replica is sent what is settled.
    ///
    /// # Errors
    /// [`Error::Log`], [`Error::Stopped`].
    pub(crate) async fn clean_step(
        self: &Arc<Self>,
        rules: CleanRules,
    ) -> Result<Option<CleanStep>, Error> {
        let partition = Arc::clone(self);
        self.on_disk(move |_| partition.clean(&rules)).await
    }
}
