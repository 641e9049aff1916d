//! A worker that is ours to kill and to reap: a child process, or a thread that is treated as one.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};

use crate::spec::Exit;
use crate::{clock, sys};

/// A started worker.
#[derive(Debug)]
pub(crate) enum Child {
    /// A child process by its descriptor, which never names another process, however the numbers are used again.
    Process { pid: Pid, pidfd: Arc<OwnedFd>, home: u32 },
    /// A thread of this process.
    #[cfg(feature = "worker")]
    Thread(Arc<crate::worker::Life>),
}

impl Child {
    /// Takes over the child `pid`, which nobody has reaped yet. An error if `pid` is not a child of this process: whoever named it is wrong or lying.
    pub(crate) fn open(pid: i32) -> io::Result<Child> {
        let pid =
            Pid::from_raw(pid).filter(|p| p.as_raw_nonzero().get() > 1).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = sys::above_stdio(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options)?;
        let pidfd = Arc::new(pidfd);
        register(&mut living(), pid, &pidfd);
        Ok(Child::Process { pid, pidfd, home: sys::home() })
    }

    /// Takes over a child that `zygote` says it has forked. It may name any process of the machine: only one counts that is a child of this
    /// program, in the session that the zygote leads, and in nobody's charge.
    pub(crate) fn take_from(pid: i32, zygote: &Child) -> Result<Child, NotTaken> {
        let foreign = NotTaken::Foreign("the zygote named a process that it has not forked");
        let session = match zygote {
            Child::Process { pid, .. } => pid,
            #[cfg(feature = "worker")]
            Child::Thread(_) => return Err(foreign),
        };
        let Some(pid) = Pid::from_raw(pid.max(0)) else { return Err(foreign) };
        if pid == *session || pid.as_raw_nonzero().get() == 1 || pid == rustix::process::getpid() {
            return Err(foreign);
        }
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
        let pidfd = sys::above_stdio(pidfd)?;
        let is_ours = || rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), LOOK).map_err(io::Error::from);
        is_ours()?;
        let its_session = rustix::process::getsid(Some(pid)).map_err(io::Error::from)?;
        // Not reaped meanwhile: then the number still was that of the descriptor's process.
        is_ours()?;
        let mut living = living();
        let is_known = living.get(&pid).is_some_and(|pidfd| pidfd.strong_count() > 0);
        if its_session != *session || is_known {
            return Err(foreign);
        }
        let pidfd = Arc::new(pidfd);
        register(&mut living, pid, &pidfd);
        Ok(Child::Process { pid, pidfd, home: sys::home() })
    }

    /// Ends all children of `thread` that were born in the session that this process leads, which has ended and is not reaped, and that are in nobody's
    /// charge.
    pub(super) fn end_session(&self, thread: Pid) {
        // Those that are born while others are ended, too; but nobody who makes them without end keeps us here.
        for _ in 0..SWEEPS {
            // Without that file, which some kernels do not have, they go on until this program ends.
            let children =
                std::fs::read_to_string(format!("/proc/self/task/{}/children", thread.as_raw_nonzero()));
            let children = children.unwrap_or_default();
            let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
            let found: Vec<Child> = pids.filter_map(|pid| Child::take_from(pid, self).ok()).collect();
            if found.is_empty() {
                return;
            }
            for child in &found {
                child.kill();
            }
            for child in &found {
                child.wait();
            }
        }
    }

    /// Waits for the end, and does not reap; whether it has ended. Whoever calls this has seen to it that it ends, and does not wait for ever if
    /// it does not. In a forked child of this program there is nothing to wait for: the process is not its own.
    pub(crate) fn await_end(&self) -> bool {
        let pidfd = match self {
            Child::Process { home, .. } if *home != sys::home() => return true,
            Child::Process { pidfd, .. } => pidfd,
            #[cfg(feature = "worker")]
            Child::Thread(_) => return true,
        };
        let until = Instant::now() + END_TIME;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).unwrap_or_default();
            match rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(0) if left.is_zero() => return false,
                Ok(0) | Err(Errno::INTR) => {}
                // Somebody has closed it, if that is an error.
                Ok(_) | Err(_) => return true,
            }
        }
    }

    /// The process that it runs in.
    pub(crate) fn pid(&self) -> u32 {
        match self {
            Child::Process { pid, .. } => pid.as_raw_nonzero().get().unsigned_abs(),
            #[cfg(feature = "worker")]
            Child::Thread(_) => std::process::id(),
        }
    }

    /// Sends a signal; whether that is allowed. If it is gone, there is nobody to tell. A thread gets none; its life is over all the same. In a
    /// forked child of this program nothing happens.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        match self {
            Child::Process { home, .. } if *home != sys::home() => true,
            Child::Process { pidfd, .. } => {
                !matches!(rustix::process::pidfd_send_signal(pidfd, signal), Err(Errno::PERM | Errno::ACCESS))
            }
            #[cfg(feature = "worker")]
            Child::Thread(life) => {
                life.end(Exit::Signal(signal.as_raw()));
                true
            }
        }
    }

    /// Ends it; whether that is allowed: a program that has changed its user may not signal what it started before. It can close the socket
    /// then, which ends a worker too.
    pub(crate) fn kill(&self) -> bool {
        self.signal(Signal::KILL)
    }

    /// Ends it, by shutting its socket if it may not be killed.
    pub(crate) fn kill_or_shut(&self, socket: impl AsFd) {
        if !self.kill() {
            let _shut_before = rustix::net::shutdown(socket, Shutdown::Both);
        }
    }

    /// Waits for the end, for as long as [`await_end`](Self::await_end), and reaps. A second call may give [`Exit::Unknown`].
    pub(crate) fn wait(&self) -> Exit {
        match self {
            Child::Process { home, .. } if *home != sys::home() => Exit::Unknown,
            Child::Process { pid, pidfd, .. } => {
                if !self.await_end() {
                    tracing::warn!(
                        pid = pid.as_raw_nonzero().get(),
                        "a process does not end, and is left to itself"
                    );
                }
                reap(*pid, pidfd).unwrap_or(Exit::Unknown)
            }
            #[cfg(feature = "worker")]
            Child::Thread(life) => life.wait(),
        }
    }

    /// Reaps if it has ended.
    pub(crate) fn try_wait(&self) -> Option<Exit> {
        match self {
            Child::Process { home, .. } if *home != sys::home() => Some(Exit::Unknown),
            Child::Process { pid, pidfd, .. } => reap(*pid, pidfd),
            #[cfg(feature = "worker")]
            Child::Thread(life) => life.exit(),
        }
    }
}

/// How long a process may take to end that has been killed, or has lost its connection.
pub(crate) const END_TIME: Duration = Duration::from_secs(5);

/// Why a process that a zygote has named is not taken over.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// There is no such child: it may have ended, and something else in this program reaped it.
    Gone(io::Error),
    /// It is somebody else's, or one that is known.
    Foreign(&'static str),
}

impl From<io::Error> for NotTaken {
    fn from(error: io::Error) -> NotTaken {
        NotTaken::Gone(error)
    }
}

/// A look at a child that changes nothing.
const LOOK: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG).union(WaitIdOptions::NOWAIT);

/// How often children that were left behind are looked for.
const SWEEPS: usize = 100;

/// The processes in somebody's charge that have not been reaped, by their numbers: for [`while_stopped`], and to tell new ones from old.
type Living = HashMap<Pid, Weak<OwnedFd>>;

static LIVING: LazyLock<Mutex<Living>> = LazyLock::new(Mutex::default);

fn living() -> MutexGuard<'static, Living> {
    LIVING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn register(living: &mut Living, pid: Pid, pidfd: &Arc<OwnedFd>) {
    // So rarely that it costs nothing to speak of, however many processes come and go.
    if living.len() == living.capacity() {
        living.retain(|_, pidfd| pidfd.strong_count() > 0);
    }
    living.insert(pid, Arc::downgrade(pidfd));
}

/// Stops every worker process of this program, calls `stop`, and has them go on: for programs that handle `SIGTSTP` (Ctrl-Z) themselves.
/// Workers lead sessions of their own, so that the terminal does not stop them.
///
/// Meanwhile no time limit runs: not those of tasks, nor those of starts and ends, nor the pauses before another attempt. (The timeouts of
/// your own calls, of `get_timeout` and the like, do.)
///
/// `stop` should stop this program, with `SIGSTOP`, and return when it has been continued. It must not use this library, which may wait for
/// the return. Workers that are threads of this program are stopped by that alone.
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
    /// Has all of them go on, also when `stop` unwinds.
    struct GoOn(MutexGuard<'static, Living>);
    impl Drop for GoOn {
        fn drop(&mut self) {
            clock::go_on();
            signal_all(&self.0, Signal::CONT);
        }
    }
    // Held to the end: what starts meanwhile waits until this program goes on.
    let living = living();
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

/// Reaps if it has ended. Its number may be another's from then on, so that it is not known any more at the same moment.
fn reap(pid: Pid, pidfd: &Arc<OwnedFd>) -> Option<Exit> {
    let mut living = living();
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let ended = rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options));
    let is_it = |known: &Weak<OwnedFd>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(pidfd));
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
        Err(_) => Some(Exit::Unknown),
    }
}

impl AsFd for Child {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Child::Process { pidfd, .. } => pidfd.as_fd(),
            #[cfg(feature = "worker")]
            Child::Thread(life) => life.as_fd(),
        }
    }
}
