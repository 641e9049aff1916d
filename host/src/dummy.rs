//! The same API over threads of the calling process: Python's `multiprocessing.dummy`.
//!
//! ```standalone_crate
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! wpool::init();
//! # std::env::set_current_dir("../guest/prebuilt")?;
//! let module = wpool::Module::load("upper.wasm")?;
//! let pool = wpool::dummy::Pool::builder(&module).processes(5).build()?;
//! let upper = pool.func::<&str, String>("run")?;
//! assert_eq!(pool.map(&upper, ["a", "b"])?, ["A", "B"]);
//! # Ok(())
//! # }
//! ```
//!
//! A worker is a thread with its own engine; debuggers and profilers see its guests in this program. It is
//! for tests, for guests that you trust, and for places where no process can be started. It is no faster.
//! (Modules are still compiled in a separate process.)
//!
//! # What is different from processes
//!
//! - There is one wall instead of two. The WebAssembly sandbox and all [`Limits`] hold: a loop, a trap, and
//!   too much memory, stack or output cost one task. But nothing confines a guest that breaks out of the
//!   engine. A fault of the engine or of a call to the host (an abort, a crash in machine code, no memory
//!   left) ends this program.
//! - A guest is ended at its next check, which machine code makes every few milliseconds. A call to the host,
//!   for example a long sleep, cannot be interrupted: its thread is *abandoned*. The worker counts as gone at
//!   once, with the exit code -15 or -9 of a process, and is replaced. The thread and its memory last until
//!   the call returns; if it never returns, they last until the program ends.
//! - The process id of every worker is that of this program. A signal to it is a signal to all of them.
//! - From the first worker on, the engine handles `SIGSEGV`, `SIGILL` and (on x86) `SIGFPE` in this process:
//!   machine code traps by them. Signals that are not its own go to the handlers that were there before. A
//!   program with handlers of its own installs them first.
//!
//! # What is different from Python's
//!
//! The exit code of a [`Process`] whose target failed is 1, not 0. `terminate`, `kill`, `pid` and `sentinel`
//! exist, and [`Pool::terminate`](crate::Pool::terminate) does not wait for running tasks. As in Python, a
//! pool of threads has neither `max_tasks_per_child` nor a start method. Queues, pipes, locks and the rest
//! are those of [`ipc`](crate::ipc) and [`sync`](crate::sync): threads and processes may share one object.
//! The end of a pipe is told, where Python's `dummy` waits for ever.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::context::{StartError, StartMethod};
use crate::error::{BuildError, TaskError};
pub use crate::exchange::ipc::{Connection, Dict, JoinableQueue, Queue, SimpleQueue, Value, pipe};
pub use crate::exchange::sync::{Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore};
use crate::module::Module;
use crate::policy::Policy;
use crate::pool::events::PoolEvent;
use crate::pool::{self, Backoff, Halt};
use crate::process::{self, ExitStatus};
pub use crate::process::{active_children, current_process};
use crate::spec::{Isolation, Limits};
use crate::target::Target;
use crate::value;

/// A pool of worker threads: `multiprocessing.pool.ThreadPool`. It has all methods of
/// [`wpool::Pool`](crate::Pool).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// let pool = wpool::dummy::Pool::builder(&module).processes(2).build()?;
/// let upper = pool.func::<&str, String>("run")?;
/// assert_eq!(pool.map(&upper, ["a", "b"])?, ["A", "B"]);
/// # Ok(())
/// # }
/// ```
pub struct Pool(pool::Pool);

impl Pool {
    /// A builder for a pool that runs functions of `module`.
    pub fn builder(module: &Module) -> PoolBuilder {
        PoolBuilder(pool::Pool::builder(module).start_method(StartMethod::Thread))
    }

    /// Calls `f` with the pool, then closes it and waits for all tasks:
    /// [`wpool::Pool::scope`](crate::Pool::scope).
    pub fn scope<T>(self, f: impl FnOnce(&Pool) -> T) -> T {
        let value = f(&self);
        self.0.scope(|_| value)
    }
}

impl Deref for Pool {
    type Target = pool::Pool;

    fn deref(&self) -> &pool::Pool {
        &self.0
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Configures a [`Pool`]. [`Pool::builder`] makes it. It has the methods of
/// [`wpool::PoolBuilder`](crate::PoolBuilder):
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::time::Duration;
/// # let module = guest("counter")?;
/// let builder = wpool::dummy::Pool::builder(&module).processes(1).initializer("init", ["100"]);
/// let pool = builder.task_timeout(Duration::from_secs(2)).retries(1).name("Thread").build()?;
/// let count = pool.func::<&str, String>("run")?;
/// assert_eq!(pool.map(&count, ["", "", ""])?, ["101", "102", "103"]);
/// # Ok(())
/// # }
/// ```
///
/// except those that concern processes only:
///
/// ```compile_fail,E0599
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let module = wpool::Module::load("upper.wasm")?;
/// wpool::dummy::Pool::builder(&module).max_tasks_per_child(std::num::NonZeroU64::MIN);
/// # Ok(())
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let module = wpool::Module::load("upper.wasm")?;
/// wpool::dummy::Pool::builder(&module).start_method(wpool::StartMethod::Spawn);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder makes no pool until build is called"]
pub struct PoolBuilder(pool::PoolBuilder);

impl PoolBuilder {
    /// The largest number of workers. Default: the number of processors that this process may use.
    ///
    /// # Panics
    /// If the number is 0.
    pub fn processes(self, processes: usize) -> Self {
        PoolBuilder(self.0.processes(processes))
    }

    /// As [`wpool::PoolBuilder::initializer`](crate::PoolBuilder::initializer).
    pub fn initializer<V: Into<value::Value>>(
        self,
        func: impl Into<String>,
        initargs: impl IntoIterator<Item = V>,
    ) -> Self {
        PoolBuilder(self.0.initializer(func, initargs))
    }

    /// The arguments of the initializer.
    pub fn initargs<V: Into<value::Value>>(self, initargs: impl IntoIterator<Item = V>) -> Self {
        PoolBuilder(self.0.initargs(initargs))
    }

    /// Which state a task finds. Default: [`Isolation::Fresh`], or [`Isolation::Reuse`] with an initializer.
    pub fn isolation(self, isolation: Isolation) -> Self {
        PoolBuilder(self.0.isolation(isolation))
    }

    /// What a task may use.
    pub fn limits(self, limits: Limits) -> Self {
        PoolBuilder(self.0.limits(limits))
    }

    /// What guests may reach. Only the WebAssembly sandbox enforces it: there is no confined process.
    pub fn policy(self, policy: Policy) -> Self {
        PoolBuilder(self.0.policy(policy))
    }

    /// The time that each attempt at a task may take: [`Limits::time`].
    pub fn task_timeout(self, time: Duration) -> Self {
        PoolBuilder(self.0.task_timeout(time))
    }

    /// How often a failed task is tried again. Default: 0.
    pub fn retries(self, retries: u32) -> Self {
        PoolBuilder(self.0.retries(retries))
    }

    /// As [`wpool::PoolBuilder::retry_delay`](crate::PoolBuilder::retry_delay).
    pub fn retry_delay(self, delay: Duration) -> Self {
        PoolBuilder(self.0.retry_delay(delay))
    }

    /// As [`wpool::PoolBuilder::backoff`](crate::PoolBuilder::backoff).
    pub fn backoff(self, backoff: Backoff) -> Self {
        PoolBuilder(self.0.backoff(backoff))
    }

    /// As [`wpool::PoolBuilder::retry_on`](crate::PoolBuilder::retry_on).
    pub fn retry_on(self, retry_on: impl Fn(&TaskError) -> bool + Send + Sync + 'static) -> Self {
        PoolBuilder(self.0.retry_on(retry_on))
    }

    /// As [`wpool::PoolBuilder::halt`](crate::PoolBuilder::halt).
    pub fn halt(self, halt: Halt) -> Self {
        PoolBuilder(self.0.halt(halt))
    }

    /// As [`wpool::PoolBuilder::idle_timeout`](crate::PoolBuilder::idle_timeout).
    pub fn idle_timeout(self, timeout: Duration) -> Self {
        PoolBuilder(self.0.idle_timeout(timeout))
    }

    /// As [`wpool::PoolBuilder::start_timeout`](crate::PoolBuilder::start_timeout).
    pub fn start_timeout(self, timeout: Duration) -> Self {
        PoolBuilder(self.0.start_timeout(timeout))
    }

    /// As [`wpool::PoolBuilder::shutdown_timeout`](crate::PoolBuilder::shutdown_timeout).
    pub fn shutdown_timeout(self, timeout: Duration) -> Self {
        PoolBuilder(self.0.shutdown_timeout(timeout))
    }

    /// As [`wpool::PoolBuilder::lazy`](crate::PoolBuilder::lazy).
    pub fn lazy(self, lazy: bool) -> Self {
        PoolBuilder(self.0.lazy(lazy))
    }

    /// As [`wpool::PoolBuilder::on_event`](crate::PoolBuilder::on_event).
    pub fn on_event(self, on_event: impl Fn(&PoolEvent) + Send + Sync + 'static) -> Self {
        PoolBuilder(self.0.on_event(on_event))
    }

    /// How many records may be drawn ahead of the results that have been taken.
    pub fn buffer(self, records: NonZeroUsize) -> Self {
        PoolBuilder(self.0.buffer(records))
    }

    /// The bytes of results that each stream, iterator or map of the pool holds until they are taken.
    pub fn buffer_bytes(self, bytes: u64) -> Self {
        PoolBuilder(self.0.buffer_bytes(bytes))
    }

    /// The first part of the workers' names; a dash and a number follow. Default: `PoolWorker`.
    pub fn name(self, name: impl Into<String>) -> Self {
        PoolBuilder(self.0.name(name))
    }

    /// Makes the pool. No worker is started before the first task, unless [`lazy`](Self::lazy) is `false`.
    ///
    /// # Errors
    /// [`BuildError`] if an import of the module is not met, the initializer is unknown, or its arguments do
    /// not fit.
    pub fn build(self) -> Result<Pool, BuildError> {
        self.0.build().map(Pool)
    }
}

/// A thread that runs one target: `multiprocessing.dummy.Process`. It has all methods of
/// [`wpool::Process`](crate::Process).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("failing")?;
/// use wpool::Target;
///
/// let target = |record| Target::func("run").arg(record);
/// let new = |record| wpool::dummy::Process::builder(&module).target(target(record)).build();
/// let mut process = new("bad")?;
/// process.start()?;
/// assert_eq!(process.join()?.exitcode, 1); // 0 in Python
///
/// // `run` does it while the caller waits.
/// assert_eq!(new("good")?.run()?.exitcode, 0);
/// # Ok(())
/// # }
/// ```
pub struct Process(process::Process);

impl Process {
    /// A builder for a thread that runs a function of `module`.
    pub fn builder(module: &Module) -> ProcessBuilder {
        ProcessBuilder(process::Process::builder(module).start_method(StartMethod::Thread))
    }

    /// Starts the thread and waits for its end: `Process.run`.
    ///
    /// # Errors
    /// [`StartError::AlreadyStarted`] the second time. Other errors if the operating system refuses.
    pub fn run(&mut self) -> Result<ExitStatus, StartError> {
        self.0.start()?;
        Ok(self.0.join().expect("it was started just now"))
    }

    /// Gives up the process's resources: `Process.close`.
    ///
    /// # Errors
    /// The process itself, unchanged, if it is still alive.
    pub fn close(self) -> Result<(), Process> {
        self.0.close().map_err(Process)
    }
}

impl Deref for Process {
    type Target = process::Process;

    fn deref(&self) -> &process::Process {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut process::Process {
        &mut self.0
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Configures a [`Process`]. [`Process::builder`] makes it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("hello")?;
/// let process = wpool::dummy::Process::builder(&module).input("bob:0").name("Greeter").build()?;
/// assert_eq!(process.name(), "Greeter");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder makes no process until build is called"]
pub struct ProcessBuilder(process::ProcessBuilder);

impl ProcessBuilder {
    /// The function to run, with all its arguments. Default: the module's own.
    pub fn target(self, target: impl Into<Target>) -> Self {
        ProcessBuilder(self.0.target(target))
    }

    /// The process's name. Default: `Process-N`.
    pub fn name(self, name: impl Into<String>) -> Self {
        ProcessBuilder(self.0.name(name))
    }

    /// What happens when the [`Process`] is dropped: a daemon is ended, any other is waited for. Default:
    /// `false`.
    pub fn daemon(self, daemon: bool) -> Self {
        ProcessBuilder(self.0.daemon(daemon))
    }

    /// What the guest may use.
    pub fn limits(self, limits: Limits) -> Self {
        ProcessBuilder(self.0.limits(limits))
    }

    /// What guests may reach. Only the WebAssembly sandbox enforces it: there is no confined process.
    pub fn policy(self, policy: Policy) -> Self {
        ProcessBuilder(self.0.policy(policy))
    }

    /// For a command: its standard input. For a function: the record that fills its free parameter.
    pub fn input(self, input: impl Into<Vec<u8>>) -> Self {
        ProcessBuilder(self.0.input(input))
    }

    /// Called with what the guest writes to stdout, as it comes.
    pub fn on_stdout(self, sink: impl FnMut(&[u8]) + Send + 'static) -> Self {
        ProcessBuilder(self.0.on_stdout(sink))
    }

    /// Called with what the guest writes to stderr, as it comes.
    pub fn on_stderr(self, sink: impl FnMut(&[u8]) + Send + 'static) -> Self {
        ProcessBuilder(self.0.on_stderr(sink))
    }

    /// Makes the process, which is not started yet.
    ///
    /// # Errors
    /// [`BuildError`] if there is no such function, or its arguments do not fit.
    pub fn build(self) -> Result<Process, BuildError> {
        self.0.build().map(Process)
    }
}
