//! `multiprocessing.Semaphore` and `BoundedSemaphore`.

use std::time::Duration;

use super::Error;
use crate::host::sync::semaphores;
use crate::ipc::{NOW, nanos};

/// A number of units, which tasks take and give back.
///
/// ```no_run
/// use wpool_guest::sync::{Error, Semaphore};
///
/// #[wpool_guest::task]
/// fn fetch(page: String) -> Result<(), Error> {
///     let connections = Semaphore::open("connections")?;
///     let unit = connections.acquire()?;
///     println!("{page}");
///     unit.release()
/// }
/// ```
#[derive(Debug)]
pub struct Semaphore {
    semaphore: semaphores::Semaphore,
}

/// A [`Semaphore`] that never has more units than at first. The host decides which kind it makes.
pub type BoundedSemaphore = Semaphore;

impl Semaphore {
    /// Opens the semaphore of this name.
    ///
    /// # Errors
    /// [`NotGranted`](super::ErrorKind::NotGranted): no semaphore of this name is shared with this worker.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Semaphore { semaphore: semaphores::Semaphore::open(name)? })
    }

    /// Takes one unit. Waits until one is free.
    pub fn acquire(&self) -> Result<SemaphoreGuard<'_>, Error> {
        self.semaphore.acquire(None)?;
        Ok(SemaphoreGuard { semaphore: self })
    }

    /// Takes one unit. Waits for this time at most.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<SemaphoreGuard<'_>, Error> {
        self.semaphore.acquire(nanos(timeout))?;
        Ok(SemaphoreGuard { semaphore: self })
    }

    /// Takes one unit, if one is free.
    pub fn try_acquire(&self) -> Result<SemaphoreGuard<'_>, Error> {
        self.semaphore.acquire(NOW)?;
        Ok(SemaphoreGuard { semaphore: self })
    }

    /// Gives `count` units to the semaphore, whether this task has taken them or not.
    ///
    /// # Errors
    /// [`Invalid`](super::ErrorKind::Invalid): a bounded semaphore would have more units than at first.
    pub fn release(&self, count: u32) -> Result<(), Error> {
        Ok(self.semaphore.release(count)?)
    }

    /// The units that are free.
    pub fn value(&self) -> Result<u64, Error> {
        Ok(self.semaphore.value()?)
    }
}

/// One unit of a [`Semaphore`]. Gives it back when it is dropped.
#[derive(Debug)]
#[must_use = "the unit is given back when the guard is dropped"]
pub struct SemaphoreGuard<'s> {
    semaphore: &'s Semaphore,
}

impl SemaphoreGuard<'_> {
    /// Gives the unit back, as a drop does, and tells whether that failed.
    pub fn release(self) -> Result<(), Error> {
        let semaphore = self.semaphore;
        self.forget();
        semaphore.release(1)
    }

    /// Keeps the unit until the task ends.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for SemaphoreGuard<'_> {
    fn drop(&mut self) {
        // An error changes nothing: the host takes the unit back when the task ends.
        let _ = self.semaphore.release(1);
    }
}
