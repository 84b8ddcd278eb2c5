//! Heartbeats of many groups to one node in few frames.
//!
//! A heartbeat waits for nothing but its turn: it leaves at once while few frames are under way, and otherwise
//! together with all that come up until one of those is answered. So one heartbeat costs one round trip, and those of
//! a thousand groups cost a few.
//!
//! Invariant: what waits for one node is bounded; beyond that callers wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::transport::Transport;
use crate::peer::{self, Lane, Request, Response};
use crate::proto::peer as proto;

/// Heartbeats that wait for one node.
const WAITING_MAX: usize = 4096;
/// Heartbeats in one frame.
const FRAME_MAX: usize = 1024;
/// Frames to one node that are not answered yet.
const FRAMES_MAX: usize = 4;
/// How long a frame may take; its senders give up before that.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A heartbeat and whoever waits for its answer.
#[derive(Debug)]
struct Beat {
    append: proto::Append,
    answer: oneshot::Sender<Result<Option<proto::Appended>, peer::Error>>,
}

/// What waits to be sent, for each node. Sending ends when this is dropped.
#[derive(Debug)]
pub(super) struct Beats {
    transport: Transport,
    nodes: Mutex<HashMap<i32, mpsc::Sender<Beat>>>,
}

impl Beats {
    /// Sends through `transport`.
    pub(super) fn new(transport: Transport) -> Self {
        Self { transport, nodes: Mutex::default() }
    }

    /// Sends a heartbeat and waits for its answer, which is `None` when it is no answer to a heartbeat.
    pub(super) async fn send(
        &self,
        node: i32,
        append: proto::Append,
    ) -> Result<Option<proto::Appended>, peer::Error> {
        let (answer, answered) = oneshot::channel();
        let lost = |_| peer::Error::Unreachable { node, reason: "the node is stopping".to_owned() };
        let queue = self.queue(node);
        queue.send(Beat { append, answer }).await.map_err(|_| lost(()))?;
        answered.await.map_err(|_| lost(()))?
    }

    fn queue(&self, node: i32) -> mpsc::Sender<Beat> {
        let mut nodes = self.nodes.lock();
        let queue = nodes.entry(node).or_insert_with(|| {
            let (queue, beats) = mpsc::channel(WAITING_MAX);
            tokio::spawn(run(self.transport.clone(), node, beats));
            queue
        });
        queue.clone()
    }
}

async fn run(transport: Transport, node: i32, mut beats: mpsc::Receiver<Beat>) {
    let frames = Arc::new(Semaphore::new(FRAMES_MAX));
    while let Some(first) = beats.recv().await {
        let Ok(turn) = Arc::clone(&frames).acquire_owned().await else { return };
        let mut frame = vec![first];
        while frame.len() < FRAME_MAX
            && let Ok(next) = beats.try_recv()
        {
            frame.push(next);
        }
        let transport = transport.clone();
        tokio::spawn(async move {
            send(&transport, node, frame).await;
            drop(turn);
        });
    }
}

async fn send(transport: &Transport, node: i32, frame: Vec<Beat>) {
    let (appends, waiting): (Vec<_>, Vec<_>) =
        frame.into_iter().map(|beat| (beat.append, beat.answer)).unzip();
    let request = Request::Heartbeats(proto::Heartbeats { appends });
    let answer = transport.call(node, Lane::Heartbeat, request, Vec::new(), TIMEOUT).await;
    let results = match answer {
        Ok(Response::Heartbeats(answer)) if answer.results.len() == waiting.len() => {
            answer.results.into_iter().map(|result| one(node, result)).collect()
        }
        Ok(_) => vec![Ok(None); waiting.len()],
        Err(error) => vec![Err(error); waiting.len()],
    };
    for (waiting, result) in waiting.into_iter().zip(results) {
        // Whoever gave up needs no answer.
        let _ = waiting.send(result);
    }
}

fn one(
    node: i32,
    result: proto::heartbeat_results::Result,
) -> Result<Option<proto::Appended>, peer::Error> {
    if result.error.is_empty() {
        Ok(result.appended)
    } else {
        Err(peer::Error::Refused { node, reason: result.error })
    }
}
