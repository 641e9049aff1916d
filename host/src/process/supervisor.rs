//! The thread behind a started process: it starts it, gives it its task, listens to it, ends it when its time is over, and reaps it.
//!
//! It must be the thread that started the process (or hold the fork server that did): the kernel sends the process its death signal when
//! that *thread* ends.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::feeder::{self, Feeder};
use super::{ExitReason, ExitStatus, Pending, Running, Shared, Sink, Sinks, Stage, State, children};
use crate::context::server::{ForkServer, NotForked};
use crate::context::{Child, END_TIME, StartError, StartMethod, spawn, thread};
use crate::error::TaskError;
use crate::escape::shortened;
use crate::protocol::connection::{Connection, RecvError};
use crate::protocol::frame::{self, Caps, Kind, Violation};
use crate::protocol::message::{self, Batch, Failure, FromWorker, Identity, Setup, ToWorker, Used};
use crate::spec::{Call, Exit, Isolation, Limit, Limits, PROFILE_LEN_MAX, Sandbox};
use crate::{clock, sys};

/// Bytes of a process's output that are kept when nobody takes them as they come.
const KEPT_OUTPUT: usize = 1 << 20;

/// How long a process that has closed its connection may take to end: it has nothing to do any more.
const LAST_BREATH: Duration = Duration::from_secs(5);

/// How a process is ended by a program that has changed its user since it started it.
const MAY_NOT_SIGNAL: &str =
    "it was ended by closing its connection: this program may not send it signals any more";

/// What [`Process::start`](super::Process::start) learns.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) sentinel: OwnedFd,
}

/// Starts the process, and the thread that looks after it. If it cannot be started, what that would have needed comes back.
pub(super) fn start(shared: &Arc<Shared>, pending: Box<Pending>) -> Result<Started, NotStarted> {
    let ready_by = clock::now().checked_add(pending.start_timeout);
    let forked = match Born::fork(&shared.name, &pending, ready_by) {
        Ok(forked) => forked,
        Err(e) => return Err((e, Some(pending))),
    };
    // The thread is made while a forked process gets ready. One that is executed must be a child of the thread.
    let ((give, given), (tell, told)) = (mpsc::channel(), mpsc::channel());
    let supervised = shared.clone();
    let live = move || {
        children::supervise();
        let (task, born) = match given.recv() {
            Err(mpsc::RecvError) => return,
            Ok(Given::Forked(task, born)) => (*task, born),
            Ok(Given::ToSpawn(pending)) => match Born::spawn(&supervised.name, &pending) {
                Ok((born, started)) => {
                    let task = born.announce(&supervised, *pending);
                    let _caller_gone = tell.send(Ok(started));
                    (task, born)
                }
                Err(e) => {
                    let _caller_gone = tell.send(Err((e, Some(pending))));
                    return;
                }
            },
        };
        drop(tell);
        supervise(&supervised, task, born, ready_by);
    };
    let no_thread = |source| StartError::Spawn { program: "a thread".to_owned(), source };
    if let Err(source) = std::thread::Builder::new().name("wpool-process".to_owned()).spawn(live) {
        forked.iter().for_each(|(born, _)| born.give_up());
        return Err((no_thread(source), Some(pending)));
    }
    match forked {
        Some((born, started)) => {
            let task = born.announce(shared, *pending);
            let _it_waits_for_this = give.send(Given::Forked(Box::new(task), born));
            Ok(started)
        }
        None => {
            let _it_waits_for_this = give.send(Given::ToSpawn(pending));
            told.recv().unwrap_or_else(|gone| Err((no_thread(std::io::Error::other(gone)), None)))
        }
    }
}

/// Why there is no process, and what it would have needed, unless that is lost.
pub(super) type NotStarted = (StartError, Option<Box<Pending>>);

/// What the thread gets to begin with.
enum Given {
    Forked(Box<Task>, Born),
    ToSpawn(Box<Pending>),
}

/// What a process that has been started is given, and is held to.
struct Task {
    call: Call,
    input: Vec<u8>,
    stdin: Option<feeder::Source>,
    limits: Limits,
    sinks: Sinks,
    sandbox: Sandbox,
    method: StartMethod,
    start_timeout: Duration,
    is_profiled: bool,
}

/// The thread's life, once its process is there.
fn supervise(shared: &Arc<Shared>, task: Task, born: Born, ready_by: Option<Instant>) {
    let Task { call, input, stdin, limits, sinks, sandbox, method, start_timeout, is_profiled } = task;
    let Born { running, socket, unsent, server } = born;
    let mut listener = Listener {
        shared,
        running: &running,
        sinks,
        limits: &limits,
        sandbox,
        method,
        start_timeout,
        ready: false,
        interrupted: false,
        kill_at: ready_by,
        signal_at: None,
        outcome: None,
        has_answered: false,
        is_through: false,
        gave_up: false,
        since: Instant::now(),
        timed_out: false,
        reason: None,
        is_profiled,
        stdin,
        feeder: None,
    };
    let request = request(unsent, call, input);
    // Whoever joins must see an end, whatever the functions that take the output do.
    let listened = std::panic::catch_unwind(AssertUnwindSafe(|| listener.listen(socket, request)));
    let _panicked = std::panic::catch_unwind(AssertUnwindSafe(|| drop(std::mem::take(&mut listener.sinks))));
    if listened.is_err() {
        listener.reason = Some("the function that takes its output panicked".to_owned());
        running.child.kill();
    }
    if !has_ended_by(&running.child, clock::now() + LAST_BREATH) {
        listener.reason = Some("it closed its connection and went on".to_owned());
        running.child.kill();
        // Its connection is closed: that ends it where we may not kill it.
        has_ended_by(&running.child, clock::now() + END_TIME);
    }
    end_descendants(&running.child);
    let exit = running.child.wait();
    let status = listener.status(exit);
    // Whoever joins must find nothing of it left: no descriptor, and no fork server that nobody else wants.
    drop((running, server));
    children::unregister(shared);
    shared.lock().stage = Stage::Stopped(status);
    shared.changed.notify_all();
}

/// A process that has been started.
struct Born {
    running: Arc<Running>,
    socket: OwnedFd,
    /// What of its setup the socket has not taken yet.
    unsent: Vec<u8>,
    /// Where it was forked; kept until it has been reaped.
    server: Option<Arc<ForkServer>>,
}

impl Born {
    /// Forks it, if its start method is that. `None`: it is not, or it cannot be forked; executed, it will tell why.
    fn fork(
        name: &str,
        pending: &Pending,
        until: Option<Instant>,
    ) -> Result<Option<(Born, Started)>, StartError> {
        if pending.method != StartMethod::Forkserver {
            return Ok(None);
        }
        let Pending { module, limits, granted, .. } = pending;
        let failed = |source| StartError::Spawn { program: "a thread".to_owned(), source };
        let server = module.fork_servers().get(limits, granted).map_err(failed)?;
        match server.fork(module.launch(), &setup(pending), granted, &identity(name), until) {
            Ok(started) => Born::new(started, Some(server)).map(Some),
            Err(NotForked::Failed(error)) => Err(error),
            Err(NotForked::NoZygote) => Ok(None),
        }
    }

    /// Executes it, or starts a thread in its place. By the thread that will look after it.
    fn spawn(name: &str, pending: &Pending) -> Result<(Born, Started), StartError> {
        let Pending { module, granted, method, .. } = pending;
        let launch = module.launch();
        let setup = Setup { identity: Some(identity(name)), ..setup(pending) };
        let started = match method {
            StartMethod::Thread => thread::start(launch, setup, granted),
            StartMethod::Spawn | StartMethod::Forkserver => spawn::start(launch, setup, granted),
        };
        Born::new(started?, None)
    }

    fn new(started: spawn::Started, server: Option<Arc<ForkServer>>) -> Result<(Born, Started), StartError> {
        let spawn::Started { child, socket, page, unsent } = started;
        let prepare = || {
            let interrupt =
                sys::above_stdio(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)?;
            rustix::io::ioctl_fionbio(&socket, true)?;
            Ok((interrupt, child.as_fd().try_clone_to_owned()?))
        };
        match prepare() {
            Ok((interrupt, sentinel)) => {
                let started = Started { pid: child.pid(), sentinel };
                let (terminated, hang_up) = (false.into(), false.into());
                let running = Arc::new(Running { child, page, interrupt, terminated, hang_up });
                Ok((Born { running, socket, unsent, server }, started))
            }
            Err(source) => {
                child.kill_or_shut(&socket);
                child.wait();
                Err(StartError::Spawn { program: "a worker".to_owned(), source })
            }
        }
    }

    /// From now on it is known to all that it runs. As CPython loses its reference to the target with the start, so the module is let go.
    fn announce(&self, shared: &Arc<Shared>, pending: Pending) -> Task {
        let Pending {
            module,
            call,
            initializer: _,
            limits,
            granted: _,
            input,
            stdin,
            sinks,
            method,
            start_timeout,
            profile,
        } = pending;
        shared.lock().stage = Stage::Started(self.running.clone());
        children::register(shared);
        let is_profiled = profile.is_some_and(|profile| profile.interval().is_some());
        Task {
            call,
            input,
            stdin,
            limits,
            sinks,
            sandbox: module.launch().program.sandbox,
            method,
            start_timeout,
            is_profiled,
        }
    }

    fn give_up(&self) {
        self.running.child.kill_or_shut(&self.socket);
        self.running.child.wait();
    }
}

fn identity(name: &str) -> Identity {
    Identity { name: name.to_owned(), index: 0 }
}

fn setup(pending: &Pending) -> Setup {
    let Pending { module, initializer, limits, granted, profile, .. } = pending;
    Setup {
        // The instance outlives its task, for its `shutdown`.
        isolation: Isolation::Reuse,
        initializer: initializer.clone(),
        once: true,
        profile: *profile,
        #[cfg(feature = "fault-points")]
        fault: module.launch().program.fault,
        ..Setup::new(module.info().clone(), limits.clone(), granted.grants.clone())
    }
}

/// The one task, behind what comes before it.
fn request(mut request: Vec<u8>, call: Call, input: Vec<u8>) -> Vec<u8> {
    message::write_control(&mut request, &ToWorker::Plan { id: 1, call });
    frame::write(&mut request, Kind::Batch, |out| {
        Batch::write_head(out, 1, 1);
        Batch::write_record(out, &input);
    });
    request
}

/// Listens to a process until its socket closes.
struct Listener<'s> {
    shared: &'s Shared,
    running: &'s Running,
    sinks: Sinks,
    limits: &'s Limits,
    sandbox: Sandbox,
    method: StartMethod,
    start_timeout: Duration,
    /// It has loaded its module.
    ready: bool,
    /// It has been asked to stop.
    interrupted: bool,
    /// When it is killed unless it has gone further by then.
    kill_at: Option<Instant>,
    /// When it gets `SIGINT`.
    signal_at: Option<Instant>,
    outcome: Option<Result<(), TaskError>>,
    /// It has said what became of its task; and that it is through with it.
    has_answered: bool,
    is_through: bool,
    /// It has said that it cannot do it, and why.
    gave_up: bool,
    /// It was there then.
    since: Instant,
    /// It was killed because its task, or its `shutdown`, took too long.
    timed_out: bool,
    /// Why it did not run, if neither the guest nor a signal is to blame.
    reason: Option<String>,
    /// It gives a profile at its end.
    is_profiled: bool,
    /// Where its standard input comes from, until it asks for some.
    stdin: Option<feeder::Source>,
    /// What has been reading that since.
    feeder: Option<Feeder>,
}

impl Listener<'_> {
    /// Gives it its task and hears what comes of it.
    fn listen(&mut self, socket: OwnedFd, request: Vec<u8>) {
        let mut outgoing = Outgoing { bytes: request, sent: 0 };
        let mut connection = Connection::new(socket, Caps::of_worker(self.limits));
        loop {
            match self.hear(&mut connection) {
                Ok(()) => {}
                Err(RecvError::Closed | RecvError::Io(_)) => return,
                Err(RecvError::Violation(violation)) => return self.punish(&violation),
            }
            match self.wait(&connection, !outgoing.bytes.is_empty()) {
                Woken::Socket => {
                    outgoing.send(connection.carrier());
                    match connection.fill() {
                        Ok(0) => return,
                        Ok(_) => {}
                        Err(RecvError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(RecvError::Closed | RecvError::Io(_)) => return,
                        Err(RecvError::Violation(violation)) => return self.punish(&violation),
                    }
                }
                Woken::Interrupt if self.running.hang_up.load(Ordering::SeqCst) => {
                    self.reason.get_or_insert_with(|| MAY_NOT_SIGNAL.to_owned());
                    return;
                }
                Woken::Interrupt => self.interrupt(),
                Woken::Fed => {
                    if !self.feed(&mut outgoing) {
                        self.running.child.kill();
                        return;
                    }
                    outgoing.send(connection.carrier());
                }
                Woken::Ended => {
                    drain(&mut connection);
                    let _last_words = self.hear(&mut connection);
                    return;
                }
                // That there is no use in it was said before.
                Woken::Late if self.gave_up => {
                    self.running.child.kill();
                    return;
                }
                Woken::Late if self.kill_at.is_some_and(|at| at <= clock::now()) => {
                    self.timed_out = self.ready;
                    self.reason =
                        (!self.ready).then(|| format!("it was not ready after {:?}", self.start_timeout));
                    self.running.child.kill();
                    return;
                }
                Woken::Late => {
                    self.signal_at = None;
                    self.running.signal(Signal::INT);
                }
            }
        }
    }

    /// It has said that it cannot do it: it has nothing left to do but to end.
    fn give_up(&mut self) {
        self.gave_up = true;
        let until = clock::now() + LAST_BREATH;
        self.kill_at = Some(self.kill_at.map_or(until, |at| at.min(until)));
    }

    /// It may be its attacker's by now: nothing more that it says counts.
    fn punish(&mut self, violation: &Violation) {
        self.reason = Some(format!("protocol error: {violation}"));
        self.running.child.kill();
    }

    /// Waits until there is something to do.
    fn wait(&self, connection: &Connection<OwnedFd>, wants_to_send: bool) -> Woken {
        let flags = if wants_to_send { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        loop {
            let until = self.kill_at.into_iter().chain(self.signal_at).min();
            let left = until.map(|until| until.saturating_duration_since(clock::now()));
            // Without a feeder the interrupt stands in twice.
            let fed = self.feeder.as_ref().map_or(&self.running.interrupt, |feeder| &feeder.has_piece);
            let mut fds = [
                PollFd::new(connection.carrier(), flags),
                PollFd::new(&self.running.interrupt, PollFlags::IN),
                PollFd::new(&self.running.child, PollFlags::IN),
                PollFd::new(fed, PollFlags::IN),
            ];
            let polled = clock::nap(left, |timeout| rustix::event::poll(&mut fds, Some(timeout)));
            let [_socket, interrupt, ended, fed] = fds.map(|fd| !fd.revents().is_empty());
            match polled {
                // A guest that talks all the time has no more time than others.
                Ok(_) if until.is_some_and(|until| until <= clock::now()) => return Woken::Late,
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                // First: something else may hold its end of the socket, and talk on.
                Ok(_) if ended => return Woken::Ended,
                Ok(_) if interrupt => return Woken::Interrupt,
                Ok(_) if fed => return Woken::Fed,
                Ok(_) => return Woken::Socket,
                Err(_) => return Woken::Ended,
            }
        }
    }

    /// It asks for what comes next on its standard input.
    fn ask(&mut self) -> Result<(), Violation> {
        if let Some(source) = self.stdin.take() {
            match Feeder::new(source) {
                Ok(feeder) => self.feeder = Some(feeder),
                Err(e) => {
                    self.reason = Some(format!("its standard input cannot be read: {e}"));
                    self.running.child.kill();
                    return Ok(());
                }
            }
        }
        match self.feeder.as_mut().filter(|_| self.ready).is_some_and(Feeder::ask) {
            true => Ok(()),
            false => Err(Violation::Unexpected("the worker asked for input that it cannot have")),
        }
    }

    /// Sends it what has come for it. `false`: that cannot be read.
    fn feed(&mut self, outgoing: &mut Outgoing) -> bool {
        match self.feeder.as_mut().and_then(Feeder::take) {
            Some(Ok(piece)) => {
                frame::write(&mut outgoing.bytes, Kind::Input, |out| out.extend_from_slice(&piece))
            }
            Some(Err(e)) => self.reason = Some(format!("its standard input cannot be read: {e}")),
            None => {}
        }
        self.reason.is_none()
    }

    /// It has been asked to stop. Before it is ready, it can neither see that nor die of a signal.
    fn interrupt(&mut self) {
        let _count = rustix::io::read(&self.running.interrupt, &mut [0; 8]);
        if !self.interrupted {
            self.interrupted = true;
            self.signal_at = if self.ready { clock::now().checked_add(self.limits.grace) } else { None };
        }
    }

    /// It has gone a step further: the next may take as long as a task may.
    fn has_gone_further(&mut self) {
        let allowed = self.limits.time.map(|time| time.saturating_add(self.limits.grace));
        self.kill_at = allowed.and_then(|time| clock::now().checked_add(time));
    }

    /// Handles what has come. A worker that says what is not its to say, or says it twice, may be its attacker's by now.
    fn hear(&mut self, connection: &mut Connection<OwnedFd>) -> Result<(), RecvError> {
        while connection.has_frame()? {
            let frame = connection.recv()?;
            match frame.kind {
                Kind::Returned => {
                    self.expect_outcome()?;
                    self.shared.lock().result = Some(frame.payload.to_vec());
                    self.outcome = Some(Ok(()));
                    self.has_gone_further();
                }
                Kind::Failed => {
                    self.expect_outcome()?;
                    match message::read_failure(frame.payload)? {
                        // A thread that was told to end says that it has dropped its task. How it ended is known here.
                        Failure::Cancelled => {}
                        failure if failure.is_of_a_task() => self.outcome = Some(Err(failure.into())),
                        _ => {
                            return Err(
                                Violation::Unexpected("a failure that is not a worker's to tell").into()
                            );
                        }
                    }
                    self.has_gone_further();
                }
                Kind::Stdout => {
                    pass(frame.payload, &mut self.sinks.stdout, || self.shared.lock(), |s| &mut s.stdout)
                }
                Kind::Stderr => {
                    pass(frame.payload, &mut self.sinks.stderr, || self.shared.lock(), |s| &mut s.stderr)
                }
                // Nothing of it was placed where large results may lie.
                Kind::Placed => return Err(Violation::Unexpected("a result where none may be").into()),
                Kind::Took => drop(message::read_took(frame.payload, self.since.elapsed())?),
                Kind::Used => drop(Used::read_within(frame.payload, self.limits)?),
                Kind::BatchDone if self.has_answered && !self.is_through => {
                    message::read_batch_done(frame.payload)?;
                    self.is_through = true;
                }
                Kind::BatchDone => {
                    return Err(
                        Violation::Unexpected("the end of a batch that the worker does not hold").into()
                    );
                }
                // Behind the outcome, of which one that was told to end has none.
                Kind::Profile if self.is_profiled && self.ready => {
                    let mut state = self.shared.lock();
                    state.profile.extend_from_slice(frame.payload);
                    if state.profile.len() > PROFILE_LEN_MAX {
                        return Err(Violation::TooLong { len: state.profile.len() }.into());
                    }
                }
                Kind::Profile => return Err(Violation::Unexpected("the worker spoke out of turn").into()),
                Kind::Control => match message::read_control(frame)? {
                    FromWorker::Hello { .. } => self.running.hear_hello(),
                    FromWorker::Ready if !self.ready => {
                        self.ready = true;
                        self.has_gone_further();
                        let grace = clock::now().checked_add(self.limits.grace);
                        self.signal_at = grace.filter(|_| self.interrupted);
                    }
                    FromWorker::Refused { reason } => {
                        self.reason = Some(shortened(&reason));
                        self.give_up();
                    }
                    FromWorker::Unconfined { missing } if !self.ready => {
                        self.reason = self.sandbox.judge(missing).err()
                    }
                    FromWorker::WantsInput => self.ask()?,
                    FromWorker::InitFailed { failure } if !self.ready && self.outcome.is_none() => {
                        if !failure.is_of_a_task() {
                            return Err(
                                Violation::Unexpected("a failure that is not a worker's to tell").into()
                            );
                        }
                        self.outcome = Some(Err(failure.shortened().into()));
                        self.give_up();
                    }
                    FromWorker::Ready
                    | FromWorker::InitFailed { .. }
                    | FromWorker::Unconfined { .. }
                    | FromWorker::Compiled(_)
                    | FromWorker::Imports { .. }
                    | FromWorker::Needs { .. }
                    | FromWorker::Forked { .. }
                    | FromWorker::NotForked { .. }
                    | FromWorker::Thawed
                    | FromWorker::Report(_) => {
                        return Err(Violation::Unexpected("the worker spoke out of turn").into());
                    }
                },
                Kind::Batch | Kind::Input => {
                    return Err(Violation::Unexpected("a worker sent a batch").into());
                }
            }
        }
        Ok(())
    }

    /// There is one outcome, after the start.
    fn expect_outcome(&mut self) -> Result<(), Violation> {
        match self.ready && self.outcome.is_none() && !self.has_answered {
            true => {
                self.has_answered = true;
                Ok(())
            }
            false => Err(Violation::Unexpected("a result for a task that the worker does not hold")),
        }
    }

    fn status(self, exit: Exit) -> ExitStatus {
        let exitcode = match (exit.exitcode(), &self.outcome) {
            (Some(code), _) => code,
            // Somebody else has reaped it: what it said itself counts.
            (None, Some(Ok(()))) => 0,
            (None, Some(Err(TaskError::Exited { code }))) => (code & 0xff).cast_signed(),
            (None, Some(Err(_))) => 1,
            (None, None) => ExitStatus::UNKNOWN,
        };
        let reason = match (self.outcome, self.reason, exit) {
            _ if self.timed_out => ExitReason::Failed(TaskError::Limit {
                limit: Limit::Time,
                message: format!(
                    "{}; it did not stop by itself: the process was {}",
                    self.limits.reached(Limit::Time),
                    self.method.last_resort()
                ),
            }),
            (_, Some(reason), _) => ExitReason::Failed(TaskError::Broken { reason }),
            (Some(Err(error)), None, _) => ExitReason::Failed(error),
            // Also after its target has returned, while its `shutdown` ran.
            (_, None, Exit::Signal(signal)) => ExitReason::Signaled(signal),
            (Some(Ok(())), None, Exit::Code(_) | Exit::Unknown) => ExitReason::Returned,
            (None, None, Exit::Code(_)) => ExitReason::Exited(exitcode),
            (None, None, Exit::Unknown) => ExitReason::Unknown,
        };
        ExitStatus { exitcode, reason }
    }
}

/// What has not been sent yet. A process that is not ready does not read, and must not keep us from looking at the clock.
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    /// Sends what goes at once.
    fn send(&mut self, socket: &OwnedFd) {
        while self.sent < self.bytes.len() {
            match rustix::net::send(socket, &self.bytes[self.sent..], rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                // It is ending, which is noticed elsewhere.
                Err(_) => break,
            }
        }
        *self = Outgoing { bytes: Vec::new(), sent: 0 };
    }
}

enum Woken {
    /// There is something to read, or room to send.
    Socket,
    /// Somebody has called [`Process::interrupt`](super::Process::interrupt).
    Interrupt,
    /// There is more of its standard input.
    Fed,
    /// The process has ended. What it has said is in the socket.
    Ended,
    /// It is time to act.
    Late,
}

/// Reads what is there now, and no more.
fn drain(connection: &mut Connection<OwnedFd>) {
    let mut left = rustix::io::ioctl_fionread(connection.carrier()).unwrap_or(0);
    while left > 0 {
        match connection.fill() {
            Ok(read @ 1..) => left = left.saturating_sub(read as u64),
            Ok(0) | Err(_) => break,
        }
    }
}

fn has_ended_by(child: &Child, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(clock::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match rustix::event::poll(&mut [PollFd::new(child, PollFlags::IN)], Some(&timeout)) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

/// Kills whatever, at its end, belongs to the process's group then. No guest can start a process; this is against a worker that
/// a guest has taken over.
fn end_descendants(child: &Child) {
    let (pid, pidfd) = match child {
        Child::Process { pid, pidfd, .. } => (pid, pidfd),
        #[cfg(feature = "worker")]
        Child::Thread(_) => return,
    };
    // Not reaped yet: until then nobody else gets its number, and so no other group has that.
    let unreaped = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    if let Ok(Some(_)) =
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), unreaped))
    {
        // There is no such group if it has ended before it led one.
        let _none = rustix::process::kill_process_group(*pid, Signal::KILL);
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
