//! A timer whose ticks interrupt the worker's one thread, wherever it is.
//!
//! A worker runs guest code on its main thread. It has no other thread, so that it can be forked cheaply. The
//! tick does what cannot wait for the guest: it advances the engine's epoch (deadlines), sends results that
//! are ready, and notices that the coordinator is gone. It is a per-thread POSIX timer: the handler
//! interrupts the main thread, and never runs beside it.
//!
//! A guest that waits in a call to the host needs no frequent ticks. A guest that computes notices each tick
//! at once, by the epoch. A guest that waits notices none: after two ticks that it has not noticed, ticks are
//! rare, and the first that it notices makes them frequent again.

use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

/// What a tick does. It runs in a signal handler: atomics, `send` and `poll` only; no allocation, and no lock
/// that it would wait for.
pub(crate) type OnTick = fn() -> AfterTick;

/// What is left to do after a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterTick {
    /// The next tick has work to do, whatever the guest does.
    Work,
    /// Only a guest in its own code needs the next tick soon.
    Nothing,
}

/// The time between two ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TickPeriods {
    /// While the guest computes.
    pub(crate) busy: Duration,
    /// While it waits in a call to the host. At least as long.
    pub(crate) waiting: Duration,
}

/// How frequent ticks are, by what the guest has noticed. The ticks and the guest may be in two threads.
#[derive(Debug, Default)]
pub(crate) struct TickRate(AtomicU8);

impl TickRate {
    /// The guest has noticed the last tick, or there was none.
    const NOTICED: u8 = 0;
    /// It has not noticed the last tick. One such tick proves nothing: it may have come at the moment at
    /// which the engine set the epoch that the guest looks for.
    const MISSED: u8 = 1;
    /// It has not noticed several ticks: ticks are rare.
    const RARE: u8 = 2;

    /// Takes a tick. To be called before the epoch advances, or where no guest runs meanwhile. `true`: ticks
    /// are rare from now on.
    pub(crate) fn tick(&self, after: AfterTick) -> bool {
        match (self.0.load(Ordering::SeqCst), after) {
            (Self::NOTICED, _) => self.0.store(Self::MISSED, Ordering::SeqCst),
            (Self::MISSED, AfterTick::Nothing) => {
                // Not if the guest, in another thread, notices the last tick at this moment.
                let order = Ordering::SeqCst;
                return self.0.compare_exchange(Self::MISSED, Self::RARE, order, order).is_ok();
            }
            // There are results to send, or ticks are rare already.
            (_, AfterTick::Nothing | AfterTick::Work) => {}
        }
        false
    }

    /// The guest has noticed the last tick, or is about to run its own code. `true`: ticks were rare, and
    /// must be made frequent.
    #[inline]
    pub(crate) fn notice(&self) -> bool {
        // A load first: a guest does this at each task.
        self.0.load(Ordering::SeqCst) != Self::NOTICED
            && self.0.swap(Self::NOTICED, Ordering::SeqCst) == Self::RARE
    }

    pub(crate) fn is_rare(&self) -> bool {
        self.0.load(Ordering::SeqCst) == Self::RARE
    }
}

/// The timer of this process. There is at most one, and a signal handler gets no arguments.
static TICKER: OnceLock<Ticker> = OnceLock::new();

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

/// Notes a tick that was due `period` nanoseconds after the last one. A pause before it does not count as
/// time of the task.
fn note_tick(period: u64) {
    let now = nanos();
    let last = LAST_TICK.swap(now, Ordering::Relaxed);
    let gap = now.saturating_sub(last);
    let pause = pause(gap, period);
    clock::add_stopped(pause.unwrap_or(0));
    LAST_GAP.store(if pause.is_some() { 0 } else { gap }, Ordering::Relaxed);
}

/// The pause that a tick proves, in nanoseconds, if it came `gap` after the last one.
fn pause(gap: u64, period: u64) -> Option<u64> {
    let late = gap.saturating_sub(period);
    (late > PAUSE).then_some(late)
}

/// Notes that the next tick is due one period from now.
fn begin_period() {
    LAST_TICK.store(nanos(), Ordering::Relaxed);
    LAST_GAP.store(0, Ordering::Relaxed);
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

/// The timer of this process.
#[derive(Debug)]
pub(crate) struct Ticker {
    timer: libc::timer_t,
    periods: TickPeriods,
    on_tick: OnTick,
    is_running: AtomicBool,
    rate: TickRate,
    /// The period that the timer has, in nanoseconds.
    period: AtomicU64,
}

// SAFETY: the pointer is the kernel's or libc's name of the timer. It never changes, and any thread may set a
// timer by it.
unsafe impl Send for Ticker {}
// SAFETY: as above; the other fields are plain data and atomics.
unsafe impl Sync for Ticker {}

extern "C" fn handle_tick(_signal: libc::c_int) {
    if let Some(ticker) = TICKER.get() {
        // SAFETY: __errno_location gives this thread's errno, which the interrupted code may be about to
        // read; it is put back as it was found.
        unsafe {
            let errno = *libc::__errno_location();
            ticker.tick();
            *libc::__errno_location() = errno;
        }
    }
}

/// The kernel's timer, stopped. Its signals interrupt the thread that calls this.
fn create_timer() -> io::Result<libc::timer_t> {
    // SAFETY: `action` is zeroed storage of a plain C struct, filled before use. `handle_tick` calls only
    // what OnTick promises to be safe in a handler, and `timer_settime`, which is safe there;
    // `handle_continue` only reads a clock and writes atomics. SA_ONSTACK: wasmtime runs guests on this
    // thread's stack and guards its end; SA_RESTART: our own reads and writes go on.
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
        // A signal to the process could be delivered to the engine's other threads (WASI's runtime), and
        // would not interrupt the guest.
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        let mut timer: libc::timer_t = std::ptr::null_mut();
        // Not CLOCK_THREAD_CPUTIME_ID: the time limit of a task is a limit on waiting too, and a guest that
        // sleeps uses no processor.
        match libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) {
            0 => Ok(timer),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Ticker {
    /// Makes the timer of this process, stopped. Its ticks interrupt the thread that calls this. A second
    /// call gives the same timer.
    pub(crate) fn new(periods: TickPeriods, on_tick: OnTick) -> io::Result<&'static Ticker> {
        if let Some(ticker) = TICKER.get() {
            return Ok(ticker);
        }
        let timer = create_timer()?;
        Ok(TICKER.get_or_init(|| Ticker {
            timer,
            periods,
            on_tick,
            is_running: AtomicBool::new(false),
            rate: TickRate::default(),
            period: AtomicU64::new(0),
        }))
    }

    /// Begins to tick.
    pub(crate) fn start(&self) {
        if !self.is_running.swap(true, Ordering::Relaxed) {
            // The idle time before was no pause. Noted before the timer runs: its first tick compares with
            // this.
            begin_period();
            self.set(self.periods.busy);
        }
    }

    /// Ends the ticks: an idle worker uses no CPU.
    pub(crate) fn stop(&self) {
        if self.is_running.swap(false, Ordering::Relaxed) {
            self.set(Duration::ZERO);
            self.rate.notice();
        }
    }

    /// The guest is in its own code, or about to be: ticks are frequent again.
    #[inline]
    pub(crate) fn notice(&self) {
        if self.rate.notice() && self.is_running.load(Ordering::Relaxed) {
            begin_period();
            self.set(self.periods.busy);
        }
    }

    /// One tick, in the signal handler.
    fn tick(&self) {
        note_tick(self.period.load(Ordering::Relaxed));
        let becomes_rare = self.rate.tick((self.on_tick)());
        // A tick may come after the timer was stopped: its signal was pending.
        if becomes_rare && self.is_running.load(Ordering::Relaxed) {
            self.set(self.periods.waiting);
        }
    }

    fn set(&self, period: Duration) {
        self.period.store(u64::try_from(period.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    static TICKS: AtomicU32 = AtomicU32::new(0);
    static HAS_WORK: AtomicBool = AtomicBool::new(false);

    fn on_tick() -> AfterTick {
        TICKS.fetch_add(1, Ordering::Relaxed);
        if HAS_WORK.load(Ordering::Relaxed) { AfterTick::Work } else { AfterTick::Nothing }
    }

    fn await_ticks(count: u32) {
        let until = TICKS.load(Ordering::Relaxed) + count;
        while TICKS.load(Ordering::Relaxed) < until {
            std::hint::spin_loop();
        }
    }

    /// Set in the process of the one test that has a timer. A late tick changes the clock of its process,
    /// which other tests look at.
    const ALONE: &str = "WPOOL_TEST_ALONE";

    #[test]
    fn ticks_are_rare_until_the_guest_notices_one() {
        if std::env::var_os(ALONE).is_none() {
            let test = "sys::tick::tests::ticks_are_rare_until_the_guest_notices_one";
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let ended = alone.args(["--exact", test]).env(ALONE, "1").output().unwrap();
            assert!(ended.status.success(), "{ended:?}");
            return;
        }
        // The tick of a guest that waits would take longer than any test.
        let periods = TickPeriods { busy: Duration::from_millis(1), waiting: Duration::from_secs(3600) };
        let ticker = Ticker::new(periods, on_tick).unwrap();
        ticker.start();
        for _ in 0..5 {
            await_ticks(2);
            assert!(ticker.rate.is_rare());
            ticker.notice();
        }
        // Results that the socket has not taken are sent soon, also if the guest waits.
        HAS_WORK.store(true, Ordering::Relaxed);
        await_ticks(5);
        assert!(!ticker.rate.is_rare());
        HAS_WORK.store(false, Ordering::Relaxed);
        await_ticks(1);
        // A timer that was stopped when its ticks were rare begins with frequent ones.
        ticker.stop();
        ticker.notice();
        ticker.start();
        await_ticks(2);
        ticker.stop();
        assert!(!ticker.rate.is_rare());
    }

    #[test]
    fn a_tick_that_is_noticed_makes_none_rare() {
        let rate = TickRate::default();
        for _ in 0..3 {
            assert!(!rate.notice() && !rate.tick(AfterTick::Nothing));
        }
        assert!(!rate.tick(AfterTick::Work) && rate.tick(AfterTick::Nothing) && rate.is_rare());
        assert!(!rate.tick(AfterTick::Nothing) && rate.is_rare(), "they are rare already");
        assert!(rate.notice() && !rate.is_rare());
    }

    #[test]
    fn a_tick_that_is_late_for_its_period_tells_of_a_pause() {
        let (tick, second) = (10_000_000, 1_000_000_000);
        assert_eq!(pause(1_000_000_000, second), None);
        assert_eq!(pause(1_099_000_000, second), None);
        assert_eq!(pause(1_101_000_000, second), Some(101_000_000));
        assert_eq!(pause(1_000_000_000, tick), Some(990_000_000));
    }
}
