//! Locks, semaphores, events, conditions and barriers: objects by which tasks wait for each other.
//!
//! The names are those of Python's `multiprocessing`. The host makes an object, gives it a name and shares it
//! with workers (`wpool map --share lock:db`, or `Policy::share` in an application). A guest opens it by that
//! name. Only a guest that uses an object imports its interface.
//!
//! What a task has acquired is a guard, which releases it when it is dropped. What a task still holds when it
//! ends is released by the host, however the task ends: by a return, an error, a trap, a limit, or the death
//! of its worker. The next owner is told: see [`LockGuard::owner_died`].
//!
//! ```no_run
//! use wpool_guest::sync::{Error, Lock};
//!
//! #[wpool_guest::task]
//! fn append(line: String) -> Result<(), Error> {
//!     let file = Lock::open("file")?;
//!     let guard = file.acquire()?;
//!     if guard.owner_died() {
//!         println!("the last line may be incomplete");
//!     }
//!     println!("{line}");
//!     Ok(())
//! }
//! ```
//!
//! A method such as [`Lock::acquire`] waits as long as the task may run. Its variants are those of
//! [`ipc`](crate::ipc): `acquire_timeout` waits for a time, `try_acquire` does not wait. If they have not
//! acquired it, they return an error with the kind [`ErrorKind::TimedOut`].

mod barrier;
mod condition;
mod event;
mod lock;
mod semaphore;
#[cfg(test)]
mod tests;

pub use crate::ipc::{Error, ErrorKind};
pub use barrier::Barrier;
pub use condition::{Condition, ConditionGuard};
pub use event::Event;
pub use lock::{Lock, LockGuard, RLock};
pub use semaphore::{BoundedSemaphore, Semaphore, SemaphoreGuard};
