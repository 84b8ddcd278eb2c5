//! Sends a follower what was settled below a snapshot, before the snapshot itself.
//!
//! A leader whose log begins below the offset where its snapshot stands has records there that no entry brings any more:
//! cleaning settled them and they were purged. They go in pieces over the lane of the entries, one at a time, each durable
//! at the follower when it is answered, and no faster than a replica that is being added may be sent entries. However
//! long all of it takes, only a piece has a time limit. What is cut off is begun anew.
//!
//! Invariant: while a replica is sent the settled part, that part is not cleaned and nothing more is purged: a record that
//! was sent must not come back because its tombstone has gone meanwhile, and the entries behind the snapshot are needed next.
//!
//! Not here: the other end (`staging.rs`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::{Entry, Offset};
use openraft::base::BoxFuture;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::log::Log;

/// Bytes of batches in a piece, about; a batch is never cut.
pub(super) const PIECE_BYTES: usize = 1 << 20;
/// How long a replica may take to make a piece durable.
pub(super) const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a piece is sent again that was not answered, and the pause before.
pub(super) const ATTEMPTS: u32 = 10;
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// Transfers of a log's settled part hold it for reading, whatever changes that part for writing.
#[derive(Debug, Clone, Default)]
pub(super) struct Transfers(Arc<RwLock<()>>);

impl Transfers {
    /// Lets nobody change the settled part.
    async fn begin(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.0).read_owned().await
    }

    /// Lets no transfer begin; `None` while one is under way.
    pub(crate) fn keep_off(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.0).try_write_owned().ok()
    }
}

/// Where a leader takes what was settled.
pub(super) trait Source: fmt::Debug + Send + Sync {
    /// The log start.
    fn start(&self) -> Offset;
    /// Lets nobody change what is settled.
    fn hold(&self) -> BoxFuture<'static, OwnedRwLockReadGuard<()>>;
    /// The next batches from `from` on, below `until`: none when there are no more.
    fn batches(
        &self,
        from: Offset,
        until: Offset,
    ) -> BoxFuture<'static, Result<Vec<Entry>, String>>;
}

/// The settled part of a log.
#[derive(Debug)]
pub(super) struct Settled<L> {
    log: L,
    transfers: Transfers,
}

impl<L: Log> Settled<L> {
    pub(super) fn new(log: L, transfers: Transfers) -> Self {
        Self { log, transfers }
    }
}

impl<L: Log> Source for Settled<L> {
    fn start(&self) -> Offset {
        self.log.state().log_start_offset
    }

    fn hold(&self) -> BoxFuture<'static, OwnedRwLockReadGuard<()>> {
        let transfers = self.transfers.clone();
        Box::pin(async move { transfers.begin().await })
    }

    fn batches(
        &self,
        from: Offset,
        until: Offset,
    ) -> BoxFuture<'static, Result<Vec<Entry>, String>> {
        let log = self.log.clone();
        Box::pin(async move {
            let read = move || below(&log, from, until);
            let found = if L::IN_MEMORY {
                read()
            } else {
                tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?
            };
            found.map_err(|error| error.to_string())
        })
    }
}

/// What lies below `until`, settled or not: a replica that was sent a snapshot whose entries it held has not settled
/// them all.
fn below<L: Log>(log: &L, from: Offset, until: Offset) -> jangbu_engine::Result<Vec<Entry>> {
    let from = from.max(log.state().log_start_offset);
    let settled = log.settled().map_or(Offset(0), |settled| settled.next_offset);
    if from < settled.min(until) {
        let found = log.settled_batches(from, settled.min(until), PIECE_BYTES)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let from = from.max(settled);
    if from >= until { Ok(Vec::new()) } else { log.read(from, until, PIECE_BYTES) }
}

/// The offset behind the last of some batches.
pub(super) fn end(batches: &[Entry]) -> Option<Offset> {
    batches.last().map(Entry::next_offset)
}

/// The batches themselves.
pub(super) fn payloads(batches: Vec<Entry>) -> Vec<Bytes> {
    batches.into_iter().map(|entry| entry.payload).collect()
}
