//! Streams: records in, and what becomes of them out. Everything else that a pool offers is made of this.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::job::{By, Job, Panic, Parsed, ResultChunk, Size};
use super::waker::Waker;
use crate::error::{Closed, TaskError, TimedOut};
use crate::protocol::message::Record;

/// An item's own error is kept no longer than this, as a guest's is.
const REASON_LEN_MAX: usize = 64 << 10;

/// Where the records of a [`Pool::stream`](super::Pool::stream) go in. Dropping it ends the input.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// let (mut inputs, mut outcomes) = pool.stream(&"run".into(), true)?;
/// std::thread::spawn(move || inputs.push_all([&b"a"[..], b"b"].into_iter()));
/// let mut count = 0;
/// while outcomes.take_into(&mut |outcome| count += usize::from(outcome.result().is_ok())) {}
/// assert_eq!(count, 2);
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

    /// Adds a record. Waits while the pool's buffer is full; take outcomes from another thread, or use [`Inputs::try_push`].
    ///
    /// A record over [`Limits::input`](crate::Limits::input) is cut off one byte behind that limit, and refused by the worker.
    ///
    /// # Errors
    /// [`Closed`] once the stream was cancelled or the pool is over: nobody will look at more records.
    pub fn push(&mut self, record: &[u8]) -> Result<(), Closed> {
        self.job.push(Record::Bytes(self.cut(record)))
    }

    /// Adds a record if there is room; whether there was.
    ///
    /// # Errors
    /// As [`Inputs::push`].
    pub fn try_push(&mut self, record: &[u8]) -> Result<bool, Closed> {
        self.job.try_push(Record::Bytes(self.cut(record)))
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

    /// Adds an item's record, or why it has none: its task fails with that, in its place. Waits for room.
    pub(super) fn push_item(&mut self, encoded: Result<&[u8], String>) -> Result<(), Closed> {
        match encoded {
            Ok(record) => self.push(record),
            Err(reason) => self
                .job
                .push(Record::Misfit(&reason.as_bytes()[..reason.floor_char_boundary(REASON_LEN_MAX)])),
        }
    }

    /// The iterator that records were drawn from panicked: whoever takes the outcomes shall know.
    pub(super) fn panicked(self, payload: Box<dyn Any + Send>) {
        self.job.break_input(Some(Panic(payload)));
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        match std::thread::panicking() {
            true => self.job.break_input(None),
            false => self.job.end_input(),
        }
    }
}

/// What became of one task. Borrowed from the chunk that it came in.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// # let (mut inputs, mut outcomes) = pool.stream(&"run".into(), true)?;
/// inputs.push(b"a")?;
/// drop(inputs);
/// outcomes.take_into(&mut |outcome| {
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

    /// The result's bytes, or why there is none.
    ///
    /// # Errors
    /// What happened to the task.
    pub fn result(&self) -> Result<&'c [u8], TaskError> {
        self.parsed.said.result()
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

    /// The instructions that the attempt used, in the engine's count, if there is a limit to them ([`Limits::fuel`](crate::Limits::fuel)) and
    /// [`Target::timed`](crate::Target::timed) was asked for. The making of its instance counts too, the time in calls to the host does not.
    pub fn fuel(&self) -> Option<u64> {
        self.parsed.used.and_then(|used| used.fuel)
    }

    /// Bytes of all memories of the task's instance at their largest, if [`Target::timed`](crate::Target::timed) was asked for. Of an instance that lives on
    /// from task to task, it is the largest so far.
    pub fn mem_peak(&self) -> Option<u64> {
        self.parsed.used.map(|used| used.memory)
    }

    /// When the pool heard of it. Outcomes of short tasks come many at once; an ordered stream may have kept it for those before it.
    pub fn ended(&self) -> SystemTime {
        self.ended
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

/// Where the outcomes of a [`Pool::stream`](super::Pool::stream) come out. Dropping it cancels the rest: what is queued, and what is running.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/doctest.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pool = pool("upper")?;
/// # let (mut inputs, mut outcomes) = pool.stream(&"run".into(), true)?;
/// inputs.push_all([&b"a"[..], b"b"].into_iter())?;
/// drop(inputs);
/// let mut results = Vec::new();
/// while outcomes.take_into(&mut |outcome| results.push(outcome.result().map(<[u8]>::to_vec))) {}
/// assert_eq!(results, [Ok(b"A".to_vec()), Ok(b"B".to_vec())]);
/// # Ok(())
/// # }
/// ```
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
    /// The tasks go on when nobody looks any more.
    detached: bool,
}

#[derive(Debug)]
struct Reading {
    chunk: ResultChunk,
    /// What it counted for when it came.
    size: Size,
    at: usize,
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
            over: false,
            told: false,
            detached: false,
        }
    }

    pub(super) fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Dropping it does not cancel anything.
    pub(super) fn detached(mut self) -> Outcomes {
        self.detached = true;
        self
    }

    /// Of a pool that takes no more tasks: cut short before the first.
    pub(super) fn refused(waker: Waker, why: &TaskError) -> Outcomes {
        Outcomes::new(Job::refused(waker, why), false)
    }

    /// At the end: why it came before that of the input. Once. The panic of the iterator that the input came from goes on here.
    pub(super) fn cut_short(&mut self) -> Option<TaskError> {
        if let Some(Panic(payload)) = self.job.take_panic() {
            self.told = true;
            std::panic::resume_unwind(payload);
        }
        let told = std::mem::replace(&mut self.told, true);
        self.job.cut_short().filter(|_| !told)
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

    /// Whether the pool's policy has ended the stream early: [`PoolBuilder::halt`](crate::PoolBuilder::halt).
    pub fn is_halted(&self) -> bool {
        self.job.is_halted()
    }

    /// Whether an outcome, or the end, is there without waiting. In an ordered stream it may be that of a later task.
    pub fn is_ready(&self) -> bool {
        self.current.is_some() || self.over || self.job.is_ready()
    }

    /// Cancels the rest: what is queued is given up, what is running is stopped. There are no more outcomes.
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
            match self.job.take(self.ordered.then_some(self.next), deadline)? {
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
            // First the memory, then the room for more.
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
