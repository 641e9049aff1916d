//! Results of a stream of items, as a stream.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures_core::Stream;

use super::callbacks::Callbacks;
use super::func::{Decode, Func};
use super::stream::{Inputs, Outcomes};
use crate::error::TaskError;
use crate::target::Resolved;
use crate::value::{Args, Ret};

/// So many items are drawn in one poll. Then the executor's other tasks have their turn.
const ITEMS_PER_POLL: usize = 256;

/// A stream of results. [`Pool::imap_stream`](crate::Pool::imap_stream) and
/// [`Pool::imap_unordered_stream`](crate::Pool::imap_unordered_stream) make it.
///
/// The stream of the items is polled only while there is room for a record, and only when this stream is
/// polled. If the pool ends first, the last element is that error. Dropping it cancels its tasks.
///
/// ```
/// use futures_util::{Stream, StreamExt};
/// use wpool::{Func, Pool, TaskError};
///
/// async fn print_all(
///     pool: &Pool,
///     upper: &Func<String, String>,
///     items: impl Stream<Item = String>,
/// ) -> Result<(), TaskError> {
///     let mut results = pool.imap_stream(upper, items);
///     while let Some(result) = results.next().await {
///         println!("{}", result?);
///     }
///     Ok(())
/// }
/// ```
#[must_use = "a stream does nothing unless it is polled"]
pub struct ImapStream<A, R, S> {
    /// `None`: the input has ended.
    inputs: Option<Inputs>,
    outcomes: Outcomes,
    /// In a box: the stream of items need not be `Unpin`, and the rest of this is.
    items: Option<Pin<Box<S>>>,
    resolved: Arc<Resolved>,
    decode: Decode<R>,
    record: Vec<u8>,
    callbacks: Callbacks,
    waker: Arc<Mutex<Option<Waker>>>,
    args: std::marker::PhantomData<fn(A)>,
}

/// What stopped the drawing of items.
enum StoppedDrawing {
    /// There is no room for another record.
    Full,
    /// The stream of the items has no item now, or has ended.
    NoItem,
    /// Other tasks are to have their turn.
    Turn,
}

impl<A, R, S> ImapStream<A, R, S> {
    pub(super) fn new(
        func: &Func<A, R>,
        inputs: Option<Inputs>,
        outcomes: Outcomes,
        items: S,
        callbacks: Callbacks,
    ) -> ImapStream<A, R, S> {
        ImapStream {
            inputs,
            outcomes,
            items: Some(Box::pin(items)),
            resolved: func.resolved.clone(),
            decode: func.decode(),
            record: Vec::new(),
            callbacks,
            waker: Arc::default(),
            args: std::marker::PhantomData,
        }
    }

    /// A call that wakes the task that polls this stream, on the thread of the callbacks.
    fn wake(&self) -> impl FnOnce() + Send + 'static {
        let (callbacks, waker) = (self.callbacks.clone(), self.waker.clone());
        move || {
            if let Some(waker) = waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
                callbacks.run(move || waker.wake());
            }
        }
    }
}

impl<A: Args, R: Ret, S: Stream<Item = A>> ImapStream<A, R, S> {
    /// Pushes items while there are some and there is room.
    fn draw(&mut self, cx: &mut Context<'_>) -> StoppedDrawing {
        for _ in 0..ITEMS_PER_POLL {
            let (Some(inputs), Some(items)) = (&mut self.inputs, &mut self.items) else {
                return StoppedDrawing::NoItem;
            };
            let is_over = match inputs.room() {
                Ok(false) => return StoppedDrawing::Full,
                Ok(true) => match items.as_mut().poll_next(cx) {
                    Poll::Pending => return StoppedDrawing::NoItem,
                    Poll::Ready(None) => true,
                    Poll::Ready(Some(args)) => {
                        self.record.clear();
                        let encoded = args.encode(&self.resolved.free(), &mut self.record);
                        inputs.push_item(encoded.map(|()| &self.record[..])).is_err()
                    }
                },
                Err(_closed) => true,
            };
            if is_over {
                (self.inputs, self.items) = (None, None);
            }
        }
        StoppedDrawing::Turn
    }
}

impl<A: Args, R: Ret, S: Stream<Item = A>> Stream for ImapStream<A, R, S> {
    type Item = Result<R, TaskError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let stopped = this.draw(cx);
        let decode = &this.decode;
        let taken = this.outcomes.take_one(Some(Instant::now()), |outcome| decode.decode(outcome.result()));
        match taken {
            Ok(Some(result)) => return Poll::Ready(Some(result)),
            Ok(None) => return Poll::Ready(this.outcomes.cut_short().map(Err)),
            Err(_not_yet) => {}
        }
        // Before the calls are left with the job: it may make them at once.
        *this.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        this.outcomes.job().when_ready(this.wake());
        match stopped {
            StoppedDrawing::Full => this.outcomes.job().when_room(this.wake()),
            StoppedDrawing::NoItem => {}
            StoppedDrawing::Turn => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    }
}

impl<A, R, S> fmt::Debug for ImapStream<A, R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ImapStream").field(&self.outcomes).finish()
    }
}
