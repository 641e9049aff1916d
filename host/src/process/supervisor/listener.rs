//! Listening to a process: what comes of its words, its clock, and its standard input.

use std::os::fd::OwnedFd;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use crate::clock;
use crate::context::StartMethod;
use crate::error::TaskError;
use crate::process::feeder::{self, Feeder};
use crate::process::{ExitReason, ExitStatus, Known, OutputFn, OutputFns, Running, Supervised};
use crate::protocol::connection::{Connection, RecvError};
use crate::protocol::frame::{self, Caps, Kind, Violation};
use crate::protocol::session::{FromProcessWorker, Heard, ProcessWorkerRole, Session};
use crate::spec::{Exit, Limit, Limits, Sandbox};

/// How long a process that has closed its connection may take to end: it has nothing to do any more.
pub(super) const LAST_BREATH: Duration = Duration::from_secs(5);

/// Bytes of a process's output that are kept when nobody takes them as they come.
const KEPT_OUTPUT: usize = 1 << 20;

/// How a process is ended by a program that has changed its user since it started it.
const MAY_NOT_SIGNAL: &str =
    "it was ended by closing its connection: this program may not send it signals any more";

/// What a process is held to.
pub(super) struct Rules {
    /// Where its standard input comes from, if it asks for that.
    pub(super) stdin: Option<feeder::Source>,
    pub(super) limits: Limits,
    pub(super) sinks: OutputFns,
    pub(super) sandbox: Sandbox,
    pub(super) method: StartMethod,
    pub(super) start_timeout: Duration,
    /// It gives a profile at its end.
    pub(super) is_profiled: bool,
}

/// Listens to a process until its socket closes.
pub(super) struct Listener<'s> {
    shared: &'s Supervised,
    running: &'s Running,
    rules: Rules,
    /// What it may say.
    session: Session<ProcessWorkerRole>,
    /// When it is killed unless it has gone further by then.
    kill_at: Option<Instant>,
    /// When it gets `SIGINT`.
    signal_at: Option<Instant>,
    /// It has been asked to stop.
    interrupted: bool,
    /// It has said that it cannot do its task, and why.
    gave_up: bool,
    outcome: Option<Result<(), TaskError>>,
    /// It was killed because its task, or its `shutdown`, took too long.
    timed_out: bool,
    /// Why it did not run, if neither the guest nor a signal is to blame.
    reason: Option<String>,
    /// What reads its standard input, since it has asked for some.
    feeder: Option<Feeder>,
}

impl<'s> Listener<'s> {
    /// `ready_by`: when the process is killed if it is not ready.
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
            signal_at: None,
            interrupted: false,
            gave_up: false,
            outcome: None,
            timed_out: false,
            reason: None,
            feeder: None,
        }
    }
}

impl Listener<'_> {
    /// Gives it its task and hears what comes of it.
    pub(super) fn listen(&mut self, socket: OwnedFd, request: Vec<u8>) {
        let mut outgoing = Outgoing { bytes: request, sent: 0 };
        let mut connection = Connection::new(socket, Caps::of_worker(&self.rules.limits));
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
                    self.timed_out = self.session.is_ready();
                    let late = || format!("it was not ready after {:?}", self.rules.start_timeout);
                    self.reason = (!self.timed_out).then(late);
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

    /// Lets go of the functions that take its output. They may panic.
    pub(super) fn drop_sinks(&mut self) {
        drop(std::mem::take(&mut self.rules.sinks));
    }

    /// Nothing of what the process has said counts any more, for this reason.
    pub(super) fn blame(&mut self, reason: &str) {
        self.reason = Some(reason.to_owned());
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
            let polled = clock::poll(&mut fds, left);
            let [_socket, interrupt, ended, fed] = fds.map(|fd| !fd.revents().is_empty());
            match polled {
                // A guest that talks all the time has no more time than others.
                Ok(_) if until.is_some_and(|until| until <= clock::now()) => return Woken::Late,
                Ok(0) => {}
                // First: something else may hold its end of the socket, and talk on.
                Ok(_) if ended => return Woken::Ended,
                Ok(_) if interrupt => return Woken::Interrupt,
                Ok(_) if fed => return Woken::Fed,
                Ok(_) => return Woken::Socket,
                Err(_) => return Woken::Ended,
            }
        }
    }

    /// Has the next piece of its standard input read.
    fn ask(&mut self) {
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

    /// Sends it what has come for it. `false`: that cannot be read.
    fn feed(&mut self, outgoing: &mut Outgoing) -> bool {
        match self.feeder.as_mut().and_then(Feeder::take) {
            Some(Ok(piece)) => {
                self.session.fed();
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
            self.signal_at = if self.session.is_ready() {
                clock::now().checked_add(self.rules.limits.grace)
            } else {
                None
            };
        }
    }

    /// It has gone a step further: the next may take as long as a task may.
    fn has_gone_further(&mut self) {
        let allowed = self.rules.limits.time.map(|time| time.saturating_add(self.rules.limits.grace));
        self.kill_at = allowed.and_then(|time| clock::now().checked_add(time));
    }

    /// Handles what has come.
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

    /// Takes note of what the process may say. `payload`: of the frame in which it did.
    fn take(&mut self, said: FromProcessWorker, payload: &[u8]) {
        match said {
            FromProcessWorker::Ready => {
                self.has_gone_further();
                let grace = clock::now().checked_add(self.rules.limits.grace);
                self.signal_at = grace.filter(|_| self.interrupted);
            }
            FromProcessWorker::InitFailed(failure) => {
                self.outcome = Some(Err(failure.into()));
                self.give_up();
            }
            FromProcessWorker::Returned => {
                self.shared.lock().result = Some(payload.to_vec());
                self.outcome = Some(Ok(()));
                self.has_gone_further();
            }
            FromProcessWorker::Failed(failure) => {
                self.outcome = Some(Err(failure.into()));
                self.has_gone_further();
            }
            // A thread that was told to end drops its task. How it ended is known here.
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
                    self.rules.limits.reached(Limit::Time),
                    self.rules.method.last_resort()
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

/// What has not been sent yet. It is sent without waiting: a process that is not ready does not read, and
/// its time may be over.
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

fn pass<'s>(
    bytes: &[u8],
    sink: &mut Option<OutputFn>,
    lock: impl FnOnce() -> MutexGuard<'s, Known>,
    kept: impl FnOnce(&mut Known) -> &mut Vec<u8>,
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
