//! The settings of a pool, and the checks before any process starts.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::Pool;
use super::callbacks::Callbacks;
use super::dispatcher::{self, Command, Dispatcher, Driver, Spec};
use super::events::{PoolEvent, Sink};
use super::handlers::Handlers;
use super::job::Window;
use super::plan::Plans;
use super::policy::{Backoff, Halt, HaltOn};
use super::schedule::Config;
use super::shared::PoolShared;
use super::stats::Ledger;
use super::waker::Waker;
use super::worker::Directory;
use crate::condition::Condition;
use crate::context::{StartError, StartMethod};
use crate::error::{BuildError, TaskError};
use crate::module::Module;
use crate::policy::{Granted, Policy};
use crate::protocol::message::Setup;
use crate::spec::{Isolation, Limit, Limits, ModuleInfo, ProfilingStrategy, Sandbox};
use crate::target::{INIT, check_module, initializer, own_initializer};
use crate::value::Value;

/// Configures a [`Pool`]. [`Pool::builder`] makes it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// use std::time::Duration;
/// use wpool::events::PoolEvent;
/// use wpool::pool::Backoff;
/// use wpool::{BuildError, Limits, Pool, StartMethod};
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
///     .start_method(StartMethod::Spawn)
///     .on_event(|event| {
///         if let PoolEvent::TaskRetried { task, error, .. } = event {
///             eprintln!("task {task} is tried again: {error}");
///         }
///     })
///     .build()?;
/// let upper = pool.func::<&str, String>("run")?;
/// assert_eq!(pool.apply(&upper, "a")?, "A");
///
/// // Mistakes are found before any process starts.
/// let mistaken = Pool::builder(&module).initializer("innit", ["100"]).build();
/// assert!(matches!(mistaken, Err(BuildError::Target(_))));
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
    retry_on: RetryRule,
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

/// Which failures are worth another attempt. The wrapper gives the function a `Debug`.
#[derive(Clone)]
struct RetryRule(dispatcher::RetryOn);

impl fmt::Debug for RetryRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a function")
    }
}

/// A task that has taken down this many workers is not tried again. The number is that of Dask's
/// `allowed-failures`.
const POISON_LIMIT: NonZeroU32 = NonZeroU32::new(3).expect("3 is not 0");
/// How long a worker may take to load its module.
const START_TIME: Duration = Duration::from_secs(60);
/// How long a guest's `shutdown` may take.
const SHUTDOWN_TIME: Duration = Duration::from_secs(5);
/// A busy worker that is silent for this long is reported: `PoolEvent::WorkerSilent`.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The shortest such time: workers are looked at no more often.
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
            retry_on: RetryRule(Arc::new(is_worth_retrying)),
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

    /// The largest number of workers. They are started as tasks come. Default: the number of processors that
    /// this process may use.
    ///
    /// # Panics
    /// If the number is 0.
    pub fn processes(mut self, processes: usize) -> Self {
        assert!(processes > 0, "a pool needs at least one process");
        self.processes = processes;
        self
    }

    /// An export that each worker calls before its first task, with these arguments: CPython's `initializer`.
    ///
    /// With an initializer, tasks run in the instance that it was called in ([`Isolation::Reuse`]). If
    /// [`isolation`](Self::isolation) asks for [`Isolation::Fresh`], it is called in the instance of each
    /// task. A function that takes one `list<string>`, as the SDK's `#[init]` does, gets all arguments in
    /// that list.
    ///
    /// A module that exports `init` of world `wpool:task/stateful-task` has it called also without this
    /// setting, but in the instance of each task: a module cannot choose for itself to keep state.
    ///
    /// If the initializer fails, the pool breaks, with the guest's message.
    pub fn initializer<V: Into<Value>>(
        mut self,
        func: impl Into<String>,
        initargs: impl IntoIterator<Item = V>,
    ) -> Self {
        self.initializer = Some(func.into());
        self.initargs(initargs)
    }

    /// The arguments of the initializer, or of the module's own `init` if no initializer is named: CPython's
    /// `initargs`.
    pub fn initargs<V: Into<Value>>(mut self, initargs: impl IntoIterator<Item = V>) -> Self {
        self.initargs = initargs.into_iter().map(Into::into).collect();
        self
    }

    /// Replaces a worker process after this many tasks: CPython's `maxtasksperchild`. Default: never.
    pub fn max_tasks_per_child(mut self, tasks: NonZeroU64) -> Self {
        self.max_tasks_per_child = Some(tasks);
        self
    }

    /// How workers are started: CPython's `get_context(method).Pool`. Default: [`StartMethod::Forkserver`].
    pub fn start_method(mut self, start_method: StartMethod) -> Self {
        self.start_method = start_method;
        self
    }

    /// Which state a task finds. Default: [`Isolation::Fresh`]. With [`initializer`](Self::initializer) or
    /// [`initargs`](Self::initargs) the default is [`Isolation::Reuse`], unless the policy is deterministic.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// What a task may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What guests may reach. Default: nothing ([`Policy::sealed`]).
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The time that each attempt at a task may take: [`Limits::time`].
    pub fn task_timeout(mut self, time: Duration) -> Self {
        self.limits.time = Some(time);
        self
    }

    /// How often a failed task is tried again: after an error, a trap, a limit, an `exit`, or the death of
    /// its worker. [`retry_on`](Self::retry_on) can exclude some of these. Default: 0.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The pause before a task is tried again. Other tasks run in the meantime. Default: none.
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = delay;
        self
    }

    /// How the pauses grow. Default: [`Backoff::Fixed`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// A function that tells which failures are worth another attempt. It is called on the pool's own thread,
    /// and should be quick. Default: all failures that can be different the next time.
    ///
    /// A record that is too long, or not of the parameter's type ([`TaskError::BadRecord`]), is never tried
    /// again.
    pub fn retry_on(mut self, retry_on: impl Fn(&TaskError) -> bool + Send + Sync + 'static) -> Self {
        self.retry_on = RetryRule(Arc::new(move |error| is_worth_retrying(error) && retry_on(error)));
        self
    }

    /// A task that has taken down this many workers is not tried again, even if it has retries left. Default:
    /// 3.
    pub fn poison_limit(mut self, workers: NonZeroU32) -> Self {
        self.poison_limit = workers;
        self
    }

    /// When a job stops before its end. Each `map`, `imap` or stream is a job with a count of its own.
    /// Default: never.
    pub fn halt(mut self, halt: Halt) -> Self {
        self.halt = Some(halt);
        self
    }

    /// A busy worker that is silent for this long is reported, once: [`PoolEvent::WorkerSilent`]. Default: 10
    /// s. At least 100 ms.
    ///
    /// A worker gives signs of life also during a long task. It is silent if its process is stopped
    /// (`SIGSTOP`, a debugger), hangs in the kernel, or gets no processor time. The pool only reports it;
    /// [`Limits::time`] ends the task.
    pub fn heartbeat(mut self, time: Duration) -> Self {
        self.heartbeat = time.max(HEARTBEAT_MIN);
        self
    }

    /// Replaces a worker process whose own memory is over this many bytes, between two batches of tasks.
    /// Default: never.
    ///
    /// It is for memory that grows over many tasks. What a single task may use is [`Limits::memory`].
    pub fn max_memory_per_child(mut self, bytes: u64) -> Self {
        self.max_memory_per_child = Some(bytes);
        self
    }

    /// Ends workers that have been idle for this long. They are started again as tasks come. Default: never.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// How long a worker may take until it is ready, in addition to the time limit of its initializer. After
    /// that it is killed. Default: 60 s.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// How long the guest's `shutdown` may take at the end of a worker, in addition to the time limit of
    /// tasks. After that the worker is killed. Default: 5 s.
    ///
    /// `shutdown` is called in an instance that a worker keeps ([`Isolation::Reuse`]), and not in those of
    /// single tasks.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// When workers are started. `true`, the default: as tasks come. `false`: [`build`](Self::build) starts
    /// all of them, as CPython's `Pool` does, and waits until they are ready.
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.lazy = lazy;
        self
    }

    /// A function that is called with each [`PoolEvent`], in their order. It runs on the pool's own thread:
    /// it should be quick, and must not wait for anything of this pool. If it panics, it is not called again.
    pub fn on_event(mut self, on_event: impl Fn(&PoolEvent) + Send + Sync + 'static) -> Self {
        self.sink = Sink::new(on_event);
        self
    }

    /// Takes profiles: where guests spend their time. [`ProfilingStrategy`] has an example. Each worker that
    /// ends without a kill gives one, as [`PoolEvent::WorkerProfiled`]. Default: no profile.
    pub fn profile(mut self, strategy: ProfilingStrategy) -> Self {
        self.profile = Some(strategy);
        self
    }

    /// How many records may be drawn ahead of the results that have been taken. Default: what short tasks
    /// need, at most 65,536 records and 16 MiB.
    pub fn buffer(mut self, records: NonZeroUsize) -> Self {
        self.buffer = Some(records);
        self
    }

    /// The bytes of results that each stream, iterator or map of the pool holds in this process until they
    /// are taken. Default: 64 MiB.
    ///
    /// Over that, only the task whose result is waited for is begun, and large results stay in the memory of
    /// their workers. The values that [`Pool::map`] collects, and the result of [`Pool::apply_async`], belong
    /// to the caller and do not count.
    pub fn buffer_bytes(mut self, bytes: u64) -> Self {
        self.buffer_bytes = bytes.max(1);
        self
    }

    /// The first part of the workers' names; a dash and a number follow. Default: `PoolWorker`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Makes the first worker process die at this place. For the project's own tests.
    #[cfg(feature = "fault-points")]
    #[doc(hidden)]
    pub fn fault(mut self, fault: crate::spec::Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Makes the pool. No process is started before the first task, unless [`lazy`](Self::lazy) is `false`.
    ///
    /// # Errors
    /// [`BuildError`] if an import of the module is not met, the policy names what cannot be granted, the
    /// initializer is unknown, its arguments do not fit, or instances of a deterministic run are to be
    /// reused. If the pool is not lazy, also [`BuildError::Broken`] if its workers cannot run.
    pub fn build(mut self) -> Result<Pool, BuildError> {
        self.limits = self.limits.possible();
        check_module(self.module.info(), &self.limits, &self.policy)?;
        let granted = self.policy.resolve_for(&self.module, self.start_method)?;
        self.module = self.module.compiled(self.policy.codegen(self.limits.codegen()))?;
        let sandbox = self.module.launch().program.sandbox;
        if self.start_method == StartMethod::Thread && sandbox == Sandbox::Strict {
            return Err(StartError::ThreadUnconfined.into());
        }
        let setup = self.setup(&granted)?;
        let config = self.config();
        let records = self.buffer.map_or(Window::DEFAULT.records, |records| records.get() as u64);
        let window = Window { records, results: self.buffer_bytes, ..Window::DEFAULT };
        let (info, limits) = (setup.info.clone(), self.limits.clone());
        start(self.spec(setup, granted), config, info, limits, window)
    }

    /// What each worker is told before its first task.
    fn setup(&self, granted: &Granted) -> Result<Setup, BuildError> {
        let info = self.module.info();
        let asked = self.initializer.as_deref().or_else(|| (!self.initargs.is_empty()).then_some(INIT));
        let initializer = match asked {
            Some(name) => Some(initializer(name, &self.initargs, info)?),
            None => own_initializer(info)?,
        };
        Ok(Setup {
            isolation: self.isolation_of(asked.is_some(), granted.grants.deterministic)?,
            initializer,
            spins: crate::spin::pays(self.processes - 1),
            heartbeat: self.heartbeat,
            profile: self.profile,
            #[cfg(feature = "fault-points")]
            fault: self.fault,
            ..Setup::new(info.clone(), self.limits.clone(), granted.grants.clone())
        })
    }

    /// Whether tasks share an instance. `initialized`: the caller asks for an initializer.
    fn isolation_of(&self, initialized: bool, deterministic: bool) -> Result<Isolation, BuildError> {
        // The caller's initializer asks for state between tasks. The module's own `init` must not.
        let default = if initialized && !deterministic { Isolation::Reuse } else { Isolation::Fresh };
        let isolation = self.isolation.unwrap_or(default);
        if isolation == Isolation::Reuse && deterministic {
            return Err(BuildError::Policy {
                what: "one instance for many tasks (--reuse, Isolation::Reuse)".to_owned(),
                reason: "in a deterministic run no result depends on what a worker has done before"
                    .to_owned(),
            });
        }
        Ok(isolation)
    }

    /// The settings of the schedule.
    fn config(&self) -> Config {
        Config {
            processes: self.processes,
            cpus: crate::sys::cpu_count(),
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
        }
    }

    /// The settings of the dispatcher.
    fn spec(self, setup: Setup, granted: Granted) -> Spec {
        let start_method = match self.start_method {
            // The name of the profile's file has the pid of the process that loads the module: each worker
            // must load it.
            StartMethod::Forkserver if self.profile.is_some_and(ProfilingStrategy::writes_file) => {
                StartMethod::Spawn
            }
            method => method,
        };
        Spec {
            launch: self.module.launch().clone(),
            limits: self.limits,
            start_method,
            setup,
            granted,
            tells_apart: self.halt.is_some_and(|halt| !matches!(halt.on, HaltOn::Done(_))),
            retry_on: (self.retries > 0).then_some(self.retry_on.0),
            name: self.name,
            memory_max: self.max_memory_per_child,
            sink: self.sink,
            heartbeat: self.heartbeat,
        }
    }
}

/// Starts the thread of the dispatcher. If the pool is not lazy, waits until all workers are ready.
fn start(
    spec: Spec,
    config: Config,
    info: ModuleInfo,
    limits: Limits,
    window: Window,
) -> Result<Pool, BuildError> {
    let (commands, inbox) = crossbeam_channel::unbounded();
    let is_eager = config.eager;
    let waker = Waker::new()?;
    let directory = Arc::new(Mutex::new(Directory::new()));
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let dispatcher =
        Dispatcher::new(spec, config, waker.clone(), inbox.clone(), directory.clone(), ledger.clone())?;
    let plans = Plans::new(waker.clone());
    let shared = Arc::new(PoolShared {
        info,
        limits,
        window,
        commands,
        waker,
        next_job: AtomicU64::new(1),
        plans,
        directory,
        ledger,
        closed: AtomicBool::new(false),
        callbacks: Callbacks::default(),
        task_handlers: Handlers::new("wpool-tasks"),
        result_handlers: Handlers::new("wpool-results"),
        driver: Driver::new(dispatcher),
        dispatcher: OnceLock::new(),
        broken: OnceLock::new(),
        over: Mutex::new(false),
        is_over: Condition::default(),
        home: crate::sys::home(),
    });
    let end = End { shared: shared.clone(), inbox };
    std::thread::Builder::new().name("wpool-dispatcher".to_owned()).spawn(move || {
        // Dropped at the end of the thread, also if the dispatcher panics.
        let end = end;
        end.shared.dispatcher.get_or_init(|| std::thread::current().id());
        if let Some(reason) = end.shared.driver.run() {
            end.shared.broken.get_or_init(|| reason);
        }
    })?;
    let pool = Pool { shared };
    if is_eager {
        pool.ready().wait()?;
    }
    Ok(pool)
}

/// Its drop is the end of the dispatcher's thread: it wakes the callers of `join`.
struct End {
    shared: Arc<PoolShared>,
    inbox: Receiver<Command>,
}

impl Drop for End {
    fn drop(&mut self) {
        let mut over = self.shared.over.lock().unwrap_or_else(PoisonError::into_inner);
        *over = true;
        self.shared.closed.store(true, Ordering::Release);
        // Jobs that the dispatcher has not taken any more end here.
        while let Ok(command) = self.inbox.try_recv() {
            if let Command::Job { job, .. } = command {
                job.finish(&self.shared.refusal());
            }
        }
        drop(over);
        self.shared.is_over.announce();
    }
}

/// A record that is too long or of the wrong type stays so. Any other failure may be different the next time.
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
