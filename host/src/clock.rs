//! The clock of time limits: it stands still while this program is stopped (Ctrl-Z), and no user can set it.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// How long this process has been stopped in its life, in nanoseconds. In a worker process a signal handler
/// adds to it.
static STOPPED: AtomicU64 = AtomicU64::new(0);

/// Since when this process is stopped. Threads that go on before `STOPPED` is right see the time stand still.
static SINCE: Mutex<Option<Instant>> = Mutex::new(None);

/// The end of the last pause that was counted. Several threads find the same pause; it counts once.
static COUNTED: Mutex<Option<Instant>> = Mutex::new(None);

/// A gap of this length proves a pause: this process could not run. The freezer of a container and the end of
/// a share of processor time send no signal.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest wait at once with a deadline: a pause within a longer wait would count as passed time.
const NAP: Duration = Duration::from_millis(100);

/// The longest wait at once without a deadline: a thread must see that this program has closed its
/// descriptors.
const DOZE: Duration = Duration::from_secs(1);

/// Waits by `wait` for at most `left`, or for a part of that, and counts a pause of this program meanwhile.
pub(crate) fn nap<R>(left: Option<Duration>, wait: impl FnOnce(&Timespec) -> R) -> R {
    let most = left.map_or(DOZE, |left| left.min(NAP));
    let due = Instant::now() + most;
    let waited = wait(&Timespec::try_from(most).expect("less than a second fits"));
    note_gap(due, Instant::now());
    waited
}

/// Notes that a thread has looked at the clock at `from` and at `to`, with next to nothing to do in between.
/// A long gap is a pause of this program.
pub(crate) fn note_gap(from: Instant, to: Instant) {
    if to.saturating_duration_since(from) > PAUSE {
        count(from, to);
    }
}

/// Counts a time in which this program could not run. While the program is stopped, `go_on` will count it.
fn count(from: Instant, to: Instant) {
    let is_stopped = since().is_some();
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    // Only the part behind the last counted pause: two threads that find the same pause have begun to wait at
    // different times.
    let from = counted.map_or(from, |counted| counted.max(from));
    if !is_stopped && from < to {
        STOPPED.fetch_add(nanos(to - from), Ordering::Relaxed);
        *counted = Some(to);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The present time, less what this program has spent stopped.
pub(crate) fn now() -> Instant {
    // The lock is held to the end: the count and the time must fit together.
    let since = since();
    let now = since.unwrap_or_else(Instant::now);
    now.checked_sub(Duration::from_nanos(STOPPED.load(Ordering::Relaxed))).unwrap_or(now)
}

/// Adds time that this process has been stopped. Safe in a signal handler.
#[cfg(feature = "worker")]
pub(crate) fn add_stopped(nanos: u64) {
    STOPPED.fetch_add(nanos, Ordering::Relaxed);
}

/// Lets the clock stand still.
pub(crate) fn stop() {
    since().get_or_insert_with(Instant::now);
}

/// Lets the clock go on.
pub(crate) fn go_on() {
    let stopped = since().take();
    if let Some(stopped) = stopped {
        count(stopped, Instant::now());
    }
}

fn since() -> MutexGuard<'static, Option<Instant>> {
    SINCE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls for at most `left`, or for a part of that. An interrupted poll gives 0, as a poll without events
/// does.
pub(crate) fn poll(fds: &mut [PollFd<'_>], left: Option<Duration>) -> Result<usize, Errno> {
    match nap(left, |timeout| rustix::event::poll(fds, Some(timeout))) {
        Err(Errno::INTR) => Ok(0),
        polled => polled,
    }
}

/// Sleeps until `deadline`, by [`now`], however long this program is stopped meanwhile.
#[cfg(feature = "cli")]
pub(crate) fn sleep_until(deadline: Instant) {
    loop {
        let left = deadline.saturating_duration_since(now());
        if left.is_zero() {
            return;
        }
        // One long sleep would end in a pause of this program, before the pause is counted.
        let _no_files = poll(&mut [], Some(left));
    }
}

/// Waits until `file` is readable. `false`: the deadline, by [`now`], came first. A file that cannot be
/// polled, since this program has closed it, counts as readable: a wait would not end.
pub(crate) fn await_readable(file: &impl AsFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(now());
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(left)) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) => {}
            Ok(_) | Err(_) => return true,
        }
    }
}

/// For a test that lets the clock stand still, or that counts a pause: there is one clock for all tests.
/// Pauses that earlier tests have counted, perhaps in the future, hide none of its own.
#[cfg(test)]
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    *COUNTED.lock().unwrap_or_else(PoisonError::into_inner) = None;
    alone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f126_a_pause_is_counted_once_however_many_threads_find_it() {
        let _alone = alone();
        let counted = || Duration::from_nanos(STOPPED.load(Ordering::Relaxed));
        let before = counted();
        // Two threads with a deadline could not run for a second.
        let due = Instant::now();
        let late = due + Duration::from_secs(1);
        count(due, late);
        count(due + Duration::from_millis(50), late);
        let counted = counted() - before;
        assert!(counted >= Duration::from_secs(1) && counted < Duration::from_millis(1900), "{counted:?}");
    }

    #[test]
    fn f64_the_clock_stands_still_while_it_is_stopped() {
        let _alone = alone();
        stop();
        let before = now();
        let real = Instant::now();
        while real.elapsed() < Duration::from_millis(5) {
            assert_eq!(now(), before);
        }
        go_on();
        // It goes on from where it was, behind by the time that it stood still.
        let behind = Instant::now() - now();
        assert!(behind >= Duration::from_millis(5) && now() >= before);
        // A second call changes nothing.
        go_on();
        assert!(Instant::now() - now() < behind + Duration::from_millis(5));
    }
}
