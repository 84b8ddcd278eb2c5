//! The durable watermark: how far the write-ahead log was known to be synced.
//!
//! RocksDB does not know what was synced. Its recovery stops at the first record that does not decode, which is
//! right for the torn end of a log and wrong for a bit that rotted in the middle: what follows would be
//! gone without a word. So a small file beside the store holds the sequence number up to which everything was
//! synced, and a start that finds less says so. `docs/storage-format.md` draws the file.
//!
//! Invariants:
//! - The file never states more than what a sync had made durable before it was written.
//! - The slot written last is never overwritten next, so a torn write leaves the one before.
//! - It lags by a second or 64 MiB of appends at most; after a clean stop it is exact.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use crate::bucket::now_ms;

const FILE: &str = "jangbu-watermark";
const FILE_NEW: &str = "jangbu-watermark.new";
const MAGIC: [u8; 4] = *b"jbwm";
const VERSION: u32 = 1;
/// Each slot in a block of its own, so that one write cannot tear both.
const SLOT_AT: [u64; 2] = [0, 4096];
const SLOT_BYTES: usize = 72;
const CRC_AT: usize = 68;
const STORE_BYTES: usize = 36;

const AGE_MAX: Duration = Duration::from_secs(1);
const BYTES_MAX: u64 = 64 << 20;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) generation: u64,
    /// Everything up to this sequence number of RocksDB's was synced.
    pub(crate) sequence: u64,
    /// When it was written, in ms since the epoch.
    pub(crate) at_ms: u64,
    /// RocksDB's identity of the store, padded with zeros.
    pub(crate) store: [u8; STORE_BYTES],
}

/// The identity as a mark holds it.
pub(crate) fn store_id(identity: &[u8]) -> [u8; STORE_BYTES] {
    let mut store = [0; STORE_BYTES];
    let kept = identity.len().min(STORE_BYTES);
    store[..kept].copy_from_slice(&identity[..kept]);
    store
}

impl Mark {
    pub(crate) fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut slot = [0; SLOT_BYTES];
        slot[..4].copy_from_slice(&MAGIC);
        slot[4..8].copy_from_slice(&VERSION.to_be_bytes());
        slot[8..16].copy_from_slice(&self.generation.to_be_bytes());
        slot[16..24].copy_from_slice(&self.sequence.to_be_bytes());
        slot[24..32].copy_from_slice(&self.at_ms.to_be_bytes());
        slot[32..CRC_AT].copy_from_slice(&self.store);
        let crc = crc32c::crc32c(&slot[..CRC_AT]);
        slot[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
        slot
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let slot = bytes.first_chunk::<SLOT_BYTES>()?;
        let stated = u32::from_be_bytes(slot[CRC_AT..].try_into().ok()?);
        if slot[..4] != MAGIC
            || slot[4..8] != VERSION.to_be_bytes()
            || crc32c::crc32c(&slot[..CRC_AT]) != stated
        {
            return None;
        }
        let word = |at: usize| Some(u64::from_be_bytes(slot.get(at..at + 8)?.try_into().ok()?));
        let store = slot[32..CRC_AT].try_into().ok()?;
        Some(Self { generation: word(8)?, sequence: word(16)?, at_ms: word(24)?, store })
    }
}

/// What the file in a data directory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stated {
    /// There is no file.
    Nothing,
    /// Neither slot decodes.
    Unreadable,
    /// The newest mark.
    Mark(Mark),
}

/// Reads the mark in the data directory `dir`.
pub(crate) fn read(dir: &Path) -> io::Result<Stated> {
    let bytes = match fs::read(dir.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stated::Nothing),
        Err(error) => return Err(error),
    };
    Ok(newest(&bytes).map_or(Stated::Unreadable, Stated::Mark))
}

/// The newest mark in the bytes of a file.
pub(crate) fn newest(bytes: &[u8]) -> Option<Mark> {
    SLOT_AT
        .iter()
        .filter_map(|at| Mark::decode(bytes.get(usize::try_from(*at).ok()?..)?))
        .max_by_key(|mark| mark.generation)
}

/// Why a store is not what the mark says was there.
pub(crate) fn loss(stated: &Mark, store: [u8; STORE_BYTES], latest: u64) -> Option<String> {
    let Mark { sequence, at_ms, .. } = *stated;
    if stated.store != store {
        return Some(format!(
            "the store is another one than at {at_ms} ms since the epoch, when {sequence} changes were on disk"
        ));
    }
    (latest < sequence).then(|| {
        format!(
            "the write-ahead log came back shorter than what was acknowledged: at {at_ms} ms since the epoch \
             change {sequence} was on disk, now change {latest} is the last, so at least {} are missing",
            sequence - latest
        )
    })
}

/// Keeps the file of one open store.
#[derive(Debug)]
pub(crate) struct Watermark {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    synced: AtomicU64,
    unmarked_bytes: AtomicU64,
    closing: AtomicBool,
    slots: Mutex<Slots>,
}

#[derive(Debug)]
struct Slots {
    file: File,
    last: Mark,
}

impl Watermark {
    /// Writes the first mark of this opening, and starts the thread that keeps it up to date.
    pub(crate) fn start(dir: &Path, store: [u8; STORE_BYTES], synced: u64) -> io::Result<Self> {
        let generation = match read(dir)? {
            Stated::Mark(mark) => mark.generation + 1,
            Stated::Nothing | Stated::Unreadable => 0,
        };
        let last = Mark { generation, sequence: synced, at_ms: now_ms(), store };
        let file = if generation == 0 { create(dir, &last)? } else { reopen(dir, &last)? };
        let shared = Arc::new(Shared {
            synced: AtomicU64::new(synced),
            unmarked_bytes: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            slots: Mutex::new(Slots { file, last }),
        });
        let kept = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("engine-watermark".to_owned()).spawn(move || kept.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Notes that `bytes` more were written.
    pub(crate) fn written(&self, bytes: usize) {
        self.shared.unmarked_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes that everything up to `sequence` is on stable storage.
    pub(crate) fn synced(&self, sequence: u64) {
        self.shared.synced.fetch_max(sequence, Ordering::AcqRel);
        if self.shared.unmarked_bytes.load(Ordering::Relaxed) >= BYTES_MAX {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Watermark {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that keeps the watermark panicked");
        }
    }
}

impl Shared {
    fn run(&self) {
        loop {
            thread::park_timeout(AGE_MAX);
            let closing = self.closing.load(Ordering::Acquire);
            if let Err(error) = self.mark() {
                // It only detects; the log's own syncs tell whether the disk still works.
                tracing::error!(%error, "the watermark could not be written");
            }
            if closing {
                return;
            }
        }
    }

    fn mark(&self) -> io::Result<()> {
        let sequence = self.synced.load(Ordering::Acquire);
        let mut slots = self.slots.lock();
        if sequence == slots.last.sequence {
            return Ok(());
        }
        self.unmarked_bytes.store(0, Ordering::Relaxed);
        let generation = slots.last.generation + 1;
        let mark = Mark { generation, sequence, at_ms: now_ms(), ..slots.last };
        write_slot(&slots.file, &mark)?;
        slots.last = mark;
        Ok(())
    }
}

fn write_slot(file: &File, mark: &Mark) -> io::Result<()> {
    fail::fail_point!("engine-watermark-before", |_| Err(io::Error::other("injected")));
    let at = if mark.generation.is_multiple_of(2) { SLOT_AT[0] } else { SLOT_AT[1] };
    file.write_all_at(&mark.encode(), at)?;
    file.sync_data()
}

/// A new file, on stable storage with its name, whose first slot is `mark` and whose second is free.
fn create(dir: &Path, mark: &Mark) -> io::Result<File> {
    let path = dir.join(FILE_NEW);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
    let mut bytes = vec![0; usize::try_from(SLOT_AT[1]).unwrap_or_default() + SLOT_BYTES];
    bytes[..SLOT_BYTES].copy_from_slice(&mark.encode());
    file.write_all(&bytes)?;
    file.sync_all()?;
    fail::fail_point!("engine-watermark-before-rename", |_| Err(io::Error::other("injected")));
    fs::rename(&path, dir.join(FILE))?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

fn reopen(dir: &Path, mark: &Mark) -> io::Result<File> {
    let file = OpenOptions::new().write(true).open(path(dir))?;
    write_slot(&file, mark)?;
    Ok(file)
}

/// The file in the data directory `dir`.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::{
        File, Mark, OpenOptions, SLOT_AT, Stated, Watermark, loss, newest, path, read, store_id,
        write_slot,
    };

    fn mark(generation: u64, sequence: u64) -> Mark {
        Mark { generation, sequence, at_ms: 5, store: store_id(b"store") }
    }

    #[test]
    fn a_mark_comes_back_and_no_flipped_bit_does() {
        let bytes = mark(3, 9).encode();
        assert_eq!(Mark::decode(&bytes), Some(mark(3, 9)));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let second = usize::try_from(SLOT_AT[1]).unwrap();
        let mut file = vec![0; second + 72];
        file[..72].copy_from_slice(&mark(2, 10).encode());
        file[second..].copy_from_slice(&mark(3, 20).encode());
        assert_eq!(newest(&file), Some(mark(3, 20)));
        file[second + 20] ^= 1;
        assert_eq!(newest(&file), Some(mark(2, 10)));
        file[0] ^= 1;
        assert_eq!(newest(&file), None);
    }

    #[test]
    fn a_mark_counts_only_once_it_is_synced() {
        let open = |path| -> File { OpenOptions::new().write(true).open(path).unwrap() };
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(write_slot(&open(file.path()), &mark(0, 1)).is_ok());
        // It takes every write and cannot be synced.
        let failed = write_slot(&open("/dev/null".as_ref()), &mark(0, 1));
        assert_eq!(failed.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }

    #[test]
    fn less_than_the_mark_or_another_store_is_a_loss() {
        let store = store_id(b"store");
        assert_eq!(loss(&mark(0, 10), store, 10), None);
        assert_eq!(loss(&mark(0, 10), store, 11), None);
        assert!(loss(&mark(0, 10), store, 9).unwrap().contains("at least 1 are missing"));
        assert!(loss(&mark(0, 10), store_id(b"other"), 11).is_some());
    }

    #[test]
    fn a_clean_end_leaves_exactly_what_was_synced_last() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..3 {
            let watermark = Watermark::start(dir.path(), store_id(b"store"), round * 10).unwrap();
            for sequence in 1..=5 {
                watermark.written(64 << 20);
                watermark.synced(round * 10 + sequence);
            }
            drop(watermark);
            let Stated::Mark(found) = read(dir.path()).unwrap() else { panic!("no mark") };
            assert_eq!(found.sequence, round * 10 + 5);
        }
        std::fs::write(path(dir.path()), b"garbage").unwrap();
        assert_eq!(read(dir.path()).unwrap(), Stated::Unreadable);
        drop(Watermark::start(dir.path(), store_id(b"store"), 7).unwrap());
        assert!(matches!(read(dir.path()).unwrap(), Stated::Mark(Mark { sequence: 7, .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(newest(&bytes).is_none());
        }
    }
}
