//! A Raft instance, of which nothing that was begun is left half done.
//!
//! A call of openraft 0.10.0-alpha.37 that finds its core stopping waits until it has stopped. When such a call is dropped
//! while it waits, the core counts as waited for ever after: the next call panics ("RaftCore should have already quit"),
//! and `shutdown` returns before the core has ended. Requests are dropped when their connection ends or their time is up.
//! So whatever is asked of an instance goes on to its end by itself when nobody waits for it any more.
//!
//! Not here: which instance runs (`group/switch.rs`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use openraft::Raft;
use openraft::base::{BoxFuture, BoxStream};
use openraft::metrics::{RaftDataMetrics, RaftMetrics, RaftServerMetrics};
use openraft::raft::AppendEntriesRequest;
use openraft::type_config::alias::WatchReceiverOf;
use tokio::runtime::Handle;

use super::StateMachine;
use super::router::Answers;
use super::state_machine::Applier;
use super::types::Types;

/// What openraft calls an instance.
pub(super) type Core<M> = Raft<Types, Applier<M>>;

/// A Raft instance. Clones share it.
#[derive(Debug)]
pub(super) struct Instance<M: StateMachine>(Core<M>);

impl<M: StateMachine> Clone for Instance<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: StateMachine> Instance<M> {
    pub(super) fn new(core: Core<M>) -> Self {
        Self(core)
    }

    /// A call, which is made when it is waited for and then goes on to its end, whoever waits.
    pub(super) fn call<T, F>(&self, call: impl FnOnce(Core<M>) -> F) -> ToTheEnd<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        to_the_end(call(self.0.clone()))
    }

    /// The answers to appends, in their order, until the first that is not taken in.
    pub(super) fn appends(
        &self,
        requests: BoxStream<'static, AppendEntriesRequest<Types>>,
    ) -> Answers {
        Box::pin(DrainedToTheEnd(Some(Box::pin(self.0.stream_append(requests)))))
    }

    /// Stops the core and waits until it has ended; whether it had not panicked.
    pub(super) async fn shutdown(&self) -> bool {
        self.call(|core| async move { core.shutdown().await.is_ok() }).await
    }

    pub(super) fn id(&self) -> u64 {
        *self.0.node_id()
    }

    pub(super) fn metrics(&self) -> WatchReceiverOf<Types, RaftMetrics<Types>> {
        self.0.metrics()
    }

    pub(super) fn server_metrics(&self) -> WatchReceiverOf<Types, RaftServerMetrics<Types>> {
        self.0.server_metrics()
    }

    pub(super) fn data_metrics(&self) -> WatchReceiverOf<Types, RaftDataMetrics<Types>> {
        self.0.data_metrics()
    }
}

/// Something that goes on to its end once it was begun, even when this is dropped.
pub(super) struct ToTheEnd<T: Send + 'static> {
    rest: Option<BoxFuture<'static, T>>,
    begun: bool,
}

/// See [`ToTheEnd`].
pub(super) fn to_the_end<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> ToTheEnd<T> {
    ToTheEnd { rest: Some(Box::pin(future)), begun: false }
}

impl<T: Send + 'static> fmt::Debug for ToTheEnd<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToTheEnd").field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        let Some(rest) = &mut self.rest else { return Poll::Pending };
        let polled = rest.as_mut().poll(cx);
        if polled.is_ready() {
            self.rest = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take().filter(|_| self.begun) {
            go_on(rest);
        }
    }
}

/// A stream that is read to its end even when this is dropped.
struct DrainedToTheEnd<T: Send + 'static>(Option<BoxStream<'static, T>>);

impl<T: Send + 'static> Stream for DrainedToTheEnd<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(rest) = &mut self.0 else { return Poll::Ready(None) };
        let polled = rest.as_mut().poll_next(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.0 = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for DrainedToTheEnd<T> {
    fn drop(&mut self) {
        if let Some(rest) = self.0.take() {
            go_on(rest.for_each(async |_| {}));
        }
    }
}

/// A runtime that ends takes its tasks with it, and then there is nobody left to panic.
fn go_on<T: Send + 'static>(rest: impl Future<Output = T> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(async move { drop(rest.await) });
    }
}

#[cfg(test)]
mod tests;
