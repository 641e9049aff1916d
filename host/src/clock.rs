//! The clock of time limits: it stands still while this program is stopped (Ctrl-Z), and nobody can set it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::Timespec;

/// How long this process has been stopped in its life, in nanoseconds. In a worker process a signal handler counts.
static STOPPED: AtomicU64 = AtomicU64::new(0);

/// Since when it is stopped; for the threads that go on before the count is right.
static SINCE: Mutex<Option<Instant>> = Mutex::new(None);

/// Until when pauses have been counted: all threads find the same one.
static COUNTED: Mutex<Option<Instant>> = Mutex::new(None);

/// A wait that ends so much too late is no matter of a busy machine: this process could not run. The freezer of a container, or the end
/// of its share of processor time, sends no signal.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest wait at a time for somebody with a deadline, who would take a pause within it for time that has passed.
const NAP: Duration = Duration::from_millis(100);

/// The longest wait of all: so long it takes until a thread sees that its descriptors have been closed under it.
const DOZE: Duration = Duration::from_secs(1);

/// Waits by `wait` for at most `left`, or a part of that. A pause of this program meanwhile is counted as such.
pub(crate) fn nap<R>(left: Option<Duration>, wait: impl FnOnce(&Timespec) -> R) -> R {
    let most = left.map_or(DOZE, |left| left.min(NAP));
    let due = Instant::now() + most;
    let waited = wait(&Timespec::try_from(most).expect("less than a second fits"));
    let now = Instant::now();
    if now.saturating_duration_since(due) > PAUSE {
        count(due, now);
    }
    waited
}

/// Counts a time in which this program could not run. One in which it was stopped is counted when it goes on.
fn count(from: Instant, to: Instant) {
    let is_stopped = since().is_some();
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
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
    // Held to the end: the count and the time must fit together.
    let since = since();
    let now = since.unwrap_or_else(Instant::now);
    now.checked_sub(Duration::from_nanos(STOPPED.load(Ordering::Relaxed))).unwrap_or(now)
}

/// Adds time that this process has been stopped. Safe in a signal handler.
#[cfg(feature = "worker")]
pub(crate) fn add_stopped(nanos: u64) {
    STOPPED.fetch_add(nanos, Ordering::Relaxed);
}

/// The clock stands still.
pub(crate) fn stop() {
    since().get_or_insert_with(Instant::now);
}

/// The clock goes on.
pub(crate) fn go_on() {
    let stopped = since().take();
    if let Some(stopped) = stopped {
        count(stopped, Instant::now());
    }
}

fn since() -> MutexGuard<'static, Option<Instant>> {
    SINCE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f126_a_pause_is_counted_once_however_many_threads_find_it() {
        let counted = || Duration::from_nanos(STOPPED.load(Ordering::Relaxed));
        let before = counted();
        // Two threads with a deadline, both of which could not run for a second.
        let due = Instant::now();
        let late = due + Duration::from_secs(1);
        count(due, late);
        count(due + Duration::from_millis(50), late);
        let counted = counted() - before;
        assert!(counted >= Duration::from_secs(1) && counted < Duration::from_millis(1900), "{counted:?}");
    }

    #[test]
    fn f64_the_clock_stands_still_while_it_is_stopped() {
        stop();
        let before = now();
        let real = Instant::now();
        while real.elapsed() < Duration::from_millis(5) {
            assert_eq!(now(), before);
        }
        go_on();
        // It goes on where it was: it is behind by all that it has missed.
        let behind = Instant::now() - now();
        assert!(behind >= Duration::from_millis(5) && now() >= before);
        // Twice is once.
        go_on();
        assert!(Instant::now() - now() < behind + Duration::from_millis(5));
    }
}
