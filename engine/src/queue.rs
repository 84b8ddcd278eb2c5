//! The queue of commands to the log threads, and the bound on its bytes.
//!
//! Invariants:
//! - At most `bytes_max` and one command more are accepted and not yet durable.
//! - Room is taken before any lock of a partition, and pushing never blocks.
//! - One thread at a time has taken items and not yet given its turn back.
//! - After `close` nothing gets in; what is in still comes out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::histogram::nanos;
use crate::{Error, Result};

#[derive(Debug, Default)]
struct Inner<T> {
    items: VecDeque<T>,
    /// Whether somebody has taken items and not yet given the turn back.
    taken: bool,
    closed: bool,
}

/// A queue that many push into, and that several threads drain in turns.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    filled: Condvar,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let inner = Mutex::new(Inner { items: VecDeque::new(), taken: false, closed: false });
        Self { inner, filled: Condvar::new() }
    }
}

impl<T> Queue<T> {
    /// Adds `item`; gives it back when the queue is closed.
    pub(crate) fn push(&self, item: T) -> std::result::Result<(), T> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(item);
        }
        inner.items.push_back(item);
        let wake = !inner.taken;
        drop(inner);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Lets nothing in any more.
    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
        self.filled.notify_all();
    }

    /// Waits for items and the turn, and takes from the front while `more` says so of the next one;
    /// `None` when the queue is closed and empty. The turn lasts until the result's `Turn` is dropped.
    pub(crate) fn drain(&self, mut more: impl FnMut(&T) -> bool) -> Option<(Vec<T>, Turn<'_, T>)> {
        let mut inner = self.inner.lock();
        while inner.taken || (inner.items.is_empty() && !inner.closed) {
            self.filled.wait(&mut inner);
        }
        if inner.items.is_empty() {
            return None;
        }
        let mut taken = Vec::with_capacity(inner.items.len().min(512));
        while inner.items.front().is_some_and(&mut more) {
            taken.extend(inner.items.pop_front());
        }
        inner.taken = true;
        Some((taken, Turn { queue: self }))
    }
}

/// The right to handle what was taken before anybody else takes more.
#[derive(Debug)]
pub(crate) struct Turn<'q, T> {
    queue: &'q Queue<T>,
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let mut inner = self.queue.inner.lock();
        inner.taken = false;
        let (more, closed) = (!inner.items.is_empty(), inner.closed);
        drop(inner);
        // Who pushed meanwhile has woken nobody.
        if closed {
            self.queue.filled.notify_all();
        } else if more {
            self.queue.filled.notify_one();
        }
    }
}

/// The bound on what is accepted and not yet durable.
#[derive(Debug)]
pub(crate) struct Room {
    state: Mutex<(usize, bool)>,
    freed: Condvar,
    bytes_max: usize,
    waited_nanos: AtomicU64,
}

impl Room {
    /// Room for `bytes_max`.
    pub(crate) fn new(bytes_max: usize) -> Self {
        let (state, waited_nanos) = (Mutex::new((0, false)), AtomicU64::new(0));
        Self { state, freed: Condvar::new(), bytes_max, waited_nanos }
    }

    /// Takes room for `bytes`, waiting while the bound is reached.
    pub(crate) fn take(&self, bytes: usize) -> Result<()> {
        let mut state = self.state.lock();
        if state.0 >= self.bytes_max && !state.1 {
            let begun = Instant::now();
            while state.0 >= self.bytes_max && !state.1 {
                self.freed.wait(&mut state);
            }
            self.waited_nanos.fetch_add(nanos(begun.elapsed()), Ordering::Relaxed);
        }
        if state.1 {
            return Err(Error::Closed);
        }
        state.0 += bytes;
        Ok(())
    }

    /// Gives back what [`Room::take`] took.
    pub(crate) fn give_back(&self, bytes: usize) {
        let mut state = self.state.lock();
        state.0 = state.0.saturating_sub(bytes);
        drop(state);
        self.freed.notify_all();
    }

    /// Ends all waiting.
    pub(crate) fn close(&self) {
        self.state.lock().1 = true;
        self.freed.notify_all();
    }

    /// Bytes taken.
    pub(crate) fn taken(&self) -> usize {
        self.state.lock().0
    }

    /// The bound of the bytes taken.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Time that callers of [`Room::take`] have waited, in nanoseconds.
    pub(crate) fn waited_nanos(&self) -> u64 {
        self.waited_nanos.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::{Queue, Room};

    #[test]
    fn room_is_waited_for_and_closing_ends_the_wait() {
        let room = Arc::new(Room::new(10));
        room.take(10).unwrap();
        let (sender, receiver) = mpsc::channel();
        let waiting = Arc::clone(&room);
        let thread = std::thread::spawn(move || sender.send(waiting.take(1).is_ok()).unwrap());
        assert!(receiver.try_recv().is_err());
        room.give_back(10);
        assert!(receiver.recv().unwrap());
        thread.join().unwrap();
        room.close();
        assert!(room.take(1).is_err());
    }

    #[test]
    fn a_closed_queue_still_gives_what_is_in_it() {
        let queue = Queue::default();
        queue.push(1).unwrap();
        queue.push(2).unwrap();
        queue.close();
        assert_eq!(queue.push(3), Err(3));
        let drain = |more: fn(&i32) -> bool| queue.drain(more).map(|(items, _turn)| items);
        assert_eq!(drain(|item| *item == 1), Some(vec![1]));
        assert_eq!(drain(|_| true), Some(vec![2]));
        assert_eq!(drain(|_| true), None);
    }

    #[test]
    fn nothing_is_taken_while_somebody_has_the_turn() {
        let queue = Arc::new(Queue::default());
        queue.push(1).unwrap();
        let (first, turn) = queue.drain(|_| true).unwrap();
        queue.push(2).unwrap();
        let (sender, receiver) = mpsc::channel();
        let other = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            let taken = other.drain(|_| true).map(|(items, _turn)| items);
            sender.send(taken).unwrap();
        });
        assert!(receiver.try_recv().is_err());
        drop(turn);
        assert_eq!((first, receiver.recv().unwrap()), (vec![1], Some(vec![2])));
        thread.join().unwrap();
    }
}
