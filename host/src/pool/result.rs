//! What becomes of tasks, for whoever waits: streams, iterators, single results.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Decode;
use super::dispatcher::Waker;
use super::job::{By, Job, Parsed, ResultChunk, Window, parse_outcome};
use crate::error::{Closed, TaskError, TimedOut};
use crate::protocol::frame::Kind;
use crate::protocol::message::{Failure, read_failure};
use crate::value::Ret;

/// Where the records of a [`Pool::stream`](super::Pool::stream) go in. Dropping it ends the input.
#[derive(Debug)]
pub struct Inputs {
    job: Arc<Job>,
    record_max: usize,
}

impl Inputs {
    pub(super) fn new(job: Arc<Job>, record_max: usize) -> Inputs {
        Inputs { job, record_max }
    }

    /// Adds a record. Waits while the pool's buffer is full; take outcomes from another thread, or use [`Inputs::try_push`].
    ///
    /// A record over [`Limits::input`](crate::Limits::input) is cut off one byte behind that limit, and refused by the worker.
    ///
    /// # Errors
    /// [`Closed`] once the stream was cancelled or the pool is over: nobody will look at more records.
    pub fn push(&mut self, record: &[u8]) -> Result<(), Closed> {
        self.job.push(self.cut(record))
    }

    /// Adds a record if there is room; whether there was.
    ///
    /// # Errors
    /// As [`Inputs::push`].
    pub fn try_push(&mut self, record: &[u8]) -> Result<bool, Closed> {
        self.job.try_push(self.cut(record))
    }

    /// Adds many records at the price of one, waiting for room as [`Inputs::push`] does.
    ///
    /// # Errors
    /// As [`Inputs::push`]; some of the records may have been added.
    pub fn push_all<'r>(&mut self, records: impl Iterator<Item = &'r [u8]>) -> Result<(), Closed> {
        let max = self.record_max.saturating_add(1);
        self.job.push_all(records.map(|record| &record[..record.len().min(max)]))
    }

    /// The refusal of a too long record is the worker's, as that of any bad record; only so much of it travels that it can be seen.
    fn cut<'r>(&self, record: &'r [u8]) -> &'r [u8] {
        &record[..record.len().min(self.record_max.saturating_add(1))]
    }

    /// Waits until there is room for a record, so that no item is drawn before.
    pub(super) fn wait_room(&self) -> Result<(), Closed> {
        self.job.wait_room()
    }

    /// Whether there is room for a record.
    pub(super) fn room(&self) -> Result<bool, Closed> {
        self.job.room()
    }

    /// A place for an item that has no record, so that the others keep theirs: no text is a WAVE value of any type.
    pub(super) fn push_misfit(&mut self) -> Result<(), Closed> {
        self.job.push(b"\xff")
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        match std::thread::panicking() {
            true => self.job.break_input(),
            false => self.job.end_input(),
        }
    }
}

/// What became of one task. Borrowed from the chunk that it came in.
pub struct Outcome<'c> {
    index: u64,
    parsed: Parsed<'c>,
    by: By,
}

impl fmt::Debug for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome").field("index", &self.index).field("result", &self.result()).finish_non_exhaustive()
    }
}

impl<'c> Outcome<'c> {
    /// The position of the record, from 0 on.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The result's bytes, or why there is none.
    ///
    /// # Errors
    /// What happened to the task.
    pub fn result(&self) -> Result<&'c [u8], TaskError> {
        match self.parsed.kind {
            Kind::Returned => Ok(self.parsed.payload),
            _ => Err(match read_failure(self.parsed.payload) {
                Ok(failure) => failure.into(),
                Err(violation) => TaskError::BadResult { message: violation.to_string() },
            }),
        }
    }

    /// What the guest wrote to stdout meanwhile (a command's stdout is its result), up to [`Limits::stdout`](crate::Limits::stdout).
    pub fn stdout(&self) -> &'c [u8] {
        self.parsed.stdout
    }

    /// What the guest wrote to stderr meanwhile, up to [`Limits::stdout`](crate::Limits::stdout).
    pub fn stderr(&self) -> &'c [u8] {
        self.parsed.stderr
    }

    /// The time that the task took in its worker, if [`Target::timed`](crate::Target::timed) was asked for.
    pub fn took(&self) -> Option<Duration> {
        self.parsed.micros.map(Duration::from_micros)
    }

    /// The index of the worker; 0 if no worker has answered.
    pub fn worker(&self) -> u32 {
        self.by.worker
    }

    /// The worker's process id; 0 if no worker has answered.
    pub fn pid(&self) -> u32 {
        self.by.pid
    }

    /// Which attempt this was, from 1 on.
    pub fn attempt(&self) -> u32 {
        self.by.attempt
    }
}

/// Where the outcomes of a [`Pool::stream`](super::Pool::stream) come out. Dropping it cancels what is not running yet.
#[derive(Debug)]
pub struct Outcomes {
    job: Arc<Job>,
    ordered: bool,
    /// The chunk being read, and how far.
    current: Option<Reading>,
    /// Chunks that came before their turn.
    early: BTreeMap<u64, ResultChunk>,
    next: u64,
    over: bool,
    /// An iterator has said that it was cut short.
    told: bool,
}

#[derive(Debug)]
struct Reading {
    chunk: ResultChunk,
    at: usize,
    read: u64,
}

impl Outcomes {
    pub(super) fn new(job: Arc<Job>, ordered: bool) -> Outcomes {
        Outcomes { job, ordered, current: None, early: BTreeMap::new(), next: 0, over: false, told: false }
    }

    /// Of a pool that takes no more tasks: cut short before the first.
    pub(super) fn refused(waker: Waker, why: &Failure) -> Outcomes {
        let job = Arc::new(Job::new(0, 0, Window::DEFAULT, waker));
        job.finish(why);
        Outcomes::new(job, false)
    }

    /// At the end: why it came before that of the input. Once.
    fn cut_short(&mut self) -> Option<TaskError> {
        let told = std::mem::replace(&mut self.told, true);
        self.job.cut_short().filter(|_| !told).map(TaskError::from)
    }

    /// Waits for outcomes and gives all that are there to `each`, in order if the stream is ordered. `false` at the end.
    pub fn take_into(&mut self, each: &mut dyn FnMut(Outcome<'_>)) -> bool {
        self.take_until(None, each).unwrap_or(false)
    }

    /// As [`Outcomes::take_into`], but waits only until `deadline`: with the present moment it does not wait at all.
    ///
    /// # Errors
    /// [`TimedOut`] if none came by `deadline`; the stream goes on.
    pub fn take_until(
        &mut self,
        deadline: Option<Instant>,
        each: &mut dyn FnMut(Outcome<'_>),
    ) -> Result<bool, TimedOut> {
        if !self.reading(deadline)? {
            return Ok(false);
        }
        while let Some(outcome) = self.read_one() {
            each(outcome);
        }
        self.release();
        Ok(true)
    }

    /// Waits for one outcome and gives it to `with`; `Ok(None)` at the end.
    ///
    /// # Errors
    /// [`TimedOut`] if none came by `deadline`; the stream goes on.
    pub fn take_one<T>(
        &mut self,
        deadline: Option<Instant>,
        with: impl FnOnce(Outcome<'_>) -> T,
    ) -> Result<Option<T>, TimedOut> {
        if !self.reading(deadline)? {
            return Ok(None);
        }
        let value = self.read_one().map(with);
        if self.current.as_ref().is_some_and(|r| r.read == r.chunk.count) {
            self.release();
        }
        Ok(value)
    }

    /// Whether an outcome, or the end, is there without waiting. In an ordered stream it may be that of a later task.
    pub fn is_ready(&self) -> bool {
        self.current.is_some() || self.over || self.job.is_ready()
    }

    /// Cancels what is not running yet; the outcomes of what is running are not wanted either.
    pub fn cancel(&self) {
        self.job.cancel();
    }

    /// Sees to it that there is a chunk to read from.
    fn reading(&mut self, deadline: Option<Instant>) -> Result<bool, TimedOut> {
        while self.current.is_none() && !self.over {
            if let Some(chunk) = self.early.remove(&self.next) {
                self.begin(chunk);
                break;
            }
            match self.job.take(deadline)? {
                Some(chunk) if self.ordered && chunk.first != self.next => {
                    self.early.insert(chunk.first, chunk);
                }
                Some(chunk) => self.begin(chunk),
                None => match self.early.pop_first() {
                    // Only a cancelled job leaves gaps.
                    Some((_, chunk)) => self.begin(chunk),
                    None => self.over = true,
                },
            }
        }
        Ok(self.current.is_some())
    }

    fn begin(&mut self, chunk: ResultChunk) {
        self.next = chunk.first + chunk.count;
        self.current = Some(Reading { chunk, at: 0, read: 0 });
    }

    fn read_one(&mut self) -> Option<Outcome<'_>> {
        let reading = self.current.as_mut()?;
        if reading.read == reading.chunk.count {
            return None;
        }
        let parsed = parse_outcome(&reading.chunk.frames[reading.at..])?;
        let index = reading.chunk.first + reading.read;
        reading.at += parsed.len;
        reading.read += 1;
        Some(Outcome { index, parsed, by: reading.chunk.by })
    }

    fn release(&mut self) {
        if let Some(reading) = self.current.take() {
            self.job.consumed(reading.chunk.count, reading.chunk.frames.len() as u64);
        }
    }
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        self.job.cancel();
    }
}

/// The result of one task that is under way: `multiprocessing.pool.AsyncResult`. Dropping it cancels the task if it is not running yet.
pub struct AsyncResult<R> {
    state: State<R>,
    decode: Decode<R>,
}

enum State<R> {
    Pending(Outcomes),
    Ready(Result<R, TaskError>),
    /// `get_timeout` gave it away.
    Taken,
}

impl<R> fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("ready", &self.ready()).finish()
    }
}

impl<R> AsyncResult<R> {
    /// Whether the task is done.
    pub fn ready(&self) -> bool {
        match &self.state {
            State::Pending(outcomes) => outcomes.is_ready(),
            State::Ready(_) | State::Taken => true,
        }
    }

    /// Cancels the task if it is not running yet; its outcome is then [`TaskError::Cancelled`].
    pub fn cancel(&self) {
        if let State::Pending(outcomes) = &self.state {
            outcomes.cancel();
        }
    }
}

impl<R: Ret> AsyncResult<R> {
    pub(super) fn new(outcomes: Outcomes, decode: Decode<R>) -> AsyncResult<R> {
        AsyncResult { state: State::Pending(outcomes), decode }
    }

    pub(super) fn failed(error: TaskError, decode: Decode<R>) -> AsyncResult<R> {
        AsyncResult { state: State::Ready(Err(error)), decode }
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// What happened to the task.
    pub fn get(mut self) -> Result<R, TaskError> {
        let _settled = self.settle(None);
        match self.state {
            State::Ready(result) => result,
            State::Pending(_) | State::Taken => Err(TaskError::Cancelled),
        }
    }

    /// Waits for the result, for at most that long. A result is given once.
    ///
    /// # Errors
    /// [`TimedOut`]: the task goes on, and asking again is fine.
    pub fn get_timeout(&mut self, timeout: Duration) -> Result<Result<R, TaskError>, TimedOut> {
        self.settle(Instant::now().checked_add(timeout))?;
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Ready(result) => Ok(result),
            State::Pending(_) | State::Taken => Ok(Err(TaskError::Cancelled)),
        }
    }

    /// Waits until the task is done, for at most that long; whether it is.
    pub fn wait(&mut self, timeout: Option<Duration>) -> bool {
        self.settle(timeout.and_then(|t| Instant::now().checked_add(t))).is_ok()
    }

    /// Whether the task returned; `None` while it is not done.
    pub fn successful(&mut self) -> Option<bool> {
        if !self.ready() {
            return None;
        }
        self.settle(None).ok()?;
        Some(matches!(self.state, State::Ready(Ok(_))))
    }

    fn settle(&mut self, deadline: Option<Instant>) -> Result<(), TimedOut> {
        if let State::Pending(outcomes) = &mut self.state {
            let decode = &self.decode;
            let result = outcomes.take_one(deadline, |outcome| decode.decode(outcome.result()))?;
            self.state = State::Ready(result.unwrap_or(Err(TaskError::Cancelled)));
        }
        Ok(())
    }
}

/// Results in the order of their items; made by [`Pool::imap`](super::Pool::imap).
///
/// If the pool ends before the items do, the last of its own items is the error that says so.
pub struct Imap<R> {
    outcomes: Outcomes,
    decode: Decode<R>,
}

/// Results as they come, each with the position of its item; made by [`Pool::imap_unordered`](super::Pool::imap_unordered).
///
/// If the pool ends before the items do, the last of its own items is the error that says so, at the position of an item that was not drawn.
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
        self.next_until(Instant::now().checked_add(timeout))
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<Result<R, TaskError>>, TimedOut> {
        let decode = &self.decode;
        let next = self.outcomes.take_one(deadline, |outcome| decode.decode(outcome.result()))?;
        Ok(next.or_else(|| self.outcomes.cut_short().map(Err)))
    }
}

impl<R: Ret> Iterator for Imap<R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None).ok().flatten()
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
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<(u64, Result<R, TaskError>)>, TimedOut> {
        self.next_until(Instant::now().checked_add(timeout))
    }

    #[expect(clippy::type_complexity, reason = "as above")]
    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<(u64, Result<R, TaskError>)>, TimedOut> {
        let decode = &self.decode;
        let next = self.outcomes.take_one(deadline, |outcome| (outcome.index(), decode.decode(outcome.result())))?;
        Ok(next.or_else(|| self.outcomes.cut_short().map(|error| (self.seen, Err(error)))).inspect(|(index, _)| {
            self.seen = self.seen.max(index + 1);
        }))
    }
}

impl<R: Ret> Iterator for ImapUnordered<R> {
    type Item = (u64, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None).ok().flatten()
    }
}

impl<R: Ret> std::iter::FusedIterator for ImapUnordered<R> {}
