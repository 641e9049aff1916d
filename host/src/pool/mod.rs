//! Run many tasks in a pool of workers.
//!
//! [`Pool::builder`] makes a pool for a module, [`Pool::func`] looks up one of its functions, and
//! [`Pool::map`], [`Pool::imap`], [`Pool::apply_async`] and their like run it. [`PoolBuilder`] has the
//! settings, among them retries ([`Backoff`]) and the failures that end a job early ([`Halt`]).
//! [`Pool::stream`] is the interface below all of these, for records as bytes: [`Inputs`] takes them, and
//! [`Outcomes`] gives each [`Outcome`].
//!
//! The way of a record through the pool:
//!
//! ```text
//!   map, imap ... ──records──▶ Job ──▶ Dispatcher ──batches──▶ socket ══▶ worker: serve loop ──▶ guest
//!    (any thread) ◀─outcomes── Job ◀── (one thread) ◀─results── socket ◀══
//!                                       │       ▲
//!                                    events  actions
//!                                       ▼       │
//!                                       Schedule (pure: what to do next)
//! ```

mod async_result;
mod builder;
mod callbacks;
mod collecting;
mod dispatcher;
mod drawing;
pub(crate) mod events;
mod fed;
mod func;
mod future;
mod handlers;
mod imap;
#[cfg(feature = "async")]
mod imap_stream;
mod job;
mod map;
mod plan;
mod policy;
mod schedule;
mod shared;
pub(crate) mod stats;
mod stream;
mod waker;
pub(crate) mod worker;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

pub use self::async_result::AsyncResult;
pub use self::builder::PoolBuilder;
use self::collecting::Collecting;
use self::dispatcher::Command;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::dispatcher::fuzz_link;
use self::drawing::Drawing;
pub use self::fed::Fed;
use self::fed::FedFirst;
pub use self::func::Func;
pub use self::future::{Call, Closing, Ready};
pub use self::imap::{Imap, ImapUnordered};
#[cfg(feature = "async")]
pub use self::imap_stream::ImapStream;
use self::job::{Job, Window};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::job::{TaskEnd, parse_outcome};
use self::map::{all_or_first, collect, not_drawn};
use self::plan::Plan;
pub use self::policy::{Backoff, Halt, HaltError, HaltOn, HaltWhen};
use self::shared::{PoolShared, in_fork, map_in_fork};
use self::stats::Ledger;
pub(crate) use self::stats::Stats;
pub use self::stream::{Inputs, Outcome, Outcomes};
pub(crate) use self::worker::WorkerInfo;
use crate::error::{BuildError, Closed, MapError, StillRunning, TaskError};
use crate::exchange::ipc::{Queue, Transfer};
use crate::module::Module;
use crate::target::{Format, Priority, Resolved, Target, resolve};
use crate::value::{Args, Ret};

/// A pool of worker processes that run the functions of one module: Python's `multiprocessing.Pool`.
///
/// Many threads can use it at once. Dropping it terminates it, as the end of Python's `with` block does.
/// [`Pool::scope`] waits for all tasks instead.
///
/// ```standalone_crate
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use wpool::{Module, Pool};
///
/// wpool::init();
/// # std::env::set_current_dir("../guest/prebuilt")?;
/// let module = Module::load("failing.wasm")?; // it gives back its record, and fails on some
/// let pool = Pool::builder(&module).processes(2).build()?;
/// let run = pool.func::<&str, String>("run")?;
///
/// // One task; then many, of which the first failure is the error; then many, with the outcome of each.
/// assert_eq!(pool.apply(&run, "a")?, "a");
/// assert_eq!(pool.map(&run, ["a", "b"])?, ["a", "b"]);
/// let outcomes = pool.try_map(&run, ["a", "panic", "c"]);
/// assert!(outcomes[0].is_ok() && outcomes[1].is_err() && outcomes[2].is_ok());
///
/// // Without waiting: a handle to the result, or iterators that draw items as the work proceeds.
/// let later = pool.apply_async(&run, "a");
/// for result in pool.imap(&run, ["a", "b"]) {
///     println!("{}", result?);
/// }
/// for (index, result) in pool.imap_unordered(&run, ["a", "b"]) {
///     println!("{index}: {}", result?);
/// }
/// assert_eq!(later.get()?, "a");
///
/// println!("{:?} {:?}", pool.workers(), pool.stats());
/// pool.close();
/// pool.join()?;
/// # Ok(())
/// # }
/// ```
pub struct Pool {
    shared: Arc<PoolShared>,
}

impl Pool {
    /// A builder for a pool that runs functions of `module`.
    pub fn builder(module: &Module) -> PoolBuilder {
        PoolBuilder::new(module)
    }

    /// Finds a function, and checks that it takes `A` and gives `R`.
    ///
    /// `A` is the type of the one parameter, or a tuple for several. Parameters that the target fixes do not
    /// count. `R` is the result of a call that succeeds: `T` for `result<T, E>`. A command takes bytes or
    /// text, its stdin, and gives bytes or text, its stdout.
    ///
    /// # Errors
    /// [`BuildError`] if there is no such function, a fixed argument does not fit, or the Rust types do not
    /// match.
    pub fn func<A: Args, R: Ret>(&self, target: impl Into<Target>) -> Result<Func<A, R>, BuildError> {
        // The Rust types determine the form of records and results.
        let target = target.into().input(Format::Auto).output(Format::Auto);
        let resolved = resolve(&target, &self.shared.info)?;
        let (func, wit) = (resolved.call.path.clone(), resolved.ty.to_string());
        if !A::fits(&resolved.free()) {
            return Err(BuildError::Type { func, wit, rust: std::any::type_name::<A>() });
        }
        if !R::fits(resolved.result_type()) {
            return Err(BuildError::ResultType { func, wit, rust: std::any::type_name::<R>() });
        }
        self.shared.check_home()?;
        let plan = self.shared.plans.get(&resolved.call);
        Ok(Func::new(resolved, plan))
    }

    fn job(&self, plan: Arc<Plan>, priority: Priority, window: Window) -> Result<Arc<Job>, Closed> {
        if self.shared.is_in_fork() {
            return Err(Closed);
        }
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Closed);
        }
        let id = self.shared.next_job.fetch_add(1, Ordering::Relaxed);
        let job = Arc::new(Job::new(id, priority, window, self.shared.waker.clone()));
        self.shared.commands.send(Command::Job { job: job.clone(), plan }).map_err(|_| Closed)?;
        // After the pool's end no dispatcher ends the job. `End::drop` sets `over` and then empties the
        // channel, so either it finds the job, or the job is refused here.
        if *self.shared.over.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(Closed);
        }
        // Its first record, or the end of its input, wakes the dispatcher.
        Ok(job)
    }

    /// Starts a stream of records: push them into [`Inputs`], and take their outcomes from [`Outcomes`], on
    /// one thread or two. The other methods are built on it.
    ///
    /// # Errors
    /// [`BuildError`] as for [`Pool::func`]. If the pool takes no more tasks, [`BuildError::Broken`] with the
    /// reason, or [`BuildError::Closed`].
    pub fn stream(&self, target: &Target, ordered: bool) -> Result<(Inputs, Outcomes), BuildError> {
        let resolved = resolve(target, &self.shared.info)?;
        self.shared.check_home()?;
        let plan = self.shared.plans.get(&resolved.call);
        let job = self
            .job(plan, resolved.priority, self.shared.window)
            .map_err(|Closed| self.shared.end_error())?;
        Ok((Inputs::new(job.clone(), self.shared.limits.input), Outcomes::new(job, ordered)))
    }

    /// Runs the function once and waits for its result: `Pool.apply`.
    ///
    /// # Errors
    /// The failure of the task. [`TaskError::Closed`] if the pool takes no more tasks.
    pub fn apply<A: Args, R: Ret + Send + 'static>(
        &self,
        func: &Func<A, R>,
        args: A,
    ) -> Result<R, TaskError> {
        // Before the task is there, which would wake the dispatcher.
        let mut driving = None;
        let result = self.submit(func, args, |job| driving = self.shared.driver.drive(job));
        // A caller that has driven in vain has looked for the outcome long enough.
        let has_looked = driving.is_some_and(|driving| !driving.spin());
        if has_looked { result.get_asleep() } else { result.get() }
    }

    /// Runs the function once, without waiting: `Pool.apply_async`. The result can be waited for, cancelled,
    /// or passed to callbacks.
    pub fn apply_async<A: Args, R: Ret + Send + 'static>(
        &self,
        func: &Func<A, R>,
        args: A,
    ) -> AsyncResult<R> {
        self.submit(func, args, |_| {})
    }

    /// [`Pool::apply_async`]. `begin` is called with the job before it has its task.
    fn submit<A: Args, R: Ret + Send + 'static>(
        &self,
        func: &Func<A, R>,
        args: A,
        begin: impl FnOnce(&Arc<Job>),
    ) -> AsyncResult<R> {
        let callbacks = self.shared.callbacks.clone();
        let job = match self.job(func.plan.clone(), func.resolved.priority, self.shared.window) {
            Ok(job) => job,
            Err(Closed) => {
                let refusal = self.shared.refusal();
                let job = Job::refused(self.shared.waker.clone(), &refusal);
                return AsyncResult::done(Err(refusal), job, callbacks, in_fork);
            }
        };
        let inputs = Inputs::new(job.clone(), self.shared.limits.input);
        let mut record = Vec::new();
        let encoded = args.encode(&func.resolved.free(), &mut record);
        begin(&job);
        if inputs.push_last_item(encoded.map(|()| &record[..])).is_err() {
            // The pool has ended since the job was made.
            let why = job.cut_short().unwrap_or_else(|| self.shared.refusal());
            return AsyncResult::done(Err(why), job, callbacks, in_fork);
        }
        let mut outcomes = Outcomes::new(job.clone(), false).detached();
        let decode = func.decode();
        AsyncResult::lazy(job, callbacks, in_fork, move || {
            let result = outcomes.take_one(Some(Instant::now()), |outcome| decode.decode(outcome.result()));
            // This runs once the outcome is there, or the job has ended without one.
            result.ok().flatten().unwrap_or_else(|| Err(outcomes.cut_short().unwrap_or(TaskError::Cancelled)))
        })
    }

    /// Runs the function for every item, and gives the results in the order of the items: `Pool.map`.
    ///
    /// The items are drawn as the work proceeds, never all at once. The results are collected.
    ///
    /// # Errors
    /// The first failure, after every task has run to its end.
    pub fn map<A: Args, R: Ret>(
        &self,
        func: &Func<A, R>,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, MapError> {
        all_or_first(self.try_map(func, items))
    }

    /// Runs the function for every item, and gives the outcome of each task in the order of the items.
    ///
    /// If the pool ends or the job is halted first, no more items are drawn, and the outcome of each
    /// remaining item is the error that says so. If the iterator does not know its length, one error stands
    /// for all of them.
    pub fn try_map<A: Args, R: Ret>(
        &self,
        func: &Func<A, R>,
        items: impl IntoIterator<Item = A>,
    ) -> Vec<Result<R, TaskError>> {
        let mut items = items.into_iter();
        match self.job(func.plan.clone(), func.resolved.priority, self.shared.window) {
            Ok(job) => collect(&self.shared, job, func, items),
            Err(Closed) => not_drawn(&mut items, &self.shared.refusal()),
        }
    }

    /// [`Pool::map`] without waiting: `Pool.map_async`. The pool's threads draw the items, as in
    /// [`Pool::imap`], and collect the results.
    pub fn map_async<A, R, I>(&self, func: &Func<A, R>, items: I) -> AsyncResult<Vec<R>, MapError>
    where
        A: Args + 'static,
        R: Ret + Send + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let callbacks = self.shared.callbacks.clone();
        let outcomes = self.feed(func, items, true);
        let job = outcomes.job().clone();
        let (result, bringer) = AsyncResult::coming(job, callbacks, map_in_fork);
        // These threads are others than those that draw items: an iterator may block for ever.
        let collecting = Collecting::new(outcomes, func.decode(), bringer);
        if !self.shared.result_handlers.start(Box::new(collecting)) {
            // The job was cancelled, since its outcomes were dropped.
            let error = MapError { index: 0, error: TaskError::Cancelled, failed: 0 };
            let job = Job::refused(self.shared.waker.clone(), &TaskError::Cancelled);
            return AsyncResult::done(Err(error), job, self.shared.callbacks.clone(), map_in_fork);
        }
        result
    }

    /// [`Pool::map_async`] for functions of several parameters: each item is a tuple. `Pool.starmap_async`.
    pub fn starmap_async<A, R, I>(&self, func: &Func<A, R>, items: I) -> AsyncResult<Vec<R>, MapError>
    where
        A: Args + 'static,
        R: Ret + Send + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        self.map_async(func, items)
    }

    /// [`Pool::map`] for functions of several parameters: each item is a tuple. `Pool.starmap`.
    ///
    /// # Errors
    /// Those of [`Pool::map`].
    pub fn starmap<A: Args, R: Ret>(
        &self,
        func: &Func<A, R>,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, MapError> {
        self.map(func, items)
    }

    /// Runs the function for every item. The iterator gives each outcome, in the order of the items, as soon
    /// as it is there: `Pool.imap`.
    ///
    /// A thread draws the items, ahead of the results by at most [`PoolBuilder::buffer`]. Dropping the
    /// iterator cancels its tasks.
    ///
    /// A few threads draw the items of all calls, however many these are. An iterator that waits for
    /// something keeps its thread, and others get more threads, up to 256. If that many iterators wait, the
    /// items of further calls are drawn once one of these iterators goes on.
    pub fn imap<A, R, I>(&self, func: &Func<A, R>, items: I) -> Imap<R>
    where
        A: Args,
        R: Ret,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        Imap::new(self.feed(func, items, true), func.decode())
    }

    /// [`Pool::imap`] in the order in which the outcomes come, each with the position of its item:
    /// `Pool.imap_unordered`.
    pub fn imap_unordered<A, R, I>(&self, func: &Func<A, R>, items: I) -> ImapUnordered<R>
    where
        A: Args,
        R: Ret,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        ImapUnordered::new(self.feed(func, items, false), func.decode())
    }

    /// [`Pool::imap`] for tasks that make tasks: what guests put into `queue` becomes further items. The
    /// results of these are in the order in which they were taken from the queue, among those of `items`. It
    /// ends when the items, the tasks and the queue are at their end; or with the items and the tasks, once
    /// `queue` is closed and empty.
    ///
    /// What a task puts before it fails counts. Puts of a task that is retried count each time.
    ///
    /// The queue is drawn from before `items`, as long as the buffer has room. A queue with a small limit may
    /// fill up while all tasks wait to put more into it: they then end by their time limit. An item that is
    /// not an `A` is a task that fails with [`TaskError::BadRecord`].
    ///
    /// ```no_run
    /// # use wpool::{Module, Policy, Pool, ipc::Queue};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let found = Queue::<String>::unbounded();
    /// let module = Module::load("crawler.wasm")?; // it puts each link of a page into the queue `found`
    /// let pool = Pool::builder(&module).policy(Policy::sealed().share("found", &found)).build()?;
    /// let crawl = pool.func::<String, String>("run")?;
    /// for title in pool.imap_feed(&crawl, ["/index.html".to_owned()], &found) {
    ///     println!("{}", title?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn imap_feed<A, R, I>(&self, func: &Func<A, R>, items: I, queue: &Queue<A>) -> Imap<R>
    where
        A: Args + Transfer,
        R: Ret,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let items = items.into_iter();
        let fed_first = |inputs: &Inputs| FedFirst::new(items, inputs.fed(queue));
        Imap::new(self.draw(func.plan.clone(), &func.resolved, fed_first, true), func.decode())
    }

    /// Lets the pool's threads draw the items and push them into a job.
    fn feed<A, R, I>(&self, func: &Func<A, R>, items: I, ordered: bool) -> Outcomes
    where
        A: Args,
        R: Ret,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        self.draw(func.plan.clone(), &func.resolved, |_| items.into_iter(), ordered)
    }

    fn draw<I>(
        &self,
        plan: Arc<Plan>,
        resolved: &Arc<Resolved>,
        items: impl FnOnce(&Inputs) -> I,
        ordered: bool,
    ) -> Outcomes
    where
        I: Iterator<Item: Args> + Send + 'static,
    {
        let Ok(job) = self.job(plan, resolved.priority, self.shared.window) else {
            return Outcomes::refused(self.shared.waker.clone(), &self.shared.refusal());
        };
        let inputs = Inputs::new(job.clone(), self.shared.limits.input);
        let items = items(&inputs);
        let drawing = Drawing::new(inputs, resolved.clone(), items);
        // `Outcomes::new` tells the job the order, which must come before the first outcome.
        let outcomes = Outcomes::new(job, ordered);
        if self.shared.task_handlers.start(Box::new(drawing)) {
            outcomes
        } else {
            // `outcomes` is dropped here, which cancels the job.
            Outcomes::refused(self.shared.waker.clone(), &TaskError::Cancelled)
        }
    }

    /// Runs the function once, for a caller that awaits it: dropping the [`Call`] ends the task.
    ///
    /// ```
    /// # use wpool::{Func, Pool, TaskError};
    /// # async fn price(pool: &Pool, run: &Func<String, String>) -> Result<(), TaskError> {
    /// let answer = pool.call(run, "a".to_owned()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<A: Args, R: Ret + Send + 'static>(&self, func: &Func<A, R>, args: A) -> Call<R> {
        Call::new(self.apply_async(func, args))
    }

    /// Runs the function for every item of a stream, and gives the results as a stream, in the order of the
    /// items: [`Pool::imap`] for async programs. With the feature `async`.
    #[cfg(feature = "async")]
    pub fn imap_stream<A, R, S>(&self, func: &Func<A, R>, items: S) -> ImapStream<A, R, S>
    where
        A: Args,
        R: Ret,
        S: futures_core::Stream<Item = A>,
    {
        self.stream_of(func, items, true)
    }

    /// [`Pool::imap_stream`] with the results as they come.
    #[cfg(feature = "async")]
    pub fn imap_unordered_stream<A, R, S>(&self, func: &Func<A, R>, items: S) -> ImapStream<A, R, S>
    where
        A: Args,
        R: Ret,
        S: futures_core::Stream<Item = A>,
    {
        self.stream_of(func, items, false)
    }

    #[cfg(feature = "async")]
    fn stream_of<A, R, S>(&self, func: &Func<A, R>, items: S, ordered: bool) -> ImapStream<A, R, S> {
        let callbacks = self.shared.callbacks.clone();
        match self.job(func.plan.clone(), func.resolved.priority, self.shared.window) {
            Ok(job) => {
                let inputs = Inputs::new(job.clone(), self.shared.limits.input);
                ImapStream::new(func, Some(inputs), Outcomes::new(job, ordered), items, callbacks)
            }
            Err(Closed) => {
                let outcomes = Outcomes::refused(self.shared.waker.clone(), &self.shared.refusal());
                ImapStream::new(func, None, outcomes, items, callbacks)
            }
        }
    }

    /// Starts all workers, and says when they are ready. From then on the pool keeps all of them, as one that
    /// is not [`lazy`](PoolBuilder::lazy).
    pub fn ready(&self) -> Ready {
        let (complete, is_ready) = crossbeam_channel::bounded(1);
        if !self.shared.is_in_fork() {
            // An error means that the dispatcher has ended. `complete` is dropped then.
            let _over = self.shared.commands.send(Command::Ready(complete));
            self.shared.waker.wake();
        }
        Ready::new(self.shared.clone(), is_ready)
    }

    /// Sets the largest number of workers. A worker that is too many runs its tasks to their end first.
    ///
    /// # Panics
    /// If the number is 0.
    pub fn resize(&self, processes: usize) {
        assert!(processes > 0, "a pool needs at least one process");
        if self.shared.is_in_fork() {
            return;
        }
        // An error means that the dispatcher has ended, and so have all workers.
        let _over = self.shared.commands.send(Command::Resize(processes));
        self.shared.waker.wake();
    }

    /// Takes no more tasks: `Pool.close`. The tasks that were submitted run to their end, and then the
    /// workers end. It does not wait; [`Closing`] does, in async code and in any other.
    pub fn close(&self) -> Closing {
        self.end(Command::Close)
    }

    fn end(&self, command: Command) -> Closing {
        self.shared.close(command);
        Closing::new(self.shared.clone())
    }

    /// [`Pool::close`], and with `cancel_futures` the tasks that no worker has begun end with
    /// [`TaskError::Cancelled`]: `concurrent.futures.Executor.shutdown`. It does not wait.
    pub fn shutdown(&self, cancel_futures: bool) -> Closing {
        self.end(if cancel_futures { Command::CloseQueued } else { Command::Close })
    }

    /// Ends the workers at once: `Pool.terminate`. The tasks that are not done end with
    /// [`TaskError::Cancelled`].
    pub fn terminate(&self) -> Closing {
        self.end(Command::Terminate)
    }

    /// Waits until every worker has ended: `Pool.join`.
    ///
    /// # Errors
    /// [`StillRunning`] if the pool was neither closed nor terminated.
    pub fn join(&self) -> Result<(), StillRunning> {
        self.wait_over(None).map(|_| ())
    }

    /// [`Pool::join`] for at most that long. Whether every worker has ended.
    ///
    /// # Errors
    /// [`StillRunning`] if the pool was neither closed nor terminated.
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool, StillRunning> {
        self.wait_over(Instant::now().checked_add(timeout))
    }

    fn wait_over(&self, deadline: Option<Instant>) -> Result<bool, StillRunning> {
        if !self.shared.closed.load(Ordering::Acquire) || self.shared.is_in_fork() {
            return Err(StillRunning);
        }
        Ok(self.shared.join(deadline))
    }

    /// Calls `f` with the pool, then closes it and waits for all tasks. (Python's `with` terminates, and so
    /// does dropping a pool.)
    pub fn scope<T>(self, f: impl FnOnce(&Pool) -> T) -> T {
        let value = f(&self);
        self.close();
        self.join().expect("the pool was closed just now");
        value
    }

    /// The workers of this moment. There are none before the first task.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        if self.shared.is_in_fork() {
            return Vec::new();
        }
        let directory = self.shared.directory.lock().unwrap_or_else(PoisonError::into_inner);
        directory.values().copied().collect()
    }

    /// Where the time of the workers has gone so far. A running batch counts once it is done.
    pub fn stats(&self) -> Stats {
        if self.shared.is_in_fork() {
            return Ledger::default().stats();
        }
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).stats()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers()).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.shared.is_in_fork() {
            return;
        }
        self.terminate();
        // It takes milliseconds, since the workers are killed.
        let _closed_above = self.join();
    }
}
