//! One job: the records of a map, imap or apply on their way in, and their outcomes on their way out.
//!
//! Three parties meet here: whoever pushes records, the dispatcher, and whoever takes outcomes. Records and outcomes move in chunks;
//! nothing is allocated or signalled per record. The window bounds what is under way, so that an endless input needs a bounded memory; the
//! bytes of results that nobody has taken have a budget of their own, for no record says how large its result will be.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::dispatcher::Parked;
use super::schedule::JobId;
use super::waker::Waker;
use crate::condition::Condition;
use crate::context::IN_FORK;
use crate::error::{Closed, TaskError};
use crate::protocol::frame::{self, Kind};
use crate::protocol::message::{self, Batch, Record, Used};

/// How much of a job may be under way: pushed, but its outcome not yet taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Bytes of results that nobody has taken. One result more may be on its way to who waits for it.
    pub(crate) results: u64,
}

impl Window {
    /// Enough to keep workers busy with the shortest of tasks; a few megabytes of ordinary lines.
    pub(crate) const DEFAULT: Window = Window { records: 1 << 16, bytes: 16 << 20, results: 64 << 20 };
}

/// Small results of tasks that had begun may come when there is no room any more: so many bytes of them.
const LATE_MAX: u64 = 8 << 20;

/// However large records are, so many may be under way: one alone would keep all workers but one without work.
const UNDER_WAY_MIN: u64 = 2;

/// Records in the form that batches hold them, one after the other.
#[derive(Debug, Default)]
pub(crate) struct InputChunk {
    /// The number of the first record.
    pub(crate) first: u64,
    data: Vec<u8>,
    /// Where each record begins in `data`.
    starts: Vec<u32>,
    /// Records without an outcome yet.
    pub(crate) open: u64,
}

/// A chunk grows to about this size, then a new one begins: positions in it are 32 bits wide.
const CHUNK_LEN: usize = 256 << 10;

impl InputChunk {
    pub(crate) fn count(&self) -> u64 {
        self.starts.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.data.len() as u64
    }

    /// The records `first..first + count`, which all lie in this chunk.
    pub(crate) fn records(&self, first: u64, count: u64) -> &[u8] {
        let at = |n: u64| usize::try_from(n - self.first).ok().and_then(|i| self.starts.get(i));
        let from = at(first).map_or(self.data.len(), |p| *p as usize);
        let to = at(first + count).map_or(self.data.len(), |p| *p as usize);
        &self.data[from..to]
    }
}

/// Outcomes of consecutive tasks.
#[derive(Debug)]
pub(crate) struct ResultChunk {
    pub(crate) first: u64,
    pub(crate) count: u64,
    outcomes: Outcomes,
    pub(crate) by: By,
    /// When it came.
    pub(crate) ended: SystemTime,
}

/// The outcomes of a chunk, and who says them.
#[derive(Debug)]
enum Outcomes {
    /// A worker: `Returned` and `Failed` frames as they came, each behind its attachments.
    Frames(Vec<u8>),
    /// A worker, of the chunk's one task: the frames before its result, and the result in the worker's memory.
    Parked(Vec<u8>, Parked),
    /// The coordinator, of every task of the chunk.
    Verdict(TaskError),
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct By {
    pub(crate) worker: u32,
    pub(crate) pid: u32,
    pub(crate) attempt: u32,
}

impl ResultChunk {
    fn new(first: u64, count: u64, outcomes: Outcomes, by: By) -> ResultChunk {
        ResultChunk { first, count, outcomes, by, ended: SystemTime::now() }
    }

    /// The coordinator's verdict on `count` tasks.
    pub(crate) fn verdict(first: u64, count: u64, error: TaskError, by: By) -> ResultChunk {
        ResultChunk::new(first, count, Outcomes::Verdict(error), by)
    }

    /// What a worker has just answered.
    pub(crate) fn answered(first: u64, count: u64, frames: Vec<u8>, by: By) -> ResultChunk {
        ResultChunk::new(first, count, Outcomes::Frames(frames), by)
    }

    /// A result that stays in its worker's memory until it is taken. `frames` ends with the head of its frame.
    pub(crate) fn parked(first: u64, frames: Vec<u8>, parked: Parked, by: By) -> ResultChunk {
        ResultChunk::new(first, 1, Outcomes::Parked(frames, parked), by)
    }

    /// Bytes of it in this process, and in its worker's memory.
    pub(crate) fn size(&self) -> Size {
        match &self.outcomes {
            Outcomes::Frames(frames) => Size { here: frames.len() as u64, parked: 0 },
            Outcomes::Parked(frames, parked) => {
                Size { here: frames.len() as u64, parked: parked.len() as u64 }
            }
            // One reason for many tasks.
            Outcomes::Verdict(_) => Size::default(),
        }
    }

    /// Copies a result out of its worker's memory, if it is still there.
    pub(crate) fn fetch(&mut self) {
        let unreadable = || TaskError::BadResult { message: "its worker's memory cannot be read".to_owned() };
        // The placeholder is gone before this returns.
        let outcomes = std::mem::replace(&mut self.outcomes, Outcomes::Frames(Vec::new()));
        self.outcomes = match outcomes {
            Outcomes::Parked(mut frames, parked) => match parked.fetch(&mut frames) {
                Ok(()) => Outcomes::Frames(frames),
                Err(_) => Outcomes::Verdict(unreadable()),
            },
            here @ (Outcomes::Frames(_) | Outcomes::Verdict(_)) => here,
        };
    }

    /// The outcome that begins at byte `at` of the chunk. `None`: there is none, or it is not here yet.
    pub(crate) fn outcome(&self, at: usize) -> Option<Parsed<'_>> {
        match &self.outcomes {
            Outcomes::Frames(frames) => parse_outcome(frames.get(at..)?),
            Outcomes::Parked(..) => None,
            Outcomes::Verdict(error) => Some(Parsed::verdict(error)),
        }
    }
}

/// Bytes of outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    pub(crate) here: u64,
    pub(crate) parked: u64,
}

/// The outcomes of a job that nobody has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Undelivered {
    pub(crate) size: Size,
    budget: u64,
    /// The task that somebody waits for, and nothing else.
    pub(crate) waits_for: Option<u64>,
    ordered: bool,
    /// What comes is dropped.
    discards: bool,
}

impl Undelivered {
    /// Whether results go on being read. `is_awaited`: who would bring them has the one that somebody waits for.
    pub(crate) fn may_come(&self, is_awaited: impl FnOnce(u64) -> bool) -> bool {
        self.discards || self.size.here <= self.budget.saturating_add(LATE_MAX) || self.is_wanted(is_awaited)
    }

    /// Whether there is room for `len` bytes.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        self.discards || self.size.here.saturating_add(len) <= self.budget
    }

    /// Whether a result must come though there is no room for it: nobody can take anything before.
    pub(crate) fn is_wanted(&self, is_awaited: impl FnOnce(u64) -> bool) -> bool {
        match self.ordered {
            true => self.waits_for.is_some_and(is_awaited),
            false => self.size.here == 0,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) plan: u32,
    window: Window,
    waker: Waker,
    inner: Mutex<Inner>,
    /// There is room for records, or the job is over.
    room: Condition,
    /// There are outcomes, or the job is over.
    ready: Condition,
}

#[derive(Debug, Default)]
struct Inner {
    full: VecDeque<InputChunk>,
    filling: InputChunk,
    pushed: u64,
    /// The first record that the dispatcher has not taken.
    first_left: u64,
    /// Of records under way and of outcomes not taken yet.
    bytes: u64,
    input_ended: bool,
    /// The dispatcher waits for records.
    hungry: bool,
    outcomes: VecDeque<ResultChunk>,
    /// Of the outcomes that nobody has taken, and of those that are being read.
    size: Size,
    /// They are taken in the order of their records.
    ordered: bool,
    /// Who takes them has all before this one, and asks for it.
    waits_for: Option<u64>,
    /// The dispatcher wants to know of what is taken.
    watched: bool,
    taken: u64,
    /// Every outcome is in `outcomes` or taken.
    done: bool,
    /// Why the input did not come to its own end.
    cut_short: Option<TaskError>,
    /// The pool's policy says that enough is done.
    halted: bool,
    /// What the iterator that records were drawn from panicked with.
    panic: Option<Panic>,
    cancelled: bool,
    /// To be called once every outcome is there.
    when_done: Option<WhenDone>,
}

/// What a thread panicked with, on its way to whoever should know.
pub(crate) struct Panic(pub(crate) Box<dyn Any + Send>);

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a panic")
    }
}

struct WhenDone(Box<dyn FnOnce() + Send>);

impl fmt::Debug for WhenDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call")
    }
}

/// What the dispatcher finds when it looks for records.
pub(crate) struct Taken {
    pub(crate) chunks: Vec<InputChunk>,
    pub(crate) ended: bool,
}

impl Inner {
    fn takes_no_more(&self) -> bool {
        self.done || self.cancelled || self.input_ended
    }

    fn is_ready(&self) -> bool {
        self.done || self.cancelled || !self.outcomes.is_empty()
    }
}

impl Job {
    pub(crate) fn new(id: JobId, plan: u32, window: Window, waker: Waker) -> Job {
        let inner = Inner { hungry: true, ..Inner::default() };
        Job {
            id,
            plan,
            window,
            waker,
            inner: Mutex::new(inner),
            room: Condition::default(),
            ready: Condition::default(),
        }
    }

    /// Of a pool that takes no more tasks: over before it begins.
    pub(crate) fn refused(waker: Waker, why: &TaskError) -> Arc<Job> {
        let job = Job::new(0, 0, Window::DEFAULT, waker);
        job.finish(why);
        Arc::new(job)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a copy in a forked child: it counts as over, and is not looked into.
    pub(crate) fn is_in_fork(&self) -> bool {
        self.waker.is_in_fork()
    }

    fn has_room(&self, inner: &Inner) -> bool {
        let under_way = inner.pushed - inner.taken;
        under_way < self.window.records && (inner.bytes < self.window.bytes || under_way < UNDER_WAY_MIN)
    }

    // For who pushes.

    /// Whether one more record fits now. One that is pushed by the same thread then finds room.
    pub(crate) fn room(&self) -> Result<bool, Closed> {
        if self.is_in_fork() {
            return Err(Closed);
        }
        let inner = self.lock();
        match inner.takes_no_more() {
            true => Err(Closed),
            false => Ok(self.has_room(&inner)),
        }
    }

    /// Waits until one more record fits.
    pub(crate) fn wait_room(&self) -> Result<(), Closed> {
        if self.is_in_fork() {
            return Err(Closed);
        }
        let inner = self.wait_for_room(self.lock());
        match inner.takes_no_more() {
            true => Err(Closed),
            false => Ok(()),
        }
    }

    fn wait_for_room<'j>(&'j self, inner: MutexGuard<'j, Inner>) -> MutexGuard<'j, Inner> {
        self.room.wait_while(inner, None, |inner| !inner.takes_no_more() && !self.has_room(inner))
    }

    /// Adds a record, waiting for room before.
    pub(crate) fn push(&self, record: Record<'_>) -> Result<(), Closed> {
        if self.is_in_fork() {
            return Err(Closed);
        }
        let mut inner = self.wait_for_room(self.lock());
        self.add(&mut inner, record)
    }

    /// Adds a record if there is room now.
    pub(crate) fn try_push(&self, record: Record<'_>) -> Result<bool, Closed> {
        if self.is_in_fork() {
            return Err(Closed);
        }
        let mut inner = self.lock();
        match self.has_room(&inner) || inner.takes_no_more() {
            true => self.add(&mut inner, record).map(|()| true),
            false => Ok(false),
        }
    }

    /// Adds all of `records`, waiting for room now and then; one lock for many.
    pub(crate) fn push_all<'r>(&self, records: impl Iterator<Item = &'r [u8]>) -> Result<(), Closed> {
        if self.is_in_fork() {
            return Err(Closed);
        }
        let mut inner = self.lock();
        for record in records {
            inner = self.wait_for_room(inner);
            self.add(&mut inner, Record::Bytes(record))?;
        }
        Ok(())
    }

    fn add(&self, inner: &mut Inner, record: Record<'_>) -> Result<(), Closed> {
        if inner.takes_no_more() {
            return Err(Closed);
        }
        let len = match record {
            Record::Bytes(bytes) | Record::Misfit(bytes) => bytes.len(),
        };
        if inner.filling.data.len() + len > CHUNK_LEN && !inner.filling.starts.is_empty() {
            let next = InputChunk { first: inner.pushed, ..InputChunk::default() };
            let full = std::mem::replace(&mut inner.filling, next);
            inner.full.push_back(full);
        }
        let start =
            u32::try_from(inner.filling.data.len()).expect("a chunk begins anew after CHUNK_LEN bytes");
        inner.filling.starts.push(start);
        match record {
            Record::Bytes(bytes) => Batch::write_record(&mut inner.filling.data, bytes),
            Record::Misfit(reason) => {
                Batch::write_misfit(&mut inner.filling.data, &String::from_utf8_lossy(reason))
            }
        }
        inner.pushed += 1;
        inner.bytes += len as u64;
        if inner.hungry {
            inner.hungry = false;
            self.waker.wake();
        }
        Ok(())
    }

    /// No more records will come, though there should have been more: whoever draws them panicked, perhaps with this.
    pub(crate) fn break_input(&self, panic: Option<Panic>) {
        if self.is_in_fork() {
            return;
        }
        let mut inner = self.lock();
        inner.cut_short.get_or_insert(TaskError::Cancelled);
        inner.panic = panic;
        drop(inner);
        self.end_input();
    }

    /// No more records will come.
    pub(crate) fn end_input(&self) {
        if self.is_in_fork() {
            return;
        }
        let mut inner = self.lock();
        inner.input_ended = true;
        drop(inner);
        self.waker.wake();
    }

    // For the dispatcher.

    /// No more records are taken: enough is done.
    pub(crate) fn halt(&self) {
        let mut inner = self.lock();
        inner.halted = true;
        if !inner.input_ended {
            inner.input_ended = true;
            inner.cut_short.get_or_insert(TaskError::Cancelled);
        }
        drop(inner);
        self.room.announce();
        self.waker.wake();
    }

    /// Takes the records that have come.
    pub(crate) fn take_input(&self) -> Taken {
        let mut inner = self.lock();
        let mut chunks: Vec<InputChunk> = inner.full.drain(..).collect();
        if !inner.filling.starts.is_empty() {
            let next = InputChunk { first: inner.pushed, ..InputChunk::default() };
            chunks.push(std::mem::replace(&mut inner.filling, next));
        }
        for chunk in &mut chunks {
            chunk.open = chunk.count();
        }
        inner.first_left = inner.pushed;
        Taken { chunks, ended: inner.input_ended }
    }

    /// From now on the dispatcher is woken by the next record. `false` if there are records, or the end of them, already.
    pub(crate) fn await_input(&self) -> bool {
        let mut inner = self.lock();
        inner.hungry = inner.full.is_empty() && inner.filling.starts.is_empty();
        inner.hungry
    }

    /// Passes outcomes on. `released`: the bytes of the records whose outcomes these are. Gives whether there is room for more.
    pub(crate) fn deliver(&self, chunk: ResultChunk, released: u64) -> bool {
        let mut inner = self.lock();
        inner.bytes = inner.bytes.saturating_sub(released);
        if inner.cancelled {
            inner.taken += chunk.count;
            return true;
        }
        let Size { here, parked } = chunk.size();
        inner.bytes += here;
        inner.size.here += here;
        inner.size.parked += parked;
        inner.outcomes.push_back(chunk);
        let has_room = inner.size.here + inner.size.parked < self.window.results;
        drop(inner);
        self.ready.announce();
        has_room
    }

    fn undelivered_of(&self, inner: &Inner) -> Undelivered {
        Undelivered {
            size: inner.size,
            budget: self.window.results,
            waits_for: inner.waits_for,
            ordered: inner.ordered,
            discards: inner.cancelled,
        }
    }

    /// What nobody has taken.
    pub(crate) fn undelivered(&self) -> Undelivered {
        self.undelivered_of(&self.lock())
    }

    /// Whether the dispatcher is woken by what is taken, or asked for, from now on. Gives what nobody has taken.
    pub(crate) fn watch(&self, watched: bool) -> Undelivered {
        let mut inner = self.lock();
        inner.watched = watched;
        self.undelivered_of(&inner)
    }

    /// Counts bytes of a result that is on its way, until what is given is dropped.
    pub(crate) fn reserve(self: &Arc<Job>, bytes: u64) -> Reserved {
        self.lock().size.here += bytes;
        Reserved { job: self.clone(), bytes }
    }

    /// Every outcome has been delivered that will be. Records that the dispatcher has not taken have `left` as theirs.
    pub(crate) fn finish(&self, left: &TaskError) {
        let mut inner = self.lock();
        if !inner.done {
            inner.done = true;
            if !inner.input_ended {
                inner.cut_short.get_or_insert_with(|| left.clone());
            }
            inner.full.clear();
            inner.filling = InputChunk::default();
            let (first, count) = (inner.first_left, inner.pushed - inner.first_left);
            if count > 0 && !inner.cancelled {
                inner.outcomes.push_back(ResultChunk::verdict(first, count, left.clone(), By::default()));
            }
        }
        let when_done = inner.when_done.take();
        drop(inner);
        self.ready.announce();
        self.room.announce();
        if let Some(WhenDone(call)) = when_done {
            call();
        }
    }

    /// Has `call` made once every outcome is there; at once, if they are. It must not block.
    pub(crate) fn when_done(&self, call: impl FnOnce() + Send + 'static) {
        let mut inner = self.lock();
        if !inner.done {
            inner.when_done = Some(WhenDone(Box::new(call)));
            return;
        }
        drop(inner);
        call();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        if self.is_in_fork() {
            return false;
        }
        self.lock().cancelled
    }

    pub(crate) fn is_halted(&self) -> bool {
        if self.is_in_fork() {
            return false;
        }
        self.lock().halted
    }

    /// What the iterator panicked with, if it did. Once.
    pub(crate) fn take_panic(&self) -> Option<Panic> {
        if self.is_in_fork() {
            return None;
        }
        self.lock().panic.take()
    }

    /// Why there are fewer outcomes than there should have been: the pool ended, or the input broke, while more records were to come.
    pub(crate) fn cut_short(&self) -> Option<TaskError> {
        if self.is_in_fork() {
            return Some(TaskError::Broken { reason: IN_FORK.to_owned() });
        }
        self.lock().cut_short.clone()
    }

    // For who takes.

    /// Outcomes will be taken in the order of their records.
    pub(crate) fn in_order(&self) {
        if self.is_in_fork() {
            return;
        }
        self.lock().ordered = true;
    }

    /// The next outcomes, in the order of their arrival; `Ok(None)` at the end, `Err` when the time is up. `next`: the one that is waited for, if
    /// they are taken in order.
    pub(crate) fn take(
        &self,
        next: Option<u64>,
        deadline: Option<Instant>,
    ) -> Result<Option<ResultChunk>, crate::error::TimedOut> {
        if self.is_in_fork() {
            return Ok(None);
        }
        let mut inner = self.lock();
        if !inner.is_ready() && inner.waits_for != next {
            inner.waits_for = next;
            if inner.watched {
                self.waker.wake();
            }
        }
        if let Some(chunk) = inner.outcomes.pop_front() {
            return Ok(Some(chunk));
        }
        drop(inner);
        if !self.wait_ready(deadline) {
            return Err(crate::error::TimedOut);
        }
        Ok(self.lock().outcomes.pop_front())
    }

    /// Makes room for as many records as were in a chunk.
    pub(crate) fn consumed(&self, count: u64, size: Size) {
        if self.is_in_fork() {
            return;
        }
        let mut inner = self.lock();
        inner.taken += count;
        inner.bytes = inner.bytes.saturating_sub(size.here);
        self.release(&mut inner, size);
        drop(inner);
        self.room.announce();
    }

    fn release(&self, inner: &mut Inner, size: Size) {
        inner.size.here = inner.size.here.saturating_sub(size.here);
        inner.size.parked = inner.size.parked.saturating_sub(size.parked);
        if inner.watched {
            self.waker.wake();
        }
    }

    /// Whether outcomes, or the end, are there to be taken.
    pub(crate) fn is_ready(&self) -> bool {
        if self.is_in_fork() {
            return true;
        }
        self.lock().is_ready()
    }

    /// The same for who looks again soon: he need not wait for whoever brings them.
    pub(crate) fn is_seen_ready(&self) -> bool {
        self.inner.try_lock().is_ok_and(|inner| inner.is_ready())
    }

    /// Nobody wants the outcomes any more: what is queued is dropped.
    pub(crate) fn cancel(&self) {
        if self.is_in_fork() {
            return;
        }
        let mut inner = self.lock();
        inner.cancelled = true;
        inner.input_ended = true;
        let dropped = std::mem::take(&mut inner.outcomes);
        inner.size = Size::default();
        let is_over = inner.done;
        drop(inner);
        // Perhaps many megabytes.
        drop(dropped);
        self.room.announce();
        self.ready.announce();
        if !is_over {
            self.waker.cancel(self.id);
        }
    }

    /// Waits until outcomes, or the end, are there to be taken; whether they are.
    pub(crate) fn wait_ready(&self, deadline: Option<Instant>) -> bool {
        if self.is_in_fork() {
            return true;
        }
        self.ready.wait_while(self.lock(), deadline, |inner| !inner.is_ready()).is_ready()
    }
}

/// Bytes of a result that has begun to come.
#[derive(Debug)]
pub(crate) struct Reserved {
    job: Arc<Job>,
    bytes: u64,
}

impl Reserved {
    /// More of them, of the same task.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.job.lock().size.here += bytes;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut inner = self.job.lock();
        self.job.release(&mut inner, Size { here: self.bytes, parked: 0 });
    }
}

/// One outcome: what it is, and what came before it.
pub(crate) struct Parsed<'c> {
    pub(crate) said: Said<'c>,
    pub(crate) stdout: &'c [u8],
    pub(crate) stderr: &'c [u8],
    pub(crate) micros: Option<u64>,
    pub(crate) used: Option<Used>,
    /// The bytes of all its frames.
    pub(crate) len: usize,
}

/// What is said of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said<'c> {
    /// By its worker: the result.
    Returned(&'c [u8]),
    /// By its worker: a [`Failure`](message::Failure) in JSON.
    Failed(&'c [u8]),
    /// By the coordinator.
    Verdict(&'c TaskError),
}

impl<'c> Said<'c> {
    pub(crate) fn result(self) -> Result<&'c [u8], TaskError> {
        match self {
            Said::Returned(result) => Ok(result),
            Said::Failed(failure) => Err(match message::read_failure(failure) {
                Ok(failure) => failure.into(),
                Err(violation) => TaskError::BadResult { message: violation.to_string() },
            }),
            Said::Verdict(error) => Err(error.clone()),
        }
    }
}

impl<'c> Parsed<'c> {
    fn verdict(error: &'c TaskError) -> Parsed<'c> {
        Parsed { said: Said::Verdict(error), stdout: &[], stderr: &[], micros: None, used: None, len: 0 }
    }
}

/// Reads the first outcome in `frames`, which the dispatcher has checked.
pub(crate) fn parse_outcome(frames: &[u8]) -> Option<Parsed<'_>> {
    let (mut stdout, mut stderr, mut micros, mut used) = (&[][..], &[][..], None, None);
    let mut at = 0;
    loop {
        let frame = frame::parse(&frames[at..]).ok().flatten()?;
        at += frame.len();
        match frame.kind {
            Kind::Stdout => stdout = frame.payload,
            Kind::Stderr => stderr = frame.payload,
            Kind::Took => micros = frame.payload.try_into().ok().map(u64::from_le_bytes),
            Kind::Used => used = Used::read(frame.payload).ok(),
            Kind::Returned => {
                let said = Said::Returned(frame.payload);
                return Some(Parsed { said, stdout, stderr, micros, used, len: at });
            }
            Kind::Failed => {
                let said = Said::Failed(frame.payload);
                return Some(Parsed { said, stdout, stderr, micros, used, len: at });
            }
            Kind::Control | Kind::Batch | Kind::Input | Kind::BatchDone | Kind::Placed | Kind::Profile => {
                return None;
            }
        }
    }
}
