//! `Queue`: first in, first out.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use super::error::IpcError;
use super::transfer::{Transfer, decode, encode};
use crate::exchange::core::event::ObjectSpec;
use crate::exchange::front::{AT_ONCE, Handle, Object, other_answer};
use crate::exchange::host::{HostHandle, make};
use crate::spec::exchange::{Act, Answer, Bytes, ITEMS_MAX, Item, QueueStatus};

/// A queue that guests and this program share: `multiprocessing.Queue`. Its clones are the same queue, for
/// any number of threads.
///
/// [`Policy::share`](crate::Policy::share) gives guests the queue under a name. Guests open it by that name
/// (`wpool_guest::ipc::Queue`, `wpool:ipc/queues`).
///
/// ```
/// use wpool::ipc::{IpcError, Queue};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jobs = Queue::<String>::bounded(100);
/// let policy = wpool::Policy::sealed().share("jobs", &jobs);
/// jobs.put(&"one".to_owned())?;
/// jobs.put_many(&["two".to_owned(), "three".to_owned()])?;
/// assert_eq!(jobs.len(), 3);
/// jobs.close()?;
/// let all: Result<Vec<String>, IpcError> = jobs.iter().collect();
/// assert_eq!(all?, ["one", "two", "three"]);
/// # Ok(())
/// # }
/// ```
///
/// # What is different from Python's
///
/// - The items are in this program, not in a pipe. Once `put` returns, the item is in the queue: `len` is
///   exact, a task or worker that dies damages nothing, and a process can be joined before its items are
///   taken. There is no `join_thread` and no `cancel_join_thread`.
/// - Each queue has a limit of bytes besides that of items: [`MAX_BYTES`](Self::MAX_BYTES), or that of
///   [`with_limits`](Self::with_limits).
/// - `put` gives the error of an item that cannot be sent; in Python a thread prints it later.
/// - `close` closes the queue for everyone. What is in it can still be taken, and then `get` is
///   [`IpcError::Closed`], which ends [`iter`](Self::iter).
/// - An item that was given to a task which did not take it (it died, or was cancelled ..: [`Delivery`]) is the
///   first of the queue again, and says so ([`get_delivery`](Self::get_delivery)).
pub struct Queue<T> {
    handle: HostHandle,
    items: PhantomData<fn(T) -> T>,
}

/// An item with what is known about its way.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let queue = wpool::ipc::Queue::<u32>::unbounded();
/// queue.put(&7)?;
/// let delivery = queue.get_delivery(None)?;
/// assert_eq!((delivery.item, delivery.redelivered), (7, false));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery<T> {
    /// The item.
    pub item: T,
    /// The item was given to a task before, which did not take it. A task takes an item by its next use of
    /// any object, or by its return. A task that dies, traps, reaches a limit or is cancelled does not
    /// return. An item that makes each task fail comes again and again: let the guest put it aside.
    pub redelivered: bool,
}

impl<T> Queue<T> {
    /// 64 MiB: the most bytes of all items of a queue together, unless [`with_limits`](Self::with_limits)
    /// sets another number.
    pub const MAX_BYTES: u64 = 64 << 20;

    /// A queue without a limit on the number of items: `Queue()`.
    pub fn unbounded() -> Queue<T> {
        Queue::with_limits(None, Queue::<T>::MAX_BYTES)
    }

    /// A queue of `max_len` items at most: `Queue(maxsize)`. A full queue makes `put` wait. A queue of 0
    /// items would take none; it takes one.
    pub fn bounded(max_len: usize) -> Queue<T> {
        Queue::with_limits(Some(max_len), Queue::<T>::MAX_BYTES)
    }

    /// A queue with a limit on the number of items, and on their bytes together. An item that is longer than
    /// `max_bytes` is refused; otherwise `put` waits for room.
    pub fn with_limits(max_len: Option<usize>, max_bytes: u64) -> Queue<T> {
        Queue::made(max_len, max_bytes, false)
    }

    pub(super) fn made(max_len: Option<usize>, max_bytes: u64, joinable: bool) -> Queue<T> {
        let max_len = max_len.map(|len| len.max(1) as u64);
        Queue::of(make(ObjectSpec::Queue { max_len, max_bytes, joinable }))
    }

    /// The queue of an object that something else keeps alive.
    #[cfg(feature = "cli")]
    pub(crate) fn of_object(object: &crate::exchange::host::ObjectRef) -> Queue<T> {
        Queue::of(HostHandle::new(object.clone()))
    }

    pub(super) fn of(handle: HostHandle) -> Queue<T> {
        Queue { handle, items: PhantomData }
    }

    pub(super) fn ask(&self, act: Act, timeout: Option<Duration>) -> Result<Answer, IpcError> {
        IpcError::check(self.handle.call(act, timeout))
    }

    fn status(&self) -> QueueStatus {
        match self.ask(Act::Status, AT_ONCE) {
            Ok(Answer::Queue(status)) => status,
            Ok(answer) => other_answer(&answer),
            Err(error) => panic!("{error}"),
        }
    }

    /// The number of items that can be taken: `qsize()`. It is exact, but may change at once.
    ///
    /// # Panics
    ///
    /// In a fork of the program that made the queue; so do `is_empty`, `is_full`, `is_closed`.
    pub fn len(&self) -> usize {
        usize::try_from(self.status().len).unwrap_or(usize::MAX)
    }

    /// Whether nothing can be taken now: `empty()`.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are as many items as there may be: `full()`.
    pub fn is_full(&self) -> bool {
        let status = self.status();
        status.max_len.is_some_and(|max| status.len >= max)
    }

    /// The most items that the queue holds.
    pub fn max_len(&self) -> Option<usize> {
        self.status().max_len.map(|max| usize::try_from(max).unwrap_or(usize::MAX))
    }

    /// Whether the queue is closed.
    pub fn is_closed(&self) -> bool {
        self.status().is_closed
    }

    /// Closes the queue for everyone. Nothing can be put any more; what is in it can still be taken. Those
    /// that wait to put, or for an item of an empty queue, get [`IpcError::Closed`]. A second `close` changes
    /// nothing.
    pub fn close(&self) -> Result<(), IpcError> {
        match self.ask(Act::Close, AT_ONCE) {
            Ok(_) | Err(IpcError::Closed) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl<T: Transfer> Queue<T> {
    /// Puts an item at the end, and waits for room as long as it takes.
    pub fn put(&self, item: &T) -> Result<(), IpcError> {
        self.put_within(item, None)
    }

    /// As [`put`](Self::put), with [`IpcError::Full`] if there is no room within `timeout`.
    pub fn put_timeout(&self, item: &T, timeout: Duration) -> Result<(), IpcError> {
        self.put_within(item, Some(timeout))
    }

    /// As [`put`](Self::put), with [`IpcError::Full`] if there is no room now: `put_nowait`.
    pub fn try_put(&self, item: &T) -> Result<(), IpcError> {
        self.put_within(item, AT_ONCE)
    }

    fn put_within(&self, item: &T, timeout: Option<Duration>) -> Result<(), IpcError> {
        let items = vec![Bytes(encode(item)?)];
        self.ask(Act::Put { items }, timeout).map_err(IpcError::or_full).map(|_| ())
    }

    /// Puts items at the end, in their order, and waits for room as long as it takes. Other producers' items
    /// may come between. The error tells nothing about how many were put: see
    /// [`put_many_timeout`](Self::put_many_timeout).
    pub fn put_many(&self, items: &[T]) -> Result<(), IpcError> {
        self.put_all(items, None).map(|_| ())
    }

    /// Puts items until the time is over. Returns the number of those that were put, the first of `items`. It
    /// is an error if none was.
    pub fn put_many_timeout(&self, items: &[T], timeout: Duration) -> Result<usize, IpcError> {
        self.put_all(items, Some(timeout))
    }

    fn put_all(&self, items: &[T], timeout: Option<Duration>) -> Result<usize, IpcError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut put = 0;
        for part in items.chunks(ITEMS_MAX) {
            let bytes = part.iter().map(|item| encode(item).map(Bytes)).collect::<Result<_, _>>()?;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let count = match self.ask(Act::Put { items: bytes }, left) {
                Ok(Answer::Count(count)) => usize::try_from(count).unwrap_or(part.len()),
                Ok(answer) => other_answer(&answer),
                Err(IpcError::TimedOut) if put > 0 => 0,
                Err(error) => return Err(error.or_full()),
            };
            put += count;
            if count < part.len() {
                break;
            }
        }
        Ok(put)
    }

    /// Takes the first item, and waits for one as long as it takes. [`IpcError::Closed`] if the queue is
    /// empty and closed.
    pub fn get(&self) -> Result<T, IpcError> {
        self.get_delivery(None).map(|delivery| delivery.item)
    }

    /// As [`get`](Self::get), with [`IpcError::Empty`] if no item comes within `timeout`.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, IpcError> {
        self.get_delivery(Some(timeout)).map(|delivery| delivery.item)
    }

    /// As [`get`](Self::get), with [`IpcError::Empty`] if there is no item now: `get_nowait`.
    pub fn try_get(&self) -> Result<T, IpcError> {
        self.get_delivery(AT_ONCE).map(|delivery| delivery.item)
    }

    /// Takes the first item, and tells whether it was given to a task before which died. Without a `timeout`
    /// it waits as long as it takes.
    pub fn get_delivery(&self, timeout: Option<Duration>) -> Result<Delivery<T>, IpcError> {
        let item = self.take(1, timeout)?.remove(0);
        Ok(Delivery { item: decode(item.data.0)?, redelivered: item.redelivered })
    }

    /// Takes `most` items at most: those that are there, or the first that comes. Waits for it as long as it
    /// takes. An item that cannot be read is an error in its place, and costs no other.
    pub fn get_many(&self, most: usize) -> Result<Vec<Result<T, IpcError>>, IpcError> {
        self.get_all(most, None)
    }

    /// As [`get_many`](Self::get_many), with [`IpcError::Empty`] if no item comes within `timeout`.
    pub fn get_many_timeout(
        &self,
        most: usize,
        timeout: Duration,
    ) -> Result<Vec<Result<T, IpcError>>, IpcError> {
        self.get_all(most, Some(timeout))
    }

    fn get_all(&self, most: usize, timeout: Option<Duration>) -> Result<Vec<Result<T, IpcError>>, IpcError> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let items = self.take(most, timeout)?;
        Ok(items.into_iter().map(|item| decode(item.data.0)).collect())
    }

    /// At least one item.
    fn take(&self, most: usize, timeout: Option<Duration>) -> Result<Vec<Item>, IpcError> {
        let most = u32::try_from(most.min(ITEMS_MAX)).expect("the cap is a small number");
        match self.ask(Act::Get { most, longest: u64::MAX }, timeout).map_err(IpcError::or_empty)? {
            Answer::Items { items } => Ok(items),
            answer => other_answer(&answer),
        }
    }

    /// Takes the items one by one, as they come. It ends when the queue is closed and empty.
    pub fn iter(&self) -> Items<'_, T> {
        Items { queue: self }
    }
}

impl<'a, T: Transfer> IntoIterator for &'a Queue<T> {
    type Item = Result<T, IpcError>;
    type IntoIter = Items<'a, T>;

    fn into_iter(self) -> Items<'a, T> {
        self.iter()
    }
}

impl<T> Object for Queue<T> {
    fn handle(&self) -> Handle<'_> {
        Handle(&self.handle)
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue::of(self.handle.clone())
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("object", &self.handle.object().id()).finish_non_exhaustive()
    }
}

/// The items of a queue, as they come. [`Queue::iter`] makes it.
///
/// ```
/// let queue = wpool::ipc::Queue::<u32>::unbounded();
/// queue.put_many(&[1, 2]).unwrap();
/// queue.close().unwrap();
/// let sum: u32 = queue.iter().map(|item| item.unwrap()).sum();
/// assert_eq!(sum, 3);
/// ```
#[derive(Debug)]
#[must_use = "an iterator takes nothing until it is used"]
pub struct Items<'a, T> {
    queue: &'a Queue<T>,
}

impl<T: Transfer> Iterator for Items<'_, T> {
    type Item = Result<T, IpcError>;

    fn next(&mut self) -> Option<Result<T, IpcError>> {
        match self.queue.get() {
            Err(IpcError::Closed) => None,
            item => Some(item),
        }
    }
}
