//! `wait`: for several objects at once.

use std::time::Duration;

use super::connection::{Connection, Receiver};
use super::error::IpcError;
use super::queue::Queue;
use super::variants::{JoinableQueue, SimpleQueue};
use crate::exchange::front::{Handle, Object, other_answer};
use crate::exchange::host::{HostHandle, wait as wait_for};
use crate::spec::exchange::Answer;

/// What [`wait`] waits for: queues, and ends of pipes that receive.
///
/// ```
/// use wpool::ipc::{Queue, Waitable, pipe, wait};
///
/// let (queue, (here, _there)) = (Queue::<u32>::unbounded(), pipe::<u32>());
/// let objects: [&dyn Waitable; 2] = [&queue, &here];
/// queue.put(&1).unwrap();
/// assert_eq!(wait(&objects, None), Ok(vec![0]));
/// ```
pub trait Waitable: Object {}

impl<T> Waitable for Queue<T> {}
impl<T> Waitable for JoinableQueue<T> {}
impl<T> Waitable for SimpleQueue<T> {}
impl<T> Waitable for Connection<T> {}
impl<T> Waitable for Receiver<T> {}

/// Waits until something can be taken from one of the objects, and returns the positions of all for which
/// that is so: `multiprocessing.connection.wait`. Closed ones are among them. No position: there was none
/// within `timeout`. Without a `timeout` it waits as long as it takes.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ((a, to_a), (b, _to_b)) = (wpool::ipc::pipe::<u32>(), wpool::ipc::pipe::<u32>());
/// assert!(wpool::ipc::wait(&[&a, &b], Some(Duration::ZERO))?.is_empty());
/// to_a.send(&1)?;
/// assert_eq!(wpool::ipc::wait(&[&a, &b], None)?, [0]);
/// # Ok(())
/// # }
/// ```
///
/// Another thread or a guest may take it first: then `recv` waits again. Python's `wait` also takes sockets
/// and the sentinels of processes: `poll` of [`Process::sentinel`](crate::Process::sentinel) waits for those.
pub fn wait(objects: &[&dyn Waitable], timeout: Option<Duration>) -> Result<Vec<usize>, IpcError> {
    let handles: Vec<&HostHandle> = objects
        .iter()
        .map(|object| {
            let Handle(handle) = object.handle();
            handle
        })
        .collect();
    match IpcError::check(wait_for(&handles, timeout)) {
        Ok(Answer::Ready(ready)) => Ok(ready.into_iter().map(|at| at as usize).collect()),
        Ok(answer) => other_answer(&answer),
        Err(IpcError::TimedOut) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
