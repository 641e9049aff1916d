//! `multiprocessing.Lock` and `RLock`.

use std::time::Duration;

use super::Error;
use crate::host::sync::locks::{self, Acquired};
use crate::ipc::{NOW, nanos};

/// An acquired [`Lock`] or [`RLock`]. Releases it when it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'l> {
    lock: &'l dyn Release,
    owner_died: bool,
}

/// A lock that can be released.
pub(super) trait Release: std::fmt::Debug {
    fn release_once(&self) -> Result<(), Error>;
}

impl<'l> LockGuard<'l> {
    pub(super) fn new(lock: &'l dyn Release, acquired: Acquired) -> Self {
        LockGuard { lock, owner_died: matches!(acquired, Acquired::OwnerDied) }
    }

    /// Whether the owner before ended without a release. What the lock protects may be half changed.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Releases the lock, as a drop does, and tells whether that failed.
    pub fn release(self) -> Result<(), Error> {
        let lock = self.lock;
        self.forget();
        lock.release_once()
    }

    /// Keeps the lock without a guard, until the task ends or `release` of the lock releases it.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // It fails only if `release` of the lock was called beside the guard: then nothing is left to do.
        let _ = self.lock.release_once();
    }
}

macro_rules! locks {
    ($($(#[$doc:meta])* $lock:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $lock {
            lock: locks::$lock,
        }

        impl $lock {
            /// Opens the lock of this name.
            ///
            /// # Errors
            /// [`NotGranted`](super::ErrorKind::NotGranted): no such lock of this name is shared with this
            /// worker.
            pub fn open(name: &str) -> Result<Self, Error> {
                Ok(Self { lock: locks::$lock::open(name)? })
            }

            /// Acquires the lock. Waits until it is free.
            pub fn acquire(&self) -> Result<LockGuard<'_>, Error> {
                Ok(LockGuard::new(self, self.lock.acquire(None)?))
            }

            /// Acquires the lock. Waits for this time at most.
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, Error> {
                Ok(LockGuard::new(self, self.lock.acquire(nanos(timeout))?))
            }

            /// Acquires the lock, if it is free: `acquire(block=False)` in Python.
            pub fn try_acquire(&self) -> Result<LockGuard<'_>, Error> {
                Ok(LockGuard::new(self, self.lock.acquire(NOW)?))
            }

            /// Releases what this task keeps without a guard: see [`LockGuard::forget`].
            ///
            /// # Errors
            /// [`Invalid`](super::ErrorKind::Invalid): this task does not hold the lock.
            pub fn release(&self) -> Result<(), Error> {
                Ok(self.lock.release()?)
            }

            /// Whether anyone holds the lock.
            pub fn locked(&self) -> Result<bool, Error> {
                Ok(self.lock.locked()?)
            }
        }

        impl Release for $lock {
            fn release_once(&self) -> Result<(), Error> {
                self.release()
            }
        }
    )*};
}

locks! {
    /// A lock that one task at a time holds: `multiprocessing.Lock`. A task that acquires a lock which it
    /// holds already waits for itself.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), wpool_guest::sync::Error> {
    /// let lock = wpool_guest::sync::Lock::open("db")?;
    /// let guard = lock.acquire()?;
    /// println!("nobody else has it");
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    Lock
    /// A lock that its owner, the task, may acquire several times: `multiprocessing.RLock`. It is free once
    /// each guard is dropped.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), wpool_guest::sync::Error> {
    /// let lock = wpool_guest::sync::RLock::open("db")?;
    /// let outer = lock.acquire()?;
    /// let inner = lock.acquire()?;
    /// # drop((inner, outer));
    /// # Ok(())
    /// # }
    /// ```
    RLock
}
