//! Room for what fetches have read and clients have not taken yet, over all connections.
//!
//! A client that does not read its answers would otherwise hold as much memory as it asks for, as often as it
//! connects.
//!
//! Invariants:
//! - Room is taken before records are read and given back when the last byte is written. Only the batch that an
//!   answer must begin with may be larger than the room taken for it.
//! - Whoever waits longest for room gets it first. Nobody waits who holds some.
//! - No answer takes more than half of the room.
//!
//! Not here: what is read (`handlers/fetch.rs`), and that nobody keeps room from others by not reading
//! (`connection.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit stands for this many bytes.
const UNIT_BYTES: usize = 1 << 10;

/// The bound on bytes of answers.
#[derive(Debug, Clone)]
pub(crate) struct AnswerRoom {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    units: usize,
    /// The largest batch of late, over all clients.
    largest_batch: Arc<AtomicUsize>,
}

/// Room that one answer holds.
#[derive(Debug, Default)]
pub(crate) struct Reserved(Option<OwnedSemaphorePermit>);

/// Counts who waits for room, also when the wait is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AnswerRoom {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let units = bytes_max / UNIT_BYTES;
        let permits = Arc::new(Semaphore::new(units));
        Self { permits, waiting: Arc::default(), units, largest_batch: Arc::default() }
    }

    /// How large batches are likely to be before one was looked at: as in the answers before. 0 at first.
    pub(crate) fn batch_bytes(&self) -> usize {
        self.largest_batch.load(Ordering::Relaxed)
    }

    /// Notes the largest batch of an answer that has any. A larger one is forgotten by and by.
    pub(crate) fn note_batch(&self, bytes: usize) {
        if bytes > 0 {
            let before = self.batch_bytes();
            self.largest_batch.store(bytes.max(before - before / 8), Ordering::Relaxed);
        }
    }

    /// The bound.
    pub(crate) fn bytes_max(&self) -> usize {
        self.units * UNIT_BYTES
    }

    /// Bytes that are reserved.
    pub(crate) fn taken_bytes(&self) -> usize {
        (self.units - self.permits.available_permits()) * UNIT_BYTES
    }

    /// The most that one answer may hold.
    pub(crate) fn answer_bytes_max(&self) -> usize {
        self.bytes_max() / 2
    }

    /// Whether somebody waits for room.
    pub(crate) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits for room for `bytes`, at most what one answer may hold.
    pub(crate) async fn reserve(&self, bytes: usize) -> Reserved {
        if let Some(reserved) = self.reserve_now(bytes) {
            return reserved;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        // The semaphore is never closed.
        Reserved(Arc::clone(&self.permits).acquire_many_owned(self.units_of(bytes)).await.ok())
    }

    /// Room for `bytes` if there is any, and if nobody else waits for it.
    pub(crate) fn reserve_now(&self, bytes: usize) -> Option<Reserved> {
        let permit = Arc::clone(&self.permits).try_acquire_many_owned(self.units_of(bytes)).ok()?;
        Some(Reserved(Some(permit)))
    }

    fn units_of(&self, bytes: usize) -> u32 {
        let units = bytes.min(self.answer_bytes_max()).div_ceil(UNIT_BYTES);
        u32::try_from(units).unwrap_or(u32::MAX)
    }
}

impl Reserved {
    /// Gives back what is not needed for `bytes`.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let unneeded = permit.num_permits().saturating_sub(bytes.div_ceil(UNIT_BYTES));
            drop(permit.split(unneeded));
        }
    }

    /// Holds what `other` holds, too.
    pub(crate) fn add(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(permit), Some(other)) => permit.merge(other),
            (empty, other) => *empty = other.or(empty.take()),
        }
    }

    /// Whether anything is held.
    pub(crate) fn is_some(&self) -> bool {
        self.0.as_ref().is_some_and(|permit| permit.num_permits() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    #[tokio::test]
    async fn room_comes_back_when_it_is_not_needed_and_when_the_answer_is_gone() {
        let room = AnswerRoom::new(100 * KIB);
        let mut reserved = room.reserve(40 * KIB).await;
        reserved.shrink(10 * KIB - 1);
        assert_eq!(room.taken_bytes(), 10 * KIB);
        reserved.shrink(20 * KIB);
        assert_eq!(room.taken_bytes(), 10 * KIB, "shrinking never grows");
        reserved.add(room.reserve(5 * KIB).await);
        assert_eq!(room.taken_bytes(), 15 * KIB);
        drop(reserved);
        assert_eq!(room.taken_bytes(), 0);
    }

    #[tokio::test]
    async fn one_answer_gets_half_of_it_and_a_third_waits() {
        let room = AnswerRoom::new(100 * KIB);
        let (first, second) = (room.reserve(usize::MAX).await, room.reserve(usize::MAX).await);
        assert_eq!(room.taken_bytes(), 100 * KIB);
        assert!(room.reserve_now(1).is_none());
        assert!(room.reserve_now(0).is_some(), "nothing needs no room");
        let third = tokio::spawn({
            let room = room.clone();
            async move { room.reserve(KIB).await }
        });
        while !room.is_wanted() {
            tokio::task::yield_now().await;
        }
        drop(first);
        assert!(third.await.unwrap().is_some());
        assert!(!room.is_wanted());
        drop(second);
        assert_eq!(room.taken_bytes(), 0);
    }

    #[test]
    fn a_large_batch_is_remembered_for_some_answers() {
        let room = AnswerRoom::new(KIB);
        room.note_batch(0);
        assert_eq!(room.batch_bytes(), 0, "an answer without batches says nothing");
        room.note_batch(80 * KIB);
        room.note_batch(KIB);
        assert_eq!(room.batch_bytes(), 70 * KIB);
        (0..100).for_each(|_| room.note_batch(KIB));
        assert_eq!(room.batch_bytes(), KIB);
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_is_no_longer_counted() {
        let room = AnswerRoom::new(2 * KIB);
        let _held = (room.reserve(KIB).await, room.reserve(KIB).await);
        {
            let waiting = room.reserve(KIB);
            tokio::pin!(waiting);
            tokio::select! {
                biased;
                _ = &mut waiting => panic!("there is no room"),
                () = std::future::ready(()) => {}
            }
            assert!(room.is_wanted());
        }
        assert!(!room.is_wanted());
    }
}
