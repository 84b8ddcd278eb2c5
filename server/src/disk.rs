//! The room left on the data directory's file system, and who may still use it.
//!
//! Below the reserve new records and topics are refused with an error that clients retry; reads, deletion
//! and retention go on, so that the room comes back, and with it writing.
//!
//! Invariants:
//! - What was let in since the last look is counted twice, as it is written: to the log and to a table.
//! - The reserve covers what the engine may still write of what it has taken in.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jangbu_engine::Options;
use tokio_util::sync::CancellationToken;

/// The time between looks at the file system.
const PERIOD: Duration = Duration::from_millis(500);

/// The data directory's file system.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
    reserve_bytes: u64,
    total_bytes: AtomicU64,
    free_bytes: AtomicU64,
    /// Bytes that may be written until the next look.
    left: AtomicI64,
    short: AtomicBool,
}

/// Total bytes of the file system that holds `dir`, and those that are free for this process.
pub(crate) fn volume(dir: &std::path::Path) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok((stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// The reserve of a volume of `total_bytes` when none is configured: what the engine may still have to
/// write, and at least 5 % up to 5 GiB.
pub(crate) fn default_reserve(total_bytes: u64, options: &Options) -> u64 {
    (total_bytes / 20).min(5 << 30).max(options.unwritten_bytes_max())
}

impl Disk {
    /// The file system of `dir`, which exists.
    pub(crate) fn new(dir: PathBuf, reserve_bytes: u64) -> Self {
        let disk = Self {
            dir,
            reserve_bytes,
            total_bytes: AtomicU64::new(0),
            free_bytes: AtomicU64::new(0),
            left: AtomicI64::new(i64::MAX),
            short: AtomicBool::new(false),
        };
        disk.look();
        disk
    }

    /// Looks how much is free. Writing resumes with a little more than the reserve, so that it does not
    /// stutter.
    pub(crate) fn look(&self) {
        let (total, free) = match volume(&self.dir) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "the free space of the data directory cannot be told");
                return;
            }
        };
        self.total_bytes.store(total, Ordering::Relaxed);
        self.free_bytes.store(free, Ordering::Relaxed);
        let was_short = self.short.load(Ordering::Relaxed);
        let more = if was_short { self.reserve_bytes / 8 } else { 0 };
        let wanted = self.reserve_bytes.saturating_add(more);
        let left =
            i64::try_from(free).unwrap_or(i64::MAX) - i64::try_from(wanted).unwrap_or(i64::MAX);
        self.left.store(left, Ordering::Relaxed);
        let short = left <= 0;
        if self.short.swap(short, Ordering::Relaxed) != short {
            let reserve = self.reserve_bytes;
            if short {
                tracing::warn!(free, reserve, "the disk is nearly full: new records are refused");
            } else {
                tracing::info!(free, reserve, "the disk has room again: new records are taken");
            }
        }
    }

    /// Whether `bytes` more may be taken in.
    ///
    /// # Errors
    /// The reason, for the client.
    pub(crate) fn admit(&self, bytes: usize) -> Result<(), String> {
        let twice = i64::try_from(bytes).unwrap_or(i64::MAX / 2).saturating_mul(2);
        if !self.is_short() && self.left.fetch_sub(twice, Ordering::Relaxed) > 0 {
            return Ok(());
        }
        let reserve = self.reserve_bytes >> 20;
        Err(format!("the broker's disk is nearly full: less than {reserve} MiB are free"))
    }

    /// Whether records are refused.
    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// Bytes below which nothing is taken in.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// Bytes of the file system.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of it that were free at the last look.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// Looks from time to time until the node drains.
    pub(crate) async fn watch(&self, draining: &CancellationToken) {
        loop {
            tokio::select! {
                () = draining.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => self.look(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_in_between_two_looks_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (_, free) = volume(dir.path()).unwrap();
        let disk = Disk::new(dir.path().to_owned(), 0);
        assert_eq!(disk.admit(1), Ok(()));
        assert_eq!(disk.admit(usize::try_from(free).unwrap()), Ok(()), "there was room before it");
        assert!(disk.admit(1).is_err());
        disk.look();
        assert_eq!(disk.admit(1), Ok(()));
    }

    #[test]
    fn a_reserve_larger_than_the_disk_refuses_everything() {
        let dir = tempfile::tempdir().unwrap();
        let (total, _) = volume(dir.path()).unwrap();
        let disk = Disk::new(dir.path().to_owned(), total + 1);
        assert!(disk.is_short());
        assert!(disk.admit(0).is_err());
    }

    #[test]
    fn the_reserve_is_what_may_still_be_written_or_a_part_of_the_disk() {
        let options = Options::default();
        let least = options.unwritten_bytes_max();
        assert_eq!(default_reserve(1 << 30, &options), least);
        assert_eq!(default_reserve(40 << 30, &options), 2 << 30);
        assert_eq!(default_reserve(40 << 40, &options), 5 << 30);
    }
}
