//! A started worker that this program kills and reaps: a child process, or a thread that is treated as one.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::spec::Exit;
use crate::{clock, sys};

/// A started worker.
#[derive(Debug)]
pub(crate) enum Child {
    /// A child process. `pidfd` never names another process, even if the kernel reuses the process id. `home`
    /// is the pid of the program that started it; a forked copy of this handle must not touch the child.
    Process { pid: Pid, pidfd: Arc<OwnedFd>, home: u32 },
    /// A thread of this process.
    #[cfg(feature = "worker")]
    Thread(Arc<crate::worker::Life>),
}

impl Child {
    /// Takes over the child `pid`, which has not been reaped yet. Fails if `pid` is not a child of this
    /// process: then the caller's number is wrong, or the process that named it lies.
    pub(crate) fn open(pid: i32) -> io::Result<Child> {
        let pid =
            Pid::from_raw(pid).filter(|p| p.as_raw_nonzero().get() > 1).ok_or(io::ErrorKind::InvalidInput)?;
        // Not reaped yet, so the id still names this child.
        let pidfd = sys::above_stdio(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)?;
        // `waitid` fails if this is not a child. `NOWAIT` leaves a child that has ended to be reaped later.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options)?;
        let pidfd = Arc::new(pidfd);
        register(&mut living(), pid, &pidfd);
        Ok(Child::Process { pid, pidfd, home: sys::home() })
    }

    /// Takes over a child that `zygote` says it has forked. A compromised zygote may name any process of the
    /// machine. A process is taken only if it is a child of this program, was born in the session that the
    /// zygote leads, and is not registered yet.
    pub(crate) fn take_from(pid: i32, zygote: &Child) -> Result<Child, NotTaken> {
        let foreign = NotTaken::Foreign("the zygote named a process that it has not forked");
        let session = match zygote {
            Child::Process { pid, .. } => pid,
            #[cfg(feature = "worker")]
            Child::Thread(_) => return Err(foreign),
        };
        let Some(pid) = Pid::from_raw(pid.max(0)) else { return Err(foreign) };
        // Never the zygote itself, the init process or this program.
        if pid == *session || pid.as_raw_nonzero().get() == 1 || pid == rustix::process::getpid() {
            return Err(foreign);
        }
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
        let pidfd = sys::above_stdio(pidfd)?;
        let its_session = session_of_child(pid, &pidfd)?;
        let mut living = living();
        // A zygote that names a worker twice would get two owners for one process, and tasks of the one would
        // be charged to the other.
        let is_known = living.get(&pid).is_some_and(|pidfd| pidfd.strong_count() > 0);
        if its_session != *session || is_known {
            return Err(foreign);
        }
        let pidfd = Arc::new(pidfd);
        register(&mut living, pid, &pidfd);
        Ok(Child::Process { pid, pidfd, home: sys::home() })
    }

    /// Ends the children of `thread` that were born in this process's session and are not registered. This
    /// process has ended and is not reaped yet, so its session id cannot belong to another session.
    pub(super) fn end_session(&self, thread: Pid) {
        // Several rounds, because a child may fork while others are killed. A cap and a deadline, because a
        // process that forks without end, or that this program may not kill since it has changed its user,
        // must not hold this thread.
        let until = clock::now() + END_TIME;
        for _ in 0..SWEEPS {
            // Some kernels lack this file. The children then live until this program ends.
            let children =
                std::fs::read_to_string(format!("/proc/self/task/{}/children", thread.as_raw_nonzero()));
            let children = children.unwrap_or_default();
            let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
            let found: Vec<Child> = pids.filter_map(|pid| Child::take_from(pid, self).ok()).collect();
            if found.is_empty() || clock::now() >= until {
                return;
            }
            end_all(&found, until);
        }
    }

    /// Waits until the process has ended, and does not reap it. Returns whether it has ended within
    /// [`END_TIME`]. The caller has killed the process or closed its connection before. In a forked child of
    /// this program the answer is `true` at once, because the process is not that child's own.
    pub(crate) fn await_end(&self) -> bool {
        self.await_end_until(clock::now() + END_TIME)
    }

    /// As [`await_end`](Self::await_end), until that time.
    fn await_end_until(&self, until: Instant) -> bool {
        let pidfd = match self {
            Child::Process { home, .. } if *home != sys::home() => return true,
            Child::Process { pidfd, .. } => pidfd,
            #[cfg(feature = "worker")]
            Child::Thread(_) => return true,
        };
        clock::await_readable(pidfd, until)
    }

    /// The id of the process that it runs in.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Child::Process { pid, .. } => pid.as_raw_nonzero().get().unsigned_abs(),
            #[cfg(feature = "worker")]
            Child::Thread(_) => std::process::id(),
        }
    }

    /// Sends a signal. Returns `false` only if this program is not allowed to send it; a process that has
    /// ended counts as told. A thread gets no signal, but its life counts as ended. In a forked child of this
    /// program nothing happens.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        match self {
            Child::Process { home, .. } if *home != sys::home() => true,
            Child::Process { pidfd, .. } => {
                // ESRCH is no failure: the process has ended, and its exit code is already its own.
                !matches!(rustix::process::pidfd_send_signal(pidfd, signal), Err(Errno::PERM | Errno::ACCESS))
            }
            #[cfg(feature = "worker")]
            Child::Thread(life) => {
                life.end(Exit::Signal(signal.as_raw()));
                true
            }
        }
    }

    /// Ends the worker. Returns whether that is allowed: a program that has changed its user may not signal a
    /// process that it started before. The caller can shut the socket in that case, which ends a worker too.
    pub(crate) fn kill(&self) -> bool {
        self.signal(Signal::KILL)
    }

    /// Ends the worker; shuts its socket if it may not be killed.
    pub(crate) fn kill_or_shut(&self, socket: impl AsFd) {
        if !self.kill() {
            // The worker's tick notices the hang-up and exits. This works across users, which a signal does
            // not.
            let _shut_before = rustix::net::shutdown(socket, Shutdown::Both);
        }
    }

    /// Waits for the end, at most as long as [`await_end`](Self::await_end), and reaps the process. A second
    /// call may return [`Exit::Unknown`].
    pub(crate) fn wait(&self) -> Exit {
        self.wait_until(clock::now() + END_TIME)
    }

    fn wait_until(&self, until: Instant) -> Exit {
        match self {
            Child::Process { home, .. } if *home != sys::home() => Exit::Unknown,
            Child::Process { pid, pidfd, .. } => {
                if !self.await_end_until(until) {
                    tracing::warn!(
                        pid = pid.as_raw_nonzero().get(),
                        "a process does not end, and is not waited for any longer"
                    );
                }
                reap(*pid, pidfd).unwrap_or(Exit::Unknown)
            }
            #[cfg(feature = "worker")]
            Child::Thread(life) => life.wait(),
        }
    }

    /// Reaps the process if it has ended.
    pub(crate) fn try_wait(&self) -> Option<Exit> {
        match self {
            Child::Process { home, .. } if *home != sys::home() => Some(Exit::Unknown),
            Child::Process { pid, pidfd, .. } => reap(*pid, pidfd),
            #[cfg(feature = "worker")]
            Child::Thread(life) => life.exit(),
        }
    }
}

/// The session of a child of this program that is not reaped. An error: it is none.
fn session_of_child(pid: Pid, pidfd: &OwnedFd) -> io::Result<Pid> {
    let look = || rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), LOOK);
    look()?;
    let session = rustix::process::getsid(Some(pid))?;
    // If the child is still not reaped here, `pid` named the descriptor's process when `getsid` read its
    // session.
    look()?;
    Ok(session)
}

/// Kills all of these, and waits until `until` at most for all together. A worker that this program may not
/// kill ends when its connection does.
pub(super) fn end_all(children: &[Child], until: Instant) {
    // All are killed before any is waited for: together they take as long as the slowest.
    for child in children {
        child.kill();
    }
    for child in children {
        child.wait_until(until);
    }
}

/// How long a process may take to end after it was killed or lost its connection.
// A killed process ends within milliseconds unless it is in an uninterruptible call, such as one to a file
// server that is gone. No caller should wait for that.
pub(crate) const END_TIME: Duration = Duration::from_secs(5);

/// How long a process may take to end by itself that has said that it gives up, or has closed its connection.
/// Nothing is left for it to do.
pub(crate) const LAST_BREATH: Duration = Duration::from_secs(5);

/// Why a process that a zygote has named is not taken over.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// There is no such child: it may have ended, and other code in this program has reaped it.
    Gone(io::Error),
    /// It is not a child of the zygote's session, or it is registered already.
    Foreign(&'static str),
}

impl From<io::Error> for NotTaken {
    fn from(error: io::Error) -> NotTaken {
        NotTaken::Gone(error)
    }
}

/// Options of `waitid` that only look at a child and change nothing.
const LOOK: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG).union(WaitIdOptions::NOWAIT);

/// Rounds in which a session is searched for children that were left behind.
const SWEEPS: usize = 100;

/// The registered processes that have not been reaped, by process id. [`while_stopped`] signals them, and
/// [`Child::take_from`] refuses a process that is among them.
type Living = HashMap<Pid, Weak<OwnedFd>>;

static LIVING: LazyLock<Mutex<Living>> = LazyLock::new(Mutex::default);

fn living() -> MutexGuard<'static, Living> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn register(living: &mut Living, pid: Pid, pidfd: &Arc<OwnedFd>) {
    // Only at capacity, which doubles: the cost for each process stays constant on average.
    if living.len() == living.capacity() {
        living.retain(|_, pidfd| pidfd.strong_count() > 0);
    }
    living.insert(pid, Arc::downgrade(pidfd));
}

/// Stops every worker process of this program, calls `stop`, and then continues them: for programs that
/// handle `SIGTSTP` (Ctrl-Z) themselves. The terminal does not stop the workers, because they lead sessions
/// of their own.
///
/// No time limit runs meanwhile: not those of tasks, of starts and of ends, and not the pauses before another
/// attempt. The timeouts of your own calls (`get_timeout` and similar) do run.
///
/// `stop` should stop this program with `SIGSTOP`, and return when the program has been continued. It must
/// not use this library, whose calls may wait for `stop` to return. Workers that are threads of this program
/// need no signal of their own: `SIGSTOP` stops them too.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let module = guest("upper")?;
/// # let raise_sigstop = || ();
/// let pool = wpool::Pool::builder(&module).processes(1).build()?;
/// let upper = pool.func::<&str, String>("run")?;
/// let result = pool.apply_async(&upper, "a");
/// // SIGTSTP has come:
/// wpool::process::while_stopped(raise_sigstop);
/// assert_eq!(result.get()?, "A");
/// # Ok(())
/// # }
/// ```
pub fn while_stopped<R>(stop: impl FnOnce() -> R) -> R {
    /// Continues all workers, also when `stop` panics.
    struct GoOn(MutexGuard<'static, Living>);
    impl Drop for GoOn {
        fn drop(&mut self) {
            // In the opposite order: a worker that answers at once finds the clock running.
            clock::go_on();
            signal_all(&self.0, Signal::CONT);
        }
    }
    // Held to the end: a process that would start meanwhile waits until this program continues.
    let living = living();
    // Before the workers stop: a deadline that passed in between would kill a worker that may not run.
    clock::stop();
    signal_all(&living, Signal::STOP);
    let _go_on = GoOn(living);
    stop()
}

fn signal_all(living: &Living, signal: Signal) {
    for pidfd in living.values().filter_map(Weak::upgrade) {
        let _gone = rustix::process::pidfd_send_signal(&*pidfd, signal);
    }
}

/// Reaps the process if it has ended. Its id may name another process afterwards, so the id is removed from
/// the registered ones under the same lock.
fn reap(pid: Pid, pidfd: &Arc<OwnedFd>) -> Option<Exit> {
    let mut living = living();
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let ended = rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options));
    let is_it = |known: &Weak<OwnedFd>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(pidfd));
    // The id may have been registered for another process already, if other code has reaped this one.
    if !matches!(ended, Ok(None)) && living.get(&pid).is_some_and(is_it) {
        living.remove(&pid);
    }
    match ended {
        Ok(None) => None,
        Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        }),
        // Another part of this program has reaped it: a library that waits for any child, or SIGCHLD that is
        // ignored.
        Err(_) => Some(Exit::Unknown),
    }
}

impl AsFd for Child {
    /// Readable once the worker has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Child::Process { pidfd, .. } => pidfd.as_fd(),
            #[cfg(feature = "worker")]
            Child::Thread(life) => life.as_fd(),
        }
    }
}
