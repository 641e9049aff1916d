//! Streams: records go in, and outcomes come out. The other methods of a pool are built on them.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::fed::Fed;
use super::job::{By, Job, Panic, Parsed, ResultChunk, Size};
use super::waker::Waker;
use crate::error::{Closed, TaskError, TimedOut};
use crate::exchange::ipc::{Queue, Transfer};
use crate::protocol::batch::Record;

/// The error of an item that has no record is cut to this length, as a guest's error is.
const REASON_LEN_MAX: usize = 64 << 10;

/// The input of a stream: it takes the records. Dropping it ends the input.
/// [`Pool::stream`](super::Pool::stream) makes it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// let (mut inputs, mut outcomes) = pool.stream(&"run".into(), true)?;
/// std::thread::spawn(move || {
///     inputs.push(b"a")?; // waits for room
///     inputs.push_all([&b"b"[..], b"c"].into_iter())
/// });
/// let mut count = 0;
/// while outcomes.take_into(&mut |outcome| count += usize::from(outcome.result().is_ok())) {}
/// assert_eq!(count, 3);
///
/// // On one thread: take an outcome when there is no room.
/// let (mut inputs, mut outcomes) = pool.stream(&"run".into(), true)?;
/// while !inputs.try_push(b"d")? {
///     outcomes.take_into(&mut |outcome| println!("{:?}", outcome.result()));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Inputs {
    job: Arc<Job>,
    record_max: usize,
}

impl Inputs {
    pub(super) fn new(job: Arc<Job>, record_max: usize) -> Inputs {
        Inputs { job, record_max }
    }

    /// Adds a record. It waits while the pool's buffer is full: take outcomes on another thread, or use
    /// [`Inputs::try_push`].
    ///
    /// A record over [`Limits::input`](crate::Limits::input) is cut off one byte behind that limit, and the
    /// worker refuses it.
    ///
    /// # Errors
    /// [`Closed`] if the stream was cancelled or the pool has ended.
    pub fn push(&mut self, record: &[u8]) -> Result<(), Closed> {
        self.job.push(Record::Bytes(self.cut(record)))
    }

    /// Adds a record if there is room. `false`: there was none.
    ///
    /// # Errors
    /// Those of [`Inputs::push`].
    pub fn try_push(&mut self, record: &[u8]) -> Result<bool, Closed> {
        self.job.try_push(Record::Bytes(self.cut(record)))
    }

    /// Adds many records with one lock, and waits for room as [`Inputs::push`] does.
    ///
    /// # Errors
    /// Those of [`Inputs::push`]. Some of the records may have been added.
    pub fn push_all<'r>(&mut self, records: impl Iterator<Item = &'r [u8]>) -> Result<(), Closed> {
        let max = self.record_max.saturating_add(1);
        self.job.push_all(records.map(|record| &record[..record.len().min(max)]))
    }

    /// What the tasks of this stream put into `queue`, until all is done: tasks that make tasks.
    /// [`Pool::imap_feed`](super::Pool::imap_feed) does this for items.
    pub fn fed<T: Transfer>(&self, queue: &Queue<T>) -> Fed<T> {
        Fed::new(queue.clone(), self.job.clone())
    }

    /// Cuts a record one byte behind the limit. The worker refuses it, as it refuses any bad record.
    fn cut<'r>(&self, record: &'r [u8]) -> &'r [u8] {
        &record[..record.len().min(self.record_max.saturating_add(1))]
    }

    pub(super) fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Whether there is room for a record.
    pub(super) fn room(&self) -> Result<bool, Closed> {
        self.job.room()
    }

    /// Adds the record of an item, or the reason why it has none, with which its task fails. Waits for room.
    pub(super) fn push_item(&mut self, encoded: Result<&[u8], String>) -> Result<(), Closed> {
        self.job.push(self.record_of(&encoded))
    }

    /// Adds the record of the only item, and ends the input.
    pub(super) fn push_last_item(self, encoded: Result<&[u8], String>) -> Result<(), Closed> {
        self.job.push_last(self.record_of(&encoded))
    }

    fn record_of<'r>(&self, encoded: &'r Result<&'r [u8], String>) -> Record<'r> {
        match encoded {
            Ok(record) => Record::Bytes(self.cut(record)),
            Err(reason) => Record::Misfit(&reason.as_bytes()[..reason.floor_char_boundary(REASON_LEN_MAX)]),
        }
    }

    /// The iterator of the items panicked. The panic goes on in the thread that takes the outcomes.
    pub(super) fn panicked(self, payload: Box<dyn Any + Send>) {
        self.job.break_input(Some(Panic(payload)));
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.job.break_input(None);
        } else {
            self.job.end_input();
        }
    }
}

/// The outcome of one task: its result or failure, its output, and what it used. [`Outcomes`] gives it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// use wpool::Target;
///
/// let (mut inputs, mut outcomes) = pool.stream(&Target::func("run").timed(true), true)?;
/// inputs.push(b"a")?;
/// drop(inputs);
/// outcomes.take_into(&mut |outcome| {
///     println!("it took {:?} and {:?} bytes of memory", outcome.took(), outcome.mem_peak());
///     println!("task {} in process {}, attempt {}", outcome.index(), outcome.pid(), outcome.attempt());
///     match outcome.result() {
///         Ok(bytes) => println!("{} bytes", bytes.len()),
///         Err(error) => println!("{error}; it wrote {:?}", outcome.stderr()),
///     }
/// });
/// # Ok(())
/// # }
/// ```
pub struct Outcome<'c> {
    index: u64,
    parsed: Parsed<'c>,
    by: By,
    ended: SystemTime,
}

impl fmt::Debug for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("index", &self.index)
            .field("result", &self.result())
            .finish_non_exhaustive()
    }
}

impl<'c> Outcome<'c> {
    /// The position of the record, from 0 on.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The bytes of the result.
    ///
    /// # Errors
    /// The failure of the task.
    pub fn result(&self) -> Result<&'c [u8], TaskError> {
        self.parsed.said.result()
    }

    /// What the guest wrote to stdout during the task, up to [`Limits::stdout`](crate::Limits::stdout). (The
    /// stdout of a command is its result.)
    pub fn stdout(&self) -> &'c [u8] {
        self.parsed.stdout
    }

    /// What the guest wrote to stderr during the task, up to [`Limits::stdout`](crate::Limits::stdout).
    pub fn stderr(&self) -> &'c [u8] {
        self.parsed.stderr
    }

    /// The time of the task in its worker, with [`Target::timed`](crate::Target::timed).
    pub fn took(&self) -> Option<Duration> {
        self.parsed.micros.map(Duration::from_micros)
    }

    /// The instructions of the attempt as the engine counts them, with
    /// [`Target::timed`](crate::Target::timed) and a limit to them ([`Limits::fuel`](crate::Limits::fuel)).
    /// The making of the instance counts, and calls to the host do not.
    pub fn fuel(&self) -> Option<u64> {
        self.parsed.used.and_then(|used| used.fuel)
    }

    /// The largest size of all memories of the task's instance, in bytes, with
    /// [`Target::timed`](crate::Target::timed). For an instance that is reused, the largest size so far.
    /// A guest that takes many records at once (`run-many`) holds up to 256 of them meanwhile.
    pub fn mem_peak(&self) -> Option<u64> {
        self.parsed.used.map(|used| used.memory)
    }

    /// When the pool received the outcome. The outcomes of short tasks come many at once. An ordered stream
    /// may have held it until those before it were there.
    pub fn ended(&self) -> SystemTime {
        self.ended
    }

    /// The number of the worker; 0 if no worker has answered.
    pub fn worker(&self) -> u32 {
        self.by.worker
    }

    /// The worker's process id; 0 if no worker has answered.
    pub fn pid(&self) -> u32 {
        self.by.pid
    }

    /// The attempt, counted from 1.
    pub fn attempt(&self) -> u32 {
        self.by.attempt
    }
}

/// The output of a stream: it gives the outcomes. Dropping it cancels the tasks that are queued and those
/// that run. [`Pool::stream`](super::Pool::stream) makes it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// # let (mut inputs, mut outcomes) = pool.stream(&"run".into(), true)?;
/// inputs.push_all([&b"a"[..], b"b", b"c"].into_iter())?;
/// drop(inputs); // the end of the input
/// // One outcome, waiting for it; then all that are there, until the end.
/// let first = outcomes.take_one(None, |outcome| outcome.result().map(<[u8]>::to_vec))?;
/// assert_eq!(first, Some(Ok(b"A".to_vec())));
/// let mut results = Vec::new();
/// while outcomes.take_into(&mut |outcome| results.push(outcome.result().map(<[u8]>::to_vec))) {}
/// assert_eq!(results, [Ok(b"B".to_vec()), Ok(b"C".to_vec())]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Outcomes {
    job: Arc<Job>,
    ordered: bool,
    /// The chunk that is being read.
    current: Option<Reading>,
    /// Chunks of an ordered stream that came before their turn, by their first index.
    early: BTreeMap<u64, ResultChunk>,
    /// The index of the next outcome.
    next: u64,
    end: StreamEnd,
    /// Dropping this does not cancel the tasks.
    detached: bool,
}

/// How near a stream is to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamEnd {
    /// More outcomes may come.
    Ahead,
    /// Every outcome has been given.
    Reached,
    /// `cut_short` has given its reason too.
    Explained,
}

#[derive(Debug)]
struct Reading {
    chunk: ResultChunk,
    /// What the chunk counts against the window. `fetch` changes the chunk's own size.
    size: Size,
    /// The offset of the next outcome in the chunk.
    at: usize,
    /// How many outcomes have been read.
    read: u64,
}

impl Outcomes {
    pub(super) fn new(job: Arc<Job>, ordered: bool) -> Outcomes {
        if ordered {
            job.in_order();
        }
        Outcomes {
            job,
            ordered,
            current: None,
            early: BTreeMap::new(),
            next: 0,
            end: StreamEnd::Ahead,
            detached: false,
        }
    }

    pub(super) fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Dropping the result does not cancel the tasks.
    pub(super) fn detached(mut self) -> Outcomes {
        self.detached = true;
        self
    }

    /// The outcomes of a pool that takes no more tasks: none, and `why`.
    pub(super) fn refused(waker: Waker, why: &TaskError) -> Outcomes {
        Outcomes::new(Job::refused(waker, why), false)
    }

    /// At the end of the outcomes: why the stream took no more records, if its input had not ended. It gives
    /// the reason the first time only. [`TaskError::Broken`] says why the pool broke.
    ///
    /// # Panics
    /// If the iterator of the items panicked ([`Pool::imap`](super::Pool::imap)): its panic goes on here.
    pub fn cut_short(&mut self) -> Option<TaskError> {
        // The panic is the explanation: a caller that catches it and goes on is not told another one.
        let before = std::mem::replace(&mut self.end, StreamEnd::Explained);
        if let Some(Panic(payload)) = self.job.take_panic() {
            std::panic::resume_unwind(payload);
        }
        self.job.cut_short().filter(|_| before != StreamEnd::Explained)
    }

    /// Waits for outcomes, and calls `each` with all that are there, in order if the stream is ordered.
    /// `false` at the end.
    pub fn take_into(&mut self, each: &mut dyn FnMut(Outcome<'_>)) -> bool {
        self.take_until(None, each).unwrap_or(false)
    }

    /// [`Outcomes::take_into`] with a deadline. With a deadline of now it does not wait.
    ///
    /// # Errors
    /// [`TimedOut`] if none came by `deadline`. The stream goes on.
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

    /// Waits for one outcome, and calls `with` with it. `Ok(None)` at the end.
    ///
    /// # Errors
    /// [`TimedOut`] if none came by `deadline`. The stream goes on.
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

    /// Whether [`PoolBuilder::halt`](crate::PoolBuilder::halt) has ended the stream early.
    pub fn is_halted(&self) -> bool {
        self.job.is_halted()
    }

    /// Whether an outcome or the end is there. In an ordered stream it may be the outcome of a later task.
    pub fn is_ready(&self) -> bool {
        self.current.is_some() || self.end != StreamEnd::Ahead || self.job.is_ready()
    }

    /// Cancels the tasks that are queued, and stops those that run. No more outcomes come.
    pub fn cancel(&self) {
        self.job.cancel();
    }

    /// Waits for a chunk to read from. `false` at the end.
    fn reading(&mut self, deadline: Option<Instant>) -> Result<bool, TimedOut> {
        while self.current.is_none() && self.end == StreamEnd::Ahead {
            if let Some(chunk) = self.early.remove(&self.next) {
                self.begin(chunk);
                break;
            }
            match self.job.take(self.ordered.then_some(self.next), deadline)? {
                Some(chunk) if self.ordered && chunk.first != self.next => {
                    // Bounded by the job's window: chunks that wait here are not counted as taken.
                    self.early.insert(chunk.first, chunk);
                }
                Some(chunk) => self.begin(chunk),
                None => match self.early.pop_first() {
                    // A gap: only a cancelled job has gaps.
                    Some((_, chunk)) => self.begin(chunk),
                    None => self.end = StreamEnd::Reached,
                },
            }
        }
        Ok(self.current.is_some())
    }

    fn begin(&mut self, mut chunk: ResultChunk) {
        self.next = chunk.first + chunk.count;
        let size = chunk.size();
        chunk.fetch();
        self.current = Some(Reading { chunk, size, at: 0, read: 0 });
    }

    fn read_one(&mut self) -> Option<Outcome<'_>> {
        let reading = self.current.as_mut()?;
        if reading.read == reading.chunk.count {
            return None;
        }
        let parsed = reading.chunk.outcome(reading.at)?;
        let index = reading.chunk.first + reading.read;
        reading.at += parsed.len;
        reading.read += 1;
        Some(Outcome { index, parsed, by: reading.chunk.by, ended: reading.chunk.ended })
    }

    fn release(&mut self) {
        if let Some(reading) = self.current.take() {
            let (count, size) = (reading.chunk.count, reading.size);
            // The memory is freed before the job is told that there is room.
            drop(reading);
            self.job.consumed(count, size);
        }
    }
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        if !self.detached {
            self.job.cancel();
        }
    }
}
