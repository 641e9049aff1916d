//! The state of a job: its input, its progress, and the threads that wait for it.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;

use super::chunk::{InputChunk, ResultChunk, Size};
use crate::error::TaskError;

/// Small results of tasks that had begun may come when there is no room any more: at most this many bytes.
const LATE_MAX: u64 = 8 << 20;

/// Whether records may still come.
#[derive(Debug, Default)]
pub(super) enum JobInput {
    /// More may come.
    #[default]
    Open,
    /// All have come, or the job was cancelled.
    Ended,
    /// Fewer have come than there should have been, for this reason.
    CutShort(TaskError),
}

impl JobInput {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, JobInput::Open)
    }

    pub(super) fn end(&mut self) {
        if self.is_open() {
            *self = JobInput::Ended;
        }
    }

    /// Notes that records are missing. The first reason stays.
    pub(super) fn cut_short(&mut self, why: TaskError) {
        if !matches!(self, JobInput::CutShort(_)) {
            *self = JobInput::CutShort(why);
        }
    }
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum JobProgress {
    /// Outcomes are to come.
    #[default]
    Running,
    /// The outcomes are not wanted any more. Tasks may still be running.
    Cancelled,
    /// Every outcome has come.
    Done,
    /// It was cancelled, and every task is done.
    Dropped,
}

impl JobProgress {
    pub(super) fn cancel(&mut self) {
        *self = match self {
            JobProgress::Running | JobProgress::Cancelled => JobProgress::Cancelled,
            JobProgress::Done | JobProgress::Dropped => JobProgress::Dropped,
        };
    }

    pub(super) fn finish(&mut self) {
        *self = match self {
            JobProgress::Running | JobProgress::Done => JobProgress::Done,
            JobProgress::Cancelled | JobProgress::Dropped => JobProgress::Dropped,
        };
    }

    pub(super) fn is_cancelled(self) -> bool {
        matches!(self, JobProgress::Cancelled | JobProgress::Dropped)
    }

    pub(super) fn is_done(self) -> bool {
        matches!(self, JobProgress::Done | JobProgress::Dropped)
    }
}

/// The order in which outcomes are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TakeOrder {
    #[default]
    AsTheyCome,
    /// In the order of the records. `waits_for`: the task whose outcome is waited for, if all before it are
    /// taken.
    ByRecord { waits_for: Option<u64> },
}

impl TakeOrder {
    pub(super) fn waits_for(self) -> Option<u64> {
        match self {
            TakeOrder::AsTheyCome => None,
            TakeOrder::ByRecord { waits_for } => waits_for,
        }
    }
}

/// When something that happens to a job puts it on the list of jobs that the dispatcher looks at. That may
/// wake the dispatcher, which costs a system call on each side: a job is listed only if the dispatcher waits
/// for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Listing {
    #[default]
    Never,
    /// The next time. The dispatcher then takes all that is there, and says whether it waits again.
    Once,
    EachTime,
}

impl Listing {
    /// Whether the job is to be listed now.
    #[inline]
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = *self != Listing::Never;
        if *self == Listing::Once {
            *self = Listing::Never;
        }
        is_due
    }
}

#[derive(Debug, Default)]
pub(super) struct JobState {
    /// Full chunks of records that the dispatcher has not taken.
    pub(super) full: VecDeque<InputChunk>,
    /// The chunk that is being filled.
    pub(super) filling: InputChunk,
    pub(super) pushed: u64,
    /// The first record that the dispatcher has not taken.
    pub(super) first_left: u64,
    /// Bytes of records under way and of outcomes that are not taken.
    pub(super) bytes: u64,
    pub(super) input: JobInput,
    /// The job is on the list of jobs that the dispatcher looks at.
    pub(super) is_listed: bool,
    /// The thread that uses the job does the dispatcher's work.
    pub(super) is_driven: bool,
    /// Whether a record that comes puts the job on that list.
    pub(super) on_record: Listing,
    pub(super) outcomes: VecDeque<ResultChunk>,
    /// Bytes of outcomes that are not taken, and of those that are being read.
    pub(super) size: Size,
    pub(super) order: TakeOrder,
    /// Whether an outcome that is taken puts the job on that list.
    pub(super) on_take: Listing,
    pub(super) taken: u64,
    /// Records whose outcomes have come.
    pub(super) settled: u64,
    pub(super) progress: JobProgress,
    /// The pool's policy has halted the job.
    pub(super) is_halted: bool,
    /// The panic of the iterator that records were drawn from.
    pub(super) panic: Option<Panic>,
    /// Called once every outcome is there.
    pub(super) when_done: Option<LaterCall>,
    /// Called once there is room for many records, or no more are taken.
    pub(super) when_room: Option<LaterCall>,
    /// Called once there are outcomes, or there will be no more.
    pub(super) when_ready: Option<LaterCall>,
    /// Called once no task is under way, or no more records are taken.
    pub(super) when_settled: Option<LaterCall>,
}

impl JobState {
    pub(super) fn takes_no_more(&self) -> bool {
        !self.input.is_open() || self.progress != JobProgress::Running
    }

    pub(super) fn is_settled(&self) -> bool {
        self.takes_no_more() || self.settled == self.pushed
    }

    pub(super) fn is_ready(&self) -> bool {
        self.progress != JobProgress::Running || !self.outcomes.is_empty()
    }
}

/// The outcomes of a job that are not taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Undelivered {
    pub(crate) size: Size,
    pub(super) budget: u64,
    pub(super) order: TakeOrder,
    /// What comes is dropped.
    pub(super) discards: bool,
}

impl Undelivered {
    /// The task whose result is waited for, if every result before it is taken.
    pub(crate) fn waits_for(&self) -> Option<u64> {
        self.order.waits_for()
    }

    /// Whether a worker's results are still read. `is_awaited`: whether that worker has the task that is
    /// waited for.
    pub(crate) fn may_come(&self, is_awaited: impl FnOnce(u64) -> bool) -> bool {
        self.discards || self.size.here <= self.budget.saturating_add(LATE_MAX) || self.is_wanted(is_awaited)
    }

    /// Whether there is room for `len` bytes.
    pub(crate) fn has_room(&self, len: u64) -> bool {
        self.discards || self.size.here.saturating_add(len) <= self.budget
    }

    /// Whether a result must come though there is no room for it: no other result can be taken before.
    pub(crate) fn is_wanted(&self, is_awaited: impl FnOnce(u64) -> bool) -> bool {
        match self.order {
            TakeOrder::ByRecord { waits_for } => waits_for.is_some_and(is_awaited),
            TakeOrder::AsTheyCome => self.size.here == 0,
        }
    }
}

/// The payload of a thread's panic, on its way to the thread that takes the outcomes.
pub(crate) struct Panic(pub(crate) Box<dyn Any + Send>);

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a panic")
    }
}

/// A call for later. It must not block.
pub(super) struct LaterCall(pub(super) Box<dyn FnOnce() + Send>);

impl fmt::Debug for LaterCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call")
    }
}

/// The records that the dispatcher takes, and whether no more will come.
pub(crate) struct TakenRecords {
    pub(crate) chunks: Vec<InputChunk>,
    pub(crate) ended: bool,
}
