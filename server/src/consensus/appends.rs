//! What leaders send to one replica, in the order in which it came.
//!
//! A task per group feeds openraft's pipeline. The pipeline ends with the first append that cannot be taken in; then
//! whatever is in it is answered with an error, its leader sends it again from where the logs match, and a new
//! pipeline begins.
//!
//! Invariants:
//! - Appends reach openraft in the order of [`Appends::put`], and each is answered once.
//! - What waits is bounded: beyond that an append is refused, and its leader sends it again later.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::mpsc;

use super::router::{Answers, Remote};
use super::types::Types;
use super::wire;
use crate::peer::{Reply, Response};

/// Appends that wait for one replica.
const WAITING_MAX: usize = 64;
/// Appends in openraft's pipeline.
const PIPELINE_MAX: usize = 64;

type Append = (AppendEntriesRequest<Types>, Reply);

/// The queue of one replica. Clones share it; its task ends with the last one.
#[derive(Debug, Clone)]
pub(super) struct Appends {
    queue: mpsc::Sender<Append>,
}

impl Appends {
    /// Begins to feed `remote`.
    pub(super) fn start(group: u32, remote: Arc<dyn Remote>) -> Self {
        let (queue, appends) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(group, remote, appends));
        Self { queue }
    }

    /// Queues an append.
    pub(super) fn put(&self, request: AppendEntriesRequest<Types>, reply: Reply) {
        if let Err(error) = self.queue.try_send((request, reply)) {
            let (_, reply) = error.into_inner();
            reply.send(Err("too many appends wait for this replica; send it again".to_owned()));
        }
    }
}

/// Appends on their way through openraft, and its answers.
struct Pipeline {
    requests: mpsc::Sender<AppendEntriesRequest<Types>>,
    answers: Answers,
    waiting: VecDeque<Reply>,
}

impl Pipeline {
    fn begin(remote: &dyn Remote) -> Option<Self> {
        let (requests, mut input) = mpsc::channel(PIPELINE_MAX);
        let input = futures_util::stream::poll_fn(move |cx| input.poll_recv(cx));
        let answers = remote.appends(Box::pin(input))?;
        Some(Self { requests, answers, waiting: VecDeque::new() })
    }

    fn put(&mut self, (request, reply): Append) {
        match self.requests.try_send(request) {
            Ok(()) => self.waiting.push_back(reply),
            Err(_) => reply.send(Err("the replica has stopped".to_owned())),
        }
    }

    /// Hands an answer on; whether more can come.
    fn answered(&mut self, result: StreamAppendResult<Types>) -> bool {
        let goes_on = result.is_ok();
        if let Some(reply) = self.waiting.pop_front() {
            reply.send(Ok(Response::Appended(wire::to_appended(result))));
        }
        goes_on
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        for reply in self.waiting.drain(..) {
            reply.send(Err("an append before it was not taken in; send it again".to_owned()));
        }
    }
}

async fn run(group: u32, remote: Arc<dyn Remote>, mut appends: mpsc::Receiver<Append>) {
    while let Some(first) = appends.recv().await {
        match Pipeline::begin(&*remote) {
            Some(pipeline) => feed(pipeline, first, &mut appends).await,
            None => first.1.send(Err(format!("group {group} does not run on this node"))),
        }
    }
}

/// Feeds a pipeline until it ends or nothing more comes.
async fn feed(mut pipeline: Pipeline, first: Append, appends: &mut mpsc::Receiver<Append>) {
    pipeline.put(first);
    loop {
        tokio::select! {
            biased;
            next = appends.recv(), if pipeline.waiting.len() < PIPELINE_MAX => match next {
                Some(append) => pipeline.put(append),
                None => return,
            },
            answer = pipeline.answers.next() => {
                let Some(Ok(result)) = answer else { return };
                if !pipeline.answered(result) {
                    return;
                }
            }
        }
    }
}
