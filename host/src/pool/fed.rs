//! Tasks that make tasks: a job whose tasks put further records into a queue.

use std::fmt;
use std::sync::Arc;

use super::job::Job;
use crate::exchange::ipc::{self, IpcError, Queue, SimpleQueue, Transfer};

/// What the tasks of a stream put into a queue. [`Inputs::fed`](super::Inputs::fed) makes it.
///
/// It waits for items, and ends once every record that was pushed has its outcome and the queue is empty, or
/// once the queue is closed and empty. An item must be pushed before the next one is taken.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// let found = wpool::ipc::Queue::<String>::unbounded();
/// found.put(&"a".to_owned())?; // as a task would
/// let (mut inputs, _outcomes) = pool.stream(&"run".into(), true)?;
/// for item in inputs.fed(&found) {
///     inputs.push(item?.as_bytes())?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "an iterator takes nothing until it is used"]
pub struct Fed<T> {
    queue: Queue<T>,
    job: Arc<Job>,
    /// Gets an item when the job is settled: one wait is for the queue and for the job.
    settled: SimpleQueue<()>,
}

impl<T> fmt::Debug for Fed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fed").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<T: Transfer> Fed<T> {
    pub(super) fn new(queue: Queue<T>, job: Arc<Job>) -> Fed<T> {
        Fed { queue, job, settled: SimpleQueue::new() }
    }

    /// The next item, if there is one now.
    pub fn try_next(&mut self) -> Option<Result<T, IpcError>> {
        match self.queue.try_get() {
            item @ (Ok(_) | Err(IpcError::Decode { .. })) => Some(item),
            Err(_) => None,
        }
    }

    /// Waits for an item, or until the job is settled.
    fn wait(&self) {
        let settled = self.settled.clone();
        // It never waits: this queue has one item for each call.
        self.job.when_settled(move || drop(settled.put(&())));
        // An error says that there is nothing to wait for. The next look says what that means.
        drop(ipc::wait(&[&self.queue, &self.settled], None));
        while !self.settled.empty() {
            drop(self.settled.get());
        }
    }
}

impl<T: Transfer> Iterator for Fed<T> {
    type Item = Result<T, IpcError>;

    fn next(&mut self) -> Option<Result<T, IpcError>> {
        loop {
            // Before the look at the queue: what a task has put is there before its outcome is.
            let is_settled = self.job.is_settled();
            match self.queue.try_get() {
                Err(IpcError::Empty) if !is_settled => self.wait(),
                item @ (Ok(_) | Err(IpcError::Decode { .. })) => return Some(item),
                Err(_) => return None,
            }
        }
    }
}

/// What tasks have put into a queue, before the items of an iterator.
pub(super) struct FedFirst<I, T> {
    items: std::iter::Fuse<I>,
    fed: Fed<T>,
}

impl<I: Iterator, T> FedFirst<I, T> {
    pub(super) fn new(items: I, fed: Fed<T>) -> FedFirst<I, T> {
        FedFirst { items: items.fuse(), fed }
    }
}

impl<I: Iterator<Item = T>, T: Transfer> Iterator for FedFirst<I, T> {
    type Item = Result<T, IpcError>;

    fn next(&mut self) -> Option<Result<T, IpcError>> {
        // The queue first: a task may wait for room in it.
        self.fed.try_next().or_else(|| self.items.next().map(Ok)).or_else(|| self.fed.next())
    }
}
