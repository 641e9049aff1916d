//! The state of one process: what its handle, its supervisor and the list of children share.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::feeder;
use super::status::{ExitStatus, NotStarted};
use crate::condition::Condition;
use crate::context::{Child, StartMethod};
use crate::module::Module;
use crate::policy::Granted;
use crate::spec::{Call, Limits, ProfilingStrategy};
use crate::sys::{self, CoordinatorPage};

/// Gets output of the guest as it comes.
pub(super) type OutputFn = Box<dyn FnMut(&[u8]) + Send>;

/// What only the start needs. It is dropped with the start.
pub(super) struct Pending {
    pub(super) module: Module,
    pub(super) call: Call,
    /// The call of the module's own `init`, if it exports one.
    pub(super) initializer: Option<Call>,
    pub(super) limits: Limits,
    pub(super) granted: Granted,
    pub(super) input: Vec<u8>,
    pub(super) stdin: Option<feeder::Source>,
    pub(super) sinks: OutputFns,
    pub(super) method: StartMethod,
    pub(super) start_timeout: Duration,
    pub(super) profile: Option<ProfilingStrategy>,
}

/// The functions that get the output as it comes.
#[derive(Default)]
pub(super) struct OutputFns {
    pub(super) stdout: Option<OutputFn>,
    pub(super) stderr: Option<OutputFn>,
}

/// What the handle and the supervisor of a process share.
pub(super) struct Supervised {
    pub(super) name: String,
    pub(super) daemon: AtomicBool,
    pub(super) known: Mutex<ProcessReport>,
    pub(super) changed: Condition,
    /// The pid of the program that made this. A forked child has a copy of the handle, and must not use it.
    pub(super) home: u32,
}

/// What is known of the process so far.
pub(super) struct ProcessReport {
    pub(super) state: ProcessState,
    pub(super) result: Option<Vec<u8>>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) profile: Vec<u8>,
}

/// The states of a process, in their order.
pub(super) enum ProcessState {
    Initial,
    Started(Arc<Running>),
    Stopped(ExitStatus),
}

/// A process while it runs.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) page: CoordinatorPage,
    /// Wakes the supervisor: the process is to stop.
    pub(super) interrupt: OwnedFd,
    /// `terminate` was called.
    pub(super) terminated: AtomicBool,
    /// This program may not send it signals any more: the supervisor is to close the connection instead.
    pub(super) hang_up: AtomicBool,
    /// How it has broken the protocol on its second socket.
    pub(super) fault: OnceLock<String>,
}

impl Running {
    /// A process that was just executed ignores `SIGTERM` if this program does. [`Running::hear_hello`] sends
    /// it again.
    pub(super) fn terminate(&self) {
        // Before the signal: a process that begins to listen in between sees one of the two.
        self.terminated.store(true, Ordering::SeqCst);
        self.signal(Signal::TERM);
    }

    /// The exchange does not trust the process any more. The supervisor is to end it.
    pub(super) fn report_fault(&self, reason: String) {
        let _first_reason = self.fault.set(reason);
        self.wake_supervisor();
    }

    fn wake_supervisor(&self) {
        let _count = rustix::io::write(&self.interrupt, &1u64.to_ne_bytes());
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Sends a signal that ends the process. Where that is not permitted, the supervisor closes its
    /// connection.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.child.signal(signal) {
            // The supervisor closes the connection, since it owns it: here the descriptor might be in use.
            self.hang_up.store(true, Ordering::SeqCst);
            self.wake_supervisor();
        }
    }

    /// The process handles signals from now on.
    pub(super) fn hear_hello(&self) {
        if self.terminated.load(Ordering::SeqCst) {
            self.child.signal(Signal::TERM);
        }
    }
}

impl Supervised {
    pub(super) fn new(name: String, daemon: bool) -> Supervised {
        Supervised {
            name,
            daemon: daemon.into(),
            known: Mutex::new(ProcessReport {
                state: ProcessState::Initial,
                result: None,
                stdout: Vec::new(),
                stderr: Vec::new(),
                profile: Vec::new(),
            }),
            changed: Condition::default(),
            home: sys::home(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ProcessReport> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_daemon(&self) -> bool {
        self.daemon.load(Ordering::Relaxed)
    }

    pub(super) fn is_in_fork(&self) -> bool {
        self.home != sys::home()
    }

    /// The state. `None` in a forked child, where another thread's lock may be held for ever.
    pub(super) fn known(&self) -> Option<MutexGuard<'_, ProcessReport>> {
        (!self.is_in_fork()).then(|| self.lock())
    }

    /// Waits for the end of the process. `None`: the deadline came first.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<Option<ExitStatus>, NotStarted> {
        let state = self.known().ok_or(NotStarted)?;
        let runs = |known: &ProcessReport| matches!(known.state, ProcessState::Started(_));
        match &self.changed.wait_while(state, deadline, runs).state {
            ProcessState::Initial => Err(NotStarted),
            ProcessState::Stopped(status) => Ok(Some(status.clone())),
            ProcessState::Started(_) => Ok(None),
        }
    }

    /// Calls `act` with the process if it runs.
    pub(super) fn with_running(&self, act: impl FnOnce(&Running)) -> Result<(), NotStarted> {
        match &self.known().ok_or(NotStarted)?.state {
            ProcessState::Initial => Err(NotStarted),
            ProcessState::Started(running) => {
                act(running);
                Ok(())
            }
            ProcessState::Stopped(_) => Ok(()),
        }
    }

    pub(super) fn kill(&self) {
        let _not_started = self.with_running(Running::kill);
    }
}
