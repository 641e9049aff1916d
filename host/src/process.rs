//! One worker process that runs one target: Python's `multiprocessing.Process`.
//!
//! Each started process has a thread here that started it, listens to it and reaps it at once. (It must be the thread that started it:
//! the kernel sends the worker its death signal when that *thread* ends.)

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;

use crate::context::{Child, Exit, StartMethod, spawn, thread};
use crate::error::{BuildError, StartError, TaskError};
use crate::limits::{Isolation, Limit, Limits};
use crate::module::Module;
use crate::protocol::VERSION;
use crate::protocol::connection::{Connection, RecvError};
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{self, Batch, FromWorker, Identity, Setup, ToWorker};
use crate::sys::StatusPage;
use crate::target::{Resolved, Target, check_module, resolve};
use crate::value::Ret;

/// Bytes of a process's output that are kept when nobody takes them as they come.
const KEPT_OUTPUT: usize = 1 << 20;

/// How a process ended, in the guest's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitReason {
    /// The target returned. A command that calls `exit(0)` has returned.
    Returned,
    /// The target failed, trapped, reached a limit, or called `exit` with another code.
    Failed(TaskError),
    /// A signal ended the process from outside.
    Signaled(i32),
    /// The process ended without a word.
    Exited(i32),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitStatus {
    /// As Python's `exitcode`: 0 if the target returned, 1 if it failed, the code of an `exit`, -N for signal N.
    pub exitcode: i32,
    /// Why.
    pub reason: ExitReason,
}

/// The process was not started yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process has not been started")]
pub struct NotStarted;

/// The process has been started, and cannot be changed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process has already been started")]
pub struct AlreadyStarted;

type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// Configures a [`Process`]; made by [`Process::builder`].
#[must_use = "a builder makes no process until build is called"]
pub struct ProcessBuilder {
    module: Module,
    target: Target,
    name: Option<String>,
    daemon: bool,
    start_method: StartMethod,
    limits: Limits,
    input: Vec<u8>,
    stdout: Option<Sink>,
    stderr: Option<Sink>,
}

impl fmt::Debug for ProcessBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessBuilder").field("target", &self.target).field("name", &self.name).finish_non_exhaustive()
    }
}

impl ProcessBuilder {
    /// The function to run, with all its arguments. Default: the module's own.
    pub fn target(mut self, target: impl Into<Target>) -> Self {
        self.target = target.into();
        self
    }

    /// The process's name. Default `Process-N`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether dropping the [`Process`] kills it (`true`) or waits for it (`false`, the default). Either way it dies with this program.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// How it is started.
    pub fn start_method(mut self, start_method: StartMethod) -> Self {
        self.start_method = start_method;
        self
    }

    /// What it may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// For a command: its standard input. For a function: the record that fills its free parameter.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Gets what the guest writes to stdout, as it comes. Without this the first MiB is kept for [`Process::stdout`].
    pub fn on_stdout(mut self, sink: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.stdout = Some(Box::new(sink));
        self
    }

    /// Gets what the guest writes to stderr, as it comes. Without this the first MiB is kept for [`Process::stderr`].
    pub fn on_stderr(mut self, sink: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.stderr = Some(Box::new(sink));
        self
    }

    /// Makes the process, not started yet.
    ///
    /// # Errors
    /// [`BuildError`] if there is no such function, or its arguments do not fit.
    pub fn build(self) -> Result<Process, BuildError> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        check_module(self.module.info(), &self.limits)?;
        let resolved = resolve(&self.target, self.module.info())?;
        let resolved = if self.input.is_empty() { resolved.complete()? } else { resolved };
        let name = self.name.unwrap_or_else(|| format!("Process-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let shared = Arc::new(Shared {
            name: name.clone(),
            daemon: self.daemon.into(),
            state: Mutex::new(State { stage: Stage::Initial, result: None, stdout: Vec::new(), stderr: Vec::new() }),
            changed: Condvar::new(),
        });
        Ok(Process {
            pending: Some(Pending {
                module: self.module,
                start_method: self.start_method,
                limits: self.limits,
                input: self.input,
                sinks: Sinks { stdout: self.stdout, stderr: self.stderr },
            }),
            resolved,
            shared,
            sentinel: None,
            page: None,
            pid: None,
        })
    }
}

/// One worker process that runs one target.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// wpool::init();
/// let module = wpool::Module::load("hello.wasm")?;
/// let mut process = wpool::Process::builder(&module).target(wpool::Target::func("run").arg("bob")).build()?;
/// process.start()?;
/// let status = process.join()?;
/// assert_eq!(status.exitcode, 0);
/// # Ok(())
/// # }
/// ```
///
/// Dropping it kills a daemon and waits for any other: nothing is left behind.
pub struct Process {
    pending: Option<Pending>,
    resolved: Resolved,
    shared: Arc<Shared>,
    sentinel: Option<OwnedFd>,
    page: Option<Arc<StatusPage>>,
    pid: Option<u32>,
}

/// What only the start needs; gone after it.
struct Pending {
    module: Module,
    start_method: StartMethod,
    limits: Limits,
    input: Vec<u8>,
    sinks: Sinks,
}

struct Sinks {
    stdout: Option<Sink>,
    stderr: Option<Sink>,
}

struct Shared {
    name: String,
    daemon: std::sync::atomic::AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    stage: Stage,
    result: Option<Vec<u8>>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// The states of a process; it goes through them in this order.
enum Stage {
    Initial,
    Started(Arc<Child>),
    Stopped(ExitStatus),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The processes that are running, for [`active_children`].
static CHILDREN: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// A process of this program, as it was when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Whether it is a daemon.
    pub daemon: bool,
}

/// The processes that were started and have not ended: `multiprocessing.active_children()`. The workers of pools are not among them.
pub fn active_children() -> Vec<ProcessInfo> {
    let mut children = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    children.retain(|child| child.strong_count() > 0);
    let running = |shared: Arc<Shared>| match &shared.lock().stage {
        Stage::Started(child) => Some(ProcessInfo {
            name: shared.name.clone(),
            pid: child.pid(),
            daemon: shared.daemon.load(Ordering::Relaxed),
        }),
        Stage::Initial | Stage::Stopped(_) => None,
    };
    children.iter().filter_map(Weak::upgrade).filter_map(running).collect()
}

/// This program itself: `multiprocessing.current_process()` of the main process.
pub fn current_process() -> ProcessInfo {
    ProcessInfo { name: "MainProcess".to_owned(), pid: std::process::id(), daemon: false }
}

impl Process {
    /// A builder for a process that runs a function of `module`.
    pub fn builder(module: &Module) -> ProcessBuilder {
        ProcessBuilder {
            module: module.clone(),
            target: Target::default(),
            name: None,
            daemon: false,
            start_method: StartMethod::Spawn,
            limits: Limits::default(),
            input: Vec::new(),
            stdout: None,
            stderr: None,
        }
    }

    /// Starts the process.
    ///
    /// # Errors
    /// [`StartError::AlreadyStarted`] the second time; others if the operating system refuses.
    pub fn start(&mut self) -> Result<(), StartError> {
        let Some(pending) = self.pending.take() else { return Err(StartError::AlreadyStarted) };
        let (tell, told) = mpsc::channel();
        let supervisor = Supervisor { shared: self.shared.clone(), resolved: self.resolved.clone(), pending, tell };
        let failed = |source| StartError::Spawn { program: "a thread".to_owned(), source };
        std::thread::Builder::new().name("wpool-process".to_owned()).spawn(move || supervisor.run()).map_err(failed)?;
        let started = told.recv().map_err(|e| failed(std::io::Error::other(e)))??;
        self.pid = Some(started.pid);
        self.sentinel = Some(started.sentinel);
        self.page = Some(started.page);
        Ok(())
    }

    /// Waits for the end. Any number of times.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn join(&mut self) -> Result<ExitStatus, NotStarted> {
        self.wait(None).map(|status| status.expect("without a deadline the wait ends with the process"))
    }

    /// Waits for the end, for at most that long; `None` if the process is still alive.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn join_timeout(&mut self, timeout: Duration) -> Result<Option<ExitStatus>, NotStarted> {
        self.wait(Instant::now().checked_add(timeout))
    }

    fn wait(&self, deadline: Option<Instant>) -> Result<Option<ExitStatus>, NotStarted> {
        let mut state = self.shared.lock();
        loop {
            match &state.stage {
                Stage::Initial => return Err(NotStarted),
                Stage::Stopped(status) => return Ok(Some(status.clone())),
                Stage::Started(_) => {}
            }
            state = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                None => self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Ok(None),
                Some(left) => self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Whether it has been started and has not ended.
    pub fn is_alive(&self) -> bool {
        matches!(self.shared.lock().stage, Stage::Started(_))
    }

    /// As Python's `exitcode`: `None` before the end, -N for signal N.
    pub fn exitcode(&self) -> Option<i32> {
        self.exit_status().map(|status| status.exitcode)
    }

    /// How it ended; `None` before that.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match &self.shared.lock().stage {
            Stage::Stopped(status) => Some(status.clone()),
            Stage::Initial | Stage::Started(_) => None,
        }
    }

    /// What the target returned, which Python throws away; `None` if it did not return, or its result is not an `R`.
    pub fn result<R: Ret>(&self) -> Option<R> {
        let state = self.shared.lock();
        R::decode(state.result.as_deref()?, self.resolved.ty.ok_type())
    }

    /// The bytes that the target returned.
    pub fn result_bytes(&self) -> Option<Vec<u8>> {
        self.shared.lock().result.clone()
    }

    /// What the guest has written to stdout so far, the first MiB.
    pub fn stdout(&self) -> Vec<u8> {
        self.shared.lock().stdout.clone()
    }

    /// What the guest has written to stderr so far, the first MiB.
    pub fn stderr(&self) -> Vec<u8> {
        self.shared.lock().stderr.clone()
    }

    /// The process id; `None` before the start.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Whether it is a daemon.
    pub fn daemon(&self) -> bool {
        self.shared.daemon.load(Ordering::Relaxed)
    }

    /// Makes it a daemon, or not.
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

    /// A descriptor that is readable once the process has ended, for `poll` and the like.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn sentinel(&self) -> Result<BorrowedFd<'_>, NotStarted> {
        self.sentinel.as_ref().map(AsFd::as_fd).ok_or(NotStarted)
    }

    /// Ends it with `SIGTERM`: exit code -15. Nothing happens if it has ended. The guest's `shutdown` does not run.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn terminate(&mut self) -> Result<(), NotStarted> {
        self.signal(Signal::TERM)
    }

    /// Ends it with `SIGKILL`: exit code -9. Nothing happens if it has ended.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn kill(&mut self) -> Result<(), NotStarted> {
        self.signal(Signal::KILL)
    }

    /// Asks the guest to stop. It sees that if it looks (`should-stop` of `wpool:process`); nothing forces it.
    ///
    /// # Errors
    /// [`NotStarted`] before [`Process::start`].
    pub fn interrupt(&mut self) -> Result<(), NotStarted> {
        self.page.as_ref().ok_or(NotStarted)?.ask_to_stop();
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), NotStarted> {
        match &self.shared.lock().stage {
            Stage::Initial => Err(NotStarted),
            Stage::Started(child) => {
                child.signal(signal);
                Ok(())
            }
            Stage::Stopped(_) => Ok(()),
        }
    }

    /// Gives up the process's resources.
    ///
    /// # Errors
    /// The process itself, unharmed, if it is still alive.
    #[expect(clippy::result_large_err, reason = "the error is the process, given back")]
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
        match &self.shared.lock().stage {
            Stage::Initial => f.write_str(" initial")?,
            Stage::Started(_) => f.write_str(" started")?,
            Stage::Stopped(status) => {
                f.write_str(" stopped")?;
                match status.exitcode {
                    0 => {}
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
        if self.daemon() {
            let _not_started = self.kill();
        }
        let _not_started = self.join();
    }
}

/// What [`Process::start`] learns.
struct Started {
    pid: u32,
    sentinel: OwnedFd,
    page: Arc<StatusPage>,
}

/// The thread behind a started process.
struct Supervisor {
    shared: Arc<Shared>,
    resolved: Resolved,
    pending: Pending,
    tell: mpsc::Sender<Result<Started, StartError>>,
}

impl Supervisor {
    fn run(self) {
        let Supervisor { shared, resolved, mut pending, tell } = self;
        let started = match Self::start(&shared, &pending) {
            Ok(started) => started,
            Err(e) => {
                let _caller_gone = tell.send(Err(e));
                return;
            }
        };
        let spawn::Started { child, socket, page } = started;
        let (child, page) = (Arc::new(child), Arc::new(page));
        let sentinel = match child.as_fd().try_clone_to_owned() {
            Ok(sentinel) => sentinel,
            Err(source) => {
                child.kill();
                child.wait();
                let _caller_gone = tell.send(Err(StartError::Spawn { program: "a worker".to_owned(), source }));
                return;
            }
        };
        shared.lock().stage = Stage::Started(child.clone());
        CHILDREN.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&shared));
        let _caller_gone = tell.send(Ok(Started { pid: child.pid(), sentinel, page }));
        drop(tell);

        let record = std::mem::take(&mut pending.input);
        let mut listener = Listener { shared: &shared, sinks: pending.sinks, outcome: None, reason: None };
        let listened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            listener.listen(socket, &child, &resolved, &record, &pending.limits)
        }));
        let timed_out = listened.unwrap_or_else(|_| {
            // Whoever joins must see an end.
            listener.reason = Some("the function that takes its output panicked".to_owned());
            child.kill();
            false
        });
        let exit = child.wait();
        let last_resort = pending.start_method.last_resort();
        let status = listener.status(exit, timed_out.then_some(pending.limits.time).flatten(), last_resort);
        let mut state = shared.lock();
        state.stage = Stage::Stopped(status);
        drop(state);
        shared.changed.notify_all();
    }

    fn start(shared: &Shared, pending: &Pending) -> Result<spawn::Started, StartError> {
        let setup = Setup {
            version: VERSION,
            info: pending.module.info().clone(),
            limits: pending.limits.clone(),
            isolation: Isolation::Fresh,
            initializer: None,
            identity: Some(Identity { name: shared.name.clone(), index: 0 }),
            once: true,
            #[cfg(feature = "fault-points")]
            fault: None,
        };
        match pending.start_method {
            StartMethod::Thread => thread::start(&pending.module, setup),
            StartMethod::Spawn | StartMethod::Forkserver => {
                spawn::start(pending.module.program(), setup, pending.module.artefact())
            }
        }
    }
}

/// Listens to a process until its socket closes.
struct Listener<'s> {
    shared: &'s Shared,
    sinks: Sinks,
    outcome: Option<Result<(), TaskError>>,
    /// Why it refused to run.
    reason: Option<String>,
}

impl Listener<'_> {
    /// Runs the one task. Whether the process had to be killed for taking too long.
    fn listen(&mut self, socket: OwnedFd, child: &Child, resolved: &Resolved, record: &[u8], limits: &Limits) -> bool {
        let mut request = Vec::new();
        message::write_control(&mut request, &ToWorker::Plan { id: 1, call: resolved.call.clone() });
        frame::write(&mut request, Kind::Batch, |out| {
            Batch::write_head(out, 1, 1);
            Batch::write_record(out, record);
        });
        let mut connection = Connection::new(socket);
        // A process that cannot take its task is ending; the loop below sees the end.
        let _ending = connection.send(&request);
        let mut deadline = None;
        loop {
            match self.hear(&mut connection) {
                Ok(true) => {
                    let allowed = limits.time.map(|time| time.saturating_add(limits.grace));
                    deadline = allowed.and_then(|time| Instant::now().checked_add(time));
                }
                Ok(false) => {}
                Err(RecvError::Closed | RecvError::Io(_)) => return false,
                Err(RecvError::Violation(violation)) => {
                    self.reason = Some(format!("protocol error: {violation}"));
                    child.kill();
                    return false;
                }
            }
            match wait_readable(&connection, child, deadline) {
                Waited::Readable => match connection.fill() {
                    Ok(0) | Err(_) => return false,
                    Ok(_) => {}
                },
                Waited::Over => {
                    while let Ok(1..) = connection.fill() {}
                    let _last_words = self.hear(&mut connection);
                    return false;
                }
                Waited::TimedOut => {
                    child.kill();
                    return true;
                }
            }
        }
    }

    /// Handles what has come. Whether the process has become ready.
    fn hear(&mut self, connection: &mut Connection<OwnedFd>) -> Result<bool, RecvError> {
        let mut ready = false;
        while connection.has_frame()? {
            let frame = connection.recv()?;
            match frame.kind {
                Kind::Returned => {
                    self.shared.lock().result = Some(frame.payload.to_vec());
                    self.outcome = Some(Ok(()));
                }
                Kind::Failed => self.outcome = Some(Err(message::read_failure(frame.payload)?.into())),
                Kind::Stdout => pass(frame.payload, &mut self.sinks.stdout, || self.shared.lock(), |s| &mut s.stdout),
                Kind::Stderr => pass(frame.payload, &mut self.sinks.stderr, || self.shared.lock(), |s| &mut s.stderr),
                Kind::Took | Kind::BatchDone => {}
                Kind::Control => match message::read_control(frame)? {
                    FromWorker::Ready => ready = true,
                    FromWorker::Refused { reason } => self.reason = Some(reason),
                    FromWorker::InitFailed { failure } => self.outcome = Some(Err(failure.into())),
                    _ => {}
                },
                Kind::Batch => return Err(frame::Violation::Unexpected("a worker sent a batch").into()),
            }
        }
        Ok(ready)
    }

    fn status(self, exit: Exit, timed_out: Option<Duration>, last_resort: &str) -> ExitStatus {
        let exitcode = exit.exitcode().unwrap_or(1);
        let reason = match (self.outcome, timed_out, self.reason, exit) {
            (_, Some(time), _, _) => ExitReason::Failed(TaskError::Limit {
                limit: Limit::Time,
                message: format!("timeout after {time:?} (it did not stop by itself: the process was {last_resort})"),
            }),
            (_, None, Some(reason), _) => ExitReason::Failed(TaskError::Broken { reason }),
            (Some(Ok(())), ..) => ExitReason::Returned,
            (Some(Err(error)), ..) => ExitReason::Failed(error),
            (None, None, None, Exit::Signal(signal)) => ExitReason::Signaled(signal),
            (None, None, None, Exit::Code(_) | Exit::Unknown) => ExitReason::Exited(exitcode),
        };
        ExitStatus { exitcode, reason }
    }
}

fn pass<'s>(
    bytes: &[u8],
    sink: &mut Option<Sink>,
    lock: impl FnOnce() -> MutexGuard<'s, State>,
    kept: impl FnOnce(&mut State) -> &mut Vec<u8>,
) {
    match sink {
        Some(sink) => sink(bytes),
        None => {
            let mut state = lock();
            let kept = kept(&mut state);
            let room = KEPT_OUTPUT.saturating_sub(kept.len()).min(bytes.len());
            kept.extend_from_slice(&bytes[..room]);
        }
    }
}

enum Waited {
    Readable,
    /// The process has ended and its socket is empty or soon will be.
    Over,
    TimedOut,
}

fn wait_readable(connection: &Connection<OwnedFd>, child: &Child, deadline: Option<Instant>) -> Waited {
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let left = left.map(|l| Timespec::try_from(l).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 }));
        let mut fds = [PollFd::new(connection.carrier(), PollFlags::IN), PollFd::new(child, PollFlags::IN)];
        match rustix::event::poll(&mut fds, left.as_ref()) {
            Ok(0) if deadline.is_some_and(|d| Instant::now() >= d) => return Waited::TimedOut,
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) if fds[0].revents().is_empty() => return Waited::Over,
            Ok(_) => return Waited::Readable,
            Err(_) => return Waited::Over,
        }
    }
}
