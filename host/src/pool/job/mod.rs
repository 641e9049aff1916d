//! One job: the records of a map, imap or apply on their way in, and their outcomes on their way out.
//!
//! Three threads meet here: one pushes records, one is the dispatcher, and one takes outcomes. Records and
//! outcomes move in chunks; nothing is allocated or signalled per record. The window bounds what is under
//! way, so that an endless input needs a bounded memory. The bytes of results that are not taken have a
//! budget of their own, since a record does not say how large its result will be.

mod chunk;
mod state;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use self::chunk::CHUNK_LEN;
pub(crate) use self::chunk::{By, InputChunk, Parsed, ResultChunk, Size};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::chunk::{TaskEnd, parse_outcome};
use self::state::{JobInput, JobState, LaterCall, Listing, TakeOrder};
pub(crate) use self::state::{Panic, TakenRecords, Undelivered};
use super::schedule::JobId;
use super::waker::Waker;
use crate::condition::Condition;
use crate::context::IN_FORK;
use crate::error::{Closed, TaskError};
use crate::protocol::batch::{Batch, Record};
use crate::target::Priority;

/// How much of a job may be under way: pushed, but its outcome not yet taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Bytes of results that are not taken. The one result that is waited for may come beside them.
    pub(crate) results: u64,
}

impl Window {
    /// Enough to keep workers busy with the shortest of tasks; a few megabytes of ordinary lines.
    pub(crate) const DEFAULT: Window = Window { records: 1 << 16, bytes: 16 << 20, results: 64 << 20 };
}

/// The number of records that may be under way, however large they are: with one, all workers but one would
/// be idle.
const UNDER_WAY_MIN: u64 = 2;

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) priority: Priority,
    window: Window,
    waker: Waker,
    /// Its outcomes are wanted. Read under the lock of the exchange, where no other lock is taken.
    is_wanted: AtomicBool,
    state: Mutex<JobState>,
    /// Announced when there is room for records, or the job is over.
    room: Condition,
    /// Announced when there are outcomes, or the job is over.
    ready: Condition,
}

impl Job {
    pub(crate) fn new(id: JobId, priority: Priority, window: Window, waker: Waker) -> Job {
        let state = JobState { on_record: Listing::Once, ..JobState::default() };
        Job {
            id,
            priority,
            window,
            waker,
            is_wanted: AtomicBool::new(true),
            state: Mutex::new(state),
            room: Condition::default(),
            ready: Condition::default(),
        }
    }

    /// A job that is over before it begins: its pool takes no more tasks.
    pub(crate) fn refused(waker: Waker, why: &TaskError) -> Arc<Job> {
        let job = Job::new(0, Priority::default(), Window::DEFAULT, waker);
        job.finish(why);
        Arc::new(job)
    }

    fn lock(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a copy in a forked child. It counts as over, and its lock is not taken.
    pub(crate) fn is_in_fork(&self) -> bool {
        self.waker.is_in_fork()
    }

    /// Puts the job on the list of jobs that the dispatcher looks at.
    fn list(&self, inner: &mut JobState) {
        if !std::mem::replace(&mut inner.is_listed, true) {
            if inner.is_driven { self.waker.note(self.id) } else { self.waker.list(self.id) }
        }
    }

    /// Whether the thread that uses the job does the dispatcher's work too. Then a change does not wake the
    /// dispatcher.
    pub(crate) fn set_driven(&self, is_driven: bool) {
        self.lock().is_driven = is_driven;
    }

    #[inline]
    fn has_room(&self, inner: &JobState) -> bool {
        let under_way = inner.pushed - inner.taken;
        under_way < self.window.records && (inner.bytes < self.window.bytes || under_way < UNDER_WAY_MIN)
    }

    /// Whether there is so much room that a thread which waits for some is woken. It then pushes many
    /// records, and does not wait again after each.
    fn has_much_room(&self, inner: &JobState) -> bool {
        let Window { records, bytes, .. } = self.window;
        let under_way = inner.pushed - inner.taken;
        let is_half = under_way <= records / 2 && inner.bytes <= bytes / 2;
        under_way < records && (is_half || under_way < UNDER_WAY_MIN)
    }

    // For the thread that pushes.

    /// Whether one more record fits now. A record that the same thread pushes next finds the room.
    pub(crate) fn room(&self) -> Result<bool, Closed> {
        if self.is_in_fork() {
            return Err(Closed);
        }
        let inner = self.lock();
        if inner.takes_no_more() { Err(Closed) } else { Ok(self.has_room(&inner)) }
    }

    #[inline]
    fn wait_for_room<'j>(&'j self, inner: MutexGuard<'j, JobState>) -> MutexGuard<'j, JobState> {
        if self.has_room(&inner) {
            return inner;
        }
        self.room.wait_while(inner, None, |inner| !inner.takes_no_more() && !self.has_much_room(inner))
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
        if !self.has_room(&inner) && !inner.takes_no_more() {
            return Ok(false);
        }
        self.add(&mut inner, record).map(|()| true)
    }

    /// Adds all of `records`, and waits for room when there is none. Many records share one lock.
    pub(crate) fn push_all<'r>(&self, records: impl Iterator<Item = &'r [u8]>) -> Result<(), Closed> {
        if self.is_in_fork() {
            return Err(Closed);
        }
        let mut inner = self.lock();
        for record in records {
            // Under the same lock as the addition: between two locks another thread could take the room.
            inner = self.wait_for_room(inner);
            self.add(&mut inner, Record::Bytes(record))?;
        }
        Ok(())
    }

    #[inline]
    fn add(&self, inner: &mut JobState, record: Record<'_>) -> Result<(), Closed> {
        if inner.takes_no_more() {
            return Err(Closed);
        }
        let len = match record {
            Record::Bytes(bytes) | Record::Misfit(bytes) => bytes.len(),
        };
        // A chunk that holds nothing takes any record, however long, so that a record is never split.
        if inner.filling.data.len() + len > CHUNK_LEN && !inner.filling.starts.is_empty() {
            let next = InputChunk { first: inner.pushed, ..InputChunk::default() };
            let full = std::mem::replace(&mut inner.filling, next);
            inner.full.push_back(full);
        }
        let start =
            u32::try_from(inner.filling.data.len()).expect("a chunk begins anew after CHUNK_LEN bytes");
        inner.filling.starts.push(start);
        let data = Arc::get_mut(&mut inner.filling.data).expect("only chunks that are taken are shared");
        match record {
            Record::Bytes(bytes) => Batch::write_record(data, bytes),
            Record::Misfit(reason) => Batch::write_misfit(data, &String::from_utf8_lossy(reason)),
        }
        inner.pushed += 1;
        inner.bytes += len as u64;
        if inner.on_record.is_due() {
            self.list(inner);
        }
        Ok(())
    }

    /// Adds the job's last record, whether there is room for it or not. The dispatcher sees the record and
    /// the end of the input in one look.
    pub(crate) fn push_last(&self, record: Record<'_>) -> Result<(), Closed> {
        if self.is_in_fork() {
            return Err(Closed);
        }
        let mut inner = self.lock();
        self.add(&mut inner, record)?;
        inner.input.end();
        self.list(&mut inner);
        Ok(())
    }

    /// No more records will come, though there should have been more: the thread that draws them panicked.
    pub(crate) fn break_input(&self, panic: Option<Panic>) {
        if self.is_in_fork() {
            return;
        }
        let mut inner = self.lock();
        inner.input.cut_short(TaskError::Cancelled);
        inner.panic = panic;
        self.list(&mut inner);
    }

    /// No more records will come.
    pub(crate) fn end_input(&self) {
        if self.is_in_fork() {
            return;
        }
        let mut inner = self.lock();
        if inner.input.is_open() {
            inner.input.end();
            self.list(&mut inner);
        }
    }

    // For the dispatcher.

    /// Takes no more records: the pool's policy halts the job.
    pub(crate) fn halt(&self) {
        let mut inner = self.lock();
        inner.is_halted = true;
        if inner.input.is_open() {
            inner.input.cut_short(TaskError::Cancelled);
        }
        self.list(&mut inner);
        self.tell(inner);
    }

    /// The dispatcher has taken the job off its list: the next change puts it there again.
    pub(crate) fn unlist(&self) {
        self.lock().is_listed = false;
    }

    /// Takes the records that have come.
    pub(crate) fn take_input(&self) -> TakenRecords {
        let mut inner = self.lock();
        let mut chunks: Vec<InputChunk> = inner.full.drain(..).collect();
        if !inner.filling.starts.is_empty() {
            let next = InputChunk { first: inner.pushed, ..InputChunk::default() };
            chunks.push(std::mem::replace(&mut inner.filling, next));
        }
        for chunk in &mut chunks {
            chunk.open = chunk.count();
        }
        // Records that come later than this get their outcome in `finish`, since the schedule has not heard
        // of them.
        inner.first_left = inner.pushed;
        TakenRecords { chunks, ended: !inner.input.is_open() }
    }

    /// Lets the next record put the job on the dispatcher's list. `false`: there are records already.
    pub(crate) fn await_input(&self) -> bool {
        let mut inner = self.lock();
        let is_empty = inner.full.is_empty() && inner.filling.starts.is_empty();
        inner.on_record = if is_empty { Listing::Once } else { Listing::Never };
        is_empty
    }

    /// Passes outcomes on, for [`Job::announce`] to announce. `released`: the bytes of records that are not
    /// needed any more. `false`: there is no room for more outcomes.
    pub(crate) fn deliver(&self, chunk: ResultChunk, released: u64) -> bool {
        let mut inner = self.lock();
        inner.bytes = inner.bytes.saturating_sub(released);
        inner.settled += chunk.count;
        if inner.progress.is_cancelled() {
            // These are never taken, and must not hold up the thread that pushes.
            inner.taken += chunk.count;
            return true;
        }
        let Size { here, parked } = chunk.size();
        inner.bytes += here;
        inner.size.here += here;
        inner.size.parked += parked;
        inner.outcomes.push_back(chunk);
        inner.size.here + inner.size.parked < self.window.results
    }

    /// Tells the thread or the call that waits for outcomes. Called after [`Job::deliver`], once for all
    /// chunks that came together: a thread that is woken for each of them is asleep again before the next.
    pub(crate) fn announce(&self) {
        self.tell(self.lock());
    }

    fn undelivered_of(&self, inner: &JobState) -> Undelivered {
        Undelivered {
            size: inner.size,
            budget: self.window.results,
            order: inner.order,
            discards: inner.progress.is_cancelled(),
        }
    }

    /// What is not taken yet.
    pub(crate) fn undelivered(&self) -> Undelivered {
        self.undelivered_of(&self.lock())
    }

    /// Sets whether each outcome that is taken or waited for puts the job on the dispatcher's list. Gives
    /// what is not taken yet.
    pub(crate) fn watch(&self, watched: bool) -> Undelivered {
        let mut inner = self.lock();
        inner.on_take = if watched { Listing::EachTime } else { Listing::Never };
        self.undelivered_of(&inner)
    }

    /// Counts bytes of a result that is on its way, until the returned value is dropped.
    pub(crate) fn reserve(self: &Arc<Job>, bytes: u64) -> Reserved {
        self.lock().size.here += bytes;
        Reserved { job: self.clone(), bytes }
    }

    /// Ends the job: no more outcomes will be delivered. Records that the dispatcher has not taken get
    /// `left`.
    pub(crate) fn finish(&self, left: &TaskError) {
        let mut inner = self.lock();
        if !inner.progress.is_done() {
            inner.progress.finish();
            if inner.input.is_open() {
                inner.input.cut_short(left.clone());
            }
            inner.full.clear();
            inner.filling = InputChunk::default();
            let (first, count) = (inner.first_left, inner.pushed - inner.first_left);
            if count > 0 && !inner.progress.is_cancelled() {
                inner.outcomes.push_back(ResultChunk::verdict(first, count, left.clone(), By::default()));
            }
        }
        let when_done = inner.when_done.take();
        self.tell(inner);
        // Without the lock: the call may use this job.
        if let Some(LaterCall(call)) = when_done {
            call();
        }
    }

    /// Calls `call` once every outcome is there, or now if they are. `call` must not block.
    pub(crate) fn when_done(&self, call: impl FnOnce() + Send + 'static) {
        let mut inner = self.lock();
        if !inner.progress.is_done() {
            inner.when_done = Some(LaterCall(Box::new(call)));
            return;
        }
        drop(inner);
        call();
    }

    /// Calls `call` once there is room for many records or no more are taken, or now if so. `call` must not
    /// block.
    pub(crate) fn when_room(&self, call: impl FnOnce() + Send + 'static) {
        let mut inner = self.lock();
        inner.when_room = Some(LaterCall(Box::new(call)));
        self.tell(inner);
    }

    /// Calls `call` once there are outcomes or there will be no more, or now if so. `call` must not
    /// block.
    pub(crate) fn when_ready(&self, call: impl FnOnce() + Send + 'static) {
        let mut inner = self.lock();
        inner.when_ready = Some(LaterCall(Box::new(call)));
        self.tell(inner);
    }

    /// Whether every record that was pushed has its outcome, or no more are taken.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_in_fork() || self.lock().is_settled()
    }

    /// Calls `call` once every record that was pushed has its outcome or no more are taken, or now if so.
    /// `call` must not block.
    pub(crate) fn when_settled(&self, call: impl FnOnce() + Send + 'static) {
        let mut inner = self.lock();
        inner.when_settled = Some(LaterCall(Box::new(call)));
        self.tell(inner);
    }

    /// Tells each thread and each call that waits for room, for outcomes or for the last of them, if so now.
    fn tell(&self, mut inner: MutexGuard<'_, JobState>) {
        let has_room = inner.takes_no_more() || self.has_much_room(&inner);
        let when_room = if has_room { inner.when_room.take() } else { None };
        let when_ready = if inner.is_ready() { inner.when_ready.take() } else { None };
        let when_settled = if inner.is_settled() { inner.when_settled.take() } else { None };
        drop(inner);
        if has_room {
            self.room.announce();
        }
        self.ready.announce();
        for LaterCall(call) in [when_room, when_ready, when_settled].into_iter().flatten() {
            call();
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        if self.is_in_fork() {
            return false;
        }
        self.lock().progress.is_cancelled()
    }

    pub(crate) fn is_halted(&self) -> bool {
        if self.is_in_fork() {
            return false;
        }
        self.lock().is_halted
    }

    /// Takes the iterator's panic, if there was one.
    pub(crate) fn take_panic(&self) -> Option<Panic> {
        if self.is_in_fork() {
            return None;
        }
        self.lock().panic.take()
    }

    /// Why there are fewer outcomes than there should have been: the pool ended, or the input broke, while
    /// more records were to come.
    pub(crate) fn cut_short(&self) -> Option<TaskError> {
        if self.is_in_fork() {
            return Some(TaskError::Broken { reason: IN_FORK.to_owned() });
        }
        match &self.lock().input {
            JobInput::Open | JobInput::Ended => None,
            JobInput::CutShort(why) => Some(why.clone()),
        }
    }

    // For the thread that takes.

    /// Says that outcomes will be taken in the order of their records.
    pub(crate) fn in_order(&self) {
        if self.is_in_fork() {
            return;
        }
        self.lock().order = TakeOrder::ByRecord { waits_for: None };
    }

    /// The next outcomes, in the order of their arrival; `Ok(None)` at the end, `Err` when the time is up.
    /// `next`: the task that is waited for, if outcomes are taken in the order of their records.
    pub(crate) fn take(
        &self,
        next: Option<u64>,
        deadline: Option<Instant>,
    ) -> Result<Option<ResultChunk>, crate::error::TimedOut> {
        if self.is_in_fork() {
            return Ok(None);
        }
        let mut inner = self.lock();
        if let TakeOrder::ByRecord { waits_for } = inner.order
            && !inner.is_ready()
            && waits_for != next
        {
            inner.order = TakeOrder::ByRecord { waits_for: next };
            if inner.on_take.is_due() {
                self.list(&mut inner);
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

    /// Makes room after a chunk of `count` outcomes was taken.
    pub(crate) fn consumed(&self, count: u64, size: Size) {
        if self.is_in_fork() {
            return;
        }
        let mut inner = self.lock();
        inner.taken += count;
        inner.bytes = inner.bytes.saturating_sub(size.here);
        self.release(&mut inner, size);
        self.tell(inner);
    }

    fn release(&self, inner: &mut JobState, size: Size) {
        inner.size.here = inner.size.here.saturating_sub(size.here);
        inner.size.parked = inner.size.parked.saturating_sub(size.parked);
        if inner.on_take.is_due() {
            self.list(inner);
        }
    }

    /// Whether there are outcomes to take, or there will be no more.
    pub(crate) fn is_ready(&self) -> bool {
        if self.is_in_fork() {
            return true;
        }
        self.lock().is_ready()
    }

    /// Like `is_ready`, never blocks; `false` if locked.
    pub(crate) fn is_seen_ready(&self) -> bool {
        self.state.try_lock().is_ok_and(|inner| inner.is_ready())
    }

    /// Whether its outcomes are wanted.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }

    /// Cancels the job: outcomes are dropped, and queued tasks are not run.
    pub(crate) fn cancel(&self) {
        if self.is_in_fork() {
            return;
        }
        // Before the cancel can be seen: from then on no task of the job is given anything of a shared object.
        self.is_wanted.store(false, Ordering::Release);
        self.waker.drop_job(self.id);
        let mut inner = self.lock();
        inner.progress.cancel();
        inner.input.end();
        let dropped = std::mem::take(&mut inner.outcomes);
        inner.size = Size::default();
        let is_over = inner.progress.is_done();
        self.tell(inner);
        // Dropped without the lock: these may be many megabytes.
        drop(dropped);
        if !is_over {
            self.waker.cancel(self.id);
        }
    }

    /// Waits until there are outcomes to take, or there will be no more. `false`: the deadline came first.
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
    /// Counts more bytes of the same result.
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
