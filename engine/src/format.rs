//! The data directory: making it, and the file that says in which format it is written.
//!
//! Invariant: the format is on stable storage before RocksDB writes anything, and is checked before
//! RocksDB is opened, so that a version that does not know it touches nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The format this version writes and reads.
pub(crate) const FORMAT: u32 = 3;
/// The format before, which lacks only families that are empty at first: opening the store adds them.
const EARLIER: u32 = 2;

const FILE: &str = "jangbu-format";
const FILE_NEW: &str = "jangbu-format.new";
const PREFIX: &str = "jangbu storage format ";

/// Where RocksDB lies in `dir`.
pub(crate) fn store(dir: &Path) -> PathBuf {
    dir.join("store")
}

/// Makes `dir` if it is not there, and checks or writes its format.
pub(crate) fn prepare(dir: &Path) -> Result<()> {
    let unusable =
        |error: io::Error| Error::Directory { dir: dir.to_owned(), reason: error.to_string() };
    fs::create_dir_all(dir).map_err(unusable)?;
    match fs::read_to_string(dir.join(FILE)) {
        Ok(text) if stated(&text).parse() == Ok(EARLIER) => {
            tracing::info!(dir = %dir.display(), from = EARLIER, to = FORMAT, "upgrading the storage format");
            // First of all: a version that does not know the new families must touch nothing once they may be there.
            write(dir).map_err(unusable)
        }
        Ok(text) => check(dir, &text),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => check(dir, "not text"),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(error)),
        Err(_) if store(dir).exists() => check(dir, "none"),
        Err(_) => write(dir).map_err(unusable),
    }
}

/// Checks the format of a directory that must exist, and changes nothing.
pub(crate) fn check_existing(dir: &Path) -> Result<()> {
    match fs::read_to_string(dir.join(FILE)) {
        Ok(text) => check(dir, &text),
        Err(_) if store(dir).exists() => check(dir, "none"),
        Err(error) => {
            let reason = format!("{FILE}: {error}");
            Err(Error::Directory { dir: dir.to_owned(), reason })
        }
    }
}

/// The number that a format file states.
fn stated(text: &str) -> &str {
    text.trim_end().strip_prefix(PREFIX).unwrap_or("unreadable")
}

fn check(dir: &Path, text: &str) -> Result<()> {
    let stated = stated(text);
    if stated.parse() == Ok(FORMAT) {
        return Ok(());
    }
    let found = if text == "none" { "(no format file)" } else { stated };
    Err(Error::UnknownFormat { dir: dir.to_owned(), found: found.to_owned(), known: FORMAT })
}

fn write(dir: &Path) -> io::Result<()> {
    let path = dir.join(FILE_NEW);
    let mut file = File::create(&path)?;
    writeln!(file, "{PREFIX}{FORMAT}")?;
    file.sync_all()?;
    fail::fail_point!("engine-format-before-rename", |_| Err(io::Error::other("injected")));
    fs::rename(&path, dir.join(FILE))?;
    fail::fail_point!("engine-format-after-rename", |_| Err(io::Error::other("injected")));
    File::open(dir)?.sync_all()?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}
