//! A condition variable with a deadline, which costs nothing to announce while no thread waits: most outcomes
//! are there before a thread asks for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Condition {
    condvar: Condvar,
    /// The number of waiting threads, counted under the mutex that they hold.
    ///
    /// A thread changes what the others wait for under the same mutex, and announces it after that. Either it
    /// sees here that a thread waits, or that thread sees the change and does not wait.
    waiting: AtomicUsize,
}

impl Condition {
    /// Waits while `waits` says so, until the deadline at most. The caller looks at the value to learn which
    /// of the two has ended the wait.
    pub(crate) fn wait_while<'m, T>(
        &self,
        mut guard: MutexGuard<'m, T>,
        deadline: Option<Instant>,
        waits: impl Fn(&T) -> bool,
    ) -> MutexGuard<'m, T> {
        while waits(&guard) {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            // Relaxed is enough under the mutex.
            self.waiting.fetch_add(1, Ordering::Relaxed);
            guard = match left {
                None => self.condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.condvar.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        guard
    }

    /// Wakes all waiting threads. Called after the change, with the mutex or without.
    pub(crate) fn announce(&self) {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.condvar.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_waiting_thread_is_woken_however_often_it_is_announced() {
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
        let seen = changed.wait_while(count.lock().unwrap(), None, |count| *count < 10_000);
        assert_eq!(*seen, 10_000);
        drop(seen);
        counter.join().unwrap();
        let deadline = Instant::now() + Duration::from_millis(1);
        let over = changed.wait_while(count.lock().unwrap(), Some(deadline), |_| true);
        assert_eq!((*over, changed.waiting.load(Ordering::Relaxed)), (10_000, 0));
        assert!(Instant::now() >= deadline);
    }
}
