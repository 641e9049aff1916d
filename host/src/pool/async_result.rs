//! The results of `apply_async` and `map_async`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::callbacks::{Callbacks, Promise};
use super::job::{Job, Panic};
use crate::condition::Condition;
use crate::error::{TaskError, TimedOut};

/// A result that comes later: `multiprocessing.pool.AsyncResult`.
///
/// [`Pool::apply_async`](crate::Pool::apply_async) gives a `T` or a [`TaskError`],
/// [`Pool::map_async`](crate::Pool::map_async) a `Vec` or a [`MapError`](crate::MapError). Dropping it lets
/// the task go on, as in Python, and drops the result. [`cancel`](AsyncResult::cancel) ends the task.
///
/// It is a [`Future`] too, for any executor. Dropping that future lets the task go on;
/// [`Pool::call`](crate::Pool::call) is the call that ends with its future.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("failing")?;
/// # let run = pool.func::<&str, String>("run")?;
/// use std::time::Duration;
/// use wpool::TaskError;
///
/// let task = pool.apply_async(&run, "a");
/// if task.wait(Some(Duration::from_secs(60))) {
///     assert!(task.ready() && task.successful() == Some(true));
///     assert_eq!(task.get()?, "a");
/// }
///
/// // A task that is too slow is cancelled.
/// let mut endless = pool.apply_async(&run, "loop");
/// if endless.get_timeout(Duration::from_millis(10)).is_err() {
///     assert!(endless.cancel());
/// }
/// assert_eq!(endless.get(), Err(TaskError::Cancelled));
///
/// // Callbacks run before `get` returns.
/// let (tell, told) = std::sync::mpsc::channel();
/// let lengths = pool.map_async(&run, ["a", "b"]).callback(move |results| drop(tell.send(results.len())));
/// lengths.error_callback(|error| eprintln!("{error}")).get()?;
/// assert_eq!(told.recv()?, 2);
/// # Ok(())
/// # }
/// ```
pub struct AsyncResult<T, E = TaskError> {
    slot: Arc<ResultSlot<T, E>>,
    job: Arc<Job>,
    callbacks: Callbacks,
    /// The error of a copy in a forked child, where no result comes.
    in_fork: fn() -> E,
}

/// The place of the result.
pub(super) struct ResultSlot<T, E> {
    state: Mutex<ResultState<T, E>>,
    changed: Condition,
    /// The task of an executor that awaits the result.
    waker: Mutex<Option<Waker>>,
}

enum ResultState<T, E> {
    /// The first caller that wants the result makes it, once the job is ready.
    Lazy(Settle<T, E>),
    /// Another thread brings the result, and calls these first.
    Coming(ResultListeners<T, E>),
    Ready(Result<T, E>),
    /// The iterator of the items panicked. `get` panics too.
    Panicked(Panic),
    Taken,
}

type Settle<T, E> = Box<dyn FnOnce() -> Result<T, E> + Send>;
type Callback<T, E> = Box<dyn FnOnce(&Result<T, E>) + Send>;
type DoneFn<T, E> = Box<dyn FnOnce(Result<T, E>) + Send>;

/// What is called with a result. Joining the pool waits for all of it.
struct ResultListeners<T, E> {
    callbacks: Vec<(Callback<T, E>, Promise)>,
    /// Takes the result, behind the callbacks.
    done: Option<(DoneFn<T, E>, Promise)>,
}

impl<T, E> Default for ResultListeners<T, E> {
    fn default() -> Self {
        ResultListeners { callbacks: Vec::new(), done: None }
    }
}

impl<T, E> ResultListeners<T, E> {
    fn add(&mut self, listener: ResultListener<T, E>, promise: Promise) {
        match listener {
            ResultListener::Callback(callback) => self.callbacks.push((callback, promise)),
            ResultListener::Done(done) => self.done = Some((done, promise)),
        }
    }
}

enum ResultListener<T, E> {
    Callback(Callback<T, E>),
    Done(DoneFn<T, E>),
}

/// Runs a callback. A panic of it must not skip the drop of its promise: `join` waits for that.
fn guarded(call: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err() {
        tracing::error!(target: "wpool::pool", "a callback panicked");
    }
}

impl<T, E> ResultSlot<T, E> {
    fn lock(&self) -> MutexGuard<'_, ResultState<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the callbacks, and then makes the result visible: CPython's order.
    fn complete(&self, result: Result<T, E>) {
        let mut state = self.lock();
        // A loop, because a callback may be added while the others run. The last look and the result are
        // under one lock.
        while let ResultState::Coming(ResultListeners { callbacks, .. }) = &mut *state
            && !callbacks.is_empty()
        {
            let callbacks = std::mem::take(callbacks);
            drop(state);
            for (callback, _promise) in callbacks {
                guarded(|| callback(&result));
            }
            state = self.lock();
        }
        let done = match &mut *state {
            ResultState::Coming(listeners) => listeners.done.take(),
            _ => None,
        };
        if let Some((done, _promise)) = done {
            *state = ResultState::Taken;
            drop(state);
            guarded(|| done(result));
        } else {
            *state = ResultState::Ready(result);
            drop(state);
        }
        self.changed.announce();
    }

    /// Whether a thread of the application's code is to be called with the result.
    fn has_listeners(&self) -> bool {
        let is_heard =
            |listeners: &ResultListeners<T, E>| !listeners.callbacks.is_empty() || listeners.done.is_some();
        matches!(&*self.lock(), ResultState::Coming(listeners) if is_heard(listeners))
    }

    /// Makes `get` panic. Gives the listeners back, which will not be called.
    fn panicked(&self, panic: Panic) -> Option<ResultListeners<T, E>> {
        let before = std::mem::replace(&mut *self.lock(), ResultState::Panicked(panic));
        self.changed.announce();
        match before {
            ResultState::Coming(listeners) => Some(listeners),
            _ => None,
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the task that awaits the result, on the thread of the callbacks: a waker is code of the
    /// application's executor, which may take long.
    fn wake(&self, callbacks: &Callbacks) {
        if let Some(waker) = self.waker().take() {
            callbacks.run(move || waker.wake());
        }
    }
}

/// Brings the result of an [`AsyncResult`] from another thread. Joining the pool waits for it.
pub(super) struct Bringer<T, E> {
    slot: Arc<ResultSlot<T, E>>,
    callbacks: Callbacks,
    promise: Promise,
}

impl<T: Send + 'static, E: Send + 'static> Bringer<T, E> {
    pub(super) fn bring(self, result: Result<T, E>) {
        let Bringer { slot, callbacks, promise } = self;
        // Asked first: without callbacks the thread of the callbacks is never started.
        let has_listeners = slot.has_listeners();
        let thread = callbacks.clone();
        let complete = move || {
            slot.complete(result);
            slot.wake(&thread);
            drop(promise);
        };
        if has_listeners {
            callbacks.run(complete);
        } else {
            complete();
        }
    }

    pub(super) fn panicked(self, panic: Panic) {
        let listeners = self.slot.panicked(panic).unwrap_or_default();
        self.slot.wake(&self.callbacks);
        // The promises go first: a callback may own the last handle of its pool, whose drop waits for the
        // promises.
        let (callbacks, promises): (Vec<_>, Vec<_>) = listeners.callbacks.into_iter().unzip();
        let (done, promise) = listeners.done.unzip();
        drop((promises, promise, self.promise));
        drop((callbacks, done));
    }
}

impl<T, E> AsyncResult<T, E> {
    fn with(
        state: ResultState<T, E>,
        job: Arc<Job>,
        callbacks: Callbacks,
        in_fork: fn() -> E,
    ) -> AsyncResult<T, E> {
        let slot =
            ResultSlot { state: Mutex::new(state), changed: Condition::default(), waker: Mutex::default() };
        AsyncResult { slot: Arc::new(slot), job, callbacks, in_fork }
    }

    /// A result that `settle` makes once the job is ready. `settle` does not wait.
    pub(super) fn lazy(
        job: Arc<Job>,
        callbacks: Callbacks,
        in_fork: fn() -> E,
        settle: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> AsyncResult<T, E> {
        Self::with(ResultState::Lazy(Box::new(settle)), job, callbacks, in_fork)
    }

    /// A result that another thread brings.
    pub(super) fn coming(
        job: Arc<Job>,
        callbacks: Callbacks,
        in_fork: fn() -> E,
    ) -> (AsyncResult<T, E>, Bringer<T, E>) {
        let result = Self::with(ResultState::Coming(ResultListeners::default()), job, callbacks, in_fork);
        let (callbacks, promise) = (result.callbacks.clone(), result.callbacks.promise());
        let bringer = Bringer { slot: result.slot.clone(), callbacks, promise };
        (result, bringer)
    }

    /// A result that is there.
    pub(super) fn done(
        result: Result<T, E>,
        job: Arc<Job>,
        callbacks: Callbacks,
        in_fork: fn() -> E,
    ) -> AsyncResult<T, E> {
        Self::with(ResultState::Ready(result), job, callbacks, in_fork)
    }

    /// Whether the result is there.
    pub fn ready(&self) -> bool {
        self.wait_until(Some(Instant::now()))
    }

    /// Waits for the result, for at most that long. Whether it is there.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        self.wait_until(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        self.wait_with(deadline, deadline.is_none())
    }

    /// `spins`: it looks for the result for a moment before it sleeps.
    fn wait_with(&self, deadline: Option<Instant>, spins: bool) -> bool {
        if self.job.is_in_fork() {
            return true;
        }
        let mut state = self.slot.lock();
        loop {
            match &*state {
                ResultState::Ready(_) | ResultState::Panicked(_) | ResultState::Taken => return true,
                ResultState::Lazy(_) => {
                    drop(state);
                    let now =
                        spins && crate::spin::pays(1) && crate::spin::until(|| self.job.is_seen_ready());
                    if !now && !self.job.wait_ready(deadline) {
                        return false;
                    }
                    state = self.slot.lock();
                    // Another thread may have taken `settle` in the meantime.
                    if let ResultState::Lazy(_) = &*state
                        && let ResultState::Lazy(settle) = std::mem::replace(&mut *state, ResultState::Taken)
                    {
                        *state = ResultState::Ready(settle());
                    }
                }
                ResultState::Coming(_) => {
                    let is_coming = |state: &ResultState<T, E>| matches!(state, ResultState::Coming(_));
                    state = self.slot.changed.wait_while(state, deadline, is_coming);
                    if is_coming(&state) {
                        return false;
                    }
                }
            }
        }
    }

    /// Whether the call returned a result. `None` before its end, where CPython raises `ValueError`.
    pub fn successful(&self) -> Option<bool> {
        if self.job.is_in_fork() {
            return Some(false);
        }
        let is_ready = self.ready();
        is_ready.then(|| matches!(&*self.slot.lock(), ResultState::Ready(Ok(_))))
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// The failure of the task.
    ///
    /// # Panics
    /// If [`get_timeout`](Self::get_timeout) has given the result before. If the iterator of the items
    /// panicked, with its panic.
    pub fn get(self) -> Result<T, E> {
        self.wait_until(None);
        self.take()
    }

    /// As [`get`](Self::get), by a thread that has looked for the result for a moment.
    pub(super) fn get_asleep(self) -> Result<T, E> {
        self.wait_with(None, false);
        self.take()
    }

    /// Waits for the result, for at most that long. It gives the result once.
    ///
    /// # Errors
    /// [`TimedOut`] if it did not come. The task goes on, and this can be called again.
    ///
    /// # Panics
    /// If it has given the result before, and like [`get`](Self::get).
    pub fn get_timeout(&mut self, timeout: Duration) -> Result<Result<T, E>, TimedOut> {
        if self.wait(Some(timeout)) { Ok(self.take()) } else { Err(TimedOut) }
    }

    fn take(&self) -> Result<T, E> {
        if self.job.is_in_fork() {
            return Err((self.in_fork)());
        }
        let state = std::mem::replace(&mut *self.slot.lock(), ResultState::Taken);
        match state {
            ResultState::Ready(result) => result,
            ResultState::Panicked(Panic(payload)) => std::panic::resume_unwind(payload),
            ResultState::Taken | ResultState::Lazy(_) | ResultState::Coming(_) => {
                panic!("the result was taken before")
            }
        }
    }

    /// Cancels the tasks that are queued, and stops those that run: their outcome is
    /// [`TaskError::Cancelled`]. `false`: the result was there already.
    ///
    /// The instance of a stopped task is not used again: with [`Isolation::Reuse`](crate::Isolation::Reuse)
    /// its worker makes a new one, without the old state. [`get`](Self::get) does not wait for the stop.
    /// Callbacks are called after it, at the latest after [`Limits::grace`](crate::Limits::grace).
    ///
    /// Once this returns, the tasks are given nothing more by shared objects: a task that waits for an item of
    /// a queue takes none. An item that a task was given last, before the cancel, is back in its queue once
    /// the task has stopped, and is told as redelivered. Items before that one are lost with the task.
    pub fn cancel(&self) -> bool {
        let was_ready = self.ready();
        if !was_ready {
            self.job.cancel();
        }
        !was_ready
    }
}

impl<T: Send + 'static, E: Send + 'static> AsyncResult<T, E> {
    /// Calls `callback` with the result if the call succeeds, before `get` and `wait` return. It runs on the
    /// pool's thread for callbacks, and joining the pool waits for it.
    ///
    /// A callback must not wait for another result of this pool that has a callback: one thread runs all of
    /// them.
    pub fn callback(self, callback: impl FnOnce(&T) + Send + 'static) -> Self {
        self.when_ready(|result| {
            if let Ok(value) = result {
                callback(value);
            }
        })
    }

    /// Calls `callback` with the error if the call fails, in the same way as [`callback`](Self::callback).
    pub fn error_callback(self, callback: impl FnOnce(&E) + Send + 'static) -> Self {
        self.when_ready(|result| {
            if let Err(error) = result {
                callback(error);
            }
        })
    }

    fn when_ready(self, callback: impl FnOnce(&Result<T, E>) + Send + 'static) -> Self {
        self.listen(ResultListener::Callback(Box::new(callback)));
        self
    }

    /// Calls `done` with the result, on the pool's thread for callbacks and behind the other callbacks.
    /// Joining the pool waits for it. It is the way to hand a result on to a channel, or to another language.
    ///
    /// If the iterator of the items panics there is no result: `done` is dropped.
    pub fn on_done(self, done: impl FnOnce(Result<T, E>) + Send + 'static) {
        if self.job.is_in_fork() {
            return done(Err((self.in_fork)()));
        }
        self.listen(ResultListener::Done(Box::new(done)));
    }

    fn listen(&self, listener: ResultListener<T, E>) {
        if self.job.is_in_fork() {
            return;
        }
        let promise = self.callbacks.promise();
        let mut state = self.slot.lock();
        match &mut *state {
            ResultState::Coming(listeners) => listeners.add(listener, promise),
            // There is no result to call it with.
            ResultState::Panicked(_) | ResultState::Taken => {
                drop(state);
                drop(promise);
            }
            ResultState::Lazy(_) | ResultState::Ready(_) => {
                let mut listeners = ResultListeners::default();
                listeners.add(listener, promise);
                self.bring_by_callbacks(state, listeners);
            }
        }
    }

    /// Makes the thread of the callbacks bring a result that no other thread brings.
    fn bring_by_callbacks(
        &self,
        mut state: MutexGuard<'_, ResultState<T, E>>,
        listeners: ResultListeners<T, E>,
    ) {
        let (slot, callbacks) = (self.slot.clone(), self.callbacks.clone());
        let thread = callbacks.clone();
        let bring = move |result| {
            slot.complete(result);
            slot.wake(&thread);
        };
        match std::mem::replace(&mut *state, ResultState::Coming(listeners)) {
            ResultState::Lazy(settle) => {
                drop(state);
                self.job.when_done(move || callbacks.run(move || bring(settle())));
            }
            ResultState::Ready(result) => {
                drop(state);
                callbacks.run(move || bring(result));
            }
            before @ (ResultState::Coming(_) | ResultState::Panicked(_) | ResultState::Taken) => {
                *state = before;
            }
        }
    }
}

/// The executor's task is woken on the pool's thread for callbacks. No thread waits for the result.
impl<T: Send + 'static, E: Send + 'static> Future for AsyncResult<T, E> {
    type Output = Result<T, E>;

    /// # Panics
    /// Like [`AsyncResult::get`].
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.job.is_in_fork() {
            return Poll::Ready(self.take());
        }
        // Before the look: the result is made visible first, and then the waker is looked for.
        *self.slot.waker() = Some(cx.waker().clone());
        if self.ready() {
            return Poll::Ready(self.take());
        }
        let state = self.slot.lock();
        if matches!(&*state, ResultState::Lazy(_)) {
            self.bring_by_callbacks(state, ResultListeners::default());
        }
        Poll::Pending
    }
}

impl<T, E> fmt::Debug for AsyncResult<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("ready", &self.ready()).finish()
    }
}
