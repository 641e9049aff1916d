//! Run one target in a worker process of its own: Python's `multiprocessing.Process`.
//!
//! [`Process::builder`] makes a process, [`Process::start`] starts it, and [`Process::join`] waits for its end and tells how
//! it ended ([`ExitStatus`], [`ExitReason`]). [`Process::result`] gives what the target has returned. [`active_children`]
//! lists the processes that run, [`current_process`] and [`parent_process`] name this one and the one above it, and
//! [`cpu_count`] counts the processors. [`while_stopped`] is for programs that handle Ctrl-Z themselves.

// Each started process has a thread here, its `supervisor`, which has started it, listens to it and reaps it at once.
// A `Process` is a handle to what the two share. It never waits for the operating system, only for that thread.
mod children;
mod feeder;
mod supervisor;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

pub use self::children::{ProcessInfo, active_children, current_process, parent_process};
use self::supervisor::Started;
pub use crate::context::while_stopped;
use crate::context::{Child, StartError, StartMethod};
use crate::error::{BuildError, TaskError};
use crate::module::Module;
use crate::policy::{Granted, Policy};
use crate::spec::{Call, Exit, Input, Limits, ProfilingStrategy, size};
pub use crate::sys::cpu_count;
use crate::sys::{self, StatusPage};
use crate::target::{Target, check_module, own_initializer, resolve};
use crate::value::{FuncType, Ret};

/// How long a process may take to get ready, unless something else is asked for. A machine under load is slow; one that hangs is not waited for.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How a process ended, in the guest's terms.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut process = process("failing", "panic")?;
/// use wpool::process::ExitReason;
/// use wpool::TaskError;
///
/// process.start()?;
/// match process.join()?.reason {
///     ExitReason::Returned => println!("it returned"),
///     ExitReason::Failed(TaskError::Trap { message, .. }) => println!("it trapped: {message}"),
///     ExitReason::Failed(error) => println!("it failed: {error}"),
///     ExitReason::Signaled(signal) => println!("signal {signal} ended it"),
///     reason => println!("{reason:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// The target returned. A command that calls `exit(0)` has returned.
    Returned,
    /// The target failed, trapped, reached a limit, or called `exit` with another code.
    Failed(TaskError),
    /// A signal ended the process from outside: [`Process::terminate`], [`Process::kill`], [`Process::interrupt`], or somebody else.
    Signaled(i32),
    /// The process ended without a word.
    Exited(i32),
    /// The process ended without a word, and how is unknown: another part of this program has taken its exit status, by a `wait` for any
    /// child or by ignoring `SIGCHLD`. The `exitcode` beside this is [`ExitStatus::UNKNOWN`].
    Unknown,
}

/// How a process ended: CPython's `exitcode`, and why.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut process = process("hello", "bob:0")?;
/// use wpool::process::ExitReason;
///
/// process.start()?;
/// let status = process.join()?;
/// assert_eq!((status.exitcode, status.reason), (0, ExitReason::Returned));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitStatus {
    /// As Python's `exitcode`: 0 if the target returned, 1 if it failed, the code of an `exit`, -N for signal N.
    pub exitcode: i32,
    /// Why.
    pub reason: ExitReason,
}

impl ExitStatus {
    /// The `exitcode` where it is not known, which no process has: see [`ExitReason::Unknown`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("hello", "bob:0")?;
    /// process.start()?;
    /// assert_ne!(process.join()?.exitcode, wpool::process::ExitStatus::UNKNOWN);
    /// # Ok(())
    /// # }
    /// ```
    pub const UNKNOWN: i32 = i32::MIN;
}

/// The process was not started yet; or this is a forked child of the program that started it, and has nothing but a copy of the handle.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut process = process("hello", "bob:0")?;
/// assert_eq!(process.join(), Err(wpool::process::NotStarted));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process has not been started by this program")]
pub struct NotStarted;

/// The process has been started, and cannot be changed any more.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut process = process("hello", "bob:0")?;
/// process.start()?;
/// assert_eq!(process.set_daemon(true), Err(wpool::process::AlreadyStarted));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process has already been started")]
pub struct AlreadyStarted;

type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// Configures a [`Process`]: what CPython's `Process(target=.., name=.., args=.., kwargs=.., daemon=..)` takes, and what a guest needs beside
/// that. Made by [`Process::builder`].
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = numbers()?;
/// use std::time::Duration;
/// use wpool::{Limits, Process, StartMethod, Target};
///
/// let mut limits = Limits::default();
/// limits.time = Some(Duration::from_secs(2));
/// let mut process = Process::builder(&module)
///     .target(Target::func("add").arg(3).arg(4))
///     .name("Adder")
///     .daemon(true)
///     .limits(limits)
///     .start_method(StartMethod::Spawn)
///     .on_stderr(|bytes| eprint!("{}", String::from_utf8_lossy(bytes)))
///     .build()?;
/// process.start()?;
/// process.join()?;
/// assert_eq!(process.result(), Some(7));
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder makes no process until build is called"]
pub struct ProcessBuilder {
    module: Module,
    target: Target,
    name: Option<String>,
    daemon: bool,
    limits: Limits,
    policy: Policy,
    input: Vec<u8>,
    stdin: Option<feeder::Source>,
    sinks: Sinks,
    method: StartMethod,
    start_timeout: Duration,
    profile: Option<ProfilingStrategy>,
}

impl fmt::Debug for ProcessBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessBuilder")
            .field("target", &self.target)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ProcessBuilder {
    /// The function to run, with all its arguments: `target`, `args` and `kwargs` of CPython's `Process`.
    /// Default: the module's own. If the module exports `init` of world `wpool:task/stateful-task`, that is
    /// called before it, without arguments.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Process, Target};
    /// # let module = numbers()?;
    /// let mut process = Process::builder(&module).target(Target::func("square").arg(3.0)).build()?;
    /// process.start()?;
    /// process.join()?;
    /// assert_eq!(process.result(), Some(9.0));
    /// # Ok(())
    /// # }
    /// ```
    pub fn target(mut self, target: impl Into<Target>) -> Self {
        self.target = target.into();
        self
    }

    /// The process's name, which has no meaning and need not be unique. Default `Process-N`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Limits, Process, StartMethod, Target};
    /// # let module = guest("hello")?;
    /// # let target = Target::func("run").arg("bob:0");
    /// let process = Process::builder(&module).target(target).name("Greeter").build()?;
    /// assert_eq!(process.name(), "Greeter");
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether it is killed (`true`) or waited for (`false`, the default) when its [`Process`] is dropped, and when this program exits:
    /// by a return from `main` or by [`std::process::exit`], and then also if the `Process` is never dropped. If this program is killed, either
    /// dies with it.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Limits, Process, StartMethod, Target};
    /// # let module = guest("hello")?;
    /// # let target = Target::func("run").arg("bob:0");
    /// let mut process = Process::builder(&module).target(Target::func("run").arg("bob:60000")).daemon(true).build()?;
    /// process.start()?;
    /// drop(process); // which does not take a minute
    /// # Ok(())
    /// # }
    /// ```
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// What it may use.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Limits, Process, StartMethod, Target};
    /// # let module = guest("failing")?;
    /// let mut limits = Limits::default();
    /// limits.time = Some(std::time::Duration::from_millis(100));
    /// let mut process = Process::builder(&module).target(Target::func("run").arg("loop")).limits(limits).build()?;
    /// process.start()?;
    /// assert_eq!(process.join()?.exitcode, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What it may reach: see [`Policy`]. Default: nothing.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Process, Target};
    /// # let module = guest("hello")?;
    /// # let target = Target::func("run").arg("bob:0");
    /// use wpool::policy::DirAccess;
    /// use wpool::Policy;
    ///
    /// let policy = Policy::sealed().dir("src", "/src", DirAccess::ReadOnly).env("LANG", "C");
    /// let mut process = Process::builder(&module).target(target).policy(policy).build()?;
    /// process.start()?;
    /// assert_eq!(process.join()?.exitcode, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// For a command: its standard input (CPython's processes have none). For a function: the record that fills its free parameter.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Limits, Process, StartMethod, Target};
    /// # let module = guest("hello")?;
    /// # let target = Target::func("run").arg("bob:0");
    /// let mut process = Process::builder(&module).input("bob:0").build()?;
    /// process.start()?;
    /// process.join()?;
    /// assert!(process.result::<String>().is_some_and(|greeting| greeting.starts_with("hello bob")));
    /// # Ok(())
    /// # }
    /// ```
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// For a command: where its standard input comes from, in place of [`input`](Self::input). It is read
    /// when the guest reads, by a thread of its own, and no further. Nobody waits for that thread: a process
    /// ends while it is in a read that lasts.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Process, Target};
    /// # let module = guest("args")?;
    /// // This command reads nothing.
    /// let mut process = Process::builder(&module).target(Target::default().argv(["args", "a"])).stdin(std::io::stdin()).build()?;
    /// process.start()?;
    /// process.join()?;
    /// assert_eq!(process.stdout(), b"a\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn stdin(mut self, source: impl std::io::Read + Send + 'static) -> Self {
        self.stdin = Some(Box::new(source));
        self
    }

    /// Gets what the guest writes to stdout, as it comes. Without this the first MiB is kept for [`Process::stdout`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Limits, Process, StartMethod, Target};
    /// # let module = guest("hello")?;
    /// # let target = Target::func("run").arg("bob:0");
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let mut process = Process::builder(&module).target(target).on_stdout(move |bytes| drop(tell.send(bytes.to_vec()))).build()?;
    /// process.start()?;
    /// process.join()?;
    /// assert!(told.recv()?.starts_with(b"Process-"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_stdout(mut self, sink: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.sinks.stdout = Some(Box::new(sink));
        self
    }

    /// Gets what the guest writes to stderr, as it comes. Without this the first MiB is kept for [`Process::stderr`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Process, Target};
    /// # let module = guest("failing")?;
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let target = Target::func("run").arg("panic");
    /// let mut process = Process::builder(&module).target(target).on_stderr(move |bytes| drop(tell.send(bytes.to_vec()))).build()?;
    /// process.start()?;
    /// process.join()?;
    /// let said: Vec<u8> = told.iter().flatten().collect();
    /// assert!(String::from_utf8_lossy(&said).contains("panic, as told"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_stderr(mut self, sink: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.sinks.stderr = Some(Box::new(sink));
        self
    }

    /// How it comes into being: CPython's `get_context(method).Process`. Default: the fork server, which the processes of a module share
    /// if they have the same limits, and which ends with the last of them and the module. For a single process
    /// [`StartMethod::Spawn`] is cheaper. Nothing else depends on it.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Limits, Process, StartMethod, Target};
    /// # let module = guest("hello")?;
    /// # let target = Target::func("run").arg("bob:0");
    /// let mut process = Process::builder(&module).target(target).start_method(StartMethod::Spawn).build()?;
    /// process.start()?;
    /// assert_eq!(process.join()?.exitcode, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = method;
        self
    }

    /// How long it may take until it has loaded its module. Then it is killed, and its [`ExitReason`] says so; if it is the fork server that
    /// takes too long, [`Process::start`] fails. Default: one minute.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Limits, Process, StartMethod, Target};
    /// # let module = guest("hello")?;
    /// # let target = Target::func("run").arg("bob:0");
    /// use std::time::Duration;
    ///
    /// let process = Process::builder(&module).target(target).start_timeout(Duration::from_secs(5)).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Shows where the guest spends its time. A process with a profile is executed anew, whatever its start method says of forking.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Process, Target};
    /// # let module = guest("upper")?;
    /// let target = Target::func("run").arg("a");
    /// let mut process = Process::builder(&module).target(target).profile(wpool::events::ProfilingStrategy::guest()).build()?;
    /// process.start()?;
    /// process.join()?;
    /// // A JSON document for the Firefox profiler.
    /// assert!(process.profile().is_some_and(|json| json.starts_with(b"{\"meta\":")));
    /// # Ok(())
    /// # }
    /// ```
    pub fn profile(mut self, strategy: ProfilingStrategy) -> Self {
        self.profile = Some(strategy);
        self
    }

    /// Makes the process, not started yet.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Limits, Process, StartMethod, Target};
    /// # let module = guest("hello")?;
    /// # let target = Target::func("run").arg("bob:0");
    /// let mistaken = Process::builder(&module).target(Target::func("rum").arg("bob")).build();
    /// assert!(matches!(mistaken, Err(wpool::BuildError::Target(_))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BuildError`] if there is no such function, its arguments do not fit, or the policy does not grant what the module needs, or names what cannot
    /// be granted.
    pub fn build(mut self) -> Result<Process, BuildError> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        self.limits = self.limits.possible();
        check_module(self.module.info(), &self.limits, &self.policy)?;
        let granted = self.policy.resolve_for(&self.module, self.method)?;
        self.module = self.module.compiled(self.policy.codegen(self.limits.codegen()))?;
        let initializer = own_initializer(self.module.info())?;
        let resolved = resolve(&self.target, self.module.info())?;
        let mut resolved = if self.input.is_empty() { resolved.complete()? } else { resolved };
        if self.stdin.is_some() {
            if resolved.call.input != Input::Stdin {
                return Err(BuildError::Format(format!(
                    "{} is no command: it has no standard input",
                    resolved.call.path
                )));
            }
            self.input = Vec::new();
            resolved.call.input = Input::Asked;
        }
        if self.input.len() > self.limits.input {
            let (given, limit) = (size(self.input.len() as u64), size(self.limits.input as u64));
            let reason = format!("{given} are over the limit of {limit} (--max-input, Limits::input)");
            return Err(BuildError::Argument { func: resolved.call.path, index: "input".to_owned(), reason });
        }
        let name = self.name.unwrap_or_else(|| format!("Process-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let shared = Shared {
            name,
            daemon: self.daemon.into(),
            state: Mutex::new(State {
                stage: Stage::Initial,
                result: None,
                stdout: Vec::new(),
                stderr: Vec::new(),
                profile: Vec::new(),
            }),
            changed: Condvar::new(),
            home: sys::home(),
        };
        Ok(Process {
            pending: Some(Box::new(Pending {
                module: self.module,
                call: resolved.call,
                initializer,
                limits: self.limits,
                granted,
                input: self.input,
                stdin: self.stdin,
                sinks: self.sinks,
                method: match self.method {
                    // Fork servers are shared with processes that have none.
                    StartMethod::Forkserver if self.profile.is_some() => StartMethod::Spawn,
                    method => method,
                },
                start_timeout: self.start_timeout,
                profile: self.profile,
            })),
            ty: resolved.ty,
            shared: Arc::new(shared),
            sentinel: None,
            pid: None,
        })
    }
}

/// One worker process that runs one target.
///
/// Dropping it kills a daemon and waits for any other: nothing is left behind. One that is never dropped (leaked, or in a `static`) is
/// dealt with in the same way when this program exits.
///
/// ```standalone_crate
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// wpool::init();
/// # std::env::set_current_dir("../guest/prebuilt")?;
/// let module = wpool::Module::load("hello.wasm")?;
/// let mut process = wpool::Process::builder(&module).target(wpool::Target::func("run").arg("bob")).build()?;
/// process.start()?;
/// let status = process.join()?;
/// assert_eq!(status.exitcode, 0);
/// # Ok(())
/// # }
/// ```
pub struct Process {
    pending: Option<Box<Pending>>,
    /// How to read its result.
    ty: FuncType,
    shared: Arc<Shared>,
    sentinel: Option<OwnedFd>,
    pid: Option<u32>,
}

/// What only the start needs; gone after it.
struct Pending {
    module: Module,
    call: Call,
    /// The module's own, if it has one.
    initializer: Option<Call>,
    limits: Limits,
    granted: Granted,
    input: Vec<u8>,
    stdin: Option<feeder::Source>,
    sinks: Sinks,
    method: StartMethod,
    start_timeout: Duration,
    profile: Option<ProfilingStrategy>,
}

#[derive(Default)]
struct Sinks {
    stdout: Option<Sink>,
    stderr: Option<Sink>,
}

/// What the handle and the thread of a process share.
struct Shared {
    name: String,
    daemon: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// The program that it is a process of. A fork of that has only a copy of the handle.
    home: u32,
}

struct State {
    stage: Stage,
    result: Option<Vec<u8>>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    profile: Vec<u8>,
}

/// The states of a process; it goes through them in this order.
enum Stage {
    Initial,
    Started(Arc<Running>),
    Stopped(ExitStatus),
}

/// What there is of a process while it runs.
struct Running {
    child: Child,
    page: StatusPage,
    /// Wakes its supervisor: somebody wants it to stop.
    interrupt: OwnedFd,
    /// It has been told to end.
    terminated: AtomicBool,
    /// We may not send it signals: its supervisor is to close its connection.
    hang_up: AtomicBool,
}

impl Running {
    /// A process that was just executed ignores the signal if this program does. Once it has said hello, it is told again.
    fn terminate(&self) {
        self.terminated.store(true, Ordering::SeqCst);
        self.signal(Signal::TERM);
    }

    fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal that ends it. Where that is not allowed any more, its supervisor ends it in another way.
    fn signal(&self, signal: Signal) {
        if !self.child.signal(signal) {
            self.hang_up.store(true, Ordering::SeqCst);
            let _count = rustix::io::write(&self.interrupt, &1u64.to_ne_bytes());
        }
    }

    fn hear_hello(&self) {
        if self.terminated.load(Ordering::SeqCst) {
            self.child.signal(Signal::TERM);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_daemon(&self) -> bool {
        self.daemon.load(Ordering::Relaxed)
    }

    fn is_in_fork(&self) -> bool {
        self.home != sys::home()
    }

    /// What is known of it; nothing in a forked child, where a lock may be held for ever.
    fn known(&self) -> Option<MutexGuard<'_, State>> {
        (!self.is_in_fork()).then(|| self.lock())
    }

    /// Waits for the end, until the deadline.
    fn wait(&self, deadline: Option<Instant>) -> Result<Option<ExitStatus>, NotStarted> {
        let mut state = self.known().ok_or(NotStarted)?;
        loop {
            match &state.stage {
                Stage::Initial => return Err(NotStarted),
                Stage::Stopped(status) => return Ok(Some(status.clone())),
                Stage::Started(_) => {}
            }
            state = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Ok(None),
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Does something to the process if it runs.
    fn with_running(&self, act: impl FnOnce(&Running)) -> Result<(), NotStarted> {
        match &self.known().ok_or(NotStarted)?.stage {
            Stage::Initial => Err(NotStarted),
            Stage::Started(running) => {
                act(running);
                Ok(())
            }
            Stage::Stopped(_) => Ok(()),
        }
    }

    fn kill(&self) {
        let _not_started = self.with_running(Running::kill);
    }
}

impl Process {
    /// A builder for a process that runs a function of `module`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use wpool::{Limits, Process, StartMethod, Target};
    /// # let module = guest("hello")?;
    /// # let target = Target::func("run").arg("bob:0");
    /// let process = Process::builder(&module).target(target).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(module: &Module) -> ProcessBuilder {
        ProcessBuilder {
            module: module.clone(),
            target: Target::default(),
            name: None,
            daemon: false,
            limits: Limits::default(),
            policy: Policy::sealed(),
            input: Vec::new(),
            stdin: None,
            sinks: Sinks::default(),
            method: StartMethod::default(),
            start_timeout: START_TIMEOUT,
            profile: None,
        }
    }

    /// Starts the process: `Process.start`. The module, the arguments and the input are not kept any longer.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("hello", "bob:0")?;
    /// process.start()?;
    /// assert!(process.pid().is_some());
    /// assert!(matches!(process.start(), Err(wpool::StartError::AlreadyStarted)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StartError::AlreadyStarted`] the second time; others if the operating system refuses, after which it can be tried again.
    pub fn start(&mut self) -> Result<(), StartError> {
        if self.shared.is_in_fork() {
            return Err(StartError::InFork);
        }
        children::prepare_for_exit();
        let Some(pending) = self.pending.take() else { return Err(StartError::AlreadyStarted) };
        match supervisor::start(&self.shared, pending) {
            Ok(Started { pid, sentinel }) => {
                (self.pid, self.sentinel) = (Some(pid), Some(sentinel));
                Ok(())
            }
            Err((error, pending)) => {
                self.pending = pending;
                Err(error)
            }
        }
    }

    /// Waits for the end: `Process.join`. Any number of times.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("hello", "bob:0")?;
    /// process.start()?;
    /// assert_eq!(process.join()?.exitcode, 0);
    /// assert_eq!(process.join()?.exitcode, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn join(&mut self) -> Result<ExitStatus, NotStarted> {
        self.shared
            .wait(None)
            .map(|status| status.expect("without a deadline the wait ends with the process"))
    }

    /// Waits for the end, for at most that long; `None` if the process is still alive: `Process.join(timeout)`, which does not tell.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("failing", "loop")?;
    /// use std::time::Duration;
    ///
    /// process.start()?;
    /// if process.join_timeout(Duration::from_millis(10))?.is_none() {
    ///     process.terminate()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, NotStarted> {
        self.shared.wait(Instant::now().checked_add(timeout))
    }

    /// Whether it has been started and has not ended: `Process.is_alive`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("hello", "bob:60000")?;
    /// assert!(!process.is_alive());
    /// process.start()?;
    /// assert!(process.is_alive());
    /// # process.kill()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_alive(&self) -> bool {
        self.shared.known().is_some_and(|state| matches!(state.stage, Stage::Started(_)))
    }

    /// As Python's `exitcode`: `None` before the end and where it is unknown, -N for signal N. [`Process::exit_status`] has the reason too.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("failing", "bad")?;
    /// process.start()?;
    /// process.join()?;
    /// assert_eq!(process.exitcode(), Some(1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn exitcode(&self) -> Option<i32> {
        self.exit_status().map(|status| status.exitcode).filter(|code| *code != ExitStatus::UNKNOWN)
    }

    /// How it ended; `None` before that.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("failing", "bad")?;
    /// use wpool::process::ExitReason;
    ///
    /// assert_eq!(process.exit_status(), None);
    /// process.start()?;
    /// process.join()?;
    /// let reason = process.exit_status().map(|status| status.reason);
    /// assert!(matches!(reason, Some(ExitReason::Failed(_))));
    /// # Ok(())
    /// # }
    /// ```
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match &self.shared.known()?.stage {
            Stage::Stopped(status) => Some(status.clone()),
            Stage::Initial | Stage::Started(_) => None,
        }
    }

    /// What the target returned, which Python throws away; `None` if it did not return, or its result is not an `R`.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("failing", "good")?;
    /// process.start()?;
    /// process.join()?;
    /// assert_eq!(process.result(), Some("good".to_owned()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn result<R: Ret>(&self) -> Option<R> {
        let state = self.shared.known()?;
        R::decode(state.result.as_deref()?, self.ty.ok_type())
    }

    /// The bytes that the target returned.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("failing", "good")?;
    /// process.start()?;
    /// process.join()?;
    /// assert_eq!(process.result_bytes(), Some(b"good".to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn result_bytes(&self) -> Option<Vec<u8>> {
        self.shared.known()?.result.clone()
    }

    /// What the guest has written to stdout so far, the first MiB.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("hello", "bob:0")?;
    /// process.start()?;
    /// process.join()?;
    /// assert!(process.stdout().starts_with(b"Process-"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn stdout(&self) -> Vec<u8> {
        self.shared.known().map_or_else(Vec::new, |state| state.stdout.clone())
    }

    /// What the guest has written to stderr so far, the first MiB.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("failing", "panic")?;
    /// process.start()?;
    /// process.join()?;
    /// assert!(String::from_utf8_lossy(&process.stderr()).contains("panic, as told"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn stderr(&self) -> Vec<u8> {
        self.shared.known().map_or_else(Vec::new, |state| state.stderr.clone())
    }

    /// Where the guest spent its time, as JSON for the Firefox profiler. `None` before its end, if it was killed, and without
    /// [`ProfilingStrategy::Guest`]. [`ProcessBuilder::profile`] has an example.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("hello", "bob:0")?;
    /// process.start()?;
    /// process.join()?;
    /// assert!(process.profile().is_none()); // nobody has asked for one
    /// # Ok(())
    /// # }
    /// ```
    pub fn profile(&self) -> Option<Vec<u8>> {
        let state = self.shared.known()?;
        let has_exited = matches!(&state.stage, Stage::Stopped(status) if status.exitcode >= 0);
        Some(state.profile.clone()).filter(|profile| has_exited && !profile.is_empty())
    }

    /// The process id; `None` before the start.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("hello", "bob:0")?;
    /// assert_eq!(process.pid(), None);
    /// process.start()?;
    /// assert!(process.pid().is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Its name.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("hello", "bob:0")?;
    /// assert!(process.name().starts_with("Process-"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether it is a daemon.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("hello", "bob:0")?;
    /// assert!(!process.daemon());
    /// # Ok(())
    /// # }
    /// ```
    pub fn daemon(&self) -> bool {
        self.shared.is_daemon()
    }

    /// Makes it a daemon, or not.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("hello", "bob:0")?;
    /// process.set_daemon(true)?;
    /// assert!(process.daemon());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AlreadyStarted`] after the start.
    pub fn set_daemon(&mut self, daemon: bool) -> Result<(), AlreadyStarted> {
        match self.pending {
            Some(_) => self.shared.daemon.store(daemon, Ordering::Relaxed),
            None => return Err(AlreadyStarted),
        }
        Ok(())
    }

    /// A descriptor that is readable once the process has ended, for `poll` and the like: `Process.sentinel`. (It is a pidfd.)
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (mut one, mut other) = (process("hello", "ann:0")?, process("hello", "bob:0")?);
    /// use rustix::event::{PollFd, PollFlags, poll};
    ///
    /// one.start()?;
    /// other.start()?;
    /// let sentinels = [one.sentinel()?, other.sentinel()?];
    /// let mut fds = sentinels.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    /// assert!(poll(&mut fds, None)? > 0); // as multiprocessing.connection.wait(sentinels)
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn sentinel(&self) -> Result<BorrowedFd<'_>, NotStarted> {
        self.sentinel.as_ref().filter(|_| !self.shared.is_in_fork()).map(AsFd::as_fd).ok_or(NotStarted)
    }

    /// Ends it with `SIGTERM`: `Process.terminate`, exit code -15. Nothing happens if it has ended. The guest's `shutdown` does not run.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("failing", "loop")?;
    /// process.start()?;
    /// process.terminate()?;
    /// assert_eq!(process.join()?.exitcode, -15);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn terminate(&mut self) -> Result<(), NotStarted> {
        self.shared.with_running(Running::terminate)
    }

    /// Ends it with `SIGKILL`: `Process.kill`, exit code -9. Nothing happens if it has ended.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("failing", "loop")?;
    /// process.start()?;
    /// process.kill()?;
    /// assert_eq!(process.join()?.exitcode, -9);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn kill(&mut self) -> Result<(), NotStarted> {
        self.shared.with_running(Running::kill)
    }

    /// Asks it to stop, then makes it: `Process.interrupt`.
    ///
    /// The guest sees at once that it should stop, if it looks (`should-stop` of `wpool:process`), and may return early: the exit code is its
    /// own. If it has not ended within [`Limits::grace`] of this, or of having been started, it gets `SIGINT`, which is exit code -2: a
    /// guest that does not look is as a Python process without a handler. Nothing happens if it has ended.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("failing", "loop")?;
    /// process.start()?;
    /// process.interrupt()?;
    /// assert_eq!(process.join()?.exitcode, -2); // it did not look
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn interrupt(&mut self) -> Result<(), NotStarted> {
        self.shared.with_running(|running| {
            running.page.ask_to_stop();
            // An error would be an overflow: the supervisor has been woken often enough.
            let _count = rustix::io::write(&running.interrupt, &1u64.to_ne_bytes());
        })
    }

    /// Gives up the process's resources: `Process.close`. What Python finds out when a closed process is used cannot be written here.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut process = process("failing", "loop")?;
    /// process.start()?;
    /// let Err(mut process) = process.close() else { panic!("it runs for ever") };
    /// process.kill()?;
    /// process.join()?;
    /// assert!(process.close().is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The process itself, unharmed, if it is still alive.
    pub fn close(self) -> Result<(), Process> {
        match self.is_alive() {
            true => Err(self),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for Process {
    /// As CPython's `repr`: name, pid, state, exit code, daemon.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Process name={:?}", self.name())?;
        if let Some(pid) = self.pid {
            write!(f, " pid={pid}")?;
        }
        write!(f, " parent={}", std::process::id())?;
        match (self.exit_status(), self.pid) {
            (None, None) => f.write_str(" initial")?,
            (None, Some(_)) => f.write_str(" started")?,
            (Some(status), _) => {
                f.write_str(" stopped")?;
                match status.exitcode {
                    0 => {}
                    ExitStatus::UNKNOWN => f.write_str(" exitcode=unknown")?,
                    code if code < 0 => write!(f, " exitcode=-{}", Exit::Signal(-code))?,
                    code => write!(f, " exitcode={code}")?,
                }
            }
        }
        f.write_str(if self.daemon() { " daemon>" } else { ">" })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.shared.is_in_fork() {
            return;
        }
        if self.daemon() {
            self.shared.kill();
        }
        let _not_started = self.join();
    }
}
