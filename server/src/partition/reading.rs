//! Reading what is committed: from the tail cache, else from the disk, on a bounded number of threads for blocking work.
//!
//! Not here: what may be read ([`Partition::bounds`]), what is read before it is asked for (`ahead.rs`).

use std::sync::Arc;

use jangbu_engine::{Entry, KeyIndex, LogSize, Offset, PartitionLog, RetentionClass};
use tokio::sync::Semaphore;

use super::{Bounds, Error, Partition};
use crate::configs::Durability;
use crate::retention::Limits;

/// The least that room is set aside for when something is read ahead.
const AHEAD_BYTES_MIN: usize = 16 << 10;

impl Partition {
    /// Says when batches that are appended from now on are acknowledged.
    pub(crate) fn set_durability(&self, durability: Durability) {
        self.log.set_relaxed(durability == Durability::Relaxed);
    }

    /// Says whether the log keeps a key index from now on.
    ///
    /// # Errors
    /// [`Error::Log`], [`Error::Stopped`].
    pub(crate) async fn set_keyed(&self, keyed: bool) -> Result<(), Error> {
        if (self.log.key_index() != KeyIndex::Off) == keyed {
            return Ok(());
        }
        self.on_disk(move |log| log.set_keyed(keyed)).await
    }

    /// Where the log would begin by these limits, if that is behind where it begins. May read the disk.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub(crate) async fn expired(&self, limits: Limits) -> Result<Option<Offset>, Error> {
        let Bounds { log_start, high_watermark: until } = self.bounds();
        if log_start == until {
            return Ok(None);
        }
        self.on_disk(move |log| {
            let by_time = limits.expired_before_ms.map(|before| log.start_by_time(before, until));
            let by_size = limits.kept_bytes.map(|kept| log.start_by_size(kept, until));
            Ok(by_time.transpose()?.flatten().max(by_size.transpose()?.flatten()))
        })
        .await
    }

    /// Lets new batches go to the buckets of `class`.
    pub(crate) fn set_class(&self, class: RetentionClass) {
        if let Err(error) = self.log.set_class(class) {
            tracing::debug!(%error, "the retention class did not change");
        }
    }

    /// The bytes the log holds. May read the disk.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub(crate) async fn size(&self) -> Result<LogSize, Error> {
        self.on_disk(|log| log.size()).await
    }

    /// Whole batches from the one that holds `from`, below the high watermark; from memory when they are
    /// there, else on a bounded number of threads for blocking work.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub(crate) async fn read(&self, from: Offset, bytes_max: usize) -> Result<Vec<Entry>, Error> {
        let until = self.bounds().high_watermark;
        if from == until || self.log.is_cached(from) {
            self.metrics.cached_reads.add(1);
            return Ok(self.log.read(from, until, bytes_max)?);
        }
        self.metrics.disk_reads.add(1);
        let ahead = &self.disk.ahead;
        let Some(reading) = ahead.take(self.id, from) else {
            return self.on_disk(move |log| log.read(from, until, bytes_max)).await;
        };
        let mut found = reading.await.map_err(|_| Error::Stopped)??;
        ahead.keep_rest(self.id, &mut found, bytes_max);
        Ok(found)
    }

    /// Begins to read what somebody is likely to ask for next, at most `bytes_max` from `from` on, if that is on the
    /// disk; a record has about `record_bytes`. False when there is no room for it.
    pub(crate) fn read_ahead(&self, from: Offset, bytes_max: usize, record_bytes: usize) -> bool {
        let Some(from) = self.disk.ahead.behind(self.id, from) else { return true };
        let Bounds { log_start, high_watermark: until } = self.bounds();
        if from >= until || from < log_start || self.log.is_cached(from) {
            return true;
        }
        // Room is set aside for what there can be.
        let records = usize::try_from(until.0.saturating_sub(from.0)).unwrap_or(usize::MAX);
        let left = records.saturating_mul(record_bytes).saturating_add(AHEAD_BYTES_MIN);
        let bytes_max = bytes_max.min(left.saturating_add(left / 4));
        self.disk.ahead.keep(self.id, from, bytes_max, || {
            let read = move |log: PartitionLog| log.read(from, until, bytes_max);
            tokio::spawn(on_disk(self.log.clone(), Arc::clone(&self.disk.reads), read))
        })
    }

    /// The first committed batch with a record at `timestamp` or later.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub(crate) async fn find_timestamp(&self, timestamp: i64) -> Result<Option<Entry>, Error> {
        let until = self.bounds().high_watermark;
        self.on_disk(move |log| log.find_timestamp(timestamp, until)).await
    }

    /// The committed batch with the largest timestamp.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub(crate) async fn find_max_timestamp(&self) -> Result<Option<Entry>, Error> {
        let until = self.bounds().high_watermark;
        self.on_disk(move |log| log.find_max_timestamp(until)).await
    }

    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        read: impl FnOnce(PartitionLog) -> jangbu_engine::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        on_disk(self.log.clone(), Arc::clone(&self.disk.reads), read).await
    }
}

async fn on_disk<T: Send + 'static>(
    log: PartitionLog,
    reads: Arc<Semaphore>,
    read: impl FnOnce(PartitionLog) -> jangbu_engine::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let permit = reads.acquire_owned().await.map_err(|_| Error::Stopped)?;
    let reading = tokio::task::spawn_blocking(move || {
        let result = read(log);
        drop(permit);
        result
    });
    Ok(reading.await.map_err(|_| Error::Stopped)??)
}
