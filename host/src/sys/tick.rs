//! A timer whose ticks interrupt the worker's one thread, wherever it is.
//!
//! A worker runs guest code on its main thread. It has no other thread, so that it can be forked cheaply. The
//! tick does what cannot wait for the guest: it advances the engine's epoch (deadlines), sends results that
//! are ready, and notices that the coordinator is gone. It is a per-thread POSIX timer: the handler
//! interrupts the main thread, and never runs beside it.

use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

/// What a tick does. It runs in a signal handler: atomics, `send` and `poll` only; no allocation, and no lock
/// that it would wait for.
pub(crate) type OnTick = fn();

static ON_TICK: OnceLock<OnTick> = OnceLock::new();

/// When the last tick was, in nanoseconds.
static LAST_TICK: AtomicU64 = AtomicU64::new(0);
/// How long after the tick before that, in nanoseconds. The process was stopped within this time or after it.
static LAST_GAP: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds by the monotonic clock. Safe in a signal handler. This uses libc: rustix would first look for
/// the clock by calls that a confined process may not make.
fn nanos() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` outlives the call, which writes to it and nowhere else.
    let got = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    debug_assert_eq!(got, 0, "there is always a monotonic clock");
    now.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec.cast_unsigned())
}

/// A tick this much too late proves a pause: the process could not run. The freezer of a container and the
/// end of a share of processor time send no signal.
const PAUSE: u64 = 100_000_000;

/// Notes a tick. A pause before it does not count as time of the task.
fn note_tick() {
    let now = nanos();
    let last = LAST_TICK.swap(now, Ordering::Relaxed);
    let gap = now.saturating_sub(last);
    if gap > PAUSE {
        clock::add_stopped(gap);
    }
    LAST_GAP.store(if gap > PAUSE { 0 } else { gap }, Ordering::Relaxed);
}

/// The process goes on after it was stopped. The time since the last tick does not count as time of the task.
/// The tick that was due meanwhile may have come a moment before this; then the time before that tick does
/// not count.
extern "C" fn handle_continue(_signal: libc::c_int) {
    let now = nanos();
    let last = LAST_TICK.swap(now, Ordering::Relaxed);
    let gap = LAST_GAP.swap(0, Ordering::Relaxed);
    clock::add_stopped(now.saturating_sub(last).saturating_add(gap));
}

/// The timer of this process. There is at most one.
#[derive(Debug)]
pub(crate) struct Ticker {
    timer: libc::timer_t,
    period: Duration,
    is_running: Cell<bool>,
}

extern "C" fn handle_tick(_signal: libc::c_int) {
    if let Some(on_tick) = ON_TICK.get() {
        note_tick();
        // SAFETY: __errno_location gives this thread's errno, which the interrupted code may be about to
        // read; it is put back as it was found.
        unsafe {
            let errno = *libc::__errno_location();
            on_tick();
            *libc::__errno_location() = errno;
        }
    }
}

impl Ticker {
    /// Makes the timer, stopped. Its ticks interrupt the thread that calls this.
    pub(crate) fn new(period: Duration, on_tick: OnTick) -> io::Result<Ticker> {
        ON_TICK.get_or_init(|| on_tick);
        // SAFETY: `action` is zeroed storage of a plain C struct, filled before use. `handle_tick` calls only
        // what OnTick promises to be safe in a handler; `handle_continue` only reads a clock and writes
        // atomics. SA_ONSTACK: wasmtime runs guests on this thread's stack and guards its end; SA_RESTART:
        // our own reads and writes go on.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle_tick as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigemptyset(&mut action.sa_mask);
            let ticks = libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
            action.sa_sigaction = handle_continue as extern "C" fn(libc::c_int) as usize;
            ticks | libc::sigaction(libc::SIGCONT, &action, std::ptr::null_mut())
        };
        if installed != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `event` is zeroed storage of a plain C struct, filled before use; `timer` is written by a
        // successful call.
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

    /// Begins to tick.
    pub(crate) fn start(&self) {
        if !self.is_running.replace(true) {
            LAST_TICK.store(nanos(), Ordering::Relaxed);
            LAST_GAP.store(0, Ordering::Relaxed);
            self.set(self.period);
        }
    }

    /// Ends the ticks: an idle worker uses no CPU.
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
        // SAFETY: `timer` was made by timer_create and lives as long as the process; `spec` outlives the
        // call; the old setting is not asked for.
        let set = unsafe { libc::timer_settime(self.timer, 0, &spec, std::ptr::null_mut()) };
        debug_assert_eq!(set, 0, "setting our own timer to a valid time cannot fail");
    }
}

/// For the tick: sends as many of these bytes as the socket takes at once. Gives their number.
pub(crate) fn send_some(socket: RawFd, bytes: &[u8]) -> usize {
    // SAFETY: the pointer and the length are those of a live slice, which the call only reads; a descriptor
    // that is not open is an error.
    let sent = unsafe {
        libc::send(socket, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).unwrap_or(0)
}

/// For the tick: whether the other end of the socket is closed.
pub(crate) fn is_hung_up(socket: RawFd) -> bool {
    let mut fd = libc::pollfd { fd: socket, events: 0, revents: 0 };
    // SAFETY: one valid pollfd, for the time of a call that does not wait.
    let ready = unsafe { libc::poll(&mut fd, 1, 0) };
    ready > 0 && fd.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
}
