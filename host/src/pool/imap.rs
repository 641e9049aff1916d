//! Iterators over results: `imap` and `imap_unordered`.

use std::fmt;
use std::time::{Duration, Instant};

use super::func::Decode;
use super::stream::Outcomes;
use crate::error::{TaskError, TimedOut};
use crate::value::Ret;

/// Results in the order of their items; made by [`Pool::imap`](super::Pool::imap).
///
/// If the pool ends before the items do, the last of its own items is the error that says so.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// # let upper = pool.func::<&str, String>("run")?;
/// let results: Result<Vec<_>, _> = pool.imap(&upper, ["a", "b"]).collect();
/// assert_eq!(results?, ["A", "B"]);
/// # Ok(())
/// # }
/// ```
pub struct Imap<R> {
    outcomes: Outcomes,
    decode: Decode<R>,
}

/// Results as they come, each with the position of its item; made by [`Pool::imap_unordered`](super::Pool::imap_unordered).
///
/// If the pool ends before the items do, the last of its own items is the error that says so, at the position of an item that was not drawn.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// # let upper = pool.func::<&str, String>("run")?;
/// for (index, result) in pool.imap_unordered(&upper, ["a", "b"]) {
///     println!("{index}: {}", result?);
/// }
/// # Ok(())
/// # }
/// ```
pub struct ImapUnordered<R> {
    outcomes: Outcomes,
    decode: Decode<R>,
    /// One more than the last position that was given.
    seen: u64,
}

impl<R> fmt::Debug for Imap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Imap").field(&self.outcomes).finish()
    }
}

impl<R> fmt::Debug for ImapUnordered<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ImapUnordered").field(&self.outcomes).finish()
    }
}

impl<R: Ret> Imap<R> {
    pub(super) fn new(outcomes: Outcomes, decode: Decode<R>) -> Imap<R> {
        Imap { outcomes, decode }
    }

    /// The next outcome, if it comes within that time; `Ok(None)` at the end.
    ///
    /// # Errors
    /// [`TimedOut`]: the iterator goes on.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Result<R, TaskError>>, TimedOut> {
        self.next_by(Instant::now().checked_add(timeout))
    }

    /// As [`next_timeout`](Self::next_timeout), up to a moment: one moment for all results is what the `timeout` of `Executor.map` is.
    ///
    /// # Errors
    /// As [`next_timeout`](Self::next_timeout).
    pub fn next_until(&mut self, deadline: Instant) -> Result<Option<Result<R, TaskError>>, TimedOut> {
        self.next_by(Some(deadline))
    }

    fn next_by(&mut self, deadline: Option<Instant>) -> Result<Option<Result<R, TaskError>>, TimedOut> {
        let decode = &self.decode;
        let next = self.outcomes.take_one(deadline, |outcome| decode.decode(outcome.result()))?;
        Ok(next.or_else(|| self.outcomes.cut_short().map(Err)))
    }
}

impl<R: Ret> Iterator for Imap<R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_by(None).ok().flatten()
    }
}

impl<R: Ret> std::iter::FusedIterator for Imap<R> {}

impl<R: Ret> ImapUnordered<R> {
    pub(super) fn new(outcomes: Outcomes, decode: Decode<R>) -> ImapUnordered<R> {
        ImapUnordered { outcomes, decode, seen: 0 }
    }

    /// The next outcome, if it comes within that time; `Ok(None)` at the end.
    ///
    /// # Errors
    /// [`TimedOut`]: the iterator goes on.
    #[expect(clippy::type_complexity, reason = "the item of this iterator, in the same wrapping as Imap's")]
    pub fn next_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<(u64, Result<R, TaskError>)>, TimedOut> {
        self.next_by(Instant::now().checked_add(timeout))
    }

    /// As [`next_timeout`](Self::next_timeout), up to a moment.
    ///
    /// # Errors
    /// As [`next_timeout`](Self::next_timeout).
    #[expect(clippy::type_complexity, reason = "as above")]
    pub fn next_until(&mut self, deadline: Instant) -> Result<Option<(u64, Result<R, TaskError>)>, TimedOut> {
        self.next_by(Some(deadline))
    }

    #[expect(clippy::type_complexity, reason = "as above")]
    fn next_by(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<(u64, Result<R, TaskError>)>, TimedOut> {
        let decode = &self.decode;
        let next =
            self.outcomes.take_one(deadline, |outcome| (outcome.index(), decode.decode(outcome.result())))?;
        Ok(next.or_else(|| self.outcomes.cut_short().map(|error| (self.seen, Err(error)))).inspect(
            |(index, _)| {
                self.seen = self.seen.max(index + 1);
            },
        ))
    }
}

impl<R: Ret> Iterator for ImapUnordered<R> {
    type Item = (u64, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_by(None).ok().flatten()
    }
}

impl<R: Ret> std::iter::FusedIterator for ImapUnordered<R> {}
