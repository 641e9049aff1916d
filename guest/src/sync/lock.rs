//! `multiprocessing.Lock` and `RLock`.

use std::time::Duration;

use super::Error;
use crate::bindings::synchronizing::wpool::sync::locks::{self, Acquired};
use crate::ipc::{NOW, at_once, nanos};

/// An acquired [`Lock`], [`RLock`] or [`Condition`](super::Condition). Releases it when it is dropped.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct Guard<'l, L: Lockable> {
    pub(super) lock: &'l L,
    owner_died: bool,
}

impl<'l, L: Lockable> Guard<'l, L> {
    pub(super) fn new(lock: &'l L, acquired: Acquired) -> Self {
        Guard { lock, owner_died: matches!(acquired, Acquired::OwnerDied) }
    }

    /// Whether the owner before ended without a release. What the lock protects may be half changed.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Releases the lock, as a drop does, and tells whether that failed.
    pub fn release(self) -> Result<(), Error> {
        let lock = self.lock;
        std::mem::forget(self);
        lock.release()
    }
}

impl<L: Lockable> Drop for Guard<'_, L> {
    fn drop(&mut self) {
        // An error changes nothing: if the lock was released by hand, this release is one too many.
        let _ = self.lock.release();
    }
}

/// What can be acquired and released: [`Lock`], [`RLock`] and [`Condition`](super::Condition).
pub trait Lockable: Sealed {
    /// Undoes one `acquire` whose guard was forgotten. A guard does this by itself.
    ///
    /// # Errors
    /// [`Invalid`](super::ErrorKind::Invalid): this task does not hold the lock.
    fn release(&self) -> Result<(), Error>;
}

/// Implemented by the types of this crate only.
pub trait Sealed {}

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
            pub fn acquire(&self) -> Result<Guard<'_, Self>, Error> {
                Ok(Guard::new(self, self.lock.acquire(None)?))
            }

            /// Acquires the lock. Waits for this time at most.
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<Guard<'_, Self>, Error> {
                Ok(Guard::new(self, self.lock.acquire(nanos(timeout))?))
            }

            /// Acquires the lock. `None`: another task holds it.
            pub fn try_acquire(&self) -> Result<Option<Guard<'_, Self>>, Error> {
                Ok(at_once(self.lock.acquire(NOW))?.map(|acquired| Guard::new(self, acquired)))
            }

            /// Whether anyone holds the lock.
            pub fn locked(&self) -> Result<bool, Error> {
                Ok(self.lock.locked()?)
            }
        }

        impl Lockable for $lock {
            fn release(&self) -> Result<(), Error> {
                Ok(self.lock.release()?)
            }
        }

        impl Sealed for $lock {}
    )*};
}

locks! {
    /// A lock that one task at a time holds: `multiprocessing.Lock`. A task that acquires a lock which it
    /// holds already waits for itself.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), wpool_guest::sync::Error> {
    /// let lock = wpool_guest::sync::Lock::open("db")?;
    /// if let Some(guard) = lock.try_acquire()? {
    ///     println!("nobody else wants it");
    ///     guard.release()?;
    /// }
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
