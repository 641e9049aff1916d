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
//! A worker is a thread with an engine of its own; debuggers and profilers see its guests in this program. For tests, for guests that you
//! trust, and where no worker processes can be had. It is no faster. (Modules are compiled in a process of its own all the same.)
//!
//! # What is different from processes
//!
//! - There is one wall instead of two. The WebAssembly sandbox and all [`Limits`] hold as ever: loops, traps, memory,
//!   stack and output cost the one task. But nothing confines a guest that breaks out of the engine, and a fault of the engine or of
//!   a call to the host (an abort, a crash in machine code, memory that the system has not got) is this program's end.
//! - A guest is ended when it next looks, which its own code does every few milliseconds. A call to the host, a long sleep for example,
//!   cannot be interrupted: its thread is *abandoned*. It counts as gone at once, with the exit code -15 or -9 that a process would have,
//!   and is replaced, but the thread and its memory last until the call returns. A call that never returns keeps them to
//!   the program's end.
//! - The process id of every worker is this program's own. A signal to it is a signal to all of them.
//! - The engine handles `SIGSEGV`, `SIGILL` and (on x86) `SIGFPE`, by which machine code traps, in this process from the first worker
//!   on. What it does not know goes on to the handlers that were there before. A program with handlers of its own installs them first.
//!
//! # What is different from Python's
//!
//! Errors are told truthfully: the exit code of a [`Process`] whose target failed is 1, not 0. There are `terminate`, `kill`, `pid` and `sentinel`,
//! and [`Pool::terminate`](crate::Pool::terminate) does not wait for the tasks that are running. As in Python, a pool of threads has neither
//! `max_tasks_per_child` nor a start method.
//!
//! Locks, queues and pipes live in the coordinator, whatever their users are; once there are any, they join here under the same names.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::context::{StartError, StartMethod};
use crate::error::{BuildError, TaskError};
use crate::module::Module;
use crate::policy::Policy;
use crate::pool::events::PoolEvent;
use crate::pool::{self, Backoff, Halt};
use crate::process::{self, ExitStatus};
pub use crate::process::{active_children, current_process};
use crate::spec::{Isolation, Limits};
use crate::target::Target;
use crate::value::Value;

/// A pool of worker threads: `multiprocessing.pool.ThreadPool`. It has all that [`wpool::Pool`](crate::Pool) has.
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

    /// As [`wpool::Pool::scope`](crate::Pool::scope): calls `f`, then closes the pool and waits for everything to be done.
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

/// Configures a [`Pool`]; made by [`Pool::builder`]. As [`wpool::PoolBuilder`](crate::PoolBuilder):
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
/// But without what concerns processes only:
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
    /// How many workers there are at most. Default: the processors that this process may use.
    ///
    /// # Panics
    /// If it is 0.
    pub fn processes(self, processes: usize) -> Self {
        PoolBuilder(self.0.processes(processes))
    }

    /// As [`wpool::PoolBuilder::initializer`](crate::PoolBuilder::initializer).
    pub fn initializer<V: Into<Value>>(
        self,
        func: impl Into<String>,
        initargs: impl IntoIterator<Item = V>,
    ) -> Self {
        PoolBuilder(self.0.initializer(func, initargs))
    }

    /// Arguments for the initializer.
    pub fn initargs<V: Into<Value>>(self, initargs: impl IntoIterator<Item = V>) -> Self {
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

    /// What guests may reach: see [`Policy`]. WebAssembly's own wall holds them to it; there is no process that is held to it as well.
    pub fn policy(self, policy: Policy) -> Self {
        PoolBuilder(self.0.policy(policy))
    }

    /// The time that each attempt at a task may take: [`Limits::time`].
    pub fn task_timeout(self, time: Duration) -> Self {
        PoolBuilder(self.0.task_timeout(time))
    }

    /// How often a failed task is tried again. Default 0.
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

    /// How many records are drawn ahead of the results that have been taken.
    pub fn buffer(self, records: NonZeroUsize) -> Self {
        PoolBuilder(self.0.buffer(records))
    }

    /// Bytes of results that may lie here until somebody takes them, for each stream, iterator or map of the pool.
    pub fn buffer_bytes(self, bytes: u64) -> Self {
        PoolBuilder(self.0.buffer_bytes(bytes))
    }

    /// The workers' names are this, a dash and their number. Default `PoolWorker`.
    pub fn name(self, name: impl Into<String>) -> Self {
        PoolBuilder(self.0.name(name))
    }

    /// Makes the pool. No thread of a worker is started before the first task.
    ///
    /// # Errors
    /// [`BuildError`] if the module's imports are not met, the initializer is unknown or its arguments do not fit.
    pub fn build(self) -> Result<Pool, BuildError> {
        self.0.build().map(Pool)
    }
}

/// A thread that runs one target: `multiprocessing.dummy.Process`. It has all that [`wpool::Process`](crate::Process) has.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("failing")?;
/// use wpool::Target;
///
/// let mut process = wpool::dummy::Process::builder(&module).target(Target::func("run").arg("bad")).build()?;
/// process.start()?;
/// assert_eq!(process.join()?.exitcode, 1); // Python's would be 0
/// # Ok(())
/// # }
/// ```
pub struct Process(process::Process);

impl Process {
    /// A builder for a thread that runs a function of `module`.
    pub fn builder(module: &Module) -> ProcessBuilder {
        ProcessBuilder(process::Process::builder(module).start_method(StartMethod::Thread))
    }

    /// Runs the target to its end, in this process, while the caller waits: `Process.run`. Counts as the start.
    ///
    /// # Errors
    /// [`StartError::AlreadyStarted`] if it was started before; others if the operating system refuses.
    pub fn run(&mut self) -> Result<ExitStatus, StartError> {
        self.0.start()?;
        Ok(self.0.join().expect("it was started just now"))
    }

    /// Gives up what it holds.
    ///
    /// # Errors
    /// The process itself, unharmed, if it is still alive.
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

/// Configures a [`Process`]; made by [`Process::builder`].
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

    /// Its name. Default `Process-N`.
    pub fn name(self, name: impl Into<String>) -> Self {
        ProcessBuilder(self.0.name(name))
    }

    /// Whether dropping the [`Process`] ends it (`true`) or waits for it (`false`, the default).
    pub fn daemon(self, daemon: bool) -> Self {
        ProcessBuilder(self.0.daemon(daemon))
    }

    /// What it may use.
    pub fn limits(self, limits: Limits) -> Self {
        ProcessBuilder(self.0.limits(limits))
    }

    /// What guests may reach: see [`Policy`]. WebAssembly's own wall holds them to it; there is no process that is held to it as well.
    pub fn policy(self, policy: Policy) -> Self {
        ProcessBuilder(self.0.policy(policy))
    }

    /// For a command: its standard input. For a function: the record that fills its free parameter.
    pub fn input(self, input: impl Into<Vec<u8>>) -> Self {
        ProcessBuilder(self.0.input(input))
    }

    /// Gets what the guest writes to stdout, as it comes.
    pub fn on_stdout(self, sink: impl FnMut(&[u8]) + Send + 'static) -> Self {
        ProcessBuilder(self.0.on_stdout(sink))
    }

    /// Gets what the guest writes to stderr, as it comes.
    pub fn on_stderr(self, sink: impl FnMut(&[u8]) + Send + 'static) -> Self {
        ProcessBuilder(self.0.on_stderr(sink))
    }

    /// Makes it, not started yet.
    ///
    /// # Errors
    /// [`BuildError`] if there is no such function, or its arguments do not fit.
    pub fn build(self) -> Result<Process, BuildError> {
        self.0.build().map(Process)
    }
}
