//! The answer to records: one completion for all records of a batch, shared by those who wait for any of them.
//!
//! Invariant: a completion is answered once. When its batch is dropped without an answer, that is [`Error::Closed`].

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker, ready};

use crate::{Error, Result};

/// Where a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The offset; `None` if the broker recognised a repeat so old that it no longer knows where it is.
    pub offset: Option<i64>,
}

/// Where records that were sent together were written: `count` of them, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The partition.
    pub partition: i32,
    /// The offset of the first; `None` as for [`Delivered::offset`].
    pub first_offset: Option<i64>,
    /// How many.
    pub count: usize,
}

/// Where a batch begins.
#[derive(Debug, Clone, Copy)]
struct Placed {
    partition: i32,
    base: Option<i64>,
}

impl Placed {
    fn offset(self, index: i32) -> Option<i64> {
        self.base.map(|base| base.saturating_add(index.into()))
    }
}

/// What a batch and its waiters share.
#[derive(Debug, Default)]
struct Completion {
    answer: OnceLock<Result<Placed>>,
    wakers: Mutex<Vec<Option<Waker>>>,
}

impl Completion {
    fn wakers(&self) -> std::sync::MutexGuard<'_, Vec<Option<Waker>>> {
        self.wakers.lock().expect("no code panics while it holds this lock")
    }

    fn answer(&self, answer: Result<Placed>) {
        if self.answer.set(answer).is_ok() {
            let wakers = std::mem::take(&mut *self.wakers());
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }

    /// The answer, or `context` is woken when it is there. `slot` is this waiter's place.
    fn poll(&self, slot: &mut Option<usize>, context: &Context<'_>) -> Poll<Result<Placed>> {
        if let Some(answer) = self.answer.get() {
            return Poll::Ready(answer.clone());
        }
        let mut wakers = self.wakers();
        // It is answered before the wakers are taken, so it is seen here or the waker is woken.
        if let Some(answer) = self.answer.get() {
            return Poll::Ready(answer.clone());
        }
        let waker = Some(context.waker().clone());
        match *slot {
            Some(at) => wakers[at] = waker,
            None => {
                *slot = Some(wakers.len());
                wakers.push(waker);
            }
        }
        Poll::Pending
    }
}

/// The batch's side of its completion.
#[derive(Debug, Default)]
pub(super) struct Promise(Arc<Completion>);

impl Promise {
    /// The answer to the record at `index`.
    pub(super) fn delivery(&self, index: i32) -> Delivery {
        Delivery { completion: Arc::clone(&self.0), index, slot: None }
    }

    /// Tells where the batch begins.
    pub(super) fn deliver(self, partition: i32, base: Option<i64>) {
        self.0.answer(Ok(Placed { partition, base }));
    }

    /// Tells why it was given up.
    pub(super) fn fail(self, error: &Error) {
        self.0.answer(Err(error.clone()));
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.answer(Err(Error::Closed));
    }
}

/// The answer to one record, to be awaited.
#[derive(Debug)]
pub struct Delivery {
    completion: Arc<Completion>,
    index: i32,
    slot: Option<usize>,
}

impl Future for Delivery {
    type Output = Result<Delivered>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let placed = ready!(this.completion.poll(&mut this.slot, context))?;
        let offset = placed.offset(this.index);
        Poll::Ready(Ok(Delivered { partition: placed.partition, offset }))
    }
}

/// The answer to records that were sent together, to be awaited: where they are, part by part in the order in
/// which they were given. An error is the first that a part met with; other parts may have been written.
#[derive(Debug, Default)]
pub struct BatchDelivery {
    parts: Vec<(Delivery, usize)>,
    written: Vec<Written>,
}

impl BatchDelivery {
    /// Adds a record; one that follows another in its batch costs nothing.
    pub(super) fn add(&mut self, promise: &Promise, index: i32) {
        if let Some((last, count)) = self.parts.last_mut() {
            let follows = usize::try_from(index - last.index).is_ok_and(|after| after == *count);
            if follows && Arc::ptr_eq(&last.completion, &promise.0) {
                *count += 1;
                return;
            }
        }
        self.parts.push((promise.delivery(index), 1));
    }
}

impl Future for BatchDelivery {
    type Output = Result<Vec<Written>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { parts, written } = &mut *self;
        while let Some((delivery, count)) = parts.get_mut(written.len()) {
            let first = ready!(Pin::new(delivery).poll(context))?;
            let (partition, first_offset) = (first.partition, first.offset);
            written.push(Written { partition, first_offset, count: *count });
        }
        Poll::Ready(Ok(std::mem::take(written)))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::{BatchDelivery, Delivered, Promise, Written};
    use crate::Error;

    #[test]
    fn one_answer_reaches_every_record_with_its_own_offset() {
        let promise = Promise::default();
        let (mut first, mut third) = (pin!(promise.delivery(0)), pin!(promise.delivery(2)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        promise.deliver(4, Some(10));
        let at = |offset| Delivered { partition: 4, offset: Some(offset) };
        assert!(matches!(first.poll(&mut context), Poll::Ready(Ok(got)) if got == at(10)));
        assert!(matches!(third.as_mut().poll(&mut context), Poll::Ready(Ok(got)) if got == at(12)));
    }

    #[test]
    fn records_of_a_batch_that_is_dropped_are_told_so() {
        let promise = Promise::default();
        let delivery = pin!(promise.delivery(0));
        drop(promise);
        let answer = delivery.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(answer, Poll::Ready(Err(Error::Closed))));
    }

    #[test]
    fn records_sent_together_are_told_of_in_runs() {
        let (one, two) = (Promise::default(), Promise::default());
        let mut all = BatchDelivery::default();
        for (promise, index) in [(&one, 0), (&one, 1), (&two, 0), (&one, 2)] {
            all.add(promise, index);
        }
        one.deliver(0, Some(100));
        two.deliver(1, None);
        let run = |partition, first_offset, count| Written { partition, first_offset, count };
        let expected = [run(0, Some(100), 2), run(1, None, 1), run(0, Some(102), 1)];
        let answer = pin!(all).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(answer, Poll::Ready(Ok(written)) if written == expected));
    }
}
