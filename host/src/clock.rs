//! The clock of time limits: it stands still while this program is stopped (Ctrl-Z), and nobody can set it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long this process has been stopped in its life, in nanoseconds. In a worker process a signal handler counts.
static STOPPED: AtomicU64 = AtomicU64::new(0);

/// Since when it is stopped; for the threads that go on before the count is right.
static SINCE: Mutex<Option<Instant>> = Mutex::new(None);

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
    let mut since = since();
    if let Some(stopped) = since.take() {
        STOPPED.fetch_add(u64::try_from(stopped.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

fn since() -> MutexGuard<'static, Option<Instant>> {
    SINCE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

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
