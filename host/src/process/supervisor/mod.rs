//! The thread behind a started process: it gives the process its task, listens to it ([`listener`]), ends it
//! when its time is over, and reaps it.
//!
//! This must be the thread that started the process, or hold the fork server that did: the kernel sends the
//! process its death signal when that *thread* ends.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod listener;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Instant;

use rustix::event::EventfdFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions};

use self::listener::{Listener, Rules};
use super::{Pending, ProcessState, Running, Supervised, children};
use crate::context::server::{ForkServer, NotForked};
use crate::context::{Child, END_TIME, LAST_BREATH, StartError, StartMethod, spawn, thread};
use crate::exchange::member::{Member, Notes, Site};
use crate::policy::Granted;
use crate::protocol::message::{Identity, Setup, ToWorker};
use crate::protocol::outgoing::Outgoing;
use crate::spec::{Call, Isolation};
use crate::{clock, sys};

/// What [`Process::start`](super::Process::start) learns.
pub(super) struct StartedProcess {
    pub(super) pid: u32,
    pub(super) sentinel: OwnedFd,
}

/// Starts the process, and the thread that looks after it. If the start fails, `pending` comes back, so that
/// the caller can start it again.
pub(super) fn start(shared: &Arc<Supervised>, pending: Box<Pending>) -> Result<StartedProcess, FailedStart> {
    let ready_by = clock::now().checked_add(pending.start_timeout);
    // On the caller's thread: a hand-over to another thread and back would cost two wake-ups.
    let forked = match Born::fork(&shared.name, &pending, ready_by) {
        Ok(forked) => forked,
        Err(e) => return Err((e, Some(pending))),
    };
    // The thread is made while a forked process gets ready. An executed process must be a child of the
    // thread.
    let ((give, given), (tell, told)) = (mpsc::channel(), mpsc::channel());
    let supervised = shared.clone();
    let live = move || {
        children::supervise();
        let (task, born) = match given.recv() {
            Err(mpsc::RecvError) => return,
            Ok(ToSupervise::Forked(forked)) => *forked,
            Ok(ToSupervise::ToSpawn(pending)) => match Born::spawn(&supervised.name, &pending) {
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
        // The process is there already, and has no thread that would reap it.
        forked.iter().for_each(|(born, _)| born.give_up());
        return Err((no_thread(source), Some(pending)));
    }
    match forked {
        Some((born, started)) => {
            let task = born.announce(shared, *pending);
            let _it_waits_for_this = give.send(ToSupervise::Forked(Box::new((task, born))));
            Ok(started)
        }
        None => {
            let _it_waits_for_this = give.send(ToSupervise::ToSpawn(pending));
            told.recv().unwrap_or_else(|gone| Err((no_thread(std::io::Error::other(gone)), None)))
        }
    }
}

/// Why there is no process, and the settings that it would have needed, unless these are lost.
pub(super) type FailedStart = (StartError, Option<Box<Pending>>);

/// What the thread begins with.
enum ToSupervise {
    Forked(Box<(Task, Born)>),
    ToSpawn(Box<Pending>),
}

/// The task of a started process, and the limits that the process is held to.
struct Task {
    call: Call,
    input: Vec<u8>,
    rules: Rules,
}

/// The thread's work, once the process exists.
fn supervise(shared: &Arc<Supervised>, task: Task, born: Born, ready_by: Option<Instant>) {
    let Born { running, member, socket, unsent, server } = born;
    let Task { call, input, rules } = task;
    let mut listener = Listener::new(shared, &running, rules, ready_by);
    let request = request(unsent, call, input);
    // The end must be announced to `join`, whatever the functions that take the output do.
    let listened = std::panic::catch_unwind(AssertUnwindSafe(|| listener.listen(socket, request)));
    let _panicked = std::panic::catch_unwind(AssertUnwindSafe(|| listener.drop_sinks()));
    if listened.is_err() {
        listener.set_reason("the function that takes its output panicked");
        running.child.kill();
    }
    await_end(&running.child, &mut listener);
    end_descendants(&running.child);
    let exit = running.child.wait();
    // Before the end is told: what the process held is then free, and the other ends of its pipes know.
    drop(member);
    let status = listener.status(exit);
    // When `join` returns, nothing of the process is left: no descriptor, and no fork server without another
    // use.
    drop((running, server));
    // Before `join` returns, so that `active_children` does not list a process that has been joined.
    children::unregister(shared);
    shared.lock().state = ProcessState::Stopped(status);
    shared.changed.announce();
}

/// Waits for the end of a process whose connection is closed.
fn await_end(child: &Child, listener: &mut Listener) {
    if !clock::await_readable(child, clock::now() + LAST_BREATH) {
        // A process that goes on all the same is no worker of ours any more.
        listener.set_reason("it closed its connection and went on");
        child.kill();
        // The closed connection ends the process where this program may not kill it.
        clock::await_readable(child, clock::now() + END_TIME);
    }
}

/// A process that has been started.
struct Born {
    running: Arc<Running>,
    /// What the process is to the exchange, if its guest may use shared objects.
    member: Option<(Member, Site)>,
    socket: OwnedFd,
    /// The part of its setup that the socket has not taken yet.
    unsent: Outgoing,
    /// The fork server that forked it, kept until the process is reaped.
    server: Option<Arc<ForkServer>>,
}

impl Born {
    /// Forks the process, if that is its start method. `None`: it is another one, or no zygote can fork. Then
    /// the process is executed, and an executed process tells what is wrong.
    fn fork(
        name: &str,
        pending: &Pending,
        until: Option<Instant>,
    ) -> Result<Option<(Born, StartedProcess)>, StartError> {
        if pending.method != StartMethod::Forkserver {
            return Ok(None);
        }
        let Pending { module, limits, granted, .. } = pending;
        let failed = |source| StartError::Spawn { program: "a thread".to_owned(), source };
        let server = module.fork_servers().get(limits, granted).map_err(failed)?;
        match server.fork(module.launch(), &setup(pending), granted, &identity(name), until) {
            Ok(started) => Born::new(name, granted, started, Some(server)).map(Some),
            Err(NotForked::Failed(error)) => Err(error),
            Err(NotForked::NoZygote) => Ok(None),
        }
    }

    /// Executes the process, or starts a thread instead. The caller is the thread that will look after it.
    fn spawn(name: &str, pending: &Pending) -> Result<(Born, StartedProcess), StartError> {
        let Pending { module, granted, method, .. } = pending;
        let launch = module.launch();
        let setup = Setup { identity: Some(identity(name)), ..setup(pending) };
        let started = match method {
            StartMethod::Thread => thread::start(launch, setup, granted),
            StartMethod::Spawn | StartMethod::Forkserver => spawn::start(launch, setup, granted),
        };
        Born::new(name, granted, started?, None)
    }

    fn new(
        name: &str,
        granted: &Granted,
        started: spawn::Started,
        server: Option<Arc<ForkServer>>,
    ) -> Result<(Born, StartedProcess), StartError> {
        let spawn::Started { child, socket, exchange, page, unsent } = started;
        // The process exists by now. Each failure in here must end it, so that all of them come to one place.
        let prepare = || {
            let interrupt =
                sys::above_stdio(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)?;
            rustix::io::ioctl_fionbio(&socket, true)?;
            Ok((interrupt, child.as_fd().try_clone_to_owned()?))
        };
        let failed = |source| StartError::Spawn { program: "a worker".to_owned(), source };
        let (interrupt, sentinel) = match prepare() {
            Ok(prepared) => prepared,
            Err(source) => {
                child.kill_or_shut(&socket);
                child.wait();
                return Err(failed(source));
            }
        };
        let started = StartedProcess { pid: child.pid(), sentinel };
        let (terminated, hang_up, fault) = (false.into(), false.into(), OnceLock::new());
        let running = Arc::new(Running { child, page, interrupt, terminated, hang_up, fault });
        let mut born = Born { running, member: None, socket, unsent, server };
        match exchange.map(|exchange| born.join(name, granted, exchange)).transpose() {
            Ok(member) => born.member = member,
            Err(source) => {
                born.give_up();
                return Err(failed(source));
            }
        }
        Ok((born, started))
    }

    /// Makes a process with a second socket known to the exchange.
    fn join(&self, name: &str, granted: &Granted, socket: OwnedFd) -> io::Result<(Member, Site)> {
        let site = Site::new(granted.shares().clone(), 1);
        let running = Arc::downgrade(&self.running);
        let notes = Notes {
            // It has no other task that could wait with it.
            on_stall: Box::new(|| {}),
            on_fault: Box::new(move |reason| {
                running.upgrade().iter().for_each(|it| it.report_fault(reason.clone()))
            }),
        };
        Ok((site.join(socket, self.running.page.exchange(), name, notes)?, site))
    }

    /// Makes the start known: from now on the process counts as running. The module is dropped here, as
    /// CPython drops its reference to the target with the start.
    fn announce(&self, shared: &Arc<Supervised>, pending: Pending) -> Task {
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
        // Before the thread runs: it may see the end at once, and the states must come in their order.
        shared.lock().state = ProcessState::Started(self.running.clone());
        children::register(shared);
        let is_profiled = profile.is_some_and(|profile| profile.interval().is_some());
        let sandbox = module.launch().program.sandbox;
        let rules = Rules { stdin, limits, sinks, sandbox, method, start_timeout, is_profiled };
        Task { call, input, rules }
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

/// The message with the one task, behind the bytes that are not sent yet.
fn request(mut request: Outgoing, call: Call, input: Vec<u8>) -> Outgoing {
    request.say(&ToWorker::Plan { id: 1, call });
    request.one_record(1, input);
    request
}

/// Kills what is left in the process's group when the process has ended. No guest can start a process; this
/// is against a worker that a guest has taken over.
fn end_descendants(child: &Child) {
    let (pid, pidfd) = match child {
        Child::Process { pid, pidfd, .. } => (pid, pidfd),
        #[cfg(feature = "worker")]
        Child::Thread(_) => return,
    };
    // Only before the process is reaped: until then no other process has its number, and no other group.
    let unreaped = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    if let Ok(Some(_)) =
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), unreaped))
    {
        // There is no such group if it has ended before it led one.
        let _none = rustix::process::kill_process_group(*pid, Signal::KILL);
    }
}
