//! Makes a store open again that RocksDB refuses: what it cannot read at all is set aside.
//!
//! A table whose footer or index is damaged, or a manifest, keeps RocksDB from opening. Its own repair makes a new
//! manifest out of the tables that can be read and moves everything else to `store/lost`. What lay in those tables is missing
//! afterwards, so the next start has to be told that this is accepted.
//!
//! Invariants:
//! - Nothing is deleted: whatever is set aside stays in `store/lost`.
//! - A store that opens is left as it is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::db::{Db, Refused};
use crate::{Result, format};

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// The store opens: nothing was done.
    NotNeeded,
    /// The store opens now.
    Done {
        /// What RocksDB had refused to open it for.
        reason: String,
        /// Files that were set aside, tables and manifests.
        lost: Vec<PathBuf>,
    },
}

/// Makes the stopped store in the data directory `dir` open again. It reads every table, so it takes as long as that.
///
/// # Errors
/// [`crate::Error::Locked`] while a node runs on it, [`crate::Error::Directory`] when there is none,
/// [`crate::Error::UnknownFormat`], [`crate::Error::Storage`] when it cannot be repaired.
pub fn repair(dir: &Path) -> Result<Repair> {
    format::check_existing(dir)?;
    // A log that can be read goes to tables first: a repair drops what it has of families without any.
    let reason = match Db::flush_log(dir)? {
        Refused::No => return Ok(Repair::NotNeeded),
        Refused::Yes(reason) => reason,
    };
    let before = set_aside(dir)?;
    Db::repair(dir)?;
    let lost = set_aside(dir)?.into_iter().filter(|name| !before.contains(name));
    let lost = lost.map(|name| lost_dir(dir).join(name)).collect();
    Ok(Repair::Done { reason, lost })
}

fn lost_dir(dir: &Path) -> PathBuf {
    format::store(dir).join("lost")
}

/// The names of the files in `store/lost`, sorted, without logs: those were read into tables.
fn set_aside(dir: &Path) -> Result<Vec<OsString>> {
    let unusable = |error: std::io::Error| crate::Error::Directory {
        dir: dir.to_owned(),
        reason: format!("store/lost: {error}"),
    };
    let entries = match std::fs::read_dir(lost_dir(dir)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(error)),
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names = names.collect::<std::io::Result<Vec<_>>>().map_err(unusable)?;
    names.retain(|name| Path::new(name).extension().is_none_or(|extension| extension != "log"));
    names.sort();
    Ok(names)
}
