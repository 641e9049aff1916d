//! `Event`: a flag that can be waited for.

use std::fmt;
use std::time::Duration;

use super::error::SyncError;
use crate::exchange::core::event::ObjectSpec;
use crate::exchange::front::{AT_ONCE, Handle, Object, other_answer};
use crate::exchange::host::{HostHandle, make};
use crate::spec::exchange::{Act, Answer};

/// A flag that guests and threads of this program set and wait for: `multiprocessing.Event`. Its clones are
/// the same event.
///
/// ```
/// use std::time::Duration;
///
/// let stop = wpool::sync::Event::new();
/// let policy = wpool::Policy::sealed().share("stop", &stop);
/// assert!(!stop.wait_timeout(Duration::ZERO));
/// stop.set();
/// stop.wait();
/// stop.clear();
/// assert!(!stop.is_set());
/// ```
///
/// # Panics
///
/// Each method, in a fork of the program that made the event.
pub struct Event(HostHandle);

impl Event {
    /// An event that is not set.
    #[expect(clippy::new_without_default, reason = "an object of the exchange is made on purpose")]
    pub fn new() -> Event {
        Event(make(ObjectSpec::Event))
    }

    fn ask(&self, act: Act, timeout: Option<Duration>) -> Answer {
        SyncError::check(self.0.call(act, timeout)).unwrap_or_else(|error| panic!("{error}"))
    }

    fn flag(&self, act: Act, timeout: Option<Duration>) -> bool {
        match self.ask(act, timeout) {
            Answer::Flag(flag) => flag,
            answer => other_answer(&answer),
        }
    }

    /// Sets the flag: all that wait go on.
    pub fn set(&self) {
        self.ask(Act::Set, AT_ONCE);
    }

    /// Takes the flag back.
    pub fn clear(&self) {
        self.ask(Act::Clear, AT_ONCE);
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.flag(Act::Status, AT_ONCE)
    }

    /// Waits until the flag is set.
    pub fn wait(&self) {
        self.flag(Act::Wait, None);
    }

    /// Waits until the flag is set. `false`: it is not within `timeout`.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.flag(Act::Wait, Some(timeout))
    }
}

impl Object for Event {
    fn handle(&self) -> Handle<'_> {
        Handle(&self.0)
    }
}

impl Clone for Event {
    fn clone(&self) -> Event {
        Event(self.0.clone())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("object", &self.0.object().id()).finish_non_exhaustive()
    }
}
