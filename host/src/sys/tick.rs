//! A timer whose ticks interrupt the worker's one thread, wherever it is.
//!
//! A worker runs guest code on its main thread and has no other thread to watch over it, so that it can be forked cheaply. The tick
//! does what cannot wait for the guest: it advances the engine's epoch (deadlines), sends results that are ready, and notices that
//! the coordinator is gone. It is a per-thread POSIX timer: the handler never runs beside the main thread, only in its midst.

use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::time::Duration;

/// What a tick does. It runs in a signal handler: atomics, `send` and `poll` only; no allocation, and no lock that it would wait for.
pub(crate) type OnTick = fn();

static ON_TICK: OnceLock<OnTick> = OnceLock::new();

/// The timer of this process. There is at most one.
#[derive(Debug)]
pub(crate) struct Ticker {
    timer: libc::timer_t,
    period: Duration,
    is_running: Cell<bool>,
}

extern "C" fn handle_tick(_signal: libc::c_int) {
    if let Some(on_tick) = ON_TICK.get() {
        // SAFETY: __errno_location gives this thread's errno, which the interrupted code may be about to read; it is put back
        // as it was found.
        unsafe {
            let errno = *libc::__errno_location();
            on_tick();
            *libc::__errno_location() = errno;
        }
    }
}

impl Ticker {
    /// Makes the timer, stopped. The thread that calls this is the one that ticks interrupt.
    pub(crate) fn new(period: Duration, on_tick: OnTick) -> io::Result<Ticker> {
        ON_TICK.get_or_init(|| on_tick);
        // SAFETY: `action` is zeroed storage of a plain C struct, filled before use. `handle_tick` calls only what OnTick promises
        // to be safe in a handler. SA_ONSTACK: wasmtime runs guests on this thread's stack and guards its end; SA_RESTART: our own reads and writes go on.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle_tick as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigemptyset(&mut action.sa_mask);
            libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut())
        };
        if installed != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `event` is zeroed storage of a plain C struct, filled before use; `timer` is written by a successful call.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGALRM;
            event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
            let mut timer: libc::timer_t = std::ptr::null_mut();
            match libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) {
                0 => Ok(Ticker { timer, period, is_running: Cell::new(false) }),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    /// Ticks from now on.
    pub(crate) fn start(&self) {
        if !self.is_running.replace(true) {
            self.set(self.period);
        }
    }

    /// No more ticks: an idle worker uses no CPU.
    pub(crate) fn stop(&self) {
        if self.is_running.replace(false) {
            self.set(Duration::ZERO);
        }
    }

    fn set(&self, period: Duration) {
        let period = libc::timespec {
            tv_sec: libc::time_t::try_from(period.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(period.subsec_nanos()),
        };
        let spec = libc::itimerspec { it_interval: period, it_value: period };
        // SAFETY: `timer` was made by timer_create and lives as long as the process; `spec` outlives the call; the old setting is not asked for.
        let set = unsafe { libc::timer_settime(self.timer, 0, &spec, std::ptr::null_mut()) };
        debug_assert_eq!(set, 0, "setting our own timer to a valid time cannot fail");
    }
}

/// For the tick: sends as many of these bytes as the socket takes at once; gives how many it took.
pub(crate) fn send_some(socket: RawFd, bytes: &[u8]) -> usize {
    // SAFETY: the pointer and the length are those of a live slice, which the call only reads; a descriptor that is not open is an error.
    let sent =
        unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    usize::try_from(sent).unwrap_or(0)
}

/// For the tick: whether the other end of the socket is closed.
pub(crate) fn is_hung_up(socket: RawFd) -> bool {
    let mut fd = libc::pollfd { fd: socket, events: 0, revents: 0 };
    // SAFETY: one valid pollfd, for the time of a call that does not wait.
    let ready = unsafe { libc::poll(&mut fd, 1, 0) };
    ready > 0 && fd.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
}
