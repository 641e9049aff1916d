//! Iterators over results: `imap` and `imap_unordered`.

use std::fmt;
use std::time::{Duration, Instant};

use super::func::Decode;
use super::stream::Outcomes;
use crate::error::{TaskError, TimedOut};
use crate::value::Ret;

/// An iterator over results, in the order of their items. [`Pool::imap`](super::Pool::imap) makes it.
///
/// If the pool ends first, the last element is that error.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// # let upper = pool.func::<&str, String>("run")?;
/// use std::time::Duration;
///
/// let results: Result<Vec<_>, _> = pool.imap(&upper, ["a", "b"]).collect();
/// assert_eq!(results?, ["A", "B"]);
///
/// let mut results = pool.imap(&upper, ["a"]);
/// match results.next_timeout(Duration::from_secs(60)) {
///     Ok(Some(result)) => assert_eq!(result?, "A"),
///     Ok(None) => println!("no more results"),
///     Err(wpool::TimedOut) => println!("not yet"),
/// }
/// # Ok(())
/// # }
/// ```
pub struct Imap<R> {
    outcomes: Outcomes,
    decode: Decode<R>,
}

/// An iterator over results as they come, each with the index of its item.
/// [`Pool::imap_unordered`](super::Pool::imap_unordered) makes it.
///
/// If the pool ends first, the last element is that error, with the index of the first item not drawn.
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
    /// One more than the largest index so far.
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

    /// The next outcome, if it comes within that time: Python's `next(timeout)`. `Ok(None)` at the end.
    ///
    /// # Errors
    /// [`TimedOut`] if it did not come. The iterator goes on.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Result<R, TaskError>>, TimedOut> {
        self.next_by(Instant::now().checked_add(timeout))
    }

    /// The next outcome, if it comes by then. One deadline for all results is the `timeout` of
    /// `Executor.map`.
    ///
    /// # Errors
    /// [`TimedOut`] if it did not come. The iterator goes on.
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

    /// The next outcome, if it comes within that time: Python's `next(timeout)`. `Ok(None)` at the end.
    ///
    /// # Errors
    /// [`TimedOut`] if it did not come. The iterator goes on.
    #[expect(clippy::type_complexity, reason = "the item of this iterator, in the same wrapping as Imap's")]
    pub fn next_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<(u64, Result<R, TaskError>)>, TimedOut> {
        self.next_by(Instant::now().checked_add(timeout))
    }

    /// The next outcome, if it comes by then.
    ///
    /// # Errors
    /// [`TimedOut`] if it did not come. The iterator goes on.
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
