//! `JoinableQueue` and `SimpleQueue`.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::error::IpcError;
use super::queue::Queue;
use super::transfer::Transfer;
use crate::exchange::front::{AT_ONCE, Handle, Object};
use crate::spec::exchange::Act;

/// A queue that counts the work for its items: `multiprocessing.JoinableQueue`. It has all methods of
/// [`Queue`]. Its clones are the same queue.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = wpool::ipc::JoinableQueue::<u32>::unbounded();
/// jobs.put(&1)?;
/// let worker = std::thread::spawn({
///     let jobs = jobs.clone();
///     move || jobs.get().and_then(|_job| jobs.task_done())
/// });
/// jobs.join()?; // the work for each item is done
/// worker.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
///
/// It differs from Python's as [`Queue`] does. Here `join` has a time-out, too.
pub struct JoinableQueue<T>(Queue<T>);

impl<T> JoinableQueue<T> {
    /// A queue without a limit on the number of items.
    pub fn unbounded() -> JoinableQueue<T> {
        JoinableQueue::with_limits(None, Queue::<T>::MAX_BYTES)
    }

    /// A queue of `max_len` items at most.
    pub fn bounded(max_len: usize) -> JoinableQueue<T> {
        JoinableQueue::with_limits(Some(max_len), Queue::<T>::MAX_BYTES)
    }

    /// A queue with limits: [`Queue::with_limits`].
    pub fn with_limits(max_len: Option<usize>, max_bytes: u64) -> JoinableQueue<T> {
        JoinableQueue(Queue::made(max_len, max_bytes, true))
    }

    /// Reports that the work for one item is done. [`IpcError::Invalid`] if that is reported for all items
    /// already.
    pub fn task_done(&self) -> Result<(), IpcError> {
        self.ask(Act::TaskDone { count: 1 }, AT_ONCE).map(|_| ())
    }

    /// Waits until the work for each item is reported as done.
    pub fn join(&self) -> Result<(), IpcError> {
        self.ask(Act::Join, None).map(|_| ())
    }

    /// As [`join`](Self::join), with [`IpcError::TimedOut`] if there is work left after `timeout`.
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), IpcError> {
        self.ask(Act::Join, Some(timeout)).map(|_| ())
    }
}

impl<T> Deref for JoinableQueue<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.0
    }
}

impl<T> Object for JoinableQueue<T> {
    fn handle(&self) -> Handle<'_> {
        self.0.handle()
    }
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> JoinableQueue<T> {
        JoinableQueue(self.0.clone())
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinableQueue").field(&self.0).finish()
    }
}

/// A queue with the fewest methods: `multiprocessing.SimpleQueue`. Guests open it as a queue. Its clones are
/// the same queue.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = wpool::ipc::SimpleQueue::<String>::new();
/// queue.put(&"a".to_owned())?;
/// assert!(!queue.empty());
/// assert_eq!(queue.get()?, "a");
/// queue.close()?;
/// queue.close()?; // twice is fine
/// # Ok(())
/// # }
/// ```
///
/// It differs from Python's as [`Queue`] does: it has a limit of bytes, and `empty` of a closed queue is no
/// error.
pub struct SimpleQueue<T>(Queue<T>);

impl<T> SimpleQueue<T> {
    /// A queue without a limit on the number of items.
    #[expect(clippy::new_without_default, reason = "an object of the exchange is made on purpose")]
    pub fn new() -> SimpleQueue<T> {
        SimpleQueue(Queue::unbounded())
    }

    /// Whether nothing can be taken now.
    pub fn empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Closes the queue: [`Queue::close`].
    pub fn close(&self) -> Result<(), IpcError> {
        self.0.close()
    }
}

impl<T: Transfer> SimpleQueue<T> {
    /// Puts an item at the end. It waits only if the queue has as many bytes as it may.
    pub fn put(&self, item: &T) -> Result<(), IpcError> {
        self.0.put(item)
    }

    /// Takes the first item, and waits for one as long as it takes.
    pub fn get(&self) -> Result<T, IpcError> {
        self.0.get()
    }
}

impl<T> Object for SimpleQueue<T> {
    fn handle(&self) -> Handle<'_> {
        self.0.handle()
    }
}

impl<T> Clone for SimpleQueue<T> {
    fn clone(&self) -> SimpleQueue<T> {
        SimpleQueue(self.0.clone())
    }
}

impl<T> fmt::Debug for SimpleQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimpleQueue").field(&self.0).finish()
    }
}
