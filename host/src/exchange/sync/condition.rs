//! `Condition`: waiting for what others change under its lock.

use std::fmt;
use std::time::{Duration, Instant};

use super::error::SyncError;
use super::lock::LockGuard;
use crate::exchange::core::event::ObjectSpec;
use crate::exchange::front::{AT_ONCE, Handle, Object, other_answer};
use crate::exchange::host::{HostHandle, make};
use crate::spec::exchange::{Act, Answer};

/// A lock by which guests and threads of this program wait for what others change under it:
/// `multiprocessing.Condition`. Its clones are the same condition.
///
/// The lock is recursive, and is the condition's own. A wait and a notification need it held, which the guard
/// proves.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (changed, jobs) = (wpool::sync::Condition::new(), wpool::ipc::Value::<i64>::new(&0)?);
/// let other = std::thread::spawn({
///     let (changed, jobs) = (changed.clone(), jobs.clone());
///     move || {
///         let guard = changed.acquire().unwrap();
///         jobs.add(1).unwrap();
///         guard.notify_all().unwrap();
///     }
/// });
/// let guard = changed.acquire()?;
/// guard.wait_for(|| jobs.get() == Ok(1))?;
/// # drop(guard);
/// # other.join().unwrap();
/// # Ok(())
/// # }
/// ```
///
/// # What is different from Python's
///
/// A waiting task that dies is not woken in another's place. A lock whose owner dies is released, and the
/// next owner is told, as with [`Lock`](super::Lock).
pub struct Condition(HostHandle);

/// The lock of a [`Condition`] is held as long as this lives.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let condition = wpool::sync::Condition::new();
/// let guard = condition.acquire()?;
/// assert!(!guard.wait_timeout(Duration::from_millis(1))?); // nothing was notified
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct ConditionGuard<'a>(LockGuard<'a>);

impl Condition {
    /// A condition whose lock is not held.
    #[expect(clippy::new_without_default, reason = "an object of the exchange is made on purpose")]
    pub fn new() -> Condition {
        Condition(make(ObjectSpec::Condition))
    }

    /// Acquires the lock, and waits for it as long as it takes.
    pub fn acquire(&self) -> Result<ConditionGuard<'_>, SyncError> {
        LockGuard::acquire(&self.0, None).map(ConditionGuard)
    }

    /// As [`acquire`](Self::acquire), with [`SyncError::TimedOut`] if the lock is not free within `timeout`.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<ConditionGuard<'_>, SyncError> {
        LockGuard::acquire(&self.0, Some(timeout)).map(ConditionGuard)
    }

    /// As [`acquire`](Self::acquire), with [`SyncError::TimedOut`] if the lock is not free now.
    pub fn try_acquire(&self) -> Result<ConditionGuard<'_>, SyncError> {
        LockGuard::acquire(&self.0, AT_ONCE).map(ConditionGuard)
    }
}

impl ConditionGuard<'_> {
    /// Whether the owner before ended without a release: [`LockGuard::owner_died`].
    pub fn owner_died(&self) -> bool {
        self.0.owner_died()
    }

    /// Releases the lock, waits for a notification, and acquires the lock again.
    pub fn wait(&self) -> Result<(), SyncError> {
        self.wait_within(None).map(|_| ())
    }

    /// As [`wait`](Self::wait). `false`: no notification came within `timeout`; the lock is held again all
    /// the same.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, SyncError> {
        self.wait_within(Some(timeout))
    }

    fn wait_within(&self, timeout: Option<Duration>) -> Result<bool, SyncError> {
        match SyncError::check(self.0.lock().call(Act::Wait, timeout))? {
            Answer::Flag(was_notified) => Ok(was_notified),
            answer => other_answer(&answer),
        }
    }

    /// Waits until the predicate holds. It is asked with the lock held: now, and after each notification.
    pub fn wait_for(&self, mut predicate: impl FnMut() -> bool) -> Result<(), SyncError> {
        while !predicate() {
            self.wait()?;
        }
        Ok(())
    }

    /// As [`wait_for`](Self::wait_for). `false`: the predicate does not hold after `timeout`.
    pub fn wait_for_timeout(
        &self,
        mut predicate: impl FnMut() -> bool,
        timeout: Duration,
    ) -> Result<bool, SyncError> {
        let started = Instant::now();
        while !predicate() {
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() || !self.wait_timeout(left)? {
                return Ok(predicate());
            }
        }
        Ok(true)
    }

    /// Wakes `count` waiting tasks and threads at most: those that have waited longest.
    pub fn notify(&self, count: u32) -> Result<(), SyncError> {
        SyncError::check(self.0.lock().call(Act::Notify { count }, AT_ONCE)).map(|_| ())
    }

    /// Wakes all waiting tasks and threads.
    pub fn notify_all(&self) -> Result<(), SyncError> {
        self.notify(u32::MAX)
    }
}

impl Object for Condition {
    fn handle(&self) -> Handle<'_> {
        Handle(&self.0)
    }
}

impl Clone for Condition {
    fn clone(&self) -> Condition {
        Condition(self.0.clone())
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("object", &self.0.object().id()).finish_non_exhaustive()
    }
}
