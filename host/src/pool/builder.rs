//! Building a pool: everything that can be wrong is found here, before any process starts.

use std::collections::HashMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::callbacks::Callbacks;
use super::dispatcher::{self, Command, Dispatcher, Spec};
use super::events::{PoolEvent, Sink};
use super::job::Window;
use super::policy::{Backoff, Halt, HaltOn};
use super::schedule::Config;
use super::stats::Ledger;
use super::waker::Waker;
use super::{Pool, Shared};
use crate::context::{StartError, StartMethod};
use crate::error::{BuildError, TaskError};
use crate::module::Module;
use crate::policy::Policy;
use crate::protocol::VERSION;
use crate::protocol::message::Setup;
use crate::spec::{Isolation, Limit, Limits, ModuleInfo, ProfilingStrategy, Sandbox};
use crate::target::{INIT, check_module, initializer, own_initializer};
use crate::value::Value;

/// Configures a [`Pool`]; made by [`Pool::builder`].
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// use std::time::Duration;
/// use wpool::pool::Backoff;
/// use wpool::{Limits, Pool};
///
/// let mut limits = Limits::default();
/// limits.memory = 64 << 20;
/// let pool = Pool::builder(&module)
///     .processes(2)
///     .name("Upper")
///     .limits(limits)
///     .task_timeout(Duration::from_secs(2))
///     .retries(3)
///     .retry_delay(Duration::from_millis(10))
///     .backoff(Backoff::Exponential { max: Duration::from_secs(1) })
///     .idle_timeout(Duration::from_secs(60))
///     .build()?;
/// let upper = pool.func::<&str, String>("run")?;
/// assert_eq!(pool.apply(&upper, "a")?, "A");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder makes no pool until build is called"]
pub struct PoolBuilder {
    module: Module,
    processes: usize,
    initializer: Option<String>,
    initargs: Vec<Value>,
    max_tasks_per_child: Option<NonZeroU64>,
    start_method: StartMethod,
    isolation: Option<Isolation>,
    limits: Limits,
    policy: Policy,
    retries: u32,
    retry_delay: Duration,
    backoff: Backoff,
    retry_on: RetryOn,
    poison_limit: NonZeroU32,
    halt: Option<Halt>,
    max_memory_per_child: Option<u64>,
    idle_timeout: Option<Duration>,
    start_timeout: Duration,
    shutdown_timeout: Duration,
    heartbeat: Duration,
    lazy: bool,
    buffer: Option<NonZeroUsize>,
    buffer_bytes: u64,
    name: String,
    sink: Sink,
    profile: Option<ProfilingStrategy>,
    #[cfg(feature = "fault-points")]
    fault: Option<crate::spec::Fault>,
}

/// Made for one purpose, and useless to print: which failures are worth another attempt.
#[derive(Clone)]
struct RetryOn(dispatcher::RetryOn);

impl fmt::Debug for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a function")
    }
}

/// How many workers a task may take down before it is not tried again (the source is Dask's `allowed-failures`).
const POISON_LIMIT: NonZeroU32 = NonZeroU32::new(3).expect("3 is not 0");
/// How long a worker may take to load its module.
const START_TIME: Duration = Duration::from_secs(60);
/// How long a guest's `shutdown` may take.
const SHUTDOWN_TIME: Duration = Duration::from_secs(5);
/// A worker at work that shows no sign of life for so long is told of.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// More often than this, nobody looks for them.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);

impl PoolBuilder {
    pub(super) fn new(module: &Module) -> PoolBuilder {
        PoolBuilder {
            module: module.clone(),
            processes: crate::sys::cpu_count(),
            initializer: None,
            initargs: Vec::new(),
            max_tasks_per_child: None,
            start_method: StartMethod::default(),
            isolation: None,
            limits: Limits::default(),
            policy: Policy::sealed(),
            retries: 0,
            retry_delay: Duration::ZERO,
            backoff: Backoff::default(),
            retry_on: RetryOn(Arc::new(is_worth_retrying)),
            poison_limit: POISON_LIMIT,
            halt: None,
            max_memory_per_child: None,
            idle_timeout: None,
            start_timeout: START_TIME,
            shutdown_timeout: SHUTDOWN_TIME,
            heartbeat: HEARTBEAT,
            lazy: true,
            buffer: None,
            buffer_bytes: Window::DEFAULT.results,
            name: "PoolWorker".to_owned(),
            sink: Sink::default(),
            profile: None,
            #[cfg(feature = "fault-points")]
            fault: None,
        }
    }

    /// How many workers there are at most: they are started as tasks come. Default: the processors that this process may use.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let pool = Pool::builder(&module).processes(1).build()?;
    /// let run = pool.func::<&str, String>("run")?;
    /// pool.map(&run, ["a", "b", "c"])?;
    /// assert_eq!(pool.workers().len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If it is 0.
    pub fn processes(mut self, processes: usize) -> Self {
        assert!(processes > 0, "a pool needs at least one process");
        self.processes = processes;
        self
    }

    /// An export that each worker calls once before its first task, with these arguments. With an initializer, tasks find the instance that
    /// it was called in ([`Isolation::Reuse`]), unless [`isolation`](Self::isolation) says otherwise; then it is called in every instance.
    ///
    /// A function that takes one `list<string>`, as the SDK's `#[init]` does, gets all arguments in it. A
    /// module that exports `init` of world `wpool:task/stateful-task` has it called without this, in every
    /// instance, and each task has its own: no module chooses for itself to keep state.
    ///
    /// If it fails, the pool is broken, once, with the guest's message.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("counter")?;
    /// let pool = Pool::builder(&module).processes(1).initializer("init", ["100"]).build()?;
    /// let count = pool.func::<&str, String>("run")?;
    /// assert_eq!(pool.map(&count, ["", "", ""])?, ["101", "102", "103"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn initializer<V: Into<Value>>(
        mut self,
        func: impl Into<String>,
        initargs: impl IntoIterator<Item = V>,
    ) -> Self {
        self.initializer = Some(func.into());
        self.initargs(initargs)
    }

    /// Arguments for the initializer; for the module's own `init` if none is named.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("counter")?;
    /// // This names the module's `init`.
    /// let pool = Pool::builder(&module).initargs(["100"]).build()?;
    /// let count = pool.func::<&str, String>("run")?;
    /// assert_eq!(pool.apply(&count, "")?, "101");
    /// # Ok(())
    /// # }
    /// ```
    pub fn initargs<V: Into<Value>>(mut self, initargs: impl IntoIterator<Item = V>) -> Self {
        self.initargs = initargs.into_iter().map(Into::into).collect();
        self
    }

    /// Replaces a worker process after this many tasks. Default: never.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("counter")?;
    /// let two = NonZeroU64::new(2).expect("two is not zero");
    /// let pool = Pool::builder(&module).processes(1).initializer("init", ["100"]).max_tasks_per_child(two).build()?;
    /// let count = pool.func::<&str, String>("run")?;
    /// assert_eq!(pool.map(&count, ["", "", ""])?, ["101", "102", "101"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_tasks_per_child(mut self, tasks: NonZeroU64) -> Self {
        self.max_tasks_per_child = Some(tasks);
        self
    }

    /// How workers are started.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let pool = Pool::builder(&module).start_method(wpool::StartMethod::Spawn).build()?;
    /// let run = pool.func::<&str, String>("run")?;
    /// assert_eq!(pool.apply(&run, "a")?, "A");
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_method(mut self, start_method: StartMethod) -> Self {
        self.start_method = start_method;
        self
    }

    /// Which state a task finds. Default: [`Isolation::Fresh`], or [`Isolation::Reuse`] if
    /// [`initializer`](Self::initializer) or [`initargs`](Self::initargs) asks for one, unless the policy is
    /// deterministic.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("counter")?;
    /// let pool = Pool::builder(&module).processes(1).isolation(wpool::Isolation::Reuse).build()?;
    /// let count = pool.func::<&str, String>("run")?;
    /// assert_eq!(pool.map(&count, ["", "", ""])?, ["1", "2", "3"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// What a task may use.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let mut limits = wpool::Limits::default();
    /// limits.output = 3;
    /// let pool = Pool::builder(&module).limits(limits).build()?;
    /// let run = pool.func::<&str, String>("run")?;
    /// assert_eq!(pool.apply(&run, "abc")?, "ABC");
    /// assert_eq!(pool.apply(&run, "abcd").unwrap_err().kind(), "output");
    /// # Ok(())
    /// # }
    /// ```
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What guests may reach: see [`Policy`]. Default: nothing.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// use wpool::policy::DirAccess;
    /// use wpool::Policy;
    ///
    /// let pool = Pool::builder(&module).policy(Policy::sealed().dir("src", "/src", DirAccess::ReadOnly)).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The time that each attempt at a task may take: [`Limits::time`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("failing")?;
    /// let pool = Pool::builder(&module).task_timeout(Duration::from_millis(100)).build()?;
    /// let run = pool.func::<&str, String>("run")?;
    /// assert_eq!(pool.apply(&run, "loop").unwrap_err().kind(), "time");
    /// # Ok(())
    /// # }
    /// ```
    pub fn task_timeout(mut self, time: Duration) -> Self {
        self.limits.time = Some(time);
        self
    }

    /// How often a failed task is tried again: after an error, a trap, a limit, an `exit` or its worker's death, unless
    /// [`retry_on`](Self::retry_on) says otherwise. Default 0.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("failing")?;
    /// let pool = Pool::builder(&module).retries(2).build()?;
    /// let (mut inputs, mut outcomes) = pool.stream(&"run".into(), true)?;
    /// inputs.push(b"bad")?;
    /// assert_eq!(outcomes.take_one(None, |outcome| outcome.attempt())?, Some(3));
    /// # Ok(())
    /// # }
    /// ```
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The pause before a task is tried again; other tasks go on meanwhile. Default: none.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("failing")?;
    /// let pool = Pool::builder(&module).retries(2).retry_delay(Duration::from_millis(10)).build()?;
    /// let run = pool.func::<&str, String>("run")?;
    /// let start = std::time::Instant::now();
    /// assert!(pool.apply(&run, "bad").is_err());
    /// assert!(start.elapsed() >= Duration::from_millis(20));
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = delay;
        self
    }

    /// How the pauses grow. Default: they do not.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("failing")?;
    /// let grow = wpool::pool::Backoff::Exponential { max: Duration::from_secs(1) };
    /// let pool = Pool::builder(&module).retries(5).retry_delay(Duration::from_millis(100)).backoff(grow).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Which outcomes are worth another attempt. It is asked on the pool's own thread and should be quick. Default: all that may be different the next time, that is all
    /// but [`TaskError::BadRecord`], which is never tried again.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("failing")?;
    /// use wpool::TaskError;
    ///
    /// // Only what was not the task's own fault.
    /// let lost = |error: &TaskError| matches!(error, TaskError::WorkerLost { .. });
    /// let pool = Pool::builder(&module).retries(3).retry_on(lost).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_on(mut self, retry_on: impl Fn(&TaskError) -> bool + Send + Sync + 'static) -> Self {
        self.retry_on = RetryOn(Arc::new(move |error| is_worth_retrying(error) && retry_on(error)));
        self
    }

    /// A task that has taken down so many workers is not tried again, however many retries are left. Default 3.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("failing")?;
    /// // No second chance for a task that takes its worker down.
    /// let pool = Pool::builder(&module).retries(5).poison_limit(NonZeroU32::MIN).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn poison_limit(mut self, workers: NonZeroU32) -> Self {
        self.poison_limit = workers;
        self
    }

    /// When a job stops before its end. Each `map`, `imap` or stream counts for itself. Default: never.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("failing")?;
    /// let pool = Pool::builder(&module).processes(1).halt("now,fail=1".parse()?).build()?;
    /// let run = pool.func::<&str, String>("run")?;
    /// let outcomes = pool.try_map(&run, ["good", "bad", "good"]);
    /// assert!(outcomes[1].is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn halt(mut self, halt: Halt) -> Self {
        self.halt = Some(halt);
        self
    }

    /// After this time without a sign of life of a worker that is at work, [`PoolEvent::WorkerSilent`] says so, once. Default: 10 s; at least
    /// 100 ms.
    ///
    /// A worker shows that it lives whatever its guest does, so that a long task is no silence. It is silent if its process is stopped
    /// (`SIGSTOP`, a debugger), or hangs in the kernel, or gets no processor time. Nothing else is done about that: [`Limits::time`] ends its
    /// task.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use wpool::events::PoolEvent;
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let on_event = |event: &PoolEvent| {
    ///     if let PoolEvent::WorkerSilent { worker, pid, time } = event {
    ///         println!("worker {worker} (process {pid}) has been silent for {time:?}");
    ///     }
    /// };
    /// let pool = Pool::builder(&module).heartbeat(Duration::from_secs(60)).on_event(on_event).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn heartbeat(mut self, time: Duration) -> Self {
        self.heartbeat = time.max(HEARTBEAT_MIN);
        self
    }

    /// Replaces a worker process that uses more than so many bytes of memory of its own, between two batches of tasks. Default: never.
    ///
    /// This is for memory that grows over many tasks. What a single task may use is [`Limits::memory`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let pool = Pool::builder(&module).max_memory_per_child(512 << 20).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_memory_per_child(mut self, bytes: u64) -> Self {
        self.max_memory_per_child = Some(bytes);
        self
    }

    /// Ends workers that have had nothing to do for this long; they are started again as tasks come. Default: never.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let pool = Pool::builder(&module).idle_timeout(Duration::from_millis(10)).build()?;
    /// let run = pool.func::<&str, String>("run")?;
    /// pool.apply(&run, "a")?;
    /// std::thread::sleep(Duration::from_millis(100)); // no worker is needed meanwhile
    /// pool.apply(&run, "b")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// How long a worker may take until it is ready, beside its initializer's time limit; then it is killed. Default 60 s.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let pool = Pool::builder(&module).start_timeout(Duration::from_secs(5)).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// How long a worker that is to end may take for its guest's `shutdown`, beside the time limit of tasks; then it is killed. Default 5 s.
    ///
    /// `shutdown` is called in an instance that a worker keeps ([`Isolation::Reuse`]); those of single tasks are dropped without.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let pool = Pool::builder(&module).shutdown_timeout(Duration::from_secs(1)).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// `false`: all workers are started by [`build`](Self::build), which waits until they are ready, as CPython's `Pool` does. `true`, the default: as tasks come.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let pool = Pool::builder(&module).processes(2).lazy(false).build()?;
    /// assert_eq!(pool.workers().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.lazy = lazy;
        self
    }

    /// A function that is called with each [`PoolEvent`], in their order, on the pool's own thread: it should be quick, and must not wait for
    /// anything of this pool. If it panics, it is not called again.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// use wpool::events::PoolEvent;
    ///
    /// let on_event = |event: &PoolEvent| {
    ///     if let PoolEvent::WorkerExited { pid, exitcode, .. } = event {
    ///         println!("process {pid} has ended: {exitcode:?}");
    ///     }
    /// };
    /// let pool = Pool::builder(&module).on_event(on_event).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_event(mut self, on_event: impl Fn(&PoolEvent) + Send + Sync + 'static) -> Self {
        self.sink = Sink::new(on_event);
        self
    }

    /// Shows where guests spend their time: see [`ProfilingStrategy`], which has an example. Profiles come as [`PoolEvent::WorkerProfiled`], one for each
    /// worker that ends in good order. Default: no profile.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let pool = Pool::builder(&module).profile(wpool::events::ProfilingStrategy::guest()).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn profile(mut self, strategy: ProfilingStrategy) -> Self {
        self.profile = Some(strategy);
        self
    }

    /// How many records are drawn ahead of the results that have been taken. Default: as many as short tasks need, at most 65,536 and
    /// 16 MiB.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let ten = NonZeroUsize::new(10).expect("ten is not zero");
    /// let pool = Pool::builder(&module).buffer(ten).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn buffer(mut self, records: NonZeroUsize) -> Self {
        self.buffer = Some(records);
        self
    }

    /// Bytes of results that may lie in this process until somebody takes them, for each stream, iterator or map of the pool. Default: 64 MiB.
    ///
    /// Over that, nothing more of it is begun but the one task whose result is waited for, and large results stay in their workers'
    /// memory. What is counted is what the pool holds: the values that [`Pool::map`] collects, and the result of
    /// [`Pool::apply_async`], are the caller's.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::Pool;
    /// # let module = guest("upper")?;
    /// let pool = Pool::builder(&module).buffer_bytes(16 << 20).build()?;
    /// let upper = pool.func::<String, String>("run")?;
    /// // However slowly they are taken: no more than 16 MiB of them wait here.
    /// for result in pool.imap(&upper, (0..100).map(|n| "x".repeat(n))) {
    ///     println!("{}", result?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn buffer_bytes(mut self, bytes: u64) -> Self {
        self.buffer_bytes = bytes.max(1);
        self
    }

    /// The workers' names are this, a dash and their number. Default `PoolWorker`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("hello")?;
    /// let pool = Pool::builder(&module).processes(1).name("Greeter").build()?;
    /// let run = pool.func::<&str, String>("run")?;
    /// assert!(pool.apply(&run, "bob:0")?.starts_with("hello bob from Greeter-1 "));
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Has the first worker process die at this place. For the project's own tests.
    #[cfg(feature = "fault-points")]
    #[doc(hidden)]
    pub fn fault(mut self, fault: crate::spec::Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Makes the pool. No process is started before the first task, unless [`lazy`](Self::lazy) says otherwise.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
    /// # use std::time::Duration;
    /// # use wpool::Pool;
    /// # let module = guest("counter")?;
    /// use wpool::BuildError;
    ///
    /// let pool = Pool::builder(&module).initializer("innit", ["100"]).build();
    /// assert!(matches!(pool, Err(BuildError::Target(_)))); // there is no such export
    /// let pool = Pool::builder(&module).initializer("init", ["100"]).build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BuildError`] if the module's imports are not met, the policy names what cannot be granted, the initializer is unknown or its arguments do not fit, or instances of
    /// a deterministic run are to be reused; if the pool is not lazy, also
    /// [`BuildError::Broken`] if its workers cannot run.
    pub fn build(mut self) -> Result<Pool, BuildError> {
        self.limits = self.limits.possible();
        check_module(self.module.info(), &self.limits, &self.policy)?;
        let granted = self.policy.resolve_for(&self.module, self.start_method)?;
        self.module = self.module.compiled(self.policy.codegen(self.limits.codegen()))?;
        let info = self.module.info().clone();
        let asked = self.initializer.as_deref().or_else(|| (!self.initargs.is_empty()).then_some(INIT));
        let initializer = match asked {
            Some(name) => Some(initializer(name, &self.initargs, &info)?),
            None => own_initializer(&info)?,
        };
        if self.start_method == StartMethod::Thread && self.module.launch().program.sandbox == Sandbox::Strict
        {
            return Err(StartError::ThreadUnconfined.into());
        }
        // State between tasks is the choice of who makes the pool, never of the module.
        let isolation = self.isolation.unwrap_or(match asked {
            Some(_) if !granted.grants.deterministic => Isolation::Reuse,
            Some(_) | None => Isolation::Fresh,
        });
        if isolation == Isolation::Reuse && granted.grants.deterministic {
            return Err(BuildError::Policy {
                what: "one instance for many tasks (--reuse, Isolation::Reuse)".to_owned(),
                reason: "in a deterministic run no result depends on what a worker has done before"
                    .to_owned(),
            });
        }
        let setup = Setup {
            version: VERSION,
            info: info.clone(),
            limits: self.limits.clone(),
            grants: granted.grants.clone(),
            isolation,
            initializer,
            identity: None,
            once: false,
            spins: crate::spin::pays(self.processes - 1),
            profile: self.profile,
            #[cfg(feature = "fault-points")]
            fault: self.fault,
        };
        let config = Config {
            processes: self.processes,
            max_tasks_per_child: self.max_tasks_per_child.map(NonZeroU64::get),
            retries: self.retries,
            delay: self.retry_delay,
            backoff: self.backoff,
            poison_limit: self.poison_limit.get(),
            halt: self.halt,
            results_max: self.buffer_bytes,
            grace: self.limits.grace,
            start_time: self.start_timeout,
            retire_time: self.shutdown_timeout,
            idle_time: self.idle_timeout,
            eager: !self.lazy,
            kill_after: self.limits.time.map(|time| time.saturating_add(self.limits.grace)),
        };
        let spec = Spec {
            launch: self.module.launch().clone(),
            limits: self.limits.clone(),
            start_method: match self.start_method {
                // The file bears the number of the process that loads the module.
                StartMethod::Forkserver if self.profile.is_some_and(ProfilingStrategy::writes_file) => {
                    StartMethod::Spawn
                }
                method => method,
            },
            setup,
            granted,
            tells_apart: self.halt.is_some_and(|halt| !matches!(halt.on, HaltOn::Done(_))),
            retry_on: (self.retries > 0).then_some(self.retry_on.0),
            name: self.name,
            memory_max: self.max_memory_per_child,
            sink: self.sink,
            heartbeat: self.heartbeat,
            awaited: None,
        };
        let records = self.buffer.map_or(Window::DEFAULT.records, |records| records.get() as u64);
        let window = Window { records, results: self.buffer_bytes, ..Window::DEFAULT };
        start(spec, config, info, self.limits, window)
    }
}

/// Starts the dispatcher's thread.
fn start(
    mut spec: Spec,
    config: Config,
    info: ModuleInfo,
    limits: Limits,
    window: Window,
) -> Result<Pool, BuildError> {
    let (commands, inbox) = crossbeam_channel::unbounded();
    let complete = config.eager.then(|| {
        let (complete, is_complete) = crossbeam_channel::bounded(1);
        spec.awaited = Some((config.processes, complete));
        is_complete
    });
    let waker = Waker::new()?;
    let directory = Arc::new(Mutex::new(Vec::new()));
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let dispatcher =
        Dispatcher::new(spec, config, waker.clone(), inbox.clone(), directory.clone(), ledger.clone())?;
    let shared = Arc::new(Shared {
        info,
        limits,
        window,
        commands,
        waker,
        next_job: AtomicU64::new(1),
        next_plan: AtomicU32::new(1),
        plans: Mutex::new(HashMap::new()),
        directory,
        ledger,
        closed: AtomicBool::new(false),
        callbacks: Callbacks::default(),
        dispatcher: OnceLock::new(),
        broken: OnceLock::new(),
        over: Mutex::new(false),
        is_over: Condvar::new(),
        home: crate::sys::home(),
    });
    let end = End { shared: shared.clone(), inbox };
    std::thread::Builder::new().name("wpool-dispatcher".to_owned()).spawn(move || {
        // Told at the end, also if the dispatcher panics.
        let end = end;
        end.shared.dispatcher.get_or_init(|| std::thread::current().id());
        if let Some(reason) = dispatcher.run() {
            end.shared.broken.get_or_init(|| reason);
        }
    })?;
    let pool = Pool { shared };
    if let Some(complete) = complete
        && complete.recv().is_err()
    {
        // The dispatcher is through, or about to be: it says why.
        pool.shared.wait_over(None);
        let reason = pool.shared.broken.get().cloned().unwrap_or_else(|| "its thread ended".to_owned());
        return Err(BuildError::Broken { reason });
    }
    Ok(pool)
}

/// The end of the dispatcher's thread, told to whoever joins the pool.
struct End {
    shared: Arc<Shared>,
    inbox: Receiver<Command>,
}

impl Drop for End {
    fn drop(&mut self) {
        let mut over = self.shared.over.lock().unwrap_or_else(PoisonError::into_inner);
        *over = true;
        self.shared.closed.store(true, Ordering::Release);
        // Jobs that came too late for the dispatcher end here.
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Job { job, .. } = command {
                job.finish(&self.shared.refusal());
            }
        }
        drop(over);
        self.shared.is_over.notify_all();
    }
}

/// A record that is too long or of the wrong type stays so; anything else may be different the next time.
fn is_worth_retrying(error: &TaskError) -> bool {
    match error {
        TaskError::Limit { limit: Limit::Input, .. } => false,
        TaskError::Failed { .. }
        | TaskError::Trap { .. }
        | TaskError::Limit { .. }
        | TaskError::Exited { .. }
        | TaskError::BadResult { .. }
        | TaskError::WorkerLost { .. } => true,
        TaskError::BadRecord { .. } | TaskError::Cancelled | TaskError::Closed | TaskError::Broken { .. } => {
            false
        }
    }
}
