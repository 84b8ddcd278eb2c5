//! The buckets that exist, and which one takes appends of a class.
//!
//! Invariants:
//! - Sequence numbers grow over all classes; none is used by two buckets that exist.
//! - A bucket's row is written in the batch that first writes into the bucket; a column family
//!   without a row is empty, and is dropped at the next start.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocksdb::{IteratorMode, WriteBatch};

use crate::db::{Db, failed};
use crate::keys::{self, BucketId, Tag};
use crate::rows::{self, BucketRow, BucketState};
use crate::space::WORTH_CLOSING;
use crate::{Error, Options, Result, RetentionClass};

/// The buckets that exist.
#[derive(Debug)]
pub(crate) struct Buckets {
    rows: BTreeMap<BucketId, BucketRow>,
    active: BTreeMap<RetentionClass, BucketId>,
    next_seq: u64,
    bytes_max: u64,
    age_max: Duration,
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Buckets {
    /// Reads the bucket rows, and finishes what a crash left undone with `families`.
    pub(crate) fn load(
        db: &Db,
        dir: &Path,
        families: &[BucketId],
        options: &Options,
    ) -> Result<Self> {
        let mut rows = BTreeMap::new();
        let mut batch = WriteBatch::default();
        for (id, mut row) in read_rows(db, dir)? {
            let exists = families.contains(&id);
            match row.state {
                BucketState::Dropping => batch.delete_cf(&db.meta(), keys::bucket(id)),
                BucketState::Active | BucketState::Closed if !exists && options.accept_loss => {
                    tracing::error!(bucket = id.family(), "all entries of a bucket are missing");
                    db.create_bucket(id)?;
                }
                BucketState::Active | BucketState::Closed if !exists => {
                    return Err(unusable(dir, format!("{} is missing", id.family())));
                }
                BucketState::Active => row.bytes = db.bucket_bytes(id),
                BucketState::Closed => {}
            }
            if row.state != BucketState::Dropping {
                rows.insert(id, row);
            }
        }
        for id in families.iter().filter(|id| !rows.contains_key(id)) {
            db.drop_bucket(*id)?;
        }
        db.write(batch)?;
        let next_seq = families.iter().chain(rows.keys()).map(|id| id.seq + 1).max().unwrap_or(1);
        let active = rows
            .iter()
            .filter(|(_, row)| row.state == BucketState::Active)
            .map(|(id, _)| (id.class, *id))
            .collect();
        let (bytes_max, age_max) = (options.bucket_bytes_max, options.bucket_age_max);
        Ok(Self { rows, active, next_seq, bytes_max, age_max })
    }

    /// Those that exist.
    pub(crate) fn ids(&self) -> Vec<BucketId> {
        self.rows.keys().copied().collect()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.rows.len()
    }

    /// The bucket that takes `bytes` more of `class`. When that is a new one, the rows that say so
    /// are put into `batch` and the closed one is returned too.
    pub(crate) fn target(
        &mut self,
        class: RetentionClass,
        bytes: u64,
        db: &Db,
        batch: &mut WriteBatch,
    ) -> Result<(BucketId, Option<BucketId>)> {
        let now = now_ms();
        let full = match self.active.get(&class) {
            Some(id) if !self.is_full(*id, now) => {
                let id = *id;
                self.add(id, bytes);
                return Ok((id, None));
            }
            other => other.copied(),
        };
        if let Some(row) = full.and_then(|id| self.rows.get_mut(&id)) {
            row.state = BucketState::Closed;
        }
        let id = BucketId { class, seq: self.next_seq };
        self.next_seq += 1;
        db.create_bucket(id)?;
        fail::fail_point!("engine-roll-after-create", |_| Err(Error::Closed));
        self.rows.insert(id, BucketRow { state: BucketState::Active, created_ms: now, bytes: 0 });
        self.active.insert(class, id);
        for id in [full, Some(id)].into_iter().flatten() {
            if let Some(row) = self.rows.get(&id) {
                batch.put_cf(&db.meta(), keys::bucket(id), rows::bucket(row));
            }
        }
        self.add(id, bytes);
        Ok((id, full))
    }

    /// Those that take appends.
    pub(crate) fn active(&self) -> impl Iterator<Item = BucketId> {
        self.active.values().copied()
    }

    /// The buckets and their rows.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&BucketId, &BucketRow)> {
        self.rows.iter()
    }

    /// What a bucket may hold before it is closed.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Whether an active bucket takes no more: it is full or old, or holds enough that no log needs.
    pub(crate) fn is_finished(&self, id: BucketId, unneeded: bool) -> bool {
        let Some(row) = self.rows.get(&id) else { return false };
        let wasted = unneeded && row.bytes > 0 && row.bytes >= self.bytes_max / WORTH_CLOSING;
        self.active.get(&id.class) == Some(&id) && (wasted || self.is_full(id, now_ms()))
    }

    /// Changes a bucket's state and puts its row into `batch`; returns it when it was closed.
    pub(crate) fn change(
        &mut self,
        id: BucketId,
        to: Option<BucketState>,
        db: &Db,
        batch: &mut WriteBatch,
    ) -> Option<BucketId> {
        let Some(to) = to else {
            self.rows.remove(&id);
            batch.delete_cf(&db.meta(), keys::bucket(id));
            return None;
        };
        let row = self.rows.get_mut(&id)?;
        row.state = to;
        batch.put_cf(&db.meta(), keys::bucket(id), rows::bucket(row));
        let was_active = self.active.get(&id.class) == Some(&id);
        if was_active {
            self.active.remove(&id.class);
        }
        was_active.then_some(id)
    }

    fn add(&mut self, id: BucketId, bytes: u64) {
        if let Some(row) = self.rows.get_mut(&id) {
            row.bytes = row.bytes.saturating_add(bytes);
        }
    }

    fn is_full(&self, id: BucketId, now: u64) -> bool {
        self.rows.get(&id).is_none_or(|row| {
            let age = Duration::from_millis(now.saturating_sub(row.created_ms));
            row.bytes >= self.bytes_max || (row.bytes > 0 && age >= self.age_max)
        })
    }
}

/// The buckets that are closed by their rows on disk.
pub(crate) fn closed(db: &Db) -> Result<Vec<BucketId>> {
    let rows = read_rows(db, db.raw().path())?.into_iter();
    Ok(rows.filter(|(_, row)| row.state == BucketState::Closed).map(|(id, _)| id).collect())
}

fn read_rows(db: &Db, dir: &Path) -> Result<Vec<(BucketId, BucketRow)>> {
    let start = [Tag::Bucket as u8];
    let mut options = rocksdb::ReadOptions::default();
    options.set_iterate_upper_bound([Tag::Bucket as u8 + 1]);
    let mode = IteratorMode::From(&start, rocksdb::Direction::Forward);
    let mut found = Vec::new();
    for item in db.raw().iterator_cf_opt(&db.meta(), options, mode) {
        let (key, value) = item.map_err(failed("reading the buckets"))?;
        match (keys::bucket_id(&key), rows::decode_bucket(&value)) {
            (Some(id), Some(row)) => found.push((id, row)),
            _ => return Err(unusable(dir, "a bucket's row does not decode".to_owned())),
        }
    }
    Ok(found)
}

fn unusable(dir: &Path, reason: String) -> Error {
    Error::Directory { dir: dir.to_owned(), reason }
}
