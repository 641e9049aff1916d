//! `Semaphore` and `BoundedSemaphore`.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::error::SyncError;
use crate::exchange::core::event::ObjectSpec;
use crate::exchange::front::{AT_ONCE, Handle, Object, other_answer};
use crate::exchange::host::{HostHandle, make};
use crate::spec::exchange::{Act, Answer};

/// A number of units that guests and threads of this program take and give back: `multiprocessing.Semaphore`.
/// Its clones are the same semaphore.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let connections = wpool::sync::Semaphore::new(4);
/// let policy = wpool::Policy::sealed().share("connections", &connections);
/// let unit = connections.acquire()?;
/// assert_eq!(connections.value(), 3);
/// drop(unit);
/// assert_eq!(connections.value(), 4);
/// connections.release(2)?; // it may grow
/// assert_eq!(connections.value(), 6);
/// # Ok(())
/// # }
/// ```
///
/// What a task has taken and not given back is given back when the task ends, however it ends. In Python the
/// units of a process that was killed are lost.
pub struct Semaphore(HostHandle);

/// A unit of a semaphore, which is given back when this is dropped.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let semaphore = wpool::sync::Semaphore::new(1);
/// semaphore.acquire()?.forget(); // kept for good
/// assert_eq!(semaphore.value(), 0);
/// semaphore.release(1)?;
/// assert_eq!(semaphore.value(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the unit is given back when the guard is dropped"]
pub struct SemaphoreGuard<'a> {
    semaphore: &'a Semaphore,
}

impl SemaphoreGuard<'_> {
    /// Keeps the unit. [`Semaphore::release`] gives it back, if anything does: a semaphore by which one side
    /// tells the other how often something has happened.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for SemaphoreGuard<'_> {
    fn drop(&mut self) {
        // It fails only if a bounded semaphore was released beside the guard: then nothing is left to do.
        let _ = self.semaphore.release(1);
    }
}

impl Semaphore {
    /// A semaphore with this many units.
    pub fn new(value: u64) -> Semaphore {
        Semaphore(make(ObjectSpec::Semaphore { value, bounded: false }))
    }

    /// Takes a unit, and waits for one as long as it takes.
    pub fn acquire(&self) -> Result<SemaphoreGuard<'_>, SyncError> {
        self.acquire_within(None)
    }

    /// As [`acquire`](Self::acquire), with [`SyncError::TimedOut`] if there is no unit within `timeout`.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<SemaphoreGuard<'_>, SyncError> {
        self.acquire_within(Some(timeout))
    }

    /// As [`acquire`](Self::acquire), with [`SyncError::TimedOut`] if there is no unit now.
    pub fn try_acquire(&self) -> Result<SemaphoreGuard<'_>, SyncError> {
        self.acquire_within(AT_ONCE)
    }

    fn acquire_within(&self, timeout: Option<Duration>) -> Result<SemaphoreGuard<'_>, SyncError> {
        SyncError::check(self.0.call(Act::Acquire, timeout))?;
        Ok(SemaphoreGuard { semaphore: self })
    }

    /// Gives `count` units back, or adds them. [`SyncError::TooMany`] if a bounded semaphore would have more
    /// than at first; then nothing is given back.
    pub fn release(&self, count: u32) -> Result<(), SyncError> {
        match SyncError::check(self.0.call(Act::Release { count }, AT_ONCE)) {
            Ok(_) => Ok(()),
            Err(SyncError::Invalid(_)) => Err(SyncError::TooMany),
            Err(error) => Err(error),
        }
    }

    /// The number of units that are free: `get_value()`.
    ///
    /// # Panics
    ///
    /// In a fork of the program that made the semaphore.
    pub fn value(&self) -> u64 {
        match SyncError::check(self.0.call(Act::Status, AT_ONCE)) {
            Ok(Answer::Count(value)) => value,
            Ok(answer) => other_answer(&answer),
            Err(error) => panic!("{error}"),
        }
    }
}

impl Object for Semaphore {
    fn handle(&self) -> Handle<'_> {
        Handle(&self.0)
    }
}

impl Clone for Semaphore {
    fn clone(&self) -> Semaphore {
        Semaphore(self.0.clone())
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("object", &self.0.object().id()).finish_non_exhaustive()
    }
}

/// A semaphore that never has more units than at first: `multiprocessing.BoundedSemaphore`. It has all
/// methods of [`Semaphore`].
///
/// ```
/// use wpool::sync::{BoundedSemaphore, SyncError};
///
/// let semaphore = BoundedSemaphore::new(2);
/// assert_eq!(semaphore.release(1), Err(SyncError::TooMany));
/// ```
#[derive(Clone)]
pub struct BoundedSemaphore(Semaphore);

impl BoundedSemaphore {
    /// A semaphore with this many units.
    pub fn new(value: u64) -> BoundedSemaphore {
        BoundedSemaphore(Semaphore(make(ObjectSpec::Semaphore { value, bounded: true })))
    }
}

impl Object for BoundedSemaphore {
    fn handle(&self) -> Handle<'_> {
        self.0.handle()
    }
}

impl Deref for BoundedSemaphore {
    type Target = Semaphore;

    fn deref(&self) -> &Semaphore {
        &self.0
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoundedSemaphore").field(&self.0).finish()
    }
}
