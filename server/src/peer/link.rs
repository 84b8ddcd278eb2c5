//! One lane to another node, as its callers see it: requests that wait for room, and those that wait for answers.
//!
//! Invariants:
//! - Requests leave in the order in which [`Link::call`] was first polled.
//! - A connection that ends takes all requests with it, so that each of them fails at once.
//! - Requests in flight are bounded by [`Bounds`]; what nobody waits for any more is not sent.
//!
//! Not here: how the connection is made (`caller.rs`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::frame::{self, Answer, Frame};
use super::writer::Source;
use super::{Error, Request, Response};

/// How much of one lane may be under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Requests sent and not yet answered.
    pub(crate) requests: usize,
    /// Their bytes. A request that is larger is sent alone.
    pub(crate) bytes: usize,
    /// Requests that wait for room among those.
    pub(crate) waiting: usize,
}

/// One lane to another node.
#[derive(Debug)]
pub(super) struct Link {
    node: i32,
    bounds: Bounds,
    inner: Mutex<Inner>,
    changed: Notify,
    /// Told to try to connect without waiting.
    pub(super) retry: Notify,
    /// Told to give the connection up.
    pub(super) abort: Notify,
}

#[derive(Debug)]
struct Inner {
    state: State,
    sequence: u64,
    /// In the order of their sequences.
    waiting: VecDeque<Waiting>,
    flights: HashMap<u64, Flight>,
    bytes: usize,
}

#[derive(Debug)]
enum State {
    /// For the first time, or again after it was lost: requests wait.
    Connecting,
    Open,
    Closed(String),
}

#[derive(Debug)]
struct Waiting {
    sequence: u64,
    frame: Frame,
    answer: oneshot::Sender<Result<Response, Error>>,
}

#[derive(Debug)]
struct Flight {
    bytes: usize,
    answer: oneshot::Sender<Result<Response, Error>>,
}

/// Takes a request out of those that wait when nobody waits for its answer any more.
struct Forget<'a> {
    link: &'a Link,
    sequence: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut inner = self.link.inner.lock();
        let found = inner.waiting.binary_search_by_key(&self.sequence, |waiting| waiting.sequence);
        if let Ok(index) = found {
            inner.waiting.remove(index);
        }
    }
}

impl Link {
    pub(super) fn new(node: i32, bounds: Bounds) -> Self {
        let inner = Inner {
            state: State::Connecting,
            sequence: 0,
            waiting: VecDeque::new(),
            flights: HashMap::new(),
            bytes: 0,
        };
        let (changed, retry, abort) = (Notify::new(), Notify::new(), Notify::new());
        Self { node, bounds, inner: Mutex::new(inner), changed, retry, abort }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`Error`]
    pub(super) async fn call(
        &self,
        request: Request,
        payloads: Vec<Bytes>,
        timeout: Duration,
    ) -> Result<Response, Error> {
        let sequence = self.begin()?;
        let frame = frame::encode_request(sequence, request, payloads)
            .map_err(|reason| Error::Refused { node: self.node, reason })?;
        let answer = self.queue(sequence, frame)?;
        let _forget = Forget { link: self, sequence };
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.unreachable("its connection was given up".to_owned())),
            Err(_) => Err(Error::Timeout { node: self.node }),
        }
    }

    fn unreachable(&self, reason: String) -> Error {
        Error::Unreachable { node: self.node, reason }
    }

    /// A sequence for a request, if it can be sent at all.
    fn begin(&self) -> Result<u64, Error> {
        let mut inner = self.inner.lock();
        if let State::Closed(reason) = &inner.state {
            return Err(self.unreachable(reason.clone()));
        }
        if inner.waiting.len() >= self.bounds.waiting {
            let waiting = inner.waiting.len();
            return Err(self.unreachable(format!("{waiting} requests wait for it already")));
        }
        inner.sequence += 1;
        Ok(inner.sequence)
    }

    fn queue(
        &self,
        sequence: u64,
        frame: Frame,
    ) -> Result<oneshot::Receiver<Result<Response, Error>>, Error> {
        let (answer, answered) = oneshot::channel();
        let mut inner = self.inner.lock();
        if let State::Closed(reason) = &inner.state {
            return Err(self.unreachable(reason.clone()));
        }
        // Of requests that are begun on several threads at once, an earlier one may come later.
        let index = inner.waiting.partition_point(|waiting| waiting.sequence < sequence);
        inner.waiting.insert(index, Waiting { sequence, frame, answer });
        drop(inner);
        self.changed.notify_one();
        Ok(answered)
    }

    /// A connection is being made: requests wait for it.
    pub(super) fn connecting(&self) {
        self.inner.lock().state = State::Connecting;
    }

    /// There is a connection.
    pub(super) fn open(&self) {
        self.inner.lock().state = State::Open;
        self.changed.notify_one();
    }

    /// There is no connection: everything that waits fails, and so does what is called from now on.
    pub(super) fn close(&self, reason: &str) {
        let mut inner = self.inner.lock();
        inner.state = State::Closed(reason.to_owned());
        inner.bytes = 0;
        let flights = std::mem::take(&mut inner.flights);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        let flights = flights.into_values().map(|flight| flight.answer);
        for answer in flights.chain(waiting.into_iter().map(|waiting| waiting.answer)) {
            let _ = answer.send(Err(self.unreachable(reason.to_owned())));
        }
    }

    /// Hands an answer to whoever waits for it; `false` when no such request is under way.
    pub(super) fn answered(&self, sequence: u64, answer: Answer) -> bool {
        let mut inner = self.inner.lock();
        let Some(flight) = inner.flights.remove(&sequence) else { return false };
        inner.bytes -= flight.bytes;
        let more = !inner.waiting.is_empty();
        drop(inner);
        if more {
            self.changed.notify_one();
        }
        let refused = |reason| Error::Refused { node: self.node, reason };
        let _ = flight.answer.send(answer.map_err(refused));
        true
    }

    /// Requests that wait for room, and those under way.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.waiting.len(), inner.flights.len())
    }
}

impl Source for Link {
    fn take(&self, chunks: &mut VecDeque<Bytes>) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        while let Some(first) = inner.waiting.front() {
            let bytes = first.frame.bytes();
            let room = inner.flights.is_empty()
                || (inner.flights.len() < self.bounds.requests
                    && inner.bytes + bytes <= self.bounds.bytes);
            if !room {
                return;
            }
            let Some(Waiting { sequence, frame, answer }) = inner.waiting.pop_front() else {
                return;
            };
            if answer.is_closed() {
                continue;
            }
            inner.bytes += bytes;
            inner.flights.insert(sequence, Flight { bytes, answer });
            chunks.extend(frame.into_chunks());
        }
    }

    fn written(&self) {}

    fn changed(&self) -> &Notify {
        &self.changed
    }
}
