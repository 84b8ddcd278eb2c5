//! What a consumer commits of what it has handed out: when it is asked to, by itself from time to time, and before it gives a
//! partition up.
//!
//! Not here: what is said to the coordinator (`offsets.rs`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Phase;
use crate::Result;
use crate::consumer::{Consumer, Start, TopicPartition};

/// The least time until it is looked again whether a commit is done.
const COMMIT_PAUSE: Duration = Duration::from_millis(100);

impl Consumer {
    /// Commits the positions of all partitions: everything that has been handed out.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] without a group, and those of [`crate::Committer::commit`].
    pub async fn commit(&mut self) -> Result<()> {
        let committer = self.committer()?;
        self.await_commit().await;
        let offsets = self.moved();
        committer.commit(&offsets).await?;
        self.note_committed(&offsets);
        Ok(())
    }

    /// The same before partitions are given up, which is not to wait for topics that are gone.
    pub(super) async fn commit_at_last(&mut self) -> Result<()> {
        let committer = self.committer()?;
        self.await_commit().await;
        let offsets = self.moved();
        committer.commit_of_what_exists(&offsets).await?;
        self.note_committed(&offsets);
        Ok(())
    }

    /// Positions that differ from what was last committed.
    fn moved(&self) -> BTreeMap<TopicPartition, i64> {
        let moved = self.assigned.iter().filter(|(_, assigned)| {
            assigned.start == Start::At && assigned.position != assigned.committed
        });
        moved.map(|(place, assigned)| (place.clone(), assigned.position)).collect()
    }

    fn note_committed(&mut self, offsets: &BTreeMap<TopicPartition, i64>) {
        for (place, offset) in offsets {
            if let Some(assigned) = self.assigned.get_mut(place) {
                assigned.committed = *offset;
            }
        }
    }

    /// Starts a commit of what earlier polls handed out, if it is time.
    pub(in crate::consumer) async fn commit_by_itself(&mut self) {
        let Some(group) = &self.group else { return };
        let Some(interval) = group.link.config.auto_commit else { return };
        let now = Instant::now();
        let is_running = group.committing.as_ref().is_some_and(|running| !running.is_finished());
        if !matches!(group.phase, Phase::Stable) || now < group.next_commit || is_running {
            return;
        }
        self.await_commit().await;
        let offsets = self.moved();
        self.note_committed(&offsets);
        let Some(group) = &mut self.group else { return };
        group.next_commit = now + interval;
        if !offsets.is_empty() {
            let committer = group.link.committer.clone();
            let committing = async move { committer.commit_of_what_exists(&offsets).await };
            group.committing = Some(tokio::spawn(committing));
        }
    }

    /// When a member that waits for records has to commit, or to show that the application is there.
    pub(in crate::consumer) fn next_turn(&self, now: Instant) -> Option<Instant> {
        let group = self.group.as_ref()?;
        let seen = now + group.link.config.rebalance_timeout / 3;
        let commits =
            matches!(group.phase, Phase::Stable) && group.link.config.auto_commit.is_some();
        Some(if commits { seen.min(group.next_commit.max(now + COMMIT_PAUSE)) } else { seen })
    }

    /// Waits for the commit that was started by itself.
    async fn await_commit(&mut self) {
        let Some(group) = &mut self.group else { return };
        let Some(running) = &mut group.committing else { return };
        let ended = running.await;
        group.committing = None;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "cannot commit, will try again");
            self.assigned.values_mut().for_each(|assigned| assigned.committed = -1);
        }
    }
}
