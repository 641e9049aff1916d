//! Run one target in a worker process of its own: Python's `multiprocessing.Process`.
//!
//! [`Process::builder`] makes a process, [`Process::start`] starts it, and [`Process::join`] waits for its
//! end and tells how it ended ([`ExitStatus`], [`ExitReason`]). [`Process::result`] gives what the target has
//! returned. [`active_children`] lists the processes that run, [`current_process`] and [`parent_process`]
//! name this one and the one above it, and [`cpu_count`] counts the processors. [`while_stopped`] is for
//! programs that handle Ctrl-Z themselves.

// Each started process has a thread here, its `supervisor`, which has started it, listens to it and reaps it
// at once. A `Process` is a handle to what the two share. It never waits for the operating system, only for
// that thread.
mod builder;
mod children;
mod feeder;
mod state;
mod status;
mod supervisor;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub use self::builder::ProcessBuilder;
pub use self::children::{ProcessInfo, active_children, current_process, parent_process};
use self::state::{OutputFn, OutputFns, Pending, ProcessReport, ProcessState, Running, Supervised};
pub use self::status::{AlreadyStarted, ExitReason, ExitStatus, NotStarted};
use self::supervisor::StartedProcess;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::supervisor::fuzzing::supervisor as fuzz_supervisor;
use crate::context::StartError;
pub use crate::context::while_stopped;
use crate::module::Module;
use crate::spec::Exit;
pub use crate::sys::cpu_count;
use crate::value::{FuncType, Ret};

/// One worker process that runs one target.
///
/// Dropping it kills a daemon and waits for any other: nothing is left behind. A process that is never
/// dropped (leaked, or in a `static`) is dealt with in the same way when this program exits.
///
/// ```standalone_crate
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use rustix::event::{PollFd, PollFlags, poll};
/// use wpool::{Module, Process, Target};
///
/// wpool::init();
/// # std::env::set_current_dir("../guest/prebuilt")?;
/// let module = Module::load("hello.wasm")?;
/// let mut process = Process::builder(&module).target(Target::func("run").arg("bob:0")).build()?;
/// assert!(process.pid().is_none() && !process.is_alive());
/// process.start()?;
/// println!("{} is process {:?}", process.name(), process.pid());
/// if process.join_timeout(Duration::from_secs(30))?.is_none() {
///     process.terminate()?; // it is still alive
/// }
/// assert_eq!(process.join()?.exitcode, 0);
/// assert!(process.result::<String>().is_some_and(|greeting| greeting.starts_with("hello bob")));
/// assert!(process.stdout().starts_with(b"Process-"));
///
/// // Several are waited for by their sentinels, as multiprocessing.connection.wait does.
/// let new = |name| Process::builder(&module).target(Target::func("run").arg(name)).build();
/// let (mut one, mut other) = (new("ann:0")?, new("eve:60000")?);
/// one.start()?;
/// other.start()?;
/// let sentinels = [one.sentinel()?, other.sentinel()?];
/// let mut fds = sentinels.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
/// assert_eq!(poll(&mut fds, None)?, 1);
/// other.kill()?;
/// assert_eq!(other.join()?.exitcode, -9);
/// # Ok(())
/// # }
/// ```
pub struct Process {
    pending: Option<Box<Pending>>,
    /// The type of the function, by which the result is read.
    ty: FuncType,
    shared: Arc<Supervised>,
    sentinel: Option<OwnedFd>,
    pid: Option<u32>,
}

impl Process {
    fn new(pending: Pending, ty: FuncType, shared: Supervised) -> Process {
        Process { pending: Some(Box::new(pending)), ty, shared: Arc::new(shared), sentinel: None, pid: None }
    }

    /// A builder for a process that runs a function of `module`.
    pub fn builder(module: &Module) -> ProcessBuilder {
        ProcessBuilder::new(module)
    }

    /// Starts the process: `Process.start`. Its module, arguments and input are dropped here.
    ///
    /// # Errors
    /// [`StartError::AlreadyStarted`] the second time. Other errors if the operating system refuses; the
    /// start can then be tried again.
    pub fn start(&mut self) -> Result<(), StartError> {
        if self.shared.is_in_fork() {
            return Err(StartError::InFork);
        }
        // Before the process exists: from its start on, an exit of this program must end it.
        children::prepare_for_exit();
        let Some(pending) = self.pending.take() else { return Err(StartError::AlreadyStarted) };
        match supervisor::start(&self.shared, pending) {
            Ok(StartedProcess { pid, sentinel }) => {
                (self.pid, self.sentinel) = (Some(pid), Some(sentinel));
                Ok(())
            }
            Err((error, pending)) => {
                // So that a start that failed for want of descriptors, for example, can be tried again.
                self.pending = pending;
                Err(error)
            }
        }
    }

    /// Waits for the end of the process: `Process.join`. It can be called any number of times.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn join(&mut self) -> Result<ExitStatus, NotStarted> {
        self.shared
            .wait(None)
            .map(|status| status.expect("without a deadline the wait ends with the process"))
    }

    /// Waits for the end, for at most that long: `Process.join(timeout)`. `None` if the process is still
    /// alive, which Python does not tell.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, NotStarted> {
        self.shared.wait(Instant::now().checked_add(timeout))
    }

    /// Whether the process has been started and has not ended: `Process.is_alive`.
    pub fn is_alive(&self) -> bool {
        self.shared.known().is_some_and(|known| matches!(known.state, ProcessState::Started(_)))
    }

    /// Python's `exitcode`: -N for signal N; `None` before the end, and where it is unknown.
    /// [`Process::exit_status`] has the reason too.
    pub fn exitcode(&self) -> Option<i32> {
        self.exit_status().map(|status| status.exitcode).filter(|code| *code != ExitStatus::UNKNOWN)
    }

    /// How the process ended; `None` before that.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match &self.shared.known()?.state {
            ProcessState::Stopped(status) => Some(status.clone()),
            ProcessState::Initial | ProcessState::Started(_) => None,
        }
    }

    /// What the target returned, which Python throws away. `None` if it did not return, or if its result is
    /// not an `R`.
    pub fn result<R: Ret>(&self) -> Option<R> {
        let known = self.shared.known()?;
        R::decode(known.result.as_deref()?, self.ty.ok_type())
    }

    /// The bytes that the target returned, in the form that [`Target::output`](crate::Target::output) chose.
    pub fn result_bytes(&self) -> Option<Vec<u8>> {
        self.shared.known()?.result.clone()
    }

    /// What the guest has written to stdout so far, the first MiB.
    pub fn stdout(&self) -> Vec<u8> {
        self.shared.known().map_or_else(Vec::new, |known| known.stdout.clone())
    }

    /// What the guest has written to stderr so far, the first MiB.
    pub fn stderr(&self) -> Vec<u8> {
        self.shared.known().map_or_else(Vec::new, |known| known.stderr.clone())
    }

    /// Where the guest spent its time, as JSON for the Firefox profiler: see [`ProcessBuilder::profile`].
    /// `None` before the end, after a kill, and without
    /// [`ProfilingStrategy::Guest`](crate::events::ProfilingStrategy::Guest).
    pub fn profile(&self) -> Option<Vec<u8>> {
        let known = self.shared.known()?;
        // The profile of a killed process may lack its end, which is no JSON then.
        let has_exited = matches!(&known.state, ProcessState::Stopped(status) if status.exitcode >= 0);
        Some(known.profile.clone()).filter(|profile| has_exited && !profile.is_empty())
    }

    /// The process id; `None` before the start.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// The name of the process.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether the process is a daemon: see [`ProcessBuilder::daemon`].
    pub fn daemon(&self) -> bool {
        self.shared.is_daemon()
    }

    /// Makes the process a daemon, or not.
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

    /// A descriptor that is readable once the process has ended, for `poll` and its like: `Process.sentinel`.
    /// It is a pidfd.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn sentinel(&self) -> Result<BorrowedFd<'_>, NotStarted> {
        self.sentinel.as_ref().filter(|_| !self.shared.is_in_fork()).map(AsFd::as_fd).ok_or(NotStarted)
    }

    /// Ends the process with `SIGTERM`: `Process.terminate`, exit code -15. The guest's `shutdown` does not
    /// run. Nothing happens if the process has ended.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn terminate(&mut self) -> Result<(), NotStarted> {
        self.shared.with_running(Running::terminate)
    }

    /// Ends the process with `SIGKILL`: `Process.kill`, exit code -9. Nothing happens if the process has
    /// ended.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn kill(&mut self) -> Result<(), NotStarted> {
        self.shared.with_running(Running::kill)
    }

    /// Asks the process to stop, and then stops it: `Process.interrupt`.
    ///
    /// A guest that calls `should-stop` of `wpool:process` sees the wish at once. It may return early, and
    /// the exit code is then its own. A process that has not ended within
    /// [`Limits::grace`](crate::Limits::grace) of this call, or of its start, gets `SIGINT`: exit code -2, as
    /// a Python process without a handler. Nothing happens if the process has ended.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn interrupt(&mut self) -> Result<(), NotStarted> {
        self.shared.with_running(|running| {
            running.page.ask_to_stop();
            // The only error is an overflow of the counter, and then the supervisor is awake.
            let _count = rustix::io::write(&running.interrupt, &1u64.to_ne_bytes());
        })
    }

    /// Gives up the process's resources: `Process.close`. The use of a closed process, which is an error in
    /// Python, does not compile here.
    ///
    /// # Errors
    /// The process itself, unchanged, if it is still alive.
    pub fn close(self) -> Result<(), Process> {
        if self.is_alive() { Err(self) } else { Ok(()) }
    }
}

impl fmt::Debug for Process {
    /// CPython's `repr`: name, pid, state, exit code, daemon.
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
        // A process that was never started has no end to wait for.
        let _not_started = self.join();
    }
}
