//! `multiprocessing.Condition`.

use std::time::{Duration, Instant};

use super::Error;
use super::lock::{Guard, Lockable, Sealed};
use crate::bindings::synchronizing::wpool::sync::conditions;
use crate::ipc::{NOW, at_once, nanos};

/// A lock whose owner can wait until another task has changed something. It is recursive, as an
/// [`RLock`](super::RLock) is.
///
/// The methods for waiting and notifying are those of the [`Guard`]: Python's condition must be acquired for
/// them, too.
///
/// ```no_run
/// use wpool_guest::ipc::Value;
/// use wpool_guest::sync::{Condition, Error};
///
/// #[wpool_guest::task]
/// fn ten(_: String) -> Result<i64, Error> {
///     let (changed, count) = (Condition::open("changed")?, Value::<i64>::open("count")?);
///     let guard = changed.acquire()?;
///     guard.wait_for(|| Ok(count.get()? >= 10))?;
///     count.get()
/// }
/// ```
#[derive(Debug)]
pub struct Condition {
    condition: conditions::Condition,
}

impl Condition {
    /// Opens the condition of this name.
    ///
    /// # Errors
    /// [`NotGranted`](super::ErrorKind::NotGranted): no condition of this name is shared with this worker.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Condition { condition: conditions::Condition::open(name)? })
    }

    /// Acquires the lock. Waits until it is free.
    pub fn acquire(&self) -> Result<Guard<'_, Self>, Error> {
        Ok(Guard::new(self, self.condition.acquire(None)?))
    }

    /// Acquires the lock. Waits for this time at most.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Guard<'_, Self>, Error> {
        Ok(Guard::new(self, self.condition.acquire(nanos(timeout))?))
    }

    /// Acquires the lock. `None`: another task holds it.
    pub fn try_acquire(&self) -> Result<Option<Guard<'_, Self>>, Error> {
        Ok(at_once(self.condition.acquire(NOW))?.map(|acquired| Guard::new(self, acquired)))
    }
}

impl Guard<'_, Condition> {
    /// Releases the lock, waits for a notification, and acquires the lock again.
    pub fn wait(&self) -> Result<(), Error> {
        Ok(self.lock.condition.wait(None).map(drop)?)
    }

    /// As [`wait`](Guard::wait), for this time at most. `false`: it has passed. The lock is held again all
    /// the same.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Error> {
        Ok(self.lock.condition.wait(nanos(timeout))?)
    }

    /// Waits until `predicate` gives `true`. It is called at first and after each notification, with the lock
    /// held.
    pub fn wait_for(&self, mut predicate: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
        while !predicate()? {
            self.wait()?;
        }
        Ok(())
    }

    /// As [`wait_for`](Guard::wait_for), for this time at most. Returns what `predicate` gave last.
    pub fn wait_for_timeout(
        &self,
        mut predicate: impl FnMut() -> Result<bool, Error>,
        timeout: Duration,
    ) -> Result<bool, Error> {
        let start = Instant::now();
        loop {
            if predicate()? {
                return Ok(true);
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() || !self.wait_timeout(left)? {
                return predicate();
            }
        }
    }

    /// Wakes `count` waiting tasks at most.
    pub fn notify(&self, count: u32) -> Result<(), Error> {
        Ok(self.lock.condition.notify(count)?)
    }

    /// Wakes all waiting tasks.
    pub fn notify_all(&self) -> Result<(), Error> {
        Ok(self.lock.condition.notify_all()?)
    }
}

impl Lockable for Condition {
    fn release(&self) -> Result<(), Error> {
        Ok(self.condition.release()?)
    }
}

impl Sealed for Condition {}
