//! First in, first out: `multiprocessing.Queue`, `SimpleQueue` and `JoinableQueue`.

use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use super::waiting::{Object, Sealed, Waitable};
use super::{AsItem, Error, NOW, Transfer, close_again, nanos};
use crate::host::ipc::{queues, waiting};

/// Items in one call: the most that the host takes.
const CALL_ITEMS_MAX: usize = 4096;

/// Bytes after which `put_many` makes a call of what it has: less than the host takes, yet enough to be
/// quick.
const CALL_BYTES: usize = 1 << 20;

/// A queue: first in, first out, for any number of tasks and for the host.
///
/// Once [`put`](Queue::put) has returned, the host has the item. It is not lost if the task or its worker
/// dies. A task takes an item by its next use of any object, or by its return. If it does neither, since it
/// dies, traps, reaches a limit or is cancelled, the item goes to another task, with
/// [`Delivery::redelivered`] set.
///
/// ```no_run
/// use wpool_guest::ipc::{Error, Queue};
///
/// #[wpool_guest::task]
/// fn double(_: String) -> Result<(), Error> {
///     let (numbers, doubled) = (Queue::<i64>::open("numbers")?, Queue::<i64>::open("doubled")?);
///     for number in &numbers {
///         doubled.put(2 * number?)?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Queue<T> {
    queue: queues::Queue,
    items: PhantomData<fn(T) -> T>,
}

/// An item, and how it was delivered: what [`Queue::get_delivery`] returns.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery<T> {
    /// The item.
    pub item: T,
    /// The item was given to a task before, which did not take it.
    pub redelivered: bool,
}

impl<T: Transfer> Queue<T> {
    /// Opens the queue of this name.
    ///
    /// # Errors
    /// [`NotGranted`](super::ErrorKind::NotGranted): no queue of this name is shared with this worker.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Queue { queue: queues::Queue::open(name)?, items: PhantomData })
    }

    /// Puts an item at the end. Waits while the queue is full.
    pub fn put(&self, item: impl AsItem<T>) -> Result<(), Error> {
        Ok(self.queue.put(&item.bytes()?, None)?)
    }

    /// Puts an item at the end. Waits for this time at most while the queue is full.
    pub fn put_timeout(&self, item: impl AsItem<T>, timeout: Duration) -> Result<(), Error> {
        Ok(self.queue.put(&item.bytes()?, nanos(timeout))?)
    }

    /// Puts an item at the end, if the queue is not full: `put_nowait` in Python.
    pub fn try_put(&self, item: impl AsItem<T>) -> Result<(), Error> {
        Ok(self.queue.put(&item.bytes()?, NOW)?)
    }

    /// Puts items at the end, in their order. Waits while the queue is full. Many items in one call cost much
    /// less than a call for each.
    pub fn put_many<I: IntoIterator<Item: AsItem<T>>>(&self, items: I) -> Result<(), Error> {
        self.put_all(items, None).map(drop)
    }

    /// Puts items at the end, in their order, until the queue is full. Returns how many it has put.
    pub fn try_put_many<I: IntoIterator<Item: AsItem<T>>>(&self, items: I) -> Result<usize, Error> {
        self.put_all(items, NOW)
    }

    /// Puts items, in calls of a size that the host takes. Returns how many it has put: fewer than all if the
    /// time-out has passed.
    fn put_all<I>(&self, items: I, timeout: Option<u64>) -> Result<usize, Error>
    where
        I: IntoIterator<Item: AsItem<T>>,
    {
        let mut items = items.into_iter();
        let (mut call, mut done) = (next_call(&mut items)?, 0);
        while !call.is_empty() {
            match self.queue.put_many(&call, timeout).map_err(Error::from) {
                Ok(put) => {
                    done += put as usize;
                    call.drain(..put as usize);
                }
                Err(error) if error.is_timed_out() => break,
                Err(error) => return Err(error),
            }
            // A call that has put fewer items is made again with the rest: it waits, or tells why.
            if call.is_empty() {
                call = next_call(&mut items)?;
            }
        }
        Ok(done)
    }

    /// Takes the first item. Waits while the queue is empty.
    pub fn get(&self) -> Result<T, Error> {
        T::decode(self.queue.get(None)?.data)
    }

    /// Takes the first item. Waits for this time at most while the queue is empty.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, Error> {
        T::decode(self.queue.get(nanos(timeout))?.data)
    }

    /// Takes the first item, if there is one: `get_nowait` in Python.
    pub fn try_get(&self) -> Result<T, Error> {
        T::decode(self.queue.get(NOW)?.data)
    }

    /// Takes the first item, and tells whether it was given to a task before which died. Without a `timeout`
    /// it waits while the queue is empty.
    pub fn get_delivery(&self, timeout: Option<Duration>) -> Result<Delivery<T>, Error> {
        let queues::Item { data, redelivered } = self.queue.get(timeout.and_then(nanos))?;
        Ok(Delivery { item: T::decode(data)?, redelivered })
    }

    /// Takes the first items: at least one, and `most` at most. Waits while the queue is empty. `most` is not
    /// 0.
    pub fn get_many(&self, most: usize) -> Result<Vec<T>, Error> {
        decode_all(self.queue.get_many(call_items(most), None)?)
    }

    /// Takes the first items: at least one, and `most` at most. Waits for this time at most while the queue
    /// is empty.
    pub fn get_many_timeout(&self, most: usize, timeout: Duration) -> Result<Vec<T>, Error> {
        decode_all(self.queue.get_many(call_items(most), nanos(timeout))?)
    }

    /// The items of this queue, until it is closed and empty.
    pub fn iter(&self) -> Items<'_, T> {
        Items { queue: Some(self) }
    }

    /// The number of items in the queue: `qsize` in Python.
    pub fn len(&self) -> Result<u64, Error> {
        Ok(self.queue.status()?.len)
    }

    /// Whether the queue holds no item.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.queue.status()?.len == 0)
    }

    /// Whether the queue holds as many items as it can.
    pub fn is_full(&self) -> Result<bool, Error> {
        let status = self.queue.status()?;
        Ok(status.max_len.is_some_and(|max| status.len >= max))
    }

    /// The most items that the queue holds, if that is limited.
    pub fn max_len(&self) -> Result<Option<u64>, Error> {
        Ok(self.queue.status()?.max_len)
    }

    /// Closes the queue for everyone. Nothing can be put any more; what is in it can still be taken.
    pub fn close(&self) -> Result<(), Error> {
        close_again(self.queue.close().map_err(Error::from))
    }

    /// Whether the queue is closed.
    pub fn is_closed(&self) -> Result<bool, Error> {
        Ok(self.queue.status()?.closed)
    }
}

/// The items of one call.
fn next_call<T, I: AsItem<T>>(items: &mut impl Iterator<Item = I>) -> Result<Vec<Vec<u8>>, Error> {
    let mut call = Vec::new();
    let mut len = 0;
    while len < CALL_BYTES && call.len() < CALL_ITEMS_MAX {
        let Some(item) = items.next() else { break };
        let item = item.bytes()?.into_owned();
        len += item.len();
        call.push(item);
    }
    Ok(call)
}

fn call_items(most: usize) -> u32 {
    u32::try_from(most.min(CALL_ITEMS_MAX)).unwrap_or(u32::MAX)
}

fn decode_all<T: Transfer>(items: Vec<queues::Item>) -> Result<Vec<T>, Error> {
    items.into_iter().map(|item| T::decode(item.data)).collect()
}

/// The items of a [`Queue`], until it is closed and empty. Each may be an error; after an error of the queue
/// itself there are no more.
#[derive(Debug)]
pub struct Items<'q, T> {
    queue: Option<&'q Queue<T>>,
}

impl<T: Transfer> Iterator for Items<'_, T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.queue?.queue.get(None).map_err(Error::from) {
            Ok(item) => Some(T::decode(item.data)),
            Err(error) => {
                self.queue = None;
                (!error.is_closed()).then_some(Err(error))
            }
        }
    }
}

impl<'q, T: Transfer> IntoIterator for &'q Queue<T> {
    type Item = Result<T, Error>;
    type IntoIter = Items<'q, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> Sealed for Queue<T> {
    fn object(&self) -> Object<'_> {
        Object(waiting::Waitable::Queue(&self.queue))
    }
}

impl<T> Waitable for Queue<T> {}

/// A queue that knows which items are still being worked on: `multiprocessing.JoinableQueue`. It has all
/// methods of a [`Queue`].
///
/// The host must have made it as one: else [`task_done`](JoinableQueue::task_done) and
/// [`join`](JoinableQueue::join) are [`Invalid`](super::ErrorKind::Invalid).
///
/// ```no_run
/// use wpool_guest::ipc::{Error, JoinableQueue};
///
/// #[wpool_guest::task]
/// fn work(_: String) -> Result<(), Error> {
///     let jobs = JoinableQueue::<String>::open("jobs")?;
///     for job in &jobs {
///         println!("{}", job?);
///         jobs.task_done()?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct JoinableQueue<T> {
    queue: Queue<T>,
}

impl<T: Transfer> JoinableQueue<T> {
    /// Opens the queue of this name.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(JoinableQueue { queue: Queue::open(name)? })
    }

    /// Reports that the work for one item is done.
    pub fn task_done(&self) -> Result<(), Error> {
        Ok(self.queue.queue.task_done(1)?)
    }

    /// Waits until the work for every item that was put is reported as done.
    pub fn join(&self) -> Result<(), Error> {
        Ok(self.queue.queue.join(None)?)
    }

    /// Waits until the work for every item is reported as done, for this time at most.
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), Error> {
        Ok(self.queue.queue.join(nanos(timeout))?)
    }

    /// Items that were put and not yet reported as done.
    pub fn unfinished(&self) -> Result<u64, Error> {
        Ok(self.queue.queue.status()?.unfinished)
    }
}

impl<T> Deref for JoinableQueue<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.queue
    }
}

impl<'q, T: Transfer> IntoIterator for &'q JoinableQueue<T> {
    type Item = Result<T, Error>;
    type IntoIter = Items<'q, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.queue.iter()
    }
}

/// The smallest queue: `multiprocessing.SimpleQueue`.
///
/// ```no_run
/// # fn main() -> Result<(), wpool_guest::ipc::Error> {
/// let log = wpool_guest::ipc::SimpleQueue::<String>::open("log")?;
/// log.put("one more")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SimpleQueue<T> {
    queue: Queue<T>,
}

impl<T: Transfer> SimpleQueue<T> {
    /// Opens the queue of this name.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(SimpleQueue { queue: Queue::open(name)? })
    }

    /// Puts an item at the end.
    pub fn put(&self, item: impl AsItem<T>) -> Result<(), Error> {
        self.queue.put(item)
    }

    /// Takes the first item. Waits while the queue is empty.
    pub fn get(&self) -> Result<T, Error> {
        self.queue.get()
    }

    /// Whether the queue holds no item.
    pub fn empty(&self) -> Result<bool, Error> {
        self.queue.is_empty()
    }

    /// Closes the queue for everyone.
    pub fn close(&self) -> Result<(), Error> {
        self.queue.close()
    }
}
