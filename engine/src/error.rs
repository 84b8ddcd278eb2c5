//! What can go wrong in the engine, one variant per reaction of the caller.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::{Index, Offset, PartitionId};

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per reaction of the caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The reader asked for records that are not there. Nothing is wrong with the log.
    #[error("offset {requested} is outside {partition}, which holds [{start}, {end})")]
    OffsetOutOfRange {
        /// The partition asked.
        partition: PartitionId,
        /// The offset asked for.
        requested: Offset,
        /// The log start offset.
        start: Offset,
        /// The end offset.
        end: Offset,
    },
    /// The caller broke the order of appends, or handed in something that is no record batch.
    #[error("append to {partition} refused: {reason}")]
    InvalidAppend {
        /// The partition appended to.
        partition: PartitionId,
        /// What is wrong with the entries.
        reason: String,
    },
    /// Stored bytes do not decode or fail their checksum.
    #[error("corrupt {what} at index {index} of partition {partition}")]
    Corrupt {
        /// The partition read.
        partition: PartitionId,
        /// Where.
        index: Index,
        /// What did not decode, and in which file or bucket, if that is known.
        what: Cow<'static, str>,
    },
    /// Another process has the data directory open.
    #[error("{dir} is in use by another process; stop it, or give this node another data directory", dir = dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// The data directory cannot be created, read or written.
    #[error("{dir} cannot be used: {reason}; check that it exists on a writable disk and belongs to this user", dir = dir.display())]
    Directory {
        /// The data directory.
        dir: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The data directory was written by a version this one does not know.
    #[error("{dir} has storage format {found}, this version reads {known}; start the jangbu version that wrote it", dir = dir.display())]
    UnknownFormat {
        /// The data directory.
        dir: PathBuf,
        /// The format it states.
        found: String,
        /// The format this version reads.
        known: u32,
    },
    /// The store does not hold what it had acknowledged; [`crate::Options::accept_loss`] opens it all the same.
    #[error("acknowledged records are missing from {dir}: {reason}. Find out why (the disk, the file system, a copy that was put back), and look at what is left with `jangbu inspect verify {dir}`; `jangbu serve --accept-loss` goes on without what is missing", dir = dir.display())]
    Lost {
        /// The data directory.
        dir: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// RocksDB cannot open the store, because a file that it needs for that is damaged; [`crate::inspect::repair`] sets it aside.
    #[error("the store in {dir} is damaged where nothing can be read without: {reason}. A node of a cluster gets a new data directory, and its replicas are built anew there. Without other replicas: copy {dir}, then `jangbu inspect repair {dir}`", dir = dir.display())]
    Damaged {
        /// The data directory.
        dir: PathBuf,
        /// What RocksDB said; it names the file.
        reason: String,
    },
    /// The disk refused. After a failed write or sync the engine stays closed.
    #[error("{operation} failed: {source}")]
    Storage {
        /// What was being done.
        operation: &'static str,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
    /// The engine has failed or has been closed; nothing more is taken.
    #[error("the engine is closed")]
    Closed,
    /// The partition was deleted.
    #[error("partition {0} has been deleted")]
    Deleted(PartitionId),
    /// The log has no key index, or one that is not complete yet.
    #[error("partition {0} has no complete key index")]
    NotKeyed(PartitionId),
}
