//! A pool in an async program: calls that end with their futures, and waiting for a pool's beginning and end.
//!
//! No runtime is needed, and none is started. A waker is code of the executor, which may take long, so the
//! dispatcher's thread never calls one. The waker of a result is called on the pool's thread for callbacks,
//! that of [`Ready`] and of [`Closing`] on a thread that waits for this one thing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crossbeam_channel::Receiver;

use super::async_result::AsyncResult;
use super::shared::PoolShared;
use crate::error::{BuildError, TaskError};

/// A task whose caller awaits it: dropping it ends the task. [`Pool::call`](crate::Pool::call) makes it.
///
/// A task that is queued is not run any more. One that runs is stopped as [`AsyncResult::cancel`] stops it:
/// softly, and after [`Limits::grace`](crate::Limits::grace) with its worker. So a client that hangs up
/// costs a service nothing.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("failing")?;
/// # fn block_on<F: std::future::Future>(future: F) -> F::Output {
/// #     use std::task::{Context, Poll, Wake};
/// #     struct Unpark(std::thread::Thread);
/// #     impl Wake for Unpark { fn wake(self: std::sync::Arc<Self>) { self.0.unpark(); } }
/// #     let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
/// #     let mut future = std::pin::pin!(future);
/// #     loop {
/// #         match future.as_mut().poll(&mut Context::from_waker(&waker)) {
/// #             Poll::Ready(value) => return value,
/// #             Poll::Pending => std::thread::park(),
/// #         }
/// #     }
/// # }
/// let run = pool.func::<&str, String>("run")?;
/// block_on(async {
///     pool.ready().await?;
///     assert_eq!(pool.call(&run, "a").await?, "a");
///     drop(pool.call(&run, "loop")); // its caller has gone away: the loop is stopped
///     pool.close().await;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a call that is dropped is cancelled"]
#[derive(Debug)]
pub struct Call<R> {
    /// `None` once the result was given.
    result: Option<AsyncResult<R>>,
}

impl<R: Send + 'static> Call<R> {
    pub(super) fn new(result: AsyncResult<R>) -> Call<R> {
        Call { result: Some(result) }
    }

    /// Lets the task go on without this future. Its result can be awaited later, or be dropped.
    pub fn detach(mut self) -> AsyncResult<R> {
        self.result.take().expect("it is taken by the end of this call only, or by `poll`")
    }
}

impl<R: Send + 'static> Future for Call<R> {
    type Output = Result<R, TaskError>;

    /// # Panics
    /// If it has given its result before.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = self.result.as_mut().expect("a future is not polled after its end");
        let polled = Pin::new(result).poll(cx);
        if polled.is_ready() {
            self.result = None;
        }
        polled
    }
}

impl<R> Drop for Call<R> {
    fn drop(&mut self) {
        if let Some(result) = &self.result {
            result.cancel();
        }
    }
}

/// The beginning of a pool: [`Pool::ready`](crate::Pool::ready) makes it. It is a future, and
/// [`wait`](Ready::wait) waits without an executor.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = wpool::Pool::builder(&guest("upper")?).processes(2).build()?;
/// pool.ready().wait()?;
/// assert_eq!(pool.workers().len(), 2);
/// # Ok(())
/// # }
/// ```
pub struct Ready {
    shared: Arc<PoolShared>,
    /// Gets a word once all workers are ready. An error: the pool has ended before.
    is_ready: Receiver<()>,
    waiting: Option<OnThread<Result<(), BuildError>>>,
}

impl Ready {
    pub(super) fn new(shared: Arc<PoolShared>, is_ready: Receiver<()>) -> Ready {
        Ready { shared, is_ready, waiting: None }
    }

    /// Waits until all workers are ready.
    ///
    /// # Errors
    /// [`BuildError::Broken`] if they cannot run, [`BuildError::Closed`] if the pool ends first.
    pub fn wait(self) -> Result<(), BuildError> {
        wait_ready(&self.shared, &self.is_ready)
    }
}

fn wait_ready(shared: &PoolShared, is_ready: &Receiver<()>) -> Result<(), BuildError> {
    if shared.is_own_thread() {
        let reason = "its own thread starts its workers, and cannot wait for them".to_owned();
        return Err(BuildError::Broken { reason });
    }
    if shared.is_in_fork() || is_ready.recv().is_err() {
        // The dispatcher ends, or has ended. Then it has noted why.
        shared.join(None);
        return Err(shared.end_error());
    }
    Ok(())
}

impl Future for Ready {
    type Output = Result<(), BuildError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (shared, is_ready) = (self.shared.clone(), self.is_ready.clone());
        let wait = move || wait_ready(&shared, &is_ready);
        self.waiting.get_or_insert_with(|| OnThread::start(wait)).poll(cx)
    }
}

/// The end of a pool that takes no more tasks: it is over when every worker has ended and every callback has
/// run. [`Pool::close`](crate::Pool::close), [`shutdown`](crate::Pool::shutdown) and
/// [`terminate`](crate::Pool::terminate) make it. It can be dropped: the pool ends all the same.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// # let upper = pool.func::<&str, String>("run")?;
/// let result = pool.apply_async(&upper, "a");
/// pool.close().wait(); // in async code: pool.close().await
/// assert_eq!(result.get()?, "A");
/// # Ok(())
/// # }
/// ```
pub struct Closing {
    shared: Arc<PoolShared>,
    waiting: Option<OnThread<()>>,
}

impl Closing {
    pub(super) fn new(shared: Arc<PoolShared>) -> Closing {
        Closing { shared, waiting: None }
    }

    /// Waits for the end, as [`Pool::join`](crate::Pool::join) does.
    pub fn wait(self) {
        self.shared.join(None);
    }
}

impl Future for Closing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let wait = move || {
            shared.join(None);
        };
        self.waiting.get_or_insert_with(|| OnThread::start(wait)).poll(cx)
    }
}

/// A wait on a thread of its own, for what happens once in the life of a pool.
struct OnThread<T>(Arc<Mutex<Waited<T>>>);

enum Waited<T> {
    /// The task to wake.
    Waiting(Option<Waker>),
    /// `None`: the value was given.
    Over(Option<T>),
}

impl<T: Send + 'static> OnThread<T> {
    fn start(wait: impl FnOnce() -> T + Send + 'static) -> OnThread<T> {
        let place = Arc::new(Mutex::new(Waited::Waiting(None)));
        let waited = place.clone();
        // In a cell, so that the wait is not lost if there is no thread.
        let wait = Arc::new(Mutex::new(Some(wait)));
        let job = wait.clone();
        let run = move || {
            let Some(wait) = lock(&job).take() else { return };
            let value = wait();
            let before = std::mem::replace(&mut *lock(&waited), Waited::Over(Some(value)));
            if let Waited::Waiting(Some(waker)) = before {
                waker.wake();
            }
        };
        if let Err(_no_thread) = std::thread::Builder::new().name("wpool-wait".to_owned()).spawn(run)
            && let Some(wait) = lock(&wait).take()
        {
            // The executor waits this once, rather than for ever.
            *lock(&place) = Waited::Over(Some(wait()));
        }
        OnThread(place)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<T> {
        match &mut *lock(&self.0) {
            Waited::Waiting(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Waited::Over(value) => Poll::Ready(value.take().expect("a future is not polled after its end")),
        }
    }
}

impl<T> fmt::Debug for OnThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(&*lock(&self.0), Waited::Over(_)) { "over" } else { "waiting" })
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
