//! Queues, pipes, values and dicts: objects through which tasks pass data to each other and to the host.
//!
//! The names are those of Python's `multiprocessing`. The host makes an object, gives it a name and shares
//! it with workers (`wpool map --share queue:found=1000`, or `Policy::share` in an application). A guest
//! opens it by that name. Only a guest that uses an object imports its interface.
//!
//! ```no_run
//! use wpool_guest::ipc::{Error, Queue};
//!
//! #[wpool_guest::task]
//! fn crawl(page: &str) -> Result<usize, Error> {
//!     let found = Queue::<String>::open("found")?;
//!     let links: Vec<&str> = page.split_whitespace().filter(|word| word.starts_with("http")).collect();
//!     found.put_many(&links)?;
//!     Ok(links.len())
//! }
//! ```
//!
//! # Items
//!
//! The host keeps bytes. The type `T` of a `Queue<T>`, and of the other objects, says how they are read and
//! written: [`String`] is its text, `Vec<u8>` the bytes, and any other serde type JSON. See [`Transfer`].
//!
//! # Waiting
//!
//! A method such as [`Queue::get`] waits as long as the task may run. While it waits, it uses no processor
//! time; the task's time limit and a cancel end it. Its variants have a suffix and a prefix:
//!
//! - `get_timeout` waits for a [`Duration`]. When that has passed, it returns an error
//!   with the kind [`ErrorKind::TimedOut`]: [`Error::is_timed_out`].
//! - `try_get` does not wait. If it would have to, it returns the same error.

mod connection;
mod dict;
mod error;
mod queue;
#[cfg(test)]
mod tests;
mod transfer;
mod value;
mod waiting;

pub use connection::Connection;
pub use dict::Dict;
pub use error::{Error, ErrorKind};
pub use queue::{Delivery, Items, JoinableQueue, Queue, SimpleQueue};
pub use transfer::{AsItem, Transfer};
pub use value::Value;
pub use waiting::{Waitable, wait};

use std::time::Duration;

/// The time-out of a call that does not wait.
pub(crate) const NOW: Option<u64> = Some(0);

/// The time-out in the unit of the interface. A duration of centuries is cut.
pub(crate) fn nanos(timeout: Duration) -> Option<u64> {
    Some(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX))
}

/// A second `close` changes nothing.
fn close_again(closed: Result<(), Error>) -> Result<(), Error> {
    closed.or_else(|error| if error.is_closed() { Ok(()) } else { Err(error) })
}
