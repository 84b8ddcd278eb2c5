//! Who waits for a partition's high watermark to move: long polls.
//!
//! One fetch watches up to thousands of partitions with one [`Notify`], so registering is a push
//! under a short lock and costs an append nothing while nobody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::machine::Progress;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The waiters of one partition.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    list: Mutex<Vec<(u64, Arc<Notify>)>>,
}

impl Waiters {
    /// Wakes everybody. `notify_one` keeps a permit for a waiter that is about to wait.
    pub(super) fn notify_all(&self) {
        for (_, notify) in self.list.lock().iter() {
            notify.notify_one();
        }
    }
}

/// A registration; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Waiting {
    progress: Arc<Progress>,
    id: u64,
}

impl Waiting {
    pub(super) fn new(progress: Arc<Progress>, notify: &Arc<Notify>) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        progress.waiters.list.lock().push((id, Arc::clone(notify)));
        Self { progress, id }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.progress.waiters.list.lock().retain(|(id, _)| *id != self.id);
    }
}
