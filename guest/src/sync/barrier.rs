//! `multiprocessing.Barrier`.

use std::time::Duration;

use super::Error;
use crate::host::sync::barriers;
use crate::ipc::nanos;

/// A point at which a number of tasks wait for each other.
///
/// ```no_run
/// use wpool_guest::sync::{Barrier, Error};
///
/// #[wpool_guest::task]
/// fn meet(_: String) -> Result<&'static str, Error> {
///     let start = Barrier::open("start")?;
///     Ok(if start.wait()? == 0 { "first" } else { "another" })
/// }
/// ```
#[derive(Debug)]
pub struct Barrier {
    barrier: barriers::Barrier,
}

impl Barrier {
    /// Opens the barrier of this name.
    ///
    /// # Errors
    /// [`NotGranted`](super::ErrorKind::NotGranted): no barrier of this name is shared with this worker.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Barrier { barrier: barriers::Barrier::open(name)? })
    }

    /// Waits until all parties wait. Returns this task's number among them, from 0 on; each number is there
    /// once.
    ///
    /// # Errors
    /// [`Broken`](super::ErrorKind::Broken): a party has died, its time-out has passed, or the barrier was
    /// broken or reset.
    pub fn wait(&self) -> Result<u32, Error> {
        Ok(self.barrier.wait(None)?)
    }

    /// As [`wait`](Barrier::wait), for this time at most. When it has passed, the barrier is broken for the
    /// others.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<u32, Error> {
        Ok(self.barrier.wait(nanos(timeout))?)
    }

    /// Breaks the barrier: all waiting tasks get [`Broken`](super::ErrorKind::Broken).
    pub fn abort(&self) -> Result<(), Error> {
        Ok(self.barrier.abort()?)
    }

    /// Makes the barrier whole again. Tasks that wait get [`Broken`](super::ErrorKind::Broken).
    pub fn reset(&self) -> Result<(), Error> {
        Ok(self.barrier.reset()?)
    }

    /// The number of tasks that meet.
    pub fn parties(&self) -> Result<u32, Error> {
        Ok(self.barrier.status()?.parties)
    }

    /// The number of tasks that wait now.
    pub fn n_waiting(&self) -> Result<u32, Error> {
        Ok(self.barrier.status()?.waiting)
    }

    /// Whether the barrier is broken.
    pub fn broken(&self) -> Result<bool, Error> {
        Ok(self.barrier.status()?.broken)
    }
}
