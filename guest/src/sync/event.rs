//! `multiprocessing.Event`.

use std::time::Duration;

use super::Error;
use crate::host::sync::events;
use crate::ipc::nanos;

/// A flag for which tasks wait.
///
/// ```no_run
/// use wpool_guest::sync::{Error, Event};
///
/// #[wpool_guest::task]
/// fn wait(_: String) -> Result<(), Error> {
///     Event::open("go")?.wait()
/// }
/// ```
#[derive(Debug)]
pub struct Event {
    event: events::Event,
}

impl Event {
    /// Opens the event of this name.
    ///
    /// # Errors
    /// [`NotGranted`](super::ErrorKind::NotGranted): no event of this name is shared with this worker.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Event { event: events::Event::open(name)? })
    }

    /// Sets the event. All tasks that wait for it go on.
    pub fn set(&self) -> Result<(), Error> {
        Ok(self.event.set()?)
    }

    /// Clears the event.
    pub fn clear(&self) -> Result<(), Error> {
        Ok(self.event.clear()?)
    }

    /// Whether the event is set.
    pub fn is_set(&self) -> Result<bool, Error> {
        Ok(self.event.is_set()?)
    }

    /// Waits until the event is set.
    pub fn wait(&self) -> Result<(), Error> {
        Ok(self.event.wait(None).map(drop)?)
    }

    /// Waits until the event is set, for this time at most. `false`: it has passed.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Error> {
        Ok(self.event.wait(nanos(timeout))?)
    }
}
