//! Locks and what else tasks wait for each other by: the synchronisation primitives of `multiprocessing`.
//!
//! An object is made here, and [`Policy::share`](crate::Policy::share) gives it to guests under a name. One
//! object may be given to several pools and processes, and used by the threads of this program.
//!
//! What a task holds is released when the task ends, however it ends: a task that traps, meets a limit or
//! dies with its worker leaves nothing locked. The next owner of a lock is told
//! ([`LockGuard::owner_died`]).
//!
//! The owner of what this program holds is the thread. A guard releases on drop. A thread that ends with what
//! it keeps by `forget` leaves it locked.
//!
//! Those that wait for the same object are served in the order in which they came.

mod barrier;
mod condition;
mod error;
mod event;
mod lock;
mod semaphore;

pub use self::barrier::Barrier;
pub use self::condition::{Condition, ConditionGuard};
pub use self::error::SyncError;
pub use self::event::Event;
pub use self::lock::{Lock, LockGuard, RLock};
pub use self::semaphore::{BoundedSemaphore, Semaphore, SemaphoreGuard};
