//! `Barrier`: several parties wait for each other.

use std::fmt;
use std::time::Duration;

use super::error::SyncError;
use crate::exchange::core::event::ObjectSpec;
use crate::exchange::front::{AT_ONCE, Handle, Object, other_answer};
use crate::exchange::host::{HostHandle, make};
use crate::spec::exchange::{Act, Answer, BarrierStatus};

/// A point at which a number of guests and threads of this program wait for each other:
/// `multiprocessing.Barrier`. Its clones are the same barrier.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let barrier = wpool::sync::Barrier::new(2);
/// let other = std::thread::spawn({
///     let barrier = barrier.clone();
///     move || barrier.wait()
/// });
/// let mut numbers = [barrier.wait()?, other.join().unwrap()?];
/// numbers.sort();
/// assert_eq!(numbers, [0, 1]); // one of each: the party with 0 may do what is to be done once
/// # Ok(())
/// # }
/// ```
///
/// # What is different from Python's
///
/// A party that dies breaks the barrier for the others; in Python they wait for ever. There is no `action`:
/// the party that gets the number 0 runs it.
///
/// # Panics
///
/// `parties`, `n_waiting` and `broken`, in a fork of the program that made the barrier.
pub struct Barrier(HostHandle);

impl Barrier {
    /// A barrier for this many parties.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(parties: u32) -> Barrier {
        assert!(parties > 0, "a barrier has at least one party");
        Barrier(make(ObjectSpec::Barrier { parties }))
    }

    /// Waits until all parties wait. Returns this one's number among them, from 0 on; each number once.
    /// [`SyncError::Broken`] if the barrier is broken, or breaks before.
    pub fn wait(&self) -> Result<u32, SyncError> {
        self.wait_within(None)
    }

    /// As [`wait`](Self::wait). If not all parties wait within `timeout`, the barrier breaks.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<u32, SyncError> {
        self.wait_within(Some(timeout))
    }

    fn wait_within(&self, timeout: Option<Duration>) -> Result<u32, SyncError> {
        match SyncError::check(self.0.call(Act::Wait, timeout)) {
            Ok(Answer::Count(number)) => Ok(u32::try_from(number).expect("there are no more parties")),
            Ok(answer) => other_answer(&answer),
            // The party that was too late has broken the barrier.
            Err(SyncError::TimedOut) => Err(SyncError::Broken),
            Err(error) => Err(error),
        }
    }

    /// Breaks the barrier: all that wait get [`SyncError::Broken`].
    pub fn abort(&self) -> Result<(), SyncError> {
        SyncError::check(self.0.call(Act::Abort, AT_ONCE)).map(|_| ())
    }

    /// Makes the barrier whole. Those that wait get [`SyncError::Broken`].
    pub fn reset(&self) -> Result<(), SyncError> {
        SyncError::check(self.0.call(Act::Reset, AT_ONCE)).map(|_| ())
    }

    fn status(&self) -> BarrierStatus {
        match SyncError::check(self.0.call(Act::Status, AT_ONCE)) {
            Ok(Answer::Barrier(status)) => status,
            Ok(answer) => other_answer(&answer),
            Err(error) => panic!("{error}"),
        }
    }

    /// The number of parties.
    pub fn parties(&self) -> u32 {
        self.status().parties
    }

    /// The number of parties that wait now.
    pub fn n_waiting(&self) -> u32 {
        self.status().waiting
    }

    /// Whether the barrier is broken.
    pub fn broken(&self) -> bool {
        self.status().is_broken
    }
}

impl Object for Barrier {
    fn handle(&self) -> Handle<'_> {
        Handle(&self.0)
    }
}

impl Clone for Barrier {
    fn clone(&self) -> Barrier {
        Barrier(self.0.clone())
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("object", &self.0.object().id()).finish_non_exhaustive()
    }
}
