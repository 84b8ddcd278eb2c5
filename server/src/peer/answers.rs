//! The answers of one connection that another node opened: what was taken in, and what is to be written.
//!
//! Invariants:
//! - Each request is answered once, with an error when its [`Reply`] is dropped.
//! - A request counts as held until its answer has been written, so that a node that does not read its answers is not
//!   read from either.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::frame::{self, Frame};
use super::writer::Source;
use crate::proto::peer::{Response, response};

/// How much of one connection may be taken in and not yet answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
}

/// What is held, and the answers to be written.
#[derive(Debug)]
pub(super) struct Answers {
    bounds: Bounds,
    inner: Mutex<Inner>,
    changed: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Answers with the bytes of their requests.
    queue: VecDeque<(Frame, usize)>,
    held: Count,
    /// Those of `held` whose answers are being written.
    writing: Count,
    closed: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    requests: usize,
    bytes: usize,
}

impl Answers {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        let (changed, room) = (Notify::new(), Notify::new());
        Arc::new(Self { bounds, inner: Mutex::default(), changed, room })
    }

    /// Waits until a request of `bytes` may be taken in. One that is larger than the bound is taken in alone.
    pub(super) async fn make_room(self: &Arc<Self>, bytes: usize) -> Room {
        loop {
            if self.take_room(bytes) {
                return Room { answers: Arc::clone(self), bytes };
            }
            self.room.notified().await;
        }
    }

    fn take_room(&self, bytes: usize) -> bool {
        let mut inner = self.inner.lock();
        let held = inner.held;
        let room = held.requests < self.bounds.requests
            && (held.requests == 0 || held.bytes + bytes <= self.bounds.bytes);
        if room {
            inner.held.requests += 1;
            inner.held.bytes += bytes;
        }
        room
    }

    /// Waits until everything taken in has been answered.
    pub(super) async fn idle(&self) {
        while self.inner.lock().held.requests > 0 {
            self.room.notified().await;
        }
    }

    /// The connection has ended: answers go nowhere from now on.
    pub(super) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.queue.clear();
    }

    fn push(&self, frame: Frame, request_bytes: usize) {
        let mut inner = self.inner.lock();
        if !inner.closed {
            inner.queue.push_back((frame, request_bytes));
            drop(inner);
            self.changed.notify_one();
        }
    }
}

impl Source for Answers {
    fn take(&self, chunks: &mut VecDeque<Bytes>) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        for (frame, request_bytes) in inner.queue.drain(..) {
            inner.writing.requests += 1;
            inner.writing.bytes += request_bytes;
            chunks.extend(frame.into_chunks());
        }
    }

    fn written(&self) {
        let mut inner = self.inner.lock();
        let writing = std::mem::take(&mut inner.writing);
        inner.held.requests -= writing.requests;
        inner.held.bytes -= writing.bytes;
        drop(inner);
        self.room.notify_one();
    }

    fn changed(&self) -> &Notify {
        &self.changed
    }
}

/// Room for one request.
#[derive(Debug)]
pub(super) struct Room {
    answers: Arc<Answers>,
    bytes: usize,
}

impl Room {
    /// The reply to the request that was read into the room.
    pub(super) fn reply(self, sequence: u64) -> Reply {
        Reply { answers: self.answers, sequence, request_bytes: self.bytes, open: true }
    }
}

/// Answers one request; dropping it answers with an error.
#[derive(Debug)]
pub(crate) struct Reply {
    answers: Arc<Answers>,
    sequence: u64,
    request_bytes: usize,
    open: bool,
}

impl Reply {
    /// Answers, or says why the request was not carried out.
    pub(crate) fn send(mut self, response: Result<response::Body, String>) {
        self.answer(response);
    }

    fn answer(&mut self, response: Result<response::Body, String>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let frame = encode(self.sequence, response);
        match frame.or_else(|reason| encode(self.sequence, Err(reason))) {
            Ok(frame) => self.answers.push(frame, self.request_bytes),
            Err(error) => tracing::error!(%error, "a request of another node stays unanswered"),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.answer(Err("the request was dropped without an answer".to_owned()));
    }
}

fn encode(sequence: u64, response: Result<response::Body, String>) -> Result<Frame, String> {
    let (error, body) = match response {
        Ok(body) => (String::new(), Some(body)),
        Err(reason) if reason.is_empty() => ("it gave no reason".to_owned(), None),
        Err(reason) => (reason, None),
    };
    frame::encode(&Response { sequence, error, body }, Vec::new())
}
