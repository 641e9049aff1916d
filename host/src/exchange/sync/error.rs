//! Why a use of a synchronising object fails.

use crate::escape::shortened;
use crate::spec::exchange::{Answer, Code};

/// A use of a lock, a semaphore, a condition or a barrier failed.
///
/// ```
/// use wpool::sync::{Lock, SyncError};
///
/// let lock = Lock::new();
/// let guard = lock.acquire().unwrap();
/// assert_eq!(lock.try_acquire().unwrap_err(), SyncError::TimedOut);
/// drop(guard);
/// assert_eq!(lock.release(), Err(SyncError::NotHeld));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// It could not be acquired in time. Try again later.
    #[error("it could not be acquired in time")]
    TimedOut,
    /// The lock that is released is not held: of an `RLock`, by this thread; of a `Lock`, by any.
    #[error("the lock is not held here")]
    NotHeld,
    /// A bounded semaphore has as many units as at first, so that there is none to give back.
    #[error("the semaphore was released too many times")]
    TooMany,
    /// The barrier is broken: a party was too late or died, or `abort` was called. `reset` makes it whole.
    #[error("the barrier is broken (`reset` makes it whole)")]
    Broken,
    /// The object cannot do this, for the given reason: it was made before a fork of this program.
    #[error("{}", shortened(.0))]
    Invalid(String),
}

impl SyncError {
    /// The answer of the exchange, if it is no failure.
    pub(super) fn check(answer: Answer) -> Result<Answer, SyncError> {
        match answer {
            Answer::Failed { code, message } => Err(SyncError::of(code, message)),
            answer => Ok(answer),
        }
    }

    fn of(code: Code, message: String) -> SyncError {
        match code {
            Code::TimedOut => SyncError::TimedOut,
            Code::Broken => SyncError::Broken,
            // A handle is the grant; nothing in `sync` is closed or holds items; and while the host has a
            // handle, no wait is a deadlock.
            Code::NotGranted | Code::Closed | Code::Eof | Code::TooLarge | Code::Invalid | Code::Deadlock => {
                SyncError::Invalid(message)
            }
        }
    }
}
