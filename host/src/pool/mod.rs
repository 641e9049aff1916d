//! Run many tasks in a pool of workers.
//!
//! [`Pool::builder`] makes a pool for a module, [`Pool::func`] looks up one of its functions, and [`Pool::map`],
//! [`Pool::imap`], [`Pool::apply_async`] and their like run it. [`PoolBuilder`] has the settings, among them retries
//! ([`Backoff`]) and the failures that end a job early ([`Halt`]). [`Pool::stream`] is the interface below all of these, for
//! records as bytes: [`Inputs`] takes them, and [`Outcomes`] gives each [`Outcome`].
//!
//! The way of a record through the pool:
//!
//! ```text
//!   map, imap, apply ... ──records──▶ Job ──▶ Dispatcher (one thread) ──batches──▶ socket ══▶ worker: serve loop ──▶ guest
//!        (any thread)    ◀─outcomes── Job ◀──      │        ▲          ◀──results── socket ◀══
//!                                                events   actions
//!                                                  ▼        │
//!                                                  Schedule (pure: what to do next)
//! ```

mod async_result;
mod builder;
mod callbacks;
mod condition;
mod dispatcher;
pub(crate) mod events;
mod func;
mod imap;
mod job;
mod policy;
mod schedule;
pub(crate) mod stats;
mod stream;
mod waker;
pub(crate) mod worker;

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

pub use self::async_result::AsyncResult;
pub use self::builder::PoolBuilder;
use self::callbacks::Callbacks;
use self::dispatcher::Command;
pub use self::func::Func;
pub use self::imap::{Imap, ImapUnordered};
use self::job::{Job, Panic, Window};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::job::{Said, parse_outcome};
pub use self::policy::{Backoff, Halt, HaltError, HaltOn, HaltWhen};
use self::stats::Ledger;
pub(crate) use self::stats::Stats;
pub use self::stream::{Inputs, Outcome, Outcomes};
use self::waker::Waker;
pub(crate) use self::worker::WorkerInfo;
use crate::context::IN_FORK;
use crate::error::{BuildError, Closed, MapError, StillRunning, TaskError};
use crate::module::Module;
use crate::spec::{Call, Limits, ModuleInfo};
use crate::target::{Format, Target, resolve};
use crate::value::{Args, Ret};

/// A pool of worker processes that run the functions of one module: Python's `multiprocessing.Pool`.
///
/// It can be used from many threads at once. Dropping it terminates it, as leaving Python's `with` block does; [`Pool::scope`] waits
/// for everything to be done instead.
///
/// ```standalone_crate
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// wpool::init();
/// # std::env::set_current_dir("../guest/prebuilt")?;
/// let module = wpool::Module::load("upper.wasm")?;
/// let pool = wpool::Pool::builder(&module).processes(5).build()?;
/// let upper = pool.func::<&str, String>("run")?;
/// assert_eq!(pool.map(&upper, ["a", "b"])?, ["A", "B"]);
/// # Ok(())
/// # }
/// ```
pub struct Pool {
    shared: Arc<Shared>,
}

/// What the pool's handle, its jobs and the dispatcher's thread share.
struct Shared {
    info: ModuleInfo,
    limits: Limits,
    window: Window,
    commands: Sender<Command>,
    waker: Waker,
    next_job: AtomicU64,
    next_plan: AtomicU32,
    /// The plans that workers have been or will be told of, so that equal calls share one.
    plans: Mutex<HashMap<CallKey, u32>>,
    directory: Arc<Mutex<Vec<WorkerInfo>>>,
    ledger: Arc<Mutex<Ledger>>,
    closed: AtomicBool,
    /// Why the pool broke, if it did.
    broken: OnceLock<String>,
    callbacks: Callbacks,
    /// The thread that the pool's own work is done on.
    dispatcher: OnceLock<ThreadId>,
    over: Mutex<bool>,
    is_over: Condvar,
    /// The process that the pool and its threads are in. A fork of that has only a copy of the handle.
    home: u32,
}

/// A call in a form that can be looked up.
type CallKey = String;

impl Pool {
    /// A builder for a pool that runs functions of `module`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let module = guest("upper")?;
    /// let pool = wpool::Pool::builder(&module).processes(2).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(module: &Module) -> PoolBuilder {
        PoolBuilder::new(module)
    }

    /// Finds a function and checks that it takes `A` and gives `R`.
    ///
    /// `A` is a value for a function of one parameter, a tuple for several; parameters that the target fixes do not count. `R` is what the function
    /// gives when it succeeds: for `result<T, E>` that is `T`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let numbers = numbers()?;
    /// use wpool::{Pool, Target};
    ///
    /// let pool = Pool::builder(&numbers).build()?;
    /// let add = pool.func::<(i32, i32), i32>("add")?;
    /// assert_eq!(pool.apply(&add, (3, 4))?, 7);
    /// let add_ten = pool.func::<i32, i32>(Target::func("add").arg(10))?;
    /// assert_eq!(pool.apply(&add_ten, 4)?, 14);
    /// assert!(pool.func::<String, i32>("add").is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BuildError`] if there is no such function, a fixed argument does not fit, or the Rust types do not match.
    pub fn func<A: Args, R: Ret>(&self, target: impl Into<Target>) -> Result<Func<A, R>, BuildError> {
        // Typed calls choose their own form.
        let target = target.into().input(Format::Auto).output(Format::Auto);
        let resolved = resolve(&target, &self.shared.info)?;
        let (func, wit) = (resolved.call.path.clone(), resolved.ty.to_string());
        if !A::fits(&resolved.free()) {
            return Err(BuildError::Type { func, wit, rust: std::any::type_name::<A>() });
        }
        if !R::fits(resolved.ty.ok_type()) {
            return Err(BuildError::ResultType { func, wit, rust: std::any::type_name::<R>() });
        }
        self.shared.check_home()?;
        let (plan, call) = self.plan(&resolved.call);
        Ok(Func::new(resolved, plan, call))
    }

    /// The number under which workers know the call.
    fn plan(&self, call: &Call) -> (u32, Option<Call>) {
        let key = serde_json::to_string(call).expect("a call has a JSON form");
        let mut plans = self.shared.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = *plans.entry(key).or_insert_with(|| self.shared.next_plan.fetch_add(1, Ordering::Relaxed));
        (plan, Some(call.clone()))
    }

    fn job(&self, plan: u32, call: Option<Call>, window: Window) -> Result<Arc<Job>, Closed> {
        if self.shared.is_in_fork() {
            return Err(Closed);
        }
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Closed);
        }
        let id = self.shared.next_job.fetch_add(1, Ordering::Relaxed);
        let job = Arc::new(Job::new(id, plan, window, self.shared.waker.clone()));
        self.shared.commands.send(Command::Job { job: job.clone(), call }).map_err(|_| Closed)?;
        // A pool that is over has no dispatcher to end the job. Looking behind the message means that one of the two sees the other.
        if *self.shared.over.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(Closed);
        }
        self.shared.waker.wake();
        Ok(job)
    }

    /// Starts a stream of records: push them into [`Inputs`], take what becomes of them from [`Outcomes`], from the same thread or two.
    /// The other methods are made of this one.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// let (mut inputs, mut outcomes) = pool.stream(&"run".into(), true)?;
    /// inputs.push(b"a")?;
    /// inputs.push(b"b")?;
    /// drop(inputs); // the end of the input
    /// let mut results = Vec::new();
    /// while outcomes.take_into(&mut |outcome| results.push(outcome.result().map(<[u8]>::to_vec))) {}
    /// assert_eq!(results, [Ok(b"A".to_vec()), Ok(b"B".to_vec())]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BuildError`] as for [`Pool::func`], and if the pool is not running.
    pub fn stream(&self, target: &Target, ordered: bool) -> Result<(Inputs, Outcomes), BuildError> {
        let resolved = resolve(target, &self.shared.info)?;
        self.shared.check_home()?;
        let (plan, call) = self.plan(&resolved.call);
        let job = self.job(plan, call, self.shared.window)?;
        Ok((Inputs::new(job.clone(), self.shared.limits.input), Outcomes::new(job, ordered)))
    }

    /// Runs the function once and waits for its result: `Pool.apply`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// # let upper = pool.func::<&str, String>("run")?;
    /// assert_eq!(pool.apply(&upper, "a")?, "A");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What became of the task, if not a result; [`TaskError::Closed`] if the pool is not running.
    pub fn apply<A: Args, R: Ret + Send + 'static>(
        &self,
        func: &Func<A, R>,
        args: A,
    ) -> Result<R, TaskError> {
        self.apply_async(func, args).get()
    }

    /// Runs the function once, without waiting: `Pool.apply_async`. Its result can be waited for, cancelled, or passed to callbacks.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// # let upper = pool.func::<&str, String>("run")?;
    /// let later = pool.apply_async(&upper, "a");
    /// // Something else meanwhile.
    /// assert_eq!(later.get()?, "A");
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply_async<A: Args, R: Ret + Send + 'static>(
        &self,
        func: &Func<A, R>,
        args: A,
    ) -> AsyncResult<R> {
        let callbacks = self.shared.callbacks.clone();
        let job = match self.job(func.plan, func.call.clone(), self.shared.window) {
            Ok(job) => job,
            Err(Closed) => {
                let refusal = self.shared.refusal();
                let job = Job::refused(self.shared.waker.clone(), &refusal);
                return AsyncResult::done(Err(refusal), job, callbacks, in_fork);
            }
        };
        let mut inputs = Inputs::new(job.clone(), self.shared.limits.input);
        let mut record = Vec::new();
        let encoded = args.encode(&func.resolved.free(), &mut record);
        if inputs.push_item(encoded.map(|()| &record[..])).is_err() {
            // The pool ended at this very moment.
            return AsyncResult::done(Err(self.shared.refusal()), job, callbacks, in_fork);
        }
        drop(inputs);
        let mut outcomes = Outcomes::new(job.clone(), false).detached();
        let decode = func.decode();
        AsyncResult::lazy(job, callbacks, in_fork, move || {
            let result = outcomes.take_one(Some(Instant::now()), |outcome| decode.decode(outcome.result()));
            // It is asked for when it is there, or will never be.
            result.ok().flatten().unwrap_or_else(|| Err(outcomes.cut_short().unwrap_or(TaskError::Cancelled)))
        })
    }

    /// Runs the function for every item and gives the results in the items' order: `Pool.map`.
    ///
    /// The items are drawn as the work proceeds, never all at once; the results are collected.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// # let upper = pool.func::<&str, String>("run")?;
    /// assert_eq!(pool.map(&upper, ["a", "b", "c"])?, ["A", "B", "C"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The first failure, once every task has been run to its end.
    pub fn map<A: Args, R: Ret>(
        &self,
        func: &Func<A, R>,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, MapError> {
        all_or_first(self.try_map(func, items))
    }

    /// Runs the function for every item and gives each task's own outcome, in the items' order.
    ///
    /// Should the pool end or the job be halted before all items are drawn, no more are drawn, and each of them has the error that says so as its outcome.
    /// Of an iterator that does not know its length one error stands for all of them.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("failing")?;
    /// # let run = pool.func::<&str, String>("run")?;
    /// let outcomes = pool.try_map(&run, ["good", "bad", "good"]);
    /// assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
    /// assert_eq!(outcomes[1], Err(wpool::TaskError::Failed { message: "bad is bad".to_owned() }));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_map<A: Args, R: Ret>(
        &self,
        func: &Func<A, R>,
        items: impl IntoIterator<Item = A>,
    ) -> Vec<Result<R, TaskError>> {
        let mut items = items.into_iter();
        match self.job(func.plan, func.call.clone(), self.shared.window) {
            Ok(job) => collect(&self.shared, job, func, items),
            Err(Closed) => not_drawn(&mut items, &self.shared.refusal()),
        }
    }

    /// As [`Pool::map`], without waiting: `Pool.map_async`. The items are drawn, and the results collected, by a thread of its own.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// # let upper = pool.func::<&str, String>("run")?;
    /// let later = pool.map_async(&upper, ["a", "b", "c"]);
    /// assert_eq!(later.get()?, ["A", "B", "C"]);
    /// # Ok(())
    /// # }
    /// ```
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
        let (result, bringer) = AsyncResult::coming(job.clone(), callbacks, map_in_fork);
        // Another thread than the one that draws, which may have to wait for its iterator for ever.
        let mut results = Imap::new(outcomes, func.decode());
        let work = move || {
            let collected = catch_unwind(AssertUnwindSafe(|| {
                let mut outcomes: Vec<_> = results.by_ref().collect();
                // A cancelled job just ends.
                outcomes.extend(job.is_cancelled().then_some(Err(TaskError::Cancelled)));
                all_or_first(outcomes)
            }));
            match collected {
                Ok(collected) => bringer.bring(collected),
                Err(payload) => bringer.panicked(Panic(payload)),
            }
        };
        if std::thread::Builder::new().name("wpool-map".to_owned()).spawn(work).is_err() {
            // The iterator of results went with the thread that there is none of, and that cancelled the job.
            let error = MapError { index: 0, error: TaskError::Cancelled, failed: 0 };
            let job = Job::refused(self.shared.waker.clone(), &TaskError::Cancelled);
            return AsyncResult::done(Err(error), job, self.shared.callbacks.clone(), map_in_fork);
        }
        result
    }

    /// As [`Pool::map_async`], for functions of several parameters: each item is a tuple, `Pool.starmap_async`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = wpool::Pool::builder(&numbers()?).processes(2).build()?;
    /// # let add = pool.func::<(i32, i32), i32>("add")?;
    /// let later = pool.starmap_async(&add, [(1, 2), (3, 4)]);
    /// assert_eq!(later.get()?, [3, 7]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn starmap_async<A, R, I>(&self, func: &Func<A, R>, items: I) -> AsyncResult<Vec<R>, MapError>
    where
        A: Args + 'static,
        R: Ret + Send + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        self.map_async(func, items)
    }

    /// As [`Pool::map`], for functions of several parameters: each item is a tuple, `Pool.starmap`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = wpool::Pool::builder(&numbers()?).processes(2).build()?;
    /// # let add = pool.func::<(i32, i32), i32>("add")?;
    /// assert_eq!(pool.starmap(&add, [(1, 2), (3, 4)])?, [3, 7]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Pool::map`].
    pub fn starmap<A: Args, R: Ret>(
        &self,
        func: &Func<A, R>,
        items: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, MapError> {
        self.map(func, items)
    }

    /// Runs the function for every item; the iterator gives each outcome in the items' order, as soon as it is there: `Pool.imap`.
    ///
    /// The items are drawn by a thread of its own, ahead of the results by no more than the pool's buffer. Dropping the iterator cancels what
    /// is not running yet.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// # let upper = pool.func::<String, String>("run")?;
    /// // Of an endless input no more is drawn than is needed.
    /// let mut results = pool.imap(&upper, (0..).map(|n| format!("no {n}")));
    /// assert_eq!(results.next(), Some(Ok("NO 0".to_owned())));
    /// assert_eq!(results.next(), Some(Ok("NO 1".to_owned())));
    /// # Ok(())
    /// # }
    /// ```
    pub fn imap<A, R, I>(&self, func: &Func<A, R>, items: I) -> Imap<R>
    where
        A: Args,
        R: Ret,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        Imap::new(self.feed(func, items, true), func.decode())
    }

    /// As [`Pool::imap`], but gives each outcome when it is there, with the position of its item: `Pool.imap_unordered`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// # let upper = pool.func::<&str, String>("run")?;
    /// let items = ["a", "b", "c"];
    /// for (index, result) in pool.imap_unordered(&upper, items) {
    ///     println!("{} gives {}", items[usize::try_from(index)?], result?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn imap_unordered<A, R, I>(&self, func: &Func<A, R>, items: I) -> ImapUnordered<R>
    where
        A: Args,
        R: Ret,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        ImapUnordered::new(self.feed(func, items, false), func.decode())
    }

    fn feed<A, R, I>(&self, func: &Func<A, R>, items: I, ordered: bool) -> Outcomes
    where
        A: Args,
        R: Ret,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let Ok(job) = self.job(func.plan, func.call.clone(), self.shared.window) else {
            return Outcomes::refused(self.shared.waker.clone(), &self.shared.refusal());
        };
        let mut inputs = Inputs::new(job.clone(), self.shared.limits.input);
        let resolved = func.resolved.clone();
        let mut items = items.into_iter();
        let feeder = move || {
            let free = resolved.free();
            let mut record = Vec::new();
            let fed = catch_unwind(AssertUnwindSafe(|| {
                // Room first: no item is drawn before its turn.
                while inputs.wait_room().is_ok() {
                    let Some(args) = items.next() else { break };
                    record.clear();
                    let encoded = args.encode(&free, &mut record);
                    if inputs.push_item(encoded.map(|()| &record[..])).is_err() {
                        break;
                    }
                }
            }));
            if let Err(payload) = fed {
                inputs.panicked(payload);
            }
        };
        // Before any of them can come.
        let outcomes = Outcomes::new(job, ordered);
        // Detached: an iterator that blocks for ever holds its own thread only. It ends with the job.
        match std::thread::Builder::new().name("wpool-feeder".to_owned()).spawn(feeder) {
            Ok(_detached) => outcomes,
            // Dropped, the outcomes cancel the job.
            Err(_) => Outcomes::refused(self.shared.waker.clone(), &TaskError::Cancelled),
        }
    }

    /// Sets how many workers there are at most, from now on. What is running ends before its worker leaves.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// # let upper = pool.func::<&str, String>("run")?;
    /// pool.resize(wpool::process::cpu_count() + 1);
    /// assert_eq!(pool.apply(&upper, "a")?, "A");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If it is 0.
    pub fn resize(&self, processes: usize) {
        assert!(processes > 0, "a pool needs at least one process");
        if self.shared.is_in_fork() {
            return;
        }
        // A dispatcher that is gone has no workers left.
        let _over = self.shared.commands.send(Command::Resize(processes));
        self.shared.waker.wake();
    }

    /// Takes no more tasks; those that were submitted are run to their end, then the workers end: `Pool.close`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// # let upper = pool.func::<&str, String>("run")?;
    /// let later = pool.apply_async(&upper, "a");
    /// pool.close();
    /// pool.join()?;
    /// assert_eq!(later.get()?, "A");
    /// assert_eq!(pool.apply(&upper, "b"), Err(wpool::TaskError::Closed));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.shared.close(Command::Close);
    }

    /// As [`Pool::close`]; with `cancel_futures` what no worker has begun is given up, with the outcome [`TaskError::Cancelled`]:
    /// `concurrent.futures.Executor.shutdown`. It does not wait.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("failing")?;
    /// # let run = pool.func::<&str, String>("run")?;
    /// let tasks = ["a", "b", "c"].map(|record| pool.apply_async(&run, record));
    /// pool.shutdown(true);
    /// pool.join()?;
    /// assert!(tasks.iter().all(|task| task.ready())); // done, or cancelled
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown(&self, cancel_futures: bool) {
        self.shared.close(if cancel_futures { Command::CloseQueued } else { Command::Close });
    }

    /// Ends the workers at once; tasks that are not done have the outcome [`TaskError::Cancelled`]: `Pool.terminate`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("failing")?;
    /// # let run = pool.func::<&str, String>("run")?;
    /// let endless = pool.apply_async(&run, "loop");
    /// pool.terminate();
    /// assert_eq!(endless.get(), Err(wpool::TaskError::Cancelled));
    /// # Ok(())
    /// # }
    /// ```
    pub fn terminate(&self) {
        self.shared.close(Command::Terminate);
    }

    /// Waits until every worker has ended: `Pool.join`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// assert_eq!(pool.join(), Err(wpool::StillRunning));
    /// pool.close();
    /// pool.join()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StillRunning`] if the pool was neither closed nor terminated.
    pub fn join(&self) -> Result<(), StillRunning> {
        self.wait_over(None).map(|_| ())
    }

    /// As [`Pool::join`], for at most that long; whether every worker has ended.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # let pool = pool("failing")?;
    /// # let run = pool.func::<&str, String>("run")?;
    /// let endless = pool.apply_async(&run, "loop");
    /// pool.close();
    /// if !pool.join_timeout(Duration::from_millis(20))? {
    ///     pool.terminate();
    /// }
    /// assert!(endless.get().is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StillRunning`] as for [`Pool::join`].
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool, StillRunning> {
        self.wait_over(Instant::now().checked_add(timeout))
    }

    fn wait_over(&self, deadline: Option<Instant>) -> Result<bool, StillRunning> {
        if !self.shared.closed.load(Ordering::Acquire) || self.shared.is_in_fork() {
            return Err(StillRunning);
        }
        // Whoever is called by the dispatcher itself would wait for ever, for its end and for callbacks.
        if self.shared.dispatcher.get() == Some(&std::thread::current().id()) {
            return Ok(true);
        }
        Ok(self.shared.wait_over(deadline) && self.shared.callbacks.wait(deadline))
    }

    /// Calls `f` with the pool, then closes it and waits for everything to be done. (Python's `with` terminates; so does dropping a pool.)
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// # let upper = pool.func::<&str, String>("run")?;
    /// let later = pool.scope(|pool| pool.map_async(&upper, ["a", "b"]));
    /// assert!(later.ready());
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope<T>(self, f: impl FnOnce(&Pool) -> T) -> T {
        let value = f(&self);
        self.close();
        self.join().expect("the pool was closed just now");
        value
    }

    /// The workers as they are at the moment.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// # let upper = pool.func::<&str, String>("run")?;
    /// assert!(pool.workers().is_empty()); // they are started as tasks come
    /// pool.apply(&upper, "a")?;
    /// assert!(!pool.workers().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn workers(&self) -> Vec<WorkerInfo> {
        if self.shared.is_in_fork() {
            return Vec::new();
        }
        self.shared.directory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the time of its workers has gone so far. A batch that is under way counts when it is done; when the pool is joined, everything does.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pool = pool("upper")?;
    /// # let upper = pool.func::<&str, String>("run")?;
    /// pool.map(&upper, ["a", "b", "c"])?;
    /// let stats = pool.stats();
    /// if stats.instances > stats.calls {
    ///     eprintln!("most of the time went into fresh instances: Isolation::Reuse would save it");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        if self.shared.is_in_fork() {
            return Ledger::default().stats();
        }
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).stats()
    }
}

/// So many items that were not drawn are given an outcome each.
const NOT_DRAWN_MAX: usize = 1 << 20;

/// Runs all items through a job: this thread pushes records and, when the window is full, makes room.
fn collect<A: Args, R: Ret>(
    shared: &Shared,
    job: Arc<Job>,
    func: &Func<A, R>,
    mut items: impl Iterator<Item = A>,
) -> Vec<Result<R, TaskError>> {
    let mut inputs = Inputs::new(job.clone(), shared.limits.input);
    let mut outcomes = Outcomes::new(job, true);
    let decode = func.decode();
    let free = func.resolved.free();
    let mut results = Vec::new();
    let mut record = Vec::new();
    let take = |outcomes: &mut Outcomes, results: &mut Vec<_>| {
        outcomes.take_into(&mut |outcome| results.push(decode.decode(outcome.result())))
    };
    let mut is_over = false;
    let mut refused = 0;
    while !is_over {
        match inputs.room() {
            Ok(true) => {
                let Some(args) = items.next() else { break };
                record.clear();
                let encoded = args.encode(&free, &mut record);
                // It may be over just now: the item was drawn, and has its outcome below.
                refused += usize::from(inputs.push_item(encoded.map(|()| &record[..])).is_err());
            }
            Ok(false) => is_over = !take(&mut outcomes, &mut results),
            Err(Closed) => is_over = true,
        }
    }
    drop(inputs);
    while take(&mut outcomes, &mut results) {}
    let why = || {
        shared
            .broken
            .get()
            .map_or(TaskError::Cancelled, |reason| TaskError::Broken { reason: reason.clone() })
    };
    results.extend((0..refused).map(|_| Err(why())));
    if is_over {
        results.extend(not_drawn(&mut items, &why()));
    }
    results
}

/// The outcomes of items that were never drawn, because nobody would have run them: one for each if their number is known and not out of
/// all proportion, else one for all of them.
fn not_drawn<R>(items: &mut impl Iterator, why: &TaskError) -> Vec<Result<R, TaskError>> {
    let count = match items.size_hint() {
        (least, Some(most)) if least == most && most <= NOT_DRAWN_MAX => most,
        _ => usize::from(items.next().is_some()),
    };
    (0..count).map(|_| Err(why.clone())).collect()
}

/// All results, or the first failure: one that explains, if there is any, rather than what was cancelled for its sake.
fn all_or_first<R>(outcomes: Vec<Result<R, TaskError>>) -> Result<Vec<R>, MapError> {
    let mut results = Vec::with_capacity(outcomes.len());
    let (mut first, mut failed): (Option<(usize, TaskError)>, usize) = (None, 0);
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(result) => results.push(result),
            Err(error) => {
                failed += 1;
                match &first {
                    Some((_, TaskError::Cancelled)) if error != TaskError::Cancelled => {
                        first = Some((index, error))
                    }
                    Some(_) => {}
                    None => first = Some((index, error)),
                }
            }
        }
    }
    match first {
        None => Ok(results),
        Some((index, error)) => Err(MapError { index, error, failed }),
    }
}

/// What a result says that is asked for in a forked child.
fn in_fork() -> TaskError {
    TaskError::Broken { reason: IN_FORK.to_owned() }
}

fn map_in_fork() -> MapError {
    MapError { index: 0, error: in_fork(), failed: 0 }
}

impl Shared {
    fn is_in_fork(&self) -> bool {
        self.home != crate::sys::home()
    }

    /// An error in a forked child of the program that has the pool.
    fn check_home(&self) -> Result<(), BuildError> {
        match self.is_in_fork() {
            true => Err(BuildError::Broken { reason: IN_FORK.to_owned() }),
            false => Ok(()),
        }
    }

    fn close(&self, command: Command) {
        if self.is_in_fork() {
            return;
        }
        self.closed.store(true, Ordering::Release);
        // A dispatcher that is gone has closed already.
        let _over = self.commands.send(command);
        self.waker.wake();
    }

    /// Waits until the dispatcher's thread is through; whether it is.
    fn wait_over(&self, deadline: Option<Instant>) -> bool {
        let mut over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        while !*over {
            over = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                None => self.is_over.wait(over).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return false,
                Some(left) => self.is_over.wait_timeout(over, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        true
    }

    /// What a task is told that comes when the pool takes no more.
    fn refusal(&self) -> TaskError {
        if self.is_in_fork() {
            return TaskError::Broken { reason: IN_FORK.to_owned() };
        }
        match self.broken.get() {
            Some(reason) => TaskError::Broken { reason: reason.clone() },
            None => TaskError::Closed,
        }
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
        // Workers are killed, so that this is a matter of milliseconds.
        let _closed_above = self.join();
    }
}
