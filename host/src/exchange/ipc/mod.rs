//! Queues, pipes and shared data: what guests and this program tell each other while tasks run.
//!
//! An object is made here, and [`Policy::share`](crate::Policy::share) gives it to guests under a name. One
//! object may be given to several pools and processes. Its content is in this program: a worker that dies
//! damages nothing.
//!
//! - [`Queue`], [`JoinableQueue`], [`SimpleQueue`]: items, first in, first out;
//! - [`pipe`], [`simplex_pipe`]: messages between two ends, a [`Connection`] each;
//! - [`wait`]: for several of them at once;
//! - [`Value`], [`Dict`]: what people use Python's `Value` and `Manager` for.
//!
//! The objects by which tasks wait for each other are in [`sync`](crate::sync).
//!
//! Each object can be cloned, sent to other threads and used by all of them. Those that wait for the same
//! object are served in the order in which they came.

mod connection;
mod dict;
mod error;
mod queue;
mod transfer;
mod value;
mod variants;
mod waiting;

pub use self::connection::{Connection, Receiver, Sender, pipe, simplex_pipe};
pub use self::dict::Dict;
pub use self::error::IpcError;
pub use self::queue::{Delivery, Items, Queue};
pub use self::transfer::Transfer;
pub use self::value::Value;
pub use self::variants::{JoinableQueue, SimpleQueue};
pub use self::waiting::{Waitable, wait};
