//! What was begun ends, whoever waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{FutureExt, stream};
use tokio::sync::{mpsc, oneshot};

use super::*;

#[tokio::test]
async fn what_was_begun_ends_though_nobody_waits_for_it() {
    let (go, gone) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel();
    let mut call = to_the_end(async move {
        gone.await.unwrap();
        end.send(7).unwrap();
    });
    assert!((&mut call).now_or_never().is_none());
    drop(call);
    go.send(()).unwrap();
    assert_eq!(ended.await, Ok(7));
}

#[tokio::test]
async fn what_was_not_begun_never_is() {
    let begun = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&begun);
    drop(to_the_end(async move { mark.store(true, Ordering::Release) }));
    tokio::task::yield_now().await;
    assert!(!begun.load(Ordering::Acquire));
}

#[tokio::test]
async fn a_stream_is_read_to_its_end_though_nobody_waits_for_it() {
    let (items, mut waiting) = mpsc::channel(1);
    let source = stream::poll_fn(move |cx| waiting.poll_recv(cx));
    let mut stream = DrainedToTheEnd(Some(Box::pin(source)));
    items.send(1).await.unwrap();
    assert_eq!(stream.next().await, Some(1));
    drop(stream);
    for item in 2..10 {
        items.send(item).await.unwrap();
    }
    drop(items);
}
