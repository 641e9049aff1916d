//! `multiprocessing.Condition`.

use std::time::{Duration, Instant};

use super::Error;
use super::lock::{LockGuard, Release};
use crate::host::sync::conditions;
use crate::ipc::{NOW, nanos};

/// A lock whose owner can wait until another task has changed something. It is recursive, as an
/// [`RLock`](super::RLock) is.
///
/// The methods for waiting and notifying are those of the [`ConditionGuard`]: Python's condition must be
/// acquired for them, too.
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
    pub fn acquire(&self) -> Result<ConditionGuard<'_>, Error> {
        self.acquire_within(None)
    }

    /// Acquires the lock. Waits for this time at most.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<ConditionGuard<'_>, Error> {
        self.acquire_within(nanos(timeout))
    }

    /// Acquires the lock, if it is free.
    pub fn try_acquire(&self) -> Result<ConditionGuard<'_>, Error> {
        self.acquire_within(NOW)
    }

    fn acquire_within(&self, timeout: Option<u64>) -> Result<ConditionGuard<'_>, Error> {
        let acquired = self.condition.acquire(timeout)?;
        Ok(ConditionGuard { condition: self, lock: LockGuard::new(self, acquired) })
    }

    /// Releases what this task keeps without a guard: see [`ConditionGuard::forget`].
    ///
    /// # Errors
    /// [`Invalid`](super::ErrorKind::Invalid): this task does not hold the lock.
    pub fn release(&self) -> Result<(), Error> {
        Ok(self.condition.release()?)
    }
}

/// The acquired lock of a [`Condition`]. Releases it when it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct ConditionGuard<'c> {
    condition: &'c Condition,
    lock: LockGuard<'c>,
}

impl ConditionGuard<'_> {
    /// Whether the owner before ended without a release. What the lock protects may be half changed.
    pub fn owner_died(&self) -> bool {
        self.lock.owner_died()
    }

    /// Releases the lock, as a drop does, and tells whether that failed.
    pub fn release(self) -> Result<(), Error> {
        self.lock.release()
    }

    /// Keeps the lock without a guard, until the task ends or [`Condition::release`] releases it.
    pub fn forget(self) {
        self.lock.forget();
    }

    /// Releases the lock, waits for a notification, and acquires the lock again.
    pub fn wait(&self) -> Result<(), Error> {
        Ok(self.condition.condition.wait(None).map(drop)?)
    }

    /// As [`wait`](ConditionGuard::wait), for this time at most. `false`: it has passed. The lock is held
    /// again all the same.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Error> {
        Ok(self.condition.condition.wait(nanos(timeout))?)
    }

    /// Waits until `predicate` gives `true`. It is called at first and after each notification, with the lock
    /// held.
    pub fn wait_for(&self, mut predicate: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
        while !predicate()? {
            self.wait()?;
        }
        Ok(())
    }

    /// As [`wait_for`](ConditionGuard::wait_for), for this time at most. Returns what `predicate` gave last.
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
        Ok(self.condition.condition.notify(count)?)
    }

    /// Wakes all waiting tasks.
    pub fn notify_all(&self) -> Result<(), Error> {
        Ok(self.condition.condition.notify_all()?)
    }
}

impl Release for Condition {
    fn release_once(&self) -> Result<(), Error> {
        self.release()
    }
}
