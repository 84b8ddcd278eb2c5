//! Looking into a stopped store: what `jangbu inspect` shows.
//!
//! Invariants:
//! - [`Store`] opens RocksDB read only, and its lock is held meanwhile: a node neither runs nor starts.
//! - Damage is a finding, not an error: what can be read is read.
//!
//! Not here: checking everything (`inspect/verify.rs`), repairing (`inspect/repair.rs`), how it is shown (`tools/src/inspect.rs`).

mod repair;
mod verify;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rocksdb::{Direction, IteratorMode, ReadOptions};
use rustix::fs::{FlockOperation, fcntl_lock};

use crate::batch::Header;
use crate::db::{Db, failed};
use crate::keys::{self, BucketId, Tag};
use crate::record::{self, RECORD_HEADER_BYTES};
use crate::rows::{self, BucketRow, BucketState};
use crate::watermark::{self, Stated};
use crate::{Entry, Error, Index, Offset, PartitionId, Result, format, recovery};

pub use repair::{Repair, repair};
pub use verify::{Problem, Report};

/// A stopped store, open for looking.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    db: Db,
    families: Vec<BucketId>,
    /// Held as long as the store is looked at.
    _lock: File,
}

/// A bucket, as its row and RocksDB describe it.
#[derive(Debug, Clone)]
pub struct BucketInfo {
    /// The name of its column family.
    pub name: String,
    /// `active`, `closed` or `dropping`; `no row` and `no family` are what a crash or damage leaves.
    pub state: &'static str,
    /// When it was made, in ms since the epoch.
    pub created_ms: u64,
    /// Bytes RocksDB holds of it.
    pub bytes: u64,
    /// Partitions that have entries in it.
    pub partitions: usize,
}

/// A partition, as its rows describe it.
#[derive(Debug, Clone)]
pub struct PartitionInfo {
    /// The partition.
    pub id: PartitionId,
    /// What keeps it from being opened, if anything does.
    pub damage: Option<String>,
    /// The first offset that may be read.
    pub log_start: Offset,
    /// The offset the next batch takes.
    pub end: Offset,
    /// The first and the last Raft index it holds.
    pub indexes: Option<(Index, Index)>,
    /// How many buckets hold entries of it.
    pub buckets: usize,
}

impl Store {
    /// Opens the store in the data directory `dir`.
    ///
    /// # Errors
    /// [`Error::Locked`] while a node runs on it, [`Error::Directory`] when there is none,
    /// [`Error::UnknownFormat`], [`Error::Damaged`] when RocksDB cannot open it at all.
    pub fn open(dir: &Path) -> Result<Self> {
        format::check_existing(dir)?;
        let lock = lock(dir)?;
        let (db, families) = Db::open_read_only(dir)?;
        Ok(Self { dir: dir.to_owned(), db, families, _lock: lock })
    }

    /// The buckets, by class and age.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn buckets(&self) -> Result<Vec<BucketInfo>> {
        let mut infos = Vec::new();
        let mut used = std::collections::HashMap::<BucketId, usize>::new();
        for id in self.ids()? {
            for segment in recovery::segments(&self.db, id).unwrap_or_default() {
                *used.entry(segment.bucket).or_default() += 1;
            }
        }
        let rows = self.bucket_rows()?;
        for (id, row) in &rows {
            let state = match (row, self.families.contains(id)) {
                (_, false) => "no family",
                (None, true) => "undecodable",
                (Some(row), true) => state_name(row.state),
            };
            let created_ms = row.map_or(0, |row| row.created_ms);
            infos.push((*id, state, created_ms));
        }
        let rowless = self.families.iter().filter(|id| !rows.iter().any(|(known, _)| known == *id));
        infos.extend(rowless.map(|id| (*id, "no row", 0)));
        infos.sort();
        let info = |(id, state, created_ms): (BucketId, _, _)| BucketInfo {
            name: id.family(),
            state,
            created_ms,
            bytes: self.db.bucket_bytes(id),
            partitions: used.get(&id).copied().unwrap_or(0),
        };
        Ok(infos.into_iter().map(info).collect())
    }

    /// The partitions, by id.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn partitions(&self) -> Result<Vec<PartitionInfo>> {
        let info = |id| match recovery::find(&self.db, id) {
            Ok(found) => {
                let buckets = found.segments.len();
                let state = crate::state::State::recovered(found);
                let last = state.last.map(|last| last.index);
                PartitionInfo {
                    id,
                    damage: None,
                    log_start: state.log_start,
                    end: state.end,
                    indexes: last
                        .filter(|last| state.first <= *last)
                        .map(|last| (state.first, last)),
                    buckets,
                }
            }
            Err(error) => PartitionInfo {
                id,
                damage: Some(error.to_string()),
                log_start: Offset(0),
                end: Offset(0),
                indexes: None,
                buckets: recovery::segments(&self.db, id).map_or(0, |segments| segments.len()),
            },
        };
        Ok(self.ids()?.into_iter().map(info).collect())
    }

    /// Offers every entry of `id` to `each`, oldest first, until it says `false`; with a batch's header, if it
    /// has one. Damage ends the bucket it lies in, and is told to `each` too.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Corrupt`] when the directory rows do not decode.
    pub fn dump(
        &self,
        id: PartitionId,
        mut each: impl FnMut(std::result::Result<(&Entry, Option<Header>), Error>) -> bool,
    ) -> Result<()> {
        let segments = recovery::segments(&self.db, id)?;
        for (at, segment) in segments.iter().enumerate() {
            let end = segments.get(at + 1).map_or(Index(u64::MAX), |next| next.first);
            let Some(family) = self.db.bucket(segment.bucket) else {
                let what = format!("bucket {} (missing)", segment.bucket.family()).into();
                each(Err(Error::Corrupt { partition: id, index: segment.first, what }));
                continue;
            };
            let start = keys::data(id, segment.first);
            let mut options = ReadOptions::default();
            options.set_iterate_upper_bound(keys::data(id, end));
            options.set_total_order_seek(true);
            let mode = IteratorMode::From(&start, Direction::Forward);
            for item in self.db.raw().iterator_cf_opt(&family, options, mode) {
                let entry = item
                    .map_err(crate::db::unreadable(id, segment.first))
                    .and_then(|(key, value)| decoded(id, &key, &value));
                let go_on = match &entry {
                    Ok(entry) => each(Ok((entry, Header::parse(&entry.payload).ok()))),
                    Err(error) => each(Err(error.clone())),
                };
                if !go_on {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The checkpoint of a partition's state machine.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Corrupt`].
    pub fn checkpoint(&self, id: PartitionId) -> Result<Option<bytes::Bytes>> {
        recovery::opaque(&self.db, id, Tag::Checkpoint)
    }

    /// What the watermark says is missing, or that it cannot say.
    fn lost(&self) -> Result<Option<String>> {
        let unreadable =
            || "the watermark does not decode: whether the log is whole cannot be told";
        let identity = self.db.raw().get_db_identity().map_err(failed("reading the identity"))?;
        let latest = self.db.raw().latest_sequence_number();
        Ok(match watermark::read(&self.dir) {
            Err(error) => Some(error.to_string()),
            Ok(Stated::Nothing) => Some("there is no watermark".to_owned()),
            Ok(Stated::Unreadable) => Some(unreadable().to_owned()),
            Ok(Stated::Mark(mark)) => {
                watermark::loss(&mark, watermark::store_id(&identity), latest)
            }
        })
    }

    /// The partitions whose row can be read.
    fn ids(&self) -> Result<Vec<PartitionId>> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound([Tag::Partition as u8 + 1]);
        let start = [Tag::Partition as u8];
        let mode = IteratorMode::From(&start, Direction::Forward);
        let rows = self.db.raw().iterator_cf_opt(&self.db.meta(), options, mode);
        let id = |row: std::result::Result<(Box<[u8]>, _), rocksdb::Error>| {
            let (key, _) = row.map_err(failed("reading the partitions"))?;
            Ok(keys::partition(&key))
        };
        rows.map(id).filter_map(Result::transpose).collect()
    }

    fn bucket_rows(&self) -> Result<Vec<(BucketId, Option<BucketRow>)>> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound([Tag::Bucket as u8 + 1]);
        let start = [Tag::Bucket as u8];
        let mode = IteratorMode::From(&start, Direction::Forward);
        let mut found = Vec::new();
        for item in self.db.raw().iterator_cf_opt(&self.db.meta(), options, mode) {
            let (key, value) = item.map_err(failed("reading the buckets"))?;
            if let Some(id) = keys::bucket_id(&key) {
                found.push((id, rows::decode_bucket(&value)));
            }
        }
        Ok(found)
    }
}

fn state_name(state: BucketState) -> &'static str {
    match state {
        BucketState::Active => "active",
        BucketState::Closed => "closed",
        BucketState::Dropping => "dropping",
    }
}

fn decoded(id: PartitionId, key: &[u8], value: &[u8]) -> Result<Entry> {
    let corrupt = |index, what| Error::Corrupt { partition: id, index, what };
    let index = keys::data_index(id, key).ok_or_else(|| corrupt(Index(0), "data key".into()))?;
    let head = record::decode(id, index, value).map_err(|what| corrupt(index, what.into()))?;
    let payload = value.get(RECORD_HEADER_BYTES..).unwrap_or_default();
    Ok(head.entry(bytes::Bytes::copy_from_slice(payload)))
}

/// Takes RocksDB's own lock, as a node would.
fn lock(dir: &Path) -> Result<File> {
    let unusable = |reason: String| Error::Directory { dir: dir.to_owned(), reason };
    let path = format::store(dir).join("LOCK");
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .map_err(|error| unusable(format!("{}: {error}", path.display())))?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::AGAIN) => {
            Err(Error::Locked { dir: dir.to_owned() })
        }
        Err(error) => Err(unusable(format!("{}: {error}", path.display()))),
    }
}
