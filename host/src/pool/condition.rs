//! A condition variable that costs nothing to announce while nobody waits: most outcomes are found by whoever looks for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Condition {
    condvar: Condvar,
    /// Counted under the mutex that waiters hold. Whoever changes what they wait for does that under the same mutex, before he announces it: either he
    /// sees here that somebody waits, or they see the change and do not.
    waiting: AtomicUsize,
}

impl Condition {
    /// Waits for the next announcement, or without reason, as [`Condvar::wait`].
    pub(super) fn wait<'m, T>(&self, guard: MutexGuard<'m, T>) -> MutexGuard<'m, T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let guard = self.condvar.wait(guard).unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// The same for `time` at most.
    pub(super) fn wait_timeout<'m, T>(&self, guard: MutexGuard<'m, T>, time: Duration) -> MutexGuard<'m, T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let (guard, _over) = self.condvar.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// Wakes all who wait. After the change, with the mutex or without.
    pub(super) fn announce(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.condvar.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn whoever_waits_is_woken_however_often_it_is_announced() {
        let shared = Arc::new((Mutex::new(0), Condition::default()));
        let counting = shared.clone();
        let counter = std::thread::spawn(move || {
            let (count, changed) = &*counting;
            for n in 1..=10_000 {
                *count.lock().unwrap() = n;
                changed.announce();
            }
        });
        let (count, changed) = &*shared;
        let mut seen = count.lock().unwrap();
        while *seen < 10_000 {
            seen = changed.wait(seen);
        }
        drop(seen);
        counter.join().unwrap();
        let over = changed.wait_timeout(count.lock().unwrap(), Duration::from_millis(1));
        assert_eq!((*over, changed.waiting.load(Ordering::Relaxed)), (10_000, 0));
    }
}
