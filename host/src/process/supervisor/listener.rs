//! Listening to a process: its messages, its time limits and its standard input.

use std::os::fd::OwnedFd;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use crate::clock;
use crate::context::{LAST_BREATH, StartMethod};
use crate::error::TaskError;
use crate::process::feeder::{self, Feeder};
use crate::process::{ExitReason, ExitStatus, OutputFn, OutputFns, ProcessReport, Running, Supervised};
use crate::protocol::connection::{Connection, RecvError};
use crate::protocol::frame::{self, Caps, Kind, Violation};
use crate::protocol::outgoing::Outgoing;
use crate::protocol::session::{FromProcessWorker, Heard, ProcessWorkerRole, Session};
use crate::spec::{Exit, Limit, Limits, Sandbox};

/// The most bytes of a process's output that are kept, where no function takes them as they come.
const KEPT_OUTPUT: usize = 1 << 20;

/// The reason of an end after this program has changed its user: it may not signal the process any more.
const MAY_NOT_SIGNAL: &str =
    "it was ended by closing its connection: this program may not send it signals any more";

/// What a process is given, and the limits that it is held to.
pub(super) struct Rules {
    /// The source of its standard input, in case the guest reads it.
    pub(super) stdin: Option<feeder::Source>,
    pub(super) limits: Limits,
    pub(super) sinks: OutputFns,
    pub(super) sandbox: Sandbox,
    pub(super) method: StartMethod,
    pub(super) start_timeout: Duration,
    /// The process sends a profile at its end.
    pub(super) is_profiled: bool,
}

/// Listens to a process until its socket closes.
pub(super) struct Listener<'s> {
    shared: &'s Supervised,
    running: &'s Running,
    rules: Rules,
    /// Judges what the process says.
    session: Session<ProcessWorkerRole>,
    /// The time at which the process is killed, unless it takes its next step before.
    kill_at: Option<Instant>,
    interrupt: Interrupt,
    course: Course,
    outcome: Option<Result<(), TaskError>>,
    /// Why the task was not run, if that is due to neither the guest nor a signal.
    reason: Option<String>,
    /// Reads the standard input, once the process has asked for some.
    feeder: Option<Feeder>,
}

/// How a process goes on, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// The process gets ready, or runs its task or its `shutdown`.
    UnderWay,
    /// The process has said that it cannot do its task, and why. It only has to end.
    GaveUp,
    /// The process was killed because its task or its `shutdown` took too long.
    TimedOut,
}

/// What has become of [`Process::interrupt`](crate::Process::interrupt). Only the first call counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interrupt {
    NotAsked,
    /// The grace begins when the process is ready: before, it can neither see the request nor die of a
    /// signal.
    Asked,
    /// The process gets `SIGINT` at this time.
    SignalAt(Instant),
    Signaled,
}

impl<'s> Listener<'s> {
    /// `ready_by`: the time at which the process is killed if it is not ready.
    pub(super) fn new(
        shared: &'s Supervised,
        running: &'s Running,
        rules: Rules,
        ready_by: Option<Instant>,
    ) -> Listener<'s> {
        Listener {
            shared,
            running,
            session: Session::process_worker(&rules.limits, rules.stdin.is_some(), rules.is_profiled),
            rules,
            kill_at: ready_by,
            interrupt: Interrupt::NotAsked,
            course: Course::UnderWay,
            outcome: None,
            reason: None,
            feeder: None,
        }
    }
}

impl Listener<'_> {
    /// Sends the process its task, and handles what the process says until its socket closes.
    pub(super) fn listen(&mut self, socket: OwnedFd, request: Outgoing) {
        // It is sent without waiting: a process that is not ready does not read, and its time must still be
        // looked at.
        let mut outgoing = request;
        let mut connection = Connection::new(socket, Caps::of_worker(&self.rules.limits));
        loop {
            // Before the wait: frames that were read together with an earlier one wake no poll.
            match self.hear(&mut connection) {
                Ok(()) => {}
                Err(RecvError::Closed | RecvError::Io(_)) => return,
                Err(RecvError::Violation(violation)) => return self.end_for_violation(&violation),
            }
            match self.wait(&connection, !outgoing.is_empty()) {
                Woken::Socket => {
                    // A process that takes no more is ending. `wait` notices that.
                    let _ending = outgoing.send(connection.carrier());
                    match connection.fill() {
                        Ok(0) => return,
                        Ok(_) => {}
                        // The socket was ready for sending only.
                        Err(RecvError::Io(e)) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(RecvError::Closed | RecvError::Io(_)) => return,
                        Err(RecvError::Violation(violation)) => return self.end_for_violation(&violation),
                    }
                }
                // Returning closes the connection, and that ends the process.
                Woken::Interrupt if self.running.hang_up.load(Ordering::SeqCst) => {
                    self.reason.get_or_insert_with(|| MAY_NOT_SIGNAL.to_owned());
                    return;
                }
                Woken::Interrupt => match self.running.fault.get() {
                    Some(fault) => return self.end_distrusted(fault.clone()),
                    None => self.interrupt(),
                },
                Woken::Fed => {
                    if !self.feed(&mut outgoing) {
                        self.running.child.kill();
                        return;
                    }
                    // A process that takes no more is ending. `wait` notices that.
                    let _ending = outgoing.send(connection.carrier());
                }
                Woken::Ended => {
                    // Only what is there now: a process of the same group may hold the other end and write
                    // on.
                    drain(&mut connection);
                    let _last_words = self.hear(&mut connection);
                    return;
                }
                // The reason is known: the process has given it.
                Woken::Late if self.course == Course::GaveUp => {
                    self.running.child.kill();
                    return;
                }
                Woken::Late if self.kill_at.is_some_and(|at| at <= clock::now()) => {
                    if self.session.is_ready() {
                        (self.course, self.reason) = (Course::TimedOut, None);
                    } else {
                        self.reason = Some(format!("it was not ready after {:?}", self.rules.start_timeout));
                    }
                    self.running.child.kill();
                    return;
                }
                Woken::Late => {
                    self.interrupt = Interrupt::Signaled;
                    self.running.signal(Signal::INT);
                }
            }
        }
    }

    /// Drops the functions that take the output. Their destructors may panic.
    pub(super) fn drop_sinks(&mut self) {
        drop(std::mem::take(&mut self.rules.sinks));
    }

    /// Sets the reason of the end: nothing that the process has said counts any more.
    pub(super) fn set_reason(&mut self, reason: &str) {
        self.reason = Some(reason.to_owned());
    }

    /// The process has said that it cannot do its task. It only has to end, for which it has little time.
    fn give_up(&mut self) {
        self.course = Course::GaveUp;
        // Never later than before: giving up must not win time.
        let until = clock::now() + LAST_BREATH;
        self.kill_at = Some(self.kill_at.map_or(until, |at| at.min(until)));
    }

    /// The process broke the protocol: an attacker may have taken it over, and nothing more that it says
    /// counts.
    fn end_for_violation(&mut self, violation: &Violation) {
        self.end_distrusted(format!("protocol error: {violation}"));
    }

    fn end_distrusted(&mut self, reason: String) {
        self.reason = Some(reason);
        self.running.child.kill();
    }

    /// Waits until there is something to do.
    fn wait(&self, connection: &Connection<OwnedFd>, wants_to_send: bool) -> Woken {
        let flags = if wants_to_send { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        loop {
            let until = self.kill_at.into_iter().chain(self.signal_at()).min();
            let left = until.map(|until| until.saturating_duration_since(clock::now()));
            // Without a feeder, the descriptor of the interrupt is polled twice.
            let fed = self.feeder.as_ref().map_or(&self.running.interrupt, |feeder| &feeder.has_piece);
            let mut fds = [
                PollFd::new(connection.carrier(), flags),
                PollFd::new(&self.running.interrupt, PollFlags::IN),
                PollFd::new(&self.running.child, PollFlags::IN),
                PollFd::new(fed, PollFlags::IN),
            ];
            let polled = clock::poll(&mut fds, left);
            let [_socket, interrupt, ended, fed] = fds.map(|fd| !fd.revents().is_empty());
            match polled {
                // First, because a guest that talks all the time has no more time than others.
                Ok(_) if until.is_some_and(|until| until <= clock::now()) => return Woken::Late,
                Ok(0) => {}
                // Before the socket: another process may hold that end of it, and talk on.
                Ok(_) if ended => return Woken::Ended,
                Ok(_) if interrupt => return Woken::Interrupt,
                Ok(_) if fed => return Woken::Fed,
                Ok(_) => return Woken::Socket,
                Err(_) => return Woken::Ended,
            }
        }
    }

    /// Has the feeder read the next piece of the standard input.
    fn ask(&mut self) {
        // The source is read only when the guest asks: a program that starts a process must not lose input
        // that the guest never wants.
        if let Some(source) = self.rules.stdin.take() {
            match Feeder::new(source) {
                Ok(feeder) => self.feeder = Some(feeder),
                Err(e) => {
                    self.reason = Some(format!("its standard input cannot be read: {e}"));
                    self.running.child.kill();
                }
            }
        }
        if let Some(feeder) = &mut self.feeder {
            feeder.ask();
        }
    }

    /// Sends the process the piece that was read. `false`: the standard input cannot be read.
    fn feed(&mut self, outgoing: &mut Outgoing) -> bool {
        match self.feeder.as_mut().and_then(Feeder::take) {
            Some(Ok(piece)) => {
                self.session.fed();
                frame::write(outgoing.buffer(), Kind::Input, |out| out.extend_from_slice(&piece))
            }
            Some(Err(e)) => self.reason = Some(format!("its standard input cannot be read: {e}")),
            None => {}
        }
        self.reason.is_none()
    }

    /// Notes a call of `interrupt`.
    fn interrupt(&mut self) {
        let _count = rustix::io::read(&self.running.interrupt, &mut [0; 8]);
        // Further calls must not prolong the grace.
        if self.interrupt == Interrupt::NotAsked {
            self.interrupt = Interrupt::Asked;
            if self.session.is_ready() {
                self.begin_grace();
            }
        }
    }

    /// Sets the time of the signal, if the process was asked to stop. A grace without end has none.
    fn begin_grace(&mut self) {
        if let (Interrupt::Asked, Some(at)) =
            (self.interrupt, clock::now().checked_add(self.rules.limits.grace))
        {
            self.interrupt = Interrupt::SignalAt(at);
        }
    }

    /// The time at which the process gets `SIGINT`.
    fn signal_at(&self) -> Option<Instant> {
        match self.interrupt {
            Interrupt::SignalAt(at) => Some(at),
            Interrupt::NotAsked | Interrupt::Asked | Interrupt::Signaled => None,
        }
    }

    /// The process has taken a step. The next one may take as long as a task may.
    fn has_gone_further(&mut self) {
        let allowed = self.rules.limits.time.map(|time| time.saturating_add(self.rules.limits.grace));
        self.kill_at = allowed.and_then(|time| clock::now().checked_add(time));
    }

    /// Handles the whole frames that have come.
    fn hear(&mut self, connection: &mut Connection<OwnedFd>) -> Result<(), RecvError> {
        while let Some(frame) = connection.next()? {
            match self.session.on(frame)? {
                Heard::Greeted => self.running.hear_hello(),
                Heard::Unconfined(missing) => {
                    if let Err(reason) = self.rules.sandbox.judge(missing) {
                        self.reason = Some(reason);
                    }
                }
                Heard::Refused(why) => {
                    self.reason = Some(why.into_reason());
                    self.give_up();
                }
                Heard::Said(said) => self.take(said, frame.payload),
            }
        }
        Ok(())
    }

    /// Notes what the process says. `payload`: that of the frame.
    fn take(&mut self, said: FromProcessWorker, payload: &[u8]) {
        match said {
            FromProcessWorker::Ready => {
                self.has_gone_further();
                self.begin_grace();
            }
            FromProcessWorker::InitFailed(failure) => {
                self.outcome = Some(Err(failure.into()));
                self.give_up();
            }
            FromProcessWorker::Returned => {
                // Kept at once: the process may be killed in its `shutdown`, and its result counts all the
                // same.
                self.shared.lock().result = Some(payload.to_vec());
                self.outcome = Some(Ok(()));
                self.has_gone_further();
            }
            FromProcessWorker::Failed(failure) => {
                self.outcome = Some(Err(failure.into()));
                self.has_gone_further();
            }
            // A thread that was told to end drops its task. The reason of its end is known here.
            FromProcessWorker::Cancelled if self.session.is_ready() => self.has_gone_further(),
            FromProcessWorker::Cancelled => self.give_up(),
            FromProcessWorker::Stdout => {
                pass(payload, &mut self.rules.sinks.stdout, || self.shared.lock(), |s| &mut s.stdout)
            }
            FromProcessWorker::Stderr => {
                pass(payload, &mut self.rules.sinks.stderr, || self.shared.lock(), |s| &mut s.stderr)
            }
            FromProcessWorker::Figures | FromProcessWorker::BatchDone => {}
            FromProcessWorker::WantsInput => self.ask(),
            FromProcessWorker::Profile => self.shared.lock().profile.extend_from_slice(payload),
        }
    }

    pub(super) fn status(self, exit: Exit) -> ExitStatus {
        let exitcode = match (exit.exitcode(), &self.outcome) {
            // The kernel's word first: it cannot be forged.
            (Some(code), _) => code,
            // Other code has reaped the process: what the process said itself counts.
            (None, Some(Ok(()))) => 0,
            (None, Some(Err(TaskError::Exited { code }))) => (code & 0xff).cast_signed(),
            (None, Some(Err(_))) => 1,
            (None, None) => ExitStatus::UNKNOWN,
        };
        let reason = match (self.outcome, self.reason, exit) {
            _ if self.course == Course::TimedOut => ExitReason::Failed(TaskError::Limit {
                limit: Limit::Time,
                message: format!(
                    "{}; it did not stop by itself: the process was {}",
                    self.rules.limits.reached(Limit::Time),
                    self.rules.method.last_resort()
                ),
            }),
            (_, Some(reason), _) => ExitReason::Failed(TaskError::Broken { reason }),
            (Some(Err(error)), None, _) => ExitReason::Failed(error),
            // This may have been after the target returned, while `shutdown` ran.
            (_, None, Exit::Signal(signal)) => ExitReason::Signaled(signal),
            (Some(Ok(())), None, Exit::Code(_) | Exit::Unknown) => ExitReason::Returned,
            (None, None, Exit::Code(_)) => ExitReason::Exited(exitcode),
            (None, None, Exit::Unknown) => ExitReason::Unknown,
        };
        ExitStatus { exitcode, reason }
    }
}

/// Why a wait has ended.
enum Woken {
    /// There is something to read, or room to send.
    Socket,
    /// [`Process::interrupt`](crate::Process::interrupt) was called.
    Interrupt,
    /// The feeder has a piece of the standard input.
    Fed,
    /// The process has ended. Its last messages are in the socket.
    Ended,
    /// The time of a signal or a kill has come.
    Late,
}

/// Reads the bytes that are there now, and no more.
fn drain(connection: &mut Connection<OwnedFd>) {
    let mut left = rustix::io::ioctl_fionread(connection.carrier()).unwrap_or(0);
    while left > 0 {
        match connection.fill() {
            Ok(read @ 1..) => left = left.saturating_sub(read as u64),
            Ok(0) | Err(_) => break,
        }
    }
}

/// Passes output on to the function that takes it, or keeps it.
fn pass<'s>(
    bytes: &[u8],
    sink: &mut Option<OutputFn>,
    lock: impl FnOnce() -> MutexGuard<'s, ProcessReport>,
    kept: impl FnOnce(&mut ProcessReport) -> &mut Vec<u8>,
) {
    match sink {
        Some(sink) => sink(bytes),
        None => {
            let mut state = lock();
            let kept = kept(&mut state);
            let room = KEPT_OUTPUT.saturating_sub(kept.len()).min(bytes.len());
            // The beginning is kept, where most programs say what they are about to do.
            kept.extend_from_slice(&bytes[..room]);
        }
    }
}
