//! `Lock` and `RLock`, and the guard of what is held.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use super::error::SyncError;
use crate::exchange::core::event::ObjectSpec;
use crate::exchange::front::{AT_ONCE, Handle, Object, other_answer};
use crate::exchange::host::{HostHandle, make};
use crate::spec::exchange::{Act, Answer};

/// A lock that guests and threads of this program share: `multiprocessing.Lock`. Its clones are the same
/// lock.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let lock = wpool::sync::Lock::new();
/// let policy = wpool::Policy::sealed().share("db", &lock);
/// let guard = lock.acquire()?;
/// if guard.owner_died() {
///     // Look at what the lock protects: its change may be half done.
/// }
/// assert!(lock.locked());
/// drop(guard); // releases it
/// assert!(lock.acquire_timeout(Duration::from_secs(1)).is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # What is different from Python's
///
/// - What a task holds is released when the task ends, however it ends. In Python a lock whose owner was
///   killed stays locked for ever. The next owner is told: [`LockGuard::owner_died`].
/// - A task releases what it has acquired itself. Any thread of this program releases what another of its
///   threads has acquired, as in Python.
/// - Those that wait get the lock in the order in which they came.
pub struct Lock(HostHandle);

/// A lock that its owner may acquire several times: `multiprocessing.RLock`. Its clones are the same lock.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let lock = wpool::sync::RLock::new();
/// let outer = lock.acquire()?;
/// let inner = lock.acquire()?;
/// drop(outer);
/// assert!(lock.locked()); // until the last guard is dropped
/// drop(inner);
/// assert!(!lock.locked());
/// # Ok(())
/// # }
/// ```
///
/// It differs from Python's as [`Lock`] does.
pub struct RLock(HostHandle);

/// A lock is held as long as this lives: `with lock:`. It belongs to the thread that has acquired the lock.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let lock = wpool::sync::Lock::new();
/// {
///     let guard = lock.acquire()?;
///     assert!(!guard.owner_died());
/// }
/// assert!(!lock.locked());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a> {
    lock: &'a HostHandle,
    owner_died: bool,
    /// The owner is a thread: another one cannot release an `RLock`.
    thread: PhantomData<*const ()>,
}

impl<'a> LockGuard<'a> {
    pub(super) fn acquire(
        lock: &'a HostHandle,
        timeout: Option<Duration>,
    ) -> Result<LockGuard<'a>, SyncError> {
        match SyncError::check(lock.call(Act::Acquire, timeout))? {
            Answer::Acquired { owner_died } => Ok(LockGuard { lock, owner_died, thread: PhantomData }),
            answer => other_answer(&answer),
        }
    }

    pub(super) fn lock(&self) -> &'a HostHandle {
        self.lock
    }

    /// Whether the owner before ended without a release: its task failed, was ended, or its worker died. What
    /// the lock protects may be half changed.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Keeps the lock without a guard. Its `release` releases it.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // It fails only if `release` of the lock was called beside the guard: then nothing is left to do.
        let _ = release(self.lock);
    }
}

/// Releases a lock that this thread holds.
pub(super) fn release(lock: &HostHandle) -> Result<(), SyncError> {
    match SyncError::check(lock.call(Act::Release { count: 1 }, AT_ONCE)) {
        Ok(_) => Ok(()),
        Err(SyncError::Invalid(_)) => Err(SyncError::NotHeld),
        Err(error) => Err(error),
    }
}

fn locked(lock: &HostHandle) -> bool {
    match SyncError::check(lock.call(Act::Status, AT_ONCE)) {
        Ok(Answer::Flag(locked)) => locked,
        Ok(answer) => other_answer(&answer),
        Err(error) => panic!("{error}"),
    }
}

macro_rules! lock {
    ($($lock:ident)*) => {$(
        impl $lock {
            /// A lock that is not held.
            #[expect(clippy::new_without_default, reason = "an object of the exchange is made on purpose")]
            pub fn new() -> $lock {
                $lock(make(ObjectSpec::$lock))
            }

            /// Acquires the lock, and waits for it as long as it takes.
            pub fn acquire(&self) -> Result<LockGuard<'_>, SyncError> {
                LockGuard::acquire(&self.0, None)
            }

            /// As `acquire`, with [`SyncError::TimedOut`] if the lock is not free within `timeout`.
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<LockGuard<'_>, SyncError> {
                LockGuard::acquire(&self.0, Some(timeout))
            }

            /// As `acquire`, with [`SyncError::TimedOut`] if the lock is not free now:
            /// `acquire(block=False)`.
            pub fn try_acquire(&self) -> Result<LockGuard<'_>, SyncError> {
                LockGuard::acquire(&self.0, AT_ONCE)
            }

            /// Releases what this thread keeps without a guard ([`LockGuard::forget`]).
            /// [`SyncError::NotHeld`] if it holds nothing.
            pub fn release(&self) -> Result<(), SyncError> {
                release(&self.0)
            }

            /// Whether a task or a thread holds the lock.
            ///
            /// # Panics
            ///
            /// In a fork of the program that made the lock.
            pub fn locked(&self) -> bool {
                locked(&self.0)
            }
        }

        impl Object for $lock {
            fn handle(&self) -> Handle<'_> {
                Handle(&self.0)
            }
        }

        impl Clone for $lock {
            fn clone(&self) -> $lock {
                $lock(self.0.clone())
            }
        }

        impl fmt::Debug for $lock {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let id = self.0.object().id();
                f.debug_struct(stringify!($lock)).field("object", &id).finish_non_exhaustive()
            }
        }
    )*};
}

lock! { Lock RLock }
